"""The layer vocabulary in Caffe's words: which fields each type has, what they default to, which kind it becomes.

Field names and defaults are those of BVLC caffe's ``caffe.proto``; the checks those of the layers' ``LayerSetUp``.
"""

from __future__ import annotations

from collections.abc import Callable

from zoo.layers import (
    LRN,
    BatchNorm,
    Bias,
    Concat,
    Conv,
    Dense,
    Dropout,
    Eltwise,
    Flatten,
    Layer,
    Pair,
    Pool,
    Power,
    ReLU,
    Rounding,
    Scale,
    Sigmoid,
    Softmax,
    TanH,
)
from zoo.wire.prototxt import Message, PrototxtError

# Enum values in the order of their numbers, by which a prototxt may call them, too.
_POOL_METHODS = ("MAX", "AVE", "STOCHASTIC")
_ROUND_MODES = ("CEIL", "FLOOR")
_NORM_REGIONS = ("ACROSS_CHANNELS", "WITHIN_CHANNEL")
_ELTWISE_OPERATIONS = ("PROD", "SUM", "MAX")

# Type -> its parameter block; which fields that has says `zoo.frameworks.caffe.schema`.
VOCABULARY = {
    "Convolution": "convolution_param",
    "InnerProduct": "inner_product_param",
    "Pooling": "pooling_param",
    "LRN": "lrn_param",
    "ReLU": "relu_param",
    "Sigmoid": "sigmoid_param",
    "TanH": "tanh_param",
    "Power": "power_param",
    "Dropout": "dropout_param",
    "Softmax": "softmax_param",
    "Flatten": "flatten_param",
    "Concat": "concat_param",
    "Slice": "slice_param",
    "Eltwise": "eltwise_param",
    "Scale": "scale_param",
    "Bias": "bias_param",
    "BatchNorm": "batch_norm_param",
}


def refusal(kind: str, message: Message, tops: int) -> str:
    """Why a layer of the vocabulary cannot be taken after all; empty where it can."""
    if kind == "Pooling":
        if message.message("pooling_param").enum("pool", "MAX", _POOL_METHODS) == "STOCHASTIC":
            return "STOCHASTIC pooling is not supported"
        if tops > 1:
            return "a second top (the mask of the maxima) is not supported"
    elif kind == "BatchNorm":
        return ""
    if tops > 1 and kind != "Slice":
        return f"{tops} tops, it has one"
    return ""


def build_layer(kind: str, message: Message, name: str, inputs: tuple[str, ...]) -> Layer:
    """The layer a Caffe layer of the vocabulary (other than Slice) describes; raises `PrototxtError`."""
    return _BUILDERS[kind](message.message(VOCABULARY[kind]), name, inputs)


def _conv(block: Message, name: str, inputs: tuple[str, ...]) -> Layer:
    if block.integer("axis", 1) not in (1, -3):
        raise PrototxtError(block.line, "convolution needs axis 1, the channels of N x C x H x W")
    return Conv(
        name=name,
        inputs=inputs,
        out_channels=_required(block, "num_output"),
        kernel=_repeated_pair(block, "kernel_size", "kernel", None),
        stride=_repeated_pair(block, "stride", "stride", 1),
        pad=_repeated_pair(block, "pad", "pad", 0),
        dilation=_repeated_pair(block, "dilation", "", 1),
        groups=block.integer("group", 1),
        bias=block.flag("bias_term", True),
    )


def _dense(block: Message, name: str, inputs: tuple[str, ...]) -> Layer:
    return Dense(
        name=name,
        inputs=inputs,
        out_features=_required(block, "num_output"),
        bias=block.flag("bias_term", True),
        axis=block.integer("axis", 1),
    )


def _pool(block: Message, name: str, inputs: tuple[str, ...]) -> Layer:
    mode = "ave" if block.enum("pool", "MAX", _POOL_METHODS) == "AVE" else "max"
    rounding = _pool_rounding(block)
    stride, pad = _repeated_pair(block, "stride", "stride", 1), _repeated_pair(block, "pad", "pad", 0)
    if ("pad_h" in block) != ("pad_w" in block):
        raise PrototxtError(block.line, "pad_h and pad_w belong together in a pooling layer")
    if not block.flag("global_pooling", False):
        kernel = _repeated_pair(block, "kernel_size", "kernel", None)
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


def _lrn(block: Message, name: str, inputs: tuple[str, ...]) -> Layer:
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


def _concat(block: Message, name: str, inputs: tuple[str, ...]) -> Layer:
    if "axis" in block and "concat_dim" in block:
        raise PrototxtError(block.line, "concat_param has either axis or concat_dim, not both")
    return Concat(name=name, inputs=inputs, axis=block.integer("concat_dim", block.integer("axis", 1)))


