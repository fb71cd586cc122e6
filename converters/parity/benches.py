"""What every layer of a subject does by itself, on benches that are made once and fed to all subjects."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import TypeAlias

import numpy as np

from converters.metric import peak_of
from converters.parity.local import Bench, bench, error_alone, reads_sizes_alone
from converters.parity.noise import ranges_of
from converters.parity.partial_sums import widened
from converters.parity.segments import Segment, segments
from converters.parity.subjects import Alone, Ran
from converters.weights import Array, Weights
from zoo.errors import ZooError
from zoo.layers import Conv, Deconv, Dense, Shape, Sigmoid, Softmax, TanH
from zoo.wire.cores import map_on_cores, multiply_on_cores

_LOG = logging.getLogger(__name__)

# An escape sequence of terminals (ECMA-48).
_COLOURS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")

# Most segments have no more samples.
_SAMPLES = 6

# So many numbers of activations, an item, are on benches at once: some 500 MB. AlexNet has half of it.
_AT_ONCE = 4_000_000


@dataclass(frozen=True, kw_only=True)
class Wrong:
    """A segment that is wrong by itself, what it was fed, and what it gave."""

    piece: Segment
    inputs: Mapping[str, Array]
    y: Array


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A segment's error by itself, or why it has none; the numbers are kept of a wrong one alone.

    Attributes:
        exercised: layer of it -> the share of its inputs and parameters that took part.
    """

    error: float | None
    reason: str | None
    exercised: Mapping[str, float]
    wrong: Wrong | None


def _tells(piece: Segment) -> bool:
    """Whether a segment shows what any layer of it does: not sums of sums, whose bounds are too wide, nor what ends in
    a range that it fills, whatever is fed.
    """
    sums = sum(isinstance(layer, Conv | Deconv | Dense) for layer in piece.layers)
    return sums < 2 and not any(isinstance(layer, Softmax | Sigmoid | TanH) for layer in piece.layers)


# As in `converters.verdicts.Structure`.
Terms: TypeAlias = Mapping[str, tuple[float, ...]]


def _judged(piece: Segment, made: Bench, y: Array, weights: Mapping[str, Array], budget: float, terms: Terms) -> Judged:
    """What a segment gave on its bench, judged."""
    if piece.target in terms:
        added = np.expand_dims(terms[piece.target], (0, *range(2, made.right.ndim)))
        made = replace(made, bound=np.abs(made.bound) + added)
    error, reason = error_alone(y, made, piece)
    if error is not None and error > budget and (wider := widened(piece, made, y, weights, budget)):
        error, reason = error_alone(y, wider, piece)
    right = reason is None and error is not None and error <= budget
    wrong = None if right else Wrong(piece=piece, inputs=made.inputs, y=y)
    return Judged(error=error, reason=reason, exercised=made.exercised, wrong=wrong)


@dataclass(kw_only=True)
class ByThemselves:
    """What layers do by themselves.

    Attributes:
        judged: layer -> what its segment did.
        notes: what could not be asked.
    """

    judged: dict[str, Judged] = field(default_factory=dict[str, Judged])
    notes: tuple[str, ...] = ()

    def asked(self, layer: str) -> float:
        """The share of a layer's inputs and parameters that took part by itself, or hidden in a segment."""
        return self._shares.get(layer, 0.0)

    @cached_property
    def _shares(self) -> dict[str, float]:
        shares = dict[str, float]()
        for made in self.judged.values():
            shares |= {layer: max(share, shares.get(layer, 0.0)) for layer, share in made.exercised.items()}
        return shares


