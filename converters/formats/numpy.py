"""NumPy files: the ``.npy`` dictionaries of caffe-tensorflow and its descendants, and ``.npz`` of canonical arrays.

caffe-tensorflow (``kaffe/transformers.py``) wrote ``{layer: {"weights": ..., "biases": ...}}`` with TensorFlow's
layouts: H x W x I x O for convolutions (a grouped one with I / groups), in x out for dense layers, whose rows run over
H, W, C after an image. Its descendants also wrote ``{layer: [weights, biases]}``.
"""

from __future__ import annotations

import logging
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import Any, TypeAlias

import numpy as np

from converters.formats import NativeFile
from converters.tensormap import Entry, to_native
from converters.torchvision_names import is_count, state_entries
from converters.weights import Array, Weights
from zoo.arrays import unread
from zoo.errors import FileFormatError, UnsupportedError, ZooError, said
from zoo.frameworks.tf_slim import variables
from zoo.layers import ModelSpec
from zoo.shapes import parameter_table
from zoo.spec_json import METADATA_KEY
from zoo.spec_json import dumps as spec_dumps
from zoo.spec_json import loads as spec_loads
from zoo.torch_names import parameter_names
from zoo.wire.layout import contiguous
from zoo.wire.mapped import mapped
from zoo.wire.npy_pickle import dump, loads
from zoo.wire.signatures import ZIP
from zoo.wire.zipped import member_bytes

_LOG = logging.getLogger(__name__)

# Shape, whether in Fortran's order, type, and where the content begins.
_Header: TypeAlias = tuple[tuple[int, ...], bool, np.dtype[Any], int]

SUFFIXES = (".npy", ".npz")
# Suffixes whose files hold the network and its preprocessing, beside the tensors.
HOLDS_NETWORK = (".npz",)

_format = np.lib.format

# How the matrices of a file lie where a slim checkpoint would hold convolutions.
_MATRICES = {"HWCO": "(HWC)O", "11IO": "IO"}
_MAX_HEADER = 10_000
# The last word of an array's name, where people save a layer's two arrays by themselves.
_LAST = re.compile(r"[/._](w|weights?|kernel|b|bias(?:es)?)$", re.IGNORECASE)
# A compressed archive may not unfold to more than this beyond twice its size.
_UNFOLDED = 1 << 27
_MAX_COMMENT = 65535
_SPEC = f"{METADATA_KEY}=".encode()

# What NumPy's header reader (it tokenizes headers of Python 2) and zipfile raise for damaged bytes.
_DAMAGED = (
    *(ValueError, EOFError, KeyError, OverflowError, SyntaxError, TypeError, NotImplementedError, RuntimeError),
    *(MemoryError, RecursionError),  # of Python's parser, for a header of nested brackets
    *(OSError, TokenError, struct.error, zlib.error, zipfile.BadZipFile, ZooError),
)


def read(path: Path) -> NativeFile:
    """Every array of an ``.npy`` dictionary (as ``layer/name``) or of an ``.npz`` (under its own name).

    Nothing a file names is run: see `zoo.wire.npy_pickle`.

    Raises:
        FileFormatError: the file is missing or damaged, or holds anything but arrays of numbers.
    """
    return _read(path, whole=True)


def outline(path: Path) -> NativeFile:
    """The same without the numbers of an ``.npz``; see `Outlined`."""
    return _read(path, whole=False)


def _read(path: Path, *, whole: bool) -> NativeFile:
    data = mapped(path)
    try:
        if bytes(data[:4]) == ZIP:
            return _read_archive(path, data, whole=whole)
        return NativeFile(tensors=_read_dictionary(data))
    except _DAMAGED as error:
        raise FileFormatError(path, f"no sound NumPy file: {said(error)}") from error


def _read_dictionary(data: memoryview) -> dict[str, Array]:
    shape, _, dtype, start = _header(data)
    if not dtype.hasobject:
        raise ValueError(f"one array of shape {shape}, expected a dictionary of layers; give a mean with --mean")
    return loads(data[start:])


def _header(data: memoryview) -> _Header:
    file = BytesIO(data[: _MAX_HEADER + 20])
    version = _format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of the format")
    reader = _format.read_array_header_1_0 if version == (1, 0) else _format.read_array_header_2_0
    shape, fortran, dtype = reader(file, max_header_size=_MAX_HEADER)
    return shape, fortran, dtype, file.tell()