def _eltwise(block: Message, name: str, inputs: tuple[str, ...]) -> Layer:
    operation = block.enum("operation", "SUM", _ELTWISE_OPERATIONS)
    coeffs = tuple(block.numbers("coeff"))
    if len(inputs) < 2:
        raise PrototxtError(block.line, "has one bottom; an Eltwise takes two or more")
    # eltwise_layer.cpp passes over the coefficients of a MAX.
    if coeffs and (operation == "PROD" or len(coeffs) != len(inputs)):
        raise PrototxtError(block.line, "coeff belongs to SUM, one for each bottom")
    match operation:
        case "PROD":
            return Eltwise(name=name, inputs=inputs, operation="prod")
        case "MAX":
            return Eltwise(name=name, inputs=inputs, operation="max")
        case _:
            return Eltwise(name=name, inputs=inputs, coeffs=coeffs)


def _scale(block: Message, name: str, inputs: tuple[str, ...]) -> Layer:
    axis, num_axes = block.integer("axis", 1), block.integer("num_axes", 1)
    if len(inputs) > 1 and block.flag("bias_term", False):
        raise PrototxtError(block.line, "bias_term beside a second bottom is not supported")
    return Scale(name=name, inputs=inputs, axis=axis, num_axes=num_axes, bias=block.flag("bias_term", False))


def _bias(block: Message, name: str, inputs: tuple[str, ...]) -> Layer:
    return Bias(name=name, inputs=inputs, axis=block.integer("axis", 1), num_axes=block.integer("num_axes", 1))


def _batch_norm(block: Message, name: str, inputs: tuple[str, ...]) -> Layer:
    batch_stats = not block.flag("use_global_stats", True)  # in the TEST phase
    return BatchNorm(name=name, inputs=inputs, eps=block.number("eps", 1e-5), batch_stats=batch_stats)


def _power(block: Message, name: str, inputs: tuple[str, ...]) -> Layer:
    power, scale, shift = block.number("power", 1.0), block.number("scale", 1.0), block.number("shift", 0.0)
    return Power(name=name, inputs=inputs, power=power, scale=scale, shift=shift)


def _flatten(block: Message, name: str, inputs: tuple[str, ...]) -> Layer:
    return Flatten(name=name, inputs=inputs, axis=block.integer("axis", 1), end_axis=block.integer("end_axis", -1))


_BUILDERS: dict[str, Callable[[Message, str, tuple[str, ...]], Layer]] = {
    "Convolution": _conv,
    "InnerProduct": _dense,
    "Pooling": _pool,
    "LRN": _lrn,
    "ReLU": lambda block, name, inputs: ReLU(
        name=name, inputs=inputs, negative_slope=block.number("negative_slope", 0.0)
    ),
    "Sigmoid": lambda block, name, inputs: Sigmoid(name=name, inputs=inputs),
    "TanH": lambda block, name, inputs: TanH(name=name, inputs=inputs),
    "Power": _power,
    "Dropout": lambda block, name, inputs: Dropout(name=name, inputs=inputs, ratio=block.number("dropout_ratio", 0.5)),
    "Softmax": lambda block, name, inputs: Softmax(name=name, inputs=inputs, axis=block.integer("axis", 1)),
    "Flatten": _flatten,
    "Concat": _concat,
    "Eltwise": _eltwise,
    "Scale": _scale,
    "Bias": _bias,
    "BatchNorm": _batch_norm,
}


def _required(block: Message, name: str) -> int:
    if name not in block:
        raise PrototxtError(block.line, f"{name} is missing")
    return block.integer(name, 0)


def _repeated_pair(block: Message, name: str, stem: str, default: int | None) -> Pair:
    """A (height, width) given once, twice, or as `stem`_h and `stem`_w; ``default=None`` makes it required."""
    values = block.integers(name)
    sides = [f"{stem}_h", f"{stem}_w"] if stem else []
    if any(side in block for side in sides):
        if values:
            raise PrototxtError(block.line, f"either {name} or {sides[0]} and {sides[1]}, not both")
        if default != 0 and not all(side in block for side in sides):
            raise PrototxtError(block.line, f"{sides[0]} and {sides[1]} belong together")
        return block.integer(sides[0], 0), block.integer(sides[1], 0)
    if not values and default is None:
        raise PrototxtError(block.line, f"{name} is missing")
    if len(values) > 2:
        raise PrototxtError(block.line, f"{name} is given {len(values)} times; this network is two-dimensional")
    if len(values) == 2:
        return values[0], values[1]
    return (values[0], values[0]) if values else (default or 0, default or 0)
