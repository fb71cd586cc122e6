"""One mistake that shows in several layers, told once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from converters.verdicts import Diagnosis
from zoo.layers import ModelSpec


@dataclass(frozen=True, kw_only=True)
class Found:
    """A diagnosis, and what it stands for.

    Attributes:
        diagnosis: of one or more layers.
        layers: all that it explains, those among them that the subject does not show.
        other: the layer whose part its layer plays, if it does.
    """

    diagnosis: Diagnosis
    layers: frozenset[str] = frozenset()
    other: str = ""


def told_once(spec: ModelSpec, found: Sequence[Found]) -> tuple[Found, ...]:
    """What was found in all layers, in order, less what an earlier mistake brings about."""
    told, rest = list[Found](), list(found)
    while rest:
        diagnosis, count = _one_early(rest) or _moved_bias(spec, rest) or (rest[0].diagnosis, 1)
        told.append(Found(diagnosis=diagnosis, layers=frozenset[str]().union(*(item.layers for item in rest[:count]))))
        rest = rest[count:]
    return tuple(told)


def _one_early(found: Sequence[Found]) -> tuple[Diagnosis, int] | None:
    """A missing layer, where the next of its shape was taken for it, the one after for that, and the last is not there.

    Returns:
        The diagnosis, and how many it stands for.
    """
    at = 0
    while at + 1 < len(found) and found[at].other and found[at].other == found[at + 1].diagnosis.layer:
        at += 1
    first, last = found[0], found[at].diagnosis
    if not at or last.fault != "layer_dropped":
        return None
    told = f"{last.message.replace(last.layer, first.diagnosis.layer, 1)}; {first.other} stands in its place"
    return replace(last, layer=first.diagnosis.layer, message=told), at + 1


def _moved_bias(spec: ModelSpec, found: Sequence[Found]) -> tuple[Diagnosis, int] | None:
    """A bias that is missing in its layer and turns up behind the ReLU."""
    if len(found) < 2 or found[0].diagnosis.fault != "bias_lost":
        return None
    lost, moved = found[0].diagnosis, found[1].diagnosis
    source = spec.wiring()[moved.layer][0]
    known = {layer.name for layer in spec.layers}
    before = {source, spec.wiring()[source][0]} if source in known else {source}
    if moved.fault != "bias_after_relu" or lost.layer not in before:
        return None
    return replace(moved, layer=lost.layer, message=moved.message.replace(moved.layer, lost.layer, 1)), 2
