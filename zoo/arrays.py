"""The type of an array whose numbers may be of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

# NumPy has no bfloat16: its bits, under its name. They are the upper half of a float32's.
BFLOAT16 = np.dtype([("bfloat16", "<u2")])


def unread(shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """What stands for an array of which shape and type alone are wanted: it takes no memory, and its numbers are 0."""
    return np.broadcast_to(np.zeros((), dtype), tuple(shape))
