"""The sentences that every form of a report shares."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

from converters.verdicts import UNKNOWN, Diagnosis, LayerVerdict, OutputVerdict, Report, SubjectVerdict
from zoo.errors import one_line, shown

T = TypeVar("T")

# Names longer than this are replaced by a letter in tables of the terminal.
_NAME_WIDTH = 14


def printable(value: T) -> T:
    """A report whose names, which are strangers', neither steer a terminal nor begin a line of their own."""
    found: Any = value
    if isinstance(found, str):
        found = shown(found)
    elif isinstance(found, tuple):
        found = tuple(printable(item) for item in cast("tuple[Any, ...]", found))
    elif is_dataclass(found) and not isinstance(found, type):
        found = replace(found, **{f.name: printable(getattr(found, f.name)) for f in fields(found) if f.init})
    return cast(T, found)


def in_markdown(text: object) -> str:
    """Anybody's words, made safe within a line or a cell of Markdown."""
    return one_line(str(text)).replace("|", "\\|").replace("<", "&lt;").replace("`", "'")


def error_text(error: float | None) -> str:
    """An error in a table; a dash where there is none to give."""
    return "-" if error is None else "0" if error == 0 else f"{error:.1e}"


def verdict_sentence(report: Report) -> str:
    """The whole report in one sentence."""
    total = len(report.subjects)
    failed = [subject for subject in report.subjects if subject.status == "failed"]
    absent = [subject.name for subject in report.subjects if subject.status == "unavailable"]
    missing = f"; not run: {', '.join(absent)}" if absent else ""
    if failed:
        first = failed[0]
        others = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        return (
            f"{report.model}: FAILED, {first.name}{others} of {total} differ, first in {first.first_failure}{missing}"
        )
    worst = max((subject.max_error or 0.0 for subject in report.subjects), default=0.0)
    if len(absent) == total or (absent and report.unproved):
        return f"{report.model}: NOT PROVED, {len(absent)} of {total} subjects could not be run{missing}"
    if absent:
        agree = f"{total - len(absent)} of {total} subjects compute the same function, worst error {error_text(worst)}"
        return f"{report.model}: NOT PROVED BY ALL, {agree}{missing}"
    if report.unproved:
        return f"{report.model}: NOT PROVED, the numbers agree and show nothing: {'; '.join(report.unproved)}"
    what = "the subject computes" if total == 1 else f"all {total} subjects compute"
    told = f"{report.model}: PASSED, {what} the same function, worst error {error_text(worst)}{_by_reading(report)}"
    others = ", ".join(subject.name for subject in report.subjects if subject.preparation)
    return f"{told}; BUT NOT OF A PICTURE: {others} prepares images otherwise" if others else told


def _by_reading(report: Report) -> str:
    """Which subjects are the very network, of a single one that could be read without its name; and which are another.

    What no probe reaches, such as a bound far above them all, shows in the structure alone.
    """
    read = [s for s in report.subjects if s.structure and s.structure.verdict != "unread"]
    same = [s.name for s in read if s.structure and s.structure.verdict == "identical"]
    other = [s.name for s in read if s.structure and s.structure.verdict == "differs"]
    told = ("; identical by structure" + ("" if len(same) == len(read) else f": {', '.join(same)}")) if same else ""
    return told + (f"; of another structure, the same by numbers alone: {', '.join(other)}" if other else "")


def subject_line(subject: SubjectVerdict) -> str:
    """What became of a subject that did not pass."""
    if subject.status == "unavailable":
        return f"{subject.name}: could not be run: {subject.reason}"
    layer = next(item for item in (*subject.layers, *subject.outputs) if not item.ok)
    known = subject.diagnosis is not None and subject.diagnosis.fault != UNKNOWN
    wrong = (
        "no number to compare" if known and layer.error is None else layer.reason or f"error {error_text(layer.error)}"
    )
    passing = "" if subject.max_error is None else f"; a budget of {error_text(subject.max_error)} would have passed"
    return f"{subject.name}: first differs in {layer.name} ({wrong}){passing}"


def remarks(subject: SubjectVerdict) -> list[str]:
    """What the reader must know of it: that one picture is another input to it, what reading it says, and its notes."""
    otherwise = (
        f"it prepares images otherwise ({subject.preparation}): it is judged of one input, and of one picture it gives "
        "another answer"
    )
    read = subject.structure.sentence if subject.structure else ""
    return [*([otherwise] if subject.preparation else []), *([read] if read else []), *subject.notes]


def telling_error(item: LayerVerdict | OutputVerdict) -> float | None:
    """The error that decides: along the network, unless the layer fails by itself and worse."""
    if isinstance(item, LayerVerdict) and not item.ok and (item.local or 0.0) > (item.error or 0.0):
        return item.local
    return item.error


def output_rows(report: Report) -> list[tuple[str, list[OutputVerdict | None]]]:
    """Every output's name, and each subject's verdict on it."""
    names = dict.fromkeys(output.name for subject in report.subjects for output in subject.outputs)
    held = [{output.name: output for output in subject.outputs} for subject in report.subjects]
    return [(name, [outputs.get(name) for outputs in held]) for name in names]


def summary_rows(report: Report) -> list[list[str]]:
    """What sums up each subject: its worst errors, the least share exercised, and how often the classes agree."""
    shown = [subject.layers for subject in report.subjects]
    alone = [[layer.local for layer in layers if layer.local is not None] for layers in shown]
    shares = [[layer.exercised for layer in layers if layer.exercised is not None] for layers in shown]
    return [
        ["worst", *(error_text(s.max_error) if s.layers else "" for s in report.subjects)],
        ["worst by itself", *(error_text(max(errors)) if errors else "" for errors in alone)],
        ["exercised", *(f"{min(found):.0%}" if found else "" for found in shares)],
        ["top-1 *", *("" if s.top1 is None else f"{s.top1:.0%}" for s in report.subjects)],
    ]


def reasons(subject: SubjectVerdict) -> list[tuple[Diagnosis, list[str]]]:
    """Its diagnoses, a fault that several layers share told once: the first one's, and the other layers."""
    told = list[tuple[Diagnosis, list[str]]]()
    for diagnosis in (subject.diagnosis, *subject.further):
        if diagnosis is None:
            continue
        same = next((others for first, others in told if first.fault == diagnosis.fault != UNKNOWN), None)
        if same is None:
            told.append((diagnosis, []))
        else:
            same.append(diagnosis.layer)
    return told


def names_of(report: Report) -> tuple[list[str], list[str]]:
    """Column heads for the subjects, and the lines that explain those that had to be shortened."""
    heads, legend = list[str](), list[str]()
    for i, subject in enumerate(report.subjects):
        short = subject.name if len(subject.name) <= _NAME_WIDTH else f"({chr(ord('a') + i % 26)})"
        heads.append(short)
        legend += [f"{short} {subject.name}"] if short != subject.name else []
    return heads, legend
