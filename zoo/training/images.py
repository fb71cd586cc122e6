"""Sets of labelled images: folders of classes, and the digits that come with scikit-learn.

A set of a million files is a few arrays: a worker process that looks an image up writes to no page that it shares.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ZooError
from zoo.preprocess import RGBImage, load_image

Part: TypeAlias = Literal["train", "val"]
DIGITS = "digits"
_SUFFIXES = (".jpg", ".jpeg", ".png")


class Images(Protocol):
    """Labelled images."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels, in order."""
        ...

    @property
    def natural(self) -> bool:
        """Whether a mirrored or recoloured image is still one of its class (digits are not)."""
        ...

    def __len__(self) -> int:
        """How many images there are."""
        ...

    def label(self, index: int) -> int:
        """The class of an image."""
        ...

    def pixels(self, index: int) -> RGBImage:
        """An image, (H, W, 3); raises `FileFormatError` if it is broken."""
        ...

    def digests(self) -> tuple[str, str]:
        """What tells one set from another without reading it: a hash of all names, and one of all sizes."""
        ...


@dataclass(frozen=True)
class FolderImages:
    """The images of ``DIR/<class>/*.jpg|png``; classes and files in the order of their names.

    Attributes:
        folder: DIR.
        classes: the names of the folders.
        labels: of every image.
        names: of all files, one after the other, as the file system has them.
        ends: where each name ends.
        sizes: of the files, in bytes.
    """

    folder: Path
    classes: tuple[str, ...]
    labels: NDArray[np.int32]
    names: NDArray[np.uint8]
    ends: NDArray[np.int64]
    sizes: NDArray[np.int64]
    natural: bool = True

    def __len__(self) -> int:
        """How many files there are."""
        return len(self.labels)

    def label(self, index: int) -> int:
        """The class of a file."""
        return int(self.labels[index])

    def path(self, index: int) -> Path:
        """Where a file lies."""
        begin = self.ends[index - 1] if index else 0
        name = os.fsdecode(self.names[begin : self.ends[index]].tobytes())
        return self.folder / self.classes[self.labels[index]] / name

    def pixels(self, index: int) -> RGBImage:
        """A file, decoded."""
        return load_image(self.path(index))

    def digests(self) -> tuple[str, str]:
        """Hashes of the names and of the sizes."""
        return _digest(self.names, self.ends, self.labels), _digest(self.sizes)


@dataclass(frozen=True)
class DigitImages:
    """The 1797 handwritten digits of 8 x 8 pixels bundled with scikit-learn (UCI, Alpaydin and Kaynak 1998)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...] = tuple("0123456789")
    natural: bool = False

    def __len__(self) -> int:
        """How many digits there are."""
        return len(self.labels)

    def label(self, index: int) -> int:
        """The digit."""
        return int(self.labels[index])

    def pixels(self, index: int) -> RGBImage:
        """The 8 x 8 pixels in grey, as RGB."""
        return np.repeat(self.images[index][..., None], 3, axis=2)

    def digests(self) -> tuple[str, str]:
        """Of the labels, and of the pixels themselves."""
        return _digest(self.labels), _digest(self.images)


def _digest(*arrays: NDArray[Any]) -> str:
    total = hashlib.sha256()
    for array in arrays:
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()[:16]


def open_images(data: str | Path, part: Part) -> Images:
    """The training or validation images of a folder, or of the built-in set called ``digits``.

    Raises:
        ZooError: no such folder, no class folders, or a class without images; the message names the folder.
    """
    root = Path(data)
    if str(data) == DIGITS and not root.exists():
        return _digits(part)
    return open_folder(root / part, sure=root)


def open_folder(folder: Path, sure: Path | None = None) -> FolderImages:
    """The images of ``folder/<class>/*.jpg|png``; `sure` is what the user named, for messages."""
    if not folder.is_dir():
        raise ZooError(
            f"{sure or folder}: no {folder.name} folder; expected {folder}/<class>/*.jpg|png (or the word {DIGITS})"
        )
    classes = tuple(sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()))
    if not classes:
        raise ZooError(f"{folder}: no class folders; expected {folder}/<class>/*.jpg|png")
    names, ends, sizes, labels = bytearray(), list[NDArray[np.int64]](), list[NDArray[np.int64]](), list[int]()
    for name in classes:
        found = sorted(_files(folder / name))
        if not found:
            raise ZooError(f"{folder / name}: no .jpg or .png image of this class; remove the folder or fill it")
        ends.append(len(names) + np.cumsum([len(file) for file, _ in found]))
        sizes.append(np.array([size for _, size in found], np.int64))
        labels.append(len(found))
        names += b"".join(file for file, _ in found)
    return FolderImages(
        folder=folder,
        classes=classes,
        labels=np.repeat(np.arange(len(classes), dtype=np.int32), labels),
        names=np.frombuffer(bytes(names), np.uint8),
        ends=np.concatenate(ends),
        sizes=np.concatenate(sizes),
    )


def _files(folder: Path) -> Iterator[tuple[bytes, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.lower().endswith(_SUFFIXES):
                yield os.fsencode(entry.name), _size(entry)


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:  # a link to nothing; it is named as a broken image when its turn comes
        return -1


def open_pair(data: str | Path) -> tuple[Images, Images]:
    """The training and the validation images; raises `ZooError` where their classes differ."""
    train, val = open_images(data, "train"), open_images(data, "val")
    if train.classes != val.classes:
        odd = sorted(set(train.classes) ^ set(val.classes))
        raise ZooError(f"{data}: train and val have different classes: {', '.join(odd[:5])}{' ...' * (len(odd) > 5)}")
    return train, val


def _digits(part: Part) -> DigitImages:
    from sklearn.datasets import load_digits  # noqa: PLC0415 - only the demonstration needs scikit-learn

    pixels, target = cast("tuple[NDArray[np.float64], NDArray[np.int64]]", load_digits(return_X_y=True))
    held_out = np.arange(len(target)) % 5 == 0
    chosen = held_out if part == "val" else ~held_out
    images = np.minimum(pixels[chosen].reshape(-1, 8, 8) * 16, 255).astype(np.uint8)  # 0..16
    return DigitImages(images, target[chosen].astype(np.int64))


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
