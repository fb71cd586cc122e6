"""What computing a network takes at least, known from its description before anything is allocated.

A few bytes can describe a network that asks for all the memory of a machine that others work on, or for days of its
processors.
"""

from __future__ import annotations

from math import prod

from zoo.errors import ZooError
from zoo.layers import LRN, Conv, DetectionOutput, Layer, ModelSpec, Pool, PoolMask, PriorBox, PSROIPool, ROIPool, Shape
from zoo.limits import limits
from zoo.shapes.network import activation_shapes, multiply_adds, parameter_shapes
from zoo.shapes.window import window

# Products of matrices do so many multiply-adds in the time in which another layer reads a number; and where a layer is
# a loop in Python, or of operators in a graph, a turn takes as long as it takes to read so many numbers.
_QUICK, _TURN = 32, 1024


def check_cost(spec: ModelSpec, *, items: int = 0, width: int = 4, lays_out: bool = False, copies: int = 1) -> None:
    """Refuse to compute a network that takes more than `zoo.limits` allows.

    Args:
        spec: the network.
        items: of the batch, all of whose activations are held; none, where only parameters are made.
        width: bytes of a number.
        lays_out: whether a convolution lays out what its kernel reads at every place, as the reference's do.
        copies: of the parameters.

    Raises:
        ZooError: it takes more; says how much of what.
    """
    parameters = copies * sum(map(prod, parameter_shapes(spec).values()))
    sizes = {name: prod(shape) for name, shape in activation_shapes(spec).items()}  # of the inputs, too
    padded = _padded(spec)
    beside = (_laid_out(spec) if lays_out else 0) + max(padded.values(), default=0)
    activations = items * (sum(sizes.values()) + beside)
    asked = width * (parameters + activations) / 1e9
    most = limits()
    if asked <= most.gigabytes:
        return _check_operations(spec) if items else None
    sizes |= {name: size for name, size in padded.items() if size > sizes[name]}
    largest = max(sizes, key=lambda name: sizes[name])
    of_them = f"; the largest, {largest!r}, has {sizes[largest]:,} an item" if activations else ""
    raise ZooError(
        f"{spec.name}: computing it takes {asked:,.1f} GB of memory ({parameters:,} numbers of parameters, "
        f"{activations:,} of activations{of_them}), {most.gigabytes:g} GB are the limit; --max-memory GB lifts it"
    )


def _check_operations(spec: ModelSpec) -> None:
    counts, most = _operations(spec), limits().operations
    asked, largest = sum(counts.values()), max(counts, key=lambda name: counts[name])
    if asked > most:
        raise ZooError(
            f"{spec.name}: computing it takes {asked:.2g} operations an item ({largest!r} alone "
            f"{counts[largest]:.2g}), {most:.2g} are the limit; --max-operations N lifts it"
        )


def _operations(spec: ModelSpec) -> dict[str, int]:
    """Layer -> multiply-adds for an item, or as many as could be done in the time that it takes."""
    shapes, wires, products = activation_shapes(spec), spec.wiring(), multiply_adds(spec)
    read = {
        layer.name: _reads(layer, [shapes[x] for x in wires[layer.name]], shapes[layer.name]) for layer in spec.layers
    }
    return {name: products.get(name, 0) + _QUICK * count for name, count in read.items()}


def _reads(layer: Layer, inputs: list[Shape], made: Shape) -> int:
    match layer:
        case Pool():
            return prod(made) * prod(window(layer, inputs[0]).kernel)
        case PoolMask():
            return (prod(made) + _TURN) * prod(window(layer, inputs[0]).kernel)
        case LRN():
            return prod(made) * layer.size ** (2 if layer.region == "within" else 1)
        case PriorBox() | ROIPool() | PSROIPool():
            return prod(made) * _TURN
        case DetectionOutput():  # each box with each
            boxes = inputs[2][1] // 4
            return layer.classes * (min(boxes, layer.top_k) if layer.top_k > -1 else boxes) ** 2
        case _:
            return sum(map(prod, inputs))


def _laid_out(spec: ModelSpec) -> int:
    """The numbers that the convolution which reads most reads, an item, each place of its kernel by itself."""
    shapes, weights = activation_shapes(spec), parameter_shapes(spec)
    convolutions = [layer.name for layer in spec.layers if isinstance(layer, Conv)]
    read = (prod(shapes[name][1:]) * prod(weights[f"{name}.weight"][1:]) for name in convolutions)
    return max(read, default=0)


def _padded(spec: ModelSpec) -> dict[str, int]:
    """The numbers, an item, that a window reads: its input with what is put around it, by the window's layer."""
    shapes, wires = activation_shapes(spec), spec.wiring()
    sliding = (layer for layer in spec.layers if isinstance(layer, LRN | Pool | PoolMask))
    return {layer.name: _surrounded(layer, shapes[wires[layer.name][0]]) for layer in sliding}


def _surrounded(layer: LRN | Pool | PoolMask, shape: Shape) -> int:
    match layer:
        case LRN(region="within"):
            return shape[0] * prod(size + layer.size for size in shape[1:])
        case LRN():
            return (shape[0] + layer.size) * prod(shape[1:])
        case _:
            (top, bottom), (left, right) = window(layer, shape).pads
            return shape[0] * (shape[1] + top + bottom) * (shape[2] + left + right)
