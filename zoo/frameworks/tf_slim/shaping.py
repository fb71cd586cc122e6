"""Reshaping, joining and cutting, in canonical order."""

from __future__ import annotations

from math import prod
from typing import assert_never

from zoo.frameworks.tf_slim.calls import Expression, call
from zoo.frameworks.tf_slim.site import Site, canonical, native, native_axis
from zoo.layers import Concat, Constant, Crop, Flatten, Permute, Reshape, Shape, Shaping, Shuffle, Slice, Tile
from zoo.shapes import cuts, first_cut, layer_parameters, permutation


def expression(layer: Shaping, at: Site) -> Expression:
    """The family's part of `zoo.frameworks.tf_slim.table.Table.expression`."""
    if isinstance(layer, Constant):
        return _constant(layer, at)
    x, shape = at.inputs[0], at.shapes[0]
    match layer:
        case Flatten():
            if len(at.shape) == 1 and prod(at.shape) == prod(shape):
                return call("slim.flatten", canonical(x, shape), scope=at.scope)
            return _reshape(x, shape, at.shape, at.scope)
        case Concat():
            return call("tf.concat", [*at.inputs], native_axis(layer, layer.axis, shape), name=at.scope)
        case Slice():
            axis, rank = native_axis(layer, layer.axis, shape), len(shape) + 1
            begin = [layer.start if i == axis else 0 for i in range(rank)]
            size = [layer.stop - layer.start if i == axis else -1 for i in range(rank)]
            return call("tf.slice", x, begin, size, name=at.scope)
        case Reshape():
            return _reshape(x, shape, at.shape, at.scope)
        case Permute():
            return native(call("tf.transpose", canonical(x, shape), [*permutation(layer, shape)]), at.shape)
        case Crop():
            return _crop(layer, at)
        case Shuffle():
            groups = [-1, layer.groups, shape[0] // layer.groups, *shape[1:]]
            order = [0, 2, 1, *range(3, len(groups))]
            turns = call("tf.transpose", call("tf.reshape", canonical(x, shape), groups), order)
            return native(call("tf.reshape", turns, [-1, *shape]), shape)
        case Tile():
            axis = native_axis(layer, layer.axis, shape)
            times = [layer.tiles if i == axis else 1 for i in range(len(shape) + 1)]
            return call("tf.tile", x, times, name=at.scope)
        case _:
            assert_never(layer)


def _constant(layer: Constant, at: Site) -> Expression:
    if layer.value is None:
        (row,) = layer_parameters(layer, at.shapes)
        initializer = call("tf.constant_initializer", row.start)
        value = call("slim.model_variable", f"{at.scope}/{row.slim}", [*layer.shape], initializer=initializer)
    else:
        value = call("tf.constant", layer.value, shape=[*layer.shape], name=at.scope)
    whole = call("items_of", value, at.inputs[0]) if at.inputs else value
    return native(whole, at.shape)


def _reshape(x: Expression, before: Shape, after: Shape, scope: str) -> Expression:
    if before == after:
        return call("tf.identity", x, name=scope)
    return native(call("tf.reshape", canonical(x, before), [-1, *after]), after)


def _crop(layer: Crop, at: Site) -> Expression:
    x, shape = at.inputs[0], at.shapes[0]
    found = cuts(layer, at.shapes)
    found = [*found[1:], found[0]] if len(shape) == 3 else found
    begin, size = [start for start, _ in found], [stop - start for start, stop in found]
    first = first_cut(layer, shape)
    x = x if first is None else call("crop_batch", x, at.inputs[1], first)
    return call("tf.slice", x, [0, *begin], [-1, *size], name=at.scope)
