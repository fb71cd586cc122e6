"""Variables that TensorFlow's partitioners have cut: where the pieces belong, and the whole of them.

Format: TensorFlow ``core/framework/tensor_slice.proto``, ``core/lib/strings/ordered_code.cc``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from zoo.arrays import Array
from zoo.wire.protobuf import Value, fields, signed

# Of each axis, where a piece begins and how long it is; nothing is the whole axis.
Place: TypeAlias = tuple[tuple[int, int | None], ...]


def place(value: Value) -> Place:
    """A ``TensorSliceProto``."""
    axes = list[tuple[int, int | None]]()
    for number, _, extent in fields(value) if not isinstance(value, int) else ():
        if number == 1 and not isinstance(extent, int):
            said = {number: signed(item) for number, _, item in fields(extent) if isinstance(item, int)}
            axes.append((said.get(1, 0), said.get(2)))
    return tuple(axes)


def variable_of(key: bytes) -> str:
    """The variable's name in the key of one of its pieces; such keys stand in the order of the pieces' places."""
    name, end, _ = key[1:].partition(b"\0\1")
    if not end:
        raise ValueError("a slice of no variable")
    return name.replace(b"\0\xff", b"\0").replace(b"\xff\0", b"\xff").decode()


def joined(name: str, shape: tuple[int, ...], places: Sequence[Place], arrays: Sequence[Array]) -> Array:
    """A variable of its pieces, which are in the order of their places.

    Raises:
        ValueError: they do not make it up, one after the other along one axis.
    """
    problem = ValueError(f"the {len(arrays)} slices of {name} do not make up its shape {shape}")
    if not shape or len(places) != len(arrays) or any(len(axes) != len(shape) for axes in places):
        raise problem
    spans = [
        [(start, size if length is None else length) for (start, length), size in zip(axes, shape, strict=True)]
        for axes in places
    ]
    if any(tuple(length for _, length in span) != array.shape for span, array in zip(spans, arrays, strict=True)):
        raise problem
    cut = [i for i, size in enumerate(shape) if any(span[i] != (0, size) for span in spans)] or [0]
    ends = np.cumsum([0, *(span[cut[0]][1] for span in spans)]).tolist()
    if len(cut) > 1 or ends != [*(span[cut[0]][0] for span in spans), shape[cut[0]]]:
        raise problem
    return np.concatenate(arrays, cut[0])
