"""Normalisation in TensorFlow's terms."""

from __future__ import annotations

from math import prod
from typing import assert_never

from zoo.frameworks.tf_slim.calls import Expression, Name, call
from zoo.frameworks.tf_slim.site import Site, native, native_axis, parameter
from zoo.layers import LRN, MVN, BatchNorm, Normalising, Normalize, Shape, Softmax
from zoo.shapes import layer_parameters


def expression(layer: Normalising, at: Site) -> Expression:
    """The family's part of `zoo.frameworks.tf_slim.table.Table.expression`."""
    x, shape = at.inputs[0], at.shapes[0]
    match layer:
        case LRN():
            return _lrn(layer, x, shape, at.scope)
        case BatchNorm():
            return _batch_norm(layer, x, shape, at.scope)
        case Normalize():
            axes = [*range(1, len(shape) + 1)] if layer.across_spatial else [native_axis(layer, 1, shape)]
            (row,) = layer_parameters(layer, at.shapes)
            weight = parameter(f"{at.scope}/{row.slim}", row, 1, shape)
            return call("tf.multiply", call("normalize", x, axes, layer.eps), weight, name=at.scope)
        case MVN():
            image = x if shape == at.shape else native(call("tf.reshape", x, [-1, *at.shape]), at.shape)
            return call("mvn", image, layer.across_channels, layer.normalize_variance, layer.eps, scope=at.scope)
        case Softmax():
            return call("tf.nn.softmax", x, axis=native_axis(layer, layer.axis, shape), name=at.scope)
        case _:
            assert_never(layer)


def _lrn(layer: LRN, x: Expression, shape: Shape, scope: str) -> Expression:
    if layer.region == "within":
        return call("lrn_within_channel", x, layer.size, layer.alpha, layer.beta, layer.k, scope=scope)
    # TensorFlow does not divide alpha by the size of the window, and wants half of that size.
    options: dict[str, Expression] = {
        "depth_radius": (layer.size - 1) // 2,
        "bias": layer.k,
        "alpha": layer.alpha / layer.size,
        "beta": layer.beta,
    }
    if len(shape) != 3:
        x = call("tf.reshape", _channels_last(x, shape), [-1, 1, prod(shape[1:]), shape[0]])
    if layer.towers > 1:
        made = call("tower_lrn", x, layer.towers, **options, scope=scope)
    else:
        made = call("tf.nn.local_response_normalization", x, **options, name=scope)
    if len(shape) == 3:
        return made
    return _channels_back(call("tf.reshape", made, [-1, *shape[1:], shape[0]]), shape)


def _channels_last(x: Expression, shape: Shape) -> Expression:
    rank = len(shape) + 1
    return x if rank in (2, 4) else call("tf.transpose", x, [0, *range(2, rank), 1])


def _channels_back(x: Expression, shape: Shape) -> Expression:
    rank = len(shape) + 1
    return x if rank in (2, 4) else call("tf.transpose", x, [0, rank - 1, *range(1, rank - 1)])


def _batch_norm(layer: BatchNorm, x: Expression, shape: Shape, scope: str) -> Expression:
    training = True if layer.batch_stats else Name("is_training")
    made = call("plain_batch_norm", _channels_last(x, shape), layer.eps, training, scope=scope)
    return _channels_back(made, shape)
