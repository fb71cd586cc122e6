"""Normalisation over neighbours, the batch, maps or an axis."""

from __future__ import annotations

from typing import Any, assert_never

from zoo.frameworks.caffe.row import Row, Setting, fields, plain_row, unless
from zoo.layers import LRN, MVN, BatchNorm, Normalising, Normalize, Softmax
from zoo.wire.prototxt import Message, Word

NORM_REGIONS = ("ACROSS_CHANNELS", "WITHIN_CHANNEL")


def _read_lrn(block: Message, name: str, inputs: tuple[str, ...]) -> LRN:
    within = block.enum("norm_region", "ACROSS_CHANNELS", NORM_REGIONS) == "WITHIN_CHANNEL"
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


_NORMALIZE = plain_row(
    Normalize,
    "Normalize",
    "norm_param",
    Setting("across_spatial", True),
    Setting("channel_shared", True, "shared"),
    Setting("eps", 1e-10),
    # weiliu89/caffe, branch ssd
    fields=fields(flag="across_spatial channel_shared", number="eps", FillerParameter="scale_filler"),
)
_MVN = plain_row(
    MVN,
    "MVN",
    "mvn_param",
    Setting("normalize_variance", True),
    Setting("across_channels", False),
    Setting("eps", 1e-9),
    in_place=True,
)
_LRN = Row(kind=LRN, type="LRN", block="lrn_param", read=_read_lrn, write=_write_lrn)
_BATCH_NORM = Row(
    kind=BatchNorm,
    type="BatchNorm",
    block="batch_norm_param",
    read=_read_batch_norm,
    write=_write_batch_norm,
    in_place=True,
)
_SOFTMAX = plain_row(Softmax, "Softmax", "softmax_param", Setting("axis", 1), in_place=True)
# That of the forks, with a Scale in it: see `expand`.
_BN = Row(
    kind=BatchNorm,
    type="BN",
    block="bn_param",
    fields=fields(  # hszhao/PSPNet and alexgkendall/caffe-segnet
        FillerParameter="slope_filler bias_filler scale_filler shift_filler",
        number="momentum eps",
        flag="frozen",
        BNMode="bn_mode",
        Engine="engine",
    ),
    write=_write_batch_norm,
    in_place=True,
)
ROWS: tuple[Row[Any], ...] = (_LRN, _MVN, _NORMALIZE, _BATCH_NORM, _BN, _SOFTMAX)


def row(layer: Normalising) -> Row[Any]:
    """The row of a layer of the family."""
    match layer:
        case LRN():
            return _LRN
        case BatchNorm():
            return _BATCH_NORM
        case Normalize():
            return _NORMALIZE
        case MVN():
            return _MVN
        case Softmax():
            return _SOFTMAX
        case _:
            assert_never(layer)
