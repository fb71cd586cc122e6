"""Images to train on and to be judged by: folders of classes, or the digits that come with scikit-learn.

The order of the images, their crops and their colours depend on the seed and on the place in the run alone: the same
on any number of devices, with any number of workers, before and after a resumption.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from zoo.errors import FileFormatError, ZooError
from zoo.layers import ModelSpec, Pair, Preprocessing
from zoo.philox import generator
from zoo.preprocess import (
    FloatArray,
    RGBImage,
    canonical_input,
    centre_crop,
    crop,
    load_image,
    normalise,
    resize_short_side,
    ten_crop,
)
from zoo.recipe import Recipe, rates_at

Part: TypeAlias = Literal["train", "val"]
DIGITS = "digits"
_SUFFIXES = {".jpg", ".jpeg", ".png"}
_BROKEN_IN_A_ROW = 100
_COLOUR_IMAGES = 1000


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


@dataclass(frozen=True)
class FolderImages:
    """The images of ``DIR/<class>/*.jpg|png``; classes and files in the order of their names."""

    classes: tuple[str, ...]
    files: tuple[tuple[Path, int], ...]
    natural: bool = True

    def __len__(self) -> int:
        """How many files there are."""
        return len(self.files)

    def label(self, index: int) -> int:
        """The class of a file."""
        return self.files[index][1]

    def pixels(self, index: int) -> RGBImage:
        """A file, decoded."""
        return load_image(self.files[index][0])


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
    classes = tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir()))
    if not classes:
        raise ZooError(f"{folder}: no class folders; expected {folder}/<class>/*.jpg|png")
    files = list[tuple[Path, int]]()
    for label, name in enumerate(classes):
        found = sorted(path for path in (folder / name).iterdir() if path.suffix.lower() in _SUFFIXES)
        if not found:
            raise ZooError(f"{folder / name}: no .jpg or .png image of this class; remove the folder or fill it")
        files += [(path, label) for path in found]
    return FolderImages(classes, tuple(files))


def open_pair(data: str | Path) -> tuple[Images, Images]:
    """The training and the validation images; raises `ZooError` where their classes differ."""
    train, val = open_images(data, "train"), open_images(data, "val")
    if train.classes != val.classes:
        odd = sorted(set(train.classes) ^ set(val.classes))
        raise ZooError(f"{data}: train and val have different classes: {', '.join(odd[:5])}{' ...' * (len(odd) > 5)}")
    return train, val


def _digits(part: Part) -> DigitImages:
    from sklearn.datasets import load_digits  # noqa: PLC0415 - only the demonstration needs scikit-learn

    bunch = cast(Any, load_digits())
    held_out = np.arange(len(bunch.target)) % 5 == 0
    chosen = held_out if part == "val" else ~held_out
    pixels = np.minimum(bunch.images[chosen] * 16, 255).astype(np.uint8)  # 0..16
    return DigitImages(pixels, bunch.target[chosen].astype(np.int64))


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Images and labels; `broken` says what could not be read.

    Attributes:
        x: N x 3 x H x W float32; with ten (or five) crops, N x 10 x 3 x H x W.
        labels: N, int64; -1 where there is no image.
        broken: messages, one a file.
    """

    x: Tensor
    labels: Tensor
    broken: tuple[str, ...]


_Sample: TypeAlias = tuple[FloatArray, int, tuple[str, ...]]


class TrainingStream(Dataset[_Sample]):
    """An endless stream of augmented images: position p is number p of the run, from 0, whatever the epoch.

    A broken image is replaced by the next whole one of the data set, so that all devices agree without a word.
    """

    def __init__(self, images: Images, spec: ModelSpec, recipe: Recipe, seed: int) -> None:
        assert spec.preprocessing is not None
        self.images, self.spec, self.recipe, self.seed = images, spec, recipe, seed
        self.preprocessing: Preprocessing = spec.preprocessing
        self.size: Pair = (spec.inputs[0].shape[1], spec.inputs[0].shape[2])
        self.colours = principal_colours(images, self.preprocessing.resize) if self._recolours() else None

    def _recolours(self) -> bool:
        return self.images.natural and self.recipe.augmentation.colour_noise > 0

    def index(self, position: int) -> int:
        """Which image stands at a position: every epoch is a permutation of its own."""
        epoch, place = divmod(position, len(self.images))
        return int(_permutation(self.seed, epoch, len(self.images))[place])

    def __getitem__(self, position: int) -> _Sample:
        """The augmented image, its label, and the files that were broken on the way to it."""
        index, broken = self.index(position), list[str]()
        for _ in range(min(_BROKEN_IN_A_ROW, len(self.images))):
            try:
                pixels = self.images.pixels(index)
            except FileFormatError as error:
                broken.append(str(error))
                index = (index + 1) % len(self.images)
                continue
            return self._augmented(pixels, position), self.images.label(index), tuple(broken)
        return np.zeros((3, *self.size), np.float32), -1, tuple(broken)

    def _augmented(self, pixels: RGBImage, position: int) -> FloatArray:
        augmentation, side = self.recipe.augmentation, self.preprocessing.resize
        rng = generator(self.seed, "augment", position)
        across, down, mirror = rng.random(3)
        square = centre_crop(resize_short_side(pixels, side), (side, side))
        if augmentation.pad:
            square = np.pad(square, ((augmentation.pad,) * 2, (augmentation.pad,) * 2, (0, 0)))
        free = (square.shape[0] - self.size[0], square.shape[1] - self.size[1])
        window = crop(square, int(down * (free[0] + 1)), int(across * (free[1] + 1)), self.size)
        if augmentation.flip and self.images.natural and mirror < 0.5:
            window = window[:, ::-1]
        x_CHW = normalise(window, self.preprocessing)
        if self.colours is not None and self._recolours_at(position // len(self.images)):
            shift = self.colours @ (rng.standard_normal(3) * augmentation.colour_noise)
            x_CHW += self._in_network_units(shift)
            if augmentation.noise_divides:
                x_CHW /= np.float32(1 + augmentation.colour_noise)
        return x_CHW

    def _recolours_at(self, epoch: int) -> bool:
        return rates_at(self.recipe, self.spec, step=0, steps=1, epoch=epoch, drops=0).colour_noise

    def _in_network_units(self, rgb: NDArray[np.float64]) -> FloatArray:
        ordered = rgb[::-1] if self.preprocessing.channels == "BGR" else rgb
        scaled = ordered * self.preprocessing.scale / np.asarray(self.preprocessing.std)
        return scaled.astype(np.float32).reshape(3, 1, 1)


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return generator(seed, "order", epoch).permutation(count)


def principal_colours(images: Images, side: int) -> NDArray[np.float64]:
    """The principal components of the pixels' RGB values, each as long as its standard deviation (paper, s4.1).

    From a thousand images spread over the training set and every fourth pixel each way; 3 x 3, a column a component.
    Broken images are passed over here, and named when the training comes to them.
    """
    total, moment, count = np.zeros(3), np.zeros((3, 3)), 0
    for index in range(0, len(images), max(1, len(images) // _COLOUR_IMAGES)):
        try:
            pixels = resize_short_side(images.pixels(index), side)[::4, ::4].reshape(-1, 3).astype(np.float64)
        except FileFormatError:
            continue
        total, moment, count = total + pixels.sum(0), moment + pixels.T @ pixels, count + len(pixels)
    if not count:
        return np.zeros((3, 3))
    mean = total / count
    values, vectors = np.linalg.eigh(moment / count - np.outer(mean, mean))
    return vectors * np.sqrt(np.maximum(values, 0.0))


class ValidationImages(Dataset[_Sample]):
    """Every image once, prepared as the network's preprocessing says, or in ten crops; label -1 where it is broken.

    Images whose mirror image means something else have five crops: the ten without the mirrored ones.
    """

    def __init__(self, images: Images, spec: ModelSpec, *, crops: bool = False) -> None:
        self.images, self.spec, self.crops = images, spec, crops

    def __getitem__(self, index: int) -> _Sample:
        """The prepared image, its label, and a message if it is broken."""
        views = 10 if self.images.natural else 5
        try:
            pixels = self.images.pixels(index)
        except FileFormatError as error:
            shape = self.spec.inputs[0].shape
            return np.zeros((views, *shape) if self.crops else shape, np.float32), -1, (str(error),)
        x = ten_crop(pixels, self.spec)[:views] if self.crops else canonical_input(pixels, self.spec)
        return x, self.images.label(index), ()


def batches(dataset: Dataset[_Sample], places: Iterable[range], workers: int) -> Iterator[Batch]:
    """Batches of the images at given places, read ahead by worker processes (0: by this one).

    Raises:
        ZooError: a worker died.
    """
    loader = cast(
        "Iterable[Batch]",
        DataLoader(
            dataset,
            batch_sampler=cast(Any, places),
            num_workers=workers,
            collate_fn=_collate,
            worker_init_fn=_ignore_interrupts if workers else None,
        ),
    )
    try:
        yield from loader
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise ZooError(f"a process that reads images died ({str(error).splitlines()[0]})") from error


def _collate(samples: list[_Sample]) -> Batch:
    return Batch(
        x=torch.from_numpy(np.stack([x for x, _, _ in samples])),
        labels=torch.tensor([label for _, label, _ in samples]),
        broken=tuple(message for _, _, broken in samples for message in broken),
    )


def _ignore_interrupts(worker: int) -> None:
    # Ctrl-C reaches the whole process group; the main process decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
