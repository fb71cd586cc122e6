"""A model's folder as Hugging Face's libraries save it: one file of weights, or several, and an index that lists them.

The index is JSON: its ``weight_map`` leads from each tensor to the file it lies in (huggingface_hub
``serialization/_base.py``).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from zoo.errors import FileFormatError

# What a folder is loaded by: the first of these that is there.
_FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_MAX_INDEX = 1 << 24


def weights_of(path: Path) -> Path:
    """The file that a model's folder is loaded by; any other path as it is."""
    return next((path / name for name in _FILES if (path / name).is_file()), path) if path.is_dir() else path


def parts_of(path: Path) -> dict[Path, list[str]]:
    """The files that an index lists, each with its tensors; nothing where a file is no index.

    Raises:
        FileFormatError: one of them is not there, or lies in another folder.
    """
    parts = dict[Path, list[str]]()
    for tensor, name in _weight_map(path).items():
        if not isinstance(name, str):
            raise FileFormatError(path, "lists several files of one tensor, as Keras does; save the weights whole")
        if Path(name).name != name or not (path.parent / name).is_file():
            raise FileFormatError(path, f"lists {name[:80]!r}, expected a file in the same folder")
        parts.setdefault(path.parent / name, []).append(tensor)
    return parts


def _weight_map(path: Path) -> dict[str, object]:
    with path.open("rb") as file:
        text = file.read(_MAX_INDEX) if file.read(1) == b"{" else b""
    if b'"weight_map"' not in text:
        return {}
    try:
        index = json.loads(b"{" + text)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(path, "no sound index of weights: it is no JSON") from error
    found = cast("dict[str, Any]", index).get("weight_map")
    return cast("dict[str, object]", found) if isinstance(found, dict) else {}
