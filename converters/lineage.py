"""Where weights are from: the file, hashes, and what the file itself says of its origin."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from converters.weights import Array
from zoo.errors import FileFormatError
from zoo.wire.mapped import mapped
from zoo.wire.safetensors import read_metadata

_KEY = "lineage"


def lineage(path: Path, tensors: Mapping[str, Array]) -> dict[str, Any]:
    """What is kept of where weights are from.

    Args:
        path: their file.
        tensors: what was read from it, by canonical names.

    Returns:
        ``file``: its name; ``sha256``: of the numbers, by their names in order, whatever the format; ``lineage``: what
        a safetensors file says of its own origin, if it says anything.
    """
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(name.encode())
        total.update(np.ascontiguousarray(tensors[name]).data)
    told = said_lineage(path)
    return {"file": path.name, "sha256": total.hexdigest()} | ({_KEY: told} if told else {})


def said_lineage(path: Path) -> dict[str, Any] | None:
    """What a safetensors file says of its own origin; None where it says nothing, or is of another format.

    Raises:
        FileFormatError: it says what is no origin.
    """
    if path.suffix != ".safetensors":
        return None
    said = read_metadata(mapped(path)).get(_KEY)
    if said is None:
        return None
    try:
        told = json.loads(said)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(path, f"its metadata {_KEY!r} is no JSON: {error}") from error
    if not isinstance(told, dict):
        raise FileFormatError(path, f"its metadata {_KEY!r} is no JSON object")
    return told
