"""What a layer carries besides its settings: one row a parameter. Whoever names, orders, draws or decays one reads it.

The canonical name of a parameter is ``<layer>.<role>``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Literal, TypeAlias, TypeVar, assert_never, get_args

from zoo import layers
from zoo.axes import affine_shape, axis_index
from zoo.layers import Layer, Shape

# In the order of Caffe's blobs, where a layer has several.
Role: TypeAlias = Literal["weight", "bias", "mean", "variance", "slope"]
ROLES: tuple[Role, ...] = get_args(Role)

Tensor = TypeVar("Tensor")

# "kernel": drawn at random, narrower the more numbers it sums. "offset": added to such sums; a recipe may start it at a
# constant of its own, otherwise at zero. A number: that constant.
Start: TypeAlias = Literal["kernel", "offset"] | float


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One parameter of one layer.

    Attributes:
        role: the last part of its canonical name.
        shape: canonical: O, I / groups, H, W of a convolution; O, I of a dense layer.
        torch: its name in the modules of ``torch.nn``.
        slim: its name among TF-slim's variables (tf_slim/layers/layers.py; batch_norm has gamma and beta).
        numpy: its name in the dictionaries of caffe-tensorflow (kaffe/tensorflow/transformer.py).
        blob: its place among the layer's blobs in Caffe.
        start: what it is before training.
        decays: whether weight decay pulls it towards zero.
        learned: whether its gradient moves it; statistics follow those of the batches.
    """

    role: Role
    shape: Shape
    torch: str
    slim: str
    numpy: str
    blob: int
    start: Start
    decays: bool = False
    learned: bool = True


def parameters_of(tensors: Mapping[str, Tensor], layer: str) -> dict[str, Tensor]:
    """The parameters of one layer by their roles, in canonical order, of those of a network by their names."""
    return {role: tensors[name] for role in ROLES if (name := f"{layer}.{role}") in tensors}


def layer_parameters(layer: Layer, inputs: Sequence[Shape]) -> tuple[Parameter, ...]:
    """The rows of one layer, in canonical order.

    Args:
        layer: its description.
        inputs: the shapes of the activations it reads, without the batch axis.
    """
    if isinstance(layer, layers.Constant):
        return (_factor(layer.shape),) if layer.value is None else ()
    shape = inputs[0]
    match layer:
        case layers.Conv():
            kernel = _kernel((layer.out_channels, shape[0] // layer.groups, *layer.kernel))
            return (kernel, _offset((layer.out_channels,))) if layer.bias else (kernel,)
        case layers.Deconv():
            kernel = _kernel((shape[0], layer.out_channels // layer.groups, *layer.kernel))
            return (kernel, _offset((layer.out_channels,))) if layer.bias else (kernel,)
        case layers.Dense():
            read = shape[axis_index(layer.name, layer.axis, shape) - 1 :]
            kernel = _kernel((layer.out_features, prod(read)))
            return (kernel, _offset((layer.out_features,))) if layer.bias else (kernel,)
        case layers.Embed():
            table = _kernel((layer.rows, layer.out_features))
            return (table, _offset((layer.out_features,))) if layer.bias else (table,)
        case layers.Scale():
            if len(inputs) == 2:
                axis = axis_index(layer.name, layer.axis, shape)
                size = shape[axis - 1 : axis + len(inputs[1])] if axis else inputs[1]
                return (_term(size, slim="beta", blob=0),) if layer.bias else ()
            size = affine_shape(layer, shape)
            return (_factor(size), _term(size, slim="beta", blob=1)) if layer.bias else (_factor(size),)
        case layers.Bias():
            return () if len(inputs) == 2 else (_term(affine_shape(layer, shape), slim="biases", blob=0),)
        case layers.Normalize():
            return (_factor(() if layer.shared else shape[:1]),)
        case layers.PReLU():
            return (_slope(() if layer.shared else shape[:1]),)
        case layers.BatchNorm():
            return _statistics(shape[:1])
        case layers.Pool() | layers.LRN() | layers.ReLU() | layers.Sigmoid() | layers.TanH() | layers.Power():
            return ()
        case layers.Interp() | layers.Reduction() | layers.ArgMax() | layers.Crop() | layers.Shuffle() | layers.Axpy():
            return ()
        case layers.PoolMask() | layers.Unpool():
            return ()
        case layers.PriorBox() | layers.DetectionOutput() | layers.ROIPool() | layers.PSROIPool():
            return ()
        case layers.Unary() | layers.Dropout() | layers.Softmax() | layers.MVN() | layers.Eltwise():
            return ()
        case layers.Flatten() | layers.Concat() | layers.Slice() | layers.Reshape() | layers.Permute() | layers.Tile():
            return ()
        case _:
            assert_never(layer)


def _kernel(shape: Shape) -> Parameter:
    return Parameter(
        role="weight", shape=shape, torch="weight", slim="weights", numpy="weights", blob=0, start="kernel", decays=True
    )


def _offset(shape: Shape) -> Parameter:
    return Parameter(role="bias", shape=shape, torch="bias", slim="biases", numpy="biases", blob=1, start="offset")


def _factor(shape: Shape) -> Parameter:
    return Parameter(
        role="weight", shape=shape, torch="weight", slim="gamma", numpy="weights", blob=0, start=1.0, decays=True
    )


def _term(shape: Shape, *, slim: str, blob: int) -> Parameter:
    return Parameter(role="bias", shape=shape, torch="bias", slim=slim, numpy="biases", blob=blob, start=0.0)


def _slope(shape: Shape) -> Parameter:
    # 0.25: prelu_layer.cpp, and the paper (K. He et al., 2015, arXiv:1502.01852)
    return Parameter(
        role="slope", shape=shape, torch="weight", slim="alpha", numpy="alpha", blob=0, start=0.25, decays=True
    )


def _statistics(shape: Shape) -> tuple[Parameter, Parameter]:
    mean = Parameter(
        role="mean",
        shape=shape,
        torch="running_mean",
        slim="moving_mean",
        numpy="mean",
        blob=0,
        start=0.0,
        learned=False,
    )
    return mean, replace(
        mean, role="variance", torch="running_var", slim="moving_variance", numpy="variance", blob=1, start=1.0
    )
