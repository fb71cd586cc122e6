"""Activation and parameter shapes, parameter counts and multiply-adds; an impossible spec is refused by layer name."""

from __future__ import annotations

from collections import Counter
from math import prod
from typing import assert_never

from zoo.axes import affine_shape, axis_index, shape_text
from zoo.errors import SpecError
from zoo.geometry import check_groups, cuts, deconv_size, detected, interp_size, permutation, reshaped, unpooled, window
from zoo.layers import (
    FUNCTIONS,
    LRN,
    MVN,
    ArgMax,
    Axpy,
    BatchNorm,
    Bias,
    Concat,
    Constant,
    Conv,
    Crop,
    Deconv,
    Dense,
    Detecting,
    DetectionOutput,
    Dropout,
    Eltwise,
    Embed,
    Flatten,
    Interp,
    Layer,
    ModelSpec,
    Normalising,
    Normalize,
    Permute,
    Pointwise,
    Pool,
    Pooling,
    PoolMask,
    Power,
    PReLU,
    PriorBox,
    PSROIPool,
    Reduction,
    ReLU,
    Reshape,
    ROIPool,
    Scale,
    Shape,
    Shaping,
    Shuffle,
    Sigmoid,
    Slice,
    Softmax,
    TanH,
    Tile,
    Unary,
    Unpool,
    Weighted,
)
from zoo.parameters import Parameter, layer_parameters

# An activation of more numbers an item than these is refused before anything is allocated: a few words can ask for it.
LARGEST = 1 << 28

# Kind -> the fewest and the most activations that a layer of it reads, where that is not one.
_READS: dict[type, tuple[int, int]] = {
    Axpy: (3, 3),
    Bias: (1, 2),
    Concat: (1, LARGEST),
    Constant: (0, 1),
    Crop: (2, 2),
    DetectionOutput: (3, 3),
    Eltwise: (1, LARGEST),
    PSROIPool: (2, 2),
    PriorBox: (2, 2),
    ROIPool: (2, 2),
    Scale: (1, 2),
    Unpool: (2, 2),
}


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
    wiring = spec.wiring()
    for layer in spec.layers:
        shapes[layer.name] = output_shape(layer, [shapes[name] for name in wiring[layer.name]])
    return shapes


def _check_wiring(spec: ModelSpec) -> None:
    if not spec.inputs and not isinstance(spec.layers[0], Constant):
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


def output_shape(layer: Layer, inputs: list[Shape]) -> Shape:
    """The shape of a layer's activation from those it reads; raises `SpecError` where it cannot read them."""
    _check_reads(layer, inputs)
    if isinstance(layer, Constant) and not inputs:
        shape = layer.shape[1:]
    elif isinstance(layer, Detecting):
        shape = detected(layer, inputs)
    else:
        shape = _made(layer, inputs)
    if prod(shape) > LARGEST:
        raise SpecError(layer.name, f"makes {shape_text(shape)} numbers an item; {LARGEST} are the limit")
    return shape


def _check_reads(layer: Layer, inputs: list[Shape]) -> None:
    """Refuse a layer that reads more or fewer activations than its kind, or none of channels."""
    wanted = _READS.get(type(layer), (1, 1))
    if not wanted[0] <= len(inputs) <= wanted[1]:
        told = ("none", "one activation", "two activations", "three activations")[min(wanted[0], 3)]
        raise SpecError(layer.name, f"{type(layer).__name__} reads {told}, got {len(inputs)}")
    if isinstance(layer, BatchNorm | LRN | MVN | Normalize | Shuffle | Axpy) and not all(inputs):
        raise SpecError(layer.name, "needs N x C and more, got one axis alone")


