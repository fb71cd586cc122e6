"""Wrong graphs, and right ones written otherwise, held against what `zoo verify` says of them.

Every change of every rule (`mutant_rules`, `mutant_outputs`, `mutant_equals`) to every graph (`mutant_graphs`) is a
mutant. Whether it is the same function is decided by ONNX Runtime, on inputs that the proof does not know.

    python -m tests.mutants --count 2000 --report mutants.md
    python -m tests.mutants --show 'caffenet own: node deleted: relu1'
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, TypeAlias
from zlib import crc32

import numpy as np
import onnx

from benchmarks.measure import table
from converters.parity import verify_files
from converters.verdicts import SubjectVerdict
from converters.weights import Array
from tests import mutant_equals, mutant_outputs, mutant_rules
from tests.mutant_edits import RULES, Change, Rule
from tests.mutant_graphs import Graph, copied, graphs, run
from tests.onnx_graphs import by_numbers
from zoo.errors import ZooError
from zoo.layers import Dropout, ModelSpec

__all__ = ["mutant_equals", "mutant_outputs", "mutant_rules"]  # imported for their rules

# What ONNX Runtime's answer may differ by and be the same: float32 noise, of the peak of what makes the answer. Ten
# times as much is a difference; between the two nobody can say, nor of a change that shows in no number at all.
NOISE, CLEAR = 1e-5, 1e-4

# mislabelled: logits that go by the name of their softmax. more: the right outputs, and others behind them. renamed:
# the right outputs under other names, in a graph in which nothing has the names of our layers.
Truth: TypeAlias = Literal["same", "differs", "logits", "mislabelled", "more", "renamed", "cannot run", "ambiguous"]

# What a proof that lets these pass must say of them.
EXCUSES = {"logits": "stops at", "mislabelled": "stops at", "more": "also declares", "renamed": "is held to"}
# What is the same function in exact arithmetic alone: it may overflow, or is read in another type.
NOT_SEEN_THROUGH = ("Mul 2, Mul 0.5", "float64 and back")
Said: TypeAlias = Literal["passed", "failed", "unavailable", "refused", "crash"]


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One change of one graph."""

    graph: Graph
    rule: Rule
    change: Change

    @property
    def id(self) -> str:
        return f"{self.graph.name}: {self.rule.name}: {self.change.site}"

    def model(self) -> onnx.ModelProto:
        model = copied(self.graph.model)
        self.change.edit(model)
        return model

    def places(self) -> frozenset[str]:
        """Layers that a report may name: those that were changed, and their first readers."""
        spec, changed = self.graph.spec, set[str]()
        for result in self.change.at:
            changed |= self.graph.layers[result]
        readers, found = spec.wiring(), set(changed)
        for layer in spec.layers:  # in order, so that a reader behind a Dropout is found after it
            sources = set(readers[layer.name])
            if sources & changed:
                found.add(layer.name)
                if isinstance(layer, Dropout):
                    changed.add(layer.name)
        return frozenset(found)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of a mutant.

    Attributes:
        mutant: which.
        truth: what it is.
        distance: of its answers from the right ones; 0 where they are the same to the bit.
        said: what the proof said of it.
        layer: the first layer the proof named.
        fault: what it thinks is wrong.
        told: its reason, notes, or the crash.
        seconds: that the proof took.
        read: what reading the graph says, before it is run.
    """

    mutant: Mutant
    truth: Truth
    distance: float
    said: Said
    layer: str | None
    fault: str | None
    told: str
    seconds: float
    read: str = "unread"

    @property
    def identical_falsely(self) -> bool:
        """Whether it is called the very network, or one that rounding alone tells from it, and is not."""
        return self.read in ("identical", "rounded") and self.truth not in ("same", "renamed", "ambiguous")

    @property
    def unlike_falsely(self) -> bool:
        """Whether what was only written otherwise, in a way that is seen through, is called another network."""
        seen_through = not self.mutant.change.site.endswith(NOT_SEEN_THROUGH)
        return self.mutant.rule.kind == "equal" and seen_through and self.read == "differs"

    @property
    def passed_falsely(self) -> bool:
        if self.truth in EXCUSES:
            return self.said == "passed" and EXCUSES[self.truth] not in self.told
        return self.truth in ("differs", "cannot run") and self.said == "passed"

    @property
    def failed_falsely(self) -> bool:
        if self.truth == "mislabelled":  # may fail, for what it is
            return self.said != "passed" and self.fault != "softmax_lost"
        return self.truth in ("same", "logits") and self.said != "passed"

    @property
    def located(self) -> bool | None:
        """Whether the layer named is right; None where there is none to name."""
        if not self.mutant.change.at or self.truth != "differs" or self.said == "passed":
            return None
        return self.layer in self.mutant.places()


# The truth


@cache
def probes(spec: ModelSpec) -> tuple[dict[str, Array], ...]:
    """Batches of eight: noise of several sizes, each with and without an offset, and smooth pictures."""
    rng = np.random.default_rng(crc32(spec.name.encode()))
    sizes = (0.3, 1.0, 8.0, 60.0, 400.0, *((1e5,) if spec.name == "dead" else ()))
    batches = list[dict[str, Array]]()
    for size in sizes:
        batches.append({i.name: rng.normal(0, size, (8, *i.shape)) for i in spec.inputs})
        batches.append({i.name: rng.normal(rng.normal(0, size), size, (8, *i.shape)) for i in spec.inputs})
    batches.append({i.name: _pictures(i.shape, rng) for i in spec.inputs})
    return tuple({name: array.astype(np.float32) for name, array in batch.items()} for batch in batches)


def _pictures(shape: Sequence[int], rng: np.random.Generator) -> Array:
    """Slow waves around a colour, from -128 to 128."""
    channels, height, width = shape
    rows, columns = np.mgrid[0:height, 0:width] / max(height, width)
    waves = [
        np.cos(rng.uniform(0, 6) * rows + rng.uniform(0, 6) * columns + rng.uniform(0, 6)) for _ in range(8 * channels)
    ]
    return np.clip(rng.uniform(-100, 100, (8, channels, 1, 1)) + 60 * np.reshape(waves, (8, *shape)), -128, 128)


class Judge:
    """The right answers of a graph, and what another graph's are to them."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.probes = graph, probes(graph.spec)
        self.right = [run(graph.model, batch, inside=True) for batch in self.probes]
        self.declared = [value.name for value in graph.model.graph.output]
        layers = {layer.name for layer in graph.spec.layers if not isinstance(layer, Dropout)}
        self.foreign = 2 * len(layers & {node.output[0] for node in graph.nodes}) < len(layers)

    def truth(self, mutant: Mutant, model: onnx.ModelProto) -> tuple[Truth, float]:
        try:
            found = [run(model, batch) for batch in self.probes]
        except Exception:  # noqa: BLE001 - whatever ONNX Runtime raises, the graph cannot be run
            return "cannot run", float("inf")
        names = list(found[0])
        if self._at_logits(names, found):
            return ("mislabelled" if names == self.declared else "logits"), 0.0
        if names != self.declared and names[: len(self.declared)] == self.declared:
            same = all(self._near(name, name, found) for name in self.declared)
            return ("more", 0.0) if same else ("differs", float("inf"))
        renamed = names != self.declared
        alone = renamed and self.foreign and len(names) == len(self.declared) == 1
        if alone and self._near(names[0], self.declared[0], found):
            return "renamed", 0.0
        if renamed and (mutant.rule.kind == "names" or len(names) != len(self.declared)):
            return "differs", float("inf")
        distance = max(self._distance(right, answer) for right, answer in zip(self.right, found, strict=True))
        if mutant.rule.kind == "equal":
            return ("same" if distance <= NOISE else "ambiguous"), distance
        if distance > CLEAR:
            return "differs", distance
        same = distance == 0 and not renamed and mutant.rule.kind != "hidden" and self._inside_same(model)
        return ("same" if same else "ambiguous"), distance

    def _at_logits(self, names: Sequence[str], found: Sequence[Mapping[str, Array]]) -> bool:
        """Whether some answers are the logits in the place of their softmax, and all others are as they were."""
        if len(names) != len(self.declared):
            return False
        logits, stopped = self.graph.logits, False
        for name, expected in zip(names, self.declared, strict=True):
            source = logits.get(expected)
            if source and name in (expected, source) and self._near(name, source, found):
                stopped = True
            elif name != expected or not self._near(name, expected, found):
                return False
        return stopped

    def _near(self, name: str, expected: str, found: Sequence[Mapping[str, Array]]) -> bool:
        source = self.graph.logits.get(expected)
        pairs = zip(self.right, found, strict=True)
        far = (distance(answer[name], right[expected], right[source] if source else None) for right, answer in pairs)
        return max(far) <= NOISE

    def _distance(self, right: Mapping[str, Array], found: Mapping[str, Array]) -> float:
        """By position: whether other names count is the rule's to say."""
        worst = 0.0
        for name, answer in zip(self.declared, found.values(), strict=True):
            logits = right[self.graph.logits[name]] if name in self.graph.logits else None
            worst = max(worst, distance(answer, right[name], logits))
        return worst

    def _inside_same(self, model: onnx.ModelProto) -> bool:
        """Whether all tensors that kept their names kept their numbers."""
        for batch, right in zip(self.probes, self.right, strict=True):
            for name, value in run(model, batch, inside=True).items():
                kept = right.get(name)
                if kept is not None and (kept.shape != value.shape or not np.array_equal(kept, value, equal_nan=True)):
                    return False
        return True


