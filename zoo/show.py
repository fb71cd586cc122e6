"""A network in words: its layers as a table or as JSON, and how two networks differ.

Pure functions from specs to text, standard library only: ``zoo show`` answers at once and needs no framework.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import MISSING, dataclass, fields
from math import prod
from textwrap import fill, wrap
from typing import Any

from zoo import spec_json
from zoo.axes import shape_text
from zoo.errors import shown
from zoo.layers import LRN, Conv, Dense, Layer, ModelSpec, Pool, Preprocessing, Shape
from zoo.parameters import ROLES
from zoo.shapes import activation_shapes, multiply_adds, parameter_count, parameter_shapes

# Field -> how people call it.
_WORDS = {
    "out_channels": "output channels",
    "out_features": "outputs",
    "pad": "padding",
    "rounding": "sizes rounded",
    "mode": "pooling",
    "global_pool": "over the whole image",
    "towers": "window",
    "region": "region",
    "negative_slope": "negative slope",
    "end_axis": "end axis",
    "num_axes": "axes",
    "coeffs": "coefficients",
    "batch_stats": "statistics of the batch",
    "channels": "channel order",
    "resize": "short side",
    "crop": "centre crop rounded",
}

# Columns of the table, or told by the shapes beside them.
_IN_COLUMNS = {"name", "inputs", "kernel", "stride", "pad", "groups", "out_channels", "out_features"}
_TOLD_EVEN_AT_DEFAULT = {"k", "towers", "ratio"}
# Words that the table can do without, beside the kind of the layer.
_BRIEF = {"mode": "", "rounding": "rounded", "towers": "", "region": ""}


# The kind of a layer that a network has not.
ABSENT = "absent"


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One fact in which two networks differ; `left` and `right` say it in words."""

    layer: str
    what: str
    left: str
    right: str

    def sentence(self, left_name: str, right_name: str) -> str:
        """``norm1: k 2 in alexnet, 1 in bvlc_alexnet``."""
        if self.what == "layer" and ABSENT in (self.left, self.right):
            kind, here, there = (
                (self.right, right_name, left_name) if self.left == ABSENT else (self.left, left_name, right_name)
            )
            return f"{self.layer}: {kind} in {here}, no such layer in {there}"
        return f"{self.layer}: {self.what} {self.left} in {left_name}, {self.right} in {right_name}"


def show_text(spec: ModelSpec, width: int | None = None) -> str:
    """The network as a table: a line a layer, totals, and the tower table where there are towers.

    `width`: the columns of the terminal; a table that is wider says the last of its own in lines beneath.
    """
    shapes, counts, operations, wiring = _facts(spec)
    rows = [("layer", "kind", "kernel", "stride", "pad", "groups", "output", "parameters", "multiply-adds", "")]
    previous = spec.inputs[0].name if spec.inputs else ""
    for source in spec.inputs:
        rows.append((source.name, "input", "", "", "", "", shape_text(source.shape), "", "", ""))
    for layer in spec.layers:
        reads = "" if wiring[layer.name] == (previous,) else f"reads {', '.join(wiring[layer.name])}"
        rows.append(
            (
                layer.name,
                type(layer).__name__,
                *_window_columns(layer),
                shape_text(shapes[layer.name]),
                f"{counts[layer.name]:,}" if counts[layer.name] else "",
                f"{operations[layer.name]:,}" if layer.name in operations else "",
                "; ".join(filter(None, (layer_details(layer), reads))),
            )
        )
        previous = layer.name
    rows.append(("total", "", "", "", "", "", "", f"{sum(counts.values()):,}", f"{sum(operations.values()):,}", ""))
    about = [shown(f"{spec.name}: {spec.title}"), images_text(spec)]
    parts = [*(fill(text, width) for text in about)] if width else about
    parts.append(_table(rows, {7, 8}, rule_before_last=True, width=width))
    if tower_count(spec) > 1:
        parts.append(_tower_table(spec, width))
    return "\n\n".join(filter(None, parts)) + "\n"


