"""The same numbers in another shape, or a part of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from zoo.arrays import Array
from zoo.frameworks.onnx.reading.composed import edges
from zoo.frameworks.onnx.reading.folding import OPEN_BATCH, filling, reshaped_to, sizes_of, slices, split_sizes
from zoo.frameworks.onnx.reading.op import Op, short
from zoo.frameworks.onnx.reading.walk import Padded, View, Walk
from zoo.frameworks.onnx.reading.weighted import embed
from zoo.layers import Concat, Constant, Conv, Deconv, Pair, Pool, Shape, Shuffle, Slice, Tile


def reshape(walk: Walk, op: Op) -> None:
    """Reshape, Flatten, Squeeze and Unsqueeze: the tensor is another view of its activation."""
    view = walk.view(op.reads())
    shape, count = reshaped_to(op, view.shape), prod(view.shape)
    if shape and shape[0] == 1 != walk.batch and prod(shape) * walk.batch == count:
        shape = (walk.batch, *shape[1:])  # exported at batch 1, and the other sizes say that this is it
    if prod(shape) != count:
        op.refuse(f"cannot make {walk.told(shape)} of {walk.told(view.shape)}")
    made, own = replace(view, shape=shape), walk.whole(view.activation)
    layer = walk.layer(view.activation)
    if made == own != view and layer and op.reads() == layer.name and walk.readers[layer.name] == 1:
        # What came before is this layer in another shape, and nobody else reads it: this is its name.
        walk.rename(layer.name, replace(layer, name=op.out))
        made = walk.whole(op.out)
    walk.values[op.out] = made


def transpose(walk: Walk, op: Op) -> None:
    """Transpose: of a view whose axes were not merged, another order; of channels taken apart, a Shuffle."""
    view = walk.view(op.reads())
    rank = len(view.shape)
    order = op.integers("perm") or tuple(reversed(range(rank)))
    if sorted(order) != list(range(rank)) or order[0] != 0:
        op.refuse(f"moves the batch, or is no order of {rank} axes: {order}")
    if _makes_blocks(walk, op, view, order):
        return
    item = walk.shapes[view.activation]
    if order == (0, 2, 1, *range(3, rank)) and _takes_apart(view, item):
        groups = view.shape[1]
        name = walk.add(Shuffle(name=op.out, inputs=(view.activation,), groups=groups))
        turned = (view.shape[0], view.shape[2], groups, *view.shape[3:])
        walk.values[op.out] = replace(walk.whole(name), shape=turned)
        return
    view = _unmerged(walk, op.reads())
    made = View(
        activation=view.activation,
        order=tuple(view.order[i] for i in order),
        shape=tuple(view.shape[i] for i in order),
    )
    walk.values[op.out] = made


def _takes_apart(view: View, item: Shape) -> bool:
    """Whether the channels of an activation stand in groups, and nothing else has changed."""
    return (
        view.in_order
        and len(view.shape) > 3
        and view.shape[1] * view.shape[2] == item[0]
        and view.shape[3:] == item[1:]
    )


def _unmerged(walk: Walk, tensor: str) -> View:
    """A view of which every axis is one of the activation."""
    view = walk.view(tensor)
    return view if walk.moved(view) == view.shape else walk.whole(walk.plain(tensor))


def concat(walk: Walk, op: Op) -> None:
    """Concat."""
    views = [_unmerged(walk, name) for name in op.node.inputs]
    if len({view.order for view in views}) != 1:
        views = [walk.whole(name) for name in walk.plains(op.node.inputs)]
    if op.opset > 3 and op.other("axis") is None:
        op.refuse("does not say its axis")
    axis = op.integer("axis", 1)
    axis = op.place_of(axis, len(views[0].shape))
    if axis == 0 and walk.batch != OPEN_BATCH:
        op.refuse("joins batches; items are to stay apart")
    if len({(len(view.shape), 0 if axis == 0 else view.shape[0]) for view in views}) != 1:
        op.refuse(f"joins {', '.join(walk.told(view.shape) for view in views)}")
    order = views[0].order
    if order[axis] == 1 and _joins_groups(walk, op, [view.activation for view in views]):
        walk.values[op.out] = replace(views[0], activation=op.out, shape=_as(walk, op.out, order))
        return
    layer = Concat(name=op.out, inputs=tuple(view.activation for view in views), axis=order[axis])
    name = walk.add(layer)
    walk.values[op.out] = View(activation=name, order=order, shape=_as(walk, name, order))


def _as(walk: Walk, activation: str, order: tuple[int, ...]) -> Shape:
    """The sizes of an activation with its axes in another order."""
    whole = walk.whole(activation).shape
    return tuple(whole[i] for i in order)


def _joins_groups(walk: Walk, op: Op, names: list[str]) -> bool:
    """Whether these are convolutions of the equal slices of one input, which nobody else reads: one of groups."""
    parts = [layer for name in names if isinstance(layer := walk.layer(name), Conv)]
    if len(parts) != len(names) or len(names) < 2:
        return False
    slices = [layer for part in parts if isinstance(layer := walk.layer(part.inputs[0]), Slice)]
    if len(slices) != len(parts):
        return False
    each = walk.shapes[slices[0].name][0]
    own = [(piece.inputs, piece.axis, piece.start, piece.stop) for piece in slices]
    if own != [(slices[0].inputs, 1, i * each, (i + 1) * each) for i in range(len(parts))] or any(
        replace(part, name="", inputs=()) != replace(parts[0], name="", inputs=()) for part in parts
    ):
        return False
    gone = {layer.name for layer in (*parts, *slices)}
    source = slices[0].inputs[0]
    if parts[0].groups != 1 or walk.shapes[source][0] != each * len(parts) or any(walk.readers[n] != 1 for n in gone):
        return False
    roles = {
        role: np.concatenate([walk.parameters.pop(f"{part.name}.{role}") for part in parts])
        for role in (("weight", "bias") if parts[0].bias else ("weight",))
    }
    walk.layers = [layer for layer in walk.layers if layer.name not in gone]
    whole = replace(
        parts[0],
        name=op.out,
        inputs=(source,),
        out_channels=parts[0].out_channels * len(parts),
        groups=len(parts),
    )
    walk.add(whole, **roles)
    return True


def _cut(walk: Walk, tensor: str, view: View, ranges: Sequence[tuple[int, int, int]]) -> None:
    """A part of a view, an axis each: from, to."""
    source = view.activation
    for i, (axis, start, stop) in enumerate(ranges):
        name = tensor if i == len(ranges) - 1 else walk.step(tensor, f"cut{axis}")
        source = walk.add(Slice(name=name, inputs=(source,), start=start, stop=stop, axis=view.order[axis]))
    walk.values[tensor] = View(activation=source, order=view.order, shape=_as(walk, source, view.order))


def split(walk: Walk, op: Op) -> None:
    """Split: a Slice for each piece."""
    view = _unmerged(walk, op.reads())
    axis, sizes = split_sizes(op, view.shape)
    if axis == 0:
        op.refuse("splits the batch; items are to stay together")
    start = 0
    for tensor, size in zip(op.node.outputs, sizes, strict=True):
        if tensor:
            _cut(walk, tensor, view, [(axis, start, start + size)])
        start += size


def slice_(walk: Walk, op: Op) -> None:
    """Slice: a part in one piece; of height and width every n-th pixel, too, as a pool of one pixel takes them."""
    view = _unmerged(walk, op.reads())
    found, steps = list[tuple[int, int, int]](), dict[int, int]()
    for axis, start, stop, step in slices(op, view.shape):
        place = view.order[axis]
        if stop is None or start >= stop or (step != 1 and (step < 1 or len(view.order) != 4 or place < 2)):
            op.refuse(f"takes {start}:{stop}:{step} of axis {axis}: parts in one piece are known here")
        if (start, stop) != (0, view.shape[axis]):
            if axis == 0 and (walk.batch != OPEN_BATCH or stop > OPEN_BATCH // 2):
                op.refuse("takes a part of the batch that depends on its size, or of one of a fixed size")
            if axis == 0:
                walk.notes.append(f"{op.out!r} takes items {start} to {stop}: here a batch has to have as many")
            found.append((axis, start, stop))
        if step > 1:
            steps[place] = step
    piece = walk.step(op.out, "piece") if steps else op.out
    _cut(walk, piece, view, found)
    if steps:
        part, stride = walk.view(piece), (steps.get(2, 1), steps.get(3, 1))
        pool = Pool(name=op.out, inputs=(part.activation,), mode="max", stride=stride, rounding="floor")
        name = walk.add(pool)
        walk.values[op.out] = View(activation=name, order=view.order, shape=_as(walk, name, view.order))


def gather(walk: Walk, op: Op) -> None:
    """Gather: of rows of a table, an Embed; of one place of an activation, a Slice."""
    at = op.constant(1)
    if op.constant(0) is not None or at is None:
        embed(walk, op)
        return
    view = _unmerged(walk, op.reads())
    axis = op.place_of(op.integer("axis", 0), len(view.shape))
    place = int(at.reshape(-1)[0]) if at.size == 1 and at.dtype.kind == "i" else view.shape[axis]
    if not axis or not -view.shape[axis] <= place < view.shape[axis]:
        op.refuse(f"takes {at.size} places of axis {axis}: one place of an item is known here")
    place %= view.shape[axis]
    _cut(walk, op.out, view, [(axis, place, place + 1)])
    if not at.ndim:
        made = walk.whole(walk.plain(op.out))
        walk.values[op.out] = replace(made, shape=(*made.shape[:axis], *made.shape[axis + 1 :]))


def pad(walk: Walk, op: Op) -> None:
    """Pad with what the tensor holds; or height and width with a number, for a layer of windows to take in."""
    name = "paddings" if op.opset < 2 else "pads"
    pads, mode = op.listed(name, 1), op.text("mode", "constant")
    fill = op.scalar("value", 2, 0.0)
    view = _unmerged(walk, op.reads())
    rank = len(view.shape)
    if op.has(3) and pads is not None:
        axes = [op.place_of(int(axis), rank) for axis in op.stored(3, "axes").reshape(-1)]
        both = dict(zip(axes, zip(pads[: len(axes)], pads[len(axes) :], strict=True), strict=True))
        pads = tuple(both.get(i, (0, 0))[end] for end in (0, 1) for i in range(rank))
    if pads is None or len(pads) != 2 * rank or mode not in ("constant", "edge", "reflect", "wrap"):
        op.refuse(f"pads {pads} in mode {mode!r}: not known here")
    if not any(pads):
        walk.values[op.out] = view
        return
    sides = {i: (pads[i], pads[rank + i]) for i in range(rank)}
    if mode != "constant":
        edges(walk, op, {i: both for i, both in sides.items() if any(both)}, mode)
        return
    sides = {view.order[i]: both for i, both in sides.items()}
    if rank != 4 or any(sides[i] != (0, 0) for i in (0, 1)) or min(pads) < 0:
        op.refuse(f"pads {pads}: borders of height and width are known here")
    (top, bottom), (left, right) = sides[2], sides[3]
    walk.values[op.out] = Padded(view=view, before=(top, left), after=(bottom, right), fill=fill)


def repeat(walk: Walk, op: Op) -> None:
    """Expand and ConstantOfShape to as many items as there are: a Constant; Expand of an activation: a Tile."""
    is_filled = op.node.op == "ConstantOfShape"
    if not is_filled and op.constant(0) is None:
        _expand(walk, op)
        return
    array = filling(op) if is_filled else op.weight(0, "constant")
    sizes = sizes_of(op, op.stored(0 if is_filled else 1, "shape"))
    item = sizes[1:]
    if sizes[:1] != (walk.batch,) or walk.batch != OPEN_BATCH or min(item, default=1) < 1 or array.dtype != np.float32:
        op.refuse(f"repeats {array.dtype.name} numbers to {walk.told(sizes)}: float32 for each item is known here")
    beside = walk.inputs[0].name
    if array.size == 1:
        walk.put(op.out, Constant(name=op.out, inputs=(beside,), shape=item, value=short(array)))
    elif array.shape in (item, (1, *item)):
        walk.put(op.out, Constant(name=op.out, inputs=(beside,), shape=item), weight=array.reshape(item))
    else:
        op.refuse(f"repeats {walk.told(array.shape)} to {walk.told(sizes)}: numbers or items of one are known here")


def _expand(walk: Walk, op: Op) -> None:
    """Each axis of one number as often as the shape says."""
    sizes, shape = sizes_of(op, op.stored(1, "shape")), walk.whole(walk.plain(op.reads())).shape
    sizes = (1,) * (len(shape) - len(sizes)) + sizes
    if len(sizes) != len(shape) or any(b not in (1, a) for a, b in zip(shape, sizes, strict=True) if a != 1):
        op.refuse(f"cannot make {walk.told(sizes)} of {walk.told(shape)}")
    _tiled(walk, op, [1 if size in (1, shape[axis]) else size for axis, size in enumerate(sizes)])


def tile(walk: Walk, op: Op) -> None:
    """Tile."""
    times = op.listed("repeats", 1)
    if times is None or len(times) != len(walk.view(op.reads()).shape) or op.opset < 6:
        op.refuse(f"repeats {times}: a number for each axis is known here")
    _tiled(walk, op, times)


def _tiled(walk: Walk, op: Op, times: Sequence[int]) -> None:
    """An activation so many times along each axis."""
    source, along = walk.plain(op.reads()), [axis for axis, count in enumerate(times) if count != 1]
    if times[0] != 1 and walk.batch != OPEN_BATCH:
        op.refuse("repeats a batch of a fixed size")
    for axis in along:
        name = op.out if axis == along[-1] else walk.step(op.out, f"axis{axis}")
        source = walk.add(Tile(name=name, inputs=(source,), tiles=times[axis], axis=axis))
    walk.values[op.out] = walk.whole(source)


def depth_to_space(walk: Walk, op: Op) -> None:
    """DepthToSpace: channels become blocks of pixels."""
    side, first = op.integer("blocksize", 0), op.text("mode", "DCR") == "CRD"
    source = walk.plain(op.reads())
    shape = walk.shapes[source]
    known = op.text("mode", "DCR") in ("CRD", "DCR")
    if side < 1 or len(shape) != 3 or not known or shape[0] % side**2 or shape[0] > _MOST_CHANNELS:
        op.refuse(f"cannot make blocks of {side} x {side} of {walk.told(walk.whole(source).shape)}")
    block = (side, side)
    walk.put(op.out, _blocks(op.out, source, shape[0], block), weight=_places(shape[0], block, first=first))


def _blocks(name: str, source: str, channels: int, block: Pair) -> Deconv:
    """Channels as blocks of pixels: a Deconv with a single 1 for each channel."""
    outs = channels // prod(block)
    return Deconv(name=name, inputs=(source,), out_channels=outs, kernel=block, stride=block, bias=False)


# Of channels that become pixels: the weights that say where are as many as their square.
_MOST_CHANNELS = 4096


def _places(channels: int, block: Pair, *, first: bool) -> Array:
    """Which pixel of a block of which output each channel is; whether outputs stand first among the channels."""
    outs = channels // prod(block)
    weight = np.zeros((channels, outs, *block), np.float32)
    for at in range(channels):
        out, place = divmod(at, prod(block)) if first else (at % outs, at // outs)
        weight[at, out, place // block[1], place % block[1]] = 1
    return weight


# The order of axes that brings channels, taken apart, into blocks of pixels -> whether outputs stand first.
_INTO_BLOCKS: dict[tuple[int, ...], bool] = {(0, 1, 4, 2, 5, 3): True, (0, 3, 4, 1, 5, 2): False}


def _makes_blocks(walk: Walk, op: Op, view: View, order: tuple[int, ...]) -> bool:
    """Whether a Transpose is the middle of a DepthToSpace; then it is read as that."""
    first, item = _INTO_BLOCKS.get(order), walk.shapes[view.activation]
    if first is None or not view.in_order or len(item) != 3 or view.shape[4:] != item[1:] or item[0] > _MOST_CHANNELS:
        return False
    block = view.shape[2:4] if first else view.shape[1:3]
    if view.shape[0] != walk.firsts[view.activation] or prod(view.shape[1:4]) != item[0]:
        return False
    pair = (block[0], block[1])
    name = walk.add(_blocks(op.out, view.activation, item[0], pair), weight=_places(item[0], pair, first=first))
    walk.values[op.out] = replace(walk.whole(name), shape=tuple(view.shape[i] for i in order))
    return True
