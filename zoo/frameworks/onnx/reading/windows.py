"""Where ONNX's windows go, said in the windows of `zoo.layers`, which are padded alike on both sides.

Sizes: ONNX's docs/Operators.md, and for a last window that would begin in the padding, which is dropped, the reference
implementation's (``onnx/reference/ops/op_pool_common.py``), as in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

import numpy as np

from zoo.arrays import Array
from zoo.errors import SpecError
from zoo.frameworks.onnx.reading.op import Op
from zoo.frameworks.onnx.reading.walk import Padded, Walk
from zoo.layers import Conv, Pair, Pool, Rounding, Shape
from zoo.shapes import Window, too_large, window

Windowed = TypeVar("Windowed", Conv, Pool)
# So many strides more padding than asked for are tried.
_STRIDES = 4


@dataclass(frozen=True, kw_only=True)
class Place:
    """A window as ONNX has it; pairs are (height, width).

    Attributes:
        kernel, stride, dilation: of the window.
        border: pixels around the image that count as pixels, before and after.
        before, after: padding around those.
        out: how many positions.
        image: the size of the image itself.
    """

    kernel: Pair
    stride: Pair
    dilation: Pair
    border: tuple[Pair, Pair]
    before: Pair
    after: Pair
    out: Pair
    image: Pair

    @property
    def start(self) -> Pair:
        """Pixels of either kind before the image."""
        return _pair(self.before[i] + self.border[0][i] for i in (0, 1))


def _pair(sides: object) -> Pair:
    height, width = sides  # pyright: ignore[reportGeneralTypeIssues]
    return int(height), int(width)


def image_read(walk: Walk, op: Op, fill: Callable[[float, str], bool]) -> tuple[str, tuple[Pair, Pair]]:
    """The image that a window moves over, and the border it was given before.

    Args:
        walk: the reading.
        op: the node.
        fill: whether a border of that number around that activation is what the window itself would read there.
    """
    value, border = walk.values.get(op.reads()), ((0, 0), (0, 0))
    if isinstance(value, Padded) and not value.view.in_order:
        value = None
    if isinstance(value, Padded) and fill(value.fill, value.view.activation):
        source, border = value.view.activation, (value.before, value.after)
    else:
        source = walk.plain(op.reads())
    if len(walk.shapes[source]) != 3:
        op.refuse(f"reads {walk.told(walk.whole(source).shape)}; two-dimensional images alone are known here")
    return source, border


def pair_of(op: Op, name: str, default: Pair | None) -> Pair:
    """An attribute that is a height and a width."""
    found = op.integers(name) or default
    if found is None or len(found) != 2 or min(found) < 0:
        op.refuse(f"{name} is {found}, expected two sizes: two-dimensional images alone are known here")
    return found[0], found[1]


def place(op: Op, shape: Shape, kernel: Pair, border: tuple[Pair, Pair]) -> Place:
    """The window of a Conv or a pooling node over an image (C, H, W)."""
    stride, dilation = pair_of(op, "strides", (1, 1)), pair_of(op, "dilations", (1, 1))
    said, rounds_up = op.text("auto_pad", "NOTSET"), op.flag("ceil_mode", 0)
    pads = op.integers("pads") or (0, 0, 0, 0)
    if min(*stride, *dilation, *kernel) < 1 or len(pads) != 4:
        op.refuse(f"kernel {kernel}, strides {stride}, dilations {dilation} and pads {pads} do not fit an image")
    if min(pads) < 0:
        op.refuse(f"pads {pads}: images are padded here, not cut")
    before, after, out = [0, 0], [0, 0], [0, 0]
    for i in (0, 1):
        side = shape[1 + i] + border[0][i] + border[1][i]
        reach = dilation[i] * (kernel[i] - 1) + 1
        before[i], after[i] = _sides(op, said, (pads[i], pads[2 + i]), side, stride[i], reach)
        free = side + before[i] + after[i] - reach
        out[i] = (-(-free // stride[i]) if rounds_up else free // stride[i]) + 1
        if rounds_up and (out[i] - 1) * stride[i] >= side + before[i]:
            out[i] -= 1
    if min(out) < 1:
        op.refuse(f"its kernel {kernel} reaches over more than the padded image of {walk_text(shape)}")
    reason = too_large(tuple(out))
    if reason:
        op.refuse(reason)
    return Place(
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        border=border,
        before=_pair(before),
        after=_pair(after),
        out=_pair(out),
        image=(shape[1], shape[2]),
    )


def walk_text(shape: Shape) -> str:
    """``3 x 5 x 5``."""
    return " x ".join(map(str, shape))


def _sides(op: Op, said: str, pads: Pair, side: int, stride: int, reach: int) -> Pair:
    match said:
        case "NOTSET" | "":
            return pads
        case "VALID":
            return 0, 0
        case "SAME_UPPER" | "SAME_LOWER":
            total = (-(-side // stride) - 1) * stride + reach - side
            if total < -1:
                op.refuse(
                    f"auto_pad {said!r}: of windows {stride - reach} pixels apart runtimes do not agree which they are"
                )
            total = max(total, 0)
            less, more = total // 2, total - total // 2
            return (less, more) if said == "SAME_UPPER" else (more, less)
        case _:
            return op.refuse(f"auto_pad {said!r} is not known")


def fitted(
    make: Callable[[Pair, Rounding], Windowed], shape: Shape, at: Place
) -> tuple[Windowed, dict[int, Pair]] | None:
    """A layer whose windows hold those of `at`, and what is to be cut out of its positions, by axis; None if none can.

    Where padding differs at both ends, a layer that is padded by whole strides more at the beginning has all positions
    that are wanted, and others.
    """
    tries = sorted(product(range(_STRIDES), range(_STRIDES), ("floor", "ceil")), key=lambda one: one[0] + one[1])
    spare = list[tuple[Windowed, dict[int, Pair]]]()
    for more_h, more_w, rounding in tries:
        first = (more_h, more_w)
        layer = make(_pair(at.start[i] + first[i] * at.stride[i] for i in (0, 1)), rounding)
        try:
            found = window(layer, shape).out
        except SpecError:
            continue
        if found == at.out and first == (0, 0):
            return layer, {}
        if all(found[i] >= first[i] + at.out[i] for i in (0, 1)):
            spare.append((layer, {2 + i: (first[i], first[i] + at.out[i]) for i in (0, 1)}))
    return spare[0] if spare else None


def divisors(at: Place, *, padding_counts: bool) -> Array:
    """By what ONNX divides the sum of each window: pixels, and padding where that counts; (H, W)."""
    sides = list[Array]()
    for i in (0, 1):
        begin = np.arange(at.out[i]) * at.stride[i] - at.before[i]
        side = at.image[i] + at.border[0][i] + at.border[1][i]
        low, high = (-at.before[i], side + at.after[i]) if padding_counts else (0, side)
        sides.append(np.minimum(begin + at.kernel[i], high) - np.maximum(begin, low))
    return np.outer(*sides)


def our_divisors(at: Window, shape: Shape) -> Array:
    """By what a `Pool` divides the sum of each window, (H, W); see `zoo.reference`."""
    sides = list[Array]()
    for i in (0, 1):
        begin = np.arange(at.out[i]) * at.stride[i]
        sides.append(np.minimum(begin + at.kernel[i], shape[1 + i] + 2 * at.before[i]) - begin)
    return np.outer(*sides)
