"""What lies under a name given as ``--data``: folders of classes, shards, ILSVRC's validation images, or the digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zoo.errors import ZooError
from zoo.layers import ModelSpec
from zoo.training.ilsvrc import is_validation, open_validation
from zoo.training.images import DIGITS, Images, Part, open_classes, open_digits
from zoo.training.shards import INDEX, open_shards


def open_images(data: str | Path, part: Part) -> Images:
    """The training or validation images of a folder, or of the built-in set called ``digits``.

    Raises:
        ZooError: no such folder, or nothing in it that is read; the message names the folder.
    """
    root = Path(data)
    if str(data) == DIGITS and not root.exists():
        return open_digits(part)
    if not (root / part).is_dir():
        raise ZooError(f"{root}: no {part} folder; expected {root / part}/<class>/*.jpg|png (or the word {DIGITS})")
    return open_folder(root / part)


def open_folder(folder: Path) -> Images:
    """The images of one folder: shards, ILSVRC's validation images, or a folder a class.

    Raises:
        ZooError: it holds none of these.
    """
    if (folder / INDEX).exists():
        return open_shards(folder)
    if any(folder.glob("*.tar")):
        raise ZooError(f"{folder}: shards without their {INDEX}; copy it beside them, or pack the images by zoo pack")
    return open_validation(folder) if is_validation(folder) else open_classes(folder)


def open_to_judge(data: str | Path) -> Images:
    """The validation images of a set, or the images of a folder that has no such part."""
    split = str(data) == DIGITS or (Path(data) / "val").is_dir()
    if not split and not Path(data).is_dir():
        raise ZooError(f"{data}: no such folder; expected {data}/<class>/*.jpg|png (or the word {DIGITS})")
    return open_images(data, "val") if split else open_folder(Path(data))


def open_pair(data: str | Path) -> tuple[Images, Images]:
    """The training and the validation images; raises `ZooError` where their classes differ."""
    train, val = open_images(data, "train"), open_images(data, "val")
    if train.classes != val.classes:
        odd = sorted(set(train.classes) ^ set(val.classes))
        raise ZooError(f"{data}: train and val have different classes: {', '.join(odd[:5])}{' ...' * (len(odd) > 5)}")
    return train, val


def check_size(images: Images, spec: ModelSpec) -> None:
    """Refuse images that were made smaller than the network wants them."""
    wanted = spec.preprocessing.resize if spec.preprocessing else 0
    if images.side is not None and images.side < wanted:
        raise ZooError(
            f"the images were packed with a shorter side of {images.side}, {spec.name} wants {wanted}; "
            f"pack them again with --side {wanted}"
        )


def fingerprint(train: Images, val: Images) -> dict[str, Any]:
    """What a data set is known by, as plain data: its classes, and how many images of which names and sizes it has."""
    (train_names, train_sizes), (val_names, val_sizes) = train.digests(), val.digests()
    return {
        "classes": list(train.classes),
        "training images": len(train),
        "validation images": len(val),
        "names of the files": f"{train_names} {val_names}",
        "sizes of the files": f"{train_sizes} {val_sizes}",
    }