def _read_archive(path: Path, data: memoryview, *, whole: bool) -> NativeFile:
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members):
            # Unlike deflate, those that NumPy never writes are unpacked by zipfile without a limit.
            raise ValueError("it is compressed in a way that NumPy does not write")
        stored = sum(member.file_size for member in members if member.compress_type == zipfile.ZIP_STORED)
        unfolded = sum(member.file_size for member in members) - stored
        if stored > len(data):
            raise ValueError("its members overlap")
        if unfolded > 2 * len(data) + _UNFOLDED:
            raise ValueError(f"it would unfold to {unfolded:,} bytes; save it uncompressed (numpy.savez)")
        tensors = dict[str, Array]()
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name in tensors:
                raise ValueError(f"{name} is there twice")
            with archive.open(member) as file:
                header = _header(memoryview(file.read(_MAX_HEADER + 20)))
            _, _, dtype, start = header
            if dtype.kind in "US":  # a remark
                _LOG.info("%s: %s is a text, left out", path, name)
            elif dtype.hasobject:  # of one layer
                content = member_bytes(archive, member, data)
                tensors |= {f"{name}/{inner}": array for inner, array in loads(content[start:]).items()}
            else:
                content = member_bytes(archive, member, data) if whole else None
                tensors[name] = _array(name, header, member.file_size, content)
        comment = archive.comment
    spec = spec_loads(comment[len(_SPEC) :].decode()) if comment.startswith(_SPEC) else None
    return NativeFile(tensors=tensors, spec=spec)


def _array(name: str, header: _Header, size: int, content: memoryview | None) -> Array:
    """An array of `size` bytes, header included; without its numbers where there is no content."""
    shape, fortran, dtype, start = header
    if dtype.kind not in "fiub":
        raise ValueError(f"{name} holds {dtype}; arrays of numbers alone are read")
    if prod(shape) * dtype.itemsize != size - start:
        raise ValueError(f"{name} of shape {shape} has {size - start:,} bytes")
    if content is None:
        return unread(shape, dtype)
    return np.frombuffer(content[start:], dtype).reshape(shape, order="F" if fortran else "C")


def entries(spec: ModelSpec, tensors: Mapping[str, Array] | None) -> list[Entry]:
    """Where each canonical parameter sits.

    Canonical names where the file has them, or those of a state dict; else, and in an ``.npy`` to be written,
    ``layer/weights`` in caffe-tensorflow's layouts.
    """
    table = parameter_table(spec)
    if tensors is not None and any(name in tensors for name in table):
        return [Entry(canonical=name, native=name) for name in table]
    found = list[Entry]()
    for variable in variables(spec):
        layer, row = variable.parameter.rpartition(".")[0], table[variable.parameter]
        # An array has a name, or a place in a list.
        names = (row.numpy, str(row.blob))
        candidates = [f"{holder}/{name}" for holder in (layer, layer.replace("/", "_")) for name in names]
        native = next((name for name in candidates if name in (tensors or ())), candidates[0])
        native_axes = _MATRICES.get(variable.layout, variable.layout)
        found.append(
            Entry(
                canonical=variable.parameter,
                native=native,
                axes=variable.axes,
                native_axes=native_axes,
                sizes=variable.sizes,
            )
        )
    if tensors and not any(entry.native in tensors for entry in found):
        return _of_state(spec, tensors)
    return found


def _of_state(spec: ModelSpec, tensors: Mapping[str, Array]) -> list[Entry]:
    """A state dict, array by array; what comes before the last word of a name may be parted as people part it."""
    keys = {_state_key(name): name for name in tensors}
    found = state_entries(spec, parameter_names(spec), {key: tensors[name] for key, name in keys.items()})
    return [replace(entry, native=keys.get(entry.native, entry.native)) for entry in found]


def _state_key(name: str) -> str:
    """``conv1/W``, ``conv1_weights`` -> ``conv1.weight``."""
    last = _LAST.search(name)
    return f"{name[: last.start()].replace('/', '.')}.{'bias' if last[1][0] in 'bB' else 'weight'}" if last else name


def ignored(name: str) -> bool:
    """A counter that PyTorch keeps among the weights."""
    return is_count(name)


def write(path: Path, weights: Weights) -> None:
    """Write an ``.npy`` dictionary in caffe-tensorflow's form, or an ``.npz`` of the canonical arrays."""
    with path.open("wb") as file:
        if path.suffix == ".npz":
            _write_archive(file, weights)
            return
        layers = dict[str, dict[str, Array]]()
        for native, tensor in to_native(weights, entries(weights.spec, None)).items():
            layer, _, name = native.rpartition("/")
            layers.setdefault(layer, {})[name] = tensor
        _format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        dump(layers, file)


def _write_archive(file: Any, weights: Weights) -> None:
    """Like `numpy.savez`, but without the time of day; the network is the archive's comment."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, tensor in weights.tensors.items():
            if "\0" in name:
                raise UnsupportedError(f"{name}: a zip holds no name with a NUL in it; write another format")
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                header: dict[str, Any] = {"descr": "<f4", "fortran_order": False, "shape": tensor.shape}
                _format.write_array_header_1_0(member, header)
                member.write(contiguous(tensor).astype("<f4", copy=False).reshape(-1).view(np.uint8).data)
        comment = _SPEC + spec_dumps(weights.spec).encode()
        if len(comment) <= _MAX_COMMENT:  # a network too large for it has to be named when the file is read
            archive.comment = comment


def main_file(path: Path) -> Path:
    """The file itself."""
    return path
