"""Load and save: any weights file to canonical `Weights`, and back into any other format."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path

import numpy as np

from converters.fitting import is_registered, misfit, network_of, with_classes_of
from converters.formats import (
    GraphNetwork,
    NativeFile,
    Outlined,
    WeightsFormat,
    always_holds_network,
    format_name,
    target_format,
    weights_format,
)
from converters.head import with_our_head
from converters.images import SAID_NOTHING, SaidOfImages, output_count
from converters.names import Names, renamed, write_map
from converters.tensormap import native_numbers, to_canonical
from converters.weights import Array, Weights
from converters.widen import as_float32
from zoo import registry
from zoo.errors import CheckFailedError, FileFormatError, SpecError, WeightsError, ZooError
from zoo.initial import initial_weights
from zoo.layers import ModelSpec, Shape
from zoo.shapes import activation_shapes, check_cost, parameter_shapes
from zoo.wire.atomic import check_target, publish, staging
from zoo.wire.cores import map_on_cores
from zoo.wire.layout import blocks, packed
from zoo.wire.mapped import release
from zoo.wire.weight_map import parts_of, weights_of

_LOG = logging.getLogger(__name__)

# So many blocks of a written file are compared with what was meant, then let go: the source is held, too.
_HELD = 8


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How to read a file, where its path alone does not say it.

    Attributes:
        from_format: its format's name, where neither bytes nor suffix tell.
        ema: take the moving averages of training in the place of the weights.
        narrow: round numbers that float32 cannot hold.
        names: their tensor -> our parameter, or None for a tensor that is left out.
        map_out: a file to write the table of names to.
        images: how images are prepared, and what their classes are called, where the file does not say.
        sizes: input -> C x H x W, where a graph leaves them open.
        graph: a graph of the network, whose own names of tensors a state dict may have.
    """

    from_format: str | None = None
    ema: bool = False
    narrow: bool = False
    names: Names | None = None
    map_out: Path | None = None
    images: SaidOfImages = SAID_NOTHING
    sizes: Mapping[str, Shape] = field(default_factory=dict[str, Shape])
    graph: GraphNetwork | None = None


