"""The paper's momentum, and the wait for a plateau."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD

from zoo.recipe import Rates, Recipe, ReduceLROnPlateau, decay_of


class Momentum:
    """v = m v + rate (g + decay w); w = w - v, as in the paper and in Caffe: what is under way keeps its old rate.

    `torch.optim.SGD` computes v = m v + (1 - dampening) (g + decay w) and w = w - lr v: with lr 1 and a dampening of
    1 - rate that is the same, in one fused pass over memory. (It lets the first step undamped, so that the velocities
    are put there, zero, before it.)

    Args:
        parameters: canonical name -> what this device holds of it.
        recipe: momentum and weight decay.
    """

    def __init__(self, parameters: dict[str, nn.Parameter], recipe: Recipe) -> None:
        self.parameters = parameters
        groups = [
            {"params": [parameter], "name": name, "weight_decay": decay_of(recipe, name)}
            for name, parameter in parameters.items()
        ]
        self.sgd: Any = SGD(groups, lr=1.0, momentum=recipe.momentum, fused=True)
        for parameter in parameters.values():
            self.sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)

    def velocities(self) -> dict[str, Tensor]:
        """Canonical name -> the velocity of what this device holds."""
        return {name: self.sgd.state[p]["momentum_buffer"] for name, p in self.parameters.items()}

    def step(self, rates: Rates, overflown: Tensor | None = None) -> None:
        """One update with the gradients at hand, which are dropped; where `overflown` is 1, nothing is updated."""
        for group in self.sgd.param_groups:
            group["dampening"] = 1.0 - rates.of(group["name"])
        self.sgd.found_inf = overflown  # fused optimisers look at it on their device
        self.sgd.step()
        self.sgd.zero_grad(set_to_none=True)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a run has come to, beside its weights: kept in checkpoints.

    Attributes:
        step: steps done.
        best: the best validation accuracy (top-1), and at which loss; None before the first validation.
        waited: epochs since the validation error last fell.
        drops: how often the rate has been lowered on a plateau.
        loss_scale: what losses are multiplied by, for gradients in half precision.
    """

    step: int = 0
    best: tuple[float, float] | None = None
    waited: int = 0
    drops: int = 0
    loss_scale: float = 1.0

    def after_validation(self, recipe: Recipe, top1: float, loss: float) -> Progress:
        """The state after the validation at the end of an epoch; `best` changes where it was the best so far."""
        if self.best is None or (top1, -loss) > (self.best[0], -self.best[1]):
            return replace(self, best=(top1, loss), waited=0)
        waited, drops, plateau = self.waited + 1, self.drops, recipe.schedule
        if isinstance(plateau, ReduceLROnPlateau) and waited > plateau.patience and drops < plateau.drops:
            waited, drops = 0, drops + 1
        return replace(self, waited=waited, drops=drops)
