"""Operators that other operators say: each is read as those, in the formula of ONNX's docs/Operators.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast

import numpy as np

from zoo.arrays import Array
from zoo.frameworks.onnx.reading.op import Op
from zoo.frameworks.onnx.reading.walk import Walk
from zoo.layers import Pair
from zoo.wire.onnx import Node

# An edge of more rows would be as many layers.
_WIDEST = 64


class _Steps:
    """The nodes in the place of one, read as they are written."""

    def __init__(self, walk: Walk, op: Op) -> None:
        self._walk, self._op = walk, op

    def numbers(self, what: str, array: float | Array) -> str:
        """A tensor of float32 numbers."""
        name = self._walk.step(self._op.out, what)
        self._walk.constants[name] = np.asarray(array, np.float32)
        return name

    def add(self, what: str, kind: str, *reads: str, **attributes: object) -> str:
        """A node on the way; returns the tensor that it makes."""
        return self._node(self._walk.step(self._op.out, what), kind, reads, attributes)

    def last(self, kind: str, *reads: str, **attributes: object) -> None:
        """The node that makes what the operator makes."""
        self._node(self._op.out, kind, reads, attributes)

    def _node(self, out: str, kind: str, reads: tuple[str, ...], attributes: dict[str, object]) -> str:
        self._walk.readers.update(reads)
        node = Node(op=kind, name=self._op.node.name, inputs=reads, outputs=(out,), attributes=cast(Any, attributes))
        self._walk.plainly(self._walk, node)
        return out


def layer_norm(walk: Walk, op: Op) -> None:
    """LayerNormalization: ``(x - mean) / sqrt(variance + epsilon) * scale + bias``, over all axes from one on."""
    x, g = op.reads(), _Steps(walk, op)
    rank, eps = len(walk.sizes(x)), op.number("epsilon", 1e-5)
    axes = tuple(range(op.place_of(op.integer("axis", -1), rank), rank))
    if op.integer("stash_type", 1) != 1:
        op.refuse("stash_type: other numbers than float32 are not computed with here")
    mean = g.add("mean", "ReduceMean", x, axes=axes)
    centred = g.add("centred", "Sub", x, mean)
    squares = g.add("squares", "Mul", centred, centred)
    shifted = g.add("shifted", "Add", g.add("variance", "ReduceMean", squares, axes=axes), g.numbers("eps", eps))
    inverse = g.add("inverse", "Pow", shifted, g.numbers("root", -0.5))
    normed = g.add("norm", "Mul", centred, inverse)
    walk.values |= {
        tensor: walk.values[made] for tensor, made in zip(op.node.outputs[1:], (mean, inverse), strict=False)
    }
    if op.has(2):
        g.last("Add", g.add("scaled", "Mul", normed, op.reads(1)), op.reads(2))
    else:
        g.last("Mul", normed, op.reads(1))


def group_norm(walk: Walk, op: Op) -> None:
    """GroupNormalization: each group of channels by its own mean and variance; a factor and a term a channel."""
    x, g, groups = op.reads(), _Steps(walk, op), op.integer("num_groups", 0)
    channels, *area = walk.sizes(x)[1:]
    factors = [op.weight(at, what) for at, what in ((1, "scale"), (2, "bias"))]
    each = groups if op.opset < 21 else channels  # before it there was one for each group
    if op.integer("stash_type", 1) != 1 or groups < 1 or channels % groups or any(a.shape != (each,) for a in factors):
        op.refuse(f"scale {factors[0].shape} and bias {factors[1].shape} do not fit {groups} groups of {channels}")
    scale, bias = (np.repeat(a, channels // each).reshape(-1, *[1] * len(area)) for a in factors)
    ones, zeros = g.numbers("ones", np.ones(groups)), g.numbers("zeros", np.zeros(groups))
    rows = g.add("groups", "Reshape", x, shape=(0, groups, -1))
    normed = g.add("norm", "InstanceNormalization", rows, ones, zeros, epsilon=op.number("epsilon", 1e-5))
    whole = g.add("whole", "Reshape", normed, shape=(0, channels, *area))
    g.last("Add", g.add("scaled", "Mul", whole, g.numbers("scale", scale)), g.numbers("bias", bias))


def gelu(walk: Walk, op: Op) -> None:
    """Gelu by a tanh: ``x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))``."""
    x, g = op.reads(), _Steps(walk, op)
    if op.text("approximate", "none") != "tanh":
        op.refuse("is by the error function, which no layer computes; with approximate 'tanh' it is read")
    cubes = g.add("cubes", "Mul", g.add("cube", "Pow", x, g.numbers("three", 3)), g.numbers("third", 0.044715))
    inner = g.add("inner", "Mul", g.add("sum", "Add", x, cubes), g.numbers("root", np.sqrt(2 / np.pi)))
    gate = g.add("gate", "Add", g.add("tanh", "Tanh", inner), g.numbers("one", 1))
    g.last("Mul", g.add("half", "Mul", x, g.numbers("a_half", 0.5)), gate)


def mish(walk: Walk, op: Op) -> None:
    """Mish: ``x * tanh(log(1 + exp(x)))``."""
    g = _Steps(walk, op)
    g.last("Mul", op.reads(), g.add("tanh", "Tanh", g.add("softplus", "Softplus", op.reads())))


def celu(walk: Walk, op: Op) -> None:
    """Celu: ``max(x, 0) + min(0, alpha * (exp(x / alpha) - 1))``."""
    g, alpha = _Steps(walk, op), op.number("alpha", 1.0)
    slow = g.add("slow", "Div", op.reads(), g.numbers("alpha", alpha))
    g.last("Mul", g.add("elu", "Elu", slow), g.numbers("back", alpha))


# Attribute of a window over a row -> what that of an image has before each of its numbers.
_OF_ROWS = {"kernel_shape": 1, "strides": 1, "dilations": 1, "output_shape": 1, "output_padding": 0, "pads": 0}


def over_rows(read: Callable[[Walk, Op], None]) -> Callable[[Walk, Op], None]:
    """The reader of a window over images, for rows as well, N x C x L: images of a single row."""

    def either(walk: Walk, op: Op) -> None:
        if not op.has(0) or len(walk.sizes(op.reads())) != 3:
            read(walk, op)
            return
        g, attributes = _Steps(walk, op), dict(op.node.attributes)
        op.passes_over(*attributes)
        for name, before in _OF_ROWS.items():
            row = op.integers(name)
            if row is not None:
                attributes[name] = tuple(number for size in row for number in (before, size))
        reads = [g.add("row", "Unsqueeze", op.reads(), axes=(2,)), *op.node.inputs[1:]]
        if op.has(1):
            reads[1] = g.numbers("weight", op.weight(1, "weight")[:, :, None])
        g.last("Squeeze", g.add("window", op.node.op, *reads, **attributes), axes=(2,))

    return either


def edges(walk: Walk, op: Op, sides: dict[int, Pair], mode: Literal["edge", "reflect", "wrap"]) -> None:
    """Pad with what lies at or behind the edges: slices, joined; `sides`: axis -> so many before and after."""
    g, made, shape = _Steps(walk, op), op.reads(), walk.sizes(op.reads())
    last = max(sides)
    for axis, both in sides.items():
        limit = {"edge": _WIDEST, "reflect": min(_WIDEST, shape[axis] - 1), "wrap": shape[axis]}[mode]
        if not axis or not 0 <= min(both) <= max(both) <= limit:
            op.refuse(f"pads axis {axis} of {walk.told(shape)} by {both} in mode {mode!r}: 0 to {limit} are known here")
        cut = {
            (start, stop): g.add(f"from{axis}", "Slice", made, starts=(start,), ends=(stop,), axes=(axis,))
            for start, stop in dict.fromkeys(_runs(shape[axis], both, mode))
        }
        parts = [cut[run] for run in _runs(shape[axis], both, mode)]
        if axis == last:
            g.last("Concat", *parts, axis=axis)
        else:
            made = g.add(f"along{axis}", "Concat", *parts, axis=axis)


def _runs(side: int, both: Pair, mode: Literal["edge", "reflect", "wrap"]) -> list[Pair]:
    """Which rows stand where, after padding: from, to."""
    order = np.pad(np.arange(side), both, mode)
    return [(int(run[0]), int(run[-1]) + 1) for run in np.split(order, np.flatnonzero(np.diff(order) != 1) + 1)]
