"""Normalisation by stored statistics, and factors and terms a channel, made part of the weighted layer before them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from zoo.arrays import Array
from zoo.canonical.form import Form, Step, needed
from zoo.canonical.spelling import Part

# Weights that were folded once in float32 are off by a few of its roundings.
ROUNDINGS = 8 * 2.0**-24


@dataclass(frozen=True, kw_only=True)
class _Affine:
    """``factor * x + term`` a channel, float64; `size` is what the term was summed from, all of it taken positive."""

    factor: Array
    term: Array
    size: Array

    def then(self, step: Step) -> _Affine:
        """And one more step after it."""
        match step.part.key[0]:
            case "bias":
                added = step.part.parameters["bias"].astype(np.float64)
                return replace(self, term=self.term + added, size=self.size + np.abs(added))
            case "scale":
                return self._times(step.part.parameters["weight"].astype(np.float64))
            case _:
                mean, variance = (step.part.parameters[role].astype(np.float64) for role in ("mean", "variance"))
                moved = replace(self, term=self.term - mean, size=self.size + np.abs(mean))
                return moved._times(1.0 / np.sqrt(variance + float(step.part.key[-1])))  # pyright: ignore[reportArgumentType]

    def _times(self, by: Array) -> _Affine:
        return _Affine(factor=self.factor * by, term=self.term * by, size=self.size * np.abs(by))


@np.errstate(all="ignore")
def folded(form: Form) -> Form:
    """The network with every such step folded into the weighted one that it follows.

    That has its ``weight`` as it stands, and in float64 a channel: the ``factor``, the ``term``, and the ``size`` of
    what the term was summed from (see `nearness`).
    """
    readers = Counter([*form.outputs, *(at for step in form.steps for at in step.reads)])
    followers = {step.reads[0]: at for at, step in enumerate(form.steps) if len(step.reads) == 1}
    steps, gone = list(form.steps), dict[int, int]()
    for at, step in enumerate(form.steps):
        if step.part.key[0] not in ("conv", "dense") or "weight" not in step.part.parameters:
            continue
        outputs = len(step.part.parameters["weight"])
        affine = _Affine(factor=np.ones(outputs), term=np.zeros(outputs), size=np.zeros(outputs))
        last = at
        while readers[last] == 1 and last in followers and _joins(form.steps[followers[last]], step, outputs):
            last = followers[last]
            affine = affine.then(form.steps[last])
            gone[last] = at
        steps[at] = replace(step, part=_folded(step.part, affine))

    def moved(places: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(gone.get(place, place) for place in places)

    kept = tuple(replace(step, reads=moved(step.reads)) for step in steps)
    return needed(replace(form, steps=kept, outputs=moved(form.outputs)))


def _joins(step: Step, weighted: Step, outputs: int) -> bool:
    """Whether a step gives each output of a weighted one a factor or a term."""
    if step.part.key[0] not in ("bias", "scale", "norm") or not step.part.parameters:
        return False
    key = weighted.part.key
    before = key[1] if key[0] == "dense" else 1
    return step.part.key[1:3] == (before, outputs)


def _folded(part: Part, affine: _Affine) -> Part:
    weight = part.parameters["weight"]
    numbers = {"weight": weight, "factor": affine.factor, "term": affine.term, "size": affine.size}
    return replace(part, key=("folded", *part.key), parameters=numbers)


def nearness(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> float:
    """How far the parameters of two folded steps are apart: of each weight, and of what each term was summed from.

    0 where no factor was folded into either and all bits are the same; above `ROUNDINGS` it is no matter of rounding.
    """
    if ours["weight"].shape != theirs["weight"].shape:
        return float("inf")
    left, right = (np.multiply(_rows(side["weight"]), side["factor"][:, None]) for side in (ours, theirs))
    parts = [(left, right, np.abs(left)), (ours["term"], theirs["term"], np.maximum(ours["size"], theirs["size"]))]
    worst = 0.0
    for one, other, size in parts:
        apart = np.abs(one - other)
        with np.errstate(all="ignore"):  # a variance below zero makes what is not near anything
            far = np.where(apart == 0, 0.0, apart / size)
        worst = max(worst, float(np.where(np.isnan(far), np.inf, far).max(initial=0.0)))
    return worst


def _rows(weight: Array) -> Array:
    return weight.reshape(len(weight), -1)
