"""Pooling, and what else makes one number of many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, assert_never

from zoo.frameworks.caffe.row import Row, fields, read_pair, unless, write_pair
from zoo.layers import ArgMax, Interp, Pool, Pooling, PoolMask, Reduction, Rounding, Unpool
from zoo.wire.prototxt import Message, PrototxtError, Word

# Enum values in the order of their numbers, by which a prototxt may call them, too.
METHODS = ("MAX", "AVE", "STOCHASTIC")
ROUND_MODES = ("CEIL", "FLOOR")


def read_pool(block: Message, name: str, inputs: tuple[str, ...]) -> Pool:
    """The first top of a Pooling layer."""
    mode = "ave" if block.enum("pool", "MAX", METHODS) == "AVE" else "max"
    rounding = _pool_rounding(block)
    stride, pad = read_pair(block, "stride", "stride", 1), read_pair(block, "pad", "pad", 0)
    if ("pad_h" in block) != ("pad_w" in block):
        raise PrototxtError(block.line, "pad_h and pad_w belong together in a pooling layer")
    if not block.flag("global_pooling", False):
        kernel = read_pair(block, "kernel_size", "kernel", None)
        return Pool(name=name, inputs=inputs, mode=mode, kernel=kernel, stride=stride, pad=pad, rounding=rounding)
    if any(field in block for field in ("kernel_size", "kernel_h", "kernel_w")) or stride != (1, 1) or pad != (0, 0):
        raise PrototxtError(block.line, "global_pooling takes no kernel, and stride 1 and pad 0 alone")
    return Pool(name=name, inputs=inputs, mode=mode, global_pool=True)


def _pool_rounding(block: Message) -> Rounding:
    """BVLC's word is ``round_mode``; that of many forks ``ceil_mode``, a flag."""
    if "ceil_mode" in block and "round_mode" in block:
        raise PrototxtError(block.line, "has both round_mode and ceil_mode, which no Caffe knows together")
    if not block.flag("ceil_mode", True):
        return "floor"
    return "floor" if block.enum("round_mode", "CEIL", ROUND_MODES) == "FLOOR" else "ceil"


def write_pool(layer: Pool | PoolMask) -> Message:
    """The block of a Pooling layer."""
    block = Message().add("pool", Word(layer.mode.upper() if isinstance(layer, Pool) else "MAX"))
    if layer.global_pool:
        return block.add("global_pooling", Word("true"))
    write_pair(block, "kernel_size", "kernel", layer.kernel, None)
    write_pair(block, "stride", "stride", layer.stride, 1)
    write_pair(block, "pad", "pad", layer.pad, 0)
    return block.add("round_mode", Word("FLOOR")) if layer.rounding == "floor" else block


def _refusal(block: Message) -> str:
    is_random = block.enum("pool", "MAX", METHODS) == "STOCHASTIC"
    return "STOCHASTIC pooling is not supported" if is_random else ""


REDUCTIONS: dict[str, Literal["sum", "asum", "sumsq", "mean"]] = {
    "SUM": "sum",
    "ASUM": "asum",
    "SUMSQ": "sumsq",
    "MEAN": "mean",
}


def _read_unpool(block: Message, name: str, inputs: tuple[str, ...]) -> Unpool:
    # upsample_layer.cpp, LayerSetUp
    if ("upsample_h" in block) != ("upsample_w" in block):
        raise PrototxtError(block.line, "upsample_h and upsample_w belong together")
    if "upsample_h" in block:  # whatever scale and pad_out say beside
        size = block.integer("upsample_h", 0), block.integer("upsample_w", 0)
        _check_above_one(block, "upsample_h and upsample_w", size)
        return Unpool(name=name, inputs=inputs, size=size)
    if "scale_h" not in block and "scale_w" not in block:
        scale = (block.integer("scale", 2),) * 2
    elif "scale" in block or "scale_h" not in block or "scale_w" not in block:
        raise PrototxtError(block.line, "either scale, or both scale_h and scale_w")
    else:
        scale = block.integer("scale_h", 2), block.integer("scale_w", 2)
    _check_above_one(block, "a scale", scale)
    pad_out = int(block.flag("pad_out_h", False)), int(block.flag("pad_out_w", False))
    if any(pad and side != 2 for pad, side in zip(pad_out, scale, strict=True)):
        raise PrototxtError(block.line, "pad_out_h and pad_out_w go with a scale of 2 alone")
    return Unpool(name=name, inputs=inputs, scale=(scale[0], scale[1]), pad_out=pad_out)


def _check_above_one(block: Message, what: str, sides: Sequence[int]) -> None:
    if min(sides) < 2:
        raise PrototxtError(block.line, f"{what} must be above 1, got {' and '.join(map(str, sides))}")


