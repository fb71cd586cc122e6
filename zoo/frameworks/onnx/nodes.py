"""Layer kind -> ONNX operators: one node a layer wherever ONNX has the layer, named after it."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import assert_never

import numpy as np

from zoo.axes import affine_shape, axis_index
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
    Pool,
    Power,
    ReLU,
    Scale,
    Shape,
    Sigmoid,
    Slice,
    Softmax,
    TanH,
)
from zoo.shapes import Window, window
from zoo.wire.onnx import Array, Attribute, Node

# What Caffe starts a maximum from, and so what it answers for a window that holds no pixel (pooling_layer.cpp).
_LOWEST = float(np.finfo(np.float32).min)

# The fast LRN sums a window by convolution up to this many channels a tower (it costs channels^2), by pooling beyond.
_NARROW_TOWER = 64
# ONNX Runtime pools rows up to about 2048 numbers with vector instructions, longer ones an order slower.
_LONGEST_ROW = 2000


@dataclass(kw_only=True)
class Builder:
    """Collects nodes; the last one of a layer takes the layer's name, those before it get names of their own.

    Attributes:
        opset: the operator set to write.
        fast_lrn: write LRN in the form that ONNX Runtime runs fastest, instead of as one ``LRN`` node.
        taken: names in use: inputs, layers, parameters.
    """

    opset: int
    fast_lrn: bool
    taken: set[str]
    nodes: list[Node] = field(default_factory=list[Node])

    def last(self, layer: Layer, op: str, *inputs: str, **attributes: Attribute) -> None:
        """Add the node whose output is the layer's activation."""
        self.nodes.append(Node(op=op, inputs=inputs, output=layer.name, attributes=attributes))

    def step(self, layer: Layer, what: str, op: str, *inputs: str, **attributes: Attribute) -> str:
        """Add a node on the way; returns the name of its output."""
        name = f"{layer.name}/{what}"
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        self.nodes.append(Node(op=op, inputs=inputs, output=name, attributes=attributes))
        return name

    def floats(self, layer: Layer, what: str, value: Array | float) -> str:
        """Add a float32 constant. Constants are nodes, so that the initializers are the weights and nothing else."""
        return self.step(layer, what, "Constant", value=np.asarray(value, np.float32))

    def integers(self, layer: Layer, what: str, *values: int) -> str:
        """Add a list of integers, as sizes, axes and positions are given."""
        return self.step(layer, what, "Constant", value=np.asarray(values, np.int64))

    def reshape(self, layer: Layer, what: str, source: str, *sizes: int) -> str:
        """Add a reshape on the way."""
        return self.step(layer, what, "Reshape", source, self.integers(layer, f"{what}_shape", *sizes))


def add_layer(g: Builder, layer: Layer, inputs: tuple[str, ...], shapes: list[Shape], shape: Shape) -> None:
    """Add one layer to the graph.

    Args:
        g: the graph so far.
        layer: what to add.
        inputs: the activations it reads.
        shapes: their shapes, without the batch axis.
        shape: the shape of its own activation.
    """
    x = inputs[0]
    match layer:
        case Conv():
            at = window(layer, shapes[0])
            parameters = _parameters(layer, "weight", *(["bias"] if layer.bias else []))
            g.last(
                layer,
                "Conv",
                x,
                *parameters,
                kernel_shape=layer.kernel,
                strides=layer.stride,
                pads=_pads(at),
                dilations=layer.dilation,
                group=layer.groups,
            )
        case Dense():
            _dense(g, layer, x, shapes[0], shape)
        case Pool():
            _pool(g, layer, x, shapes[0])
        case LRN():
            _lrn(g, layer, x, shape)
        case ReLU():
            if layer.negative_slope:
                g.last(layer, "LeakyRelu", x, alpha=layer.negative_slope)
            else:
                g.last(layer, "Relu", x)
        case Sigmoid():
            g.last(layer, "Sigmoid", x)
        case TanH():
            g.last(layer, "Tanh", x)
        case Power():
            _power(g, layer, x)
        case Dropout():
            g.last(layer, "Dropout", x, g.floats(layer, "ratio", layer.ratio))
        case Softmax():
            g.last(layer, "Softmax", x, axis=axis_index(layer.name, layer.axis, shape))
        case Flatten():
            _reshape_last(g, layer, x, shape)
        case Concat():
            g.last(layer, "Concat", *inputs, axis=axis_index(layer.name, layer.axis, shape))
        case Slice():
            start, stop = g.integers(layer, "start", layer.start), g.integers(layer, "stop", layer.stop)
            axis = g.integers(layer, "axis", axis_index(layer.name, layer.axis, shapes[0]))
            g.last(layer, "Slice", x, start, stop, axis)
        case Eltwise():
            _eltwise(g, layer, inputs)
        case Scale():
            weight = _operand(g, layer, "weight", inputs, shapes)
            if layer.bias:
                scaled = g.step(layer, "scaled", "Mul", x, weight)
                g.last(layer, "Add", scaled, _operand(g, layer, "bias", inputs, shapes))
            else:
                g.last(layer, "Mul", x, weight)
        case Bias():
            g.last(layer, "Add", x, _operand(g, layer, "bias", inputs, shapes))
        case BatchNorm():
            _batch_norm(g, layer, x, shape)
        case _:
            assert_never(layer)


