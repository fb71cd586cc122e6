"""The layer vocabulary in Caffe's words: every `Row`, by Caffe's type and by our kind.

Field names and defaults are those of BVLC caffe's ``caffe.proto``; the checks those of the layers' ``LayerSetUp``.
"""

from __future__ import annotations

from typing import Any

from zoo import layers
from zoo.frameworks.caffe import detecting, normalising, pointwise, pooling, shaping, weighted
from zoo.frameworks.caffe.row import Row
from zoo.layers import Layer
from zoo.wire.prototxt import Message

ROWS: tuple[Row[Any], ...] = (
    *weighted.ROWS,
    *pooling.ROWS,
    *normalising.ROWS,
    *pointwise.ROWS,
    *shaping.ROWS,
    *detecting.ROWS,
)
BY_TYPE: dict[str, Row[Any]] = {row.type: row for row in ROWS}


def refusal(type_: str, message: Message, tops: int) -> str:
    """Why a layer of the vocabulary cannot be taken after all; empty where it can."""
    row = BY_TYPE[type_]
    if tops > row.tops:
        return f"{tops} tops, it has {row.tops}"
    return row.refusal(message.message(row.block))


def row_of(layer: Layer) -> Row[Any]:
    """The row of a layer."""
    if isinstance(layer, layers.Weighted):
        return weighted.row(layer)
    if isinstance(layer, layers.Pooling):
        return pooling.row(layer)
    if isinstance(layer, layers.Normalising):
        return normalising.row(layer)
    if isinstance(layer, layers.Pointwise):
        return pointwise.row(layer)
    if isinstance(layer, layers.Detecting):
        return detecting.row(layer)
    return shaping.row(layer)