def _write_unpool(layer: Unpool) -> Message:
    if layer.size is not None:
        return Message().add("upsample_h", layer.size[0]).add("upsample_w", layer.size[1])
    block = Message().add("scale_h", layer.scale[0]).add("scale_w", layer.scale[1])
    for side, pad in zip("hw", layer.pad_out, strict=True):
        unless(block, f"pad_out_{side}", bool(pad), False)
    return block


def _read_interp(block: Message, name: str, inputs: tuple[str, ...]) -> Interp:
    factors = [field for field in ("zoom_factor", "shrink_factor") if field in block]
    sized = "height" in block and "width" in block
    if not factors and not sized:
        raise PrototxtError(block.line, "interp_param needs zoom_factor, shrink_factor, or height and width")
    # interp_layer.cpp: one factor alone, though it be 1, goes before height and width, and they before two.
    by_size = sized and len(factors) != 1
    return Interp(
        name=name,
        inputs=inputs,
        size=(block.integer("height", 0), block.integer("width", 0)) if by_size else None,
        zoom=1 if by_size else block.integer("zoom_factor", 1),
        shrink=1 if by_size else block.integer("shrink_factor", 1),
        pad_beg=block.integer("pad_beg", 0),
        pad_end=block.integer("pad_end", 0),
    )


def _write_interp(layer: Interp) -> Message:
    block = Message()
    if layer.size is not None:
        block.add("height", layer.size[0]).add("width", layer.size[1])
    if layer.zoom != 1 or (layer.size is None and layer.shrink == 1):
        block.add("zoom_factor", layer.zoom)
    unless(block, "shrink_factor", layer.shrink, 1)
    unless(block, "pad_beg", layer.pad_beg, 0)
    return unless(block, "pad_end", layer.pad_end, 0)


def _read_reduction(block: Message, name: str, inputs: tuple[str, ...]) -> Reduction:
    operation = REDUCTIONS[block.enum("operation", "SUM", ("", *REDUCTIONS))]  # numbered from 1 on
    axis, coeff = block.integer("axis", 0), block.number("coeff", 1.0)
    return Reduction(name=name, inputs=inputs, operation=operation, axis=axis, coeff=coeff)


def _write_reduction(layer: Reduction) -> Message:
    block = Message().add("operation", Word(layer.operation.upper()))
    unless(block, "axis", layer.axis, 0)
    return unless(block, "coeff", layer.coeff, 1.0)


def _read_arg_max(block: Message, name: str, inputs: tuple[str, ...]) -> ArgMax:
    axis = block.integer("axis", 0) if "axis" in block else None
    top_k, values = block.integer("top_k", 1), block.flag("out_max_val", False)
    return ArgMax(name=name, inputs=inputs, top_k=top_k, out_max_val=values, axis=axis)


def _write_arg_max(layer: ArgMax) -> Message:
    block = unless(Message(), "out_max_val", layer.out_max_val, False)
    unless(block, "top_k", layer.top_k, 1)
    return block if layer.axis is None else block.add("axis", layer.axis)


_INTERP = Row(
    kind=Interp,
    type="Interp",
    block="interp_param",
    # hszhao/PSPNet; the flag is soeaver's
    fields=fields(whole="height width zoom_factor shrink_factor pad_beg pad_end", flag="use_blob_size"),
    read=_read_interp,
    write=_write_interp,
    four_axes=1,
)
_REDUCTION = Row(
    kind=Reduction, type="Reduction", block="reduction_param", read=_read_reduction, write=_write_reduction
)
_ARG_MAX = Row(kind=ArgMax, type="ArgMax", block="argmax_param", read=_read_arg_max, write=_write_arg_max)
_POOLING = Row(
    kind=Pool, type="Pooling", block="pooling_param", read=read_pool, write=write_pool, refusal=_refusal, tops=2
)
# Levels of pooling, flattened and joined: see `expand`.
_SPP = Row(kind=Pool, type="SPP", block="spp_param", write=write_pool, refusal=_refusal)
_UPSAMPLE = Row(
    kind=Unpool,
    type="Upsample",
    block="upsample_param",
    # alexgkendall/caffe-segnet
    fields=fields(count="scale scale_h scale_w upsample_h upsample_w", flag="pad_out_h pad_out_w"),
    read=_read_unpool,
    write=_write_unpool,
)
# The second top of a Pooling layer: see `expand` and the writer.
_MASK = Row(kind=PoolMask, type="Pooling", block="pooling_param", write=write_pool, tops=2)
ROWS: tuple[Row[Any], ...] = (_POOLING, _SPP, _UPSAMPLE, _INTERP, _REDUCTION, _ARG_MAX)


def row(layer: Pooling) -> Row[Any]:
    """The row of a layer of the family."""
    match layer:
        case Pool():
            return _POOLING
        case PoolMask():
            return _MASK
        case Unpool():
            return _UPSAMPLE
        case Interp():
            return _INTERP
        case Reduction():
            return _REDUCTION
        case ArgMax():
            return _ARG_MAX
        case _:
            assert_never(layer)
