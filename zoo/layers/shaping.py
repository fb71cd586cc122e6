"""The same numbers in another shape, or a part of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from zoo.layers.base import Named, Shape

__all__ = ["Concat", "Constant", "Crop", "Flatten", "Permute", "Reshape", "Shaping", "Shuffle", "Slice", "Tile"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Flatten(Named):
    """Axes ``axis`` to ``end_axis`` (inclusive) become one, in C, H, W order."""

    axis: int = 1
    end_axis: int = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class Concat(Named):
    """Inputs joined along ``axis``."""

    axis: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice(Named):
    """``x[start:stop]`` along ``axis``. A Caffe Slice with several tops is several of these."""

    start: int
    stop: int
    axis: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Reshape(Named):
    """Axes ``axis`` to ``axis + num_axes`` (-1: the last) become ``dims``, in C, H, W order.

    A dim of 0 copies the axis at its place, one of -1 takes what is left. With axis 0 the first dim may be any: the
    first axis is then as long as the others leave it. A negative ``axis`` counts from behind the
    last: -1 appends (BVLC caffe, ``reshape_layer.cpp``).
    """

    dims: tuple[int, ...]
    axis: int = 0
    num_axes: int = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class Permute(Named):
    """Axis i of the result is axis ``order[i]``; those not named follow in their own order. The batch stays first."""

    order: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile(Named):
    """The input ``tiles`` times one after the other along ``axis``: a b a b."""

    tiles: int
    axis: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Crop(Named):
    """The first input, cut to the size of the second from ``axis`` on, beginning at ``offsets``.

    No offset is 0, one serves every axis that is cut, otherwise there is one an axis.
    """

    axis: int = 2
    offsets: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Shuffle(Named):
    """Channels of ``groups`` equal groups by turns: ``y[j groups + i] = x[i C/groups + j]``."""

    groups: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Constant(Named):
    """Numbers that are there: ``value`` everywhere, or, where that is None, the parameter ``weight``.

    It reads nothing, and ``shape`` is all of it, the first axis included; or it reads an activation, only to have as
    many items as that, each of ``shape``.
    """

    shape: Shape
    value: float | None = None


Shaping: TypeAlias = Constant | Flatten | Concat | Slice | Reshape | Permute | Tile | Crop | Shuffle
