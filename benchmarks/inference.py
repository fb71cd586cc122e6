"""Images a second in ONNX Runtime: our exports beside torch.onnx's of the same network and weights, batch 16, CPU."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime

from benchmarks.measure import table
from converters.export import ExportOptions, export
from converters.exporters.pytorch import export_onnx
from converters.parity import probe_weights
from zoo import registry

_BATCH, _ROUNDS = 16, 15


def main() -> str:
    weights = probe_weights(registry.model("alexnet"))
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
        x = (np.random.default_rng(0).standard_normal((_BATCH, 3, 227, 227)) * 60).astype(np.float32)
        taken: dict[str, list[float]] = {title: [] for title in sessions}
        for turn in range(_ROUNDS + 2):
            for title, session in sessions.items():
                started = time.perf_counter()
                session.run(None, {"data": x})
                if turn >= 2:
                    taken[title].append(time.perf_counter() - started)
    medians = {title: statistics.median(times) for title, times in taken.items()}
    peer = medians["torch.onnx.export"]
    rows = [[f"`{t}`", f"{_BATCH / m:.0f}", f"{peer / m:.2f} x"] for t, m in medians.items()]
    return table([f"ONNX Runtime, batch {_BATCH}", "images/s", "against torch.onnx (goal of --fast-lrn: 1.30 x)"], rows)


if __name__ == "__main__":
    print(main())
