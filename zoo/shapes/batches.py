"""How long the first axes of a network are, which its description leaves open: for which batches it can be run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from math import prod

from zoo import layers
from zoo.axes import axis_index, shape_text
from zoo.batches import first_axis
from zoo.errors import SpecError, UnsupportedError
from zoo.layers import Layer, ModelSpec, Shape
from zoo.shapes.network import activation_shapes

# The most items of a batch that a network is written for, where one does not do.
_MOST_ITEMS = 64


def check_batches(layer: Layer, batches: Sequence[int], inputs: Sequence[Shape], shape: Shape) -> None:
    """Refuse a layer that the batches of what it reads do not suit; raises `SpecError`.

    Args:
        layer: the layer.
        batches: the length of the first axis of each activation it reads.
        inputs: their shapes without it.
        shape: that of its own.
    """
    problem = ""
    match layer:
        case layers.ArgMax(axis=int(axis)) if axis_index(layer.name, axis, inputs[0]) == 0 and layer.top_k > batches[0]:
            problem = f"top_k must be 1 to {batches[0]}, got {layer.top_k}"
        case layers.Slice() if axis_index(layer.name, layer.axis, inputs[0]) == 0 and layer.stop > batches[0]:
            problem = f"cannot take {layer.start}:{layer.stop} of a batch of {batches[0]}"
        case layers.Crop() if axis_index(layer.name, layer.axis, inputs[0]) == 0:
            start = layer.offsets[0] if layer.offsets else 0
            if start + batches[1] > batches[0]:
                problem = f"offset {start} and {batches[1]} items reach past a batch of {batches[0]}"
        case layers.Reshape(dims=(first, *_)) if layer.axis in (0, -len(inputs[0]) - 2) and first:
            read, made = batches[0] * prod(inputs[0]), prod(shape)
            if read % made if first == -1 else read != first * made:
                problem = f"cannot reshape {batches[0]} x {shape_text(inputs[0])} to {first} x {shape_text(shape)}"
        case layers.Eltwise() | layers.Concat() if len({*batches}) > 1:
            if isinstance(layer, layers.Eltwise) or axis_index(layer.name, layer.axis, inputs[0]):
                problem = f"its inputs have {' and '.join(map(str, batches))} items, expected as many in each"
        case layers.DetectionOutput() if batches[0] != batches[1] or batches[2] != 1:
            told = " and ".join(map(str, batches))
            problem = f"needs as many items of offsets and scores, and one of prior boxes, got {told}"
        case layers.Scale() | layers.Bias() if len(inputs) == 2:
            axis = axis_index(layer.name, layer.axis, inputs[0])
            wanted = (batches[0], *inputs[0])[axis]
            if batches[1] != wanted:
                problem = f"the second input has {batches[1]} along axis {axis}, where the first has {wanted}"
        case _:
            pass
    if problem:
        raise SpecError(layer.name, problem)


def lengths(spec: ModelSpec, batches: Mapping[str, int] | None = None) -> dict[str, int]:
    """How long the first axis of every input and activation is.

    Args:
        spec: the network.
        batches: of the inputs; left out, the smallest that Caffe takes.

    Raises:
        SpecError: the batches given do not suit a layer.
        UnsupportedError: no batches of up to 64 items suit one.
    """
    shapes, wiring = activation_shapes(spec), spec.wiring()
    sizes = {source.name: 1 for source in spec.inputs} if batches is None else batches
    found, problem = _lengths(spec, shapes, wiring, sizes)
    if problem is not None and batches is not None:
        raise problem
    while problem is not None:
        feeds = [source.name for source in spec.inputs if source.name in _leading_to(problem.layer, wiring)]
        tries = [*([name] for name in feeds), feeds]
        for names, size in product(tries, range(2, _MOST_ITEMS + 1)):
            longer = {**sizes, **dict.fromkeys(names, size)}
            further, still = _lengths(spec, shapes, wiring, longer)
            if len(further) > len(found):
                break
        else:
            raise UnsupportedError(f"{problem}; no batches of up to {_MOST_ITEMS} items suit this layer in Caffe")
        sizes, found, problem = longer, further, still
    return found


def _lengths(
    spec: ModelSpec, shapes: Mapping[str, Shape], wiring: Mapping[str, Sequence[str]], batches: Mapping[str, int]
) -> tuple[dict[str, int], SpecError | None]:
    """The lengths up to the first layer that they do not suit, and what it says."""
    found = dict(batches)
    for layer in spec.layers:
        reads, sizes = [shapes[name] for name in wiring[layer.name]], [found[name] for name in wiring[layer.name]]
        try:
            check_batches(layer, sizes, reads, shapes[layer.name])
        except SpecError as error:
            return found, error
        found[layer.name] = first_axis(layer, sizes, reads, shapes[layer.name])
    return found, None


def _leading_to(layer: str, wiring: Mapping[str, Sequence[str]]) -> set[str]:
    found, stack = set[str](), [layer]
    while stack:
        name = stack.pop()
        if name not in found:
            found.add(name)
            stack += wiring.get(name, ())
    return found
