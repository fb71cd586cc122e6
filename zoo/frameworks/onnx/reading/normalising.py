"""Normalisation as ONNX has it."""

from __future__ import annotations

from dataclasses import replace
from math import e, prod

from zoo.frameworks.onnx.reading.op import Op
from zoo.frameworks.onnx.reading.walk import Walk
from zoo.layers import LRN, MVN, BatchNorm, Bias, Eltwise, Flatten, Pool, Power, Reshape, Scale, Softmax, Unary


def lrn(walk: Walk, op: Op) -> None:
    """LRN; over the channels of towers that were made images of their own, too."""
    size, alpha, beta = op.integer("size", 0), op.number("alpha", 1e-4), op.number("beta", 0.75)
    view = walk.view(op.reads())
    item = walk.shapes[view.activation]
    batch = walk.firsts[view.activation]
    towers = view.shape[0] // batch
    are_towers = (
        view.in_order
        and towers > 1
        and len(view.shape) > 2
        and view.shape[:2] == (batch * towers, item[0] // towers)
        and item[0] % towers == 0
        and prod(view.shape[2:]) == prod(item[1:])
    )
    if not are_towers:
        towers, view = 1, walk.whole(walk.plain(op.reads()))
    if size < 1 or size % 2 == 0:
        op.refuse(f"its window is {size} channels: an even window is not known here")
    layer = LRN(
        name=op.out,
        inputs=(view.activation,),
        size=size,
        alpha=alpha,
        beta=beta,
        k=op.number("bias", 1.0),
        towers=towers,
    )
    walk.put(op.out, layer, view)


def batch_norm(walk: Walk, op: Op) -> None:
    """BatchNormalization: a BatchNorm, and a Scale unless that would change nothing."""
    eps = op.number("epsilon", 1e-5)
    op.integer("is_test", 1)
    if op.flag("training_mode", 0) or (op.opset < 7 and not op.flag("is_test", 0)):
        op.refuse("is in training mode: it would take its statistics from the batch; export the model for inference")
    if op.integer("spatial", 1) != 1:
        op.refuse("spatial 0: statistics of every pixel are not known here")
    source = walk.plain(op.reads())
    channels = walk.shapes[source][0]
    factor, offset, mean, variance = (op.weight(i, what) for i, what in enumerate(_STATISTICS, 1))
    for what, array in zip(_STATISTICS, (factor, offset, mean, variance), strict=True):
        if array.shape != (channels,):
            op.refuse(f"its {what} {array.shape} is not one number for each of {channels} channels")
    idle = bool((factor == 1).all() and not offset.any())
    name = walk.add(
        BatchNorm(name=op.out if idle else walk.step(op.out, "norm"), inputs=(source,), eps=eps),
        mean=mean,
        variance=variance,
    )
    if not idle:
        walk.add(Scale(name=op.out, inputs=(name,), bias=True), weight=factor, bias=offset)
    walk.values[op.out] = walk.whole(op.out)


_STATISTICS = ("scale", "offset", "mean", "variance")


def instance_norm(walk: Walk, op: Op) -> None:
    """InstanceNormalization, written out: ``(x - mean) / sqrt(variance + epsilon)`` of each map, and a Scale."""
    source, eps = walk.plain(op.reads()), op.number("epsilon", 1e-5)
    shape, factor, offset = walk.shapes[source], op.weight(1, "scale"), op.weight(2, "offset")
    if len(shape) not in (2, 3) or factor.shape != shape[:1] or offset.shape != shape[:1]:
        op.refuse(f"scale {factor.shape} and offset {offset.shape} do not fit {walk.told(walk.whole(source).shape)}")

    def step(what: str) -> str:
        return walk.step(op.out, what)

    if len(shape) == 2:
        source = walk.add(Reshape(name=step("image"), inputs=(source,), dims=(0, *shape, 1)))
    mean = walk.add(Pool(name=step("mean"), inputs=(source,), mode="ave", global_pool=True))
    minus = walk.add(Power(name=step("minus"), inputs=(mean,), scale=-1.0))
    row = walk.add(Flatten(name=step("minus_row"), inputs=(minus,)))
    centred = walk.add(Bias(name=step("centred"), inputs=(source, row), axis=0))
    squares = walk.add(Eltwise(name=step("squares"), inputs=(centred, centred), operation="prod"))
    variance = walk.add(Pool(name=step("variance"), inputs=(squares,), mode="ave", global_pool=True))
    inverse = walk.add(Power(name=step("inverse"), inputs=(variance,), power=-0.5, shift=eps))
    factors = walk.add(Flatten(name=step("inverse_row"), inputs=(inverse,)))
    normed = walk.add(Scale(name=step("norm"), inputs=(centred, factors), axis=0))
    walk.put(op.out, Scale(name=op.out, inputs=(normed,), bias=True), weight=factor, bias=offset)
    walk.values[op.out] = replace(walk.whole(op.out), shape=(walk.firsts[op.out], *shape))


def mean_variance_norm(walk: Walk, op: Op) -> None:
    """MeanVarianceNormalization, over each map or each item."""
    source, axes = walk.plain(op.reads()), op.integers("axes", (0, 2, 3))
    if len(walk.shapes[source]) != 3 or axes not in ((2, 3), (1, 2, 3)):
        op.refuse(f"over the axes {axes}: over (2, 3) or (1, 2, 3) of images is known here")
    walk.put(op.out, MVN(name=op.out, inputs=(source,), across_channels=axes == (1, 2, 3)))


def softmax(walk: Walk, op: Op) -> None:
    """Softmax and LogSoftmax; before operator set 13 all axes from one on are one."""
    log, view = op.node.op == "LogSoftmax", walk.view(op.reads())
    axis = op.place_of(op.integer("axis", 1 if op.opset < 13 else -1), len(view.shape))
    merges = op.opset < 13 and prod(view.shape[axis + 1 :]) > 1
    last = walk.step(op.out, "softmax") if log else op.out
    if not merges and view.shape == walk.moved(view) and not view.in_order:
        walk.put(last, Softmax(name=last, inputs=(view.activation,), axis=view.order[axis]), view)
    else:
        source = walk.plain(op.reads())
        shape = walk.shapes[source]
        if axis == 0:
            op.refuse("along the batch; items are to stay apart")
        if merges:
            rows = walk.add(Flatten(name=walk.step(op.out, "rows"), inputs=(source,), axis=axis))
            soft = walk.add(Softmax(name=walk.step(op.out, "of_rows"), inputs=(rows,), axis=axis))
            walk.put(last, Reshape(name=last, inputs=(soft,), dims=(0, *shape)))
        else:
            walk.put(last, Softmax(name=last, inputs=(source,), axis=axis))
    if log:
        made = walk.view(last)
        walk.put(op.out, Unary(name=op.out, inputs=(made.activation,), function="log", numbers=(e, 1.0, 0.0)), made)
