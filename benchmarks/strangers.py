"""The nine networks of onnx's own tests, read, given random weights, and run in every framework beside ONNX Runtime."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from benchmarks.measure import table
from converters.weights import Array
from zoo import registry
from zoo.errors import ZooError
from zoo.frameworks import onnx as ours
from zoo.wire.mapped import mapped
from zoo.wire.onnx import parse

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
FRAMEWORKS = ("pytorch", "tf_slim", "caffe")


def with_random_weights(model: Any, rng: np.random.Generator) -> None:
    """Store what the graph makes of single numbers as random ones, He-scaled; statistics stay positive."""
    stored = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    positive = {node.input[4] for node in model.graph.node if node.op_type == "BatchNormalization"}
    kept = [node for node in model.graph.node if node.op_type != "ConstantOfShape"]
    for node in model.graph.node:
        if node.op_type == "ConstantOfShape":
            name, shape = node.output[0], tuple(int(size) for size in stored[node.input[0]])
            fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 16
            numbers = rng.normal(size=shape) * np.sqrt(2 / fan_in)
            array = np.abs(numbers) + 0.5 if name in positive else numbers
            model.graph.initializer.append(numpy_helper.from_array(array.astype("f"), name))
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.ir_version = max(model.ir_version, 4)  # before it, what is stored is an input as well


def row(path: Path, folder: Path) -> tuple[str, ...]:
    """Network, nodes, layers, parameters, seconds to read, and the error in each framework."""
    rng, model, file = np.random.default_rng(0), onnx.load(path), folder / path.name
    with_random_weights(model, rng)
    onnx.save(model, file)
    start = time.perf_counter()
    net = ours.read_graph(parse(mapped(file), folder), path.stem, path.name)
    seconds = time.perf_counter() - start
    image = {source.name: rng.normal(size=(1, *source.shape)).astype("f") for source in net.spec.inputs}
    unread = {
        name: np.zeros([d for d in kind.dimensions or () if isinstance(d, int)], "f") for name, kind in _fed(file)
    }
    right = ours.run(file, unread | image)
    weights = {name: np.ascontiguousarray(array) for name, array in net.parameters.items()}
    errors = [_error(framework, net, weights, image, right) for framework in FRAMEWORKS]
    count = sum(array.size for array in weights.values())
    name = path.stem.removeprefix("light_")
    return name, str(len(model.graph.node)), str(len(net.spec.layers)), f"{count:,}", f"{seconds:.2f} s", *errors


def _fed(file: Path) -> list[tuple[str, Any]]:
    model = parse(mapped(file), file.parent)
    return [(name, kind) for name, kind in model.inputs.items() if name not in model.initializers]


def _error(
    framework: str,
    net: ours.OnnxNet,
    weights: Mapping[str, Array],
    image: Mapping[str, Array],
    right: Mapping[str, Array],
) -> str:
    try:
        found = registry.framework(framework).forward(net.spec, weights, image)
    except ZooError as error:
        return f"refused: {error}"
    errors = [
        float(np.abs(found[name].reshape(value.shape) - value).max() / np.abs(value).max())
        for name, value in right.items()
    ]
    return f"{max(errors):.1e}"


def main() -> str:
    """The table of docs/onnx-file.md."""
    with TemporaryDirectory(prefix="zoo-strangers-") as folder:
        rows = [row(path, Path(folder)) for path in sorted(LIGHT.glob("light_*.onnx"))]
    return table(("network", "nodes", "layers", "parameters", "read in", *FRAMEWORKS), rows)


if __name__ == "__main__":
    print(main())
