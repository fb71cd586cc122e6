"""Seconds and memory of the whole proof at full size, and of two files beside reading both and running each once."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import ZOO, compare, table
from converters.convert import save
from converters.parity import probe_weights
from zoo import registry

_WHOLE, _TWO, _LEAST = "zoo verify alexnet", "zoo verify a.safetensors a.onnx", "reading both, and two runs"

# Both files read, and their networks run on the two probes: by the reference, and by ONNX Runtime.
_RUN_BOTH = """
import sys
from converters import load
from converters.parity.probes import probe_inputs
from zoo import reference
from zoo.frameworks import onnx
weights, graph = load(sys.argv[1]), load(sys.argv[2])
inputs, _ = probe_inputs(weights.spec)
reference.forward(weights.spec, weights.tensors, inputs)
onnx.forward(graph.spec, graph.tensors, inputs)
"""


def main() -> str:
    with TemporaryDirectory() as folder:
        files = [Path(folder) / f"a{suffix}" for suffix in (".safetensors", ".onnx")]
        for file in files:
            save(probe_weights(registry.model("alexnet")), file)
        paths = list(map(str, files))
        commands = {
            _WHOLE: [ZOO, "verify", "alexnet"],
            _TWO: [ZOO, "verify", *paths],
            _LEAST: [sys.executable, "-c", _RUN_BOTH, *paths],
        }
        costs = compare(commands, runs=3)
    goals = {
        _WHOLE: "60 s, 3 GB",
        _TWO: f"1.2 x the last row, {1.2 * costs[_LEAST].seconds:.1f} s",
        _LEAST: "-",
    }
    rows = [[name, f"{c.seconds:.1f} s", f"{c.megabytes / 1024:.1f} GB", goals[name]] for name, c in costs.items()]
    return table(["command", "wall", "peak", "goal"], rows)


if __name__ == "__main__":
    print(main())
