"""Weights as a caffemodel, current format, in pieces that can be streamed: the arrays themselves are never copied.

Field numbers are those of BVLC caffe's ``caffe.proto``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zoo.layers import BatchNorm, Layer
from zoo.wire.protobuf import BYTES, message, tag, text, varint
from zoo.wire.prototxt import Message

Array: TypeAlias = NDArray[Any]
Piece: TypeAlias = "bytes | memoryview"

_NET_NAME, _NET_LAYER = 1, 100
_LAYER_FIELDS = {"name": 1, "type": 2, "bottom": 3, "top": 4}
_LAYER_BLOBS = 7
_BLOB_DATA, _BLOB_SHAPE, _SHAPE_DIM = 5, 7, 1

# Canonical parameters in the order of Caffe's blobs.
_ORDER = ("weight", "bias", "mean", "variance")


def layer_blobs(layer: Layer, weights: Mapping[str, Array]) -> list[Array]:
    """A layer's parameters in Caffe's order; BatchNorm's third blob is the factor both others are divided by, 1."""
    blobs = [weights[name] for kind in _ORDER if (name := f"{layer.name}.{kind}") in weights]
    return [*blobs, np.ones(1, np.float32)] if isinstance(layer, BatchNorm) else blobs


def caffemodel(name: str, layers: list[tuple[Message, list[Array]]]) -> Iterator[Piece]:
    """The bytes of a caffemodel.

    Args:
        name: of the network.
        layers: each layer as in the prototxt (its name, type, bottoms and tops are kept) with its blobs.
    """
    yield text(_NET_NAME, name)
    for layer, blobs in layers:
        head = b"".join(
            text(number, value) for field, number in _LAYER_FIELDS.items() for value in layer.strings(field)
        )
        frames = [_blob_frame(blob) for blob in blobs]
        size = len(head) + sum(len(frame) + blob.nbytes for frame, blob in zip(frames, blobs, strict=True))
        yield tag(_NET_LAYER, BYTES) + varint(size) + head
        for frame, blob in zip(frames, blobs, strict=True):
            yield frame
            yield np.ascontiguousarray(blob, np.dtype("<f4")).reshape(-1).data.cast("B")


def _blob_frame(blob: Array) -> bytes:
    """Everything of a blob that comes before its numbers, its own key and size included."""
    dims = b"".join(varint(size) for size in blob.shape)
    head = message(_BLOB_SHAPE, message(_SHAPE_DIM, dims)) + tag(_BLOB_DATA, BYTES) + varint(blob.nbytes)
    return tag(_LAYER_BLOBS, BYTES) + varint(len(head) + blob.nbytes) + head
