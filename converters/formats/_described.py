"""What a file says that the layers of its network do, one after another, held against a network its weights would fit.

Files of Keras and MatConvNet describe a network of their framework's own, which nothing here runs. As far as its layers
are of a kind that is known, they are compared with those of the network the weights are taken for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isclose
from typing import Literal, TypeAlias

from zoo.layers import (
    LRN,
    BatchNorm,
    Conv,
    Dense,
    Layer,
    ModelSpec,
    Pair,
    Pool,
    ReLU,
    Shape,
    Sigmoid,
    Softmax,
    TanH,
    Unary,
)
from zoo.shapes import activation_shapes, window

Fact: TypeAlias = str | float | Pair
Kind: TypeAlias = Literal["weighted", "activation", "pooling", "normalisation", "batch normalisation", "softmax"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """A layer, as far as it is known.

    Attributes:
        kind: what it is; a convolution and a dense layer are ``weighted``.
        facts: its numbers, under the names of ours; those that a file leaves open are left out.
    """

    kind: Kind
    facts: Mapping[str, Fact] = field(default_factory=dict[str, Fact])


def unlike(theirs: Sequence[Step], spec: ModelSpec, *, complete: bool) -> str | None:
    """The first fact in which a described network differs from `spec`, in words; None if in none.

    Args:
        theirs: its layers in order.
        spec: the network that its weights are taken for.
        complete: a layer that is not described is not there. A softmax at the end may be missing all the same.
    """
    wiring, shapes = spec.wiring(), activation_shapes(spec)
    named = [
        (layer.name, step)
        for layer in spec.layers
        if (step := _step(layer, [shapes[source] for source in wiring[layer.name]])) is not None
    ]
    ours = _parts([step for _, step in named])
    names = ["the input", *(name for name, step in named if step.kind == "weighted")]
    parts = _parts(theirs)
    if len(parts) != len(ours):
        return None  # the tensors tell
    for i, (name, mine, their) in enumerate(zip(names, ours, parts, strict=True)):
        shared = [kind for kind in mine if kind in their]
        for kind in shared:
            other = their[kind]
            wrong = [fact for fact, value in mine[kind].items() if fact in other and not _same(value, other[fact])]
            if wrong:
                what = name if kind == "weighted" else f"the {kind} after {name}"
                return f"{wrong[0]} of {what} is {other[wrong[0]]} in it, not {mine[kind][wrong[0]]}"
        if shared != [kind for kind in their if kind in mine]:
            return f"after {name} it has {', '.join(their)}, in this order, not {', '.join(mine)}"
        is_last = i == len(ours) - 1
        excused = {"softmax"} if is_last and "softmax" not in their else set[str]()
        if complete and ({*mine} ^ {*their}) - excused:
            return f"after {name} it has {', '.join(their) or 'nothing'}, not {', '.join(mine) or 'nothing'}"
    return None


def _same(a: Fact, b: Fact) -> bool:
    return isclose(a, b, rel_tol=1e-5) if isinstance(a, float | int) and isinstance(b, float | int) else a == b


def _parts(steps: Sequence[Step]) -> list[dict[str, Mapping[str, Fact]]]:
    """What comes first, and then each weighted layer with what follows it: kind -> facts, in order.

    What is there again is of a kind of its own, ``activation 2``.
    """
    parts, counts = [dict[str, Mapping[str, Fact]]()], Counter[str]()
    for step in steps:
        if step.kind == "weighted":
            parts.append({})
            counts.clear()
        counts[step.kind] += 1
        again = f" {counts[step.kind]}" if counts[step.kind] > 1 else ""
        parts[-1][f"{step.kind}{again}"] = step.facts
    return parts


def _step(layer: Layer, reads: Sequence[Shape]) -> Step | None:
    match layer:
        case Conv():
            facts = _facts(layer, "kernel", "stride", "pad", "dilation", "groups")
            return Step(kind="weighted", facts=facts | {"padding": _padding(layer, reads[0])})
        case Dense():
            return Step(kind="weighted")
        case ReLU():
            return activation("relu", layer.negative_slope)
        case Sigmoid():
            return activation("sigmoid")
        case TanH():
            return activation("tanh")
        case Unary():
            return activation(layer.function)
        case Pool(global_pool=True):
            return Step(kind="pooling", facts=_facts(layer, "mode"))
        case Pool():
            facts = _facts(layer, "mode", "kernel", "stride", "pad") | {"padding": _padding(layer, reads[0])}
            return Step(kind="pooling", facts=facts)
        case LRN():
            return Step(kind="normalisation", facts=_facts(layer, "size", "alpha", "beta", "k"))
        case BatchNorm():
            return Step(kind="batch normalisation", facts=_facts(layer, "eps"))
        case Softmax():
            return Step(kind="softmax")
        case _:
            return None


def _padding(layer: Conv | Pool, read: Shape) -> str:
    """Whether a layer pads as TensorFlow calls ``same``: a window for every stride, the odd pixel at the end."""
    at, dilation = window(layer, read), layer.dilation if isinstance(layer, Conv) else (1, 1)
    for i, size in enumerate(read[1:]):
        reach = dilation[i] * (at.kernel[i] - 1) + 1
        total = max((at.out[i] - 1) * at.stride[i] + reach - size, 0)
        counted = isinstance(layer, Pool) and layer.mode == "ave" and total > 0  # TensorFlow leaves it out
        wanted = (-(-size // at.stride[i]), total // 2, total - total // 2)
        if counted or (at.out[i], at.before[i], max(at.after[i], 0)) != wanted:
            return "of its own"
    return "same"


def _facts(layer: Layer, *names: str) -> dict[str, Fact]:
    return {name: getattr(layer, name) for name in names}


def activation(function: str, slope: float = 0.0) -> Step:
    """An activation by its name in the field; `slope` is what a ReLU multiplies negative numbers with."""
    return Step(kind="activation", facts={"function": function, "slope": slope})
