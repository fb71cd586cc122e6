"""What every file of ``converters/formats`` offers and states, and which of them a weights file belongs to."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from converters.images import SAID_NOTHING, SaidOfImages
from converters.sniff import refuse_others, sniffed, text_of
from converters.tensormap import Entry
from converters.weights import Array, Weights
from zoo.errors import FileFormatError, ZooError, one_line
from zoo.layers import Bias, Constant, ModelSpec, Scale, Shape
from zoo.registry import facts, load_module, names

# Of an outline, arrays of more bytes have no numbers.
LARGE = 1 << 20

# Layers of numbers that a graph may have where no module of PyTorch has weights.
_NUMBERS = (Constant, Scale, Bias)

# Suffix of what lies beside weights and is taken for them -> what it is, and what to do.
_NO_WEIGHTS = {
    ".prototxt": "a network without weights; give its .caffemodel, and this with --prototxt",
    ".solverstate": "a solver's state, its momenta and no weights; these are in {}.caffemodel beside it",
}

# How a prototxt begins, whatever its suffix: Faster R-CNN calls its own .pt.
_PROTOTXT = re.compile(r"(#.*\s+)*(name|input|input_dim|layers?)\s*[:{]")


@dataclass(frozen=True, kw_only=True)
class GraphNetwork:
    """A graph as a network.

    Attributes:
        spec: the network; None where it could not be read.
        tensors: canonical name -> array.
        stored: the file's own name of a tensor -> canonical name.
        notes: what the reader must know, one sentence each.
        refusal: why it could not be read.
        sized: it, where its inputs have these sizes (C x H x W) that it leaves open.
    """

    spec: ModelSpec | None = None
    tensors: Mapping[str, Array] = field(default_factory=dict[str, Array])
    stored: Mapping[str, str] = field(default_factory=dict[str, str])
    notes: tuple[str, ...] = ()
    refusal: str = ""
    sized: Callable[[Mapping[str, Shape]], GraphNetwork] | None = None

    def named_in(self, tensors: Mapping[str, Array]) -> tuple[dict[str, str], dict[str, Array]] | None:
        """Tensors of a state dict that the graph was exported from: their names -> ours, and what the graph adds.

        It adds, under our names, numbers that are no layer's of weights, as the prior boxes of a detector. None where
        the name of any other is missing.
        """
        layers = [layer.name for layer in self.spec.layers if isinstance(layer, _NUMBERS)] if self.spec else []
        fixed = {ours for ours in self.tensors if ours.rpartition(".")[0] in layers}
        names = {theirs: ours for theirs, ours in self.stored.items() if theirs in tensors or ours not in fixed}
        if not names.keys() <= tensors.keys() or not names:
            return None
        added = {ours: self.tensors[ours] for ours in self.tensors if ours in fixed - {*names.values()}}
        return names | {ours: ours for ours in added}, added


@dataclass(frozen=True, kw_only=True)
class NativeFile:
    """What a weights file holds, before anyone says which network it is.

    Attributes:
        tensors: native name -> array in the framework's own layout; views of a memory map where possible.
        spec: the network the file itself describes (embedded metadata, a prototxt beside it), if it does.
        unread: why the network that it describes is none that can be read; empty where it can, or it describes none.
        as_loaded: where the framework itself does not take every tensor as it stands: what it loads into a network that
            the user gave.
        unlike: where the file says something of a network without describing it: in what a network differs from that,
            in words; None if in nothing.
        runs_itself: its framework runs the network that the file says something of, and no other.
        refusal: why its tensors are weights of no network here, though their names and shapes are known.
        graph: the network that a graph in the file is, under the names that the graph has.
        averages: the moving averages of training, where the file holds them beside the tensors.
        images: what it says of its images and classes.
        writer: what wrote it, where it says so.
    """

    tensors: Mapping[str, Array]
    spec: ModelSpec | None = None
    unread: str = ""
    as_loaded: Callable[[ModelSpec], Mapping[str, Array]] | None = None
    unlike: Callable[[ModelSpec], str | None] = lambda spec: None
    runs_itself: bool = False
    refusal: str = ""
    graph: GraphNetwork | None = None
    averages: Mapping[str, Array] | None = None
    images: SaidOfImages = SAID_NOTHING
    writer: str = ""

    def loaded(self, spec: ModelSpec) -> Mapping[str, Array]:
        """The tensors as the framework itself loads them into `spec`."""
        return self.tensors if self.as_loaded is None else self.as_loaded(spec)


class WeightsFormat(Protocol):
    """The functions of a weights format.

    Its file states ``SUFFIXES``, and ``HOLDS_NETWORK``, those of them whose files hold the network, where not all do.
    One that is read, but not written, states ``READ_SUFFIXES`` alone.
    """

    def read(self, path: Path) -> NativeFile:
        """All tensors of a file; anything damaged is a `FileFormatError` of one line; no code of the file is run."""
        ...

    def entries(self, spec: ModelSpec, tensors: Mapping[str, Array] | None) -> list[Entry]:
        """Where each canonical parameter sits: among the `tensors` of a file, or (None) in a file to be written."""
        ...

    def ignored(self, name: str) -> bool:
        """Whether a native tensor is no weight by rule (an optimizer slot, a step counter)."""
        ...

    def write(self, path: Path, weights: Weights) -> None:
        """Write `path` (and what belongs beside it) into its folder, which is private to this call and empty.

        Equal weights give equal bytes.
        """
        ...

    def main_file(self, path: Path) -> Path:
        """The file without which the others mean nothing; it is put in place last."""
        ...


@runtime_checkable
class Outlined(Protocol):
    """What a format may offer whose numbers cost to read."""

    def outline(self, path: Path) -> NativeFile:
        """`WeightsFormat.read` by names, shapes and types alone.

        Bounded in time and memory: numbers do not count. Those of arrays above `LARGE` are left alone
        (`zoo.arrays.unread`), and so are checksums.
        """
        ...


def format_name(path: Path, explicit: str | None = None) -> str:
    """The format of a file to be read: as the user said, else as its bytes say, else by its suffix.

    Raises:
        ZooError: nothing tells; or the bytes are no weights, and what they are instead.
    """
    if explicit:
        refuse_others(path)
        return explicit
    form, known = sniffed(path), suffixes() | _read_suffixes()
    if form is None and path.is_dir() and path.suffix not in known:
        raise ZooError(f"{path}: is a folder without a checkpoint in it, expected a file")
    if form is None and path.suffix not in _NO_WEIGHTS and (text := text_of(path)):
        what = f"is a text ({one_line(text)[:40]}), expected weights"
        raise FileFormatError(path, f"is {_NO_WEIGHTS['.prototxt']}" if _PROTOTXT.match(text) else what)
    return form or _by_suffix(path, None, known)


def target_format(path: Path, explicit: str | None = None) -> str:
    """The format of a file to be written: as the user said, else by its suffix."""
    if explicit is None and path.suffix in _read_suffixes():
        raise ZooError(f"{path}: {path.suffix} is read here, not written; choose another format")
    return _by_suffix(path, explicit, suffixes())


def _by_suffix(path: Path, explicit: str | None, known: Mapping[str, str]) -> str:
    if path.name in ("", ".."):
        raise ZooError(f"{path}: is a folder, expected the name of a file")
    if explicit:
        return explicit
    if path.suffix == ".index":
        return "tf_slim"
    if path.suffix in _NO_WEIGHTS:
        raise ZooError(f"{path}: {_NO_WEIGHTS[path.suffix].format(path.stem)}")
    if path.suffix not in known:
        what = f"unknown format {path.suffix!r}" if path.suffix else "its name has no suffix that says its format"
        raise ZooError(f"{path}: {what}; known: {', '.join(known)}")
    return known[path.suffix]


def suffixes() -> dict[str, str]:
    """Suffix -> the format whose files have it, of those that are written."""
    return _stated("SUFFIXES")


def _read_suffixes() -> dict[str, str]:
    return _stated("READ_SUFFIXES")


def _stated(what: str) -> dict[str, str]:
    return {suffix: name for name in names(__name__) for suffix in facts(__name__, name).get(what, ())}


def holds_network(name: str, path: Path) -> bool:
    """Whether a file of a format holds the network and its preprocessing, beside the tensors."""
    stated = facts(__name__, name).get("HOLDS_NETWORK")
    return stated is None or path.suffix in stated


def always_holds_network(name: str) -> bool:
    """Whether every file of a format holds the network, however large that is."""
    return "HOLDS_NETWORK" not in facts(__name__, name)


def weights_format(name: str) -> WeightsFormat:
    """The reader and writer of a format."""
    return cast(WeightsFormat, load_module("converters.formats", name, "format"))
