"""Full-size networks from Caffe to ONNX by `zoo export`, with its proof and without."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.large import LARGE, prototxt
from benchmarks.measure import ZOO, compare, table
from converters.convert import save
from converters.formats.caffe import read_network
from converters.parity import probe_weights

_GOALS = {"GoogLeNet": 2, "ResNet-50": 5, "VGG-16": 8}


def main() -> str:
    rows = list[list[str]]()
    for name in LARGE:
        with TemporaryDirectory() as folder:
            text = Path(folder) / "net.prototxt"
            text.write_text(prototxt(name))
            weights = text.with_suffix(".safetensors")
            save(probe_weights(read_network(text).spec), weights)
            command = [ZOO, "export", str(weights), "--force", "-o", str(text.with_suffix(".onnx"))]
            costs = compare({"with": command, "without": [*command, "--no-verify"]}, runs=1)
        told = [f"{cost.seconds:.1f} s, {cost.megabytes / 1024:.1f} GB" for cost in costs.values()]
        rows.append([name, *told, f"{_GOALS[name]} s"])
    return table(["network", "`zoo export`", "`zoo export --no-verify`", "goal, with its proof"], rows)


if __name__ == "__main__":
    print(main())
