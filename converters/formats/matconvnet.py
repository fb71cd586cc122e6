"""MatConvNet's networks, ``.mat`` of MATLAB 5 to 7.3, to read: layers of a SimpleNN or a DagNN, with their weights.

A filter bank is H x W x I x O, and so is a dense layer, a convolution over its whole input: as in TF-slim. Format:
matconvnet ``matlab/simplenn/vl_simplenn.m``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from converters.formats import LARGE, NativeFile, _slim_names
from converters.formats._described import Fact, Step, activation, unlike
from converters.images import SaidOfImages
from converters.tensormap import Entry
from converters.weights import Array, Weights
from zoo.errors import FileFormatError, UnsupportedError, ZooError, said
from zoo.layers import ModelSpec, Pair, Pool
from zoo.registry import optional
from zoo.wire.mapped import mapped
from zoo.wire.matlab import read_matlab_5

_LOG = logging.getLogger(__name__)

READ_SUFFIXES = (".mat",)

# A layer's arrays; the last are those of a batch normalisation.
_PARTS = ("weights", "biases", "moments")
_MOMENTS = "{} are means and deviations, of which no variances come back in every bit; merge it into its convolution"
_TEXT = 116  # bytes of the text that a file begins with
# What of a file is read; older ones have no `meta`.
_VARIABLES = ("net", "layers", "params", "meta", "normalization", "classes")


def read(path: Path) -> NativeFile:
    """The filters and biases of every layer, as ``layer/weights`` and ``layer/biases``.

    Raises:
        FileFormatError: it is missing or damaged, or no network of layers.
    """
    return _read(path, None)


def outline(path: Path) -> NativeFile:
    """The same without the numbers; see `Outlined`."""
    return _read(path, LARGE)


def _read(path: Path, largest: int | None) -> NativeFile:
    try:
        found = _variables(path, largest)
        net = found.get("net", found)
        if not isinstance(net, dict) or "layers" not in net:
            raise ValueError(f"none of {', '.join(_VARIABLES[:3])} is there with layers in it; give a mean with --mean")
        layers = _dag(net) if "params" in net else _rows(net["layers"])
        tensors, steps = _tensors(layers), [step for layer in layers if (step := _step(layer))]
        images = _images(_struct(net.get("meta", net)))
    except ZooError:
        raise
    except Exception as error:  # whatever a damaged file can raise
        raise FileFormatError(path, f"no network of MatConvNet that can be read: {said(error, 200)}") from error
    return NativeFile(
        tensors=tensors,
        unlike=partial(_unlike, path, steps),
        runs_itself=True,
        refusal=next((_MOMENTS.format(name) for name in tensors if name.endswith("/moments")), ""),
        images=images,
        writer=_writer(path),
    )


def _writer(path: Path) -> str:
    """What the text at the start of a file says: ``MATLAB 5.0 MAT-file, Platform: GLNXA64, Created on: ...``."""
    with path.open("rb") as file:
        text = file.read(_TEXT).partition(b"\0")[0].decode("ascii", "replace")
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _variables(path: Path, largest: int | None) -> dict[str, Any]:
    """The variables of a file, as `zoo.wire.hdf5.read_matlab` gives them, whatever MATLAB saved it."""
    data = mapped(path)
    if bytes(data[:10]) == b"MATLAB 7.3":
        with optional("mat"):
            from zoo.wire.hdf5 import read_matlab
        return read_matlab(path, _VARIABLES, largest)
    return read_matlab_5(data, _VARIABLES, largest)


def _struct(value: Any) -> Mapping[str, Any]:
    """The fields of a struct; MATLAB writes one without fields, and ``[]`` in its place, as arrays of nothing."""
    return value if isinstance(value, dict) else {}


def _rows(value: Any) -> list[Any]:
    """The elements of a cell or of an array of structs, of which a single one is no array; none of ``[]``."""
    return value if isinstance(value, list) else [value] if np.size(value) else []


def _dag(net: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The layers of a DagNN (matconvnet ``+dagnn``) as those of a SimpleNN are."""
    known = {item["name"]: item["value"] for item in _rows(net["params"])}
    layers = list[dict[str, Any]]()
    for item in _rows(net["layers"]):
        block, names = _struct(item.get("block")), _rows(item.get("params", []))
        kind = _DAG.get(item["type"], item["type"])
        layer = {**block, "name": item["name"], "type": kind, "weights": [known[name] for name in names]}
        layers.append(layer | ({"pool": block["poolSize"]} if "poolSize" in block else {}))
    return layers


