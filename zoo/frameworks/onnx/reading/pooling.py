"""Pooling, resizing, and what else makes one number of many."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Literal

import numpy as np

from zoo import layers
from zoo.arrays import Array
from zoo.frameworks.onnx.reading import places
from zoo.frameworks.onnx.reading.op import Op
from zoo.frameworks.onnx.reading.walk import View, Walk
from zoo.frameworks.onnx.reading.windows import Place, divisors, fitted, image_read, our_divisors, pair_of, place
from zoo.layers import LOWEST, Pair, Rounding, Shape
from zoo.shapes import window


def max_pool(walk: Walk, op: Op) -> None:
    """MaxPool, and where the maxima are."""
    op.passes_over("storage_order")  # of the second output

    def never_wins(fill: float, activation: str) -> bool:
        made = walk.layer(activation)
        # Behind a ReLU no maximum is less than a border of 0, if it is less wide than the window.
        return fill <= LOWEST or (fill == 0 and isinstance(made, layers.ReLU) and made.negative_slope == 0)

    source, border = image_read(walk, op, never_wins)
    at = place(op, walk.shapes[source], pair_of(op, "kernel_shape", None), border)
    if at.dilation != (1, 1):
        op.refuse(f"dilations {at.dilation}: windows with gaps are not known here")
    if any(side >= at.kernel[i] for ends in border for i, side in enumerate(ends)) and isinstance(
        walk.layer(source), layers.ReLU
    ):
        op.refuse(f"its input has a border {border} that is as wide as the window {at.kernel}")
    _pool(walk, op, source, at, "max")
    if any(walk.readers[tensor] for tensor in op.node.outputs[1:] if tensor):
        places.take(walk, op, source)


def average_pool(walk: Walk, op: Op) -> None:
    """AveragePool."""
    counts = op.flag("count_include_pad", 0)
    source, border = image_read(walk, op, lambda fill, _: fill == 0)
    at = place(op, walk.shapes[source], pair_of(op, "kernel_shape", None), border)
    if at.dilation != (1, 1):
        op.refuse(f"dilations {at.dilation}: windows with gaps are not known here")
    _pool(walk, op, source, at, "ave", counts=counts)


def _pool(walk: Walk, op: Op, source: str, at: Place, mode: Literal["max", "ave"], *, counts: bool = False) -> None:
    shape = walk.shapes[source]

    def make(pad: Pair, rounding: Rounding) -> layers.Pool:
        return layers.Pool(
            name=op.out,
            inputs=(source,),
            mode=mode,
            kernel=at.kernel,
            stride=at.stride,
            pad=pad,
            rounding=rounding,
        )

    found, theirs = fitted(make, shape, at), divisors(at, padding_counts=counts)
    whole = at.out == (1, 1) and all(at.kernel[i] >= at.start[i] + at.image[i] for i in (0, 1))
    if (found is None or found[1]) and whole and (mode == "max" or theirs.item() == prod(shape[1:])):
        walk.put(op.out, layers.Pool(name=op.out, inputs=(source,), mode=mode, global_pool=True))
        return
    if found is None:
        op.refuse(f"kernel {at.kernel} with pads {at.before} and {at.after} cannot be had with Caffe's windows")
    layer, cuts = found
    ours = our_divisors(window(layer, shape), shape)
    for axis, (start, stop) in cuts.items():
        ours = ours.take(range(start, stop), axis - 2)
    corrected = mode == "ave" and not np.array_equal(ours, theirs)
    if corrected and not theirs.all():
        op.refuse("some window holds no pixel to take the average of")
    last = walk.step(op.out, "padded") if corrected else op.out
    name = walk.step(op.out, "whole") if cuts else last
    walk.cut(last, walk.add(replace(layer, name=name)), cuts)
    if corrected:
        # Where padding does not count, sums that were divided by all cells of a window are divided anew.
        share = (ours / theirs).astype(np.float32)
        walk.inexact[op.out] = f"what {op.out!r} divides its sums by was computed"
        walk.put(op.out, layers.Scale(name=op.out, inputs=(last,), axis=2, num_axes=2), weight=share)


def global_pool(walk: Walk, op: Op) -> None:
    """GlobalMaxPool and GlobalAveragePool."""
    mode: Literal["max", "ave"] = "max" if op.node.op == "GlobalMaxPool" else "ave"
    source, _ = image_read(walk, op, lambda fill, _: False)
    walk.put(op.out, layers.Pool(name=op.out, inputs=(source,), mode=mode, global_pool=True))


_REDUCTIONS: dict[str, Literal["sum", "asum", "sumsq", "mean"]] = {
    "ReduceMean": "mean",
    "ReduceSum": "sum",
    "ReduceL1": "asum",
    "ReduceL2": "sumsq",
    "ReduceSumSquare": "sumsq",
}


def reduce(walk: Walk, op: Op) -> None:
    """ReduceMean and its like: over an image, or over all axes from one on."""
    view, given = walk.view(op.reads()), op.listed("axes", 1)
    keeps, idles = op.flag("keepdims", 1), op.flag("noop_with_empty_axes", 0)
    rank = len(view.shape)
    if not given and idles:
        walk.values[op.out] = view
        return
    axes = sorted({op.place_of(axis, rank) for axis in given}) if given else list(range(rank))
    if view.shape != walk.moved(view):
        view = walk.whole(walk.plain(op.reads()))
    inner = sorted(view.order[axis] for axis in axes)
    shape = tuple(1 if i in axes else size for i, size in enumerate(view.shape) if keeps or i not in axes)
    images = {"ReduceMean": "ave", "ReduceMax": "max"}
    if inner == [2, 3] and len(view.order) == 4 and op.node.op in images:
        mode: Literal["max", "ave"] = "max" if op.node.op == "ReduceMax" else "ave"
        name = walk.add(layers.Pool(name=op.out, inputs=(view.activation,), mode=mode, global_pool=True))
        whole = walk.whole(name)
        walk.values[op.out] = (
            replace(whole, shape=shape) if view.in_order or not keeps else replace(view, activation=name, shape=shape)
        )
        return
    if op.node.op == "ReduceMax" and len(inner) == 1 != inner[0] + 1:
        name = walk.add(layers.ArgMax(name=op.out, inputs=(view.activation,), out_max_val=True, axis=inner[0]))
        walk.values[op.out] = replace(
            walk.whole(name) if view.in_order else replace(view, activation=name), shape=shape
        )
        return
    if op.node.op not in _REDUCTIONS or inner[0] == 0:
        op.refuse(
            f"over the axes {tuple(axes)} of {walk.told(view.shape)}: not over the batch, nor maxima but of images"
        )
    walk.values[op.out] = replace(_reduced(walk, op, view, inner), shape=shape)


def _reduced(walk: Walk, op: Op, view: View, inner: list[int]) -> View:
    """All axes of some numbers, in the order that they have here, made one."""
    source, rest = view.activation, [i for i in range(len(view.shape)) if i not in inner]
    if inner[0] < len(rest):  # a Reduction is of all axes from one on: the others come first
        order = (*rest, *inner)
        source = walk.add(layers.Permute(name=walk.step(op.out, "rest_first"), inputs=(source,), order=order))
    is_root = op.node.op == "ReduceL2"
    name = walk.step(op.out, "squares") if is_root else op.out
    walk.add(layers.Reduction(name=name, inputs=(source,), operation=_REDUCTIONS[op.node.op], axis=len(rest)))
    return walk.whole(walk.add(layers.Power(name=op.out, inputs=(name,), power=0.5)) if is_root else name)


def arg_max(walk: Walk, op: Op) -> None:
    """ArgMax."""
    view = walk.view(op.reads())
    axis, keeps = op.integer("axis", 0), op.flag("keepdims", 1)
    if not op.flag("select_last_index", 0):
        _say_ties(walk, op.out, "ArgMax")
    source = walk.plain(op.reads())
    axis = op.place_of(axis, len(view.shape))
    name = walk.add(layers.ArgMax(name=op.out, inputs=(source,), axis=axis))
    whole = walk.whole(name)
    shape = whole.shape if keeps else (*whole.shape[:axis], *whole.shape[axis + 1 :])
    walk.values[op.out] = replace(whole, shape=shape)


def top_k(walk: Walk, op: Op) -> None:
    """TopK, the greatest first: the numbers, and where they stand."""
    view, axis = walk.view(op.reads()), op.integer("axis", -1)
    given = op.listed("k", 1) if op.opset > 9 else (op.integer("k", 0),)
    if not op.flag("largest", 1) or not op.flag("sorted", 1) or given is None or len(given) != 1:
        op.refuse("takes other things than the greatest numbers in their order")
    axis, source = op.place_of(axis, len(view.shape)), walk.plain(op.reads())
    for tensor, is_value in zip(op.node.outputs, (True, False), strict=False):
        if tensor and walk.readers[tensor]:
            layer = layers.ArgMax(name=tensor, inputs=(source,), top_k=given[0], axis=axis, out_max_val=is_value)
            walk.put(tensor, layer)
            if not is_value:
                _say_ties(walk, tensor, "TopK")


def _say_ties(walk: Walk, tensor: str, kind: str) -> None:
    walk.inexact[tensor] = f"of equal numbers {tensor!r} takes the first, not the last"
    walk.notes.append(f"{tensor!r}: of equal numbers {kind} takes the first there, and the last here, as in Caffe")


def resize(walk: Walk, op: Op) -> None:
    """Resize and Upsample: bilinear with aligned corners, or each pixel repeated."""
    source = walk.plain(op.reads())
    shape = walk.shapes[source]
    if len(shape) != 3:
        op.refuse(f"reads {walk.told(walk.whole(source).shape)}; images alone are resized here")
    sizes = _sizes(walk, op, shape)
    mode = op.text("mode", "nearest")
    how = op.text("coordinate_transformation_mode", "half_pixel" if op.opset > 10 else "asymmetric")
    near = op.text("nearest_mode", "round_prefer_floor" if op.opset > 10 else "floor")
    for name in ("exclude_outside", "antialias"):
        if op.integer(name, 0):
            op.refuse(f"{name} is not known here")
    if op.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        op.refuse("keep_aspect_ratio_policy: sizes that are not taken as they stand are not known here")
    op.passes_over("cubic_coeff_a", "extrapolation_value")  # of modes that are refused
    times = [sizes[2 + i] / shape[1 + i] for i in (0, 1)]
    if mode == "linear" and how == "align_corners":
        walk.put(op.out, layers.Interp(name=op.out, inputs=(source,), size=(sizes[2], sizes[3])))
        return
    whole = all(time >= 1 and time == int(time) for time in times)
    if mode in ("linear", "bilinear") and how in _LINES and whole and max(times) <= _MOST_TIMES:
        _between(walk, op, source, (int(times[0]), int(times[1])), centred=how != "asymmetric")
        return
    repeats = (how == "asymmetric" and near == "floor") or (how == "half_pixel" and near.startswith("round"))
    if mode == "nearest" and repeats and whole:
        step = (int(times[0]), int(times[1]))
        layer = layers.Deconv(
            name=op.out, inputs=(source,), out_channels=shape[0], kernel=step, stride=step, groups=shape[0], bias=False
        )
        walk.put(op.out, layer, weight=np.broadcast_to(np.float32(1), (shape[0], 1, *step)))
        return
    op.refuse(
        f"mode {mode!r} with {how!r} and {near!r}, {times[0]:g} x {times[1]:g} times as large: known here are linear "
        f"with align_corners, and each pixel repeated, or lines between them (up to {_MOST_TIMES} times), a whole "
        "number of times"
    )


def _sizes(walk: Walk, op: Op, shape: Shape) -> tuple[int, ...]:
    """What an image of a shape is resized to, N x C x H x W."""
    scales, sizes = _scales(op), op.listed("sizes", 3) if op.has(3) else None
    if sizes is None and scales is None:
        op.refuse("says neither its scales nor its sizes")
    if sizes is None and scales is not None:
        exact = [side * scale for side, scale in zip((1, *shape), scales, strict=True)]
        sizes = tuple(int(size) for size in exact)
        if scales[:2] != (1.0, 1.0) or list(sizes) != exact:
            op.refuse(f"scales {scales} change more than height and width, or give no whole sizes")
    sizes = sizes or ()
    if len(sizes) != 4 or (sizes[0] not in (1, walk.batch)) or sizes[1] != shape[0]:
        op.refuse(f"sizes {sizes} change more than height and width")
    return sizes


# The weights of lines between pixels are twice as wide and high.
_MOST_TIMES = 256
# Where ONNX begins to count, on which lines between pixels are drawn.
_LINES = ("half_pixel", "pytorch_half_pixel", "asymmetric")


def _between(walk: Walk, op: Op, source: str, times: Pair, *, centred: bool) -> None:
    """Lines between pixels, drawn by a Deconv; at the edge, where one is missing, sums are divided by weights."""
    shape, axes = walk.shapes[source], (0, 1)
    kernel = [2 * n - n % 2 if centred else 2 * n - 1 for n in times]
    sides = [1 - np.abs(np.arange(k) - (k - 1) / 2) / n for k, n in zip(kernel, times, strict=True)]
    starts = [(n // 2) if centred else n - 1 for n in times]
    weight = np.broadcast_to(np.outer(*sides).astype(np.float32), (shape[0], 1, *kernel))
    layer = layers.Deconv(
        name=walk.step(op.out, "whole"),
        inputs=(source,),
        out_channels=shape[0],
        kernel=(kernel[0], kernel[1]),
        stride=times,
        groups=shape[0],
        bias=False,
    )
    ends = [starts[i] + times[i] * shape[1 + i] for i in axes]
    sums = list[Array]()
    for i in axes:
        spread = np.zeros(times[i] * (shape[1 + i] - 1) + 1)
        spread[:: times[i]] = 1
        sums.append(np.convolve(spread, sides[i])[starts[i] : ends[i]])
    last = walk.step(op.out, "cut")
    walk.cut(last, walk.add(layer, weight=weight), {2 + i: (starts[i], ends[i]) for i in axes})
    share = (1 / np.outer(*sums)).astype(np.float32)
    walk.inexact[op.out] = f"what {op.out!r} weighs pixels with was computed"
    name = walk.view(last).activation
    walk.put(op.out, layers.Scale(name=op.out, inputs=(name,), axis=2, num_axes=2), weight=share)


def _scales(op: Op) -> tuple[float, ...] | None:
    if op.node.op == "Upsample" and op.opset < 7:
        return 1.0, 1.0, op.number("height_scale", 0.0), op.number("width_scale", 0.0)
    if op.node.op == "Upsample" and op.opset < 9:
        found = op.other("scales")
        return tuple(float(x) for x in found) if isinstance(found, np.ndarray) else None
    at = 1 if op.opset < 11 else 2
    if not op.has(at):
        return None
    found = op.weight(at, "scales")
    return tuple(float(x) for x in found.reshape(-1)) if found.size == 4 else None
