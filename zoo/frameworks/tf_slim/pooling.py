"""VALID pooling after explicit borders: TensorFlow has neither Caffe's rounding up nor its padding."""

from __future__ import annotations

from typing import assert_never

from zoo.axes import axis_index
from zoo.frameworks.tf_slim.calls import Expression, Name, call
from zoo.frameworks.tf_slim.site import Site, canonical, native, padded, pair
from zoo.layers import ArgMax, Interp, Pool, Pooling, PoolMask, Reduction, Unpool
from zoo.shapes import interp_size, unpooled, window


def expression(layer: Pooling, at: Site) -> Expression:
    """The family's part of `zoo.frameworks.tf_slim.table.Table.expression`."""
    match layer:
        case Pool():
            return _pool(layer, at)
        case PoolMask():
            place = window(layer, at.shapes[0])
            sides = [[*place.kernel], [*place.stride], [*place.before], [*place.after]]
            return call("pool_mask", at.inputs[0], *sides, scope=at.scope)
        case Unpool():
            x, places = (canonical(x, at.shape) for x in at.inputs)
            return native(call("unpool", x, places, [*unpooled(layer, at.shapes[0])], scope=at.scope), at.shape)
        case Interp():
            return _interp(layer, at)
        case Reduction():
            return _reduction(layer, at)
        case ArgMax():
            x = canonical(at.inputs[0], at.shapes[0])
            axis = None if layer.axis is None else axis_index(layer.name, layer.axis, at.shapes[0])
            return native(call("arg_max", x, layer.top_k, layer.out_max_val, axis, scope=at.scope), at.shape)
        case _:
            assert_never(layer)


def _interp(layer: Interp, at: Site) -> Expression:
    x, shape, sides = at.inputs[0], at.shapes[0], interp_size(layer, at.shapes[0])
    if layer.pad_beg or layer.pad_end:
        size = [side + layer.pad_beg + layer.pad_end for side in shape[1:]]
        x = call("tf.slice", x, [0, -layer.pad_beg, -layer.pad_beg, 0], [-1, *size, -1])
    return call("tf.image.resize_bilinear", x, [*sides], align_corners=True, name=at.scope)


def _reduction(layer: Reduction, at: Site) -> Expression:
    x, shape = canonical(at.inputs[0], at.shapes[0]), at.shapes[0]
    axes = [*range(axis_index(layer.name, layer.axis, shape), len(shape) + 1)]
    x = {"asum": call("tf.abs", x), "sumsq": call("tf.square", x)}.get(layer.operation, x)
    total = call("tf.reduce_mean" if layer.operation == "mean" else "tf.reduce_sum", x, axes)
    return native(call("tf.multiply", total, layer.coeff, name=at.scope), at.shape)


def _pool(layer: Pool, at: Site) -> Expression:
    x, shape, scope = at.inputs[0], at.shapes[0], at.scope
    place = window(layer, shape)
    kernel, stride = [*place.kernel], pair(place.stride)
    if layer.mode == "max":
        bordered = padded(x, place, Name("tf.float32.min"))
        return call("slim.max_pool2d", bordered, kernel, stride, scope=scope)
    pad = (0, 0) if layer.global_pool else layer.pad
    if place.after[0] <= pad[0] and place.after[1] <= pad[1]:
        return call("slim.avg_pool2d", padded(x, place), kernel, stride, scope=scope)
    overhang = [max(place.after[0] - pad[0], 0), max(place.after[1] - pad[1], 0)]
    return call("clipped_avg_pool2d", x, kernel, stride, [*pad], overhang, scope=scope)