class Benches:
    """Benches of a network's segments.

    Args:
        weights: the right network and its parameters.
        known: activation or input -> what it is along the network; how large it becomes there.
        shapes: activation or input -> its shape.
        seed: of the noise.
        budget: the largest error of a right layer.
    """

    def __init__(
        self, weights: Weights, known: Mapping[str, Array], shapes: Mapping[str, Shape], *, seed: int, budget: float
    ) -> None:
        self._weights, self._known, self._shapes = weights, known, shapes
        self._seed, self._budget = seed, budget
        self._ranges = ranges_of(weights.spec, shapes)
        self._kept = dict[Segment, Bench | None]()

    def judge(self, ran: Ran, terms: Terms) -> ByThemselves:
        """Every layer that the subject shows, by itself, on inputs of its own."""
        pieces = segments(self._weights.spec, ran.activations)
        wanted = [piece for piece in pieces if piece.target not in ran.same and not reads_sizes_alone(piece)]
        found, reason = ByThemselves(), None
        if ran.alone is None:
            return found
        for group in self._by_size(wanted):
            judged, told = self._asked(ran.alone, group, terms)
            found.judged |= judged
            reason = told or reason
        if ran.graph:
            self._joined(ran, ran.alone, found.judged, terms)
        missing = [piece.target for piece in wanted if piece.target not in found.judged]
        if missing:
            why = f" ({reason})" if reason else ""
            some = f"could not be run by themselves: {', '.join(missing)}"
            told = "no layer could be run by itself" if len(missing) == len(wanted) else some
            found.notes = (f"{told}{why}; judged along the network alone",)
        return found

    def _asked(self, run: Alone, pieces: Sequence[Segment], terms: Terms) -> tuple[dict[str, Judged], str | None]:
        """What segments did, by target; and why none of them could be asked, if so."""
        benched, results, reason = self._benched(pieces), dict[str, Array](), None
        fed = [(piece, made.inputs) for piece, made in benched]
        # What is run together has the samples of what has most of them.
        parts = [
            [item for item in fed if (len(next(iter(item[1].values()))) > _SAMPLES) is many] for many in (False, True)
        ]
        for part in filter(None, parts):
            try:
                results |= run(part)
            except ZooError as trouble:
                reason = str(trouble)
            except Exception as trouble:  # noqa: BLE001 - as above; what could not be asked is said
                _LOG.debug("its layers could not be run by themselves", exc_info=True)
                reason = in_one_line(trouble)
        shown = [(piece, made, results[piece.target]) for piece, made in benched if piece.target in results]
        judged = map_on_cores(lambda one: _judged(*one, self._weights.tensors, self._budget, terms), shown)
        return {piece.target: item for (piece, *_), item in zip(shown, judged, strict=True)}, reason

    def _joined(self, ran: Ran, run: Alone, judged: dict[str, Judged], terms: Terms) -> None:
        """Let layers that are wrong by themselves be right where they are so together with their neighbours.

        A tensor was taken for a layer by its numbers along the network or its name, and others may hold them: what the
        layer does may be done behind it (a clip that clips nothing there, in two nodes), or what it reads be read
        elsewhere (in another layout).
        """
        spec, parametered = self._weights.spec, {name.rpartition(".")[0] for name in self._weights.tensors}
        wiring, wrong = spec.wiring(), {name: item.wrong.piece for name, item in judged.items() if item.wrong}
        for name, alone in wrong.items():
            behind = {name} - parametered - {*spec.outputs}
            before = {*wiring[name]} & {*wiring} if ran.reads_more(alone) else set[str]()
            for hidden in filter(None, (behind, before)):
                pieces = segments(spec, {*ran.activations} - hidden)
                held = [piece for piece in pieces if any(layer.name == name for layer in piece.layers)]
                if not all(map(_tells, held)):
                    continue
                found, _ = self._asked(run, held, terms)
                if held and len(found) == len(held) and not any(item.wrong for item in found.values()):
                    judged |= {name: next(iter(found.values())), **found}
                    break

    def _by_size(self, pieces: Sequence[Segment]) -> list[list[Segment]]:
        """Segments in their order, as many at once as fit: their benches are the most that a proof holds."""
        groups, held = list[list[Segment]](), _AT_ONCE
        for piece in pieces:
            size = sum(prod(self._shapes[name]) for name in (*piece.reads, piece.target))
            if held + size > _AT_ONCE:
                groups.append([])
                held = 0
            groups[-1].append(piece)
            held += size
        return groups

    def _benched(self, pieces: Sequence[Segment]) -> list[tuple[Segment, Bench]]:
        """Those that have a bench, with it. Where all are small, they are kept for the next subject."""
        made = dict(zip(pieces, multiply_on_cores(self._bench, pieces), strict=True))
        if sum(map(prod, self._shapes.values())) <= _AT_ONCE / 2:
            self._kept |= made
        return [(piece, bench) for piece, bench in made.items() if bench]

    def _bench(self, piece: Segment) -> Bench | None:
        if piece in self._kept:
            return self._kept[piece]
        peak = max((peak_of(self._known[name]) for name in piece.reads), default=0.0)
        return bench(
            self._weights.tensors, piece, self._shapes, self._ranges, peak if np.isfinite(peak) else 0.0, self._seed
        )


def in_one_line(trouble: Exception) -> str:
    """In one line, without the codes that colour a terminal."""
    return f"{type(trouble).__name__}: {' '.join(_COLOURS.sub('', str(trouble)).split())[:300]}"
