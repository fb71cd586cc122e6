"""The report as one self-contained HTML page: no script, no network, light and dark, readable on a phone."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise
from math import log10

from converters.report.curve import curve, legend
from converters.report.style import STYLE
from converters.report.wording import (
    error_text,
    output_rows,
    printable,
    reasons,
    remarks,
    subject_line,
    summary_rows,
    telling_error,
    verdict_sentence,
)
from converters.verdicts import Diagnosis, LayerVerdict, OutputVerdict, Report, SubjectVerdict

# The page may show its own style, and nothing else whatever.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"

# log10(error / budget) at which the colour of the heat map changes; the last two are failures.
_STEPS = (-2.0, -1.5, -1.0, -0.5, 0.0, 2.0)


def html(report: Report) -> str:
    """The page."""
    report = printable(report)
    sections = [
        _verdict(report),
        _reasons(report),
        _outputs(report),
        _heat_map(report),
        _depth(report),
        _subjects(report),
        _limits(report),
        _method(report),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(verdict_sentence(report))}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{''.join(sections)}</main>\n</body>\n</html>\n"
    )


def _section(title: str, body: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{body}\n</section>\n" if body else ""


def _verdict(report: Report) -> str:
    status = "passed" if report.passed else "failed" if report.exit_status == 1 else "unavailable"
    word = {"passed": "Proved", "failed": "Differs", "unavailable": "Not proved"}[status]
    worst = max((s.max_error for s in report.subjects if s.max_error is not None), default=None)
    facts = [
        ("network", report.model),
        ("subjects", str(len(report.subjects))),
        ("worst error", error_text(worst)),
        ("budget", f"{report.budget:g}"),
        ("noise of a right model", f"{report.noise[0]:g} to {report.noise[1]:g}"),
    ]
    told = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    return (
        f'<header class="{status}">\n<p class="badge">{word}</p>\n'
        f"<h1>{escape(verdict_sentence(report))}</h1>\n<dl>{told}</dl>\n</header>\n"
    )


def _reasons(report: Report) -> str:
    parts = list[str]()
    for subject in report.subjects:
        if subject.status == "passed":
            continue
        told = "".join(_diagnosis(diagnosis, others) for diagnosis, others in reasons(subject))
        parts.append(f'<article class="{subject.status}"><h3>{escape(subject_line(subject))}</h3>{told}</article>')
    return _section("Why", "".join(parts))


def _diagnosis(diagnosis: Diagnosis, others: Sequence[str]) -> str:
    also = f"; likewise {', '.join(others)}" if others else ""
    return (
        f'<p class="reason"><strong>{escape(diagnosis.message)}</strong>{escape(also)}</p>'
        f'<p class="remedy">What to do: {escape(diagnosis.remedy)}. <code>{escape(diagnosis.fault)}</code></p>'
    )


def _compared(report: Report) -> tuple[list[SubjectVerdict], list[LayerVerdict]]:
    """The subjects that were run, and the layers."""
    drawn = [subject for subject in report.subjects if subject.layers]
    return drawn, list(drawn[0].layers) if drawn else []


def _table(label: str, heads: Sequence[str], rows: Sequence[str], style: str = "") -> str:
    """A table that scrolls by itself on a narrow screen; of a path its head shows the file's name."""
    head = "".join(f'<th scope="col" title="{escape(name)}">{escape(name.rpartition("/")[2])}</th>' for name in heads)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}"><table class="{style}">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _outputs(report: Report) -> str:
    """What each subject declares, first of all."""
    rows = list[str]()
    for name, verdicts in output_rows(report):
        cells = "".join("<td></td>" if item is None else _output(item) for item in verdicts)
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    if not rows:
        return ""
    return _section(
        "What each subject declares",
        "<p>The outputs, which are what a user gets, held to the reference. A cross marks what fails.</p>"
        + _table("Outputs", ["output", *(subject.name for subject in report.subjects)], rows),
    )


def _output(item: OutputVerdict) -> str:
    cross = "" if item.ok else '<span class="x">✗</span> '
    told = f"<p><small>{escape(item.reason)}</small></p>" if item.reason else ""
    return f"<td>{cross}{error_text(item.error)}{told}</td>"


def _limits(report: Report) -> str:
    told = "".join(f"<li>{escape(limit)}</li>" for limit in (*report.unproved, *report.limits))
    return _section("What this proof does not show", f"<ul>{told}</ul>" if told else "")


def _heat_map(report: Report) -> str:
    drawn, layers = _compared(report)
    if not drawn:
        return ""
    rows = list[str]()
    for i, layer in enumerate(layers):
        cells = "".join(_heat(subject.layers[i], report.budget) for subject in drawn)
        rows.append(f'<tr><th scope="row">{escape(layer.name)}{_mark(layer)}</th>{cells}</tr>')
    key = "".join(f'<span class="heat h{n}">{words}</span>' for n, words in enumerate(_key()))
    return _section(
        "Every layer of every subject",
        "<p>log<sub>10</sub>(error / budget): 0 is the budget, -1 a tenth of it. A cross marks what fails.</p>"
        f'<p class="key">{key}</p>'
        + _table("Heat map", ["layer", *(s.name for s in drawn)], rows, "map")
        + _footnote(layers),
    )


