"""The report as text, Markdown and JSON, and in the form that a file's suffix asks for."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from converters.report.html_page import html
from converters.report.wording import (
    error_text,
    in_markdown,
    names_of,
    output_rows,
    printable,
    reasons,
    remarks,
    subject_line,
    summary_rows,
    telling_error,
    verdict_sentence,
)
from converters.verdicts import UNKNOWN, Diagnosis, LayerVerdict, OutputVerdict, Report, SubjectVerdict
from zoo.errors import ZooError

_RED, _GREEN, _YELLOW, _BOLD, _END = "\033[31m", "\033[32m", "\033[33m", "\033[1m", "\033[0m"


def report_form(path: Path, form: str | None = None) -> str:
    """The form of a report's file, ``html``, ``md`` or ``json``: as asked for, else as its suffix says.

    Raises:
        ZooError: neither says one.
    """
    form = form or path.suffix.removeprefix(".")
    if form not in FORMS:
        known = ", ".join(f".{name}" for name in FORMS)
        raise ZooError(f"{path}: a report is {known}; choose one of these suffixes, or name it with --report-format")
    return form


def render(report: Report, form: str) -> str:
    """The report as ``html``, ``md`` or ``json``."""
    return FORMS[form](report)


def json_text(report: Report) -> str:
    """The report as one JSON object, schema 1."""
    return json.dumps(report.to_dict(), indent=2, allow_nan=False) + "\n"


def text(report: Report, *, colour: bool = False) -> str:
    """The report for a terminal: the verdict, every layer of every subject, and why a subject differs.

    Args:
        report: the proof.
        colour: with ANSI colours; for terminals only.
    """

    def paint(colours: str, words: str) -> str:
        return f"{colours}{words}{_END}" if colour else words

    report = printable(report)
    lines = [paint(_BOLD + (_GREEN if report.passed else _RED), verdict_sentence(report)), ""]
    lines += _layer_table(report, paint)
    for subject in report.subjects:
        lines += _why(subject, paint)
    lines += [f"  not shown by this proof: {limit}" for limit in report.limits]
    low, high = report.noise
    lines += [
        "",
        f"error = max|y - ref| / max|ref|, the worst of {', '.join(dict.fromkeys(report.samples)) or 'the samples'}",
    ]
    lines += [f"budget {report.budget:g}; noise of a right model {low:g} to {high:g}; {report.seconds:.1f} s"]
    return "\n".join(lines) + "\n"


def _layer_table(report: Report, paint: Callable[[str, str], str]) -> list[str]:
    heads, legend = names_of(report)
    rows = [["", *heads]]
    rows += [[f"output {name}", *map(_cell, cells)] for name, cells in output_rows(report)]
    compared = next((subject.layers for subject in report.subjects if subject.layers), ())
    for i, layer in enumerate(compared):
        row = [layer.name + ("" if layer.gated else " *")]
        rows.append(row + [_cell(subject.layers[i]) if subject.layers else "" for subject in report.subjects])
    rows += summary_rows(report)
    rows.append(["status", *(subject.status for subject in report.subjects)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = list[str]()
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        for cell, width in zip(row[1:], widths[1:], strict=True):
            cells.append(_painted(cell.rjust(width), paint))
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * (sum(widths) + 2 * (len(widths) - 1)))
    ungated = any(not layer.gated for subject in report.subjects for layer in subject.layers)
    return lines + legend + (["* shown, not gated"] if ungated else [])


def _painted(cell: str, paint: Callable[[str, str], str]) -> str:
    word = cell.strip()
    if word.endswith("!") or word == "failed":
        return paint(_RED, cell)
    return paint({"passed": _GREEN, "unavailable": _YELLOW}[word], cell) if word in ("passed", "unavailable") else cell


def _cell(item: LayerVerdict | OutputVerdict | None) -> str:
    """An error, with an exclamation mark where it fails; a dash where there is none to give."""
    return "" if item is None else error_text(telling_error(item)) + ("" if item.ok else "!")


def _why(subject: SubjectVerdict, paint: Callable[[str, str], str]) -> list[str]:
    lines = list[str]()
    if subject.status != "passed":
        lines += ["", paint(_BOLD, subject_line(subject))]
    for diagnosis, layers in reasons(subject):
        lines += _diagnosis_lines(diagnosis, layers)
    if subject.agreement:
        agreement = subject.agreement
        more = "" if agreement.top5 is None else f", top-5 {agreement.top5:.1%}"
        lines.append(f"  {subject.name}: top-1 agreement {agreement.top1:.1%}{more} of {agreement.images} images")
        lines += [f"    {image}" for image in agreement.otherwise]
    return lines + [f"  {subject.name}: {note}" for note in remarks(subject)]


def _diagnosis_lines(diagnosis: Diagnosis, others: Sequence[str]) -> list[str]:
    mark = "?" if diagnosis.fault == UNKNOWN else ">"
    also = f"; likewise {', '.join(others)}" if others else ""
    return [f"  {mark} {diagnosis.message}{also}", f"    {diagnosis.remedy}"]


def markdown(report: Report) -> str:
    """The report as Markdown, for a pull request."""
    report = printable(report)
    heads = [subject.name for subject in report.subjects]
    compared = next((subject.layers for subject in report.subjects if subject.layers), ())
    rows: list[Sequence[str]] = [["layer", *heads], ["---", *("---:" for _ in heads)]]
    rows += [[f"**output {name}**", *map(_markdown_cell, cells)] for name, cells in output_rows(report)]
    for i, layer in enumerate(compared):
        cells = [_markdown_cell(subject.layers[i]) if subject.layers else "" for subject in report.subjects]
        rows.append([layer.name + ("" if layer.gated else " (shown only)"), *cells])
    rows += summary_rows(report)
    rows.append(["**status**", *(f"**{s.status}**" for s in report.subjects)])
    lines = [f"**{in_markdown(verdict_sentence(report))}**", ""]
    lines += [f"| {' | '.join(in_markdown(cell) for cell in row)} |" for row in rows]
    for subject in report.subjects:
        why = [line for line in _why(subject, lambda _, words: words) if line]
        lines += ["", *(f"- {in_markdown(line.strip())}" for line in why)] if why else []
    lines += (
        ["", *(f"- not shown by this proof: {in_markdown(limit)}" for limit in report.limits)] if report.limits else []
    )
    low, high = report.noise
    lines += ["", f"Budget {report.budget:g} of each layer's peak; noise of a right model {low:g} to {high:g}."]
    fence = "``" if "`" in report.command else "`"
    lines += ["", f"{fence}{report.command.replace('``', '?')}{fence}"] if report.command else []
    return "\n".join(lines) + "\n"


def _markdown_cell(item: LayerVerdict | OutputVerdict | None) -> str:
    if item is None:
        return ""
    value = error_text(telling_error(item))
    return value if item.ok else f"**{value}**"


# The forms of a report, by the suffixes of its file.
FORMS: dict[str, Callable[[Report], str]] = {"html": html, "md": markdown, "json": json_text}
