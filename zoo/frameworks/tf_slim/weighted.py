"""Convolutions and dense layers as slim's."""

from __future__ import annotations

from math import prod
from typing import assert_never

from zoo.axes import axis_index
from zoo.frameworks.tf_slim.calls import Call, Expression, Name, call
from zoo.frameworks.tf_slim.naming import dense_layout
from zoo.frameworks.tf_slim.site import Site, canonical, native, padded, pair
from zoo.layers import Conv, Deconv, Dense, Embed, Weighted
from zoo.shapes import Window, window


def expression(layer: Weighted, at: Site) -> Expression:
    """The family's part of `zoo.frameworks.tf_slim.table.Table.expression`."""
    match layer:
        case Conv():
            return _conv(layer, at)
        case Deconv():
            return _deconv(layer, at)
        case Dense():
            return _dense(layer, at)
        case Embed():
            x = canonical(at.inputs[0], at.shapes[0])
            made = call("embed", x, layer.rows, layer.out_features, scope=at.scope)
            return native(_with_initial(made, at), at.shape)
        case _:
            assert_never(layer)


def _conv(layer: Conv, at: Site) -> Expression:
    padding, x = _conv_padding(layer, window(layer, at.shapes[0]), at.inputs[0])
    outputs: Expression = Name("num_classes") if at.is_head else layer.out_channels
    options: dict[str, Expression] = {
        "stride": pair(layer.stride) if layer.stride != (1, 1) else None,
        "padding": padding,
        "rate": pair(layer.dilation) if layer.dilation != (1, 1) else None,
        "scope": at.scope,
    }
    # slim.conv2d knows no groups, and no stride together with a dilation.
    if layer.groups > 1 or (layer.stride != (1, 1) and layer.dilation != (1, 1)):
        made = call("grouped_conv2d", x, outputs, [*layer.kernel], layer.groups, **options)
    else:
        made = call("slim.conv2d", x, outputs, [*layer.kernel], **options)
    return _with_initial(made, at)


def _deconv(layer: Deconv, at: Site) -> Expression:
    sides = [[*layer.kernel], layer.groups, [*layer.stride], [*layer.pad], [*layer.dilation]]
    made = call("transposed_conv2d", at.inputs[0], layer.out_channels, *sides, scope=at.scope)
    return _with_initial(made, at)


def _dense(layer: Dense, at: Site) -> Expression:
    x, shape = at.inputs[0], at.shapes[0]
    outputs: Expression = Name("num_classes") if at.is_head else layer.out_features
    layout = dense_layout(layer, shape, on_map=at.on_map)
    if layout == "IO":
        axis = axis_index(layer.name, layer.axis, shape)
        flat = (*shape[: axis - 1], prod(shape[axis - 1 :]))
        x = canonical(x, shape)
        x = x if flat == shape else call("tf.reshape", x, [-1, *flat])
        dense = _with_initial(call("slim.fully_connected", x, outputs, scope=at.scope), at)
        return native(dense, at.shape)
    kernel = [*shape[1:]] if layout == "HWCO" else [1, 1]
    dense = _with_initial(call("slim.conv2d", x, outputs, kernel, padding="VALID", scope=at.scope), at)
    return dense if at.keeps_map else call("tf.squeeze", dense, [1, 2], name=f"{at.scope}/squeezed")


def _with_initial(made: Call, at: Site) -> Call:
    return Call(made.function, made.arguments, {**made.options, **at.initializers})


def _conv_padding(layer: Conv, place: Window, x: Expression) -> tuple[str, Expression]:
    """TensorFlow's word for a padding, where it has one; else explicit zeros and VALID (SAME pads at the end first)."""
    same = tuple(d * (k - 1) for d, k in zip(layer.dilation, layer.kernel, strict=True))
    if layer.stride == (1, 1) and max(layer.pad) > 0 and (2 * layer.pad[0], 2 * layer.pad[1]) == same:
        return "SAME", x
    return "VALID", padded(x, place)
