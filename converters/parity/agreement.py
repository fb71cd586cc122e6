"""How often a subject and the reference name the same class, over a folder of images: shown, never a gate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np

from converters.parity.probes import image_inputs, images_in
from converters.parity.subjects import Feed
from converters.verdicts import Agreement
from converters.weights import Array, Weights
from zoo import reference as oracle
from zoo.errors import UnsupportedError

Progress: TypeAlias = Callable[[str], None]

# Images a batch: every activation of them is held at once.
_BATCH = 16
# So many images whose class differs are named.
_NAMED = 5


class Pictures:
    """The images of a folder, and the classes the reference sees in them.

    Raises:
        ZooError: no such folder, no image in it, or one that cannot be read.
        UnsupportedError: the network has no logits.
    """

    def __init__(self, weights: Weights, folder: Path, progress: Progress) -> None:
        self.paths = images_in(folder)
        if weights.spec.head is None:
            raise UnsupportedError(f"{weights.spec.name} has no logits, so that no classes can be compared")
        self._spec, self._head = weights.spec, weights.spec.head.name
        progress(f"reference, float64, on {len(self.paths)} images")
        logits = list[Array]()
        for inputs in self._batches():
            activations = oracle.forward(self._spec, weights.tensors, inputs)
            logits.append(_flat(activations[self._head]))
        self._ranked = np.argsort(-np.concatenate(logits), axis=1, kind="stable")

    def _batches(self) -> Iterator[dict[str, Array]]:
        for i in range(0, len(self.paths), _BATCH):
            yield image_inputs(self._spec, self.paths[i : i + _BATCH])

    def agreement(self, feed: Feed, progress: Progress) -> Agreement | None:
        """Of a subject that was fed before; None where it shows no logits.

        ``top1``: the share of images whose best class is the reference's; ``top5``: of images whose best class by the
        reference is among the subject's five best, where there are more than five.
        """
        progress(f"{len(self.paths)} images")
        found = list[Array]()
        for inputs in self._batches():
            logits = feed(inputs, {}).activations.get(self._head)
            if logits is None or not np.isfinite(logits).all():
                return None
            found.append(_flat(logits))
        ranked = np.argsort(-np.concatenate(found), axis=1, kind="stable")
        if ranked.shape != self._ranked.shape:
            return None
        best = self._ranked[:, :1]
        many = ranked.shape[1] > 5
        return Agreement(
            images=len(self.paths),
            top1=float(np.mean(ranked[:, :1] == best)),
            top5=float(np.mean((ranked[:, :5] == best).any(axis=1))) if many else None,
            otherwise=self._otherwise(ranked[:, 0]),
        )

    def _otherwise(self, found: Array) -> tuple[str, ...]:
        names, best = self._spec.classes, self._ranked[:, 0]
        return tuple(
            f"{self.paths[i].name}: {names[found[i]]}, by the reference {names[best[i]]}"
            for i in np.flatnonzero(found != best)[:_NAMED]
            if max(found[i], best[i]) < len(names)
        )


def _flat(logits: Array) -> Array:
    """N x K, also of a head that is a convolution with one position."""
    return logits.reshape(len(logits), -1)
