"""What a subject of the proof is, and what it gives when it is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TypeAlias

from converters.faults.case import Own
from converters.parity.segments import Segment
from converters.verdicts import Structure
from converters.weights import Array

# Runs segments of the subject by themselves: each with the batches it reads -> target layer -> what it gives, canonical
# layout. A segment that cannot be run alone is left out.
Alone: TypeAlias = Callable[[Sequence[tuple[Segment, Mapping[str, Array]]]], Mapping[str, Array]]


@dataclass(frozen=True, kw_only=True)
class Declared:
    """An output as the subject declares it.

    Attributes:
        name: its own name for it.
        value: as it gives it: its type, its layout.
        layer: the layer of the reference's network that the name says it is; None where the name says nothing.
        channels_last: images are N, H, W, C in this subject, its inputs included.
        defect: why it is wrong whatever `value` is; None where nothing speaks against it.
    """

    name: str
    value: Array
    layer: str | None = None
    channels_last: bool = False
    defect: str | None = None


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a subject gave.

    Attributes:
        activations: under the names of the reference's layers, canonical layout.
        declared: its outputs, in its order; left out, it declares what the reference's network does, under its names.
        strange: its tensors have other names than the reference's layers.
        unmatched: layers whose activation the subject may have, but nobody can say which it is.
        notes: what the reader must know.
        theirs: its own layers and parameters, under the names of the reference's layers, where they are known.
        graph: it is a graph of its own, whose parameters may be spelt otherwise.
        alone: runs layers by themselves; None where they cannot be told apart.
        reads_more: whether a segment that is run alone is made of more than it is fed with.
        preparation: how it prepares images otherwise than the reference's network; empty where it does not.
        same: layers that are the reference's own arithmetic with the same definition and the same bits.
        ended: why it cannot be run to its end, whatever the batch; empty where it can.
        proved: it was read to be the reference's very network, every bit of it, and what runs it is not what is judged.
    """

    activations: Mapping[str, Array]
    declared: tuple[Declared, ...] | None = None
    strange: bool = False
    unmatched: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    theirs: Mapping[str, Own] = field(default_factory=dict[str, Own])
    graph: bool = False
    alone: Alone | None = None
    reads_more: Callable[[Segment], bool] = lambda _: False
    same: frozenset[str] = frozenset()
    preparation: str = ""
    ended: str = ""
    proved: bool = False


# Runs a batch: the reference's input name -> array, and the reference's activations, by which tensors are told apart.
Feed: TypeAlias = Callable[[Mapping[str, Array], Mapping[str, Array]], Ran]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One way to run a network.

    Attributes:
        name: in reports.
        open: gets it ready (exports it, say) for as many batches as are wanted.
        read: holds it against the reference as a network, without running it; None where there is nothing to read.
    """

    name: str
    open: Callable[[], AbstractContextManager[Feed]]
    read: Callable[[], Structure] | None = None
