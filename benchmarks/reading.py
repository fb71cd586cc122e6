"""How long a stranger's graph takes to be read as a network, with all of its weights; and how much memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.measure import compare, table
from zoo import registry
from zoo.frameworks.onnx import graph, write
from zoo.shapes import parameter_shapes

_NODES = 250
# ResNet-152's stages: blocks, channels inside, channels out (K. He et al., 2015, arXiv:1512.03385, table 1).
_STAGES = ((3, 64, 256), (8, 128, 512), (36, 256, 1024), (3, 512, 2048))
_GOALS = {"alexnet": "1 s, file + 100 MB", "resnet152": "2 s"}


def alexnet(path: Path) -> int:
    """The network's own graph without a word of where it comes from, made 250 nodes by ones that do nothing."""
    spec, rng = registry.model("alexnet"), np.random.default_rng(0)
    weights = {name: rng.standard_normal(shape, np.float32) for name, shape in parameter_shapes(spec).items()}
    write(path, graph(spec), weights)
    model = onnx.load(path)
    del model.metadata_props[:]
    last = model.graph.output[0].name
    model.graph.node[-1].output[0] = "before0"
    more = _NODES - len(model.graph.node)
    for i in range(more):
        made = last if i == more - 1 else f"before{i + 1}"
        model.graph.node.append(helper.make_node("Identity", [f"before{i}"], [made]))
    onnx.save(model, path)
    return len(model.graph.node)


class _Resnet:
    """Writes the graph as torch.onnx does before it folds anything."""

    def __init__(self) -> None:
        self.nodes, self.stored, self.rng = list[Any](), list[Any](), np.random.default_rng(0)

    def node(self, op: str, *reads: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(reads), [name], **attributes))
        return name

    def store(self, *shape: int) -> str:
        name = f"w{len(self.stored)}"
        array = np.abs(self.rng.standard_normal(shape, np.float32)) * np.float32(0.01) + np.float32(0.001)
        self.stored.append(numpy_helper.from_array(array, name))
        return name

    def conv(self, x: str, inside: int, out: int, kernel: int, stride: int = 1) -> str:
        pads = [kernel // 2] * 4
        y = self.node("Conv", x, self.store(out, inside, kernel, kernel), pads=pads, strides=[stride] * 2)
        return self.node("BatchNormalization", y, *(self.store(out) for _ in range(4)))

    def block(self, x: str, inside: int, width: int, out: int, stride: int) -> str:
        y = self.node("Relu", self.conv(x, inside, width, 1))
        y = self.conv(self.node("Relu", self.conv(y, width, width, 3, stride)), width, out, 1)
        side = self.conv(x, inside, out, 1, stride) if inside != out else x
        return self.node("Relu", self.node("Add", y, side))


def resnet152(path: Path) -> int:
    made = _Resnet()
    x = made.node("Relu", made.conv("data", 3, 64, 7, 2))
    x = made.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    inside = 64
    for stage, (blocks, width, out) in enumerate(_STAGES):
        for i in range(blocks):
            x = made.block(x, inside, width, out, 2 if stage and not i else 1)
            inside = out
    x = made.node("Flatten", made.node("GlobalAveragePool", x))
    x = made.node("Gemm", x, made.store(1000, inside), made.store(1000), transB=1)
    data = helper.make_tensor_value_info("data", TensorProto.FLOAT, ["N", 3, 224, 224])
    answer = helper.make_tensor_value_info(x, TensorProto.FLOAT, ["N", 1000])
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(helper.make_graph(made.nodes, "g", [data], [answer], made.stored), opset_imports=opset)
    onnx.save(model, path)
    return len(made.nodes)


_GRAPHS = {"alexnet": alexnet, "resnet152": resnet152}


def main() -> str:
    """The table of docs/onnx-file.md."""
    rows = list[list[str]]()
    with TemporaryDirectory(prefix="zoo-reading-") as folder:
        for name in _GRAPHS:
            path, python = Path(folder) / f"{name}.onnx", [sys.executable, "-c"]
            # In a process of its own: the peak of a child counts from what its parent holds.
            make = f"import benchmarks.reading as b; print(b._GRAPHS[{name!r}](b.Path({str(path)!r})))"
            nodes = subprocess.run([*python, make], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
            size = path.stat().st_size / 2**20
            costs = compare(
                {
                    "start": [*python, "import converters.convert, zoo.frameworks.onnx"],
                    "read": [*python, f"import converters.convert as c; c.load({str(path)!r})"],
                    "onnx": [*python, f"import onnx; onnx.load({str(path)!r})"],
                }
            )
            start, read, peer = costs["start"], costs["read"], costs["onnx"]
            told = [f"{read.seconds:.2f} s", f"{read.seconds - start.seconds:.2f} s"]
            told += [f"{read.megabytes:.0f} MB", f"{read.megabytes - size:+.0f} MB", _GOALS[name]]
            told += [f"{peer.seconds:.2f} s, {peer.megabytes:.0f} MB"]
            rows.append([name, nodes, f"{size:.0f} MB", *told])
    header = ("graph", "nodes", "file", "whole process", "less start", "peak", "peak - file", "goal", "onnx.load alone")
    return table(header, rows)


if __name__ == "__main__":
    print(main())