def distance(y: Array, right: Array, logits: Array | None = None) -> float:
    """How far an answer is from the right one, of the peak of its channel over the batch; infinite for another form.

    Probabilities are held against each other by their logarithms, of the peak of the logits they are made from.
    """
    if y.shape != right.shape or y.dtype != right.dtype:
        return float("inf")
    if np.array_equal(y, right, equal_nan=True):
        return 0.0
    if not np.isfinite(y).all():
        return float("inf")
    if logits is None:
        others = tuple(axis for axis in range(right.ndim) if axis != 1)
        peaks = np.abs(right).max(axis=others, keepdims=True)
        differences = np.abs(np.subtract(y, right, dtype=np.float64))
    else:
        shown, peaks = right > 1e-30, np.maximum(np.abs(logits).max(), 1.0)
        negative = float((y < 0).any())
        differences = np.abs(np.log(np.where(shown, np.maximum(y, 1e-45), 1.0)) - np.log(np.where(shown, right, 1.0)))
        differences = np.maximum(differences, negative)
    return float(np.max(differences / np.maximum(peaks, 1e-30), initial=0.0))


# The mutants


def mutants(graph: Graph) -> Iterator[Mutant]:
    for rule in RULES.values():
        # A dead network is never proved right; it is there for what it hides.
        if graph.spec.name != "dead" or rule.kind == "hidden":
            for change in rule.changes(graph):
                yield Mutant(graph=graph, rule=rule, change=change)


