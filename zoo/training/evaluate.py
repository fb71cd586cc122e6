"""How good a network is on labelled images: top-1, top-5 and loss, of all and of each class."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.errors import UnpreparedError, ZooError
from zoo.layers import ModelSpec
from zoo.training.data import Batches, ValidationImages
from zoo.training.datasets import check_size
from zoo.training.images import Images

# N x 3 x H x W float32, on a device -> N x classes: logits, or probabilities.
Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What was found of each image that could be read, one number an image in every array.

    Attributes:
        labels: its class.
        predicted: the class that comes first.
        ahead: how many classes come before the right one.
        losses: cross-entropies, in nats.
        broken: messages about the images that could not be read.
    """

    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    ahead: NDArray[np.int64]
    losses: NDArray[np.float64]
    broken: tuple[str, ...] = ()

    @staticmethod
    def join(parts: Iterable[Scores]) -> Scores:
        """The scores of all images of some scores."""
        every = [Scores(labels=_NONE, predicted=_NONE, ahead=_NONE, losses=np.zeros(0)), *parts]
        return Scores(
            labels=np.concatenate([part.labels for part in every]),
            predicted=np.concatenate([part.predicted for part in every]),
            ahead=np.concatenate([part.ahead for part in every]),
            losses=np.concatenate([part.losses for part in every]),
            broken=tuple(message for part in every for message in part.broken),
        )

    def means(self) -> dict[str, float]:
        """``top1`` and ``top5`` accuracy (0..1), ``loss`` (mean cross-entropy, nats), ``images``, ``broken``.

        Raises:
            ZooError: there was no whole image.
        """
        if not len(self.labels):
            raise ZooError("no image could be read: nothing to judge by")
        return {
            "top1": float((self.ahead == 0).mean()),
            "top5": float((self.ahead < 5).mean()),
            "loss": float(self.losses.mean()),
            "images": len(self.labels),
            "broken": len(self.broken),
        }

    def by_class(self, names: tuple[str, ...]) -> list[dict[str, Any]]:
        """A row a class that was met, in the order of the classes: its name, images, top-1 and top-5 accuracy."""
        rows = list[dict[str, Any]]()
        for label in np.unique(self.labels).tolist():
            ahead = self.ahead[self.labels == label]
            top1, top5 = float((ahead == 0).mean()), float((ahead < 5).mean())
            rows.append({"class": names[label], "images": len(ahead), "top1": top1, "top5": top5})
        return rows

    def confusion(self, classes: int) -> NDArray[np.int64]:
        """How often images of a class (a row) were taken for a class (a column).

        Columns are as many as `classes`, or more where the network has more outputs and one of them came first.
        """
        table = np.zeros((classes, max(classes, int(self.predicted.max(initial=0)) + 1)), np.int64)
        np.add.at(table, (self.labels, self.predicted), 1)
        return table

    def confusion_csv(self, names: tuple[str, ...]) -> str:
        """`confusion` as CSV, with the names of the classes above and beside it."""
        table = self.confusion(len(names))
        columns = [*names, *(f"output {i}" for i in range(len(names), table.shape[1]))]
        rows = [[name, *counts] for name, counts in zip(names, table.tolist(), strict=True)]
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerows([["images of", *columns], *rows])
        return file.getvalue()


_NONE: NDArray[np.int64] = np.zeros(0, np.int64)


def score(labels: Tensor, logits: Tensor, broken: tuple[str, ...] = (), *, probabilities: bool = False) -> Scores:
    """Scores of one batch.

    Args:
        labels: N, of the images; -1 where there is none.
        logits: N x classes; with ten crops 10 N x classes (five of digits: 5 N), whose probabilities are averaged
            (paper, s4.1).
        broken: messages about images that could not be read.
        probabilities: the numbers are probabilities already.
    """
    values, right = logits.double().cpu().numpy(), labels.cpu().numpy()
    if not probabilities:
        values = np.exp(values - values.max(axis=1, keepdims=True))
        values /= values.sum(axis=1, keepdims=True)
    values = values.reshape(len(right), -1, values.shape[1]).mean(axis=1)
    values, right = values[right >= 0], right[right >= 0]
    of_label = values[np.arange(len(right)), right]
    # How many classes come before the right one. Of equals the lower class comes first, as in argmax; a NaN, which is
    # not less than anything, comes before all.
    before = ~(values < of_label[:, None])
    before &= ~((values == of_label[:, None]) & (np.arange(values.shape[1]) >= right[:, None]))
    return Scores(
        labels=right,
        predicted=values.argmax(axis=1),
        ahead=before.sum(axis=1),
        losses=-np.log(np.maximum(of_label, 1e-300)),
        broken=broken,
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
    part: tuple[int, int] = (0, 1),
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
        part: which of how many equal parts of the batches is judged here.

    Raises:
        ZooError: the images have more classes than the network has outputs, or no preprocessing is known.
    """
    if spec.preprocessing is None:
        raise UnpreparedError(spec.name)
    check_size(images, spec)
    call = module_forward(forward) if isinstance(forward, torch.nn.Module) else forward
    where, (number, parts) = device or torch.device("cpu"), part
    step = max(1, batch_size // 10) if ten_crop else batch_size
    places = [range(i, min(i + step, len(images))) for i in range(0, len(images), step)][number::parts]
    found, read = list[Scores](), ValidationImages(images, spec, crops=ten_crop)
    for batch in Batches(read, places, workers, pinned=where.type == "cuda"):
        outputs = call(batch.inputs(spec.preprocessing, where)).flatten(1)
        if outputs.shape[1] < len(images.classes):
            raise ZooError(f"{spec.name} has {outputs.shape[1]} outputs, the images {len(images.classes)} classes")
        found.append(score(batch.labels, outputs, batch.broken, probabilities=probabilities))
    return Scores.join(found)


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
