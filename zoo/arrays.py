"""The type of an array whose numbers may be of any kind."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

# NumPy has no bfloat16: its bits, under its name. They are the upper half of a float32's.
BFLOAT16 = np.dtype([("bfloat16", "<u2")])
