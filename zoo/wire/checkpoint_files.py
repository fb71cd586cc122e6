"""The names of the files of a TensorFlow checkpoint: an index, and the shards that hold the numbers."""

from __future__ import annotations

from pathlib import Path


def index_path(prefix: Path) -> Path:
    """``X.index`` of the checkpoint ``X``."""
    return prefix.parent / f"{prefix.name}.index"  # not with_name(), which a path without a name, as ".", has not


def shard_path(prefix: Path, shard: int, shards: int) -> Path:
    """``X.data-00000-of-00002`` of the checkpoint ``X``."""
    return prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}")
