"""The catalogue of faults, and what is done with it: plant one, or recognise one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from converters.faults import of_layers, of_norms, of_weights
from converters.faults.diagnosis import Own, diagnose_layers, without_result
from converters.faults.merging import Found, told_once
from converters.faults.types import Edit, Fault, Site, evaluate
from converters.verdicts import DEFAULT_BUDGET, Diagnosis
from converters.weights import Array, Weights
from zoo import reference as oracle
from zoo.errors import UnknownNameError, UnsupportedError, ZooError
from zoo.layers import Layer, ModelSpec, Power
from zoo.parameters import parameters_of

FAULTS: tuple[Fault, ...] = (*of_norms.FAULTS, *of_layers.FAULTS, *of_weights.FAULTS)


def fault(name: str) -> Fault:
    """The fault of that name; raises `UnknownNameError`."""
    for item in FAULTS:
        if item.name == name:
            return item
    raise UnknownNameError("fault", name, (item.name for item in FAULTS))


def diagnose(
    spec: ModelSpec,
    weights: Mapping[str, Array],
    inputs: Mapping[str, Array],
    activations: Mapping[str, Array],
    *,
    budget: float = DEFAULT_BUDGET,
    theirs: Mapping[str, Own] | None = None,
) -> tuple[Diagnosis, ...]:
    """Why a subject differs: one diagnosis for each layer that is wrong by itself, in order.

    A layer is wrong by itself where the reference, fed with what the subject fed it, gives something else. Layers that
    merely pass an earlier error on are not listed.

    Args:
        spec: the network as it should be.
        weights: its right parameters, canonical names.
        inputs: input name -> batch, as fed to reference and subject.
        activations: what the subject gave, layer -> array; layers may be missing.
        budget: what a fault may leave unexplained.
        theirs: the subject's own layers and parameters, and what they read, under our names, where they are known.

    Returns:
        A fault of the catalogue or two of them ("a+b"), what a declared output is (`explain_output`), float32's own
        error (`RUNNING_SUM`), or "unknown" with whatever is known about the difference. Where no layer that is shown is
        wrong, the one that the subject stopped at, if it describes that one otherwise.
    """
    return tuple(item.diagnosis for item in findings(spec, weights, inputs, activations, budget=budget, theirs=theirs))


def findings(
    spec: ModelSpec,
    weights: Mapping[str, Array],
    inputs: Mapping[str, Array],
    activations: Mapping[str, Array],
    *,
    budget: float = DEFAULT_BUDGET,
    theirs: Mapping[str, Own] | None = None,
) -> tuple[Found, ...]:
    """As `diagnose`, with the layers that each diagnosis explains: what they do need no other."""
    found = tuple(diagnose_layers(FAULTS, spec, weights, inputs, activations, budget, theirs or {}))
    return told_once(spec, found) or without_result(spec, activations, theirs or {})


@dataclass(frozen=True, kw_only=True)
class Planted:
    """A network with a fault in it.

    Attributes:
        fault: which.
        layer: where.
        edit: what the layer computes.
        right: the network and weights without it.
    """

    fault: Fault
    layer: str
    edit: Edit
    right: Weights

    def forward(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run it in float32 precision: every layer up to the first that the fault makes impossible."""
        edits = {} if self.edit.spec else {self.layer: self.edit}
        return possible_forward(self.edit.spec or self.right.spec, self.right.tensors, inputs, edits)

    def weights(self) -> Weights:
        """The faulty network as spec and weights, to be written to a file.

        Raises:
            UnsupportedError: the fault is in how the layer is run, and no file can hold it.
        """
        if not self.edit.fits_a_file:
            raise UnsupportedError(f"{self.fault.name} in {self.layer} is in how the network is run, not in a file")
        spec, old = self.right.spec, self.right.spec.layer(self.layer)
        if self.edit.spec:
            spec = self.edit.spec
        elif self.edit.layers:
            spec = spec.replace_layer(self.edit.layers[0])
        else:
            spec = spec.replace_layer(Power(name=old.name, inputs=old.inputs))  # the identity
        changed = {f"{self.layer}.{name}": np.ascontiguousarray(t) for name, t in self.edit.parameters.items()}
        return replace(
            self.right,
            spec=spec,
            tensors={name: changed.get(name, tensor) for name, tensor in self.right.tensors.items()},
            source=f"{self.right.source}, {self.fault.name} in {self.layer}",
        )

    def own(self) -> dict[str, Own]:
        """The subject's own layers and parameters, as a file with the fault would show them."""
        if not self.edit.fits_a_file or self.edit.spec:
            return {}
        try:
            weights = self.weights()
        except ZooError:
            return {}  # a size that no longer fits: such a file could not be loaded either
        return own_layers(weights)


