"""The one place where initial weights are drawn, by the rules of a recipe."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeAlias, assert_never

import numpy as np
from numpy.typing import NDArray

from zoo.layers import ModelSpec, Shape
from zoo.philox import generator
from zoo.recipe import Constant, Distribution, Normal, Recipe, TruncatedNormal, Uniform, initial_values
from zoo.shapes import tied

FloatArray: TypeAlias = NDArray[np.floating[Any]]


def initial_weights(
    spec: ModelSpec, recipe: Recipe, seed: int, *, only: Collection[str] | None = None
) -> dict[str, FloatArray]:
    """Canonical name -> float32 array, drawn as the recipe says.

    A parameter's numbers depend on the seed, its name and its shape alone: the same in any network and process.

    Args:
        spec: the network.
        recipe: the rules.
        seed: of the numbers.
        only: the parameters that are wanted; None is all.
    """
    twins, values = tied(spec), initial_values(recipe, spec)
    wanted = values if only is None else {name: values[name] for name in only if name in values}
    owners = {name: twins.get(name, name) for name in wanted}
    drawn = {name: _drawn(*values[name], seed, name) for name in dict.fromkeys(owners.values())}
    return {name: drawn[owner] for name, owner in owners.items()}


def _drawn(shape: Shape, distribution: Distribution, seed: int, name: str) -> FloatArray:
    random = generator(seed, f"weights {name}")
    match distribution:
        case Constant(value=value):
            return np.full(shape, value, dtype=np.float32)
        case Normal(std=std):
            values = random.standard_normal(shape, dtype=np.float32)
        case TruncatedNormal(std=std):
            values = random.standard_normal(shape, dtype=np.float32)
            while (outside := np.abs(values) > 2).any():
                values[outside] = random.standard_normal(int(outside.sum()), dtype=np.float32)
        case Uniform(bound=std):
            values = random.random(shape, dtype=np.float32)
            values = np.subtract(2 * values, 1, out=values)
        case _:
            assert_never(distribution)
    return np.multiply(values, np.float32(std), out=values)