def _key() -> list[str]:
    edges = [f"{step:g}" for step in _STEPS]
    between = [f"{a} to {b}" for a, b in pairwise(edges)]
    return [f"below {edges[0]}", *between, f"above {edges[-1]}"]


def _mark(layer: LayerVerdict) -> str:
    return "" if layer.gated else '<span title="shown, not gated">*</span>'


def _footnote(layers: list[LayerVerdict]) -> str:
    return "" if all(layer.gated for layer in layers) else "<p><small>* shown, not gated</small></p>"


def _heat(layer: LayerVerdict, budget: float) -> str:
    worst = telling_error(layer)
    alone = "" if layer.local is None else f", by itself {error_text(layer.local)}"
    exact = escape(f"{layer.name}: {layer.reason or f'error {error_text(worst)}{alone}, peak {layer.peak:.3g}'}")
    cross = "" if layer.ok else '<span class="x">✗</span> '
    if worst is None:
        return f'<td class="heat {"none" if layer.ok else "h6"}" title="{exact}">{cross}-</td>'
    if worst == 0:
        return f'<td class="heat h0" title="{exact}">{cross}equal</td>'
    power = log10(worst / budget)
    level = sum(power > step for step in _STEPS)
    return f'<td class="heat h{level}" title="{exact}">{cross}{power:.1f}</td>'


def _depth(report: Report) -> str:
    drawn, layers = _compared(report)
    if not drawn:
        return ""
    rows = list[str]()
    for i, layer in enumerate(layers):
        cells = "".join(
            f"<td>{'' if s.layers[i].ok else '<span class=x>✗</span> '}{error_text(telling_error(s.layers[i]))}</td>"
            for s in drawn
        )
        rows.append(f'<tr><th scope="row">{escape(layer.name)}{_mark(layer)}</th><td>{layer.peak:.3g}</td>{cells}</tr>')
    table = _table("Errors", ["layer", "peak", *(s.name for s in drawn)], rows)
    return _section(
        "How the error grows by depth",
        f'{legend(report)}<div class="scroll" tabindex="0" role="region" aria-label="Curve">{curve(report)}</div>'
        f"<details><summary>The same numbers as a table</summary>{table}{_footnote(layers)}</details>",
    )


def _subjects(report: Report) -> str:
    rows = list[str]()
    summaries = summary_rows(report)
    for i, s in enumerate(report.subjects):
        agreement = _agreement(s)
        worst, alone, exercised, top1 = (row[1 + i] for row in summaries)
        cells = [s.status, worst, alone, exercised, s.first_failure or "", top1, f"{s.seconds:.1f} s"]
        told = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        notes = "".join(f"<p><small>{escape(note)}</small></p>" for note in (*remarks(s), *agreement))
        rows.append(f'<tr class="{s.status}"><th scope="row">{escape(s.name)}{notes}</th>{told}</tr>')
    heads = ["subject", "status", "worst error", "worst by itself", "exercised", "first failure", "top-1*", "time"]
    note = "<p><small>* share of samples with the same best class; shown, never a gate</small></p>"
    return _section("The subjects", _table("Subjects", heads, rows) + note)


def _agreement(subject: SubjectVerdict) -> list[str]:
    if subject.agreement is None:
        return []
    a = subject.agreement
    more = "" if a.top5 is None else f", top-5 agreement {a.top5:.1%}"
    return [f"top-1 agreement {a.top1:.1%}{more} over {a.images} images", *a.otherwise]


def _method(report: Report) -> str:
    samples = "".join(f"<li>{escape(sample)}</li>" for sample in report.samples)
    parts = [
        "<p>error = max|y - ref| / max|ref| of the worst sample, against a float64 reference with "
        f"{escape(report.weights)}, in {report.seconds:.1f} s.</p><ul>{samples}</ul>"
    ]
    if report.command:
        parts.append(f"<h3>To reproduce</h3><pre><code>{escape(report.command)}</code></pre>")
    if report.files:
        rows = [_row(fact.path, fact.sha256, "hash") for fact in report.files]
        parts.append("<h3>Files</h3>" + _table("Files", ["file", "SHA-256"], rows, "facts"))
    rows = [_row(name, version, "text") for name, version in report.versions.items()]
    parts.append("<h3>Versions</h3>" + _table("Versions", ["package", "version"], rows, "facts"))
    return _section("How it was done", "".join(parts))


def _row(name: str, value: str, style: str) -> str:
    return f'<tr><th scope="row">{escape(name)}</th><td class="{style}">{escape(value)}</td></tr>'
