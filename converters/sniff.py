"""What a weights file is, told by its bytes: its suffix is only what somebody called it."""

from __future__ import annotations

import re
import zipfile
from codecs import getincrementaldecoder
from itertools import islice
from pathlib import Path

import numpy as np

from zoo.errors import FileFormatError
from zoo.registry import optional
from zoo.wire.checkpoint_files import checkpoint_in, checkpoint_of, index_path, saved_model_of
from zoo.wire.mapped import mapped
from zoo.wire.protobuf import BYTES, VARINT, fields
from zoo.wire.regular import check_regular
from zoo.wire.safetensors import is_safetensors
from zoo.wire.signatures import (
    BLOB_DATA,
    BLOB_SHAPE,
    BLOB_SIZES,
    MODEL_GRAPH,
    NET_LAYER,
    NET_LAYERS,
    NET_NAME,
    SOLVER_ITER,
    TABLE_END,
    ZIP,
)
from zoo.wire.weight_map import parts_of, weights_of

# So many bytes tell most kinds; a tar archive says what it is at byte 257.
_HEAD = 512
# A pickle: its protocol, then a frame, or what a list, a dictionary or an imported name begins with.
_PICKLE = re.compile(rb"\x80([\x04\x05]\x95|[\x02\x03][]}(c])")
# The number that torch.save wrote first before 1.6, as a pickle of its own (torch/serialization.py, MAGIC_NUMBER).
_TORCH = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
# So many fields of a protobuf are looked at: more than any network has layers.
_FIELDS = 10_000
# What a SolverState has besides its first field.
_SOLVER_NET, _SOLVER_HISTORY = 2, 3
# TensorFlow's GraphDef and MetaGraphDef: nodes or meta_info_def, and versions or collections, a network's input_dim.
_GRAPH = {1: BYTES, 4: BYTES}
# What a node begins with, its name; no network's own name does.
_NODE = b"\n"

_DISTRIBUTED = (
    "is a checkpoint of torch.distributed, in parts; make one file of it: "
    "python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE.pt"
)
_LITERT = b"TFL3"  # at byte 4 of a flatbuffer
_PROGRAM = re.compile(r"(^|/)(model_weights_config\.json|serialized_exported_program\.json)$")
_SOLVER = "is a solver's state, its momenta and no weights; these are in {}.caffemodel beside it"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_MATLAB = b"MATLAB "
# What a text may begin with that some editors mark as UTF-8.
_BOM = b"\xef\xbb\xbf"

# How a file begins that is no weights -> what it is, and what to do.
_OTHERS = {
    # git-lfs, docs/spec.md
    b"version https://git-lfs.github.com/spec/": "a pointer of Git LFS in the place of the file; get it with: "
    "git lfs pull",
    b"<!doctype html": "a web page in the place of the file; open its address in a browser, and download the file",
    b"<html": "a web page in the place of the file; open its address in a browser, and download the file",
    b"\x1f\x8b": "packed with gzip; unpack it first",
    b"BZh": "packed with bzip2; unpack it first",
    b"\xfd7zXZ": "packed with xz; unpack it first",
    b"7z\xbc\xaf": "packed with 7-Zip; unpack it first",
    b"Rar!": "packed with RAR; unpack it first",
    b"\x28\xb5\x2f\xfd": "packed with zstd; unpack it first",
    b"<?xml": "a server's answer (XML) in the place of the file; open its address in a browser, and download the file",
    b'{"error"': "a server's answer (JSON) in the place of the file; its address, or a login, is wrong",
    b'{"message"': "a server's answer (JSON) in the place of the file; its address, or a login, is wrong",
}


def sniffed(path: Path) -> str | None:
    """The format (a file of `converters.formats`) that the bytes of a file, or the files of a folder, tell.

    Returns:
        None where there is no such file, or where its bytes tell nothing.

    Raises:
        FileFormatError: it is something else, which is named with what to do; or empty, or no regular file.
    """
    path = weights_of(checkpoint_of(path))
    if index_path(path).is_file():
        return "tf_slim"
    if path.is_dir():
        if (path / ".metadata").is_file():
            raise FileFormatError(path, _DISTRIBUTED)
        if saved_model_of(path) and not checkpoint_in(path):
            raise FileFormatError(path, "is a SavedModel without the folder variables, in which its weights are kept")
        return "tf_slim" if checkpoint_in(path) else None
    check_regular(path)
    if not path.exists():
        return None
    if not path.stat().st_size:
        raise FileFormatError(path, "the file is empty")
    refuse_others(path)
    if is_hdf5(path):
        return _in_hdf5(path)
    data = mapped(path)
    head = bytes(data[:_HEAD])
    if head[:1] == b"{" and (parts := parts_of(path)):
        return sniffed(next(iter(parts)))
    return _by_head(path, head, len(data)) or _by_structure(path, data)


