"""Pooling."""

from __future__ import annotations

from typing import Any, assert_never

from zoo.frameworks.caffe.row import Row, read_pair, write_pair
from zoo.layers import Pool, Pooling, Rounding
from zoo.wire.prototxt import Message, PrototxtError, Word

# Enum values in the order of their numbers, by which a prototxt may call them, too.
_POOL_METHODS = ("MAX", "AVE", "STOCHASTIC")
_ROUND_MODES = ("CEIL", "FLOOR")


def _read_pool(block: Message, name: str, inputs: tuple[str, ...]) -> Pool:
    mode = "ave" if block.enum("pool", "MAX", _POOL_METHODS) == "AVE" else "max"
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
    return "floor" if block.enum("round_mode", "CEIL", _ROUND_MODES) == "FLOOR" else "ceil"


def _write_pool(layer: Pool) -> Message:
    block = Message().add("pool", Word(layer.mode.upper()))
    if layer.global_pool:
        return block.add("global_pooling", Word("true"))
    write_pair(block, "kernel_size", "kernel", layer.kernel, None)
    write_pair(block, "stride", "stride", layer.stride, 1)
    write_pair(block, "pad", "pad", layer.pad, 0)
    return block.add("round_mode", Word("FLOOR")) if layer.rounding == "floor" else block


def _refusal(block: Message) -> str:
    is_random = block.enum("pool", "MAX", _POOL_METHODS) == "STOCHASTIC"
    return "STOCHASTIC pooling is not supported" if is_random else ""


_POOLING = Row(kind=Pool, type="Pooling", block="pooling_param", read=_read_pool, write=_write_pool, refusal=_refusal)
ROWS: tuple[Row[Any], ...] = (_POOLING,)


def row(layer: Pooling) -> Row[Any]:
    """The row of a layer of the family."""
    match layer:
        case Pool():
            return _POOLING
        case _:
            assert_never(layer)