def _made(layer: Weighted | Pooling | Normalising | Pointwise | Shaping, inputs: list[Shape]) -> Shape:
    shape, two = inputs[0], len(inputs) == 2
    match layer:
        case Conv():
            return _conv_shape(layer, shape)
        case Deconv():
            return (layer.out_channels, *deconv_size(layer, shape))
        case Dense():
            axis = _item_axis(layer.name, layer.axis, shape)
            if layer.out_features < 1:
                raise SpecError(layer.name, "axis must be at least 1 and out_features positive")
            return (*shape[: axis - 1], layer.out_features)
        case Embed():
            if min(layer.rows, layer.out_features) < 1:
                raise SpecError(layer.name, f"needs rows and numbers, got {layer.rows} x {layer.out_features}")
            return (*shape, layer.out_features)
        case Pool() | PoolMask():
            return (shape[0], *window(layer, shape).out) if len(shape) == 3 else window(layer, shape).out
        case Unpool():
            if inputs[1] != shape:
                told = " and ".join(map(shape_text, inputs))
                raise SpecError(layer.name, f"numbers and their places must have one shape, got {told}")
            return (shape[0], *unpooled(layer, shape))
        case Interp():
            return (shape[0], *interp_size(layer, shape))
        case Reduction():
            return shape[: _item_axis(layer.name, layer.axis, shape) - 1]
        case ArgMax():
            return _arg_max_shape(layer, shape)
        case LRN():
            _check_lrn(layer, shape)
            return shape
        case ReLU() | Sigmoid() | TanH() | Power():
            return shape
        case PReLU():
            if not 1 <= len(shape) <= 3:
                raise SpecError(layer.name, f"needs 2 to 4 axes with the batch, got N x {shape_text(shape)}")
            return shape
        case Unary():
            _check_unary(layer)
            return shape
        case Dropout():
            if not 0 <= layer.ratio < 1:
                raise SpecError(layer.name, f"ratio must be in [0, 1), got {layer.ratio}")
            return shape
        case Normalize():
            if len(shape) > 3:
                raise SpecError(layer.name, f"takes 4 axes at most with the batch, got N x {shape_text(shape)}")
            return shape
        case MVN():
            if len(shape) > 3:
                raise SpecError(layer.name, f"takes 4 axes at most with the batch, got N x {shape_text(shape)}")
            return (*shape, *[1] * (3 - len(shape)))
        case Softmax():
            axis_index(layer.name, layer.axis, shape)
            return shape
        case Flatten():
            first, last = axis_index(layer.name, layer.axis, shape), axis_index(layer.name, layer.end_axis, shape)
            if first > last:
                raise SpecError(layer.name, f"cannot flatten axes {first} to {last}")
            return shape[last:] if first == 0 else (*shape[: first - 1], prod(shape[first - 1 : last]), *shape[last:])
        case Reshape():
            return reshaped(layer, shape)
        case Permute():
            return tuple(shape[axis - 1] for axis in permutation(layer, shape)[1:])
        case Crop():
            return tuple(stop - start for start, stop in cuts(layer, inputs))
        case Shuffle():
            if layer.groups < 1 or shape[0] % layer.groups:
                raise SpecError(layer.name, f"{layer.groups} groups do not divide {shape[0]} channels")
            return shape
        case Axpy():
            a, x, y = inputs
            if x != y or a not in (x[:1], (*x[:1], *[1] * (len(x) - 1))):
                raise SpecError(layer.name, f"cannot compute a x + y of {', '.join(map(shape_text, inputs))}")
            return x
        case Tile():
            axis = axis_index(layer.name, layer.axis, shape)
            if layer.tiles < 1:
                raise SpecError(layer.name, f"tiles must be at least 1, got {layer.tiles}")
            return resized(shape, axis, shape[axis - 1] * layer.tiles) if axis else shape
        case Concat():
            return _concat_shape(layer, inputs)
        case Slice():
            axis = axis_index(layer.name, layer.axis, shape)
            if not 0 <= layer.start < layer.stop or (axis and layer.stop > shape[axis - 1]):
                raise SpecError(
                    layer.name, f"cannot take {layer.start}:{layer.stop} of axis {axis} of {shape_text(shape)}"
                )
            return resized(shape, axis, layer.stop - layer.start)
        case Eltwise():
            if any(other != shape for other in inputs):
                raise SpecError(layer.name, f"inputs differ in shape: {', '.join(map(shape_text, inputs))}")
            if layer.coeffs and (layer.operation != "sum" or len(layer.coeffs) != len(inputs)):
                raise SpecError(
                    layer.name, f"{len(layer.coeffs)} coefficients for a {layer.operation} of {len(inputs)}"
                )
            return shape
        case Scale() | Bias():
            axis = axis_index(layer.name, layer.axis, shape)
            if two and inputs[1] != shape[axis : axis + len(inputs[1])]:
                told = f"N x {shape_text(inputs[1])} along axis {axis} of N x {shape_text(shape)}"
                raise SpecError(layer.name, f"the second input does not fit the first: {told}")
            if not two:
                affine_shape(layer, shape)
            return shape
        case BatchNorm():
            return shape
        case Constant():
            return layer.shape  # beside an activation
        case _:
            assert_never(layer)


