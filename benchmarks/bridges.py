"""Small networks of the era from Caffe to ONNX: this project beside caffe2onnx and caffe-onnx, as they are."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.measure import ZOO, table
from converters.convert import save
from converters.parity.onnx_graph import OnnxGraph
from converters.weights import Array
from tests.networks import NETWORKS
from tests.test_networks import inputs_of, spec_of, weights_of
from zoo import reference
from zoo.errors import ZooError
from zoo.frameworks import onnx

_PEER = "caffe-onnx==0.1.2"
_BUDGET = 1e-5


def _commands(prototxt: Path, folder: Path, peers: Path) -> dict[str, tuple[list[str], Path]]:
    """Converter -> its command, and what it writes. The peers' schemas are older than today's protobuf."""
    weights = prototxt.with_suffix(".caffemodel")
    ours, theirs, others = (folder / f"{name}.onnx" for name in ("zoo", "caffe2onnx", "caffe-onnx"))
    python = [sys.executable, "-c"]
    first = "from caffe2onnx.convert import main, parse_args; main(parse_args())"
    second = f"import sys; sys.path.insert(0, {str(peers)!r}); from src.cli import main; main()"
    return {
        "zoo export": ([ZOO, "export", str(weights), "--prototxt", str(prototxt), "-o", str(ours)], ours),
        "zoo export --no-verify": (
            [ZOO, "export", str(weights), "--prototxt", str(prototxt), "-o", f"{ours}.plain.onnx", "--no-verify"],
            Path(f"{ours}.plain.onnx"),
        ),
        "caffe2onnx 2.0.1": (
            [*python, first, "--prototxt", str(prototxt), "--caffemodel", str(weights), "--onnx", str(theirs)],
            theirs,
        ),
        _PEER.replace("==", " "): ([*python, second, str(prototxt), str(weights), "caffe-onnx", str(folder)], others),
    }


def _verdict(written: Path, inputs: Mapping[str, Array], right: Sequence[Array]) -> str:
    """Of one image, as the prototxt says: every answer of the network must be an output of the graph."""
    if not written.exists():
        return "refused"
    try:
        names = OnnxGraph(written).inputs  # theirs, in their order
        found = list(onnx.run(written, dict(zip(names, inputs.values(), strict=True)), None).values())
    except (ZooError, ValueError):
        return "no graph that runs"
    good = all(any(y.shape == want.shape and _near(y, want) for y in found) for want in right)
    return "right" if good else "wrong"


def _near(y: Array, want: Array) -> bool:
    return bool(np.abs(y - want).max(initial=0.0) <= _BUDGET * np.abs(want).max(initial=0.0))


def _row(name: str, folder: Path, peers: Path) -> dict[str, str]:
    spec = spec_of(name)
    weights, inputs = weights_of(spec), {source: batch[:1] for source, batch in inputs_of(spec).items()}
    found = reference.forward(spec, weights.tensors, inputs)
    right = [found[output] for output in spec.outputs]
    save(weights, folder / "net.caffemodel")
    prototxt = folder / "net.prototxt"
    prototxt.write_text(NETWORKS[name])
    environment = os.environ | {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}
    cells = dict[str, str]()
    for converter, (command, written) in _commands(prototxt, folder, peers).items():
        started = time.perf_counter()
        subprocess.run(command, env=environment, capture_output=True, check=False, timeout=300)
        seconds = time.perf_counter() - started
        cells[converter] = f"{_verdict(written, inputs, right)}, {seconds:.1f} s"
    return cells


def main() -> str:
    with TemporaryDirectory(prefix="zoo-bridges-") as folder:
        peers = Path(folder) / "peers"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(peers), _PEER]
        subprocess.run(pip, check=True)
        rows = dict[str, dict[str, str]]()
        for name in NETWORKS:
            (Path(folder) / name).mkdir()
            rows[name] = _row(name, Path(folder) / name, peers)
    header = next(iter(rows.values()))
    counts = {
        converter: f"{sum(row[converter].startswith('right') for row in rows.values())} of {len(rows)} right"
        for converter in header
    }
    lines = [[name, *row.values()] for name, row in rows.items()]
    return table(["network", *header], [*lines, ["", *counts.values()]])


if __name__ == "__main__":
    print(main())
