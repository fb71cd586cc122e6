"""The names of the files of a TensorFlow checkpoint: an index, and the shards that hold the numbers."""

from __future__ import annotations

import re
from pathlib import Path

_OTHERS = re.compile(r"\.(meta|data-\d{5}-of-\d{5})$")
# How the text in a folder begins that says which of its checkpoints was written last (CheckpointState).
_STATE = b"model_checkpoint_path"
# What holds the graph of a SavedModel, in its folder.
SAVED_GRAPH = "saved_model.pb"


# CheckpointState, in protobuf's text form: which checkpoint of the folder was written last.
_LAST = re.compile(r'^model_checkpoint_path: *"([^"\n]+)"', re.MULTILINE)
_MAX_STATE = 1 << 16


def index_path(prefix: Path) -> Path:
    """``X.index`` of the checkpoint ``X``."""
    return prefix.parent / f"{prefix.name}.index"  # not with_name(), which a path without a name, as ".", has not


def shard_path(prefix: Path, shard: int, shards: int) -> Path:
    """``X.data-00000-of-00002`` of the checkpoint ``X``."""
    return prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}")


def checkpoint_in(folder: Path) -> Path | None:
    """The checkpoint that a folder is about, if any: a SavedModel's, the last that ``checkpoint`` names, the one."""
    if index_path(variables := folder / "variables" / "variables").is_file():
        return variables
    if (folder / "checkpoint").is_file():
        with (folder / "checkpoint").open(encoding="utf-8", errors="replace") as file:
            found = _LAST.search(file.read(_MAX_STATE))
        # A file name alone: the folder may have been moved, and nothing outside it is read.
        return folder / Path(found[1]).name if found else folder / "checkpoint"
    found = [*folder.glob("*.index")]
    return found[0].with_suffix("") if len(found) == 1 else None


def saved_model_of(path: Path) -> Path | None:
    """The folder of the SavedModel that somebody means, by it or by the file of its graph; None of anything else."""
    folder = path if path.is_dir() else path.parent
    is_meant = (path.is_dir() or path.name == SAVED_GRAPH) and (folder / SAVED_GRAPH).is_file()
    return folder if is_meant else None


def checkpoint_of(path: Path) -> Path:
    """The checkpoint, or the folder of it, that somebody means who names another of its files; else the path itself."""
    prefix = path.with_name(_OTHERS.sub("", path.name)) if path.name else path
    if prefix != path and index_path(prefix).is_file():
        return prefix
    if path.is_file() and (folder := saved_model_of(path)):
        return folder
    if path.name == "checkpoint" and path.is_file():
        with path.open("rb") as file:
            return path.parent if file.read(len(_STATE)) == _STATE else path
    return path
