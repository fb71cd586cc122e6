"""Whether two networks are one function by structure, whatever their layers are called and however they are spelt.

Both are rewritten to one form: dropout gone; shapes that only merge or drop axes gone where the next layer merges them
itself; a convolution over the whole of its input a dense layer; windows by what they read, not by the padding and
rounding that say it. Numbers of float32 are compared as such. That a layer has a bias does not matter: none is zeros.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from zoo.axes import axis_index, shape_text
from zoo.layers import Conv, Dense, Dropout, Flatten, Layer, ModelSpec, Pool, Reshape, Shape, Softmax
from zoo.shapes import activation_shapes, window
from zoo.show import ABSENT, Difference, field_differences

# Digits that tell every float32 from the next.
_DIGITS = 7
_AXES = {"axis", "end_axis"}
_IDLE = {"name", "inputs", "bias"}


@dataclass(frozen=True, kw_only=True)
class _Step:
    """A layer in the common form.

    Attributes:
        layer: as the network has it.
        key: what it computes.
        reads: the steps that it reads, by their places; inputs count from -1 down.
    """

    layer: Layer
    key: tuple[Any, ...]
    reads: tuple[int, ...]


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
    if len(left.inputs) != len(right.inputs):
        counts = [str(len(spec.inputs)) for spec in (left, right)]
        yield Difference(layer="inputs", what="number", left=counts[0], right=counts[1])
        return
    ours, theirs = _steps(left), _steps(right)
    for a, b in zip(ours, theirs, strict=False):
        if a.key != b.key:
            yield from _told(a, b)
        elif a.reads != b.reads:
            yield Difference(
                layer=a.layer.name, what="input", left=_named(left, ours, a), right=_named(right, theirs, b)
            )
    if len(ours) != len(theirs):
        longer = max(ours, theirs, key=len)[min(len(ours), len(theirs))].layer
        kinds = [
            type(longer).__name__ if len(side) == max(len(ours), len(theirs)) else ABSENT for side in (ours, theirs)
        ]
        yield Difference(layer=longer.name, what="layer", left=kinds[0], right=kinds[1])


def _told(a: _Step, b: _Step) -> Iterator[Difference]:
    if type(a.layer) is not type(b.layer):
        kinds = [type(step.layer).__name__ for step in (a, b)]
        yield Difference(layer=a.layer.name, what="layer", left=kinds[0], right=f"{kinds[1]} ({b.layer.name})")
        return
    told = [item for item in field_differences(a.layer.name, a.layer, b.layer) if item.what != "bias"]
    yield from told or [Difference(layer=a.layer.name, what="window", left=_words(a), right=_words(b))]


def _words(step: _Step) -> str:
    return " ".join(map(str, step.key[1:]))


def _named(spec: ModelSpec, steps: Sequence[_Step], step: _Step) -> str:
    return ", ".join(steps[at].layer.name if at >= 0 else spec.inputs[-1 - at].name for at in step.reads)


def _steps(spec: ModelSpec) -> list[_Step]:
    """The network in the common form."""
    shapes, wiring, steps = activation_shapes(spec), spec.wiring(), list[_Step]()
    places = {source.name: -1 - i for i, source in enumerate(spec.inputs)}
    # What a layer that only merges axes is read for: itself, or what it reads.
    merged = dict[str, str]()
    for layer in spec.layers:
        names = wiring[layer.name]
        if isinstance(layer, Dropout):
            places[layer.name] = places[names[0]]
            merged[layer.name] = merged.get(names[0], names[0])
            continue
        sources = [shapes[name] for name in names]
        if isinstance(layer, Dense) and axis_index(layer.name, layer.axis, sources[0]) == 1:
            names = (merged.get(names[0], names[0]),)
        if isinstance(layer, Flatten | Reshape):
            merged[layer.name] = merged.get(names[0], names[0])
            if _apart(shapes[layer.name]) == _apart(sources[0]):
                places[layer.name] = places[names[0]]
                continue
        places[layer.name] = len(steps)
        key = _key(layer, sources, shapes[layer.name])
        steps.append(_Step(layer=layer, key=key, reads=tuple(places[name] for name in names)))
    return _needed(spec, steps, places)


def _apart(shape: Shape) -> Shape:
    """A shape without axes of one number."""
    return tuple(size for size in shape if size != 1)


def _needed(spec: ModelSpec, steps: list[_Step], places: dict[str, int]) -> list[_Step]:
    """Without the steps that are looked through, the others counted anew."""
    wanted = {places[name] for name in spec.outputs}
    for at in reversed(range(len(steps))):
        if at in wanted:
            wanted.update(steps[at].reads)
    kept = [at for at in range(len(steps)) if at in wanted]
    new = {at: i for i, at in enumerate(kept)}
    return [replace(steps[at], reads=tuple(new.get(read, read) for read in steps[at].reads)) for at in kept]


def _key(layer: Layer, sources: list[Shape], shape: Shape) -> tuple[Any, ...]:
    match layer:
        case Conv() if shape[1:] == (1, 1) and layer.groups == 1 and _reads_all(layer, sources[0]):
            return "dense", layer.out_channels
        case Dense() if axis_index(layer.name, layer.axis, sources[0]) == 1:
            return "dense", layer.out_features
        case Conv():
            at = window(layer, sources[0])
            return "conv", layer.out_channels, layer.groups, layer.dilation, at.kernel, at.stride, at.before, at.out
        case Pool():
            at = window(layer, sources[0])
            stride = tuple(step if out > 1 else 1 for step, out in zip(at.stride, at.out, strict=True))
            return "pool", layer.mode, at.kernel, stride, at.before, at.out
        case Flatten() | Reshape():
            return "shape", _apart(shape)
        case _:
            told = [(field.name, getattr(layer, field.name)) for field in fields(layer) if field.name not in _IDLE]
            return type(layer).__name__, *(_plain(layer, name, value, sources[0]) for name, value in told)


def _reads_all(layer: Conv, source: Shape) -> bool:
    return layer.kernel == source[1:] and layer.pad == (0, 0)


def _plain(layer: Layer, name: str, value: Any, source: Shape) -> Any:
    """A field in a form in which equal ones are equal."""
    if name in _AXES and isinstance(value, int):
        return axis_index(layer.name, value, source)
    return _number(value) if not isinstance(value, tuple) else tuple(map(_number, value))


def _number(value: Any) -> Any:
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
