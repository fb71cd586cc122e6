"""How good a network is on labelled images: top-1, top-5 and loss, of all and of each class."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.errors import UnpreparedError, ZooError
from zoo.layers import ModelSpec
from zoo.training.data import Batch, ValidationImages, batches
from zoo.training.images import Images

# N x 3 x H x W float32, on a device -> N x classes: logits, or probabilities.
Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What was counted so far; scores of different images add up.

    `classes` holds, for every class that was met, how many images of it there were, and how many were right first and
    among the first five.
    """

    images: int = 0
    top1: int = 0
    top5: int = 0
    loss: float = 0.0
    broken: tuple[str, ...] = ()
    classes: dict[int, tuple[int, int, int]] = field(default_factory=dict[int, tuple[int, int, int]])

    def __add__(self, other: Scores) -> Scores:
        nothing, both = (0, 0, 0), {**self.classes, **other.classes}
        counts = {label: (self.classes.get(label, nothing), other.classes.get(label, nothing)) for label in both}
        return Scores(
            images=self.images + other.images,
            top1=self.top1 + other.top1,
            top5=self.top5 + other.top5,
            loss=self.loss + other.loss,
            broken=self.broken + other.broken,
            classes={label: (a[0] + b[0], a[1] + b[1], a[2] + b[2]) for label, (a, b) in counts.items()},
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

    def by_class(self, names: tuple[str, ...]) -> list[dict[str, Any]]:
        """A row a class that was met, in the order of the classes: its name, images, top-1 and top-5 accuracy."""
        return [
            {"class": names[label], "images": images, "top1": first / images, "top5": five / images}
            for label, (images, first, five) in sorted(self.classes.items())
        ]


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
    first, five = before == 0, before < 5
    return Scores(
        images=len(labels),
        top1=int(first.sum()),
        top5=int(five.sum()),
        loss=float(-np.log(np.maximum(of_label, 1e-300)).sum()),
        broken=batch.broken,
        classes={
            int(label): (int((own := labels == label).sum()), int(first[own].sum()), int(five[own].sum()))
            for label in np.unique(labels)
        },
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
    device: torch.device | None = None,
    places: Iterable[range] | None = None,
) -> Scores:
    """Judge a network; `Scores.means` gives accuracies and loss.

    Args:
        forward: images to logits (or `probabilities`), or a torch module.
        images: what to judge by.
        spec: how the images are prepared, and the number of classes.
        ten_crop: average over ten crops of each image.
        batch_size: images a batch; ten crops are that many views, of a tenth of the images.
        workers: processes that read images.
        probabilities: `forward` gives probabilities.
        device: where `forward` reads its images; None is the CPU.
        places: which images, in which batches; None is all.

    Raises:
        ZooError: the images have more classes than the network has outputs, or no preprocessing is known.
    """
    if spec.preprocessing is None:
        raise UnpreparedError(spec.name)
    call = module_forward(forward) if isinstance(forward, torch.nn.Module) else forward
    where = device or torch.device("cpu")
    step = max(1, batch_size // 10) if ten_crop else batch_size
    everything = (range(i, min(i + step, len(images))) for i in range(0, len(images), step))
    total, read = Scores(), ValidationImages(images, spec, crops=ten_crop)
    for batch in batches(read, places or everything, workers, pinned=where.type == "cuda"):
        outputs = call(batch.inputs(spec.preprocessing, where)).flatten(1).float().cpu().numpy()
        if outputs.shape[1] < len(images.classes):
            raise ZooError(f"{spec.name} has {outputs.shape[1]} outputs, the images {len(images.classes)} classes")
        total += score(batch, outputs, probabilities=probabilities)
    return total


def module_forward(module: torch.nn.Module) -> Forward:
    """A torch module at inference; it is left in the mode in which it was."""

    def forward(x_NCHW: Tensor) -> Tensor:
        was_training = module.training
        module.eval()
        with torch.inference_mode():
            result = module(x_NCHW)
        module.train(was_training)
        return result

    return forward
