"""The metric: how far a subject's activations are from the reference's, layer by layer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from converters.verdicts import LayerVerdict
from converters.weights import Array
from zoo.axes import shape_text
from zoo.layers import Layer, ModelSpec, Softmax
from zoo.wire.cores import in_cache, map_on_cores

# A largest probability this near 1 leaves the others no digit of float32's.
_SATURATED = 1 - 2.0**-24

# Why a layer of somebody else's network has no error.
UNMATCHED = "not matched: no tensor could be told to be this layer"


def error(y: Array, reference: Array, fallback: float = 0.0) -> tuple[float, float]:
    """max|y - reference| / max|reference|, the worst sample's, and that sample's peak max|reference|.

    Args:
        y: N x shape, finite where the reference is.
        reference: of the same shape; where it is not finite, nothing is compared (`defect` does that).
        fallback: what to divide by where a sample of the reference is zero throughout (the peak of what the layer
            reads). If that is zero too, only an equal answer is right: any other has the error infinity.
    """
    difference, peaks = _farthest(y, reference)
    if not np.isfinite(difference).all():
        difference, peaks = _farthest(*_where_finite(y, reference))
    return _worst(difference, peaks, fallback)


@np.errstate(over="ignore", invalid="ignore")
def _farthest(y: Array, reference: Array) -> tuple[Array, Array]:
    """max|y - reference| and max|reference| of each sample; the first is NaN or Inf where either holds any."""
    parts, difference, peaks = [*in_cache(reference.shape[1:])], np.zeros(len(reference)), np.zeros(len(reference))
    for i, (ours, right) in enumerate(zip(y, reference, strict=True)):
        for part in parts:
            difference[i] = np.maximum(difference[i], peak_of(np.subtract(ours[part], right[part], dtype=np.float64)))
            peaks[i] = np.maximum(peaks[i], peak_of(right[part]))
    return difference, peaks


def _worst(difference: Array, peaks: Array, fallback: float) -> tuple[float, float]:
    """The largest error of a sample, and that sample's peak."""
    if not len(peaks):
        return 0.0, 0.0
    scale = np.where(peaks > 0, peaks, fallback)
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.where(difference > 0, difference / scale, 0.0)
    worst = int(errors.argmax())
    return float(errors[worst]), float(peaks[worst])


def peak_of(array: Array) -> float:
    """max|array|, NaN or Inf where it holds any; of the two ends of its range, so that no array of sizes is made."""
    return float(np.maximum(array.max(initial=0.0), -array.min(initial=0.0)))


def _where_finite(y: Array, reference: Array) -> tuple[Array, Array]:
    """Both, with 0 in each where the reference is not finite."""
    finite = np.isfinite(reference)
    return (y, reference) if finite.all() else (np.where(finite, y, 0.0), np.where(finite, reference, 0.0))


def log_error(y: Array, reference: Array) -> float:
    """The error of probabilities as if of the logits behind them: of log y, relative to the largest |log reference|.

    A probability says nothing of the noise of its logits: near 0 and 1 it hides it, in between it magnifies it.
    Probabilities below 1e-30 are left out; there float32 loses digits.
    """
    return error(*logarithms(y, reference), fallback=1.0)[0]


def is_saturated(probabilities: Array, axis: int) -> bool:
    """Whether one class has it all in every sample, wherever there are several."""
    return probabilities.shape[axis] > 1 and bool((probabilities.max(axis=axis) >= _SATURATED).all())


def logarithms(y: Array, reference: Array) -> tuple[Array, Array]:
    """Of two arrays of probabilities; 0 for both where the right one is too small for float32."""
    shown = reference > 1e-30
    ours = np.log(np.where(shown, np.maximum(np.asarray(y, np.float64), 1e-45), 1.0))
    return ours, np.log(np.where(shown, reference, 1.0))


