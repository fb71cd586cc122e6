"""Keras files, to read: ``.weights.h5`` and ``.keras`` of Keras 3, and ``.h5`` of Keras 2. No Keras needed.

Variables lie as TensorFlow's do, so `_slim_names` says which is which parameter. The description of the network is not
run, and no code in it. Format: keras ``src/saving/saving_lib.py``, ``src/legacy/saving/legacy_h5_format.py``.
"""

from __future__ import annotations

import re
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from converters.formats import NativeFile, _slim_names
from converters.tensormap import Entry
from converters.weights import Array, Weights
from zoo.errors import FileFormatError, UnsupportedError
from zoo.layers import ModelSpec
from zoo.registry import optional

if TYPE_CHECKING:
    from zoo.wire.hdf5 import Contents

READ_SUFFIXES = (".h5", ".keras")

_WEIGHTS, _CONFIG = "model.weights.h5", "config.json"
_OPTIMIZERS = ("optimizer", "optimizer_weights")
# An archive may not unfold to more than this beyond twice its size.
_UNFOLDED = 1 << 27
_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
_CHANNELS_FIRST = re.compile(r'"data_format": *"channels_first"')


def read(path: Path) -> NativeFile:
    """Every variable, as ``layer/kernel``, ``layer/bias``.

    Raises:
        FileFormatError: it is missing, damaged, leads elsewhere, or is laid out as nothing here is.
    """
    with optional("keras"):
        from zoo.wire import hdf5
    try:
        if zipfile.is_zipfile(path):
            content, config = _unpacked(path)
            found = hdf5.read_hdf5(BytesIO(content), len(content), _OPTIMIZERS)
        else:
            found, config = hdf5.read_hdf5(path, path.stat().st_size, _OPTIMIZERS), ""
        if _CHANNELS_FIRST.search(config + str(found.texts.get(("", "model_config"), ""))):
            raise ValueError("its layers keep channels first, and their order is not told apart; save it channels last")
        tensors = _legacy(found) if _layers_of(found) else _indexed(found)
    except (ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        raise FileFormatError(path, f"no Keras file that can be read: {error}") from error
    if not tensors:
        raise FileFormatError(path, "no Keras file: there are no variables in it")
    return NativeFile(tensors=tensors)


def _unpacked(path: Path) -> tuple[bytes, str]:
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        if _WEIGHTS not in members:
            raise ValueError(f"it holds no {_WEIGHTS}")
        if sum(member.file_size for member in members.values()) > 2 * path.stat().st_size + _UNFOLDED:
            raise ValueError("it would unfold to far more than its size")
        config = archive.read(members[_CONFIG]).decode("utf-8", "replace") if _CONFIG in members else ""
        return archive.read(members[_WEIGHTS]), config


def _layers_of(found: Contents) -> list[tuple[str, list[str]]]:
    """The layers of the old format, in order: the group of each, and the names of its weights."""
    root = "model_weights" if ("model_weights", "layer_names") in found.texts else ""
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
        names = _NORM if len(arrays) == len(_NORM) else ("kernel", "bias")
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
    """As in a checkpoint of TensorFlow."""
    return _slim_names.entries(spec, tensors)


def ignored(name: str) -> bool:
    """Nothing: optimizers are passed over as groups."""
    return False


def write(path: Path, weights: Weights) -> None:
    """Not offered: Keras writes a network along, which would be another proof."""
    raise UnsupportedError(f"{path}: Keras files are read, not written; write .ckpt, .npz or .safetensors")


def main_file(path: Path) -> Path:
    """The file itself."""
    return path