def every(folder: Path) -> list[Mutant]:
    """All of them; the right files are left in `folder`."""
    return [mutant for graph in graphs(folder) for mutant in mutants(graph)]


def sample(found: Sequence[Mutant], count: int) -> list[Mutant]:
    """The same ones every time, spread over the rules, and in each rule over the graphs."""
    cells = defaultdict[str, dict[str, list[Mutant]]](lambda: defaultdict(list))
    for mutant in sorted(found, key=lambda mutant: crc32(mutant.id.encode())):
        cells[mutant.rule.name][mutant.graph.name].append(mutant)
    rows = [_in_turn(list(by_graph.values())) for by_graph in cells.values()]
    return _in_turn(rows)[:count]


def _in_turn(rows: Sequence[Sequence[Mutant]]) -> list[Mutant]:
    longest = max(map(len, rows))
    return [row[i] for i in range(longest) for row in rows if i < len(row)]


# The proof


def said(mutant: Mutant, model: onnx.ModelProto, path: Path) -> Result:
    """What the proof says by numbers alone, and what it reads; the truth is not yet known."""
    started, layer, fault, read = time.perf_counter(), None, None, "unread"
    path.write_bytes(model.SerializeToString())
    try:
        with by_numbers() as found:
            report = verify_files([mutant.graph.right, path], mutant.graph.spec)
    except ZooError as refusal:
        status, told = "refused", str(refusal)
    except Exception:  # noqa: BLE001 - this is what is looked for
        status, told = "crash", traceback.format_exc(limit=-2)
    else:
        subject = report.subjects[1]
        status, told = _status(report.passed, subject), "; ".join((*report.unproved, *_told(subject)))
        layer, read = subject.first_failure, found[-1] if found else read
        fault = subject.diagnosis.fault if subject.diagnosis else None
    seconds = time.perf_counter() - started
    return Result(
        mutant=mutant,
        truth="ambiguous",
        distance=0.0,
        said=status,
        layer=layer,
        fault=fault,
        told=told,
        seconds=seconds,
        read=read,
    )


def _status(passed: bool, subject: SubjectVerdict) -> Said:
    """A reason that begins with the name of an exception is one that nobody expected."""
    if subject.status == "unavailable":
        first = (subject.reason or "").split(":")[0]
        return "crash" if first.isidentifier() and first.endswith(("Error", "Exception")) else "unavailable"
    return "passed" if passed else "failed"


def _told(subject: SubjectVerdict) -> list[str]:
    told = [subject.diagnosis.message if subject.diagnosis else "", subject.reason or ""]
    told += [layer.reason for layer in subject.layers if layer.reason and not layer.ok][:1]
    told += [f"{output.name}: {output.reason}" for output in subject.outputs if output.reason]
    return list(filter(None, (*told, *subject.notes)))


def tried(chosen: Sequence[Mutant], folder: Path) -> Iterator[Result]:
    """Every mutant, proved and judged."""
    judges = dict[str, Judge]()
    for mutant in chosen:
        model, name = mutant.model(), mutant.graph.name
        if name not in judges:
            judges[name] = Judge(mutant.graph)
        truth, far = judges[name].truth(mutant, model)
        yield replace(said(mutant, model, folder / "mutant.onnx"), truth=truth, distance=far)


# For people


def by_rule(mutant: Mutant) -> str:
    return mutant.rule.name


def by_graph(mutant: Mutant) -> str:
    return mutant.graph.name


