"""ONNX graphs read as networks, and held against ONNX Runtime; for several test files."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import onnx.helper as make
from onnx import TensorProto, numpy_helper

from converters.parity import file_subjects
from converters.verdicts import Structure
from converters.weights import Array, Weights
from zoo import reference
from zoo.frameworks import onnx as ours
from zoo.wire.mapped import mapped
from zoo.wire.onnx import parse

BUDGET = 1e-5


def read(path: Path) -> ours.OnnxNet:
    return ours.read_graph(parse(mapped(path), path.parent), path.stem, path.name)


def read_model(model: Any) -> ours.OnnxNet:
    return ours.read_graph(parse(memoryview(model.SerializeToString()), Path("/nowhere")), "net", "net")


@contextmanager
def by_numbers() -> Generator[list[str], None, None]:
    """A graph that is read to be the very network is judged as one that cannot be read; yields what was read."""
    real, said = file_subjects.structure_of_graph, list[str]()

    def masked(path: Path, right: Weights) -> Structure:
        found = real(path, right)
        said.append(found.verdict)
        return replace(found, verdict="unread") if found.verdict == "identical" else found

    with patch.object(file_subjects, "structure_of_graph", masked):
        yield said


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


# Graphs of a few nodes

X = make.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])
Y = make.make_tensor_value_info("y", TensorProto.FLOAT, None)
W = np.ones((4, 3, 3, 3), np.float32)


def model_of(
    *nodes: Any, x: Any = X, stored: Mapping[str, Any] | None = None, opset: int = 17, domain: str = ""
) -> Any:
    initializers = [numpy_helper.from_array(np.asarray(array), name) for name, array in (stored or {}).items()]
    graph = make.make_graph(list(nodes), "g", [x], [Y], initializers)
    imports = [make.make_opsetid("", opset), *([make.make_opsetid(domain, 1)] if domain else [])]
    return make.make_model(graph, opset_imports=imports)


def node(op: str, reads: str = "x", makes: str = "y", **attributes: Any) -> Any:
    return make.make_node(op, reads.split(), makes.split(), name=f"the {op}", **attributes)


def branch(name: str) -> Any:
    return make.make_graph(
        [make.make_node("Relu", ["x"], [name])], name, [], [make.make_tensor_value_info(name, 1, None)]
    )
