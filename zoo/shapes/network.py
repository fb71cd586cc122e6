"""Every activation of a network, its parameters and multiply-adds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import prod

from zoo import layers
from zoo.axes import shape_text
from zoo.errors import SpecError
from zoo.layers import Conv, Deconv, Dense, Layer, ModelSpec, Shape
from zoo.limits import limits
from zoo.parameters import Parameter
from zoo.shapes import detecting, normalising, pointwise, pooling, shaping, weighted
from zoo.shapes.base import one_input

# A layer's numbers stand in memory several times over: as they are read, padded, laid out, in float64.
_COPIES = 8


def activation_shapes(spec: ModelSpec) -> dict[str, Shape]:
    """Every input and layer of `spec` -> the shape of its activation, without the batch axis.

    Raises:
        SpecError: the network is impossible; names the first layer that is.
    """
    _check_wiring(spec)
    shapes = {source.name: source.shape for source in spec.inputs}
    for source in spec.inputs:
        if min(source.shape, default=1) < 1:
            raise SpecError(source.name, f"an input must have positive sizes, got {shape_text(source.shape)}")
        _check_size(source.name, source.shape)
    wiring = spec.wiring()
    for layer in spec.layers:
        shapes[layer.name] = output_shape(layer, [shapes[name] for name in wiring[layer.name]])
    return shapes


def output_shape(layer: Layer, inputs: list[Shape]) -> Shape:
    """The shape of a layer's activation from those it reads; raises `SpecError` where it cannot read them."""
    shape = _made(layer, inputs)
    _check_size(layer.name, shape)
    return shape


def _check_size(name: str, shape: Shape) -> None:
    reason = too_large(shape)
    if reason:
        raise SpecError(name, reason)


def too_large(shape: Shape) -> str | None:
    """Why an activation may not have so many numbers an item, which a few words can ask for; None if it may."""
    count, most = prod(shape), limits().gigabytes / _COPIES
    if count <= most * 1e9 / 4:
        return None
    size = f"{shape_text(shape)} numbers an item are {4 * min(count, 10**300) / 1e9:.2g} GB of memory"
    return f"{size}; {most:g} GB, an eighth of --max-memory GB, are the limit of a layer; the flag lifts it"


def _made(layer: Layer, inputs: list[Shape]) -> Shape:
    if isinstance(layer, layers.Pointwise):
        return pointwise.output_shape(layer, inputs)
    if isinstance(layer, layers.Shaping):
        return shaping.output_shape(layer, inputs)
    if isinstance(layer, layers.Detecting):
        return detecting.output_shape(layer, inputs)
    if isinstance(layer, layers.Pooling):
        return pooling.output_shape(layer, inputs)
    shape = one_input(layer, inputs)
    if isinstance(layer, layers.Weighted):
        return weighted.output_shape(layer, shape)
    return normalising.output_shape(layer, shape)


def layer_parameters(layer: Layer, inputs: Sequence[Shape]) -> tuple[Parameter, ...]:
    """The rows of one layer, in canonical order.

    Args:
        layer: its description.
        inputs: the shapes of the activations it reads, without the batch axis.
    """
    if isinstance(layer, layers.Weighted):
        return weighted.parameters(layer, inputs[0])
    if isinstance(layer, layers.Pooling):
        return pooling.parameters(layer)
    if isinstance(layer, layers.Normalising):
        return normalising.parameters(layer, inputs[0])
    if isinstance(layer, layers.Pointwise):
        return pointwise.parameters(layer, inputs)
    if isinstance(layer, layers.Detecting):
        return detecting.parameters(layer)
    return shaping.parameters(layer)


def _check_wiring(spec: ModelSpec) -> None:
    if not spec.inputs and not isinstance(spec.layers[0], layers.Constant):
        raise SpecError(spec.name, "the network has no input")
    names = Counter([source.name for source in spec.inputs] + [layer.name for layer in spec.layers])
    for name, times in names.items():
        if not name:
            raise SpecError(name, "a layer needs a name")
        if times > 1:
            raise SpecError(name, "the name is used twice")
    wiring, seen = spec.wiring(), {source.name for source in spec.inputs}
    for layer in spec.layers:
        for name in wiring[layer.name]:
            if name not in names:
                raise SpecError(layer.name, f"reads {name!r}, which is neither an input nor a layer")
            if name not in seen:
                cycle = _path(wiring, name, layer.name)
                if cycle:
                    raise SpecError(layer.name, f"is part of a cycle: {' -> '.join([layer.name, *cycle])}")
                raise SpecError(layer.name, f"reads {name!r}, which is listed after it; list it before")
        seen.add(layer.name)


def _path(wiring: dict[str, tuple[str, ...]], start: str, goal: str) -> list[str] | None:
    stack, visited = [[start]], set[str]()
    while stack:
        path = stack.pop()
        if path[-1] == goal:
            return path
        if path[-1] not in visited:
            visited.add(path[-1])
            stack += [[*path, name] for name in wiring.get(path[-1], ())]
    return None


def parameter_table(spec: ModelSpec) -> dict[str, Parameter]:
    """Canonical parameter name (``<layer>.weight``, ``<layer>.bias``, ...) -> its row, in layer order."""
    shapes, wiring = activation_shapes(spec), spec.wiring()
    return {
        f"{layer.name}.{row.role}": row
        for layer in spec.layers
        for row in layer_parameters(layer, [shapes[name] for name in wiring[layer.name]])
    }


def parameter_shapes(spec: ModelSpec) -> dict[str, Shape]:
    """Canonical parameter name -> shape, in layer order."""
    return {name: row.shape for name, row in parameter_table(spec).items()}


def tied(spec: ModelSpec) -> dict[str, str]:
    """Parameter -> the first of its `zoo.layers.Tie`, whose numbers are its own; raises `SpecError` for a false tie."""
    if not spec.ties:
        return {}
    shapes, owners = parameter_shapes(spec), dict[str, str]()
    for tie in spec.ties:
        for name in tie.parameters:
            layer = name.rpartition(".")[0]
            if name not in shapes:
                raise SpecError(layer, f"{name}, tied as {tie.name!r}, is not a parameter of this network")
            if shapes[name] != shapes[tie.parameters[0]]:
                sizes = ", ".join(f"{other} {shape_text(shapes[other])}" for other in (tie.parameters[0], name))
                raise SpecError(layer, f"the parameters tied as {tie.name!r} differ in shape: {sizes}")
            if name in owners:
                raise SpecError(layer, f"{name} is tied twice")
            owners[name] = tie.parameters[0]
    return {name: owner for name, owner in owners.items() if name != owner}


def parameter_count(spec: ModelSpec) -> int:
    """How many numbers the network learns."""
    twins = tied(spec)
    return sum(prod(shape) for name, shape in parameter_shapes(spec).items() if name not in twins)


def multiply_adds(spec: ModelSpec) -> dict[str, int]:
    """Layer -> multiply-adds of one image, for convolutions and dense layers (a FLOP count is twice this)."""
    shapes, weights = activation_shapes(spec), parameter_shapes(spec)
    counts = dict[str, int]()
    for layer in spec.layers:
        if isinstance(layer, Deconv):
            read = spec.wiring()[layer.name][0]
            counts[layer.name] = prod(weights[f"{layer.name}.weight"]) * prod(shapes[read][1:])
        if isinstance(layer, Conv | Dense):
            positions = prod(shapes[layer.name][1:]) if isinstance(layer, Conv) else prod(shapes[layer.name][:-1])
            counts[layer.name] = prod(weights[f"{layer.name}.weight"]) * positions
    return counts
