"""A conversion fault as data: where it can be, and what a layer computes under it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from converters.weights import Array
from zoo import reference as oracle
from zoo.errors import SpecError
from zoo.layers import Layer, ModelSpec
from zoo.parameters import parameters_of

Family: TypeAlias = Literal["layer", "order", "window", "weights", "input", "rounding"]


@dataclass(frozen=True, kw_only=True)
class Site:
    """One layer of one run, where a fault may be.

    Attributes:
        spec: the network as it should be.
        weights: its right parameters, canonical names.
        layer: the layer.
        inputs: what it read, float64.
        observed: what the subject computed; None while a fault is being planted.
        theirs: the subject's own parameters of this layer, where they are known.
    """

    spec: ModelSpec
    weights: Mapping[str, Array]
    layer: Layer
    inputs: tuple[Array, ...]
    observed: Array | None = None
    theirs: Mapping[str, Array] = field(default_factory=dict[str, Array])

    @property
    def parameters(self) -> dict[str, Array]:
        """The layer's right parameters: ``weight``, ``bias`` and so on."""
        return parameters_of(self.weights, self.layer.name)

    @property
    def reads_input(self) -> bool:
        """Whether the layer reads what the user feeds."""
        return self.spec.wiring()[self.layer.name][0] in {source.name for source in self.spec.inputs}

    def next(self) -> Layer | None:
        """The only reader of this layer, if it reads nothing else."""
        wiring = self.spec.wiring()
        readers = [layer for layer in self.spec.layers if self.layer.name in wiring[layer.name]]
        return readers[0] if len(readers) == 1 and wiring[readers[0].name] == (self.layer.name,) else None


@dataclass(frozen=True, kw_only=True)
class Edit:
    """What is computed in place of a layer.

    Attributes:
        layers: run one after another; none at all leaves the input as it is.
        parameters: parameters that replace the right ones.
        feed: done to the input before.
        result: done to the output after.
        spec: the whole network under the fault, where the fault is in its wiring.
        also: what to add to the fault's sentence.
        other: the layer whose part this one plays.
    """

    layers: tuple[Layer, ...]
    parameters: Mapping[str, Array] = field(default_factory=dict[str, Array])
    feed: Callable[[Array], Array] | None = None
    result: Callable[[Array], Array] | None = None
    spec: ModelSpec | None = None
    also: str = ""
    other: str = ""

    @property
    def fits_a_file(self) -> bool:
        """Whether network and weights alone can express it."""
        return self.feed is None and self.result is None


def evaluate(site: Site, edit: Edit) -> Array | None:
    """What the layer gives under an edit, float64; None where the edit is impossible on this input."""
    parameters = {**site.parameters, **edit.parameters}
    try:
        inputs = [edit.feed(site.inputs[0]), *site.inputs[1:]] if edit.feed else list(site.inputs)
        y: Array = np.asarray(inputs[0], np.float64)
        # A wrong network may overflow; what comes of it is compared like anything else.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for i, layer in enumerate(edit.layers):
                y = oracle.apply(layer, [np.asarray(x, np.float64) for x in inputs] if i == 0 else [y], parameters)
            return edit.result(y) if edit.result else y
    except (ValueError, SpecError):
        return None


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A mistake that conversions really make.

    Attributes:
        name: its name in reports.
        sentence: what went wrong, to be read after "norm1: ".
        remedy: what to do about it.
        made_by: who makes it.
        family: what kind of mistake; ``rounding`` ones are slight by nature, all others are plainly visible.
        edits: everything a layer could be under this fault; nothing where it cannot be. The first is the usual one.
        needs_output: whether it is recognised from the layer's own output (a mask, a permutation) and so not through
            layers that the subject does not show.
    """

    name: str
    sentence: str
    remedy: str
    made_by: str
    family: Family
    edits: Callable[[Site], Iterator[Edit]]
    needs_output: bool = False

    def forms(self, site: Site) -> list[Edit]:
        """Its edits; none where the layer's input has a shape that they cannot have to do with."""
        try:
            return list(self.edits(site))
        except (ValueError, IndexError, SpecError):
            return []


def only(
    kind: type[Any] | tuple[type[Any], ...], edits: Callable[[Site, Any], Iterator[Edit]]
) -> Callable[[Site], Iterator[Edit]]:
    """Edits of one layer kind."""

    def of(site: Site) -> Iterator[Edit]:
        if isinstance(site.layer, kind):
            yield from edits(site, site.layer)

    return of
