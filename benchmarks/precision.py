"""Less than float32: size, images a second in ONNX Runtime and OpenVINO, and what is left of the answers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
from PIL import Image

from benchmarks.measure import in_turn, table
from converters.convert import load
from converters.demo import photographs
from converters.export import ExportOptions, export
from converters.low_precision import split
from converters.parity import probe_weights
from converters.parity.probes import images_in
from converters.parity.reduced import judge_reduced
from converters.verdicts import BUDGETS
from converters.weights import Array, Weights
from zoo import registry
from zoo.training.images import open_digits
from zoo.training.job import TrainOptions
from zoo.training.launch import train

_BUDGETS = {"fp16": "float16", "int8": "int8"}
_PRECISIONS = ("fp32", *_BUDGETS)
# Batch -> runs in a row; each row of runs begins with one that does not count.
_RUNS = {1: 8, 16: 3}
_ROUNDS = 4


def main() -> str:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kept = _agreement(folder)
        full = probe_weights(registry.model("alexnet"))
        files = _exported(full, _crops(folder / "crops"), folder / "full")
        sizes = {precision: file.stat().st_size for precision, file in files.items()}
        speeds = {
            (runtime, batch): _speeds({p: opened(file) for p, file in files.items()}, batch)
            for runtime, opened in _RUNTIMES.items()
            for batch in _RUNS
        }
    columns = ["precision", "file", "of fp32 (goal of int8: 0.26)"]
    columns += [f"{runtime}, batch {batch}, images/s" for runtime, batch in speeds]
    columns += ["largest error of a layer, budget", "top-1 agreement, trained (goal: 99 %)"]
    rows = [
        [precision, f"{sizes[precision] / 1e6:.1f} MB", f"{sizes[precision] / sizes['fp32']:.3f}"]
        + [f"{found[precision]:.0f} ({found[precision] / found['fp32']:.2f} x)" for found in speeds.values()]
        + kept.get(precision, ["-", "-"])
        for precision in _PRECISIONS
    ]
    return table(columns, rows)


def _exported(weights: Weights, pictures: Path, folder: Path) -> dict[str, Path]:
    folder.mkdir()
    files = {precision: folder / f"{precision}.onnx" for precision in _PRECISIONS}
    for precision, file in files.items():
        calibrate = pictures if precision == "int8" else None
        export(weights, str(file), ExportOptions(precision=precision, calibrate=calibrate, verify=False))
    return files


def _crops(folder: Path) -> Path:
    """Pieces of two photographs."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    whole = [np.asarray(Image.open(path).convert("RGB")) for path in photographs()]
    for i in range(24):
        pixels, side = whole[i % 2], int(generator.integers(230, 420))
        top, left = (int(generator.integers(0, pixels.shape[axis] - side)) for axis in (0, 1))
        Image.fromarray(pixels[top : top + side, left : left + side]).save(folder / f"{i:02}.png")
    return folder


def _agreement(folder: Path) -> dict[str, list[str]]:
    """Of the network that the demo trains, on validation digits that were held back from the calibration."""
    spec, pictures = registry.model("alexnet_mini"), folder / "digits"
    pictures.mkdir()
    digits = open_digits("val")
    for i in range(len(digits)):
        Image.fromarray(digits.pixels(i)).save(pictures / f"{i:04}.png")
    weights = load(train(TrainOptions(model=spec, data="digits", out=folder / "training", devices=1)))
    files, (_, held) = _exported(weights, pictures, folder / "trained"), split(images_in(pictures))
    found = {p: judge_reduced(weights, files[p], BUDGETS[b], held, probes=False) for p, b in _BUDGETS.items()}
    return {
        precision: [
            f"{judged.worst.error or 0.0:.1e} ({judged.worst.name}), {judged.budget.limit:g}",
            f"{judged.top1 or 0.0:.1%} of {judged.pictures}",
        ]
        for precision, judged in found.items()
    }


def _in_onnxruntime(file: Path) -> Callable[[Mapping[str, Array]], object]:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return lambda fed: session.run(None, dict(fed))


def _in_openvino(file: Path) -> Callable[[Mapping[str, Array]], object]:
    network = openvino.Core().compile_model(openvino.Core().read_model(file), "CPU")
    return lambda fed: network(dict(fed))


_RUNTIMES = {"ONNX Runtime": _in_onnxruntime, "OpenVINO": _in_openvino}


def _speeds(sessions: Mapping[str, Callable[[Mapping[str, Array]], object]], batch: int) -> dict[str, float]:
    """Images/s, from the median run."""
    x = (np.random.default_rng(0).standard_normal((batch, 3, 227, 227)) * 60).astype(np.float32)
    runs = {title: partial(session, {"data": x}) for title, session in sessions.items()}
    return {title: batch / seconds for title, seconds in in_turn(runs, _RUNS[batch], _ROUNDS).items()}


if __name__ == "__main__":
    print(main())
