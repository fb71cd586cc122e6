"""Images as training and validation read them: in order, cropped, in batches.

The order of the images, their crops and their colours depend on the seed and on the place in the run alone: the same
on any number of devices, with any number of workers, before and after a resumption. Pixels travel as they are, a byte
each; where the network lies they are put into its units.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeAlias, cast

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from zoo.errors import FileFormatError, ZooError, said
from zoo.layers import ModelSpec, Pair, Preprocessing
from zoo.philox import generator
from zoo.preprocess import FloatArray, RGBImage, centre_crop, crop, ten_crop_pixels
from zoo.recipe import Recipe, rates_at
from zoo.training.images import Images, resized

_BROKEN_IN_A_ROW = 100
_COLOUR_IMAGES = 1000


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Images and labels; `broken` says what could not be read.

    Attributes:
        pixels: N x H x W x 3, RGB, uint8; with ten (or five) crops, N x 10 x H x W x 3.
        colour: N x 4 float32: what is added to the network's three channels, in its units, and what all is divided by;
            None where colours do not vary.
        labels: N, int64; -1 where there is no image.
        broken: messages, one a file.
    """

    pixels: Tensor
    colour: Tensor | None
    labels: Tensor
    broken: tuple[str, ...]

    def inputs(self, preprocessing: Preprocessing, device: torch.device) -> Tensor:
        """What the network reads, on its device: (N x views) x 3 x H x W float32, channels last.

        On the CPU, bit for bit what `zoo.preprocess.normalise` makes of each image.
        """
        here = self.to(device)
        pixels = here.pixels.flatten(0, -4)
        ordered = pixels.flip(-1) if preprocessing.channels == "BGR" else pixels
        x_NCHW = ordered.permute(0, 3, 1, 2).to(torch.float32)
        if preprocessing.scale != 1.0:
            x_NCHW *= preprocessing.scale
        x_NCHW -= _per_channel(preprocessing.mean, device)
        if preprocessing.std != (1.0, 1.0, 1.0):
            x_NCHW /= _per_channel(preprocessing.std, device)
        if here.colour is not None:
            colour = here.colour[..., None, None]
            x_NCHW += colour[:, :3]
            x_NCHW /= colour[:, 3:]
        return x_NCHW

    def to(self, device: torch.device) -> Batch:
        """The same on a device; from pinned memory, nobody waits for it."""
        colour = None if self.colour is None else self.colour.to(device, non_blocking=True)
        pixels, labels = (x.to(device, non_blocking=True) for x in (self.pixels, self.labels))
        return replace(self, pixels=pixels, colour=colour, labels=labels)

    def pin_memory(self) -> Batch:
        """The same in memory from which a GPU copies by itself; torch's loader calls it."""
        colour = None if self.colour is None else self.colour.pin_memory()
        return replace(self, pixels=self.pixels.pin_memory(), colour=colour, labels=self.labels.pin_memory())


def _per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device).reshape(-1, 1, 1)


