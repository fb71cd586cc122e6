"""Whether two networks are one function by structure, whatever their layers are called and however they are spelt.

Parameters are left aside, and so is whether a layer has a bias: none is zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from zoo.axes import shape_text
from zoo.canonical import Step, canonical, differing
from zoo.layers import ModelSpec, Softmax
from zoo.show import Difference


def unlike(left: ModelSpec, right: ModelSpec) -> str | None:
    """The first fact in which two networks are other functions, in words; None where they are one.

    A softmax that closes one of them alone is such a fact; see `without_closing_softmax`.
    """
    found = next(_differences(left, right), None)
    return found.sentence(left.name, right.name) if found else None


def without_closing_softmax(spec: ModelSpec) -> ModelSpec:
    """The network up to its logits; itself where it does not end in a softmax that nobody reads."""
    last = spec.layers[-1]
    if len(spec.layers) > 1 and isinstance(last, Softmax) and last.name in spec.outputs:
        return replace(spec, layers=spec.layers[:-1])
    return spec


def _differences(left: ModelSpec, right: ModelSpec) -> Iterator[Difference]:
    for a, b in zip(left.inputs, right.inputs, strict=False):
        if a.shape != b.shape:
            yield Difference(layer=a.name, what="size", left=shape_text(a.shape), right=shape_text(b.shape))
    for what in ("inputs", "outputs"):
        counts = [str(len(getattr(spec, what))) for spec in (left, right)]
        if counts[0] != counts[1]:
            yield Difference(layer=what, what="number", left=counts[0], right=counts[1])
            if what == "inputs":
                return
    yield from differing(canonical(left), canonical(right), _of_any_parameters)


def _of_any_parameters(one: Step, other: Step) -> bool:
    return True