@dataclass(frozen=True, kw_only=True)
class OpenedFile:
    """A weights file, read; what network it is taken for is decided by who asks.

    Attributes:
        path: as given.
        format: its format's name.
        form: that format.
        native: what the format's reader found.
        how: as the user said.
    """

    path: Path
    format: str
    form: WeightsFormat
    native: NativeFile
    how: Reading

    @property
    def described(self) -> ModelSpec | None:
        """The network that the file itself describes (embedded metadata, a prototxt beside it), if it does."""
        return self.native.spec

    def misfits(self) -> dict[str, str | None]:
        """Family member -> why the tensors, by names and shapes, cannot be its parameters; None if they can be."""
        reasons = dict[str, str | None]()
        for name in registry.models():
            spec = with_classes_of(registry.model(name), self.native.tensors, self.form)
            reason = misfit(spec, self.native.tensors, self.form)
            if reason is None and (saved := self.native.unlike(spec)):
                reason = f"it was saved with {saved}"
            reasons[name] = reason or self.native.refusal or None
        return reasons

    def fitted(self, spec: ModelSpec | None = None, *, others: bool = False) -> Weights:
        """Its weights, in the network that `load` finds; errors as there.

        Args:
            spec: the network, where the user says it.
            others: the file may hold more layers than a network that the user says; they are left out.
        """
        if self.how.names is not None:
            return self._by_names(self.how.names, spec or self.described)
        named = self.how.graph and self.described is None and self.how.graph.named_in(self.native.tensors)
        if named:
            names, added = named
            if added:
                _LOG.warning(
                    "%s: numbers of the graph that it has not are the graph's: %s", self.path, ", ".join(added)
                )
            native = replace(self.native, tensors={**self.native.tensors, **added})
            return replace(self, native=native)._by_names(names, spec)
        is_given = spec is not None or self.described is not None
        network = network_of(self.path, self.native, self.form, spec)
        if network is self.described:
            self._check_described(network)
        if self.described is None:
            self._say_classes(network)
        if self.native.graph and network is self.native.graph.spec:
            return self._taken(network, self.native.graph.tensors)
        tensors = self.native.loaded(network) if is_given else self.native.tensors
        is_said = spec is not None and self.described is None and self.native.graph is None
        return self._taken(network, self._without_others(network, tensors) if others and is_said else tensors)

    def _check_described(self, network: ModelSpec) -> None:
        try:
            activation_shapes(network)
        except SpecError as error:
            raise FileFormatError(self.path, str(error)) from error

    def _without_others(self, spec: ModelSpec, tensors: Mapping[str, Array]) -> Mapping[str, Array]:
        """The tensors without those of layers that the network has not, where all that it has are there."""
        ours, table, _ = with_our_head(tensors, spec, self.form)
        used = {entry.native for entry in table}
        if not used <= ours.keys():
            return tensors
        layers = {_layer_of(name) for name in used}
        left = [
            name
            for name, tensor in ours.items()
            if _layer_of(name) not in layers and tensor.ndim and not self.form.ignored(name)
        ]
        if left:
            said = ", ".join(dict.fromkeys(map(_layer_of, left)))
            _LOG.warning("%s: layers that %s has not are left out: %s", self.path, spec.name, said)
        return {name: tensor for name, tensor in tensors.items() if name not in left}

    def _say_classes(self, network: ModelSpec) -> None:
        """Say that a family member has another number of classes in this file."""
        if network.head is None or network.name not in registry.models() or is_registered(network):
            return
        if network == with_classes_of(registry.model(network.name), self.native.tensors, self.form):
            count = parameter_shapes(network)[f"{network.head.name}.weight"][0]
            _LOG.info("%s: %s has %d outputs, taken as the number of classes", self.path, network.head.name, count)

    def as_network(self, spec: ModelSpec) -> Weights:
        """Its tensors as the parameters of `spec`, whatever network the file says it holds; errors as for `load`."""
        return self._taken(spec, self.native.loaded(spec))

    def _by_names(self, names: Names, spec: ModelSpec | None) -> Weights:
        if spec is None:
            raise ZooError(f"{self.path}: --map goes with --model or --prototxt, which say what our names are")
        tensors = renamed(names, self.native.tensors, self.form.entries(spec, None), spec)
        native = replace(self.native, tensors=tensors, as_loaded=None)
        return replace(self, native=native, how=replace(self.how, names=None, graph=None)).fitted(spec)

    def _taken(self, spec: ModelSpec, tensors: Mapping[str, Array]) -> Weights:
        tensors, table, own = with_our_head(tensors, spec, self.form)
        if own and spec.head:
            _LOG.warning("%s: %s is taken for %s, the classifier", self.path, own, spec.head.name)
        if self.how.map_out:
            write_map(self.how.map_out, table, tensors, spec)
        others = (entry for entry in table if entry.by_order and entry.native != entry.canonical)
        in_order = [f"{entry.native} is {entry.canonical}" for entry in others]
        if in_order:
            _LOG.warning("%s: matched by order and shape: %s", self.path, ", ".join(in_order))
        numbers = as_float32(tensors, (entry.native for entry in table), str(self.path), narrow=self.how.narrow)
        try:
            weights = to_canonical(spec, table, numbers, str(self.path), self.form.ignored)
        except WeightsError as error:
            used = {entry.native for entry in table}
            if used <= tensors.keys() or not any(tensors[name].ndim for name in tensors.keys() - used):
                raise
            told = "where names alone differ, --map-out FILE writes a table of them, and --map FILE reads it completed"
            raise WeightsError(f"{self.path} as {spec.name}", [*error.problems, told]) from error
        return weights.with_spec(self.how.images.of(self._said_of_images(spec).of(spec)))

    def _said_of_images(self, spec: ModelSpec) -> SaidOfImages:
        """What the file says; but for names of classes that a fine-tuned head has left behind."""
        found = self.native.images
        if found.classes and len(found.classes) != (outputs := output_count(spec)):
            _LOG.warning(
                "%s: its names of %d classes are left out, %d are put out", self.path, len(found.classes), outputs
            )
            return replace(found, classes=())
        return found


def open_file(path: Path, how: Reading | None = None, *, numbers: bool = True) -> OpenedFile:
    """Read a file.

    Args:
        path: any format of `converters.formats`.
        how: where the path alone does not say it.
        numbers: they are wanted too, not names, shapes and types alone.

    Raises:
        FileFormatError: missing, damaged or no weights.
    """
    how, path = how or Reading(), weights_of(path)
    name = format_name(path, how.from_format)
    form = weights_format(name)
    main = form.main_file(path)
    if not main.is_file():
        raise FileFormatError(main, "is a folder, expected a file" if main.is_dir() else "no such file")
    native = _read(path, form.outline if not numbers and isinstance(form, Outlined) else form.read)
    if numbers and native.refusal:
        raise FileFormatError(path, native.refusal)
    if how.sizes:
        if native.graph is None or native.graph.sized is None:
            raise ZooError(f"{path}: is no graph that may leave sizes open; leave --input out, or give --prototxt FILE")
        native = replace(native, graph=native.graph.sized(how.sizes))
    if how.ema and native.averages is None:
        raise ZooError(f"{path}: holds no moving averages beside its weights; leave --ema out")
    if native.averages is not None:
        taken, left = ("moving averages", "weights") if how.ema else ("weights", "moving averages")
        _LOG.warning("%s: its %s are taken, its %s left out%s", path, taken, left, "" if how.ema else " (--ema)")
    if how.ema and native.averages is not None:
        native = replace(native, tensors=native.averages, as_loaded=None)
    return OpenedFile(path=path, format=name, form=form, native=native, how=how)


def _read(path: Path, read: Callable[[Path], NativeFile]) -> NativeFile:
    """What a file holds; of an index, what the files that it lists hold together."""
    parts = parts_of(path) if path.is_file() else {}
    if not parts:
        return read(path)
    whole = NativeFile(tensors={})
    for part, names in parts.items():
        native = read(part)
        held = {**native.tensors, **(native.averages or {})}
        absent = next((name for name in names if name not in held), None)
        if absent is not None:
            raise FileFormatError(part, f"holds no {absent[:80]}, which {path.name} lists in it")
        averages = {**(whole.averages or {}), **(native.averages or {})}
        whole = replace(native, tensors={**whole.tensors, **native.tensors}, averages=averages or None)
    return whole


