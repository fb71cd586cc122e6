"""Small networks as ONNX graphs: the project's own export and torch.onnx's two, with names inside and with numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from converters.convert import save
from converters.exporters.pytorch import export_onnx
from converters.parity import probe_inputs, probe_weights
from converters.weights import Array, Weights
from tests.small import shrink
from zoo import reference, registry
from zoo.layers import (
    BatchNorm,
    Concat,
    Conv,
    Dense,
    Dropout,
    Eltwise,
    Input,
    ModelSpec,
    Pool,
    Power,
    ReLU,
    Scale,
    Softmax,
)

EXPORTERS = ("own", "dynamo", "torchscript")

# What is said of a graph whose interior names are gone.
NUMBERED = "numbered"


def _mini() -> ModelSpec:
    spec = registry.model("alexnet_mini")
    for layer in spec.layers:
        if isinstance(layer, Conv):
            spec = spec.change(layer.name, out_channels=layer.out_channels // 6 * 2 if layer.name == "conv1" else 16)
        elif isinstance(layer, Dense):
            spec = spec.change(layer.name, out_features=24)
    return spec.with_num_classes(10)


def _branching() -> ModelSpec:
    """A join of two branches, one of them a shortcut; normalisation in Caffe's two halves; two answers."""
    return ModelSpec(
        name="branching",
        title="Concat, Eltwise, BatchNorm and Scale, two outputs",
        inputs=(Input(shape=(3, 16, 16)),),
        layers=(
            Conv(name="conv1", out_channels=8, kernel=(3, 3), pad=(1, 1), bias=False),
            BatchNorm(name="bn1"),
            Scale(name="scale1", bias=True),
            ReLU(name="relu1"),
            Pool(name="pool1", mode="max", kernel=(3, 3), stride=(2, 2)),
            Conv(name="left", out_channels=8, kernel=(1, 1)),
            Conv(name="right", inputs=("pool1",), out_channels=8, kernel=(3, 3), pad=(1, 1)),
            Eltwise(name="sum", inputs=("left", "right")),
            ReLU(name="relu2"),
            Concat(name="both", inputs=("relu2", "pool1")),
            Conv(name="conv2", out_channels=6, kernel=(3, 3), stride=(2, 2)),
            BatchNorm(name="bn2"),
            ReLU(name="relu3"),
            Pool(name="pool2", mode="ave", global_pool=True),
            Dense(name="fc", out_features=5),
            Softmax(name="prob"),
            Dense(name="aux", inputs=("pool1",), out_features=5),
        ),
    )


def _two_inputs() -> ModelSpec:
    return ModelSpec(
        name="two_inputs",
        title="two inputs of one shape",
        inputs=(Input(name="left", shape=(3, 8, 8)), Input(name="right", shape=(3, 8, 8))),
        layers=(
            Conv(name="conv_l", inputs=("left",), out_channels=4, kernel=(3, 3)),
            Conv(name="conv_r", inputs=("right",), out_channels=4, kernel=(3, 3)),
            Concat(name="both", inputs=("conv_l", "conv_r")),
            ReLU(name="relu"),
            Dense(name="fc1", out_features=12),
            ReLU(name="relu1"),
            Dropout(name="drop1"),
            Dense(name="fc2", out_features=6),
            Softmax(name="prob"),
        ),
    )


def _detector() -> ModelSpec:
    """Loud boxes and quiet scores in one output."""
    return ModelSpec(
        name="detector",
        title="boxes x 1000 beside scores / 1000",
        inputs=(Input(shape=(3, 12, 12)),),
        layers=(
            Conv(name="conv1", out_channels=8, kernel=(3, 3), stride=(2, 2)),
            ReLU(name="relu1"),
            Conv(name="boxes", out_channels=4, kernel=(3, 3)),
            Power(name="loud", scale=1000.0),
            Conv(name="scores", inputs=("relu1",), out_channels=4, kernel=(3, 3)),
            Power(name="quiet", scale=0.001),
            Concat(name="found", inputs=("loud", "quiet")),
        ),
    )


def _dead() -> ModelSpec:
    return ModelSpec(
        name="dead",
        title="a first bias so negative that nothing passes",
        inputs=(Input(shape=(3, 8, 8)),),
        layers=(
            Conv(name="conv1", out_channels=6, kernel=(3, 3)),
            ReLU(name="relu1"),
            Dense(name="fc1", out_features=12),
            ReLU(name="relu2"),
            Dense(name="fc2", out_features=6),
        ),
    )


