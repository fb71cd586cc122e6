"""Conv, ConvTranspose, Gemm and MatMul as convolutions and dense layers."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from zoo.arrays import Array
from zoo.frameworks.onnx.reading.op import Op
from zoo.frameworks.onnx.reading.walk import View, Walk, Whole
from zoo.frameworks.onnx.reading.windows import fitted, image_read, pair_of, place
from zoo.layers import Conv, Deconv, Dense, Embed, Pair, Rounding

_CHANNELS_LAST = (0, 2, 3, 1)


def conv(walk: Walk, op: Op) -> None:
    """Conv."""
    weight, bias = _kernel(op), _bias(op, len(op.weight(1, "weight")))
    source, border = image_read(walk, op, lambda fill, _: fill == 0)
    shape, groups = walk.shapes[source], op.integer("group", 1)
    if groups < 1 or weight.shape[1] * groups != shape[0]:
        op.refuse(f"its weight {weight.shape} does not fit {groups} groups of {shape[0]} channels")
    at = place(op, shape, (weight.shape[2], weight.shape[3]), border)

    def make(pad: Pair, rounding: Rounding) -> Conv:
        return Conv(
            name=op.out,
            inputs=(source,),
            out_channels=len(weight),
            kernel=at.kernel,
            stride=at.stride,
            pad=pad,
            dilation=at.dilation,
            groups=groups,
            bias=bool(bias),
            rounding=rounding,
        )

    found = fitted(make, shape, at)
    if found is None:
        op.refuse(f"pads {at.before} and {at.after} cannot be had with the same padding on both sides")
    layer, cuts = found
    name = walk.step(op.out, "whole") if cuts else op.out
    walk.cut(op.out, walk.add(replace(layer, name=name), weight=weight, **bias), cuts)


def deconv(walk: Walk, op: Op) -> None:
    """ConvTranspose."""
    weight, groups = _kernel(op), op.integer("group", 1)
    bias = _bias(op, weight.shape[1] * groups)
    source, _ = image_read(walk, op, lambda fill, _: False)
    stride, dilation = pair_of(op, "strides", (1, 1)), pair_of(op, "dilations", (1, 1))
    beyond = pair_of(op, "output_padding", (0, 0))
    sides = zip(walk.shapes[source][1:], weight.shape[2:], stride, dilation, strict=True)
    full = [s * (n - 1) + d * (k - 1) + 1 for n, k, s, d in sides]
    before, after = _cut_off(op, walk.shapes[source][1:], full, stride, beyond)
    if min(*before, *(after[i] - beyond[i] for i in (0, 1))) < 0:
        op.refuse(f"output_padding {beyond} reaches past what its pads {before} and {after} cut off")
    pad = [min(before[i], after[i] - beyond[i]) for i in (0, 1)]
    out = [full[i] - before[i] - after[i] + beyond[i] for i in (0, 1)]
    cuts = {2 + i: (before[i] - pad[i], before[i] - pad[i] + out[i]) for i in (0, 1)}
    whole = all(out[i] == full[i] - 2 * pad[i] for i in (0, 1))
    layer = Deconv(
        name=op.out if whole else walk.step(op.out, "whole"),
        inputs=(source,),
        out_channels=weight.shape[1] * groups,
        kernel=(weight.shape[2], weight.shape[3]),
        stride=stride,
        pad=(pad[0], pad[1]),
        dilation=dilation,
        groups=groups,
        bias=bool(bias),
    )
    walk.cut(op.out, walk.add(layer, weight=weight, **bias), {} if whole else cuts)


def _cut_off(
    op: Op, sides: tuple[int, ...], full: list[int], stride: Pair, beyond: Pair
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What a ConvTranspose cuts off of what it reaches, before and after."""
    said, sizes, pads = op.text("auto_pad", "NOTSET"), op.integers("output_shape"), op.integers("pads", (0, 0, 0, 0))
    if said not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER") or len(pads) != 4:
        op.refuse(f"auto_pad {said!r} with pads {pads} is not known")
    if said.startswith("SAME") and sizes is None:
        sizes = tuple(side * step for side, step in zip(sides, stride, strict=True))
    if sizes is not None and len(sizes) != 2:
        op.refuse(f"output_shape is {sizes}, expected a height and a width")
    if sizes is None:
        return ((0, 0), (0, 0)) if said == "VALID" else (pads[:2], pads[2:])
    total = [full[i] + beyond[i] - sizes[i] for i in (0, 1)]
    less, more = tuple(n // 2 for n in total), tuple(n - n // 2 for n in total)
    return (less, more) if said == "SAME_UPPER" else (more, less)


def _kernel(op: Op) -> Array:
    weight = op.weight(1, "weight")
    if weight.ndim != 4:
        op.refuse(f"its weight has {weight.ndim} axes, expected 4: two-dimensional images alone are known here")
    kernel = pair_of(op, "kernel_shape", (weight.shape[2], weight.shape[3]))
    if kernel != weight.shape[2:]:
        op.refuse(f"its weight {weight.shape} does not fit kernel {kernel}")
    return weight


def _bias(op: Op, count: int) -> dict[str, Array]:
    """The bias, input 2, as one number an output; empty where there is none."""
    if not op.has(2):
        return {}
    bias = op.weight(2, "bias")
    if bias.size != (bias.shape or (1,))[-1] or bias.size not in (1, count):
        op.refuse(f"its bias {bias.shape} is not one number for each of {count} outputs")
    return {"bias": bias.reshape(-1) if bias.size == count else np.full(count, bias.reshape(()), np.float32)}


def gemm(walk: Walk, op: Op) -> None:
    """Gemm: ``alpha x W + beta bias``; both factors become part of the numbers."""
    weight = op.weight(1, "weight")
    if op.flag("transA", 0) or weight.ndim != 2:
        op.refuse("multiplies other things than rows with a weight of two axes")
    weight = weight if op.flag("transB", 0) else weight.T
    op.integer("broadcast", 1)  # before operator set 7; the shape of the bias says it
    bias, alpha, beta = _bias(op, len(weight)), op.number("alpha", 1.0), op.number("beta", 1.0)
    bias = {role: array if beta == 1 else array * np.float32(beta) for role, array in bias.items() if beta}
    if alpha != 1 or (bias and beta != 1):
        walk.inexact[op.out] = f"the weights of {op.out!r} were multiplied by its alpha and beta"
    _dense(walk, op, weight if alpha == 1 else weight * np.float32(alpha), bias)


def matmul(walk: Walk, op: Op) -> None:
    """MatMul of an activation and a weight; its bias is an Add after it."""
    weight = op.weight(1, "second factor")
    if weight.ndim != 2:
        op.refuse(f"multiplies by {weight.ndim} axes, expected a weight of two")
    _dense(walk, op, weight.T, {})


def _dense(walk: Walk, op: Op, weight: Array, bias: dict[str, Array]) -> None:
    """A dense layer of a weight (O, I): of all an item holds, or of the axes that were merged last."""
    view = walk.view(op.reads())
    if view.shape[-1] != weight.shape[1]:
        op.refuse(f"its weight takes {weight.shape[1]} numbers, and there are {walk.told(view.shape)}")
    whole, moved = walk.whole(view.activation).shape, walk.moved(view)
    if view.order == _CHANNELS_LAST and view.shape == moved:
        kernel = weight[:, :, None, None]
        layer = Conv(name=op.out, inputs=(view.activation,), out_channels=len(weight), kernel=(1, 1), bias=bool(bias))
        name = walk.add(layer, weight=kernel, **bias)
        walk.values[op.out] = replace(view, activation=name, shape=(*view.shape[:-1], len(weight)))
        return
    if view.shape == (whole[0], prod(whole[1:])):
        columns, axis, rows = _columns(view, moved, weight), 1, whole[:1]
    else:
        columns, axis, rows = weight, _merged_from(view, whole), view.shape[:-1]
    if not axis:
        view = walk.whole(walk.plain(op.reads()))
        columns, axis, rows = weight, len(view.shape) - 1, view.shape[:-1]
    layer = Dense(name=op.out, inputs=(view.activation,), out_features=len(weight), bias=bool(bias), axis=axis)
    made = walk.whole(walk.add(layer, weight=columns, **bias))
    walk.values[op.out] = replace(made, shape=(*rows, len(weight)))


def embed(walk: Walk, op: Op) -> None:
    """Gather of the rows of a table, by an activation cut to whole numbers."""
    table, at = op.weight(0, "table"), walk.values.get(op.reads(1))
    if not isinstance(at, Whole) or not at.view.in_order or table.ndim != 2 or op.integer("axis", 0) not in (0, -2):
        op.refuse("takes other things than rows of a table, by whole numbers")
    rows, outs = table.shape
    walk.notes.append(f"{op.out!r}: numbers below 0 count from the end there; here they are taken for 0")
    walk.inexact[op.out] = f"{op.out!r} counts numbers below 0 from the end"
    layer = Embed(name=op.out, inputs=(at.view.activation,), rows=rows, out_features=outs, bias=False)
    walk.put(op.out, layer, weight=table)


def _columns(view: View, moved: tuple[int, ...], weight: Array) -> Array:
    """A weight for the numbers of an item in the order of the activation, where the tensor has another."""
    if view.in_order:
        return weight
    back = [view.order.index(i) for i in range(len(view.order))]
    apart = weight.reshape(len(weight), *moved[1:])
    return apart.transpose(0, *back[1:]).reshape(weight.shape)


def _merged_from(view: View, whole: tuple[int, ...]) -> int:
    """The axis from which on a tensor of rows has merged an activation; 0 where it has not."""
    axes = range(1, len(whole))
    same = (i for i in axes if view.shape == (prod(whole[:i]), prod(whole[i:])))
    return next(same, 0) if view.in_order else 0
