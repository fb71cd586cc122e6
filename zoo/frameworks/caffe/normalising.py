"""LRN, BatchNorm and Softmax."""

from __future__ import annotations

from typing import Any, assert_never

from zoo.frameworks.caffe.row import Row, unless
from zoo.layers import LRN, BatchNorm, Normalising, Softmax
from zoo.wire.prototxt import Message, Word

_NORM_REGIONS = ("ACROSS_CHANNELS", "WITHIN_CHANNEL")


def _read_lrn(block: Message, name: str, inputs: tuple[str, ...]) -> LRN:
    within = block.enum("norm_region", "ACROSS_CHANNELS", _NORM_REGIONS) == "WITHIN_CHANNEL"
    return LRN(
        name=name,
        inputs=inputs,
        size=block.integer("local_size", 5),
        alpha=block.number("alpha", 1.0),
        beta=block.number("beta", 0.75),
        # lrn_layer.cpp builds the within-channel form from Power layers with a shift of 1: k is never read there.
        k=1.0 if within else block.number("k", 1.0),
        region="within" if within else "across",
    )


def _read_batch_norm(block: Message, name: str, inputs: tuple[str, ...]) -> BatchNorm:
    batch_stats = not block.flag("use_global_stats", True)  # in the TEST phase
    return BatchNorm(name=name, inputs=inputs, eps=block.number("eps", 1e-5), batch_stats=batch_stats)


def _write_lrn(layer: LRN) -> Message:
    block = Message().add("local_size", layer.size).add("alpha", layer.alpha).add("beta", layer.beta)
    unless(block, "k", layer.k, 1.0)
    return block.add("norm_region", Word("WITHIN_CHANNEL")) if layer.region == "within" else block


def _write_batch_norm(layer: BatchNorm) -> Message:
    block = Message().add("use_global_stats", Word("false" if layer.batch_stats else "true"))
    return unless(block, "eps", layer.eps, 1e-5)


def _read_softmax(block: Message, name: str, inputs: tuple[str, ...]) -> Softmax:
    return Softmax(name=name, inputs=inputs, axis=block.integer("axis", 1))


def _write_softmax(layer: Softmax) -> Message:
    return unless(Message(), "axis", layer.axis, 1)


_LRN = Row(kind=LRN, type="LRN", block="lrn_param", read=_read_lrn, write=_write_lrn)
_BATCH_NORM = Row(
    kind=BatchNorm,
    type="BatchNorm",
    block="batch_norm_param",
    read=_read_batch_norm,
    write=_write_batch_norm,
    in_place=True,
)
_SOFTMAX = Row(
    kind=Softmax, type="Softmax", block="softmax_param", read=_read_softmax, write=_write_softmax, in_place=True
)
ROWS: tuple[Row[Any], ...] = (_LRN, _BATCH_NORM, _SOFTMAX)


def row(layer: Normalising) -> Row[Any]:
    """The row of a layer of the family."""
    match layer:
        case LRN():
            return _LRN
        case BatchNorm():
            return _BATCH_NORM
        case Softmax():
            return _SOFTMAX
        case _:
            assert_never(layer)
