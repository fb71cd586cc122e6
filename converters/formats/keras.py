"""Keras files: ``.weights.h5`` and ``.keras`` of Keras 3, and ``.h5``, which is older. No Keras needed.

Variables lie as TensorFlow's do. What is written is the model that `zoo.frameworks.keras` generates the source of; of
other files `_slim_names` says which variable is which parameter. The description of the network is not run, and no
code in it. Format: keras ``src/saving/saving_lib.py``, ``src/legacy/saving/legacy_h5_format.py``.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from converters.formats import LARGE, NativeFile, _slim_names
from converters.formats._described import Step, unlike
from converters.formats._keras_config import branch, described, generated, other_layer, unlike_ours
from converters.formats._slim_names import layout_of
from converters.tensormap import Entry, native_numbers
from converters.weights import Array, Weights
from zoo.errors import FileFormatError, UnsupportedError
from zoo.frameworks.keras import KERAS_VERSION, Variable, groups, model_config, stored, variables
from zoo.layers import ModelSpec, Shape
from zoo.registry import optional
from zoo.shapes import parameter_shapes
from zoo.wire.mapped import mapped
from zoo.wire.zipped import member_bytes, unpacked

if TYPE_CHECKING:
    from zoo.wire.hdf5 import Contents

SUFFIXES = (".keras", ".h5")
# Suffixes whose files hold the network and its preprocessing, beside the tensors.
HOLDS_NETWORK = ()

_Made: TypeAlias = tuple[Shape, Callable[[], Array]]
_Place: TypeAlias = tuple[str, str]
_Text: TypeAlias = str | list[str]
_Content: TypeAlias = tuple[dict[str, _Made], dict[_Place, _Text]]

_WEIGHTS, _CONFIG, _METADATA = "model.weights.h5", "config.json", "metadata.json"
_VERSION, _METADATA_READ = re.compile(r'"keras_version": *"([\w.+-]{1,40})"'), 1 << 16
_ROOT = "model_weights"
_OPTIMIZERS = ("optimizer", "optimizer_weights")
# An archive may not unfold to more than this beyond twice its size.
_UNFOLDED = 1 << 27
_PAIR, _NORM = ("kernel", "bias"), ("gamma", "beta", "moving_mean", "moving_variance")
_SEPARABLE = ("depthwise_kernel", "pointwise_kernel", "bias")
_CHANNELS_FIRST = re.compile(r'"data_format": *"channels_first"')


def read(path: Path) -> NativeFile:
    """Every variable, as ``layer/kernel``, ``layer/bias``.

    Raises:
        FileFormatError: it is missing, damaged, leads elsewhere, or is laid out as nothing here is.
    """
    return _read(path, None)


def outline(path: Path) -> NativeFile:
    """The same without the numbers; see `Outlined`."""
    return _read(path, LARGE)


def _read(path: Path, largest: int | None) -> NativeFile:
    with optional("keras"):
        from zoo.wire import hdf5
    try:
        if zipfile.is_zipfile(path):
            content, config, version = _unpacked(path, checked=largest is None)
            found = hdf5.read_hdf5(content, _OPTIMIZERS, largest)
        else:
            found = hdf5.read_hdf5(path, _OPTIMIZERS, largest)
            config = str(found.texts.get(("", "model_config"), ""))
            version = str(found.texts.get(("", "keras_version")) or found.texts.get((_ROOT, "keras_version"), ""))
        writer = f"Keras {version}" if version else ""
        if _CHANNELS_FIRST.search(config):
            raise ValueError("its layers keep channels first, and their order is not told apart; save it channels last")
        tensors = _legacy(found) if _layers_of(found) else _indexed(found)
    except (ValueError, OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise FileFormatError(path, f"no Keras file that can be read: {error}") from error
    if not tensors:
        raise FileFormatError(path, "no Keras file: there are no variables in it")
    try:
        layers = described(config, {name.partition("/")[0] for name in tensors})
    except ValueError as error:
        return NativeFile(tensors=tensors, writer=writer, refusal=str(error))
    if layers is None:
        return NativeFile(tensors=tensors, writer=writer)
    steps, images = layers
    return NativeFile(
        tensors=tensors,
        unlike=partial(_unlike, config, steps),
        runs_itself=True,
        images=images,
        writer=writer,
    )


def _unlike(config: str, steps: Sequence[Step], spec: ModelSpec) -> str | None:
    """In what a network differs from the one described; None if in nothing, as from one that is written here."""
    told, own = unlike(steps, spec, complete=True), generated(json.loads(config))
    try:
        ours = model_config(spec)
    except UnsupportedError:  # written here, it is not
        return told or branch(config)
    other = other_layer(config, ours)
    if other == "":
        return None
    if told is None and own:
        told = unlike_ours(own, generated(ours))
    return told or other or branch(config)


def _unpacked(path: Path, *, checked: bool) -> tuple[memoryview, str, str]:
    """The weights in an archive, the description of the network, and the version of Keras that wrote them."""
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        if _WEIGHTS not in members:
            raise ValueError(f"it holds no {_WEIGHTS}")
        if sum(member.file_size for member in members.values()) > 2 * path.stat().st_size + _UNFOLDED:
            raise ValueError("it would unfold to far more than its size")
        config = unpacked(archive, members[_CONFIG]).decode("utf-8", "replace") if _CONFIG in members else ""
        metadata = unpacked(archive, members[_METADATA]) if _METADATA in members else b""
        version = _VERSION.search(metadata[:_METADATA_READ].decode("utf-8", "replace"))
        weights = member_bytes(archive, members[_WEIGHTS], mapped(path), checked=checked)
        return weights, config, version[1] if version else ""


def _layers_of(found: Contents) -> list[tuple[str, list[str]]]:
    """The layers of the old format, in order: the group of each, and the names of its weights."""
    root = _ROOT if (_ROOT, "layer_names") in found.texts else ""
    groups = [f"{root}/{name}".lstrip("/") for name in found.texts.get((root, "layer_names"), [])]
    return [(group, [*found.texts.get((group, "weight_names"), [])]) for group in groups]


def _legacy(found: Contents) -> dict[str, Array]:
    tensors = dict[str, Array]()
    for group, names in _layers_of(found):
        for name in names:
            if f"{group}/{name}" not in found.arrays:
                raise ValueError(f"{group} declares {name}, which is not there")
            # A model inside a model is one group, and its layers stand in the names.
            *_, layer, variable = f"{group}/{name}".split("/")
            _add(tensors, f"{layer}/{variable.partition(':')[0]}", found.arrays[f"{group}/{name}"])
    return tensors


def _indexed(found: Contents) -> dict[str, Array]:
    """Keras 3 numbers a layer's variables; the layer's own name is beside them."""
    layers, tensors = defaultdict[str, list[Array]](list), dict[str, Array]()
    for path, array in found.arrays.items():
        holder, _, index = path.rpartition("/")
        if holder.endswith("/vars") and "seed_generator" not in holder:
            layers[holder].append(array)
            if index != str(len(layers[holder]) - 1):
                raise ValueError(f"{path}: its layer's variables are not numbered in order")
    for holder, arrays in layers.items():
        said = found.texts.get((holder, "name"))
        layer = said if isinstance(said, str) and said else holder.split("/")[-2]
        separable = [array.ndim for array in arrays[:2]] == [4, 4]
        names = _SEPARABLE if separable else _NORM if len(arrays) == len(_NORM) else _PAIR
        if len(arrays) > len(names):
            raise ValueError(f"{layer} has {len(arrays)} variables, which is no layer known here")
        for name, array in zip(names, arrays, strict=False):
            _add(tensors, f"{layer}/{name}", array)
    return tensors


def _add(tensors: dict[str, Array], name: str, array: Array) -> None:
    if name in tensors:
        raise ValueError(f"{name} is there twice")
    tensors[name] = array


def entries(spec: ModelSpec, tensors: Mapping[str, Array] | None) -> list[Entry]:
    """Where each canonical parameter sits.

    In a file to be written, and in one that holds just these: the variables of the generated source, which a file of
    weights numbers. In any other file, as in a checkpoint of TensorFlow.
    """
    ours, shapes = variables(spec), parameter_shapes(spec)
    table = [_entry(variable, variable.name) for variable in ours]
    if tensors is None:
        return table
    places, words = Counter[str](), dict[tuple[str, str], str]()
    for variable in stored(ours):
        words[variable.layer, variable.name] = _PAIR[places[variable.layer]]
        places[variable.layer] += 1
    numbered = [_entry(variable, words[variable.layer, variable.name]) for variable in ours]
    found = {name: tensor.shape for name, tensor in tensors.items()}
    for names in (table, numbered):
        own = [
            replace(
                entry, native_axes=layout_of(entry.native_axes, shapes[entry.canonical], found.get(entry.native, ()))
            )
            for entry in names
        ]
        if {entry.native: entry.native_shape(shapes[entry.canonical]) for entry in own} == found:
            return own
    return _slim_names.entries(spec, tensors)


def _entry(variable: Variable, name: str) -> Entry:
    return Entry(
        canonical=variable.parameter,
        native=f"{variable.layer}/{name}",
        axes=variable.axes,
        native_axes=variable.layout,
        sizes=variable.sizes,
    )


def ignored(name: str) -> bool:
    """Nothing: optimizers are passed over as groups."""
    return False


def write(path: Path, weights: Weights) -> None:
    """Write a ``.keras`` archive, a ``.weights.h5``, or any other ``.h5`` as the whole model in the older format.

    ``keras.saving.load_model`` loads the whole ones where the generated source is imported.

    Raises:
        UnsupportedError: Keras cannot have the network.
    """
    with optional("keras"):
        from zoo.wire import hdf5
    is_whole = path.name.endswith(".h5") and not path.name.endswith(".weights.h5")
    arrays, texts = _whole(weights) if is_whole else _numbered(weights)
    pieces = hdf5.hdf5_pieces(path.with_name(f"{path.name}.outline"), arrays, texts)
    if path.suffix != ".keras":
        with path.open("wb") as file:
            file.writelines(pieces)
        return
    metadata = json.dumps({"keras_version": KERAS_VERSION, "date_saved": "1980-01-01@00:00:00"})
    with zipfile.ZipFile(path, "w") as archive:  # not packed, and of one date: equal weights give equal bytes
        archive.writestr(zipfile.ZipInfo(_METADATA), metadata)
        archive.writestr(zipfile.ZipInfo(_CONFIG), json.dumps(model_config(weights.spec)))
        with archive.open(zipfile.ZipInfo(_WEIGHTS), "w", force_zip64=True) as member:
            for piece in pieces:
                member.write(piece)


def _numbered(weights: Weights) -> _Content:
    """The arrays and texts of a file of weights: a group a layer, its variables counted."""
    group, places, arrays, texts = groups(weights.spec), Counter[str](), dict[str, _Made](), dict[_Place, _Text]()
    for variable, made in _made(weights):
        holder = f"{group[variable.layer]}/vars"
        arrays[f"{holder}/{places[holder]}"] = made
        texts[holder, "name"] = variable.layer
        places[holder] += 1
    return arrays, texts


def _whole(weights: Weights) -> _Content:
    """The arrays and texts of the older format: the layers by name, and the description as an attribute."""
    layers, arrays = {layer: list[str]() for layer in groups(weights.spec)}, dict[str, _Made]()
    for variable, made in _made(weights):
        layers[variable.layer].append(f"{variable.layer}/{variable.name}")
        arrays[f"{_ROOT}/{variable.layer}/{variable.layer}/{variable.name}"] = made
    texts: dict[_Place, _Text] = {
        ("", "keras_version"): KERAS_VERSION,
        ("", "model_config"): json.dumps(model_config(weights.spec, legacy=True)),
        (_ROOT, "keras_version"): KERAS_VERSION,
        (_ROOT, "layer_names"): list(layers),
    }
    texts |= {(f"{_ROOT}/{layer}", "weight_names"): names for layer, names in layers.items()}
    return arrays, texts


def _made(weights: Weights) -> Iterator[tuple[Variable, _Made]]:
    """Every variable, with its shape in the file and its numbers."""
    shapes = parameter_shapes(weights.spec)
    for variable in stored(variables(weights.spec)):
        entry = _entry(variable, variable.name)
        yield variable, (entry.native_shape(shapes[variable.parameter]), partial(native_numbers, weights, entry))


def main_file(path: Path) -> Path:
    """The file itself."""
    return path
