"""Images as training and validation read them: in order, in batches.

The order of the images depends on the seed and on the place in the run alone: the same on any number of devices, with
any number of workers, before and after a resumption. Pixels travel as they are, a byte each; where the network lies
they are put into its units.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from zoo.errors import FileFormatError, ZooError, said
from zoo.layers import ModelSpec, Preprocessing
from zoo.philox import generator
from zoo.preprocess import RGBImage, centre_crop, ten_crop_pixels
from zoo.training.images import Images, resized

_BROKEN_IN_A_ROW = 100


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Images and labels; `broken` says what could not be read.

    Attributes:
        pixels: N x H x W x 3, RGB, uint8; with ten (or five) crops, N x 10 x H x W x 3.
        labels: N, int64; -1 where there is no image.
        broken: messages, one a file.
        colour: N x 4 float32: what is added to the network's three channels, in its units, and what all is divided by;
            None where colours do not vary.
    """

    pixels: Tensor
    labels: Tensor
    broken: tuple[str, ...] = ()
    colour: Tensor | None = None

    def inputs(self, preprocessing: Preprocessing, device: torch.device) -> Tensor:
        """What the network reads, on its device: (N x views) x 3 x H x W float32, channels last.

        On the CPU, bit for bit what `zoo.preprocess.normalise` makes of each image.
        """
        here = self.to(device)
        pixels = here.pixels.flatten(0, -4)
        x_NHWC = (pixels.flip(-1) if preprocessing.channels == "BGR" else pixels).to(torch.float32)
        width = x_NHWC.shape[2]
        if preprocessing.scale != 1.0:
            x_NHWC *= preprocessing.scale
        x_NHWC -= _row(preprocessing.mean, width, device)
        if preprocessing.std != (1.0, 1.0, 1.0):
            x_NHWC /= _row(preprocessing.std, width, device)
        if here.colour is not None:
            shift, divisor = here.colour.repeat(1, width).view(-1, 1, width, 4).split((3, 1), dim=3)
            x_NHWC += shift.contiguous()
            x_NHWC /= divisor.expand_as(shift).contiguous()
        return x_NHWC.permute(0, 3, 1, 2)

    def to(self, device: torch.device) -> Batch:
        """The same on a device; from pinned memory, nobody waits for it."""
        pixels, labels = (x.to(device, non_blocking=True) for x in (self.pixels, self.labels))
        return replace(self, pixels=pixels, labels=labels)

    def pin_memory(self) -> Batch:
        """The same in memory from which a GPU copies by itself; torch's loader calls it."""
        return replace(self, pixels=self.pixels.pin_memory(), labels=self.labels.pin_memory())


@lru_cache(maxsize=8)  # a copy to an accelerator is waited for: once, not every step
def _row(values: tuple[float, ...], width: int, device: torch.device) -> Tensor:
    """One value, or one a channel, for every pixel of a row; width x 3. (Of three numbers alone no core is busy.)"""
    return torch.tensor(values, dtype=torch.float32, device=device).expand(width, 3).contiguous()


# Pixels, the label, and messages.
_Sample: TypeAlias = tuple[RGBImage, int, tuple[str, ...]]


class TrainingStream(Dataset[_Sample]):
    """An endless stream of images: position p is number p of the run, from 0, whatever the epoch.

    Each is the square in the middle, its side the `resize` of the network's preprocessing; what the network sees of it
    is drawn where that lies (`zoo.training.augment`). A broken image is replaced by the next whole one of the data set,
    so that all devices agree without a word.
    """

    def __init__(self, images: Images, spec: ModelSpec, seed: int) -> None:
        assert spec.preprocessing is not None
        self.images, self.seed, self.side = images, seed, spec.preprocessing.resize

    def index(self, position: int) -> int:
        """Which image stands at a position: every epoch is a permutation of its own."""
        epoch, place = divmod(position, len(self.images))
        return int(_permutation(self.seed, epoch, len(self.images))[place])

    def __getitem__(self, position: int) -> _Sample:
        """The square, its label, and the files that were broken on the way to it."""
        index, broken, size = self.index(position), list[str](), (self.side, self.side)
        for _ in range(min(_BROKEN_IN_A_ROW, len(self.images))):
            try:
                pixels = centre_crop(resized(self.images, index, self.side), size)
            except FileFormatError as error:
                broken.append(str(error))
                index = (index + 1) % len(self.images)
                continue
            return pixels, self.images.label(index), tuple(broken)
        return np.zeros((*size, 3), np.uint8), -1, tuple(broken)


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return generator(seed, "order", epoch).permutation(count)


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
            return nothing, -1, ()
        try:
            pixels = resized(self.images, index, self.spec.preprocessing.resize)
        except FileFormatError as error:
            return nothing, -1, (str(error),)
        if self.crops:
            x = ten_crop_pixels(pixels, self.spec.preprocessing.resize, size)[:views]
        else:
            x = centre_crop(pixels, size, self.spec.preprocessing.crop)
        return x, self.images.label(index), ()


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
    return Batch(
        pixels=torch.from_numpy(np.stack([pixels for pixels, _, _ in samples])),
        labels=torch.tensor([label for _, label, _ in samples]),
        broken=tuple(message for _, _, broken in samples for message in broken),
    )


def _ignore_interrupts(worker: int) -> None:
    # Ctrl-C, and a job manager's SIGTERM, reach the whole process group; the main process decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
