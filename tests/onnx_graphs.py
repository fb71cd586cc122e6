"""ONNX graphs read as networks, and held against ONNX Runtime; for several test files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from converters.weights import Array
from zoo import reference
from zoo.frameworks import onnx as ours
from zoo.wire.mapped import mapped
from zoo.wire.onnx import parse

BUDGET = 1e-5


def read(path: Path) -> ours.OnnxNet:
    return ours.read_graph(parse(mapped(path), path.parent), path.stem, path.name)


def read_model(model: Any) -> ours.OnnxNet:
    return ours.read_graph(parse(memoryview(model.SerializeToString()), Path("/nowhere")), "net", "net")


def assert_close(found: Array, wanted: Array) -> None:
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=BUDGET * max(float(np.abs(wanted).max()), 1e-30))


def held_against_runtime(path: Path, net: ours.OnnxNet, *, turned: bool = False) -> None:
    """The oracle on what was read, and ONNX Runtime on the file."""
    rng = np.random.default_rng(0)
    inputs = {i.name: rng.normal(size=(2, *i.shape)).astype("f") for i in net.spec.inputs}
    fed = {name: np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if turned else x for name, x in inputs.items()}
    wanted, found = ours.run(path, fed), reference.forward(net.spec, net.parameters, inputs)
    assert [*wanted] == [*net.spec.outputs]
    for name, value in wanted.items():
        assert_close(np.asarray(found[name]), value)


def stripped(path: Path) -> Path:
    """The same graph, every name in it a number."""
    model = onnx.load(path)
    graph, names = model.graph, dict[str, str]()

    def number(name: str) -> str:
        return names.setdefault(name, str(len(names))) if name else ""

    def strip(graph: Any) -> None:
        for items in (graph.input, graph.initializer, graph.output):
            for item in items:
                item.name = number(item.name)
        for node in graph.node:
            node.name = ""
            node.input[:] = map(number, node.input)
            node.output[:] = map(number, node.output)
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    strip(attribute.g)

    strip(graph)
    del model.metadata_props[:], graph.value_info[:]
    onnx.save(model, path.with_name("stripped.onnx"))
    return path.with_name("stripped.onnx")