_DAG = {
    "dagnn.Conv": "conv",
    "dagnn.ReLU": "relu",
    "dagnn.Sigmoid": "sigmoid",
    "dagnn.Pooling": "pool",
    "dagnn.LRN": "lrn",
    "dagnn.SoftMax": "softmax",
}


def _images(meta: Mapping[str, Any]) -> SaidOfImages:
    """The mean that was subtracted from RGB pixels, and the names of the classes, as far as they stand there."""
    normalization, classes = _struct(meta.get("normalization")), _struct(meta.get("classes"))
    mean = np.asarray(normalization.get("averageImage", ()), np.float64)
    if mean.ndim == 3:
        mean = mean.mean(axis=(0, 1))
    names = _rows(classes.get("description") or classes.get("name") or [])
    said_names = tuple(" ".join(str(name).split()) for name in names)
    if mean.size not in (1, 3):
        return SaidOfImages(classes=said_names)
    return SaidOfImages(channels="RGB", mean=tuple(mean.reshape(-1).tolist()), classes=said_names)


def _tensors(layers: Sequence[Mapping[str, Any]]) -> dict[str, Array]:
    tensors = dict[str, Array]()
    for place, layer in enumerate(layers, 1):
        name = str(layer.get("name", "")) or f"layers[{place}]"  # one without a name goes by its place
        # Before the format's version of 2015, filters and biases were fields of their own.
        parts = _rows(layer.get("weights", [])) or [layer[key] for key in ("filters", "biases") if key in layer]
        if len(parts) > len(_PARTS):
            raise ValueError(f"layer {name!r} has {len(parts)} arrays, expected {', '.join(_PARTS)}")
        for kind, array in zip(_PARTS, parts, strict=False):
            if not array.size:  # no bias
                continue
            if array.dtype.kind not in "fiu" or f"{name}/{kind}" in tensors:
                raise ValueError(f"{name}/{kind} is there twice, or holds no numbers")
            # MATLAB leaves out axes of one at the end, and has no arrays of one axis.
            whole = array.reshape(array.shape + (1,) * (4 - array.ndim))
            tensors[f"{name}/{kind}"] = array.reshape(-1) if kind == "biases" else whole
    if not tensors:
        raise ValueError("none of its layers has weights")
    return tensors


def _unlike(path: Path, steps: Sequence[Step], spec: ModelSpec) -> str | None:
    """In what the network that is described differs; nothing in a mere list of layers with weights.

    Where no layer pools, and the network has one that does, strides and pads are what a converter filled in.
    """
    pools = any(isinstance(layer, Pool) for layer in spec.layers)
    if pools and not any(step.kind in ("pooling", "normalisation") for step in steps):
        _LOG.warning(
            "%s: lists layers with weights alone; strides, pads and all other layers are those of %s", path, spec.name
        )
        return None
    return unlike(steps, spec, complete=False)


def _step(layer: Mapping[str, Any]) -> Step | None:
    """What a layer says of itself: ``vl_simplenn``'s types, and their fields as far as they stand there."""

    def numbers(name: str) -> list[float]:
        return [float(number) for number in np.asarray(layer.get(name, ())).reshape(-1)]

    def facts(**names: str) -> dict[str, Fact]:
        found = {ours: _pair(numbers(name)) for ours, name in names.items()}
        return {name: pair for name, pair in found.items() if pair is not None}

    match layer.get("type", ""):
        case "conv":
            return Step(kind="weighted", facts=facts(stride="stride", pad="pad", dilation="dilate"))
        case "relu":
            return activation("relu", *numbers("leak")[:1])
        case "sigmoid":
            return activation("sigmoid")
        case "pool":
            method = layer.get("method") or "max"
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
