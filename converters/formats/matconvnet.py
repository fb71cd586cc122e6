"""MatConvNet's networks, ``.mat`` of MATLAB 5 to 7, to read: the ``layers`` of a SimpleNN, with their weights.

A filter bank is H x W x I x O, and so is a dense layer, a convolution over its whole input: as in TF-slim. Format:
matconvnet ``matlab/simplenn/vl_simplenn.m``; MathWorks, "MAT-File Level 5 File Format".
"""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from converters.formats import NativeFile, _slim_names
from converters.formats._described import Fact, Step, activation, unlike
from converters.tensormap import Entry
from converters.weights import Array, Weights
from zoo.errors import FileFormatError, UnsupportedError, said
from zoo.layers import ModelSpec, Pair
from zoo.registry import optional
from zoo.wire.mapped import mapped

READ_SUFFIXES = (".mat",)

# The header of a file, and an element's tag: its kind and its bytes. Kind 15 is packed with zlib.
_HEADER, _TAG, _COMPRESSED = 128, struct.Struct("<II"), 15
# Packed elements may not unfold to more than this beyond twice the file.
_UNFOLDED, _PIECE = 1 << 27, 1 << 20


def read(path: Path) -> NativeFile:
    """The filters and biases of every layer, as ``layer/weights`` and ``layer/biases``.

    Raises:
        FileFormatError: it is missing or damaged, of MATLAB 7.3, or no network of layers.
    """
    data = mapped(path)
    if bytes(data[:10]) == b"MATLAB 7.3":
        raise FileFormatError(path, "is of MATLAB 7.3, which is not read; load it in MATLAB, and save it with -v7")
    with optional("mat"):
        from scipy import io as matlab
    try:
        _check_unfolded(data)
        _check_survived(path)
        found = matlab.loadmat(str(path), variable_names=["layers", "net"])
        cells = found["net"]["layers"][0, 0] if "net" in found else found["layers"]
        tensors, steps = _layers(cells), [step for cell in cells.reshape(-1) if (step := _step(cell[0, 0]))]
    except Exception as error:  # whatever a damaged file can raise in scipy
        raise FileFormatError(path, f"no network of MatConvNet that can be read: {said(error, 200)}") from error
    return NativeFile(tensors=tensors, unlike=partial(unlike, steps, complete=False), runs_itself=True)


def _check_unfolded(data: memoryview) -> None:
    """Refuse what would fill the memory: scipy unpacks whatever there is."""
    allowed, position = 2 * len(data) + _UNFOLDED, _HEADER
    while position + _TAG.size <= len(data):
        kind, size = _TAG.unpack_from(data, position)
        if kind == _COMPRESSED:
            unpacker, rest = zlib.decompressobj(), bytes(data[position + _TAG.size : position + _TAG.size + size])
            while rest and allowed >= 0:
                allowed -= len(unpacker.decompress(rest, _PIECE))
                rest = unpacker.unconsumed_tail
        position += _TAG.size + size
        if allowed < 0:
            raise ValueError("it would unfold to far more than its size")


# A process of its own reads the file first: what is damaged can end scipy's reader, and with it whoever asked.
_TRIAL = "import sys; from scipy import io; io.loadmat(sys.argv[1], variable_names=['layers', 'net'])"


def _check_survived(path: Path) -> None:
    """Raises `ValueError` for what ends scipy's reader; what that only refuses, it refuses again, with a reason."""
    tried = subprocess.run([sys.executable, "-c", _TRIAL, str(path.absolute())], capture_output=True)
    if tried.returncode not in (0, 1):
        raise ValueError("damaged, so that scipy's reader is ended by it")


def _layers(cells: Any) -> dict[str, Array]:
    tensors = dict[str, Array]()
    for cell in cells.reshape(-1):
        layer = cell[0, 0]
        fields = layer.dtype.names or ()
        name = str(layer["name"].reshape(-1)[0]) if "name" in fields else ""
        parts: list[Any] = []
        if "weights" in fields:
            parts = list(layer["weights"].reshape(-1))
        elif "filters" in fields:  # before the format's version of 2015
            parts = [layer["filters"], layer["biases"]]
        if len(parts) > 2 or (parts and not name):
            raise ValueError(f"layer {name!r} has {len(parts)} arrays, expected filters and biases")
        for kind, array in zip(("weights", "biases"), parts, strict=False):
            if array.dtype.kind not in "fiu" or f"{name}/{kind}" in tensors:
                raise ValueError(f"{name}/{kind} is there twice, or holds no numbers")
            # MATLAB leaves out axes of one at the end, and has no arrays of one axis.
            whole = array.reshape(array.shape + (1,) * (4 - array.ndim))
            tensors[f"{name}/{kind}"] = whole if kind == "weights" else array.reshape(-1)
    if not tensors:
        raise ValueError("none of its layers has weights")
    return tensors


def _step(layer: Any) -> Step | None:
    """What a layer says of itself: ``vl_simplenn``'s types, and their fields as far as they stand there."""
    fields = layer.dtype.names or ()

    def numbers(name: str) -> list[float]:
        return [float(number) for number in np.asarray(layer[name]).reshape(-1)] if name in fields else []

    def facts(**names: str) -> dict[str, Fact]:
        found = {ours: _pair(numbers(name)) for ours, name in names.items()}
        return {name: pair for name, pair in found.items() if pair is not None}

    match str(layer["type"].reshape(-1)[0]) if "type" in fields and layer["type"].size else "":
        case "conv":
            return Step(kind="weighted", facts=facts(stride="stride", pad="pad", dilation="dilate"))
        case "relu":
            return activation("relu", *numbers("leak")[:1])
        case "sigmoid":
            return activation("sigmoid")
        case "pool":
            method = str(layer["method"].reshape(-1)[0]) if "method" in fields and layer["method"].size else "max"
            mode = {"mode": "ave" if method == "avg" else method}
            return Step(kind="pooling", facts=mode | facts(kernel="pool", stride="stride", pad="pad"))
        case "lrn" | "normalize" if len(numbers("param")) == 4:
            size, k, alpha, beta = numbers("param")  # alpha here is that of each number, not of their mean
            return Step(kind="normalisation", facts={"size": size, "k": k, "alpha": alpha * size, "beta": beta})
        case "softmax":
            return Step(kind="softmax")
        case _:
            return None


def _pair(numbers: list[float]) -> Pair | None:
    """Of one number, of height and width, or of top, bottom, left and right; None where the sides are not one pair."""
    if len(numbers) == 4:
        top, bottom, left, right = numbers
        numbers = [top, left] if (top, left) == (bottom, right) else []
    if not numbers or len(numbers) > 2:
        return None
    return int(numbers[0]), int(numbers[-1])


def entries(spec: ModelSpec, tensors: Mapping[str, Array] | None) -> list[Entry]:
    """As in a checkpoint of TF-slim."""
    return _slim_names.entries(spec, tensors)


def ignored(name: str) -> bool:
    """Nothing: layers hold weights alone."""
    return False


def write(path: Path, weights: Weights) -> None:
    """Not offered."""
    raise UnsupportedError(
        f"{path}: MatConvNet's files are read, not written; write .npz, which Python can save as .mat"
    )


def main_file(path: Path) -> Path:
    """The file itself."""
    return path
