"""Sets of labelled images: folders of classes, and the digits that come with scikit-learn.

A set of a million files is a few arrays: a worker process that looks an image up writes to no page that it shares.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from zoo.errors import FileFormatError, ZooError
from zoo.preprocess import RGBImage, load_image, resize_short_side

Part: TypeAlias = Literal["train", "val"]
OnBroken: TypeAlias = Literal["skip", "stop"]
# Names, as the file system has them, and sizes in bytes.
Files: TypeAlias = list[tuple[bytes, int]]
DIGITS = "digits"
_NONE: NDArray[Any] = np.zeros(0, np.int64)
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

    @property
    def side(self) -> int | None:
        """What the shorter side of larger images was reduced to beforehand; None: they are as they came."""
        ...

    def __len__(self) -> int:
        """How many images there are."""
        ...

    def label(self, index: int) -> int:
        """The class of an image."""
        ...

    def name(self, index: int) -> str:
        """What an image is called in messages."""
        ...

    def pixels(self, index: int) -> RGBImage:
        """An image, (H, W, 3); raises `FileFormatError` if it is broken."""
        ...

    def digests(self) -> tuple[str, str]:
        """What tells one set from another without reading it: a hash of names and labels, and one of sizes."""
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
        flat: the files of all classes lie in DIR itself.
    """

    folder: Path
    classes: tuple[str, ...]
    labels: NDArray[np.int32]
    names: NDArray[np.uint8]
    ends: NDArray[np.int64]
    sizes: NDArray[np.int64]
    flat: bool = False
    natural: bool = True
    side: None = None

    @staticmethod
    def of(
        folder: Path,
        classes: tuple[str, ...],
        groups: Iterable[tuple[Files, NDArray[np.int32]]],
        *,
        flat: bool = False,
    ) -> FolderImages:
        """The images of groups of files and their labels."""
        names, lengths, sizes, labels = bytearray(), [_NONE], [_NONE], [_NONE]
        for files, own in groups:
            lengths.append(np.array([len(name) for name, _ in files]))
            sizes.append(np.array([size for _, size in files]))
            labels.append(own)
            names += b"".join(name for name, _ in files)
        return FolderImages(
            folder=folder,
            classes=classes,
            labels=np.concatenate(labels, dtype=np.int32),
            names=np.frombuffer(bytes(names), np.uint8),
            ends=np.cumsum(np.concatenate(lengths)),
            sizes=np.concatenate(sizes),
            flat=flat,
        )

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
        return self.folder / name if self.flat else self.folder / self.classes[self.labels[index]] / name

    def name(self, index: int) -> str:
        """Where a file lies."""
        return str(self.path(index))

    def pixels(self, index: int) -> RGBImage:
        """A file, decoded."""
        return load_image(self.path(index))

    def digests(self) -> tuple[str, str]:
        """Hashes of the names and of the sizes."""
        return digest(self.names, self.ends, self.labels), digest(self.sizes)


@dataclass(frozen=True)
class DigitImages:
    """The 1797 handwritten digits of 8 x 8 pixels bundled with scikit-learn (UCI, Alpaydin and Kaynak 1998)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...] = tuple("0123456789")
    natural: bool = False
    side: None = None

    def __len__(self) -> int:
        """How many digits there are."""
        return len(self.labels)

    def label(self, index: int) -> int:
        """The digit."""
        return int(self.labels[index])

    def name(self, index: int) -> str:
        """Its number."""
        return f"{DIGITS} {index}"

    def pixels(self, index: int) -> RGBImage:
        """The 8 x 8 pixels in grey, as RGB."""
        return np.repeat(self.images[index][..., None], 3, axis=2)

    def digests(self) -> tuple[str, str]:
        """Of the labels, and of the pixels themselves."""
        return digest(self.labels), digest(self.images)


def digest(*arrays: NDArray[Any]) -> str:
    """A short hash of the bytes of arrays."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()[:16]


def resized(images: Images, index: int, side: int) -> RGBImage:
    """An image with its shorter side `side` pixels long; raises `FileFormatError` if it is broken, or far too long."""
    pixels = images.pixels(index)
    try:
        return resize_short_side(pixels, side)
    except ZooError as error:
        raise FileFormatError(images.name(index), str(error)) from error


def check_broken(messages: Sequence[str], on_broken: OnBroken) -> None:
    """Stop at a broken image, where that was asked for."""
    if messages and on_broken == "stop":
        raise ZooError(f"{messages[0]} (--on-broken-image skip goes on without it)")


def open_classes(folder: Path) -> FolderImages:
    """The images of ``folder/<class>/*.jpg|png``.

    Raises:
        ZooError: no class folders, or a class without images; the message names the folder.
    """
    classes = tuple(sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()))
    if not classes:
        raise ZooError(f"{folder}: no class folders; expected {folder}/<class>/*.jpg|png")

    def of_class(label: int, name: str) -> tuple[Files, NDArray[np.int32]]:
        files = image_files(folder / name)
        if not files:
            raise ZooError(f"{folder / name}: no .jpg or .png image of this class; remove the folder or fill it")
        return files, np.full(len(files), label, np.int32)

    return FolderImages.of(folder, classes, (of_class(label, name) for label, name in enumerate(classes)))


def image_files(folder: Path) -> Files:
    """Names and sizes of the image files of a folder, in the order of their names."""
    with os.scandir(folder) as entries:
        return sorted((os.fsencode(e.name), _size(e)) for e in entries if e.name.lower().endswith(_SUFFIXES))


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:  # a link to nothing; it is named as a broken image when its turn comes
        return -1


def open_digits(part: Part) -> DigitImages:
    """Every fifth digit to judge by, the others to learn from."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - only the demonstration needs scikit-learn

    bunch = cast(Any, load_digits())
    held_out = np.arange(len(bunch.target)) % 5 == 0
    chosen = held_out if part == "val" else ~held_out
    pixels = np.minimum(bunch.images[chosen] * 16, 255).astype(np.uint8)  # 0..16
    return DigitImages(pixels, bunch.target[chosen].astype(np.int64))