def compare(
    spec: ModelSpec,
    activations: Mapping[str, Array],
    reference: Mapping[str, Array],
    inputs: Mapping[str, Array],
    budget: float,
    unmatched: Collection[str] = (),
) -> tuple[LayerVerdict, ...]:
    """Every layer of `spec`; one that is missing, misshapen or not finite fails, whatever its kind.

    Layers `unmatched` may be missing: the subject has no name for them. They are listed without a verdict of their own.
    """
    wiring, everything = spec.wiring(), {**inputs, **reference}

    def verdict(layer: Layer) -> LayerVerdict:
        name = layer.name
        if name in unmatched and name not in activations:
            peak = finite_peak(reference[name])
            return LayerVerdict(name=name, error=None, peak=peak, ok=True, gated=False, reason=UNMATCHED)
        gated = not (isinstance(layer, Softmax) and name in spec.outputs)
        reads = [everything[source] for source in wiring[name]]
        return judge(name, activations.get(name), reference[name], budget, reads, gated)

    return tuple(map_on_cores(verdict, spec.layers))


def judge(
    name: str, y: Array | None, reference: Array, budget: float, reads: Sequence[Array] = (), gated: bool = True
) -> LayerVerdict:
    """The verdict on one activation.

    Args:
        name: of its layer.
        y: what the subject has; None where it has none.
        reference: what is right.
        budget: the largest error that passes.
        reads: what the layer reads, whose peak counts where a sample of the reference is zero throughout.
        gated: whether it must pass.
    """
    ends = _farthest(y, reference) if y is not None and y.shape == reference.shape else None
    if ends is None or not np.isfinite(ends[0]).all():
        reason = defect(y, reference)
        if y is None or reason:
            return LayerVerdict(
                name=name, error=None, peak=finite_peak(reference), ok=False, gated=gated, reason=reason
            )
        ends = _farthest(*_where_finite(y, reference))
    difference, peaks = ends
    fallback = 0.0 if peaks.all() else max(map(finite_peak, reads), default=0.0)
    value, peak = _worst(difference, peaks, fallback)
    if not np.isfinite(value):
        return LayerVerdict(
            name=name, error=None, peak=peak, ok=False, gated=gated, reason="not zero, where the reference is"
        )
    return LayerVerdict(name=name, error=value, peak=peak, ok=value <= budget or not gated, gated=gated)


def defect(y: Array | None, reference: Array) -> str | None:
    """Why `y` cannot be compared with `reference` at all, if it cannot.

    Where the right answer is NaN or Inf (an average over nothing, a division by zero), only the same is right.
    """
    if y is None:
        return "the subject has no such activation"
    if y.shape != reference.shape:
        return f"shape {shape_text(y.shape)}, expected {shape_text(reference.shape)}"
    finite = np.isfinite(reference)
    if finite.all():  # nearly always, and then no copy is made
        return None if np.isfinite(y).all() else "NaN or Inf"
    if not np.array_equal(y[~finite], reference[~finite], equal_nan=True):
        return "the reference itself is not finite here, and NaN or Inf do not stand in the same places"
    return None if np.isfinite(y[finite]).all() else "NaN or Inf"


def finite_peak(array: Array) -> float:
    """max|array| of its finite numbers."""
    peak = peak_of(array)
    return peak if np.isfinite(peak) else float(np.abs(array).max(initial=0.0, where=np.isfinite(array)))


# What rounding leaves of a few numbers near 1, half a unit in the last place each: a Sigmoid far below 0 is as exact.
OF_ONE = 4 * 2.0**-24


def one_run(a: Array, b: Array, rounding: float = 0.0) -> bool:
    """Whether two runs of one subject agree, but for the order in which threads add up, and what may be rounded off."""
    if a.dtype.kind not in "fc":
        return bool(np.array_equal(a, b))
    peak = finite_peak(a)
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=1e-3, atol=max(1e-3 * peak, rounding), equal_nan=True))


def top1(spec: ModelSpec, activations: Mapping[str, Array], reference: Mapping[str, Array]) -> float | None:
    """The share of samples whose best class is the reference's; None where logits are missing or misshapen."""
    if spec.head is None:
        return None
    ours, theirs = reference[spec.head.name], activations.get(spec.head.name)
    if theirs is None or theirs.shape != ours.shape or ours.ndim < 2:
        return None
    return float(np.mean(ours.argmax(axis=1) == theirs.argmax(axis=1)))
