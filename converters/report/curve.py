"""The curve of a report: how the error grows by depth, against the noise of a right model and the budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10

from converters.verdicts import LayerVerdict, Report

_WIDTH, _HEIGHT = 920, 390
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 16, 18, 74

# Dash patterns beside the colours, so that lines can be told apart without seeing colour.
_DASHES = ("none", "8 3", "2 3", "10 3 2 3", "5 5", "1 4", "14 4")

COLOURS = len(_DASHES)


@dataclass(frozen=True, kw_only=True)
class _Plane:
    """Where layers and errors are drawn: powers of ten from `low` to `high`."""

    low: int
    high: int
    layers: int

    def x(self, layer: int) -> float:
        return _LEFT + layer * (_WIDTH - _LEFT - _RIGHT) / max(self.layers - 1, 1)

    def y(self, error: float) -> float:
        power = min(max(log10(error), self.low), self.high) if error > 0 else self.low
        return _TOP + (self.high - power) / (self.high - self.low) * (_HEIGHT - _TOP - _BOTTOM)


def curve(report: Report) -> str:
    """An SVG of log10(error) over the layers, one line a subject; empty where nothing was compared."""
    drawn = [subject for subject in report.subjects if subject.layers]
    if not drawn:
        return ""
    names = [layer.name for layer in drawn[0].layers]
    low, high = _decades(report)
    plane = _Plane(low=low, high=high, layers=len(names))
    parts = [_ground(report, plane), _names(names, plane)]
    parts += [_line(number, subject.name, subject.layers, plane) for number, subject in enumerate(drawn)]
    title = "Error of every layer by depth, on a logarithmic scale; the table below holds the same numbers"
    return f'<svg class="curve" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">{"".join(parts)}</svg>'


def legend(report: Report) -> str:
    """The lines' names, each with a piece of its line."""
    drawn = [subject.name for subject in report.subjects if subject.layers]
    items = [
        f'<li><svg viewBox="0 0 30 8"><path class="line c{n % COLOURS}" d="M0 4H30" '
        f'stroke-dasharray="{_DASHES[n % COLOURS]}"/></svg>{escape(name)}</li>'
        for n, name in enumerate(drawn)
    ]
    return f'<ul class="legend" aria-hidden="true">{"".join(items)}</ul>'


def _decades(report: Report) -> tuple[int, int]:
    """The powers of ten to show: noise and budget always, and whatever errors there are between 1e-9 and 1000."""
    errors = [layer.error for subject in report.subjects for layer in subject.layers if layer.error]
    lowest = min([report.noise[0], *(error for error in errors if error > 1e-9)])
    highest = max([report.budget, *errors])
    return floor(log10(lowest)), max(min(floor(log10(highest)) + 1, 3), floor(log10(report.budget)) + 1)


def _ground(report: Report, plane: _Plane) -> str:
    right, (low, high) = _WIDTH - _RIGHT, (plane.y(value) for value in report.noise)
    parts = [f'<rect class="noise" x="{_LEFT}" y="{high:.1f}" width="{right - _LEFT}" height="{low - high:.1f}"/>']
    for power in range(plane.low, plane.high + 1):
        at = plane.y(10.0**power)
        parts.append(f'<path class="grid" d="M{_LEFT} {at:.1f}H{right}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">1e{power}</text>')
    at = plane.y(report.budget)
    parts.append(f'<path class="limit" d="M{_LEFT} {at:.1f}H{right}"/>')
    parts.append(f'<text class="strong" x="{right}" y="{at - 5:.1f}" text-anchor="end">budget {report.budget:g}</text>')
    parts.append(f'<text x="{_LEFT + 6}" y="{(low + high) / 2 + 4:.1f}">noise of a right model</text>')
    return "".join(parts)


def _names(names: Sequence[str], plane: _Plane) -> str:
    base, every = _HEIGHT - _BOTTOM + 14, max(1, len(names) // 40)
    return "".join(
        f'<text transform="translate({plane.x(i) + 4:.1f} {base}) rotate(-60)" text-anchor="end">{escape(name)}</text>'
        for i, name in enumerate(names)
        if i % every == 0
    )


def _line(number: int, subject: str, layers: Sequence[LayerVerdict], plane: _Plane) -> str:
    path, pen, marks = list[str](), "M", list[str]()
    for i, layer in enumerate(layers):
        if layer.error is None:
            pen = "M"  # a gap: there is no number to draw
            if not layer.ok:
                marks.append(_cross(plane.x(i), _TOP))
            continue
        x, y = plane.x(i), plane.y(layer.error)
        path.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L"
        if not layer.ok:
            marks.append(_cross(x, y))
    dash = _DASHES[number % COLOURS]
    line = f'<path class="line c{number % COLOURS}" stroke-dasharray="{dash}" d="{"".join(path)}"/>' if path else ""
    return f"<g><title>{escape(subject)}</title>{line}{''.join(marks)}</g>"


def _cross(x: float, y: float) -> str:
    return f'<path class="cross" d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"/>'
