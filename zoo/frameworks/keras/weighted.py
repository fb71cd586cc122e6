"""Convolutions and dense layers: the row of each kind."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from zoo.axes import axis_index
from zoo.frameworks.keras.calls import DATA_FORMAT, Call, Value, canonical, unless
from zoo.frameworks.keras.site import Site, short
from zoo.layers import Conv, Deconv, Dense, Embed, Weighted
from zoo.shapes import window


def calls(layer: Weighted, at: Site) -> list[Call]:
    """The family's part of `zoo.frameworks.keras.table.calls`."""
    bias = unless(layer.bias, use_bias=False)
    match layer:
        case Conv():
            return _conv(layer, at, bias)
        case Deconv():
            return [_deconv(layer, at, bias)]
        case Dense():
            return _dense(layer, at, bias)
        case Embed():
            args: dict[str, Value] = {"rows": layer.rows, "features": layer.out_features}
            return [canonical("NearestEmbedding", **args, **bias, **at.initializers)]
        case _:
            assert_never(layer)


def _conv(layer: Conv, at: Site, bias: dict[str, Value]) -> list[Call]:
    pads = window(layer, at.shapes[0]).pads
    reach = tuple(d * (k - 1) for d, k in zip(layer.dilation, layer.kernel, strict=True))
    # At a stride of 1 Keras' "same" pads both sides alike, where that is possible.
    same = layer.stride == (1, 1) and pads == tuple((r // 2, r // 2) for r in reach) and all(r % 2 == 0 for r in reach)
    apart = layer.stride != (1, 1) and layer.dilation != (1, 1)  # Keras takes not both
    options: dict[str, Value] = {
        **unless(layer.stride == (1, 1) or apart, strides=short(layer.stride)),
        **unless(not same or not any(reach), padding="same"),
        **unless(layer.dilation == (1, 1), dilation_rate=short(layer.dilation)),
        **unless(layer.groups == 1, groups=layer.groups),
        **bias,
        "data_format": DATA_FORMAT,
        **at.initializers,
    }
    wide = layer.bias and at.shape[2] == layer.out_channels
    args: dict[str, Value] = {"filters": at.outputs, "kernel_size": short(layer.kernel)}
    made = [Call(make="WideConv2D" if wide else "Conv2D", args=args, options=options, own=wide)]
    if not same and any(pads[0] + pads[1]):
        made.insert(0, padding(pads))
    if apart:
        made.append(replace(canonical("Subsample", strides=layer.stride), suffix="_strides"))
    return made


def padding(pads: tuple[tuple[int, int], ...]) -> Call:
    """Zeros around an image: ((top, bottom), (left, right))."""
    alike = all(before == after for before, after in pads)
    short_pads: Value = short((pads[0][0], pads[1][0])) if alike else pads
    return Call(make="ZeroPadding2D", args={"padding": short_pads}, options={"data_format": DATA_FORMAT}, suffix="_pad")


def _deconv(layer: Deconv, at: Site, bias: dict[str, Value]) -> Call:
    plain = (layer.pad, layer.dilation, layer.groups) == ((0, 0), (1, 1), 1)
    if plain and all(k >= s for k, s in zip(layer.kernel, layer.stride, strict=True)):
        options = {**unless(layer.stride == (1, 1), strides=short(layer.stride)), **bias, "data_format": DATA_FORMAT}
        args: dict[str, Value] = {"filters": layer.out_channels, "kernel_size": short(layer.kernel)}
        return Call(make="Conv2DTranspose", args=args, options={**options, **at.initializers})
    return canonical(
        "PaddedConv2DTranspose",
        filters=layer.out_channels,
        kernel_size=layer.kernel,
        strides=layer.stride,
        pads=layer.pad,
        dilation_rate=layer.dilation,
        groups=layer.groups,
        **bias,
        **at.initializers,
    )


def _dense(layer: Dense, at: Site, bias: dict[str, Value]) -> list[Call]:
    shape, axis = at.shapes[0], axis_index(layer.name, layer.axis, at.shapes[0])
    if axis == 1 and len(shape) in (1, 3):
        dense = Call(make="Dense", args={"units": at.outputs}, options={**bias, **at.initializers})
        # Whichever way images lie, Keras' own flattens them in H, W, C order.
        flatten = Call(make="Flatten", options={"data_format": DATA_FORMAT}, suffix="_flatten")
        return [flatten, dense] if len(shape) == 3 else [dense]
    return [canonical("CanonicalDense", units=at.outputs, axis=axis, **bias, **at.initializers)]
