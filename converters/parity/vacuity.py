"""What equal numbers do not prove: probes that a network hides from, and weights that anything would agree on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from converters.metric import error, is_saturated, peak_of
from converters.weights import Array, Weights
from zoo.layers import LRN, Conv, Dense, ReLU, Softmax
from zoo.parameters import parameters_of
from zoo.wire.cores import map_on_cores

# So many numbers are looked at first: where they settle it, the others need not be.
_FEW = 1000


@dataclass(frozen=True, kw_only=True)
class Vacuity:
    """What a proof with these weights and probes does not show.

    Attributes:
        limits: one sentence each.
        unproved: why nothing at all is shown; empty where something is.
    """

    limits: tuple[str, ...]
    unproved: tuple[str, ...]


def vacuity(weights: Weights, inputs: Mapping[str, Array], reference: Mapping[str, Array], budget: float) -> Vacuity:
    """Look for all of it, in the right network, its inputs and its activations by the reference."""
    known, spec = {**inputs, **reference}, weights.spec
    found = map_on_cores(_dull, [*reference.values()])
    dull = {name: told for name, told in zip(reference, found, strict=True) if told}
    limits, unproved = list[str](), list[str]()
    kernels = {
        layer.name: told
        for layer in spec.layers
        if isinstance(layer, Conv | Dense) and (told := _one_number(weights.tensors[f"{layer.name}.weight"]))
    }
    limits += [f"{name}.weight is {told}: any order of its numbers agrees" for name, told in kernels.items()]
    weighted = [layer for layer in spec.layers if isinstance(layer, Conv | Dense)]
    if weighted and len(kernels) == len(weighted):
        what = "zero" if set(kernels.values()) == {"all zero"} else "one number throughout its layer"
        unproved.append(f"every weight is {what}")
    limits += [f"{name} {told}" for name, told in dull.items()]
    limits += _not_finite(reference)
    if all(name in dull for name in spec.outputs):
        unproved.append(f"the answer, {', '.join(spec.outputs)}, {dull[spec.outputs[0]]}")
    wiring = spec.wiring()
    reads = {layer.name: known[wiring[layer.name][0]] for layer in spec.layers if wiring[layer.name]}
    dead = [layer.name for layer in spec.layers if isinstance(layer, ReLU) and not (reads[layer.name] > 0).any()]
    limits += [f"{name} has no live unit on any probe" for name in dead]
    if dead and len(dead) == sum(isinstance(layer, ReLU) for layer in spec.layers):
        unproved.append("no ReLU has a live unit on any probe")
    softmaxes = [layer for layer in spec.layers if isinstance(layer, Softmax)]
    full = [layer.name for layer in softmaxes if is_saturated(reference[layer.name], layer.axis)]
    limits += [f"{name} is saturated on every probe: one class has it all" for name in full]
    if all(name in full for name in spec.outputs):
        unproved.append(f"the answer, {', '.join(spec.outputs)}, is a saturated softmax on every probe")
    limits += _idle_norms(weights, reads, reference, budget)
    limits += _odd_statistics(weights)
    limits += _past_float32(weights, reference)
    return Vacuity(limits=tuple(limits), unproved=tuple(unproved))


def _one_number(tensor: Array) -> str | None:
    if tensor.size < 2 or tensor.flat[0] != tensor.flat[1] or np.ptp(tensor):
        return None
    return "one number throughout" if tensor.flat[0] else "all zero"


def _dull(y: Array) -> str | None:
    """How an activation says nothing of what was fed, if it does not."""
    if not (np.isfinite(y.flat[:_FEW]).any() or np.isfinite(y).any()):
        return "is NaN or Inf throughout on every probe"
    if not y.any():
        return "is zero on every probe"
    if len(y) > 1 and not (y[1:] != y[:1]).any():
        return "is the same on every probe"
    rows = y.reshape(len(y), -1)
    if rows.shape[1] > 1 and not (rows[:, 1:_FEW] != rows[:, :1]).any() and not (rows[:, 1:] != rows[:, :1]).any():
        return "is one number throughout on every probe"
    return None


def _not_finite(reference: Mapping[str, Array]) -> Iterator[str]:
    for name, y in reference.items():
        count = 0 if np.isfinite(peak_of(y)) else y.size - np.count_nonzero(np.isfinite(y))
        if 0 < count < y.size:
            yield f"{name} is NaN or Inf in {count:,} of its {y.size:,} numbers: there, only that it is so is compared"


def _idle_norms(
    weights: Weights, reads: Mapping[str, Array], reference: Mapping[str, Array], budget: float
) -> Iterator[str]:
    for layer in weights.spec.layers:
        if isinstance(layer, LRN) and error(reads[layer.name], reference[layer.name])[0] <= budget:
            yield f"{layer.name}: on these probes its k and alpha cannot be told from no normalisation"


def _odd_statistics(weights: Weights) -> Iterator[str]:
    for layer in weights.spec.layers:
        found = parameters_of(weights.tensors, layer.name)
        if "variance" in found and not found["variance"].any():
            yield f"{layer.name}: every variance is 0, so that its eps alone counts (is its factor 0 in the file?)"


def _is_denormal(tensor: Array) -> bool:
    tiny = float(np.finfo(np.float32).tiny)
    if peak_of(tensor.ravel()[:64]) >= tiny:  # nearly always, and then all is said
        return False
    return 0 < peak_of(tensor) < tiny


def _past_float32(weights: Weights, reference: Mapping[str, Array]) -> Iterator[str]:
    """What no float32 arithmetic gives, whoever runs it."""
    float32 = np.finfo(np.float32)
    for layer in weights.spec.layers:
        for role, tensor in parameters_of(weights.tensors, layer.name).items():
            if tensor.ndim > 1 and _is_denormal(tensor):
                yield (
                    f"{layer.name}.{role} holds nothing above {float32.tiny:.1e}: such numbers are denormal, and "
                    "frameworks take them for 0"
                )
        if peak_of(reference[layer.name]) > float(float32.max):
            yield f"{layer.name} is past float32's {float32.max:.1e} on the probes: in float32 it can only be Inf"