def show_dict(spec: ModelSpec) -> dict[str, Any]:
    """What `show_text` says, as one JSON-ready object (``"schema": 1``); shapes leave the batch axis out."""
    shapes, counts, operations, wiring = _facts(spec)
    return {
        "schema": 1,
        "model": spec.name,
        "title": spec.title,
        "inputs": [{"name": source.name, "shape": list(source.shape)} for source in spec.inputs],
        "preprocessing": _all_fields(spec.preprocessing) if spec.preprocessing else None,
        "layers": [
            _all_fields(layer)
            | {
                "kind": type(layer).__name__,
                "inputs": list(wiring[layer.name]),
                "output": list(shapes[layer.name]),
                "parameters": counts[layer.name],
                "multiply_adds": operations.get(layer.name, 0),
            }
            for layer in spec.layers
        ],
        "towers": tower_count(spec),
        "parameters": sum(counts.values()),
        "multiply_adds": sum(operations.values()),
    }


def diff_text(left: ModelSpec, right: ModelSpec, width: int | None = None) -> str:
    """Every difference of two networks, a line a fact, in the order of the layers; `width` as in `show_text`."""
    found = differences(left, right)
    if not found:
        return shown(f"{left.name} and {right.name} are the same network.") + "\n"
    rows = [("layer", "what", left.name, right.name)]
    rows += [(item.layer, item.what, item.left, item.right) for item in found]
    counts = parameter_count(left), parameter_count(right)
    both = f"both have {counts[0]:,} parameters" if counts[0] == counts[1] else f"{counts[0]:,} against {counts[1]:,}"
    return f"{_table(rows, width=width)}\n\nparameters: {both}\n"


def first_difference(left: ModelSpec, right: ModelSpec) -> str | None:
    """Why weights of one network are no weights of the other: the first layer and fact; None if they are.

    Names, titles, preprocessing and an image size that leaves every layer as it is do not matter.
    """
    layers = _layer_differences(left, right)
    return layers[0].sentence(left.name, right.name) if layers else None


def differences(left: ModelSpec, right: ModelSpec) -> list[Difference]:
    """Every fact in which the networks differ: inputs, layers in order, preprocessing."""
    found = list[Difference]()
    shapes = ({source.name: source.shape for source in spec.inputs} for spec in (left, right))
    mine, theirs = shapes
    for name in mine | theirs:
        if mine.get(name) != theirs.get(name):
            texts = [shape_text(side[name]) if name in side else "absent" for side in (mine, theirs)]
            found.append(Difference(layer=name, what="size", left=texts[0], right=texts[1]))
    found += _layer_differences(left, right)
    images = left.preprocessing, right.preprocessing
    if images[0] and images[1]:
        found += field_differences("images", images[0], images[1])
    elif images[0] != images[1]:
        told = ["given" if side else "unknown" for side in images]
        found.append(Difference(layer="images", what="preprocessing", left=told[0], right=told[1]))
    return found


def tower_count(spec: ModelSpec) -> int:
    """How many equal towers the grouped convolutions cut the network into; 1 if none do, or not all alike."""
    groups = {layer.groups for layer in spec.layers if isinstance(layer, Conv) and layer.groups > 1}
    return groups.pop() if len(groups) == 1 else 1


def layer_details(layer: Layer) -> str:
    """What the columns of the table leave out: ``size 5, alpha 0.0001, ...``."""
    told = list[str]()
    for field in fields(layer):
        value = getattr(layer, field.name)
        usual = field.default is not MISSING and value == field.default
        # Pooling's rounding is told always: it is what the frameworks disagree about.
        always = field.name in _TOLD_EVEN_AT_DEFAULT or (field.name == "rounding" and isinstance(layer, Pool))
        if field.name in _IN_COLUMNS or (usual and not always):
            continue
        if field.name == "towers" and isinstance(layer, LRN) and layer.region == "within":
            continue
        told.append(f"{_BRIEF.get(field.name, _word(field.name))} {_value(field.name, value)}".strip())
    return ", ".join(told)


