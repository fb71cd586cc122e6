"""The ONNX graph against the oracle, kind by kind and as a whole; its form, its names, its bytes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from converters.convert import load
from converters.parity import probe_weights
from converters.weights import Array
from tests.small import shrink
from zoo import reference, registry
from zoo.errors import FileFormatError, UnknownNameError, UnsupportedError
from zoo.frameworks import onnx as ours
from zoo.layers import (
    LRN,
    BatchNorm,
    Bias,
    Concat,
    Conv,
    Dense,
    Dropout,
    Eltwise,
    Flatten,
    Input,
    Layer,
    ModelSpec,
    Pool,
    Power,
    Preprocessing,
    ReLU,
    Scale,
    Shape,
    Sigmoid,
    Slice,
    Softmax,
    TanH,
)
from zoo.shapes import parameter_shapes
from zoo.spec_json import METADATA_KEY, loads
from zoo.wire.onnx import IR_VERSIONS, OPSET, chunks

# The float32 floor of a layer against the float64 oracle is 0.3e-6 to 2e-6; the budget of the proof is 1e-5.
BUDGET = 1e-5

IMAGE, VECTOR, SEQUENCE, PIXELS = (8, 7, 6), (8,), (4, 5), (3, 9, 9)


def net(layer: Layer, *shapes: Shape) -> ModelSpec:
    inputs = tuple(Input(name=f"in{i}", shape=shape) for i, shape in enumerate(shapes or (IMAGE,)))
    if len(inputs) > 1:
        layer = replace(layer, inputs=tuple(source.name for source in inputs))
    return ModelSpec(name="net", title="one layer", inputs=inputs, layers=(layer,))


def pool(
    mode: str, kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int] = (0, 0), **rest: Any
) -> Pool:
    return Pool(name="op", mode=mode, kernel=kernel, stride=stride, pad=pad, **rest)  # pyright: ignore


KINDS = {
    "conv": net(Conv(name="op", out_channels=4, kernel=(3, 2), stride=(2, 1), pad=(1, 0), bias=False)),
    "conv groups": net(Conv(name="op", out_channels=6, kernel=(3, 3), pad=(2, 2), groups=2, dilation=(2, 1))),
    "conv ceil": net(Conv(name="op", out_channels=4, kernel=(3, 3), stride=(3, 3), pad=(1, 0), rounding="ceil")),
    "dense image": net(Dense(name="op", out_features=5)),
    "dense vector": net(Dense(name="op", out_features=5, bias=False), VECTOR),
    "dense axis 2": net(Dense(name="op", out_features=5, axis=2)),
    "dense axis -1": net(Dense(name="op", out_features=5, axis=-1, bias=False)),
    "max ceil": net(pool("max", (3, 3), (2, 2))),
    "max floor": net(pool("max", (2, 3), (2, 1), rounding="floor")),
    "max pad": net(pool("max", (3, 3), (2, 2), (1, 1))),
    "max pad one side": net(pool("max", (3, 2), (2, 2), (1, 0)), (3, 8, 8)),
    "max pad clip": net(pool("max", (3, 2), (3, 2), (1, 0)), PIXELS),
    "max empty": net(pool("max", (1, 1), (2, 2))),
    "max gaps": net(pool("max", (2, 1), (4, 3)), PIXELS),
    "ave ceil": net(pool("ave", (3, 3), (2, 2))),
    "ave floor": net(pool("ave", (3, 3), (2, 2), rounding="floor")),
    "ave pad": net(pool("ave", (3, 3), (2, 2), (1, 1))),
    "ave pad overhang": net(pool("ave", (3, 3), (2, 2), (1, 1)), (3, 8, 8)),
    "ave pad clip": net(pool("ave", (3, 3), (3, 3), (1, 2)), PIXELS),
    "ave empty": net(pool("ave", (1, 1), (2, 2))),
    "max global": net(Pool(name="op", mode="max", global_pool=True)),
    "ave global": net(Pool(name="op", mode="ave", global_pool=True)),
    "lrn": net(LRN(name="op", size=5, alpha=0.5, beta=0.75, k=2.0)),
    "lrn towers": net(LRN(name="op", size=3, alpha=0.5, beta=0.75, k=2.0, towers=2)),
    "lrn other beta": net(LRN(name="op", size=3, alpha=0.5, beta=0.6, k=2.0, towers=4)),
    "lrn wider than the image": net(LRN(name="op", size=9, alpha=1.0, beta=0.5), (3, 2, 2)),
    "lrn within": net(LRN(name="op", size=3, alpha=0.5, beta=0.75, region="within")),
    "lrn many channels": net(LRN(name="op", size=5, alpha=0.5, beta=0.75, k=2.0), (70, 2, 3)),
    "lrn two wide towers": net(LRN(name="op", size=5, alpha=0.5, beta=0.7, towers=2), (130, 47, 47)),
    "lrn prime channels": net(LRN(name="op", size=5, alpha=0.5, beta=0.75, k=2.0), (19, 2, 3)),
    "lrn wide window": net(LRN(name="op", size=21, alpha=0.5, beta=0.75, towers=2), (64, 2, 3)),
    "lrn vector": net(LRN(name="op", size=3, alpha=0.5, beta=0.75, towers=2), VECTOR),
    "lrn sequence": net(LRN(name="op", size=3, alpha=0.5, beta=0.75), SEQUENCE),
    "lrn volume": net(LRN(name="op", size=3, alpha=0.5, beta=0.75, towers=2), (4, 2, 3, 2)),
    "relu": net(ReLU(name="op")),
    "relu slope": net(ReLU(name="op", negative_slope=0.1)),
    "sigmoid": net(Sigmoid(name="op")),
    "tanh": net(TanH(name="op")),
    "power": net(Power(name="op", power=2.0, scale=0.5, shift=1.0)),
    "power of zero": net(Power(name="op", power=0.0)),
    "power scale": net(Power(name="op", scale=0.5)),
    "power 1": net(Power(name="op")),
    "dropout": net(Dropout(name="op", ratio=0.3)),
    "softmax": net(Softmax(name="op")),
    "softmax axis -1": net(Softmax(name="op", axis=-1)),
    "flatten": net(Flatten(name="op")),
    "flatten some": net(Flatten(name="op", axis=2)),
    "flatten first": net(Flatten(name="op", axis=1, end_axis=2)),
    "concat": net(Concat(name="op"), IMAGE, (3, 7, 6)),
    "concat rows": net(Concat(name="op", axis=-2), IMAGE, (8, 2, 6)),
    "concat batch": net(Concat(name="op", axis=0), IMAGE, IMAGE),
    "slice": net(Slice(name="op", start=2, stop=5)),
    "slice columns": net(Slice(name="op", start=1, stop=4, axis=-1)),
    "sum": net(Eltwise(name="op"), IMAGE, IMAGE, IMAGE),
    "weighted sum": net(Eltwise(name="op", coeffs=(1.0, -0.5)), IMAGE, IMAGE),
    "product": net(Eltwise(name="op", operation="prod"), IMAGE, IMAGE, IMAGE),
    "product of one": net(Eltwise(name="op", operation="prod")),
    "maximum": net(Eltwise(name="op", operation="max"), IMAGE, IMAGE),
    "scale": net(Scale(name="op", bias=True)),
    "scale rows": net(Scale(name="op", axis=2, num_axes=2)),
    "scale all": net(Scale(name="op", axis=1, num_axes=-1, bias=True)),
    "scale vector": net(Scale(name="op"), VECTOR),
    "scale by image": net(Scale(name="op", axis=0), IMAGE, IMAGE),
    "scale by vector": net(Scale(name="op", axis=0, bias=True), IMAGE, VECTOR),
    "bias": net(Bias(name="op", axis=2)),
    "bias by vector": net(Bias(name="op", axis=0), IMAGE, VECTOR),
    "batch norm": net(BatchNorm(name="op", eps=1e-6)),
    "batch norm vector": net(BatchNorm(name="op"), VECTOR),
    "batch norm sequence": net(BatchNorm(name="op"), SEQUENCE),
    "batch statistics": net(BatchNorm(name="op", batch_stats=True)),
}


def probe(spec: ModelSpec, rows: int = 3) -> tuple[dict[str, Array], dict[str, Array]]:
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in parameter_shapes(spec).items()}
    weights = {name: np.abs(w) + 1 if name.endswith("variance") else w for name, w in weights.items()}
    inputs = {i.name: rng.normal(scale=3, size=(rows, *i.shape)).astype(np.float32) for i in spec.inputs}
    return weights, inputs


def assert_parity(found: dict[str, Array], expected: dict[str, Array]) -> None:
    assert list(found) == list(expected)
    for name, wanted in expected.items():
        assert found[name].dtype == np.float32
        assert found[name].shape == wanted.shape
        peak = np.nanmax(np.abs(wanted))
        np.testing.assert_allclose(found[name], wanted, rtol=0, atol=BUDGET * peak, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_agrees_with_the_oracle(kind: str) -> None:
    weights, inputs = probe(KINDS[kind])
    assert_parity(ours.forward(KINDS[kind], weights, inputs), reference.forward(KINDS[kind], weights, inputs))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("lrn")])
def test_the_fast_form_of_lrn_is_the_same_function(kind: str) -> None:
    weights, inputs = probe(KINDS[kind])
    data = b"".join(chunks(ours.graph(KINDS[kind], fast_lrn=True), weights))
    assert_parity(ours.run(data, inputs), reference.forward(KINDS[kind], weights, inputs))


@pytest.mark.parametrize("opset", IR_VERSIONS)
@pytest.mark.parametrize("kind", ["lrn towers", "lrn two wide towers"])
def test_the_fast_form_of_lrn_is_valid_in_every_operator_set_at_any_batch(opset: int, kind: str) -> None:
    spec = KINDS[kind]
    graph = ours.graph(spec, opset=opset, fast_lrn=True)
    for rows in (1, 3):
        weights, inputs = probe(spec, rows)
        data = b"".join(chunks(graph, weights))
        onnx.checker.check_model(data, full_check=True)
        assert onnx.load_from_string(data).SerializeToString(deterministic=True) == data
        assert_parity(ours.run(data, inputs), reference.forward(spec, weights, inputs))


@pytest.mark.parametrize("opset", IR_VERSIONS)
def test_every_operator_set_is_valid_onnx_and_runs(opset: int) -> None:
    for name, spec in KINDS.items():
        if opset == 7 and name == "power of zero":
            with pytest.raises(UnsupportedError, match="needs Expand, which ONNX has from operator set 8 on"):
                ours.graph(spec, opset=opset)
            continue
        weights, inputs = probe(spec)
        data = b"".join(chunks(ours.graph(spec, opset=opset), weights))
        onnx.checker.check_model(data, full_check=True)
        assert_parity(ours.run(data, inputs), reference.forward(spec, weights, inputs))


def test_other_operator_sets_are_refused() -> None:
    for opset in (0, 6, 29):
        with pytest.raises(UnsupportedError, match="choose one of 7 to 28"):
            ours.graph(KINDS["relu"], opset=opset)


@pytest.mark.parametrize("model", registry.models())
@pytest.mark.parametrize("fast_lrn", [False, True])
def test_the_family_agrees_with_the_oracle(model: str, fast_lrn: bool) -> None:
    weights = probe_weights(shrink(model), seed=0)
    spec = weights.spec
    inputs = {i.name: 60 * probe(spec, 2)[1][i.name] for i in spec.inputs}
    expected = reference.forward(spec, weights.tensors, inputs)
    del expected["prob"]  # the softmax has a floor of its own, and is not gated
    data = b"".join(chunks(ours.graph(spec, fast_lrn=fast_lrn, every_activation=True), weights.tensors))
    assert_parity(ours.run(data, inputs, list(expected)), expected)


def test_one_node_a_layer_named_after_it() -> None:
    model = onnx.load_from_string(b"".join(chunks(ours.graph(shrink("bvlc_alexnet")), None)))
    nodes = [node for node in model.graph.node if node.op_type != "Constant"]
    layers = [layer.name for layer in shrink("bvlc_alexnet").layers]
    assert [node.name for node in nodes if "/" not in node.name] == layers
    assert [node.name for node in nodes if "/" in node.name] == ["fc6/rows"]
    assert all(list(node.output) == [node.name] for node in nodes)
    kinds = {node.name: node.op_type for node in nodes}
    assert (kinds["norm1"], kinds["fc6"], kinds["pool1"], kinds["drop6"]) == ("LRN", "Gemm", "MaxPool", "Dropout")
    names = [tensor.name for tensor in model.graph.initializer]
    assert names == list(parameter_shapes(shrink("bvlc_alexnet")))
    assert model.opset_import[0].version == OPSET


def test_towers_cost_a_reshape_on_either_side() -> None:
    model = onnx.load_from_string(b"".join(chunks(ours.graph(shrink("alexnet")), None)))
    norm1 = [node for node in model.graph.node if node.name.startswith("norm1") and node.op_type != "Constant"]
    assert [node.op_type for node in norm1] == ["Reshape", "LRN", "Reshape"]
    assert {a.name: a.f or a.i for a in norm1[1].attribute}["bias"] == 2.0


@pytest.mark.parametrize("rows", [1, 5])
def test_the_batch_is_open(rows: int) -> None:
    weights, spec = probe_weights(shrink("alexnet", channels=16), seed=0), shrink("alexnet", channels=16)
    inputs = probe(spec, rows)[1]
    graph = ours.graph(spec)
    assert graph.inputs == {"data": ("N", 3, 227, 227)}
    assert graph.outputs == {"prob": ("N", 10)}
    assert ours.run(b"".join(chunks(graph, weights.tensors)), inputs)["prob"].shape == (rows, 10)


def test_batches_of_different_sizes_are_joined() -> None:
    spec = KINDS["concat batch"]
    inputs = {"in0": np.ones((1, *IMAGE), np.float32), "in1": np.zeros((4, *IMAGE), np.float32)}
    assert ours.forward(spec, {}, inputs)["op"].shape == (5, *IMAGE)


def test_metadata_carries_the_network_and_its_preprocessing() -> None:
    spec = replace(shrink("alexnet"), preprocessing=Preprocessing(channels="BGR", mean=(1.0, 2.0, 3.0)))
    model = onnx.load_from_string(b"".join(chunks(ours.graph(spec), None)))
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert loads(metadata[METADATA_KEY]) == spec
    assert metadata["model"] == "alexnet"
    assert json.loads(metadata["preprocessing"])["mean"] == [1.0, 2.0, 3.0]


def test_the_bytes_are_protobufs_own_and_always_the_same() -> None:
    weights = probe_weights(shrink("alexnet"), seed=0)
    data = b"".join(chunks(ours.graph(weights.spec), weights.tensors))
    assert data == b"".join(chunks(ours.graph(weights.spec), weights.tensors))
    assert onnx.load_from_string(data).SerializeToString(deterministic=True) == data


def test_what_is_generated_runs_and_says_that_it_is_untrained(tmp_path: Path) -> None:
    spec = shrink("alexnet_cifar10")
    (path,) = ours.generate(spec, tmp_path)
    first = path.read_bytes()
    assert ours.generate(spec, tmp_path) == [tmp_path / "alexnet_cifar10.onnx"]
    assert path.read_bytes() == first
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert {e.key: e.value for e in model.metadata_props}["weights"].startswith("untrained")
    logits = ours.run(path, probe(spec)[1])["prob"]
    assert np.isfinite(logits).all()
    assert logits.std() > 0


def test_weights_are_lent_to_the_runtime_not_written() -> None:
    weights = probe_weights(shrink("alexnet"), seed=0)
    skeleton = b"".join(chunks(ours.graph(weights.spec), None))
    assert len(skeleton) < 20_000
    inputs = probe(weights.spec, 1)[1]
    whole = ours.run(b"".join(chunks(ours.graph(weights.spec), weights.tensors)), inputs)["prob"]
    np.testing.assert_array_equal(ours.forward(weights.spec, weights.tensors, inputs)["prob"], whole)


def test_a_file_of_two_gibibytes_is_refused() -> None:
    layers = (Dense(name="a", out_features=30_000), Dense(name="b", out_features=30_000))
    spec = ModelSpec(name="big", title="", inputs=(Input(shape=(30_000,)),), layers=layers)
    with pytest.raises(UnsupportedError, match="2 GiB"):
        next(iter(chunks(ours.graph(spec), {})))


def test_weights_beyond_the_limit_lie_in_a_file_beside(tmp_path: Path) -> None:
    weights, inputs = probe_weights(shrink("alexnet"), seed=0), probe(shrink("alexnet"), 1)[1]
    graph, path = ours.graph(weights.spec), tmp_path / "a.onnx"
    size = sum(tensor.nbytes for tensor in weights.tensors.values())
    ours.write(path, graph, weights.tensors, most=size)
    assert [file.name for file in tmp_path.iterdir()] == ["a.onnx"]
    whole = ours.run(path, inputs)["prob"]
    ours.write(path, graph, weights.tensors, most=size - 1)
    assert path.stat().st_size < 20_000 and size <= (tmp_path / "a.onnx.data").stat().st_size < size + (1 << 17)
    onnx.checker.check_model(str(path), full_check=True)
    np.testing.assert_array_equal(ours.run(path, inputs)["prob"], whole)
    back = load(path)
    assert back.spec == weights.spec
    for name, tensor in weights.tensors.items():
        np.testing.assert_array_equal(back.tensors[name], tensor)
        np.testing.assert_array_equal(
            onnx.numpy_helper.to_array(next(t for t in onnx.load(path).graph.initializer if t.name == name)), tensor
        )


def test_names_that_collide_are_kept_apart_or_refused() -> None:
    image = (Input(shape=(2, 4, 4)),)
    layers = (ReLU(name="op/rows"), Dense(name="op", out_features=2))
    spec = ModelSpec(name="m", title="", inputs=image, layers=layers)
    weights, inputs = probe(spec)
    assert_parity(ours.forward(spec, weights, inputs), reference.forward(spec, weights, inputs))
    layers = (ReLU(name="op.weight"), Dense(name="op", out_features=2))
    with pytest.raises(UnsupportedError, match=r"'op\.weight': .* rename the layer"):
        ours.graph(ModelSpec(name="m", title="", inputs=image, layers=layers))


def test_the_runtimes_refusals_take_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(FileFormatError, match=r"bad\.onnx: ONNX Runtime refuses it") as caught:
        ours.run(tmp_path / "bad.onnx", {})
    assert "\n" not in str(caught.value)
    data = b"".join(chunks(ours.graph(KINDS["relu"]), {}))
    for inputs in ({}, {"in0": np.zeros((1, 2), np.float32)}, {"in0": np.zeros((1, *IMAGE))}):
        with pytest.raises(FileFormatError, match="refuses"):
            ours.run(data, inputs)
    with pytest.raises(UnknownNameError, match="known: op"):
        ours.run(data, {"in0": np.zeros((1, *IMAGE), np.float32)}, ["opp"])
