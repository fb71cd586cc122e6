"""Conversions are tables: one `Entry` a parameter, one engine that applies a table in either direction."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from converters.weights import Arranged, Array, Weights, tensor_problem
from zoo.errors import WeightsError
from zoo.layers import ModelSpec, Shape
from zoo.shapes import parameter_shapes, tied
from zoo.wire.layout import axis_sizes, convert_shape, rearrange, reordered

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Where one canonical parameter sits in a framework's file.

    Attributes:
        canonical: ``fc6.weight``.
        native: ``alexnet_v2/fc6/weights``.
        axes: canonical layout (see `zoo.wire.layout`); empty with an empty `native_axes` where both are alike.
        native_axes: the framework's layout of the same axes.
        sizes: sizes of merged axes that the shape alone does not tell.
        by_order: the file's name does not say that this is it; the order of the file and the shapes do.
    """

    canonical: str
    native: str
    axes: str = ""
    native_axes: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict[str, int])
    by_order: bool = False

    def native_shape(self, shape: Shape) -> Shape:
        """The framework's shape of a parameter whose canonical one is `shape`."""
        return convert_shape(shape, self.axes, self.native_axes, self.sizes) if self.axes else shape


def to_native(weights: Weights, table: Iterable[Entry]) -> dict[str, Array]:
    """The framework's tensors, in the table's order; views where the layouts agree."""
    return {
        entry.native: rearrange(weights.tensors[entry.canonical], entry.axes, entry.native_axes, entry.sizes)
        if entry.axes
        else weights.tensors[entry.canonical]
        for entry in table
    }


def native_numbers(weights: Weights, entry: Entry) -> Array:
    """The numbers of one of the framework's tensors for who passes over them once, as for `Weights.numbers`."""
    if not entry.axes:
        return weights.numbers(entry.canonical)
    return reordered(weights.tensors[entry.canonical], entry.axes, entry.native_axes, entry.sizes)


def to_canonical(
    spec: ModelSpec,
    table: Iterable[Entry],
    tensors: Mapping[str, Array],
    source: str,
    ignored: Callable[[str], bool] = lambda name: False,
) -> Weights:
    """Canonical weights from a framework's tensors.

    Args:
        spec: the network the tensors are taken for.
        table: an entry for every canonical parameter.
        tensors: native name -> array.
        source: the file, for messages.
        ignored: names that are no weights by rule (optimizer slots, a step counter). A number alone is none
            either, as a metric's; that is said.

    Raises:
        WeightsError: lists every tensor that is missing, left over, misshapen, of another type or not finite.
    """
    shapes, entries = parameter_shapes(spec), {entry.canonical: entry for entry in table}
    canonical, problems = _fitting(shapes, entries, tensors)
    for twin, owner in tied(spec).items():
        if twin in canonical and owner in canonical and not np.array_equal(canonical[twin], canonical[owner]):
            problems.append(f"{entries[twin].native} and {entries[owner].native} are one tied parameter, but differ")
    used = {entries[name].native for name in shapes}
    left = [name for name in tensors if name not in used and not ignored(name)]
    problems += [f"{name} is not a parameter of this network" for name in left if tensors[name].ndim]
    if problems:
        raise WeightsError(f"{source} as {spec.name}", problems)
    if left:
        _LOG.info("%s: each a number alone, and no parameter of %s; left out: %s", source, spec.name, ", ".join(left))
    return Weights(spec=spec, tensors=Arranged(canonical, shapes), source=source)


def _fitting(
    shapes: Mapping[str, Shape], entries: Mapping[str, Entry], tensors: Mapping[str, Array]
) -> tuple[dict[str, Array], list[str]]:
    """The parameters whose tensors are right, and what is wrong with the others."""
    canonical, problems = dict[str, Array](), list[str]()
    for name, shape in shapes.items():
        entry = entries[name]
        tensor = tensors.get(entry.native)
        problem = tensor_problem(entry.native, tensor, entry.native_shape(shape))
        if tensor is None or problem:
            problems.append(str(problem))
        else:
            canonical[name] = _in_order(entry, tensor, shape)
    return canonical, problems


def _in_order(entry: Entry, tensor: Array, shape: Shape) -> Array:
    """A view of one tensor whose numbers come in canonical order."""
    if not entry.axes:
        return tensor
    return reordered(tensor, entry.native_axes, entry.axes, axis_sizes(entry.axes, shape, entry.sizes))
