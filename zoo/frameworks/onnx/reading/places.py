"""Where the maxima of a pool stand, and numbers put back there: PyTorch's unpooling.

ONNX counts places through the whole tensor, PyTorch through each map. torch.onnx turns the one into the other by what
the first pixel of each map has for its number, and back before it scatters; those numbers are followed, never made.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from zoo.frameworks.onnx.reading.folding import OPEN_BATCH, reshaped_to, slices
from zoo.frameworks.onnx.reading.op import Op
from zoo.frameworks.onnx.reading.walk import Counted, Places, Value, Walk
from zoo.layers import Constant, Pool, PoolMask, Shape, Unpool

_MOVES = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")


def take(walk: Walk, op: Op, source: str) -> None:
    """The second output of a MaxPool that is a `Pool` of a whole activation."""
    tensor, made, shape = op.node.outputs[1], walk.layer(op.out), walk.whole(source).shape
    if op.flag("storage_order", 0) or walk.values.get(op.reads()) != walk.whole(source) or not isinstance(made, Pool):
        op.refuse("where its maxima stand is known here of images that are not padded apart, counted along rows")
    if made.kernel == made.stride == (1, 1) and not made.global_pool:
        walk.values[tensor] = Counted(step=1, shape=shape)
        return
    mask = PoolMask(
        name=tensor,
        inputs=(source,),
        kernel=made.kernel,
        stride=made.stride,
        pad=made.pad,
        rounding=made.rounding,
        global_pool=made.global_pool,
    )
    view = walk.whole(walk.add(mask))
    walk.values[tensor] = Places(view=view, shape=view.shape, maps=(shape[2], shape[3]), through=True)


def follows(walk: Walk, op: Op) -> bool:
    """Take a node in that counts places otherwise; False where it does not."""
    made = _followed(walk, op)
    if made is None:
        return False
    op.check()
    walk.values[op.out] = made
    return True


def _followed(walk: Walk, op: Op) -> Value | None:
    kind, value = op.node.op, walk.values.get(op.node.inputs[0]) if op.node.inputs else None
    if kind == "Range" and walk.batch == OPEN_BATCH:
        start, limit, step = (int(op.stored(i, "limits").reshape(-1)[0]) for i in range(3))
        is_batch = limit > 0 == limit % OPEN_BATCH and (start, step) == (0, 1)
        return Counted(step=1, shape=(limit,)) if is_batch else None
    if not isinstance(value, Counted | Places):
        return None
    if kind in _MOVES:
        shape = reshaped_to(op, value.shape)
        return replace(value, shape=shape) if prod(shape) == prod(value.shape) else None
    if isinstance(value, Places):
        return _counted_again(walk, op, value) if kind in ("Add", "Sub") else None
    if kind == "Slice":
        return _firsts(op, value)
    factor = op.constant(1) if kind == "Mul" else None
    return None if factor is None or factor.size != 1 else replace(value, step=value.step * int(factor.reshape(())))


def _firsts(op: Op, value: Counted) -> Counted | None:
    """The first of all numbers along the last axes."""
    cut = {axis for axis, start, stop, _ in slices(op, value.shape) if (start, stop) == (0, 1)}
    axes = sorted(cut)
    if len(slices(op, value.shape)) != len(axes) or axes != [*range(len(value.shape) - len(axes), len(value.shape))]:
        return None
    rest = value.shape[: -len(axes)]
    return Counted(step=value.step * prod(value.shape[len(rest) :]), shape=(*rest, *[1] * len(axes)))


def _counted_again(walk: Walk, op: Op, value: Places) -> Places | None:
    """Places less or more what the first pixel of their map has for its number."""
    adds, wanted = op.node.op == "Add", Counted(step=prod(value.maps), shape=(*value.view.shape[:2], 1, 1))
    stored, found = op.constant(1), walk.values.get(op.reads(1))
    if stored is not None and stored.shape == wanted.shape:
        found = wanted if np.array_equal(stored.reshape(-1), np.arange(stored.size) * wanted.step) else None
    right = found == wanted and value.shape == value.view.shape and value.through != adds
    return replace(value, through=adds) if right else None


def unpool(walk: Walk, op: Op) -> None:
    """ScatterND and ScatterElements of the numbers of a pool into zeros: an Unpool."""
    places, numbers = walk.values.get(op.reads(1)), walk.view(op.reads(2))
    if not isinstance(places, Places):
        op.refuse("puts numbers elsewhere than where the maxima of a pool stood")
    items = places.view.shape
    whole, zeros = (*items[:2], *places.maps), _zeros(walk, op)
    if op.node.op == "ScatterND":
        fits = places.through and places.shape == (prod(items), 1) and zeros == (prod(whole),)
    else:
        rows, last = (*items[:2], prod(items[2:])), op.place_of(op.integer("axis", 0), len(zeros)) == len(zeros) - 1
        fits = last and not places.through and places.shape == rows and zeros == (*items[:2], prod(places.maps))
    if op.text("reduction", "none") != "none" or not fits or not numbers.in_order or walk.moved(numbers) != items:
        op.refuse(f"puts numbers in other maps than those of {walk.told(whole)} that were pooled")
    mask = walk.layer(places.view.activation)
    if isinstance(mask, PoolMask) and any(step < side for step, side in zip(mask.stride, mask.kernel, strict=True)):
        walk.inexact[op.out] = f"of numbers that meet in {op.out!r}, ONNX leaves open which stands"
    made = walk.add(Unpool(name=op.out, inputs=(numbers.activation, places.view.activation), size=places.maps))
    walk.values[op.out] = replace(walk.whole(made), shape=zeros)


def _zeros(walk: Walk, op: Op) -> Shape:
    """The shape of the first input, which is nothing but zeros."""
    stored = op.constant(0)
    if stored is not None and not stored.any():
        return stored.shape
    made = None if stored is not None else walk.layer(walk.view(op.reads()).activation)
    if not isinstance(made, Constant) or made.value != 0:
        op.refuse("puts numbers among others than zeros")
    return walk.view(op.reads()).shape