def _facts(spec: ModelSpec) -> tuple[dict[str, Shape], dict[str, int], dict[str, int], dict[str, tuple[str, ...]]]:
    counts = {layer.name: 0 for layer in spec.layers}
    for name, shape in parameter_shapes(spec).items():
        counts[name.rpartition(".")[0]] += prod(shape)
    return activation_shapes(spec), counts, multiply_adds(spec), spec.wiring()


def _window_columns(layer: Layer) -> tuple[str, str, str, str]:
    if not isinstance(layer, Conv | Pool) or (isinstance(layer, Pool) and layer.global_pool):
        return "", "", "", ""
    groups = str(layer.groups) if isinstance(layer, Conv) else ""
    return shape_text(layer.kernel), _pair(layer.stride), _pair(layer.pad), groups


def _pair(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else shape_text(pair)


def images_text(spec: ModelSpec) -> str:
    """How images are prepared for a network, in one line."""
    images = spec.preprocessing
    if images is None:
        return "images: preprocessing unknown"
    facts = [f"{_word(field.name)} {_value(field.name, getattr(images, field.name))}" for field in fields(images)]
    return f"images: {', '.join(facts)}"


def _tower_table(spec: ModelSpec, width: int | None) -> str:
    """The configuration as it is usually tabled: each tower's share of every layer with weights."""
    towers, weights = tower_count(spec), parameter_shapes(spec)
    rows = [("layer", "a tower", "towers", "together", "each output reads", "parameters")]
    for layer in spec.layers:
        if not isinstance(layer, Conv | Dense):
            continue
        weight = weights[f"{layer.name}.weight"]
        whole = weight[0]
        split = towers if layer != spec.head and whole % towers == 0 else 1
        reads = shape_text((*weight[2:], weight[1]))
        count = f"({prod(weight[1:])} + 1) x {whole} = {(prod(weight[1:]) + 1) * whole:,}"
        if not layer.bias:
            count = f"{prod(weight[1:])} x {whole} = {prod(weight):,}"
        rows.append((layer.name, str(whole // split), str(split), str(whole), reads, count))
    return f"by towers\n{_table(rows, {1, 2, 3}, width=width)}"


def _layer_differences(left: ModelSpec, right: ModelSpec) -> list[Difference]:
    mine, theirs = ({layer.name: layer for layer in spec.layers} for spec in (left, right))
    wires, weights = (left.wiring(), right.wiring()), (parameter_shapes(left), parameter_shapes(right))
    moved, found = _moved(list(mine), list(theirs)), list[Difference]()
    for name in _merged(list(mine), list(theirs)):
        a, b = mine.get(name), theirs.get(name)
        if a is None or b is None or type(a) is not type(b):
            kinds = [type(layer).__name__ if layer else ABSENT for layer in (a, b)]
            found.append(Difference(layer=name, what="layer", left=kinds[0], right=kinds[1]))
            continue
        here = field_differences(name, a, b)
        reads = tuple(", ".join(side[name]) for side in wires)
        if name in moved:
            here.append(Difference(layer=name, what="place", left=f"after {reads[0]}", right=f"after {reads[1]}"))
        elif (a.inputs or b.inputs) and reads[0] != reads[1]:
            here.append(Difference(layer=name, what="input", left=reads[0], right=reads[1]))
        # Sizes that other layers brought about are told only where nothing of the layer's own explains them.
        found += here or _weight_differences(name, *weights)
    return found


def _weight_differences(layer: str, left: dict[str, Shape], right: dict[str, Shape]) -> list[Difference]:
    return [
        Difference(layer=layer, what=role, left=shape_text(left[name]), right=shape_text(right[name]))
        for role in ROLES
        if (name := f"{layer}.{role}") in left and name in right and left[name] != right[name]
    ]


def field_differences(owner: str, left: Layer | Preprocessing, right: Layer | Preprocessing) -> list[Difference]:
    """Every field in which two layers of one kind differ, their names and what they read left aside."""
    return [
        Difference(
            layer=owner,
            what=_word(field.name),
            left=_value(field.name, getattr(left, field.name)),
            right=_value(field.name, getattr(right, field.name)),
        )
        for field in fields(left)
        if field.name not in ("name", "inputs") and getattr(left, field.name) != getattr(right, field.name)
    ]


def _moved(left: list[str], right: list[str]) -> set[str]:
    """The fewest names of both lists that have to be passed over for the rest to stand in one order.

    The rest is a longest row of places in `right` that rises, read from its end, where it falls: `ends[n]` is minus the
    highest place at which a row of n + 1 ends. Of two that could be passed over, it is the later in `left`.
    """
    places = {name: -place for place, name in enumerate(right)}
    common = [name for name in reversed(left) if name in places]
    ends, before, last = list[int](), dict[str, str | None](), list[str]()
    for name in common:
        at = bisect_left(ends, places[name])
        before[name] = last[at - 1] if at else None
        ends[at : at + 1], last[at : at + 1] = [places[name]], [name]
    kept, name = set[str](), last[-1] if last else None
    while name is not None:
        kept.add(name)
        name = before[name]
    return set(common) - kept


def _merged(left: list[str], right: list[str]) -> list[str]:
    """The names of both, in `left`'s order; what only `right` has stands behind its own predecessor."""
    known = set(left)
    behind = {before: name for before, name in zip((None, *right), right, strict=False) if name not in known}

    def row(name: str | None) -> Iterator[str]:
        if name is not None:
            yield name
        while name in behind:
            name = behind[name]
            yield name

    return [name for start in (None, *left) for name in row(start)]


def _word(field: str) -> str:
    return _WORDS.get(field, field)


def _value(field: str, value: Any) -> str:
    match field, value:
        case "towers", 1:
            return "across all channels"
        case "towers", _:
            return f"inside each of {value} towers"
        case "rounding", _:
            return {"ceil": "up", "floor": "down"}[value]
        case "crop", _:
            return {"floor": "down", "even": "half to even"}[value]
        case "region", _:
            return {"across": "across channels", "within": "within each map"}[value]
        case (("kernel" | "stride" | "pad" | "dilation"), _):
            return shape_text(value)
        case _, bool():
            return "yes" if value else "no"
        case _, tuple():
            return " ".join(map(_number, value))
        case _, float() | int():
            return _number(value)
        case _:
            return str(value)


def _number(value: float) -> str:
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def _all_fields(value: Layer | Preprocessing) -> dict[str, Any]:
    return {field.name: spec_json.to_dict(getattr(value, field.name)) for field in fields(value)}


def _table(
    rows: Sequence[tuple[str, ...]],
    right: Collection[int] = (),
    *,
    rule_before_last: bool = False,
    width: int | None = None,
) -> str:
    """Rows under a head; where they are wider than `width`, the last column stands under each row."""
    rows = [tuple(map(shown, row)) for row in rows]
    lines = _lines(rows, right, "  ")
    if width and max(map(len, lines)) > width:
        last = [wrap(row[-1], width, initial_indent="    ", subsequent_indent="    ") for row in rows]
        lines = _lines([row[:-1] for row in rows], right, " ")
        lines = ["\n".join((line, *under)) for line, under in zip(lines, last, strict=True)]
    rule = "-" * max(len(part) for line in lines for part in line.split("\n"))
    lines.insert(1, rule)
    if rule_before_last:
        lines.insert(-1, rule)
    return "\n".join(lines)


def _lines(rows: Sequence[tuple[str, ...]], right: Collection[int], between: str) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        between.join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
