"""Full-size conversions as whole processes, beside `cp` of the same bytes and beside caffe2onnx."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks.measure import ZOO, Cost, run, table

# caffe2onnx as its users run it, reading prototxt and caffemodel by itself; beside a modern protobuf it needs a module
# of its schema, and nothing else is mended here. It ignores LRN's k, so the network is one with k 1.
_MODEL = "bvlc_alexnet"
_PEER = "caffe2onnx 2.0.1, caffemodel -> ONNX"
_RUNS = 15
_CAFFE2ONNX = """
import sys
from types import SimpleNamespace
from converters.exporters._caffe_schema import caffe_module
name = "caffe2onnx.proto.caffe_upsample_pb2"
sys.modules[name] = caffe_module(name)
from caffe2onnx.convert import main
main(SimpleNamespace(prototxt=sys.argv[1], caffemodel=sys.argv[2], onnx=sys.argv[3], frozen=False))
"""

# The weights as MatConvNet's own conversions of Caffe's models have them: H x W x I x O in Fortran's order.
_MATLAB = """
import sys
import numpy as np
from scipy import io
from converters.convert import load
from converters.formats import matconvnet
from converters.tensormap import to_native
weights = load(sys.argv[1])
native = list(to_native(weights, matconvnet.entries(weights.spec, None)).items())
layers = np.empty((1, len(native) // 2), object)
for i, ((name, kernel), (_, bias)) in enumerate(zip(native[::2], native[1::2])):
    parts = np.empty((1, 2), object)
    parts[0, 0], parts[0, 1] = kernel, bias.reshape(1, -1)
    layers[0, i] = {"type": "conv", "name": name.split("/")[-2], "weights": parts}
io.savemat(sys.argv[2], {"layers": layers})
"""


def main() -> str:
    with tempfile.TemporaryDirectory() as name:
        return _measure(Path(name))


def _measure(folder: Path) -> str:
    seed = (
        "import sys; from pathlib import Path; from zoo import registry; from converters.convert import save; from "
        "converters.parity import probe_weights; save(probe_weights(registry.model(sys.argv[2])), Path(sys.argv[1]))"
    )
    kinds = ("caffemodel", "safetensors", "ckpt", "onnx", "keras", "h5", "mat")
    caffe, safe, ckpt, onnx, keras, h5, mat = (folder / f"a.{kind}" for kind in kinds)
    run([sys.executable, "-c", seed, str(caffe), _MODEL])
    for target in (safe, ckpt, onnx, keras, h5):
        run([ZOO, "convert", str(caffe), "-o", str(target)])
    run([sys.executable, "-c", _MATLAB, str(safe), str(mat)])
    out = folder / "out"
    jobs = {
        "caffemodel -> safetensors": (caffe, "safetensors", 4.0),
        "caffemodel -> ONNX": (caffe, "onnx", 4.0),
        "safetensors -> ONNX": (safe, "onnx", 4.0),
        "safetensors -> caffemodel": (safe, "caffemodel", 4.0),
        "ONNX -> safetensors": (onnx, "safetensors", 4.0),
        "ONNX -> caffemodel": (onnx, "caffemodel", 4.0),
        "safetensors -> TF checkpoint": (safe, "ckpt", 6.0),
        "TF checkpoint -> safetensors": (ckpt, "safetensors", 6.0),
        "safetensors -> Keras": (safe, "keras", 6.0),
        "Keras -> safetensors": (keras, "safetensors", 6.0),
        "safetensors -> Keras's older .h5": (safe, "h5", 6.0),
        "Keras's older .h5 -> safetensors": (h5, "safetensors", 6.0),
        "MatConvNet's .mat -> safetensors": (mat, "safetensors", 6.0),
    }
    commands = {"start": [sys.executable, "-c", "pass"], "cp": ["cp", str(caffe), str(out / "b")]}
    for title, (source, kind, _) in jobs.items():
        commands[title] = [ZOO, "convert", str(source), "--model", _MODEL, "-o", str(out / f"b.{kind}")]
    again = [ZOO, "convert", str(caffe), "-o", str(out / "b.safetensors"), "--force"]
    # Where `zoo` replaces a file, the new one is flushed to the disk first; a new file is left to the system, as by cp.
    flushed = {
        "cp + sync": ["sh", "-c", f"cp {caffe} {out / 'b'} && sync {out / 'b'}"],
        "caffemodel -> safetensors, replacing a file": ["sh", "-c", f"touch {again[-2]} && {' '.join(again)}"],
    }
    caffe2onnx = [
        sys.executable,
        "-c",
        _CAFFE2ONNX,
        str(caffe.with_suffix(".prototxt")),
        str(caffe),
        str(out / "b.onnx"),
    ]

    def copied() -> Cost:
        # Some hosts lend a virtual machine memory page by page, and take back what lies idle for two seconds: whoever
        # comes first then pays for everyone. So every command, `cp` too, finds what one copy has just left, and is held
        # against that copy: a busy neighbour hits both.
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        os.sync()  # what the last command left the disk to do is not this one's
        cost = run(commands["cp"])
        (out / "b").unlink()
        return cost

    def measured(commands: Mapping[str, Sequence[str]], runs: int) -> None:
        for turn in range(runs + 1):
            for title, command in commands.items():
                pair = copied(), run(command)
                taken.setdefault(title, []).extend([pair] if turn else [])

    taken = dict[str, list[tuple[Cost, Cost]]]()
    measured(commands, _RUNS)
    measured(flushed, _RUNS)  # apart: what the disk then does would fall on whoever comes next
    measured({_PEER: caffe2onnx}, 3)
    start = median(cost.seconds for _, cost in taken["start"])
    durable, peer = (median(cost.seconds for _, cost in taken[title]) for title in ("cp + sync", _PEER))
    size = caffe.stat().st_size / 2**20

    def row(title: str, goal: str) -> list[str]:
        less = 0.0 if title.startswith("cp") else start
        wall = median(cost.seconds for _, cost in taken[title])
        peak = max(cost.megabytes for _, cost in taken[title])
        return [
            title,
            f"{wall:.2f} s",
            f"{median((cost.seconds - less) / copy.seconds for copy, cost in taken[title]):.1f} x",
            f"{(wall - less) / durable:.1f} x",
            f"{peer / wall:.0f} x",
            f"{peak:.0f} MB",
            f"{peak - size:+.0f} MB",
            goal,
        ]

    rows = [row("cp", "-"), row("cp + sync", "-")]
    rows += [row(title, f"{goal:.0f} x cp, file + 150 MB") for title, (_, _, goal) in jobs.items()]
    rows += [row("caffemodel -> safetensors, replacing a file", "-"), row(_PEER, "-")]
    header = [
        "whole process, 244 MB",
        "wall",
        "less start, against `cp`",
        "against `cp` + `sync`",
        "caffe2onnx takes",
        "peak",
        "peak - file",
        "goal",
    ]
    return table(header, rows)


if __name__ == "__main__":
    print(main())