def networks() -> dict[str, Weights]:
    """Right networks, a few thousand parameters each."""
    caffenet = shrink("caffenet", channels=24).change("conv1", kernel=(7, 7), stride=(3, 3)).with_input_size(43)
    specs = (_mini(), caffenet, _branching(), _two_inputs(), _detector(), _dead())
    made = {spec.name: probe_weights(spec) for spec in specs}
    dead = made["dead"]
    made["dead"] = replace(dead, tensors={**dead.tensors, "conv1.bias": dead.tensors["conv1.bias"] - np.float32(1e4)})
    return made


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A right graph, and what is known of it.

    Attributes:
        name: network, exporter, and whether its inside is numbered.
        weights: the right network.
        right: its file.
        model: the graph; never changed.
        values: tensor -> what it is on the inputs that the proof feeds.
        layers: first result of a node -> the layers it is a part of.
        logits: answer -> the tensor whose softmax it is.
    """

    name: str
    weights: Weights
    right: Path
    model: onnx.ModelProto
    values: Mapping[str, Array]
    layers: Mapping[str, frozenset[str]]
    logits: Mapping[str, str]

    @property
    def spec(self) -> ModelSpec:
        return self.weights.spec

    @property
    def nodes(self) -> Sequence[onnx.NodeProto]:
        return self.model.graph.node

    @property
    def stored(self) -> dict[str, Array]:
        """Initializer -> array."""
        return {tensor.name: numpy_helper.to_array(tensor) for tensor in self.model.graph.initializer}

    def readers(self, tensor: str) -> list[onnx.NodeProto]:
        return [node for node in self.nodes if tensor in node.input]

    def activation(self, tensor: str) -> bool:
        """Whether it is one number or more a sample, and not a shape or a constant."""
        value = self.values.get(tensor)
        return value is not None and value.ndim >= 2 and value.dtype == np.float32 and len(value) == 2


def graphs(folder: Path) -> Iterator[Graph]:
    """Every network by every exporter, with names and numbered; files are left in `folder`."""
    for name, weights in networks().items():
        right = folder / f"{name}.safetensors"
        save(weights, right)
        for exporter in EXPORTERS[:1] if name == "dead" else EXPORTERS:
            model = exported(weights, exporter, folder)
            for numbered in (False, True):
                found = renumbered(model) if numbered else model
                title = f"{name} {exporter}" + (f" {NUMBERED}" if numbered else "")
                yield _known(title, weights, right, found)


def exported(weights: Weights, exporter: Any, folder: Path) -> onnx.ModelProto:
    path = folder / f"{weights.spec.name}-{exporter}.onnx"
    if exporter == "own":
        save(weights, path)
    else:
        export_onnx(weights, path, every_activation=False, exporter=exporter)
    model = onnx.load(path)
    del model.graph.value_info[:]  # shapes that a change would make untrue
    return model


def renumbered(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph without a name inside: tensors are numbers, nodes have none, nor is there any metadata."""
    model = copied(model)
    kept = {value.name for value in (*model.graph.input, *model.graph.output)}
    names = [tensor.name for tensor in model.graph.initializer]
    names += [name for node in model.graph.node for name in node.output]
    rename(model, {name: str(i) for i, name in enumerate(names) if name and name not in kept})
    for node in model.graph.node:
        node.ClearField("name")
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    del model.metadata_props[:]
    return model


def rename(model: onnx.ModelProto, names: Mapping[str, str]) -> None:
    """Give tensors other names, also where a branch of an If reads them."""
    for tensor in model.graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for value in (*model.graph.input, *model.graph.output):
        value.name = names.get(value.name, value.name)
    _rename_nodes(model.graph.node, names)


def _rename_nodes(nodes: Iterable[onnx.NodeProto], names: Mapping[str, str]) -> None:
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            for branch in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                _rename_nodes(branch.node, names)


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    new = onnx.ModelProto()
    new.CopyFrom(model)
    return new


def run(model: onnx.ModelProto, inputs: Mapping[str, Array], *, inside: bool = False) -> dict[str, Array]:
    """What ONNX Runtime answers, in the order of the outputs; with `inside`, every node's first result as well."""
    if inside:
        model = copied(model)
        shown = {value.name for value in model.graph.output}
        made = [node.output[0] for node in model.graph.node if node.output[0] not in shown]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    quiet = ort.RunOptions()
    quiet.log_severity_level = 4
    names = [output.name for output in session.get_outputs()]
    made = cast("list[Array]", session.run(names, dict(inputs), quiet))
    return dict(zip(names, made, strict=True))


def _known(name: str, weights: Weights, right: Path, model: onnx.ModelProto) -> Graph:
    inputs, _ = probe_inputs(weights.spec)
    values = {**inputs, **run(model, inputs, inside=True)}
    answers = reference.forward(weights.spec, weights.tensors, inputs)
    makers = {result: node for node in model.graph.node for result in node.output}
    outputs = [value.name for value in model.graph.output]
    logits = {name: makers[name].input[0] for name in outputs if makers[name].op_type == "Softmax"}
    layers = _layers(weights.spec, model, values, answers)
    return Graph(name=name, weights=weights, right=right, model=model, values=values, layers=layers, logits=logits)


def _layers(
    spec: ModelSpec, model: onnx.ModelProto, values: Mapping[str, Array], answers: Mapping[str, Array]
) -> dict[str, frozenset[str]]:
    """Which layers a node belongs to: those whose very numbers it gives; else those of the nodes that read it."""
    shown = {
        node.output[0]: {name for name, answer in answers.items() if _same(values[node.output[0]], answer)}
        for node in model.graph.node
    }
    seen, wiring = set[str]().union(*shown.values()), spec.wiring()

    def with_hidden(names: Iterable[str]) -> frozenset[str]:
        """And the layers before them that no tensor shows: they were folded into these."""
        found, waiting = set[str](), list(names)
        while waiting:
            found.add(name := waiting.pop())
            waiting += [source for source in wiring[name] if source in wiring and source not in seen]
        return frozenset(found)

    layers = dict[str, frozenset[str]]()
    for node in reversed(model.graph.node):
        readers = [other.output[0] for other in model.graph.node if _reads(other, node.output)]
        later = frozenset[str]().union(*(layers[name] for name in readers))
        layers[node.output[0]] = with_hidden(shown[node.output[0]]) or later
    return layers


def _reads(node: onnx.NodeProto, results: Sequence[str]) -> bool:
    inner = [n for a in node.attribute if a.HasField("g") for n in a.g.node]
    return any(name in results for n in (node, *inner) for name in n.input)


def _same(value: Array, answer: Array) -> bool:
    """Equal numbers, whatever the shape."""
    if value.dtype != np.float32 or value.size != answer.size:
        return False
    peak = np.abs(answer).max()
    return bool(peak and np.abs(value.ravel() - answer.ravel()).max() <= 1e-5 * peak)