# Pixels, what becomes of their colours, the label, and messages.
_Sample: TypeAlias = tuple[RGBImage, FloatArray | None, int, tuple[str, ...]]


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
                pixels = resized(self.images, index, self.preprocessing.resize)
            except FileFormatError as error:
                broken.append(str(error))
                index = (index + 1) % len(self.images)
                continue
            return *self._augmented(pixels, position), self.images.label(index), tuple(broken)
        nothing = None if self.colours is None else np.array([0, 0, 0, 1], np.float32)
        return np.zeros((*self.size, 3), np.uint8), nothing, -1, tuple(broken)

    def _augmented(self, pixels: RGBImage, position: int) -> tuple[RGBImage, FloatArray | None]:
        augmentation, side = self.recipe.augmentation, self.preprocessing.resize
        rng = generator(self.seed, "augment", position)
        across, down, mirror = rng.random(3)
        square = centre_crop(pixels, (side, side))
        if augmentation.pad:
            square = np.pad(square, ((augmentation.pad,) * 2, (augmentation.pad,) * 2, (0, 0)))
        free = (square.shape[0] - self.size[0], square.shape[1] - self.size[1])
        window = crop(square, int(down * (free[0] + 1)), int(across * (free[1] + 1)), self.size)
        if augmentation.flip and self.images.natural and mirror < 0.5:
            window = window[:, ::-1]
        return window, None if self.colours is None else self._colour(position, rng)

    def _colour(self, position: int, rng: Generator) -> FloatArray:
        """What is added to the three channels, in the network's order and units, and what the sum is divided by."""
        augmentation = self.recipe.augmentation
        if self.colours is None or not self._recolours_at(position // len(self.images)):
            return np.array([0, 0, 0, 1], np.float32)
        shift = self.colours @ (rng.standard_normal(3) * augmentation.colour_noise)
        divisor = 1 + augmentation.colour_noise if augmentation.noise_divides else 1.0
        return np.array([*self._in_network_units(shift), divisor], np.float32)

    def _recolours_at(self, epoch: int) -> bool:
        return rates_at(self.recipe, self.spec, step=0, steps=1, epoch=epoch, drops=0).colour_noise

    def _in_network_units(self, rgb: NDArray[np.float64]) -> FloatArray:
        ordered = rgb[::-1] if self.preprocessing.channels == "BGR" else rgb
        scaled = ordered * self.preprocessing.scale / np.asarray(self.preprocessing.std)
        return scaled.astype(np.float32)


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
            pixels = resized(images, index, side)[::4, ::4].reshape(-1, 3).astype(np.float64)
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

    Past the last image there are black ones, of label -1 and without a message, that fill a batch up.
    Images whose mirror image means something else have five crops: the ten without the mirrored ones.
    """

    def __init__(self, images: Images, spec: ModelSpec, *, crops: bool = False) -> None:
        self.images, self.spec, self.crops = images, spec, crops

    def __getitem__(self, index: int) -> _Sample:
        """The prepared image, its label, and a message if it is broken."""
        views = 10 if self.images.natural else 5
        assert self.spec.preprocessing is not None
        size = (self.spec.inputs[0].shape[1], self.spec.inputs[0].shape[2])
        nothing = np.zeros((views, *size, 3) if self.crops else (*size, 3), np.uint8)
        if index >= len(self.images):
            return nothing, None, -1, ()
        try:
            pixels = resized(self.images, index, self.spec.preprocessing.resize)
        except FileFormatError as error:
            return nothing, None, -1, (str(error),)
        if self.crops:
            x = ten_crop_pixels(pixels, self.spec.preprocessing.resize, size)[:views]
        else:
            x = centre_crop(pixels, size)
        return x, None, self.images.label(index), ()


class Batches:
    """Batches of the images at given places, read ahead by processes that stay from one pass to the next.

    Args:
        dataset: the images.
        places: which of them, batch by batch; asked for as they are needed.
        workers: processes that read; 0: this one reads.
        pinned: into memory from which a GPU copies by itself.
    """

    def __init__(
        self, dataset: Dataset[_Sample], places: Iterable[range], workers: int, *, pinned: bool = False
    ) -> None:
        self._loader = cast(
            "Iterable[Batch]",
            DataLoader(
                dataset,
                batch_sampler=cast("Iterable[list[int]]", places),
                num_workers=workers,
                collate_fn=_collate,
                pin_memory=pinned,
                persistent_workers=workers > 0,
                worker_init_fn=_ignore_interrupts if workers else None,
            ),
        )

    def __iter__(self) -> Iterator[Batch]:
        """One pass; raises `ZooError` where a process that reads has died."""
        try:
            yield from self._loader
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise ZooError(f"a process that reads images died ({said(error)})") from error


def _collate(samples: list[_Sample]) -> Batch:
    colours = [colour for _, colour, _, _ in samples if colour is not None]
    return Batch(
        pixels=torch.from_numpy(np.stack([pixels for pixels, _, _, _ in samples])),
        colour=torch.from_numpy(np.stack(colours)) if colours else None,
        labels=torch.tensor([label for _, _, label, _ in samples]),
        broken=tuple(message for _, _, _, broken in samples for message in broken),
    )


def _ignore_interrupts(worker: int) -> None:
    # Ctrl-C, and a job manager's SIGTERM, reach the whole process group; the main process decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
