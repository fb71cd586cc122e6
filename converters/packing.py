"""`zoo pack`: a folder of images, or a data set with its parts, as shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from tqdm import tqdm

from zoo.errors import ZooError, shown
from zoo.training.datasets import open_folder
from zoo.training.images import FolderImages, OnBroken
from zoo.training.shards import INDEX, Packed, pack
from zoo.wire.atomic import check_target, publish_folder, staging

_PARTS = ("train", "val")


def pack_folder(
    data: Path, target: Path, *, side: int, on_broken: OnBroken = "stop", force: bool = False
) -> dict[Path, Packed]:
    """Pack ``DIR/train`` and ``DIR/val``, or ``DIR`` where it has no such parts; folder of shards -> what is in it.

    Raises:
        ZooError: there are no images, one is broken, or the target cannot be written; nothing is left then.
    """
    check_target(target, force=force, folder=True)
    if target.is_dir() and (odd := [path.name for path in target.iterdir() if not _is_packed(path)]):
        raise ZooError(f"{target}: is a folder of other things than shards ({odd[0]}), which is never replaced")
    if not data.is_dir():
        raise ZooError(f"{data}: no such folder; expected {data}/train/<class>/*.jpg|png, or {data}/<class>/*.jpg|png")
    parts = [Path(part) for part in _PARTS if (data / part).is_dir()] or [Path()]
    sources = {part: open_folder(data / part) for part in parts}
    written = dict[Path, Packed]()
    with staging(target) as folder:
        for part, images in sources.items():
            if not isinstance(images, FolderImages):
                raise ZooError(f"{data / part}: holds shards already; give the folder that they were made of")
            place = folder / target.name / part
            place.mkdir(parents=True)
            with cast(Any, tqdm)(total=len(images), desc=shown(str(data / part)), unit="image", mininterval=0.5) as bar:
                written[target / part] = pack(images, place, side=side, on_broken=on_broken, done=bar.update)
        publish_folder(folder / target.name, target, force=force)
    return written


def _is_packed(path: Path) -> bool:
    """Whether a name is one that `pack_folder` writes: a shard, an index, or a part that has one."""
    return path.match("shard-*.tar") or path.name == INDEX or (path.name in _PARTS and (path / INDEX).is_file())
