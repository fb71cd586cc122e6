"""Local response normalisation written in elementary operators, told by what they compute together.

``x / (k + alpha * mean of a window of squares) ^ beta``: PyTorch's exporters write it so (``torch.nn.functional``,
``local_response_norm``), and so does this project's own for speed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any, Literal, cast

import numpy as np

from zoo.arrays import Array
from zoo.frameworks.onnx.reading.folding import reshaped_to
from zoo.frameworks.onnx.reading.op import Op, short
from zoo.frameworks.onnx.reading.walk import Response, View, Walk
from zoo.layers import LRN

# No exporter writes more nodes for one layer.
_MOST_STEPS = 24


def follows(walk: Walk, op: Op) -> bool:
    """Take a node in as a step of such a normalisation; False where it is none."""
    reads = [walk.values[name] for name in op.node.inputs if name in walk.values]
    found = [value for value in reads if isinstance(value, Response)]
    if not found:
        made = _squares(op, reads)
    elif len(reads) == 1:
        made = _step(walk, op, found[0])
    elif len(found) == 2:
        made = _quotient(op, *found)
    else:
        return _closed(walk, op, found[0])
    if made is None or made.steps >= _MOST_STEPS:
        return False
    walk.values[op.out] = replace(made, node=op.node, steps=made.steps + 1)
    return True


def _squares(op: Op, reads: list[Any]) -> Response | None:
    """The square of an activation."""
    view = reads[0] if reads else None
    power = op.constant(1) if op.node.op == "Pow" else None
    is_square = op.node.op == "Mul" and len(op.node.inputs) == 2 and op.node.inputs[0] == op.node.inputs[1]
    is_square = is_square or (power is not None and power.size == 1 and float(power.reshape(())) == 2)
    if not is_square or not isinstance(view, View):
        return None
    return Response(view=view, shape=view.shape)


def _step(walk: Walk, op: Op, so_far: Response) -> Response | None:
    steps: dict[str, Callable[[Walk, Op, Response], Response | None]] = {
        "Reshape": _moved,
        "Squeeze": _moved,
        "Unsqueeze": _moved,
        "Pad": _bordered,
        "AveragePool": _averaged,
        "Conv": _banded,
        "Mul": _scaled,
        "Add": _shifted,
        "Pow": _raised,
        "Sqrt": lambda _, __, r: _powered(r, 0.5),
        "Reciprocal": lambda _, __, r: _powered(r, -1.0),
        "MaxPool": _passed,
        "Identity": lambda _, __, r: r,
    }
    step = steps.get(op.node.op)
    return step(walk, op, so_far) if step else None


def _moved(walk: Walk, op: Op, r: Response) -> Response | None:
    shape = reshaped_to(op, r.shape)
    return replace(r, shape=shape) if prod(shape) == prod(r.shape) and not r.border else None


def _bordered(walk: Walk, op: Op, r: Response) -> Response | None:
    pads = op.listed("pads", 1)
    if op.text("mode", "constant") != "constant" or op.scalar("value", 2, 0.0) != 0 or r.size or op.has(3):
        return None
    if pads is None or len(pads) != 2 * len(r.shape):
        return None
    before = r.border or ((0, 0),) * len(r.shape)
    return replace(r, border=tuple((a + pads[i], b + pads[len(r.shape) + i]) for i, (a, b) in enumerate(before)))


def _averaged(walk: Walk, op: Op, r: Response) -> Response | None:
    """The window: along the channels, which stand in axis 2 behind one of a single number, or over H and W."""
    kernel, strides = op.integers("kernel_shape") or (), op.integers("strides")
    pads, rank = op.integers("pads"), len(r.shape)
    spatial = rank - 2
    counts = op.integer("count_include_pad", 0)
    if r.size or len(kernel) != spatial or any(step != 1 for step in strides or ()) or op.flag("ceil_mode", 0):
        return None
    if op.text("auto_pad", "NOTSET") != "NOTSET" or any(step != 1 for step in op.integers("dilations") or ()):
        return None
    pads = pads or (0,) * (2 * spatial)
    if len(pads) != 2 * spatial or (any(pads) and not counts):
        return None
    border = r.border or ((0, 0),) * rank
    whole = [(border[2 + i][0] + pads[i], border[2 + i][1] + pads[spatial + i]) for i in range(spatial)]
    if any(border[i] != (0, 0) for i in (0, 1)):
        return None
    return _window(walk, r, kernel, whole)


def _window(walk: Walk, r: Response, kernel: tuple[int, ...], border: list[tuple[int, int]]) -> Response | None:
    channels, *area = walk.shapes[r.view.activation]
    size = kernel[0]
    both = [(n // 2, n // 2) for n in kernel]
    if not r.view.in_order or border != both or size % 2 == 0:
        return None
    within = len(kernel) == 2 and kernel == (size, size) and r.shape == walk.whole(r.view.activation).shape
    if within and size > 1:
        return replace(r, size=size, region="within", scale=1.0, border=())
    batch = walk.firsts[r.view.activation]
    towers = r.shape[0] // batch
    across = (batch * towers, 1, channels // max(towers, 1)) == r.shape[:3] and towers and not channels % towers
    if not across or any(n != 1 for n in kernel[1:]) or prod(r.shape[3:]) != prod(area):
        return None
    return replace(r, size=size, towers=towers, scale=1.0, border=())


def _banded(walk: Walk, op: Op, r: Response) -> Response | None:
    """A 1 x 1 convolution that sums a band of channels: alpha / size in the band, k as the bias."""
    kernel, bias = op.constant(1), op.constant(2)
    if kernel is None or bias is None or kernel.ndim != 4 or kernel.shape[2:] != (1, 1) or r.size or r.border:
        return None
    towers, size = op.integer("group", 1), kernel.shape[1]
    whole = r.shape == walk.whole(r.view.activation).shape and r.view.in_order
    if not whole or len(kernel) != towers * size or len(kernel) != r.shape[1] or np.ptp(bias):
        return None
    if {*op.integers("strides", (1,)), *op.integers("dilations", (1,))} != {1} or any(op.integers("pads", ())):
        return None
    window = 2 * int(np.count_nonzero(kernel[0, :, 0, 0])) - 1
    if window < 1 or not np.array_equal(kernel[:, :, 0, 0], _band(kernel[0, 0, 0, 0], size, towers, window // 2)):
        return None
    scale = short(short(kernel[0, 0, 0, 0]) * window)
    return replace(r, size=window, towers=towers, scale=scale, shift=short(bias[0]), computed=True)


def _band(value: np.float32, size: int, towers: int, reach: int) -> Array:
    at = np.arange(size)
    return np.tile((np.abs(at[:, None] - at) <= reach) * value, (towers, 1))


def _number(op: Op) -> float | None:
    """The one number among its constants."""
    known = [op.constant(i) for i in range(len(op.node.inputs))]
    numbers = [array for array in known if array is not None]
    return short(numbers[0].reshape(-1)[0]) if len(numbers) == 1 and numbers[0].size == 1 else None


def _scaled(walk: Walk, op: Op, r: Response) -> Response | None:
    number = _number(op)
    if number is None or r.scale is None or r.shift is not None:
        return None
    return replace(r, scale=r.scale * number, computed=r.computed or r.scale != 1)


def _shifted(walk: Walk, op: Op, r: Response) -> Response | None:
    number = _number(op)
    return None if number is None or r.scale is None or r.shift is not None else replace(r, shift=number)


def _raised(walk: Walk, op: Op, r: Response) -> Response | None:
    number = _number(op) if op.constant(1) is not None else None
    return None if number is None else _powered(r, number)


def _powered(r: Response, power: float) -> Response | None:
    return None if r.shift is None else replace(r, power=(1.0 if r.power is None else r.power) * power)


def _passed(walk: Walk, op: Op, r: Response) -> Response | None:
    """A pool that pools nothing."""
    plain = op.integers("kernel_shape") == (1, 1) and all(n == 1 for n in op.integers("strides") or ())
    return r if plain and not any(op.integers("pads") or ()) else None


def _quotient(op: Op, a: Response, b: Response) -> Response | None:
    """One power of a sum by another of the same."""
    if op.node.op != "Div" or _base(a) != _base(b):
        return None
    power = (1.0 if a.power is None else a.power) - (1.0 if b.power is None else b.power)
    return replace(a, power=power) if a.shift is not None else None


def _base(r: Response) -> Response:
    return replace(r, power=None, node=None, steps=0)


def _closed(walk: Walk, op: Op, r: Response) -> bool:
    """The activation divided by the power, or times its inverse: the layer itself."""
    other = next(value for name in op.node.inputs if (value := walk.values.get(name)) is not r)
    divides = op.node.op == "Div" and walk.values.get(op.node.inputs[1]) is r
    if r.shift is None or r.scale is None or other != r.view or not (divides or op.node.op == "Mul"):
        return False
    if r.shape != r.view.shape:
        return False
    power = 1.0 if r.power is None else r.power
    if r.computed:
        walk.inexact[op.out] = f"alpha of {op.out!r} was computed"
    layer = LRN(
        name=op.out,
        inputs=(r.view.activation,),
        size=r.size,
        alpha=r.scale,
        beta=power if divides else -power,
        k=r.shift,
        towers=r.towers,
        region=cast(Literal["across", "within"], r.region),
    )
    walk.put(op.out, layer, r.view)
    return True
