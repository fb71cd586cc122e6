"""The form itself: the steps of a network, and what each of them reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from zoo.arrays import Array
from zoo.canonical.spelling import BOUNDS, NEGATION, Part, Site, parts, times
from zoo.layers import Layer, ModelSpec, Shape
from zoo.parameters import parameters_of
from zoo.shapes import activation_shapes


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that a network computes.

    Attributes:
        layer: which layer it is a part of.
        part: what it is.
        reads: the places of the steps that it reads; inputs count from -1 down.
    """

    layer: Layer
    part: Part
    reads: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Form:
    """A network.

    Attributes:
        spec: as it was.
        steps: all that its outputs depend on, each behind what it reads.
        outputs: the places of the steps that make its outputs, in the order that was asked for.
        shapes: of these outputs.
    """

    spec: ModelSpec
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    shapes: tuple[Shape, ...]


def canonical(
    spec: ModelSpec, tensors: Mapping[str, Array] | None = None, outputs: Sequence[str] | None = None
) -> Form:
    """A network in the common form.

    Args:
        spec: the network.
        tensors: its parameters by canonical name; left out, they do not matter, nor whether a layer has a bias.
        outputs: the activations that count; left out, those that no layer reads.
    """
    shapes = activation_shapes(spec)
    places = {source.name: -1 - i for i, source in enumerate(spec.inputs)}
    steps, wiring = list[Step](), spec.wiring()
    for layer in spec.layers:
        names = wiring[layer.name]
        site = Site(
            sources=[shapes[name] for name in names],
            shape=shapes[layer.name],
            parameters=parameters_of(tensors or {}, layer.name),
        )
        reads = tuple(places[name] for name in names)
        for part in parts(layer, site):
            read = _multiplied(steps, layer, part, reads)
            reads = (_put(steps, Step(layer=layer, part=part, reads=read)),)
        places[layer.name] = reads[0]
    wanted = tuple(outputs) if outputs is not None else spec.outputs
    form = Form(
        spec=spec,
        steps=tuple(steps),
        outputs=tuple(places[name] for name in wanted),
        shapes=tuple(shapes[name] for name in wanted),
    )
    return needed(form)


def _multiplied(steps: list[Step], layer: Layer, part: Part, reads: tuple[int, ...]) -> tuple[int, ...]:
    """The places of what a part reads, each times its factor."""
    if not part.factors:
        return reads
    products = [(read, times(factor)) for read, factor in zip(reads, part.factors, strict=True)]
    return tuple(
        _put(steps, Step(layer=layer, part=product[0], reads=(read,))) if product else read
        for read, product in products
    )


def _put(steps: list[Step], step: Step) -> int:
    """The place of a step; of one that does nothing to what the last one made, where that stands already."""
    before = steps[step.reads[0]] if step.reads and step.reads[0] >= 0 else None
    if before and step.part.key == before.part.key:
        if step.part.key[0] in BOUNDS:
            return step.reads[0]
        if step.part.key == NEGATION:
            return before.reads[0]
    steps.append(step)
    return len(steps) - 1


def needed(form: Form) -> Form:
    """Without the steps that no output depends on, the others counted anew."""
    wanted = set(form.outputs)
    for at in reversed(range(len(form.steps))):
        if at in wanted:
            wanted.update(form.steps[at].reads)
    kept = [at for at in range(len(form.steps)) if at in wanted]
    new = {at: i for i, at in enumerate(kept)}

    def moved(places: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(new.get(at, at) for at in places)

    steps = tuple(replace(form.steps[at], reads=moved(form.steps[at].reads)) for at in kept)
    return replace(form, steps=steps, outputs=moved(form.outputs))
