"""How good a network is on labelled images: top-1, top-5 and loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.errors import ZooError
from zoo.layers import ModelSpec
from zoo.training.data import Batch, Images, ValidationImages, batches

# N x 3 x H x W float32 -> N x classes: logits, or probabilities.
Forward = Callable[[NDArray[np.float32]], NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What was counted so far; scores of different images add up."""

    images: int = 0
    top1: int = 0
    top5: int = 0
    loss: float = 0.0
    broken: tuple[str, ...] = ()

    def __add__(self, other: Scores) -> Scores:
        return Scores(
            images=self.images + other.images,
            top1=self.top1 + other.top1,
            top5=self.top5 + other.top5,
            loss=self.loss + other.loss,
            broken=self.broken + other.broken,
        )

    def means(self) -> dict[str, float]:
        """``top1`` and ``top5`` accuracy (0..1), ``loss`` (mean cross-entropy, nats), ``images``, ``broken``.

        Raises:
            ZooError: there was no whole image.
        """
        if not self.images:
            raise ZooError("no image could be read: nothing to judge by")
        return {
            "top1": self.top1 / self.images,
            "top5": self.top5 / self.images,
            "loss": self.loss / self.images,
            "images": self.images,
            "broken": len(self.broken),
        }


def score(batch: Batch, logits: NDArray[Any], *, probabilities: bool = False) -> Scores:
    """Scores of one batch.

    Args:
        batch: the images and labels.
        logits: N x classes; with ten crops 10 N x classes (five of digits: 5 N), whose probabilities are averaged
            (paper, s4.1).
        probabilities: the numbers are probabilities already.
    """
    values = np.asarray(logits, dtype=np.float64)
    if not probabilities:
        values = np.exp(values - values.max(axis=1, keepdims=True))
        values /= values.sum(axis=1, keepdims=True)
    labels = batch.labels.numpy()
    values = values.reshape(len(labels), -1, values.shape[1]).mean(axis=1)
    here = labels >= 0
    values, labels = values[here], labels[here]
    of_label = values[np.arange(len(labels)), labels]
    # How many classes come before the right one. Of equals the lower class comes first, as in argmax; a NaN, which is
    # not less than anything, comes before all.
    ahead = ~(values < of_label[:, None])
    ahead &= ~((values == of_label[:, None]) & (np.arange(values.shape[1]) >= labels[:, None]))
    before = ahead.sum(axis=1)
    return Scores(
        images=len(labels),
        top1=int((before == 0).sum()),
        top5=int((before < 5).sum()),
        loss=float(-np.log(np.maximum(of_label, 1e-300)).sum()),
        broken=batch.broken,
    )


def evaluate(
    forward: Forward | torch.nn.Module,
    images: Images,
    spec: ModelSpec,
    *,
    ten_crop: bool = False,
    batch_size: int = 32,
    workers: int = 0,
    probabilities: bool = False,
    places: Iterable[range] | None = None,
) -> Scores:
    """Judge a network; `Scores.means` gives accuracies and loss.

    Args:
        forward: images to logits (or `probabilities`) in NumPy, or a torch module.
        images: what to judge by.
        spec: how the images are prepared, and the number of classes.
        ten_crop: average over ten crops of each image.
        batch_size: images a batch.
        workers: processes that read images.
        probabilities: `forward` gives probabilities.
        places: which images, in which batches; None is all.

    Raises:
        ZooError: the images have more classes than the network has outputs.
    """
    call = module_forward(forward) if isinstance(forward, torch.nn.Module) else forward
    step = max(1, batch_size // 10) if ten_crop else batch_size
    everything = [range(i, min(i + step, len(images))) for i in range(0, len(images), step)]
    total = Scores()
    for batch in batches(ValidationImages(images, spec, crops=ten_crop), places or everything, workers):
        outputs = call(batch.x.numpy().reshape(-1, *spec.inputs[0].shape))
        if outputs.shape[1] < len(images.classes):
            raise ZooError(f"{spec.name} has {outputs.shape[1]} outputs, the images {len(images.classes)} classes")
        total += score(batch, outputs.reshape(len(outputs), -1), probabilities=probabilities)
    return total


def module_forward(module: torch.nn.Module) -> Forward:
    """A torch module as a function of NumPy arrays, at inference, where its parameters are."""
    place = next(module.parameters()).device

    def forward(x_NCHW: NDArray[np.float32]) -> NDArray[Any]:
        was_training = module.training
        module.eval()
        with torch.inference_mode():
            result = module(torch.from_numpy(x_NCHW).to(place)).float().cpu().numpy()
        module.train(was_training)
        return result

    return forward
