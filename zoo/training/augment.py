"""What the network sees of a training image: which window, mirrored or not, in what colours; drawn where it lies.

The generator counts (`zoo.training.philox`): an image has a block of it, known by the image's place in the run alone.
So all devices, and any number of them, draw the same, and nothing of it is sent. Windows and mirror images come from
whole numbers, equal on every device; colours from float64, whose last bit float32 does not show (Metal has none).
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from zoo.errors import FileFormatError
from zoo.layers import ModelSpec
from zoo.philox import key
from zoo.recipe import Recipe, rates_at
from zoo.training.data import Batch
from zoo.training.images import Images, resized
from zoo.training.philox import WORDS, WORDS_A_BLOCK, words

_COLOUR_IMAGES = 1000


class Augment:
    """Turns the squares that were read into what the network sees of them.

    Args:
        images: the training set.
        spec: the size of the network's input, and its units.
        recipe: what is done.
        seed: of the draws.
        device: where the squares lie.
    """

    def __init__(self, images: Images, spec: ModelSpec, recipe: Recipe, seed: int, device: torch.device) -> None:
        assert spec.preprocessing is not None
        self.recipe, self.spec, self.seed, self.count = recipe, spec, seed, len(images)
        self.device, self.flips = device, recipe.augmentation.flip and images.natural
        self.colours: Tensor | None = None
        if images.natural and recipe.augmentation.colour_noise > 0:
            rgb = principal_colours(images, spec.preprocessing.resize)
            ordered = rgb[::-1] if spec.preprocessing.channels == "BGR" else rgb
            deviation = np.reshape(spec.preprocessing.std, (-1, 1))  # one, or one a channel
            units = ordered * spec.preprocessing.scale * recipe.augmentation.colour_noise / deviation
            self.colours = torch.from_numpy(np.ascontiguousarray(units)).to(device, _real(device))

    def __call__(self, batch: Batch, places: range) -> Batch:
        """The windows of a batch of squares, on its device, and what becomes of their colours.

        Args:
            batch: squares, N x S x S x 3.
            places: their places in the run.
        """
        margin, (_, *size) = self.recipe.augmentation.pad, self.spec.inputs[0].shape
        squares = pad(batch.pixels, (0, 0, *(margin,) * 4)) if margin else batch.pixels
        down, across, mirror, *rest = self._words(places).unbind(1)
        first = [(word * (squares.shape[1] - own + 1)) >> 32 for word, own in zip((down, across), size, strict=True)]
        mirrored = mirror < (WORDS // 2 if self.flips else 0)
        cut = _cut if self.device.type == "cpu" else _gather
        colour = None if self.colours is None else self._colour(torch.stack(rest[1:]), self.colours, places)
        return replace(batch, pixels=cut(squares, (*first,), mirrored, (*size,)), colour=colour)

    def _words(self, places: range) -> Tensor:
        """N x 8."""
        blocks = torch.arange(places.start, places.stop, device=self.device)
        return words(blocks, 0, key(self.seed, "augment")).view(-1, WORDS_A_BLOCK)

    def _colour(self, drawn: Tensor, colours: Tensor, places: range) -> Tensor:
        """What is added to the three channels, in the network's order and units, and what the sum is divided by; N x 4.

        `drawn` is 4 x N words.
        """
        augmentation = self.recipe.augmentation
        shift = (_normal(drawn)[:3].T[:, None] * colours).sum(-1)
        epochs = [(epoch, len(list(run))) for epoch, run in groupby(place // self.count for place in places)]
        varies = [torch.full((length,), self._recolours_at(epoch), device=self.device) for epoch, length in epochs]
        on = torch.cat(varies)[:, None]
        divisor = 1 + augmentation.colour_noise if augmentation.noise_divides else 1.0
        return torch.cat([shift * on, torch.where(on, divisor, 1.0)], 1).float()

    def _recolours_at(self, epoch: int) -> bool:
        return rates_at(self.recipe, self.spec, step=0, steps=1, epoch=epoch, drops=0).colour_noise


def _cut(squares: Tensor, first: tuple[Tensor, ...], mirrored: Tensor, size: tuple[int, ...]) -> Tensor:
    """The windows that begin at these rows and columns; N x size x 3. One by one: quickest on a CPU."""
    height, width = size
    seen = squares.new_empty((len(squares), height, width, 3))
    for i, (top, left, flip) in enumerate(torch.stack([*first, mirrored]).T.tolist()):
        window = squares[i, top : top + height, left : left + width]
        seen[i] = window.flip(1) if flip else window
    return seen


def _gather(squares: Tensor, first: tuple[Tensor, ...], mirrored: Tensor, size: tuple[int, ...]) -> Tensor:
    """`_cut`, all at once and without a number read back."""
    device, (down, across), (height, width) = squares.device, first, size
    rows, columns = down[:, None] + torch.arange(height, device=device), torch.arange(width, device=device)
    columns = across[:, None] + torch.where(mirrored[:, None], width - 1 - columns, columns)
    of_image = torch.arange(len(squares), device=device)[:, None, None]
    return squares[of_image, rows[:, :, None], columns[:, None]]


def _normal(drawn: Tensor) -> Tensor:
    """Normal numbers, as many as there are words, of 2 x N pairs (Box and Muller 1958)."""
    evenly = (drawn.to(_real(drawn.device)) + 1) / WORDS  # above 0, up to 1
    radius, angle = (-2 * evenly[:2].log()).sqrt(), 2 * math.pi * evenly[2:]
    return torch.cat([radius * angle.cos(), radius * angle.sin()])


def _real(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64


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