def _parameters(layer: Layer, *kinds: str) -> list[str]:
    return [f"{layer.name}.{kind}" for kind in kinds]


def _pads(at: Window) -> tuple[int, ...]:
    """Padding as ONNX lists it, beginnings before ends.

    A size that is rounded up is written as extra padding at the end, which every runtime reads alike; what
    ``ceil_mode`` means for the last window has changed between versions of ONNX Runtime.
    """
    return (*at.before, *(max(after, before) for after, before in zip(at.after, at.before, strict=True)))


def _reshape_last(g: Builder, layer: Layer, source: str, shape: Shape) -> None:
    if len(shape) == 1:
        g.last(layer, "Flatten", source, axis=1)
    else:
        g.last(layer, "Reshape", source, g.integers(layer, "shape", -1, *shape))


def _dense(g: Builder, layer: Dense, x: str, source: Shape, shape: Shape) -> None:
    axis = axis_index(layer.name, layer.axis, source)
    rows = x if len(source) == 1 else g.step(layer, "rows", "Flatten", x, axis=axis)
    operands = [rows, *_parameters(layer, "weight", *(["bias"] if layer.bias else []))]
    if axis == 1:
        g.last(layer, "Gemm", *operands, transB=1)
    else:
        _reshape_last(g, layer, g.step(layer, "product", "Gemm", *operands, transB=1), shape)


def _pool(g: Builder, layer: Pool, x: str, source: Shape) -> None:
    if layer.global_pool:
        g.last(layer, "GlobalMaxPool" if layer.mode == "max" else "GlobalAveragePool", x)
        return
    at = window(layer, source)
    pads = _pads(at)
    if any(end >= side for end, side in zip(pads[2:], at.kernel, strict=True)):
        # Some window holds no pixel at all, which the pooling operators refuse: pad beforehand.
        edges = g.integers(layer, "edges", 0, 0, *pads[:2], 0, 0, *pads[2:])
        fill = g.floats(layer, "fill", _LOWEST if layer.mode == "max" else 0.0)
        x, pads = g.step(layer, "padded", "Pad", x, edges, fill), (0, 0, 0, 0)
    if layer.mode == "max":
        g.last(layer, "MaxPool", x, kernel_shape=at.kernel, strides=at.stride, pads=pads)
        return
    overhang = [after > before for after, before in zip(at.after, at.before, strict=True)]
    # With no padding at all, leaving the overhang out of the divisor is what count_include_pad = 0 says.
    plain = not any(overhang) or (max(at.before) == 0 and any(pads))
    average = {
        "kernel_shape": at.kernel,
        "strides": at.stride,
        "pads": pads,
        "count_include_pad": int(not any(overhang)),
    }
    if plain:
        g.last(layer, "AveragePool", x, **average)
        return
    whole = g.step(layer, "whole", "AveragePool", x, **average | {"count_include_pad": 1})
    g.last(layer, "Mul", whole, g.floats(layer, "share", _divisor_correction(at, source)))


