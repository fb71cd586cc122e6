"""Initial values as calls of ``torch.nn.init``: what is run and what is printed are the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from torch import nn

from zoo import registry
from zoo.layers import ModelSpec
from zoo.recipe import Constant, Distribution, FanInUniform, Normal, TruncatedNormal, Uniform, initial_values
from zoo.shapes import tied


@dataclass(frozen=True, kw_only=True)
class Start:
    """Initial values of a parameter as ``nn.init.function(parameter, *args, **options)``."""

    function: str
    args: tuple[float, ...] = ()
    options: Mapping[str, float] = field(default_factory=dict[str, float])

    def run(self, parameter: nn.Parameter) -> None:
        """The call, run: torch's own generator draws."""
        getattr(nn.init, self.function)(parameter, *self.args, **self.options)

    def text(self, parameter: str) -> str:
        """The call, printed."""
        arguments = [parameter, *map(repr, self.args), *(f"{name}={value!r}" for name, value in self.options.items())]
        return f"nn.init.{self.function}({', '.join(arguments)})"


def starts(spec: ModelSpec) -> dict[str, Start]:
    """Canonical parameter -> its initial values, where torch's modules have not set them by themselves."""
    recipe, twins, found = registry.recipe(spec), tied(spec), dict[str, Start]()
    own = initial_values(replace(recipe, initial={"*": FanInUniform()}, unit_inputs=False), spec)
    for name, (_, distribution) in initial_values(recipe, spec).items():
        if distribution != own[name][1] and name not in twins:
            found[name] = _start(distribution)
    return found


def _start(distribution: Distribution) -> Start:
    match distribution:
        case Constant(value=0.0):
            return Start(function="zeros_")
        case Constant(value=value):
            return Start(function="constant_", args=(value,))
        case Normal(std=std):
            return Start(function="normal_", options={"std": std})
        case TruncatedNormal(std=std):
            return Start(function="trunc_normal_", options={"std": std, "a": -2 * std, "b": 2 * std})
        case Uniform(bound=bound):
            return Start(function="uniform_", args=(-bound, bound))
        case _:
            assert_never(distribution)
