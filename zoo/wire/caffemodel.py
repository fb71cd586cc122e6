"""caffemodel files of every generation, read and written without protobuf: numbers are views, never copied.

Field numbers and rules: BVLC caffe, ``caffe.proto`` and ``blob.cpp`` (`FromProto`). Readers raise `ValueError` for
damaged bytes.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from typing import TypeAlias

import numpy as np

from zoo.arrays import Array
from zoo.wire.protobuf import (
    BYTES,
    FIXED32,
    FIXED64,
    Value,
    field_at,
    fields,
    message,
    signed,
    tag,
    text,
    varint,
    varints,
)
from zoo.wire.prototxt import Message
from zoo.wire.signatures import BLOB_DATA, BLOB_SHAPE, BLOB_SIZES, NET_LAYER, NET_LAYERS, NET_NAME, SOLVER_ITER

_LOG = logging.getLogger(__name__)

_V1_V0_LAYER = 1
_IP_TRANSPOSE = 6
# LRNParameter.
_LRN_FIELDS = {1: "local_size", 2: "alpha", 3: "beta", 4: "norm_region", 5: "k"}
# BlobProto. The four legacy sizes win over the shape, `double_data` over `data`.
_DOUBLE_DATA, _SHAPE_DIM = 8, 1
_WIDTHS = {BLOB_DATA: (FIXED32, 4, "<f4"), _DOUBLE_DATA: (FIXED64, 8, "<f8")}
_MAX_AXES = 32

# V1LayerParameter.LayerType: enum name -> (number in binary files, current type).
V1_TYPES = {
    "ABSVAL": (35, "AbsVal"),
    "ACCURACY": (1, "Accuracy"),
    "ARGMAX": (30, "ArgMax"),
    "BNLL": (2, "BNLL"),
    "CONCAT": (3, "Concat"),
    "CONTRASTIVE_LOSS": (37, "ContrastiveLoss"),
    "CONVOLUTION": (4, "Convolution"),
    "DATA": (5, "Data"),
    "DECONVOLUTION": (39, "Deconvolution"),
    "DROPOUT": (6, "Dropout"),
    "DUMMY_DATA": (32, "DummyData"),
    "EUCLIDEAN_LOSS": (7, "EuclideanLoss"),
    "ELTWISE": (25, "Eltwise"),
    "EXP": (38, "Exp"),
    "FLATTEN": (8, "Flatten"),
    "HDF5_DATA": (9, "HDF5Data"),
    "HDF5_OUTPUT": (10, "HDF5Output"),
    "HINGE_LOSS": (28, "HingeLoss"),
    "IM2COL": (11, "Im2col"),
    "IMAGE_DATA": (12, "ImageData"),
    "INFOGAIN_LOSS": (13, "InfogainLoss"),
    "INNER_PRODUCT": (14, "InnerProduct"),
    "LRN": (15, "LRN"),
    "MEMORY_DATA": (29, "MemoryData"),
    "MULTINOMIAL_LOGISTIC_LOSS": (16, "MultinomialLogisticLoss"),
    "MVN": (34, "MVN"),
    "POOLING": (17, "Pooling"),
    "POWER": (26, "Power"),
    "RELU": (18, "ReLU"),
    "SIGMOID": (19, "Sigmoid"),
    "SIGMOID_CROSS_ENTROPY_LOSS": (27, "SigmoidCrossEntropyLoss"),
    "SILENCE": (36, "Silence"),
    "SOFTMAX": (20, "Softmax"),
    "SOFTMAX_LOSS": (21, "SoftmaxWithLoss"),
    "SPLIT": (22, "Split"),
    "SLICE": (33, "Slice"),
    "TANH": (23, "TanH"),
    "WINDOW_DATA": (24, "WindowData"),
    "THRESHOLD": (31, "Threshold"),
}

_V1_NAMES = dict(V1_TYPES.values())


@dataclass(frozen=True)
class _Dialect:
    """Field numbers of a layer."""

    name: int
    type: int
    blobs: int
    inner_product: int
    lrn: int


# What the file keeps of a layer, in the current dialect.
_LAYER_FIELDS = {"name": 1, "type": 2, "bottom": 3, "top": 4}
_CURRENT = _Dialect(name=_LAYER_FIELDS["name"], type=_LAYER_FIELDS["type"], blobs=7, inner_product=117, lrn=118)
_V1 = _Dialect(name=4, type=5, blobs=6, inner_product=17, lrn=18)
_V0 = _Dialect(name=1, type=2, blobs=50, inner_product=0, lrn=0)


@dataclass
class StoredLayer:
    """A layer as a file holds it: its type in current words, its blobs, and the fields of its ``lrn_param``."""

    name: str = ""
    type: str = ""
    blobs: list[Array] = field(default_factory=list["Array"])
    transposed: bool | None = None  # None: the file does not say
    lrn: dict[str, float] | None = None


def read_layers(view: memoryview) -> list[StoredLayer]:
    """The layers of a caffemodel, in its order."""
    current, old = list[StoredLayer](), list[StoredLayer]()
    for number, kind, value in fields(view):
        if number == SOLVER_ITER and isinstance(value, int):
            raise ValueError("a solver's state, its momenta and no weights; these are in the .caffemodel beside it")
        if number == NET_LAYER:
            layers, layer = current, _layer(_message(kind, value), _CURRENT)
        elif number == NET_LAYERS:
            layers, layer = old, _old_layer(_message(kind, value))
        else:
            continue
        if layer.name or layer.type or layer.blobs:  # what says nothing is not worth a hundred times its two bytes
            layers.append(layer)
    if current and old:
        raise ValueError("both 'layer' and 'layers' in one file; Caffe reads one dialect at a time")
    return current + old


def _old_layer(view: memoryview) -> StoredLayer:
    nested = next((_message(kind, value) for number, kind, value in fields(view) if number == _V1_V0_LAYER), None)
    return _layer(view, _V1) if nested is None else _layer(nested, _V0)


def _layer(view: memoryview, dialect: _Dialect) -> StoredLayer:
    layer = StoredLayer()
    for number, kind, value in fields(view):
        if number == dialect.name:
            layer.name = str(_message(kind, value), "utf-8")
        elif number == dialect.type:
            layer.type = _V1_NAMES.get(value, "") if isinstance(value, int) else str(value, "utf-8")
        elif number == dialect.blobs:
            layer.blobs.append(_blob(_message(kind, value), layer))
        elif number == dialect.lrn:
            layer.lrn = _lrn_numbers(_message(kind, value))
        elif number == dialect.inner_product:
            flags = (bit for n, _, bit in fields(_message(kind, value)) if n == _IP_TRANSPOSE)
            layer.transposed = bool(next(flags, 0))
    if layer.type != "InnerProduct":
        layer.transposed = False
    return layer


def _blob(view: memoryview, layer: StoredLayer) -> Array:
    i = len(layer.blobs)
    try:
        return read_blob(view, f"{layer.name}.{i}")
    except ValueError as error:
        raise ValueError(f"blob {i} of layer {layer.name!r}: {error}") from error


def _message(kind: int, value: Value) -> memoryview:
    if kind != BYTES or isinstance(value, int):
        raise ValueError(f"no caffemodel: wire type {kind} where a message belongs")
    return value


def read_blob(view: memoryview, name: str) -> Array:
    """A BlobProto as a float32 array of its shape; a view where its numbers are packed float32."""
    legacy, dims, pieces, position = dict[int, int](), list[int](), dict[int, list[Array]](), 0
    while position < len(view):
        start = position
        number, kind, value, position = field_at(view, start)
        if number in BLOB_SIZES and isinstance(value, int):
            legacy[number] = signed(value)
        elif number == BLOB_SHAPE:
            dims += [
                signed(size)
                for n, _, sizes in fields(_message(kind, value))
                if n == _SHAPE_DIM
                for size in varints(sizes)
            ]
        elif number in _WIDTHS:
            numbers, position = _numbers(view, start, position, number, kind, value)
            pieces.setdefault(number, []).append(numbers)
    shape = tuple(legacy.get(number, 0) for number in BLOB_SIZES) if legacy else tuple(dims)
    if len(shape) > _MAX_AXES or min(shape, default=0) < 0:
        raise ValueError(f"impossible shape {shape[:_MAX_AXES]}")
    found = pieces.get(_DOUBLE_DATA) or pieces.get(BLOB_DATA) or [np.zeros(0, np.float32)]
    numbers = found[0] if len(found) == 1 else np.concatenate(found)
    if numbers.size != prod(shape):
        raise ValueError(f"its shape {shape} holds {prod(shape)} numbers, the file has {numbers.size}")
    return _single(numbers, name).reshape(shape)


def _numbers(view: memoryview, start: int, end: int, number: int, kind: int, value: Value) -> tuple[Array, int]:
    """The numbers of the field at `start`, and where the next field begins.

    Numbers that are not packed repeat the field's key before each; a run of those is taken at once, by its stride.
    """
    fixed, width, dtype = _WIDTHS[number]
    if kind == BYTES and not isinstance(value, int):
        return np.frombuffer(value, dtype), end
    if kind != fixed:
        raise ValueError(f"numbers of wire type {kind}")
    stride = end - start
    count = (len(view) - start) // stride
    rows = np.frombuffer(view[start : start + count * stride], np.uint8).reshape(count, stride)
    alike = (rows[:, : stride - width] == rows[0, : stride - width]).all(axis=1)
    run = count if alike.all() else int(alike.argmin())
    return np.ascontiguousarray(rows[:run, stride - width :]).view(dtype).reshape(-1), start + run * stride


def _single(numbers: Array, name: str) -> Array:
    if numbers.dtype.itemsize == 4:
        return numbers
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused later, in a line of its own
        single = numbers.astype(np.float32)
    changed = int(np.count_nonzero(single != numbers))
    if changed:
        _LOG.warning("%s holds doubles: %d of %d numbers are rounded to float32", name, changed, numbers.size)
    return single


def _lrn_numbers(view: memoryview) -> dict[str, float]:
    """The fields of an LRNParameter by name."""
    found = dict[str, float]()
    for number, kind, value in fields(view):
        name = _LRN_FIELDS.get(number, "")
        if isinstance(value, int):
            found[name] = signed(value)
        elif kind == FIXED32:
            (found[name],) = struct.unpack("<f", value)
    return found


Piece: TypeAlias = "bytes | memoryview"


def caffemodel(name: str, layers: list[tuple[Message, list[Array]]]) -> Iterator[Piece]:
    """The bytes of a caffemodel.

    Args:
        name: of the network.
        layers: each layer as in the prototxt (its name, type, bottoms and tops are kept) with its blobs.
    """
    yield text(NET_NAME, name)
    for layer, blobs in layers:
        head = b"".join(text(number, value) for name, number in _LAYER_FIELDS.items() for value in layer.strings(name))
        frames = [_blob_frame(blob) for blob in blobs]
        size = len(head) + sum(len(frame) + blob.nbytes for frame, blob in zip(frames, blobs, strict=True))
        yield tag(NET_LAYER, BYTES) + varint(size) + head
        for frame, blob in zip(frames, blobs, strict=True):
            yield frame
            yield np.ascontiguousarray(blob, np.dtype("<f4")).reshape(-1).data.cast("B")


def _blob_frame(blob: Array) -> bytes:
    """Everything of a blob that comes before its numbers, its own key and size included."""
    dims = b"".join(varint(size) for size in blob.shape)
    head = message(BLOB_SHAPE, message(_SHAPE_DIM, dims)) + tag(BLOB_DATA, BYTES) + varint(blob.nbytes)
    return tag(_CURRENT.blobs, BYTES) + varint(len(head) + blob.nbytes) + head