def _divisor_correction(at: Window, source: Shape) -> Array:
    """Cells of a window / those of them inside the padded image, (H, W); infinite for a window that begins at its edge.

    Past the edge Caffe's count is negative (pooling_layer.cpp): zeros stay zeros there.
    """

    def inside(i: int) -> Array:
        start = np.arange(at.out[i]) * at.stride[i]
        return np.minimum(start + at.kernel[i], source[1 + i] + 2 * at.before[i]) - start

    with np.errstate(divide="ignore"):  # times the zeros in such a window it gives NaN, as in Caffe
        return prod(at.kernel) / np.outer(inside(0), inside(1)).astype(np.float32)


def _lrn(g: Builder, layer: LRN, x: str, shape: Shape) -> None:
    if layer.region == "within":
        squares = g.step(layer, "squares", "Mul", x, x)
        reach = layer.size // 2
        mean = g.step(
            layer,
            "mean",
            "AveragePool",
            squares,
            kernel_shape=(layer.size, layer.size),
            pads=(reach,) * 4,
            count_include_pad=1,
        )
        g.last(layer, "Mul", x, _inverse_power(g, layer, _base_of_mean(g, layer, mean)))
        return
    # ONNX Runtime's own operator wants alpha and beta positive.
    if (g.fast_lrn or min(layer.alpha, layer.beta) <= 0) and len(shape) == 3:
        _fast_lrn(g, layer, x, shape)
        return
    attributes = {"size": layer.size, "alpha": float(layer.alpha), "beta": float(layer.beta), "bias": float(layer.k)}
    if layer.towers == 1 and len(shape) == 3:
        g.last(layer, "LRN", x, **attributes)
        return
    # A tower becomes an image of its own, so that no window reaches over its boundary.
    area = shape[1:] if len(shape) == 3 else (prod(shape[1:]), 1)
    towers = g.reshape(layer, "towers", x, -1, shape[0] // layer.towers, *area)
    normed = g.step(layer, "normed", "LRN", towers, **attributes)
    g.last(layer, "Reshape", normed, g.integers(layer, "shape", -1, *shape))


def _fast_lrn(g: Builder, layer: LRN, x: str, shape: Shape) -> None:
    """LRN in elementary operators; which ones is a matter of what ONNX Runtime 1.32 was measured to run fastest."""
    if shape[0] // layer.towers <= _NARROW_TOWER:
        squares = g.step(layer, "squares", "Mul", x, x)
        inverse = _inverse_power(g, layer, _base_by_convolution(g, layer, squares, shape[0]))
        # Past a pool that pools nothing: products of what convolutions and pools wrote stay in the blocked layout that
        # these work in, and the maps are not laid out anew for them.
        g.last(layer, "Mul", x, g.step(layer, "factor", "MaxPool", inverse, kernel_shape=(1, 1)))
        return
    # Channels become an axis to pool over, a tower at a time; the pixels of a map stand in rows as long as pay off.
    pixels = prod(shape[1:])
    row = max(size for size in range(1, min(pixels, _LONGEST_ROW) + 1) if pixels % size == 0)
    area = (row,) if row == pixels else (pixels // row, row)
    towers = g.reshape(layer, "towers", x, -1, 1, shape[0] // layer.towers, *area)
    squares = g.step(layer, "squares", "Mul", towers, towers)
    kernel, pads = (layer.size, *[1] * len(area)), (layer.size // 2, *[0] * len(area))
    mean = g.step(layer, "mean", "AveragePool", squares, kernel_shape=kernel, pads=pads * 2, count_include_pad=1)
    normed = g.step(layer, "normed", "Mul", towers, _inverse_power(g, layer, _base_of_mean(g, layer, mean)))
    g.last(layer, "Reshape", normed, g.integers(layer, "shape", -1, *shape))


def _base_by_convolution(g: Builder, layer: LRN, squares: str, channels: int) -> str:
    """``k + alpha / n * sum`` as a 1 x 1 convolution with a band of alpha / n and the bias k."""
    size = channels // layer.towers
    at = np.arange(size)
    band = (np.abs(at[:, None] - at) <= layer.size // 2) * np.float32(layer.alpha / layer.size)
    kernel = g.floats(layer, "band", np.tile(band, (layer.towers, 1))[:, :, None, None])
    bias = g.floats(layer, "k", np.full(channels, layer.k))
    return g.step(layer, "base", "Conv", squares, kernel, bias, kernel_shape=(1, 1), group=layer.towers)


def _base_of_mean(g: Builder, layer: LRN, mean: str) -> str:
    """``k + alpha * mean``."""
    scaled = g.step(layer, "scaled", "Mul", mean, g.floats(layer, "alpha", layer.alpha))
    return g.step(layer, "base", "Add", scaled, g.floats(layer, "k", layer.k))


def _inverse_power(g: Builder, layer: LRN, base: str) -> str:
    """``base ^ -beta``."""
    if layer.beta != 0.75:
        return g.step(layer, "inverse", "Pow", base, g.floats(layer, "minus_beta", -layer.beta))
    # s^(-3/4) is s^(1/4) / s, by two square roots: a general power costs more than the rest of the layer.
    root = g.step(layer, "root", "Sqrt", base)
    return g.step(layer, "inverse", "Div", g.step(layer, "fourth_root", "Sqrt", root), base)


def _power(g: Builder, layer: Power, x: str) -> None:
    steps = [("Mul", "scale", layer.scale, 1.0), ("Add", "shift", layer.shift, 0.0), ("Pow", "power", layer.power, 1.0)]
    needed = [(op, what, value) for op, what, value, neutral in steps if value != neutral]
    if not needed:
        g.last(layer, "Identity", x)
    for op, what, value in needed:
        constant = g.floats(layer, what, value)
        if what == needed[-1][1]:
            g.last(layer, op, x, constant)
        else:
            x = g.step(layer, f"{what}_done", op, x, constant)


def _eltwise(g: Builder, layer: Eltwise, inputs: tuple[str, ...]) -> None:
    match layer.operation:
        case "sum":
            coefficients = layer.coeffs or (1.0,) * len(inputs)
            terms = [
                x if c == 1 else g.step(layer, f"term{i}", "Mul", x, g.floats(layer, f"coefficient{i}", c))
                for i, (x, c) in enumerate(zip(inputs, coefficients, strict=True))
            ]
            g.last(layer, "Sum", *terms)
        case "max":
            g.last(layer, "Max", *inputs)
        case "prod" if len(inputs) == 1:
            g.last(layer, "Identity", *inputs)
        case "prod":
            product = inputs[0]
            for i, x in enumerate(inputs[1:-1]):
                product = g.step(layer, f"product{i}", "Mul", product, x)
            g.last(layer, "Mul", product, inputs[-1])


def _operand(g: Builder, layer: Scale | Bias, kind: str, inputs: tuple[str, ...], shapes: list[Shape]) -> str:
    """What is multiplied or added, shaped to broadcast over the first input."""
    rank = len(shapes[0]) + 1
    if len(inputs) == 2 and (kind == "weight" or isinstance(layer, Bias)):
        name, sizes, start = inputs[1], (-1, *shapes[1]), 0
    elif len(inputs) == 2:
        name, sizes, start = f"{layer.name}.{kind}", shapes[1], 1
    else:
        name, sizes = f"{layer.name}.{kind}", affine_shape(layer, shapes[0])
        start = axis_index(layer.name, layer.axis, shapes[0])
    tail = rank - start - len(sizes)
    return g.reshape(layer, f"{kind}_spread", name, *sizes, *[1] * tail) if tail else name


def _batch_norm(g: Builder, layer: BatchNorm, x: str, shape: Shape) -> None:
    if not layer.batch_stats:
        one, zero = g.floats(layer, "one", np.ones(shape[0])), g.floats(layer, "zero", np.zeros(shape[0]))
        statistics = _parameters(layer, "mean", "variance")
        g.last(layer, "BatchNormalization", x, one, zero, *statistics, epsilon=float(layer.eps))
        return
    axes = (0, *range(2, len(shape) + 1))

    def mean(what: str, source: str) -> str:
        if g.opset < 18:  # the axes of ReduceMean became an input in operator set 18
            return g.step(layer, what, "ReduceMean", source, axes=axes, keepdims=1)
        return g.step(layer, what, "ReduceMean", source, g.integers(layer, f"{what}_axes", *axes), keepdims=1)

    centred = g.step(layer, "centred", "Sub", x, mean("mean", x))
    variance = mean("variance", g.step(layer, "squares", "Mul", centred, centred))
    steady = g.step(layer, "steady", "Add", variance, g.floats(layer, "eps", layer.eps))
    g.last(layer, "Div", centred, g.step(layer, "deviation", "Sqrt", steady))
