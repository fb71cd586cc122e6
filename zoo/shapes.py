"""Activation and parameter shapes, parameter counts and multiply-adds; an impossible spec is refused by layer name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import assert_never

from zoo.axes import affine_shape, axis_index, shape_text
from zoo.errors import SpecError
from zoo.layers import (
    FUNCTIONS,
    LRN,
    MVN,
    ArgMax,
    Axpy,
    BatchNorm,
    Bias,
    Concat,
    Conv,
    Crop,
    Deconv,
    Dense,
    Dropout,
    Eltwise,
    Flatten,
    Interp,
    Layer,
    ModelSpec,
    Normalize,
    Pair,
    Permute,
    Pool,
    Power,
    PReLU,
    Reduction,
    ReLU,
    Reshape,
    Rounding,
    Scale,
    Shape,
    Shuffle,
    Sigmoid,
    Slice,
    Softmax,
    TanH,
    Tile,
    Unary,
)
from zoo.parameters import Parameter, layer_parameters


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """Where a sliding window goes: ``out`` positions, reading ``before`` and ``after`` pixels outside the image.

    ``after`` is what the last window really reads, overhang of rounded-up sizes included; it is negative where the
    last rows are not read at all. Pairs are (height, width).
    """

    kernel: Pair
    stride: Pair
    before: Pair
    after: Pair
    out: Pair


def window(layer: Conv | Pool, shape: Shape) -> Window:
    """The window of a convolution or pooling layer over a (C, H, W) input."""
    if len(shape) != 3:
        raise SpecError(layer.name, f"needs a C x H x W input, got {shape_text(shape)}")
    if isinstance(layer, Pool) and layer.global_pool:
        kernel, stride, pad, rounding = (shape[1], shape[2]), (1, 1), (0, 0), "floor"
    else:
        kernel, stride, pad, rounding = layer.kernel, layer.stride, layer.pad, layer.rounding
    dilation = layer.dilation if isinstance(layer, Conv) else (1, 1)
    if min(*kernel, *stride, *dilation) < 1 or min(pad) < 0:
        raise SpecError(layer.name, "kernel, stride and dilation must be at least 1, pad at least 0")
    reach = (dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1)
    clip = isinstance(layer, Pool) and max(pad) > 0
    if isinstance(layer, Pool) and (pad[0] >= kernel[0] or pad[1] >= kernel[1]):
        raise SpecError(layer.name, f"pad {pad} must be smaller than the pooling kernel {kernel}")
    out, after = [0, 0], [0, 0]
    for i, side in enumerate("HW"):
        size = shape[1 + i]
        # Caffe's rounding up makes one position of a window that reaches past the edge by less than a stride.
        beyond = stride[i] - 1 if isinstance(layer, Pool) and rounding == "ceil" else 0
        if reach[i] > size + 2 * pad[i] + beyond:
            raise SpecError(
                layer.name,
                f"kernel reaches over {reach[i]} pixels, but its padded input has {side} = {size + 2 * pad[i]}",
            )
        out[i] = _positions(size + 2 * pad[i] - reach[i], stride[i], rounding)
        # Caffe drops a last window that starts in the padding, on both axes, as soon as either has a pad.
        if clip and (out[i] - 1) * stride[i] >= size + pad[i]:
            out[i] -= 1
        after[i] = (out[i] - 1) * stride[i] + reach[i] - size - pad[i]
    return Window(kernel=kernel, stride=stride, before=pad, after=(after[0], after[1]), out=(out[0], out[1]))


def _positions(free: int, stride: int, rounding: Rounding) -> int:
    return (free + (stride - 1 if rounding == "ceil" else 0)) // stride + 1


def activation_shapes(spec: ModelSpec) -> dict[str, Shape]:
    """Every input and layer of `spec` -> the shape of its activation, without the batch axis.

    Raises:
        SpecError: the network is impossible; names the first layer that is.
    """
    _check_wiring(spec)
    shapes = {source.name: source.shape for source in spec.inputs}
    for source in spec.inputs:
        if min(source.shape, default=0) < 1:
            raise SpecError(source.name, f"an input must have positive sizes, got {shape_text(source.shape)}")
    wiring = spec.wiring()
    for layer in spec.layers:
        shapes[layer.name] = output_shape(layer, [shapes[name] for name in wiring[layer.name]])
    return shapes


def _check_wiring(spec: ModelSpec) -> None:
    if not spec.inputs:
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
    two = isinstance(layer, Scale | Bias) and len(inputs) == 2
    wanted = 2 if two or isinstance(layer, Crop) else 3 if isinstance(layer, Axpy) else 1
    if len(inputs) != wanted and not isinstance(layer, Concat | Eltwise):
        told = {1: "one activation", 2: "two activations", 3: "three activations"}[wanted]
        raise SpecError(layer.name, f"{type(layer).__name__} reads {told}, got {len(inputs)}")
    shape = inputs[0]
    match layer:
        case Conv():
            return _conv_shape(layer, shape)
        case Deconv():
            return (layer.out_channels, *deconv_size(layer, shape))
        case Dense():
            axis = axis_index(layer.name, layer.axis, shape)
            if axis == 0 or layer.out_features < 1:
                raise SpecError(layer.name, "axis must be at least 1 and out_features positive")
            return (*shape[: axis - 1], layer.out_features)
        case Pool():
            return (shape[0], *window(layer, shape).out) if len(shape) == 3 else window(layer, shape).out
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
            if not 1 <= first <= last:
                raise SpecError(layer.name, f"cannot flatten axes {first} to {last}")
            return (*shape[: first - 1], prod(shape[first - 1 : last]), *shape[last:])
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
            axis = _item_axis(layer.name, layer.axis, shape)
            if layer.tiles < 1:
                raise SpecError(layer.name, f"tiles must be at least 1, got {layer.tiles}")
            return (*shape[: axis - 1], shape[axis - 1] * layer.tiles, *shape[axis:])
        case Concat():
            return _concat_shape(layer, inputs)
        case Slice():
            axis = axis_index(layer.name, layer.axis, shape)
            if axis == 0 or not 0 <= layer.start < layer.stop <= shape[axis - 1]:
                raise SpecError(
                    layer.name, f"cannot take {layer.start}:{layer.stop} of axis {axis} of {shape_text(shape)}"
                )
            return (*shape[: axis - 1], layer.stop - layer.start, *shape[axis:])
        case Eltwise():
            if any(other != shape for other in inputs):
                raise SpecError(layer.name, f"inputs differ in shape: {', '.join(map(shape_text, inputs))}")
            if layer.coeffs and (layer.operation != "sum" or len(layer.coeffs) != len(inputs)):
                raise SpecError(
                    layer.name, f"{len(layer.coeffs)} coefficients for a {layer.operation} of {len(inputs)}"
                )
            return shape
        case Scale() | Bias():
            if two and (axis_index(layer.name, layer.axis, shape) != 0 or inputs[1] != shape[: len(inputs[1])]):
                told = f"{shape_text(inputs[1])} on {shape_text(shape)}"
                raise SpecError(layer.name, f"a second input must start at axis 0 and match the first: {told}")
            if not two:
                affine_shape(layer, shape)
            return shape
        case BatchNorm():
            return shape
        case _:
            assert_never(layer)


def _item_axis(layer: str, axis: int, shape: Shape) -> int:
    """`axis_index` of an axis that cannot be the batch, which stays open."""
    index = axis_index(layer, axis, shape)
    if index == 0:
        raise SpecError(layer, "axis 0 is the batch, which stays open; axis must be at least 1")
    return index


def interp_size(layer: Interp, shape: Shape) -> Pair:
    """Height and width of what an `Interp` makes of a (C, H, W) input."""
    if len(shape) != 3:
        raise SpecError(layer.name, f"needs a C x H x W input, got {shape_text(shape)}")
    cut = layer.pad_beg + layer.pad_end
    if max(layer.pad_beg, layer.pad_end) > 0 or min(shape[1:]) + cut < 1 or min(layer.zoom, layer.shrink) < 1:
        raise SpecError(layer.name, "pads must be at most 0 and leave something, zoom and shrink at least 1")
    sides = [side + cut for side in shape[1:]]
    if layer.size is not None and (layer.zoom == 1) == (layer.shrink == 1):
        sides = [*layer.size]
    else:
        shrunk = [(side - 1) // layer.shrink + 1 for side in sides]
        sides = [side + (side - 1) * (layer.zoom - 1) for side in shrunk]
    if min(sides) < 1:
        raise SpecError(layer.name, f"height and width must be positive, got {shape_text(tuple(sides))}")
    return sides[0], sides[1]


def _arg_max_shape(layer: ArgMax, shape: Shape) -> Shape:
    axis = None if layer.axis is None else _item_axis(layer.name, layer.axis, shape)
    size = prod(shape) if axis is None else shape[axis - 1]
    if not 1 <= layer.top_k <= size:
        raise SpecError(layer.name, f"top_k must be 1 to {size}, got {layer.top_k}")
    if axis is None:
        return (2 if layer.out_max_val else 1, layer.top_k, *[1] * (len(shape) - 2))
    return (*shape[: axis - 1], layer.top_k, *shape[axis:])


def cuts(layer: Crop, inputs: Sequence[Shape]) -> list[tuple[int, int]]:
    """Where a `Crop` begins and ends, an axis after the batch each."""
    shape, size = inputs
    axis = _item_axis(layer.name, layer.axis, shape)
    offsets = layer.offsets if len(layer.offsets) != 1 else layer.offsets * (len(shape) + 1 - axis)
    offsets = offsets or (0,) * (len(shape) + 1 - axis)
    if len(size) != len(shape) or len(offsets) != len(shape) + 1 - axis:
        told = f"{len(layer.offsets)} offsets from axis {axis}"
        raise SpecError(layer.name, f"cannot crop {shape_text(shape)} to {shape_text(size)} with {told}")
    found = [(0, side) for side in shape[: axis - 1]]
    found += [(start, start + side) for start, side in zip(offsets, size[axis - 1 :], strict=True)]
    if any(start < 0 or stop > side for (start, stop), side in zip(found, shape, strict=True)):
        raise SpecError(layer.name, f"offsets {offsets} and {shape_text(size)} reach past {shape_text(shape)}")
    return found


def reshaped(layer: Reshape, shape: Shape) -> Shape:
    """What a `Reshape` makes of a shape, both without the batch axis."""
    rank = len(shape) + 1
    start = layer.axis if layer.axis >= 0 else layer.axis + rank + 1
    end = rank if layer.num_axes == -1 else start + layer.num_axes
    if not 0 <= start <= end <= rank:
        told = f"axes {layer.axis} and {layer.num_axes} more"
        raise SpecError(layer.name, f"{told} do not exist in a batch of {shape_text(shape)}")
    # A batch that no dim can be: what is written must leave it alone.
    batch = 7919 * prod(shape, start=1) + 1
    whole, dims = (batch, *shape), list(layer.dims)
    if start == 0 and dims and dims[0] > 0 and -1 not in dims:
        dims[0] = 0  # the batch by its number: the other dims say that it is one
    if (
        any(dim < -1 for dim in dims)
        or dims.count(-1) > 1
        or any(d == 0 and start + i >= rank for i, d in enumerate(dims))
    ):
        raise SpecError(layer.name, f"cannot reshape to {' '.join(map(str, layer.dims))}")
    made = [*whole[:start], *(whole[start + i] if dim == 0 else dim for i, dim in enumerate(dims)), *whole[end:]]
    if -1 in made:
        made[made.index(-1)] = prod(whole) // -prod(made) if prod(made) else 0
    if prod(made) != prod(whole) or made[:1] != [batch]:
        told = f"{shape_text(shape)} to dims {' '.join(map(str, layer.dims))}"
        raise SpecError(layer.name, f"cannot reshape {told}: as many numbers must come out, an item of the batch each")
    return tuple(made[1:])


def permutation(layer: Permute, shape: Shape) -> tuple[int, ...]:
    """The whole order of a `Permute`, the batch included."""
    rank, order = len(shape) + 1, layer.order
    if len(set(order)) != len(order) or any(not 0 <= axis < rank for axis in order):
        raise SpecError(layer.name, f"order {order} names an axis twice, or one that N x {shape_text(shape)} has not")
    full = (*order, *(axis for axis in range(rank) if axis not in order))
    if full[0] != 0:
        raise SpecError(layer.name, f"order {full} moves the batch, which stays open; it must begin with 0")
    return full


def deconv_size(layer: Deconv, shape: Shape) -> Pair:
    """Height and width of what a `Deconv` makes of a (C, H, W) input."""
    if len(shape) != 3:
        raise SpecError(layer.name, f"needs a C x H x W input, got {shape_text(shape)}")
    if min(*layer.kernel, *layer.stride, *layer.dilation) < 1 or min(layer.pad) < 0:
        raise SpecError(layer.name, "kernel, stride and dilation must be at least 1, pad at least 0")
    _check_groups(layer, shape)
    sides = zip(shape[1:], layer.kernel, layer.stride, layer.pad, layer.dilation, strict=True)
    height, width = (s * (n - 1) + d * (k - 1) + 1 - 2 * p for n, k, s, p, d in sides)
    if min(height, width) < 1:
        raise SpecError(layer.name, f"pad {layer.pad} leaves nothing: {height} x {width}")
    return height, width


def _check_groups(layer: Conv | Deconv, shape: Shape) -> None:
    if layer.groups < 1 or shape[0] % layer.groups or layer.out_channels % layer.groups or layer.out_channels < 1:
        raise SpecError(layer.name, f"{layer.groups} groups do not divide {shape[0]} -> {layer.out_channels} channels")


def _conv_shape(layer: Conv, shape: Shape) -> Shape:
    place = window(layer, shape)
    _check_groups(layer, shape)
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
    return shape if axis == 0 else (*shape[: axis - 1], sum(other[axis - 1] for other in inputs), *shape[axis:])


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
