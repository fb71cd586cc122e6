"""One-layer networks with real Caffe's answers, from a folder: how many of them each framework computes.

A case is ``NAME.prototxt``, ``NAME.caffemodel`` where the layer has blobs, and ``NAME.npz`` with ``in0``, ``out0`` and
so on.
"""

from __future__ import annotations

import argparse
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.measure import table
from tests.test_ops import case, check
from zoo import reference, registry
from zoo.errors import ZooError

_FRAMEWORKS = {"the reference": None, "PyTorch": "pytorch", "TF-slim": "tf_slim", "ONNX": "onnx", "OpenCV": "caffe"}


def verdict(path: Path, framework: str | None) -> str:
    """``right``; or ``refused`` or ``wrong``, and why."""
    forward = reference.forward if framework is None else registry.framework(framework).forward
    try:
        weights, inputs, expected = case(path.stem, path.parent)
        check(forward(weights.spec, weights.tensors, inputs), expected)
    except ZooError as error:
        return f"refused: {error}"
    except AssertionError as error:
        return f"wrong: {' '.join(str(error).split())[:100]}"
    return "right"


def main() -> str:
    parser = argparse.ArgumentParser(description="Cases of a folder that each framework computes.")
    parser.add_argument("folder", type=Path, nargs="+")
    folders = parser.parse_args().folder
    paths = sorted(
        path for folder in folders for path in folder.rglob("*.prototxt") if path.with_suffix(".npz").exists()
    )
    counts = {name: Counter[str]() for name in _FRAMEWORKS}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for path in paths:
            told = {name: verdict(path, framework) for name, framework in _FRAMEWORKS.items()}
            for name, text in told.items():
                counts[name][text.partition(":")[0]] += 1
            for text in sorted({*told.values()} - {"right"}):
                where = ", ".join(name for name in told if told[name] == text)
                print(f"{path.stem} ({where}): {text}", flush=True)
    words = ("right", "refused", "wrong")
    rows = [[word, *(str(count[word]) for count in counts.values())] for word in words]
    return table([f"of {len(paths)}", *_FRAMEWORKS], rows)


if __name__ == "__main__":
    print(main())
