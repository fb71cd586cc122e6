"""Images a second in ONNX Runtime: our exports beside torch.onnx's of the same network and weights, on the CPU."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime

from benchmarks.measure import in_turn, table
from converters.export import ExportOptions, export
from converters.exporters.pytorch import export_onnx
from converters.parity import probe_weights
from zoo import registry

_MODEL = "alexnet"
# Batch -> runs in a row; each row of runs is about as long, and begins with one that does not count.
_RUNS = {16: 4, 1: 20}
_ROUNDS = 6


def main() -> str:
    weights = probe_weights(registry.model(_MODEL))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {
            "torch.onnx.export": folder / "torch.onnx",
            "zoo export": folder / "plain.onnx",
            "zoo export --fast-lrn": folder / "fast.onnx",
        }
        export_onnx(weights, files["torch.onnx.export"], every_activation=False)
        export(weights, str(files["zoo export"]), ExportOptions())
        export(weights, str(files["zoo export --fast-lrn"]), ExportOptions(fast_lrn=True))
        sessions = {title: onnxruntime.InferenceSession(str(path)) for title, path in files.items()}
        speeds = {batch: _speeds(sessions, batch) for batch in _RUNS}
    columns = ["ONNX Runtime"]
    for batch in _RUNS:
        goal = " (goal of --fast-lrn: 1.30 x)" if batch == max(_RUNS) else ""
        columns += [f"batch {batch}, images/s", f"against torch.onnx{goal}"]
    return table(columns, [[f"`{title}`", *_cells(title, speeds)] for title in files])


def _speeds(sessions: dict[str, onnxruntime.InferenceSession], batch: int) -> dict[str, float]:
    """Images/s, from the median run."""
    x = (np.random.default_rng(0).standard_normal((batch, 3, 227, 227)) * 60).astype(np.float32)
    runs = {title: partial(session.run, None, {"data": x}) for title, session in sessions.items()}
    return {title: batch / seconds for title, seconds in in_turn(runs, _RUNS[batch], _ROUNDS).items()}


def _cells(title: str, speeds: dict[int, dict[str, float]]) -> list[str]:
    cells = list[str]()
    for found in speeds.values():
        cells += [f"{found[title]:.0f}", f"{found[title] / found['torch.onnx.export']:.2f} x"]
    return cells


if __name__ == "__main__":
    print(main())
