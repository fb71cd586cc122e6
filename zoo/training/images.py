"""Sets of labelled images: folders of classes, and the digits that come with scikit-learn.

A set of a million files is a few arrays: a worker process that looks an image up writes to no page that it shares.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zoo.errors import FileFormatError, ZooError
from zoo.preprocess import RGBImage, load_image, resize_short_side

Part: TypeAlias = Literal["train", "val"]
OnBroken: TypeAlias = Literal["skip", "stop"]
# As the file system has them.
Names: TypeAlias = list[bytes]
DIGITS = "digits"
_SUFFIXES = (".jpg", ".jpeg", ".png")
_STATS_AT_ONCE, _STATS_A_TASK = 16, 4096


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
        flat: the files of all classes lie in DIR itself.
    """

    folder: Path
    classes: tuple[str, ...]
    labels: NDArray[np.int32]
    names: NDArray[np.uint8]
    ends: NDArray[np.int64]
    flat: bool = False
    natural: bool = True
    side: None = None

    @staticmethod
    def of(
        folder: Path,
        classes: tuple[str, ...],
        groups: Iterable[tuple[Names, NDArray[np.int32]]],
        *,
        flat: bool = False,
    ) -> FolderImages:
        """The images of groups of files and their labels."""
        names, lengths, labels = bytearray(), [np.zeros(0, np.int64)], [np.zeros(0, np.int32)]
        for files, own in groups:
            lengths.append(np.array(list(map(len, files))))
            labels.append(own)
            names += b"".join(files)
        ends = np.cumsum(np.concatenate(lengths))
        chars = np.frombuffer(bytes(names), np.uint8)
        return FolderImages(folder, classes, labels=np.concatenate(labels), names=chars, ends=ends, flat=flat)

    def __len__(self) -> int:
        """How many files there are."""
        return len(self.labels)

    def label(self, index: int) -> int:
        """The class of a file."""
        return int(self.labels[index])

    def name(self, index: int) -> str:
        """Where a file lies."""
        begin = self.ends[index - 1] if index else 0
        name = os.fsdecode(self.names[begin : self.ends[index]].tobytes())
        return f"{self.folder}/{name}" if self.flat else f"{self.folder}/{self.classes[self.labels[index]]}/{name}"

    def path(self, index: int) -> Path:
        """Where a file lies."""
        return Path(self.name(index))

    def pixels(self, index: int) -> RGBImage:
        """A file, decoded."""
        return load_image(self.path(index))

    def digests(self) -> tuple[str, str]:
        """Hashes of the names and of the sizes."""
        return digest(self.names, self.ends, self.labels), digest(self.sizes)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Of the files, in bytes: asked for when a checkpoint is written or read, since it takes as long as listing."""
        parts = [range(i, min(i + _STATS_A_TASK, len(self))) for i in range(0, len(self), _STATS_A_TASK)]
        with ThreadPoolExecutor(_STATS_AT_ONCE) as pool:  # of which most wait, if the files lie behind a network
            return np.concatenate(list(pool.map(lambda part: [_size(self.name(i)) for i in part], parts)))


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
    # A link to nothing is a class that is not there, no file: it is named when its images are looked for.
    classes = tuple(sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() or not entry.is_file()))
    if not classes:
        raise ZooError(f"{folder}: no class folders; expected {folder}/<class>/*.jpg|png")

    def of_class(label: int, name: str) -> tuple[Names, NDArray[np.int32]]:
        files = image_files(folder / name)
        if not files:
            raise ZooError(f"{folder / name}: no .jpg or .png image of this class; remove the folder or fill it")
        return files, np.full(len(files), label, np.int32)

    return FolderImages.of(folder, classes, (of_class(label, name) for label, name in enumerate(classes)))


def image_files(folder: Path) -> Names:
    """The image files of a folder, in the order of their names."""
    with os.scandir(folder) as entries:
        return sorted(os.fsencode(entry.name) for entry in entries if entry.name.lower().endswith(_SUFFIXES))


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - a Path for each of a million takes longer than the answer
    except OSError:  # a link to nothing; it is named as a broken image when its turn comes
        return -1


def sample_data() -> Path:
    """Where scikit-learn keeps its data sets. It is not imported: that takes seconds, and most of SciPy.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
    """
    found = find_spec("sklearn")
    if found is None or not found.origin:
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")
    return Path(found.origin).parent / "datasets"


def open_digits(part: Part) -> DigitImages:
    """Every fifth digit to judge by, the others to learn from."""
    table = np.loadtxt(sample_data() / "data" / "digits.csv.gz", delimiter=",", dtype=np.uint8)
    pixels, target = table[:, :-1], table[:, -1]
    held_out = np.arange(len(target)) % 5 == 0
    chosen = held_out if part == "val" else ~held_out
    images = np.minimum(pixels[chosen].reshape(-1, 8, 8) * np.uint16(16), 255).astype(np.uint8)  # 0..16
    return DigitImages(images, target[chosen].astype(np.int64))
