"""Python's unpickler as it is written in Python, where each opcode is a method that can be left out or replaced.

It is private to the standard library, and has stood there under this name since Python 3.0: this is the one place that
relies on it. The unpickler written in C, which is public, cannot be kept from any opcode.
"""

from __future__ import annotations

import pickle
from typing import Any

PythonUnpickler: Any = vars(pickle)["_Unpickler"]