def refuse_others(path: Path) -> None:
    """Refuse a file that stands in the place of what was meant: a pointer, a web page, an archive.

    Raises:
        FileFormatError: what it is instead, and what to do.
    """
    head = _head(path)
    for start, what in _OTHERS.items():
        if head.removeprefix(_BOM).lstrip()[: len(start)].lower() == start.lower():
            raise FileFormatError(path, f"is {what}")
    if head[257:262] == b"ustar":
        raise FileFormatError(path, "is a tar archive; unpack it first")


def _head(path: Path) -> bytes:
    """The first bytes of a regular file; of what is none, nothing."""
    if not path.is_file():
        return b""
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError as error:
        raise FileFormatError(path, error.strerror or "cannot be read") from error


def text_of(path: Path) -> str:
    """How a file begins that is a text; nothing of any other."""
    try:
        text = getincrementaldecoder("utf-8")().decode(_head(path).removeprefix(_BOM))  # the last letter may be cut
    except UnicodeDecodeError:
        return ""
    return text.strip() if all(letter.isprintable() or letter.isspace() for letter in text) else ""


def is_hdf5(path: Path) -> bool:
    """Whether a file is HDF5."""
    return _head(path).startswith(_HDF5)


def _in_hdf5(path: Path) -> str:
    try:
        with optional("keras"):
            from zoo.wire.hdf5 import top_names
        groups = top_names(path)
    except ValueError as error:
        raise FileFormatError(path, str(error)) from error
    if {"learned_net", "history"} & groups:
        raise FileFormatError(path, _SOLVER.format(path.stem))
    return "caffe" if groups == {"data"} else "keras"


def _by_head(path: Path, head: bytes, size: int) -> str | None:
    if head.startswith(np.lib.format.MAGIC_PREFIX):
        return "numpy"
    if head.startswith(_MATLAB):
        return "matconvnet"
    if head.startswith(ZIP):
        return _in_zip(path)
    if head[:1] == b"\x80" and head[2:].startswith(_TORCH):
        return "pytorch"
    if _PICKLE.match(head):
        raise FileFormatError(
            path,
            "is a pickle of Python's own, and loading those would run code; load it where it was made, and numpy.savez "
            "its arrays by name",
        )
    if head[4:8] == _LITERT:
        raise FileFormatError(path, "is a model of LiteRT (.tflite), made for running alone; give what it was made of")
    return "safetensors" if is_safetensors(head, size) else None


def _in_zip(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return None  # cut short: its reader says where
    # torch finds its records whatever their case.
    if any(re.search(r"(^|/)(data|constants|attributes)\.pkl$", name, re.IGNORECASE) for name in names):
        return "pytorch"
    if "model.weights.h5" in names:
        return "keras"
    if any(_PROGRAM.search(name) for name in names):
        raise FileFormatError(path, "is a program of torch.export; torch.export.load it and torch.save its state_dict")
    if names and all(name.endswith(".npy") for name in names):
        return "numpy"
    if names:
        raise FileFormatError(
            path, f"is a zip archive of {', '.join(names[:3])}, no weights by itself; unpack it first"
        )
    return None


def _by_structure(path: Path, data: memoryview) -> str | None:
    if bytes(data[-len(TABLE_END) :]) == TABLE_END:
        return "tf_slim"
    found, first = dict[int, int](), b""
    try:
        for number, kind, value in islice(fields(data), _FIELDS):
            if number == 1 and not found:
                first = b"" if isinstance(value, int) else bytes(value[:1])
            found.setdefault(number, kind)
    except ValueError:
        return None
    is_sized = all(found.get(number) == VARINT for number in BLOB_SIZES)
    if found.get(BLOB_DATA) == BYTES and (is_sized or found.get(BLOB_SHAPE) == BYTES):
        raise FileFormatError(path, "is one blob of Caffe, as a mean image is, and no weights; give it with --mean")
    if {number: found.get(number) for number in _GRAPH} == _GRAPH or first == _NODE:
        raise FileFormatError(
            path, "is a graph of TensorFlow (.pb or .meta); give the checkpoint, or the SavedModel's folder"
        )
    name = found.get(NET_NAME)  # in a model of ONNX a number: which form it is of
    if found.get(MODEL_GRAPH) == BYTES and name in (None, VARINT):
        return "onnx"
    solver = {SOLVER_ITER: VARINT, _SOLVER_HISTORY: BYTES}
    if solver.items() <= found.items() and found.get(_SOLVER_NET, BYTES) == BYTES:
        raise FileFormatError(path, _SOLVER.format(path.stem))
    is_net = NET_LAYER in found or (NET_LAYERS in found and name == BYTES)
    return "caffe" if is_net else None