def _arg_max_shape(layer: ArgMax, shape: Shape) -> Shape:
    axis = None if layer.axis is None else axis_index(layer.name, layer.axis, shape)
    size = prod(shape) if axis is None else shape[axis - 1] if axis else layer.top_k
    if not 1 <= layer.top_k <= size:
        raise SpecError(layer.name, f"top_k must be 1 to {size}, got {layer.top_k}")
    if axis is None:
        return (2 if layer.out_max_val else 1, layer.top_k, *[1] * (len(shape) - 2))
    return resized(shape, axis, layer.top_k)


def resized(shape: Shape, axis: int, size: int) -> Shape:
    """A shape with another size of one axis; axis 0, the batch, is not in it."""
    return (*shape[: axis - 1], size, *shape[axis:]) if axis else shape


def _item_axis(layer: str, axis: int, shape: Shape) -> int:
    """`axis_index` of an axis that cannot be the batch, which stays open."""
    index = axis_index(layer, axis, shape)
    if index == 0:
        raise SpecError(layer, "axis 0 is the batch, which stays open; axis must be at least 1")
    return index


def _conv_shape(layer: Conv, shape: Shape) -> Shape:
    place = window(layer, shape)
    check_groups(layer, shape)
    return (layer.out_channels, *place.out)


def _check_unary(layer: Unary) -> None:
    names = FUNCTIONS[layer.function]
    if len(layer.numbers) != len(names):
        told = ", ".join(names) or "none"
        raise SpecError(layer.name, f"{layer.function} takes {len(names)} numbers ({told}), got {len(layer.numbers)}")
    # exp_layer.cpp, log_layer.cpp: LayerSetUp
    if "base" in names and layer.numbers[0] <= 0:
        raise SpecError(layer.name, f"the base of {layer.function} must be positive, got {layer.numbers[0]:g}")
    if layer.function == "log" and layer.numbers[0] == 1:
        raise SpecError(layer.name, "the base of a logarithm cannot be 1")


def _check_lrn(layer: LRN, shape: Shape) -> None:
    if layer.size < 1 or layer.size % 2 == 0:
        raise SpecError(layer.name, f"the window must be odd, got size {layer.size}")
    if layer.region == "within" and (len(shape) != 3 or layer.towers != 1):
        raise SpecError(
            layer.name, f"a window within a map needs a C x H x W input and one tower, got {shape_text(shape)}"
        )
    if layer.towers < 1 or shape[0] % layer.towers:
        raise SpecError(layer.name, f"{layer.towers} towers do not divide {shape[0]} channels")


def _concat_shape(layer: Concat, inputs: list[Shape]) -> Shape:
    shape = inputs[0]
    axis = axis_index(layer.name, layer.axis, shape)

    def rest(other: Shape) -> Shape:
        return other if axis == 0 else (*other[: axis - 1], -1, *other[axis:])

    if any(len(other) != len(shape) or rest(other) != rest(shape) for other in inputs):
        raise SpecError(layer.name, f"inputs do not join along axis {axis}: {', '.join(map(shape_text, inputs))}")
    return shape if axis == 0 else resized(shape, axis, sum(other[axis - 1] for other in inputs))


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
