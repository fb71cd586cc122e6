"""What a parameter is: one row each. Whoever names, orders, draws or decays one reads it.

Which rows a layer has, its family says in `zoo.shapes`. The canonical name of a parameter is ``<layer>.<role>``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, TypeVar, get_args

from zoo.layers import Shape

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


def kernel(shape: Shape) -> Parameter:
    """What a convolution or dense layer sums with."""
    return Parameter(
        role="weight", shape=shape, torch="weight", slim="weights", numpy="weights", blob=0, start="kernel", decays=True
    )


def offset(shape: Shape) -> Parameter:
    """What it adds to its sums."""
    return Parameter(role="bias", shape=shape, torch="bias", slim="biases", numpy="biases", blob=1, start="offset")


def factor(shape: Shape) -> Parameter:
    """What numbers are multiplied by."""
    return Parameter(
        role="weight", shape=shape, torch="weight", slim="gamma", numpy="weights", blob=0, start=1.0, decays=True
    )


def term(shape: Shape, *, slim: str, blob: int) -> Parameter:
    """What is added to numbers; how TF-slim calls it, and its place among the blobs, depends on the kind."""
    return Parameter(role="bias", shape=shape, torch="bias", slim=slim, numpy="biases", blob=blob, start=0.0)


def slope(shape: Shape) -> Parameter:
    """What a rectifier multiplies negative numbers by."""
    # 0.25: prelu_layer.cpp, and the paper (K. He et al., 2015, arXiv:1502.01852)
    return Parameter(
        role="slope", shape=shape, torch="weight", slim="alpha", numpy="alpha", blob=0, start=0.25, decays=True
    )


def statistics(shape: Shape) -> tuple[Parameter, Parameter]:
    """Mean and variance of a batch normalisation."""
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