def load(
    path: str | PathLike[str],
    *,
    spec: ModelSpec | None = None,
    from_format: str | None = None,
    how: Reading | None = None,
) -> Weights:
    """The canonical weights of a file.

    Args:
        path: any format of `converters.formats`.
        spec: the network; left out, it is what the file itself says, or else the one family member that fits.
        from_format: a format's name, where neither bytes nor suffix tell.
        how: anything else that is to be said of the file; `from_format` is part of it.

    Raises:
        FileFormatError: missing, damaged or no weights.
        WeightsError: does not fit the network; lists every problem.
        ZooError: another network than `spec`, or no single one that fits.
    """
    how = how or Reading(from_format=from_format)
    return open_file(Path(path), how).fitted(spec, others=True)


def _layer_of(name: str) -> str:
    """What precedes the last part of a tensor's name."""
    return re.split(r"[./](?=[^./]*$)", name)[0]


def with_num_classes(weights: Weights, num_classes: int, seed: int = 0) -> Weights:
    """The same network with a new head, drawn by the network's recipe; the old head is dropped.

    Returns `weights` themselves where the number is the same already.
    """
    head, spec = weights.spec.head, weights.spec.with_num_classes(num_classes)
    if head is None or spec == weights.spec:
        return weights
    check_cost(spec)
    recipe, names = registry.recipe(spec), [f"{name}.{role}" for name in spec.heads for role in ("weight", "bias")]
    tensors = {**weights.tensors, **initial_weights(spec, recipe, seed, only=names)}
    _LOG.warning(
        "%s: dropped, and drawn anew for %d classes by the recipe %r, seed %d",
        head.name,
        num_classes,
        recipe.name,
        seed,
    )
    return Weights(spec=spec, tensors=tensors, source=weights.source)


def save(
    weights: Weights, path: str | PathLike[str], *, to_format: str | None = None, force: bool = False
) -> list[Path]:
    """Write weights beside `path`, read them back, compare them bit for bit, then put them in place.

    Args:
        weights: the network and its parameters.
        path: its suffix says the format.
        to_format: a format's name, where the suffix does not tell.
        force: replace an existing file.

    Returns:
        The files written: `path`, and what belongs beside it (a prototxt, a checkpoint's data).

    Raises:
        ZooError: the target exists (without `force`), or the disk is full.
        CheckFailedError: what was read back differs.
    """
    path = Path(path)
    target = target_format(path, to_format)
    form = weights_format(target)
    main = form.main_file(path)
    check_target(main, force=force)
    with staging(main) as folder:
        form.write(folder / path.name, weights)
        _check_written(form, folder / path.name, weights, must_describe=always_holds_network(target))
        return publish(folder, main, force=force)


def _check_written(form: WeightsFormat, path: Path, weights: Weights, *, must_describe: bool) -> None:
    written, shapes = form.read(path), parameter_shapes(weights.spec)
    work, table = list[tuple[str, Array, Array]](), form.entries(weights.spec, written.tensors)
    for entry in table:
        name, found, meant = entry.native, written.tensors.get(entry.native), native_numbers(weights, entry)
        if found is None or found.shape != entry.native_shape(shapes[entry.canonical]) or found.dtype != meant.dtype:
            raise _difference(path, name)
        work += [(name, *pair) for pair in _pairs(found.reshape(meant.shape), meant)]
    for start in range(0, len(work), _HELD):
        part = work[start : start + _HELD]
        for (name, found, _), same in zip(part, map_on_cores(lambda piece: _same(piece[1:]), part), strict=True):
            if not same:
                raise _difference(path, name)
            release(found)
    if written.spec is not None or must_describe:
        # The network beside the tensors is read back as well: that it can be, and that it asks for these very tensors.
        found, asked = written.spec, {entry.native for entry in table}
        if (
            found is None
            or found.outputs != weights.spec.outputs
            or {entry.native for entry in form.entries(found, written.tensors)} != asked
        ):
            raise _difference(path, "its network")


def _difference(path: Path, name: str) -> CheckFailedError:
    return CheckFailedError(f"{path.name}: {name} read back differently from what was written; nothing was changed")


def same_bits(a: Array, b: Array) -> bool:
    """Whether two float32 arrays are the same, NaN payloads and signs of zero included."""
    return a.shape == b.shape and a.dtype == b.dtype and all(map_on_cores(_same, _pairs(a, b)))


def _pairs(found: Array, meant: Array) -> list[tuple[Array, Array]]:
    """The blocks of two float32 arrays of one shape, as bits."""
    # An axis of one number says nothing of how the others lie in memory.
    one, other = (np.atleast_1d(array.squeeze()).view(np.uint32) for array in (found, meant))
    return [(one[block], other[block]) for block in blocks(other)]


def _same(pair: tuple[Array, Array]) -> bool:
    return np.array_equal(pair[0], packed(pair[1]))
