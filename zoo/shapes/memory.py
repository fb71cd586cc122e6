"""What computing a network takes at least, known from its description before anything is allocated.

A few bytes can describe a network that asks for all the memory of a machine that others work on, too.
"""

from __future__ import annotations

from math import prod

from zoo.errors import ZooError
from zoo.layers import LRN, Conv, ModelSpec, Pool, PoolMask, Shape
from zoo.limits import limit
from zoo.shapes.network import activation_shapes, parameter_shapes
from zoo.shapes.window import window


def check_memory(spec: ModelSpec, *, items: int = 0, width: int = 4, lays_out: bool = False, copies: int = 1) -> None:
    """Refuse to compute a network that takes more than `zoo.limits.memory_limit` allows.

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
    if asked <= limit():
        return
    sizes |= {name: size for name, size in padded.items() if size > sizes[name]}
    largest = max(sizes, key=lambda name: sizes[name])
    of_them = f"; the largest, {largest!r}, has {sizes[largest]:,} an item" if activations else ""
    raise ZooError(
        f"{spec.name}: computing it takes {asked:,.1f} GB of memory ({parameters:,} numbers of parameters, "
        f"{activations:,} of activations{of_them}), {limit():g} GB are the limit; --max-memory GB lifts it"
    )


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
