"""The layers around a network, which feed it or serve its training: how many bottoms and tops Caffe lets them have.

BVLC caffe, ``include/caffe/layers``: ``ExactNumBottomBlobs``, ``MinTopBlobs`` and their like.
"""

from __future__ import annotations

from typing import TypeAlias

from zoo.frameworks.caffe import forks
from zoo.frameworks.caffe.row import MANY
from zoo.frameworks.caffe.walk import Node
from zoo.wire.prototxt import PrototxtError

_Range: TypeAlias = tuple[int, int]

# Type -> the fewest and the most bottoms, and tops; a loss makes a top that is not named.
_LOSS: tuple[_Range, _Range] = ((2, 2), (0, 1))
_JUDGING: dict[str, tuple[_Range, _Range]] = {
    "Accuracy": ((2, 2), (1, 2)),
    "ContrastiveLoss": ((3, 3), (0, 1)),
    "EuclideanLoss": _LOSS,
    "HDF5Output": ((2, 2), (0, 0)),
    "HingeLoss": _LOSS,
    "InfogainLoss": ((2, 3), (0, 2)),
    "MultinomialLogisticLoss": _LOSS,
    "SigmoidCrossEntropyLoss": _LOSS,
    "Silence": ((1, MANY), (0, 0)),
    "SoftmaxWithLoss": ((2, 2), (0, 3)),  # the third is R-FCN's
}
_FEEDING: dict[str, tuple[_Range, _Range]] = {
    "Data": ((0, 0), (1, 2)),
    "DummyData": ((0, 0), (1, MANY)),
    "HDF5Data": ((0, 0), (1, MANY)),
    "ImageData": ((0, 0), (2, 2)),
    "Input": ((0, 0), (1, MANY)),
    "MemoryData": ((0, 0), (2, 2)),
    "WindowData": ((0, 0), (2, 2)),
}

FEEDS = _FEEDING.keys() - {"DummyData"} | forks.DATA
CONSTANT = {"DummyData", "Parameter"}
DATA = _FEEDING.keys() - {"Input"} | forks.DATA
# Layers that only serve training, testing or bookkeeping; they are left out, and named.
OMITTED = _JUDGING.keys() | forks.TRAINING


def count_tops(node: Node) -> int:
    """How many tops a layer has, with that which a loss makes though it is not named."""
    _, (_, most) = _JUDGING.get(node.type, ((0, 0), (0, 0)))
    return max(len(node.tops), min(most, 1))


def check_counts(node: Node) -> None:
    """Refuse bottoms and tops that a layer around the network does not have; raises `PrototxtError`."""
    ranges = {**_JUDGING, **_FEEDING}.get(node.type)
    for what, blobs, (least, most) in zip(("bottom", "top"), (node.bottoms, node.tops), ranges or (), strict=False):
        if not least <= len(blobs) <= most:
            takes = f"{least}" if least == most else f"{least} or more" if most == MANY else f"{least} to {most}"
            raise PrototxtError(node.message.line, f"has {len(blobs)} {what}s; it takes {takes}")
