"""A network drawn as in the 2012 paper's figure 2: boxes in perspective, two towers, and where they meet.

Every box is an activation: its height and its slant are the rows and columns of the maps, its breadth their number, all
on compressed scales so that 227 and 6, or 3 and 4096, fit in one picture. Any network of the layer vocabulary is drawn:
one tower where there are none, and boxes above each other where the layers are no chain. Equal specs give equal text.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from math import sqrt

from zoo.axes import shape_text
from zoo.errors import shown
from zoo.layers import LRN, Concat, Conv, Dense, Dropout, Eltwise, Input, Layer, ModelSpec, Pool, Shape, Slice
from zoo.shapes import activation_shapes, multiply_adds, parameter_count
from zoo.show import tower_count

_STYLE = """
:root { --paper:#ffffff; --ink:#1f2328; --soft:#59636e; --a:#2f6fde; --b:#0b8f6f; --one:#6f5bd3; --meet:#d9480f; }
@media (prefers-color-scheme: dark) {
  :root { --paper:#0d1117; --ink:#e6edf3; --soft:#9198a1; --a:#6ea8ff; --b:#4fd1a5; --one:#b8a5ff; --meet:#ff9d5c; }
}
text { font:11px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif; fill:var(--ink); text-anchor:middle; }
.h { font-size:20px; font-weight:650; text-anchor:start; } .p { fill:var(--soft); text-anchor:start; }
.n { font-weight:650; font-size:12.5px; } .o { fill:var(--soft); font-size:10.5px; }
.s { font-size:10px; fill:var(--ink); paint-order:stroke; stroke:var(--paper); stroke-width:3px; }
.e { text-anchor:end; } .paper { fill:var(--paper); }
.a { --c:var(--a); } .b { --c:var(--b); } .one { --c:var(--one); } .meet { --c:var(--meet); }
.f { fill:var(--c); fill-opacity:.26; } .t { fill:var(--c); fill-opacity:.13; } .r { fill:var(--c); fill-opacity:.4; }
.f,.t,.r { stroke:var(--c); stroke-width:1; stroke-linejoin:round; }
.k { fill:var(--paper); fill-opacity:.55; stroke:var(--ink); stroke-width:.9; stroke-linejoin:round; }
.l { fill:none; stroke:var(--c); stroke-width:1; stroke-dasharray:3 2.5; }
.q { fill:var(--c); fill-opacity:.1; stroke:var(--c); stroke-opacity:.55; stroke-width:.8; }
.w { fill:none; stroke:var(--c); stroke-width:1.3; }
""".strip()

# The slant of the third dimension: columns of a map go right and up.
_RIGHT, _UP = 0.42, 0.3
_LARGEST = 150.0  # height of the largest map
_MARGIN, _GAP, _LINE = 36.0, 58.0, 14.0
_TOP = 92.0  # below the heading
_TOWERS = ("a", "b")


@dataclass(kw_only=True, slots=True)
class _Stage:
    """One column of boxes: a layer and the layers that only change its values."""

    head: Layer | Input
    shape: Shape
    reads: list[int]
    tail: list[Layer] = field(default_factory=list[Layer])
    split: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class _Box:
    """A cuboid: front face at (x, y), breadth x height, slanting back by `depth`."""

    x: float
    y: float
    breadth: float
    height: float
    depth: float
    colour: str

    @property
    def right(self) -> float:
        return self.x + self.breadth + _RIGHT * self.depth

    @property
    def top(self) -> float:
        return self.y - _UP * self.depth

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def middle(self) -> tuple[float, float]:
        """The centre of the side that layers before it reach."""
        return self.x + _RIGHT * self.depth / 2, self.y + self.height / 2 - _UP * self.depth / 2

    def draw(self, kind: str = "") -> str:
        """The three faces that are seen; `kind` replaces their own classes."""
        x, y, b, h = self.x, self.y, self.breadth, self.height
        dx, dy = _RIGHT * self.depth, -_UP * self.depth
        faces = {
            "t": [(x, y), (x + dx, y + dy), (x + b + dx, y + dy), (x + b, y)],
            "r": [(x + b, y), (x + b + dx, y + dy), (x + b + dx, y + h + dy), (x + b, y + h)],
            "f": [(x, y), (x + b, y), (x + b, y + h), (x, y + h)],
        }
        return "".join(f'<path class="{kind or face}" d="{_closed(points)}"/>' for face, points in faces.items())


def svg(spec: ModelSpec) -> str:
    """The picture as one self-contained SVG document, for light and dark pages.

    Raises:
        SpecError: the network is impossible.
    """
    stages = _stages(spec)
    chain = all(stage.reads == [i - 1] for i, stage in enumerate(stages) if i)
    towers = tower_count(spec) if chain and tower_count(spec) == len(_TOWERS) else 1
    for stage in stages:
        channels = stage.shape[0] if stage.shape else 1
        weighted = isinstance(stage.head, Conv | Dense) and stage.head != spec.head
        stage.split = towers if weighted and channels % towers == 0 else 1
    columns = _columns(stages)
    boxes, width, bottom = _place(stages, columns, towers)
    parts = [*_heading(spec), *_links(stages, boxes)]
    for stage, own in zip(stages, boxes, strict=True):
        parts += [f'<g class="{box.colour}">{box.draw()}{_sizes(stage, box)}</g>' for box in own]
    parts += [*_patches(stages, boxes), *_spans(stages, boxes)]
    deepest = 0.0
    for stage, own in zip(stages, boxes, strict=True):
        start = bottom if chain else max(box.bottom for box in own) + 26
        parts += _caption(stage, own, start)
        deepest = max(deepest, start + _LINE * len(_words(stage)))
    if towers > 1:
        deepest += 34
        parts += _legend(deepest)
    return _document(spec, stages, parts, max(width, 620.0), deepest + 24)


def _stages(spec: ModelSpec) -> list[_Stage]:
    shapes, wiring = activation_shapes(spec), spec.wiring()
    readers = Counter(name for names in wiring.values() for name in names)
    stages = [_Stage(head=source, shape=source.shape, reads=[]) for source in spec.inputs]
    owner = {source.name: i for i, source in enumerate(spec.inputs)}
    ends = {source.name for source in spec.inputs}
    for layer in spec.layers:
        reads = wiring[layer.name]
        source = reads[0]
        own = isinstance(layer, Conv | Dense | Concat | Eltwise | Slice) or len(reads) > 1
        if own or readers[source] > 1 or source not in ends:
            stages.append(_Stage(head=layer, shape=shapes[layer.name], reads=[owner[name] for name in reads]))
            owner[layer.name] = len(stages) - 1
        else:
            ends.discard(source)
            owner[layer.name] = owner[source]
            stages[owner[layer.name]].tail.append(layer)
        ends.add(layer.name)
    return stages


def _columns(stages: list[_Stage]) -> list[int]:
    """The column of each stage: one to the right of the last that it reads."""
    columns = list[int]()
    for stage in stages:
        columns.append(1 + max((columns[i] for i in stage.reads), default=-1))
    return columns


def _place(stages: list[_Stage], columns: list[int], towers: int) -> tuple[list[list[_Box]], float, float]:
    """The boxes of every stage, the width of the picture and the lowest edge of the boxes."""
    largest = max(max(_rows_cols(stage.shape)) for stage in stages)
    extents = [_extent(stage, largest) for stage in stages]
    stacked = max(Counter(columns).values()) > 1
    heights = [height + _UP * depth for _, height, depth in extents]
    rooms = [
        height + 34 + (_LINE * len(_words(stage)) + 30 if stacked else 0)
        for height, stage in zip(heights, stages, strict=True)
    ]
    split_pitch = max((h for h, stage in zip(heights, stages, strict=True) if stage.split > 1), default=0.0) + 34
    within = defaultdict[int, list[int]](list)
    for i, column in enumerate(columns):
        within[column].append(i)
    tallest = max(sum(rooms[i] for i in here) for here in within.values())
    middle = _TOP + max(tallest, split_pitch * towers) / 2
    boxes, x = [list[_Box]() for _ in stages], _MARGIN
    for _, here in sorted(within.items()):
        y = middle - sum(rooms[i] for i in here) / 2
        caption = max(_text_width(stages[i]) for i in here)
        solid = max(extents[i][0] + _RIGHT * extents[i][2] for i in here)
        left = x + max(0.0, caption - solid) / 2
        for i in here:
            breadth, height, depth = extents[i]
            centre = y + rooms[i] / 2 - (_LINE * len(_words(stages[i])) / 2 if stacked else 0)
            for tower in range(stages[i].split):
                at = centre + (tower - (stages[i].split - 1) / 2) * split_pitch
                colour = _TOWERS[tower] if stages[i].split > 1 else "one"
                face = at - height / 2 + _UP * depth / 2
                boxes[i].append(_Box(x=left, y=face, breadth=breadth, height=height, depth=depth, colour=colour))
            y += rooms[i]
        x = max(left + solid + _GAP, x + caption + 16)
    bottom = max(box.bottom for own in boxes for box in own) + 34
    return boxes, x - _GAP + _MARGIN, bottom


def _rows_cols(shape: Shape) -> tuple[int, int]:
    return (shape[1] if len(shape) > 1 else 1, shape[2] if len(shape) > 2 else 1)


def _extent(stage: _Stage, largest: int) -> tuple[float, float, float]:
    """Breadth, height and depth in the picture."""
    channels = (stage.shape[0] if stage.shape else 1) // stage.split
    rows, cols = _rows_cols(stage.shape)
    if rows == cols == 1:
        return 11.0, max(16.0, min(190.0, 2.6 * sqrt(channels))), 16.0
    scale = [max(7.0, _LARGEST * (size / largest) ** 0.55) for size in (rows, cols)]
    return max(4.0, min(70.0, 2.6 * sqrt(channels))), scale[0], scale[1]


def _links(stages: list[_Stage], boxes: list[list[_Box]]) -> Iterator[str]:
    """Dense layers as fans and joins as lines; convolutions are drawn by `_patches`, over the boxes."""
    for i, stage in enumerate(stages):
        for source in stage.reads:
            if isinstance(stage.head, Conv) and len(stage.shape) == 3:
                continue
            for a, start in enumerate(boxes[source]):
                for b, end in enumerate(boxes[i]):
                    colour = _link_colour(stages[source], stage, a, b)
                    if isinstance(stage.head, Dense):
                        points = [(start.right, start.top), (end.x, end.y), (end.x, end.bottom)]
                        points.append((start.right, start.bottom - _UP * start.depth))
                        yield f'<path class="q {colour}" d="{_closed(points)}"/>'
                    else:
                        yield f'<path class="w {colour}" d="{_curve(start, end)}"/>'


def _curve(start: _Box, end: _Box) -> str:
    (x0, y0), (x1, y1) = (start.right, (start.top + start.bottom) / 2), end.middle
    # A line that passes other columns swings over them.
    lift = 0.0 if x1 - x0 < 2.5 * _GAP else 60.0 + 0.12 * (x1 - x0)
    bend = max(18.0, (x1 - x0) / 2)
    return f"M{_xy(x0, y0)}C{_xy(x0 + bend, y0 - lift)} {_xy(x1 - bend, y1 - lift)} {_xy(x1, y1)}"


def _patches(stages: list[_Stage], boxes: list[list[_Box]]) -> Iterator[str]:
    """For every convolution the window it reads in the box before, and its lines to the pixel it makes."""
    for i, stage in enumerate(stages):
        if not isinstance(stage.head, Conv) or len(stage.shape) != 3:
            continue
        for source in stage.reads:
            size = _read_size(stages[source])
            drawn = set[tuple[int, float]]()
            for a, start in enumerate(boxes[source]):
                for b, end in enumerate(boxes[i]):
                    if stages[source].split > 1 and stage.head.groups > 1 and a != b:
                        continue
                    # From one box to two towers: a window for each, one above the other.
                    share = (b + 1) / (stage.split + 1) if stages[source].split == 1 else 0.5
                    patch = _patch(start, stage.head, size, share)
                    colour = _link_colour(stages[source], stage, a, b)
                    yield f'<path class="l {colour}" d="{_pyramid(patch, end)}"/>'
                    if (a, share) not in drawn:
                        drawn.add((a, share))
                        yield patch.draw("k")


def _spanning(stage: _Stage) -> str:
    """The name of a normalisation that reads the channels of both towers; "" where there is none."""
    for layer in stage.tail if stage.split > 1 else []:
        if isinstance(layer, LRN) and layer.region == "across" and layer.towers == 1:
            return layer.name
    return ""


def _spans(stages: list[_Stage], boxes: list[list[_Box]]) -> Iterator[str]:
    """A cross between two towers whose channels are normalised together."""
    for stage, own in zip(stages, boxes, strict=True):
        if _spanning(stage):
            upper, lower = own
            for start, end in ((0.0, upper.breadth), (upper.breadth, 0.0)):
                line = f"M{_xy(upper.x + start, upper.bottom)}L{_xy(lower.x + end, lower.y)}"
                yield f'<path class="w meet" d="{line}"/>'


def _read_size(stage: _Stage) -> tuple[int, int]:
    """Rows and columns of what the stage's last layer leaves: pooling may have come between."""
    rows, cols = _rows_cols(stage.shape)
    for layer in stage.tail:
        if isinstance(layer, Pool):
            rows, cols = max(1, rows // layer.stride[0]), max(1, cols // layer.stride[1])
    return rows, cols


def _patch(box: _Box, conv: Conv, size: tuple[int, int], share: float) -> _Box:
    height = max(4.0, min(1.0, conv.kernel[0] / size[0]) * box.height)
    depth = max(4.0, min(1.0, conv.kernel[1] / size[1]) * box.depth)
    back = (box.depth - depth) / 2
    return _Box(
        x=box.x + _RIGHT * back,
        y=box.y + (box.height - height) * share - _UP * back,
        breadth=box.breadth,
        height=height,
        depth=depth,
        colour=box.colour,
    )


def _pyramid(patch: _Box, end: _Box) -> str:
    dx, dy = _RIGHT * patch.depth, -_UP * patch.depth
    x = patch.x + patch.breadth
    corners = [(x, patch.y), (x + dx, patch.y + dy), (x + dx, patch.bottom + dy), (x, patch.bottom)]
    return "".join(f"M{_xy(*corner)}L{_xy(*end.middle)}" for corner in corners)


def _link_colour(source: _Stage, stage: _Stage, a: int, b: int) -> str:
    if source.split > 1 and stage.split > 1:
        return _TOWERS[b] if a == b else "meet"
    if source.split > 1:
        return _TOWERS[a]
    return _TOWERS[b] if stage.split > 1 else "one"


def _sizes(stage: _Stage, box: _Box) -> str:
    """Rows at the left edge, columns at the slanted one, the number of maps below; a vector's length below."""
    channels = (stage.shape[0] if stage.shape else 1) // stage.split
    labels = [_text(box.x + box.breadth / 2, box.bottom + 13, str(channels), "s")]
    if len(stage.shape) > 1:
        rows, cols = _rows_cols(stage.shape)
        labels.append(_text(box.x - 4, box.bottom - 3, str(rows), "s e"))
        if len(stage.shape) > 2:
            labels.append(_text(box.x + _RIGHT * box.depth / 2 - 3, box.y - _UP * box.depth / 2 - 2, str(cols), "s e"))
    return "".join(labels)


def _caption(stage: _Stage, boxes: list[_Box], y: float) -> Iterator[str]:
    x = (boxes[0].x + boxes[0].right) / 2
    yield _text(x, y, stage.head.name, "n")
    for i, words in enumerate(_words(stage)):
        yield _text(x, y + _LINE * (i + 1), words, "o")


def _words(stage: _Stage) -> list[str]:
    """The lines below a stage's name: what it does, then what follows it."""
    head = stage.head
    own = "input" if isinstance(head, Input) else _layer_words(head)
    return [own, *map(_layer_words, stage.tail)]


def _layer_words(layer: Layer) -> str:
    match layer:
        case Conv():
            step = f"/{layer.stride[0]}" if layer.stride != (1, 1) else ""
            return f"conv {layer.kernel[0]}×{layer.kernel[1]}{step}" + (f", {layer.groups} groups" * (layer.groups > 1))
        case Dense():
            return "dense"
        case Pool():
            window = f" {layer.kernel[0]}×{layer.kernel[1]}/{layer.stride[0]}"
            return ("max" if layer.mode == "max" else "mean") + " pool" + (", global" if layer.global_pool else window)
        case LRN():
            where = "in maps" if layer.region == "within" else "per tower" if layer.towers > 1 else "all maps"
            return f"LRN {layer.size} {where}"
        case Dropout():
            return f"dropout {layer.ratio:g}"
        case Eltwise():
            return layer.operation
        case Slice():
            return f"slice {layer.start}:{layer.stop}"
        case _:
            return type(layer).__name__


def _text_width(stage: _Stage) -> float:
    return max(6.9 * len(stage.head.name), *(5.7 * len(words) for words in _words(stage)))


def _heading(spec: ModelSpec) -> list[str]:
    work = sum(multiply_adds(spec).values())
    totals = f"{parameter_count(spec):,} parameters · {work:,} multiply-adds an image"
    return [
        _text(_MARGIN, 36, spec.name, "h"),
        _text(_MARGIN, 55, spec.title, "p"),
        _text(_MARGIN, 71, totals, "p"),
    ]


def _legend(y: float) -> Iterator[str]:
    x = _MARGIN
    for colour, words in (
        ("a", "first tower"),
        ("b", "second tower"),
        ("meet", "between the towers"),
        ("one", "whole"),
    ):
        yield f'<rect class="f {colour}" x="{_n(x)}" y="{_n(y - 9)}" width="13" height="10" rx="2"/>'
        yield _text(x + 19, y, words, "p")
        x += 40 + 6.0 * len(words)


def _document(spec: ModelSpec, stages: list[_Stage], parts: list[str], width: float, height: float) -> str:
    told = "; ".join(
        f"{stage.head.name}: {shape_text(stage.shape)}" + (f" in {stage.split} towers" * (stage.split > 1))
        for stage in stages
    )
    joins = [f"from {a.head.name} to {b.head.name}" for a, b in pairwise(stages) if _meets(a, b)]
    joins = [f"in {name}" for name in map(_spanning, stages) if name] + joins
    crossing = f" The towers exchange activations {', '.join(joins)}." if joins else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="title desc" '
        f'width="{_n(width)}" height="{_n(height)}" viewBox="0 0 {_n(width)} {_n(height)}">\n'
        f'<title id="title">{escape(shown(f"{spec.name}: {spec.title}"))}</title>\n'
        f'<desc id="desc">{escape(shown(told))}.{escape(crossing)}</desc>\n<style>\n{_STYLE}\n</style>\n'
        f'<rect class="paper" width="100%" height="100%"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _meets(source: _Stage, stage: _Stage) -> bool:
    grouped = isinstance(stage.head, Conv) and stage.head.groups > 1
    return source.split > 1 and stage.split > 1 and not grouped


def _text(x: float, y: float, words: str, kind: str) -> str:
    return f'<text class="{kind}" x="{_n(x)}" y="{_n(y)}">{escape(shown(words))}</text>'


def _closed(points: list[tuple[float, float]]) -> str:
    return "M" + "L".join(_xy(*point) for point in points) + "Z"


def _xy(x: float, y: float) -> str:
    return f"{_n(x)} {_n(y)}"


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