def possible_forward(
    spec: ModelSpec,
    weights: Mapping[str, Array],
    inputs: Mapping[str, Array],
    edits: Mapping[str, Edit] | None = None,
) -> dict[str, Array]:
    """Run a network up to the first layer that is impossible with these weights, rounding to float32 after each layer.

    Args:
        spec: the network; its sizes need not fit.
        weights: canonical name -> array.
        inputs: input name -> batch.
        edits: layer -> what is computed in its place.
    """
    wiring = spec.wiring()
    known: dict[str, Array] = {name: np.asarray(x, np.float32) for name, x in inputs.items()}
    for layer in spec.layers:
        reads = tuple(np.asarray(known[name], np.float64) for name in wiring[layer.name])
        site = Site(spec=spec, weights=weights, layer=layer, inputs=reads)
        y = evaluate(site, (edits or {}).get(layer.name, Edit(layers=(layer,))))
        if y is None:
            break
        with np.errstate(over="ignore"):
            known[layer.name] = y.astype(np.float32)
    return {layer.name: known[layer.name] for layer in spec.layers if layer.name in known}


def own_layers(weights: Weights) -> dict[str, Own]:
    """Layer -> how a file has it."""
    return {
        layer.name: Own(layer=layer, parameters=parameters_of(weights.tensors, layer.name))
        for layer in weights.spec.layers
    }


def plant(name: str, weights: Weights, layer: str, *, variant: int = 0) -> Planted:
    """A network with the fault `name` in `layer`.

    Args:
        name: of a fault of the catalogue.
        weights: the right network.
        layer: where the fault goes.
        variant: which of the fault's forms; 0 is the usual one.

    Raises:
        UnknownNameError: no such fault or layer.
        UnsupportedError: the fault cannot be in that layer.
    """
    item, place = fault(name), weights.spec.layer(layer)
    forms = list(item.edits(_site(weights, place)))
    if variant >= len(forms):
        raise UnsupportedError(f"{name} cannot be in {layer}")
    return Planted(fault=item, layer=layer, edit=forms[variant], right=weights)


def _site(weights: Weights, layer: Layer, inputs: Mapping[str, Array] | None = None) -> Site:
    spec = weights.spec
    known = {s.name: np.zeros((1, *s.shape)) for s in spec.inputs} if inputs is None else dict(inputs)
    known |= oracle.forward(_until(spec, layer.name), weights.tensors, known)
    reads = tuple(np.asarray(known[name], np.float64) for name in spec.wiring()[layer.name])
    return Site(spec=spec, weights=weights.tensors, layer=layer, inputs=reads)


def _until(spec: ModelSpec, name: str) -> ModelSpec:
    """The layers before `name`."""
    names = [layer.name for layer in spec.layers]
    wiring = spec.wiring()
    kept = spec.layers[: names.index(name)]
    return replace(spec, layers=tuple(replace(layer, inputs=wiring[layer.name]) for layer in kept))


def sites(weights: Weights, inputs: Mapping[str, Array]) -> Iterator[Planted]:
    """Every fault in every layer where it changes anything on these inputs, in its usual form."""
    spec = weights.spec
    right: dict[str, Array] = {**inputs, **oracle.forward(spec, weights.tensors, inputs)}
    for item in FAULTS:
        for layer in spec.layers:
            reads = tuple(np.asarray(right[name], np.float64) for name in spec.wiring()[layer.name])
            site = Site(spec=spec, weights=weights.tensors, layer=layer, inputs=reads)
            for edit in item.edits(site):
                wrong = evaluate(site, edit)
                if wrong is not None and not _same(wrong, right[layer.name]):
                    yield Planted(fault=item, layer=layer.name, edit=edit, right=weights)
                break


def _same(a: Array, b: Array) -> bool:
    """Whether two float64 results are one but for rounding."""
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=1e-12, atol=1e-12 * float(np.abs(b).max(initial=0.0))))
