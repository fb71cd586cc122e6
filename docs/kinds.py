"""Writes kinds.md, what each framework makes of each kind of layer: ``python docs/kinds.py``. Every case is tried."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "kinds.md"
sys.path.insert(0, str(ROOT))  # the cases of the tests

from tests.kinds import KINDS, probe  # noqa: E402
from zoo.errors import UnsupportedError  # noqa: E402
from zoo.frameworks.caffe import deploy_text, forward  # noqa: E402
from zoo.frameworks.caffe.vocabulary import ROWS  # noqa: E402
from zoo.frameworks.keras import source_text as keras_source  # noqa: E402
from zoo.frameworks.onnx import graph  # noqa: E402
from zoo.frameworks.pytorch import source_text as pytorch_source  # noqa: E402
from zoo.frameworks.tf_slim import source_text as slim_source  # noqa: E402
from zoo.layers import Layer, ModelSpec, PoolMask  # noqa: E402

HEAD = """# What each framework makes of each kind of layer

Caffe's type (those of the forks included), our kind, and whether every case of the tests can be written for a
framework: yes, in part, or no. `Caffe` is a prototxt and a caffemodel written again. `OpenCV 4` is the runtime that
stands in for Caffe where Caffe itself is not installed; what it would compute otherwise than Caffe does is refused
there by layer name. What a framework cannot do is said by layer name when its source is written or a file is
exported. Written by `python docs/kinds.py`, which tries every case.

Refused by name, for now: LSTM, RNN, BatchReindex, Filter, Im2col, convolutions over one or three axes, and Python
layers (module and class are named). A layer that reaches across the batch (InnerProduct, Reduction, Convolution, Scale,
Bias and Permute over axis 0) takes the batch of the prototxt for one item: a longer batch is several of these. What has
no axes in Caffe, as the sum of everything, has one of a single number.

"""


def _run(spec: ModelSpec) -> object:
    weights, inputs = probe(spec)
    return forward(spec, weights, inputs)


TABLES: dict[str, Callable[[ModelSpec], object]] = {
    "PyTorch": pytorch_source,
    "TF-slim": slim_source,
    "Keras": keras_source,
    "ONNX": graph,
    "Caffe": deploy_text,
    "OpenCV 4": _run,
}


def page() -> str:
    """The page, as it has to be."""
    rows = [f"| Caffe's type | kind | {' | '.join(TABLES)} |", "|---" * (2 + len(TABLES)) + "|"]
    for kind in sorted(get_args(Layer), key=lambda kind: kind.__name__):
        having = [spec for spec in KINDS.values() if any(type(layer) is kind for layer in spec.layers)]
        cases = [spec for spec in having if len(spec.layers) == 1] or having
        types = [row.type for row in ROWS if row.kind is kind] or (["Pooling (its mask)"] if kind is PoolMask else [])
        told = [_told(table, cases) for table in TABLES.values()]
        rows.append(f"| {', '.join(types)} | `{kind.__name__}` | {' | '.join(told)} |")
    return HEAD + "\n".join(rows) + "\n"


def _told(table: Callable[[ModelSpec], object], cases: list[ModelSpec]) -> str:
    """How many of the cases a table takes."""
    taken = [_takes(table, spec) for spec in cases]
    return "yes" if all(taken) else "in part" if any(taken) else "no"


def _takes(table: Callable[..., Any], spec: ModelSpec) -> bool:
    try:
        table(spec)
    except UnsupportedError:
        return False
    return True


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
