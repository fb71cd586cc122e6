"""VALID pooling after explicit borders: TensorFlow has neither Caffe's rounding up nor its padding."""

from __future__ import annotations

from zoo.frameworks.tf_slim.calls import Expression, Name, call
from zoo.frameworks.tf_slim.site import Site, padded, pair
from zoo.layers import Pooling
from zoo.shapes import window


def expression(layer: Pooling, at: Site) -> Expression:
    """The family's part of `zoo.frameworks.tf_slim.table.Table.expression`."""
    x, shape, scope = at.inputs[0], at.shapes[0], at.scope
    place = window(layer, shape)
    kernel, stride = [*place.kernel], pair(place.stride)
    if layer.mode == "max":
        bordered = padded(x, place.before, place.after, Name("tf.float32.min"))
        return call("slim.max_pool2d", bordered, kernel, stride, scope=scope)
    pad = (0, 0) if layer.global_pool else layer.pad
    if place.after[0] <= pad[0] and place.after[1] <= pad[1]:
        return call("slim.avg_pool2d", padded(x, place.before, place.after), kernel, stride, scope=scope)
    overhang = [max(place.after[0] - pad[0], 0), max(place.after[1] - pad[1], 0)]
    return call("clipped_avg_pool2d", x, kernel, stride, [*pad], overhang, scope=scope)
