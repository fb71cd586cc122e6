"""The initial values of the TF-slim model, as slim's and TensorFlow's initialisers."""

from __future__ import annotations

from collections import Counter
from typing import assert_never

from zoo.frameworks.tf_slim.calls import Call, Expression, call
from zoo.layers import Conv, Layer, ModelSpec, Weighted
from zoo.recipe import (
    Constant,
    Distribution,
    Normal,
    TruncatedNormal,
    Uniform,
    XavierUniform,
    initial_values,
    rule_of,
)
from zoo.registry import recipe

_OPTIONS = {"weight": "weights_initializer", "bias": "biases_initializer"}


class Initializers:
    """What each layer starts from.

    Attributes:
        common: ``weight`` and ``bias`` -> the commonest of all, which the arg_scope sets.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._of = _by_parameter(spec)
        self.common = {kind: self._commonest(kind) for kind in _OPTIONS}

    def _commonest(self, kind: str) -> Call:
        found = [made for name, made in self._of.items() if name.endswith(f".{kind}")]
        spelt = {repr(made): made for made in found}
        return spelt[Counter(map(repr, found)).most_common(1)[0][0]] if found else _initializer(Constant())

    def options(self, layer: Layer) -> dict[str, Expression]:
        """The options of a layer's call: what is not the arg_scope's, and None for a bias that it has not."""
        if not isinstance(layer, Weighted):
            return {}
        own = {kind: self._of.get(f"{layer.name}.{kind}") for kind in _OPTIONS}
        return {_OPTIONS[kind]: made for kind, made in own.items() if made != self.common[kind]}


def _by_parameter(spec: ModelSpec) -> dict[str, Call]:
    how, found, by_name = recipe(spec), dict[str, Call](), spec.by_name
    for name, (_, distribution) in initial_values(how, spec).items():
        layer = by_name[name.rpartition(".")[0]]
        if isinstance(layer, Conv) and rule_of(how, spec, name) == XavierUniform():
            found[name] = call("slim.xavier_initializer")  # its word for it, where the variable has the weight's fans
        elif isinstance(layer, Weighted):
            found[name] = _initializer(distribution)
    return found


def _initializer(distribution: Distribution) -> Call:
    """TensorFlow's word for a distribution."""
    match distribution:
        case Constant(value=0):
            return call("tf.zeros_initializer")
        case Constant(value=value):
            return call("tf.constant_initializer", value)
        case Normal(std=std):
            return call("tf.random_normal_initializer", stddev=std)
        case TruncatedNormal(std=std):
            return call("tf.truncated_normal_initializer", stddev=std)
        case Uniform(bound=bound):
            return call("tf.random_uniform_initializer", -bound, bound)
        case _:
            assert_never(distribution)