def counted(results: Sequence[Result], by: Callable[[Mutant], str] = by_rule) -> list[list[str]]:
    """A row a rule, or a graph: how many of each truth, and what was wrong."""
    rows = list[list[str]]()
    for title in [*sorted({by(result.mutant) for result in results}), "all"]:
        of = [result for result in results if title in ("all", by(result.mutant))]
        counts = [sum(result.truth == truth for result in of) for truth in TRUTHS]
        placed = [result.located for result in of if result.located is not None]
        wrong = [
            sum(result.truth == "ambiguous" for result in of),
            sum(result.passed_falsely for result in of),
            sum(result.failed_falsely for result in of),
            sum(result.said == "crash" for result in of),
            sum(result.read == "identical" for result in of),
            sum(result.identical_falsely for result in of),
        ]
        rows.append([title, *map(str, (len(of), *counts, *wrong)), f"{sum(placed)} of {len(placed)}"])
    return rows


TRUTHS: tuple[Truth, ...] = ("differs", "cannot run", "same", "logits", "mislabelled", "more", "renamed")
HEADER = (
    *(
        "change",
        "mutants",
        "differ",
        "cannot run",
        "same",
        "stop at logits",
        "logits as probabilities",
        "declare more",
        "other names",
        "too near to tell",
    ),
    *("passed falsely", "failed falsely", "crashes", "identical by structure", "of them falsely", "placed"),
)


def report(results: Sequence[Result]) -> str:
    """The table, and every mutant that went wrong."""
    text = "\n\n".join(table(HEADER, counted(results, by)) for by in (by_rule, by_graph))
    kinds = {
        "Passed falsely": [r for r in results if r.passed_falsely],
        "Failed falsely": [r for r in results if r.failed_falsely],
        "Crashes": [r for r in results if r.said == "crash"],
        "Called identical falsely": [r for r in results if r.identical_falsely],
        "Called another network falsely": [r for r in results if r.unlike_falsely],
        "Misplaced": [r for r in results if r.located is False],
        "Equal by construction, but not by ONNX Runtime": [
            r for r in results if r.mutant.rule.kind == "equal" and r.truth != "same"
        ],
    }
    text += f"\n\n## What changes of the answer are called\n\n{table(('change', 'said', 'mutants'), called(results))}"
    for title, found in kinds.items():
        text += f"\n\n## {title}: {len(found)}\n"
        for result in sorted(found, key=lambda r: (r.mutant.rule.name, r.mutant.graph.name)):
            text += f"\n- {described(result)}"
    return text + "\n"


def called(results: Sequence[Result]) -> list[list[str]]:
    """A row a rule, operator and fault named: how often."""
    answers = ("appended behind the answer and declared", "at the answer, its name kept", "softmax replaced")
    found = Counter[tuple[str, str]]()
    for result in results:
        if result.mutant.rule.name in answers and result.truth == "differs":
            change = f"{result.mutant.rule.name}: {result.mutant.change.site.partition(', ')[2]}"
            found[change, result.fault or result.said] += 1
    return [[*names, str(count)] for names, count in sorted(found.items())]


def described(result: Result) -> str:
    wanted = f", belongs at {'/'.join(sorted(result.mutant.places()))}" if result.mutant.change.at else ""
    told = " ".join(result.told.split())[:400]
    return (
        f"`{result.mutant.id}`: {result.truth} ({result.distance:.1e}), said {result.said}, {result.read}"
        f" at {result.layer} ({result.fault}){wanted}; {result.seconds:.2f} s; {told}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="how many mutants")
    parser.add_argument("--rule", help="of this rule alone")
    parser.add_argument("--graph", help="of graphs whose names begin so")
    parser.add_argument("--show", help="the mutant of this id: where the file is left, and what is said of it")
    parser.add_argument("--report", type=Path, help="where the table and what went wrong are written")
    options = parser.parse_args()
    with TemporaryDirectory() as temporary:
        folder = Path.cwd() if options.show else Path(temporary)
        found = every(Path(temporary))
        if options.show:
            found = [mutant for mutant in found if mutant.id == options.show]
        found = [m for m in found if options.rule in (None, m.rule.name)]
        found = [m for m in found if m.graph.name.startswith(options.graph or "")]
        if not found:
            sys.exit("no such mutant")
        print(f"{len(found)} mutants, of which {min(options.count, len(found))} are tried", flush=True)
        results = list[Result]()
        for result in tried(sample(found, options.count), folder):
            results.append(result)
            wrong = (result.passed_falsely, result.failed_falsely, result.identical_falsely, result.said == "crash")
            if options.show or any(wrong):
                print(described(result), flush=True)
    text = report(results)
    if options.report:
        options.report.write_text(text)
    print(text.split("\n\n##")[0])


if __name__ == "__main__":
    main()
