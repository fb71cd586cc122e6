"""ONNX graphs read as networks: onnx's own nodes and networks, every exporter's graphs, and what is refused by name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnx.helper as make
import pytest
import torch
from onnx import TensorProto, numpy_helper
from onnx.backend.test.case import node as onnx_nodes

from converters.cli import main
from converters.convert import load, open_file, save
from converters.parity import probe_weights
from converters.weights import Array, Weights
from tests import kinds
from tests.small import small_weights
from zoo import reference, registry
from zoo.errors import FileFormatError, UnsupportedError, ZooError
from zoo.frameworks import onnx as ours
from zoo.layers import LRN, Conv, Dense, Input, ModelSpec, Pool, ReLU, Scale, Shuffle, Softmax
from zoo.likeness import unlike, without_closing_softmax
from zoo.shapes import activation_shapes
from zoo.wire.mapped import mapped
from zoo.wire.onnx import IR_VERSIONS, chunks, parse

BUDGET = 1e-5
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


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


# The nine networks of onnx's own tests

# Network -> layers, parameters, and in which framework its published answer is reproduced here (the others, and every
# framework with random weights: benchmarks/strangers.py).
NINE = {
    "bvlc_alexnet": (23, 60_965_224, "caffe"),
    "densenet121": (666, 8_145_896, "caffe"),
    "inception_v1": (142, 6_998_552, "pytorch"),
    "inception_v2": (364, 11_235_593, "caffe"),
    "resnet50": (228, 25_610_152, "caffe"),
    "shufflenet": (222, 1_421_181, "caffe"),
    "squeezenet": (66, 1_235_496, "pytorch"),
    "vgg19": (45, 143_667_240, ""),
    "zfnet512": (21, 87_250_536, "pytorch"),
}


def test_the_nine_are_all_there_are() -> None:
    assert {path.stem.removeprefix("light_") for path in LIGHT.glob("*.onnx")} == {*NINE}


@pytest.mark.parametrize("name", NINE)
def test_networks_of_the_era_are_read_and_give_the_published_answer(name: str) -> None:
    net = read(LIGHT / f"light_{name}.onnx")
    layers, parameters, framework = NINE[name]
    assert len(net.spec.layers) == layers
    assert sum(array.size for array in net.parameters.values()) == parameters
    if not framework:
        return
    answer = onnx.TensorProto()
    answer.ParseFromString((LIGHT / f"light_{name}_output_0.pb").read_bytes())
    (source,) = net.spec.inputs
    count = int(np.prod(source.shape))
    image = (np.arange(count).reshape(1, *source.shape) / count).astype("f")  # as onnx/backend/test/runner makes it
    weights = {key: np.ascontiguousarray(array) for key, array in net.parameters.items()}
    found = registry.framework(framework).forward(net.spec, weights, {source.name: image})
    wanted = numpy_helper.to_array(answer)
    assert_close(found[net.spec.outputs[0]].reshape(wanted.shape), wanted)


@pytest.mark.parametrize("name", ["inception_v1", "resnet50", "shufflenet", "squeezenet"])
def test_networks_of_the_era_are_generated(tmp_path: Path, name: str) -> None:
    spec = read(LIGHT / f"light_{name}.onnx").spec
    for framework in ("pytorch", "tf_slim", "caffe"):
        (tmp_path / framework).mkdir()
        assert registry.framework(framework).generate(spec, tmp_path / framework)[0].stat().st_size > 1000


def test_shuffled_channels_are_a_shuffle() -> None:
    layers = read(LIGHT / "light_shufflenet.onnx").spec.layers
    assert sum(isinstance(layer, Shuffle) for layer in layers) == 16


# onnx's backend tests of single nodes

# Operator -> how many of its cases are read here; the others are refused by name.
CASES = {
    "Add": 2,
    "ArgMax": 16,
    "AveragePool": 12,
    "BatchNormalization": 2,
    "Clip": 3,
    "Concat": 6,
    "Conv": 6,
    "ConvTranspose": 6,
    "Div": 2,
    "Dropout": 3,
    "Elu": 2,
    "Flatten": 3,
    "Gemm": 8,
    "GlobalAveragePool": 2,
    "GlobalMaxPool": 2,
    "InstanceNormalization": 2,
    "LRN": 2,
    "LeakyRelu": 2,
    "LogSoftmax": 6,
    "MaxPool": 10,
    "Mul": 2,
    "ReduceMean": 6,
    "Relu": 1,
    "Reshape": 6,
    "Resize": 2,
    "Sigmoid": 1,
    "Slice": 5,
    "Softmax": 6,
    "Split": 5,
    "Squeeze": 1,
    "Sub": 2,
    "Tanh": 1,
    "Transpose": 1,
    "Unsqueeze": 6,
}
MODULES = {"BatchNormalization": "batch_normalization", "InstanceNormalization": "instance_normalization"}
# Of equal numbers it takes the last, where ONNX takes the first; which is said.
TIES = {"test_argmax_keepdims_example", "test_argmax_negative_axis_keepdims_example", "test_argmax_no_keepdims_example"}


def cases(operator: str) -> Iterator[tuple[str, Any, Mapping[str, Array], Mapping[str, Array]]]:
    """Its node tests, with the first input fed and the others stored, and with all fed."""
    import_module(f"onnx.backend.test.case.node.{MODULES.get(operator, operator.lower())}")
    found = [case for case in cast(Any, onnx_nodes)._NodeTestCases if case.model.graph.node[0].op_type == operator]
    for case in found:
        inputs, outputs = case.data_sets[0]
        if len(case.model.graph.node) != 1 or getattr(inputs[0], "dtype", None) != np.float32:
            continue
        for fed in {1, len(inputs)}:
            model = onnx.ModelProto()
            model.CopyFrom(case.model)
            names = [item.name for item in model.graph.input]
            del model.graph.input[fed:]
            stored = zip(inputs[fed:], names[fed:], strict=True)
            model.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), name) for a, name in stored)
            right = {item.name: value for item, value in zip(model.graph.output, outputs, strict=True)}
            yield case.name, model, dict(zip(names[:fed], inputs[:fed], strict=True)), right


@pytest.mark.parametrize("operator", CASES)
def test_onnx_nodes_mean_what_onnx_says(operator: str) -> None:
    read_here = 0
    for name, model, fed, right in cases(operator):
        try:
            net = read_model(model)
        except (UnsupportedError, ValueError) as error:
            assert any(word in str(error) for word in (operator, "input", "output")), name
            continue
        found = reference.forward(net.spec, net.parameters, {i.name: fed[i.name] for i in net.spec.inputs})
        for output in net.spec.outputs if name not in TIES else ():
            np.testing.assert_allclose(found[output], right[output], rtol=1e-3, atol=1e-5, err_msg=name)
        read_here += 1
    assert read_here == CASES[operator]


# Exporters


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


class Mixed(torch.nn.Module):
    """What the exporters write in several nodes: LRN, SE gates, shuffles, flattening, pools that round up."""

    def __init__(self) -> None:
        super().__init__()
        nn = torch.nn
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0)),
            *(nn.MaxPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(3, 1, 1), nn.Dropout(), nn.Hardswish(), nn.PReLU(8)),
            *(nn.InstanceNorm2d(8, affine=True), nn.ConvTranspose2d(8, 6, 3, 2, 1, output_padding=1)),
            *(nn.Upsample(scale_factor=2), nn.AvgPool2d(3, 2, 1, count_include_pad=False), nn.ELU()),
        )
        self.gate = nn.Linear(6, 6)
        self.scores = nn.Linear(6 * 8 * 8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.features(x)
        x = x * torch.sigmoid(self.gate(x.mean((2, 3))))[:, :, None, None]
        first, second = torch.split(x, [2, 4], 1)
        x = torch.cat([second, first.clamp(-1, 2)], 1)
        n, c, h, w = x.shape
        x = x.view(n, 2, 3, h, w).transpose(1, 2).reshape(n, c, h, w)
        x = torch.nn.functional.max_pool2d(torch.nn.functional.pad(torch.relu(x), (0, 1, 0, 1)), 2, 1)
        return torch.log_softmax(self.scores(torch.flatten(x, 1)) / 2 + 1, 1)


def mixed() -> Mixed:
    torch.manual_seed(0)
    network = Mixed().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            cast(Any, module.running_mean).normal_()
            cast(Any, module.running_var).uniform_(0.5, 2)
    return network


# How torch.onnx.export is called: by TorchScript in old and new operator sets, of one batch size or any; and by dynamo.
EXPORTS: dict[str, dict[str, Any]] = {
    "torchscript 11": {"dynamo": False, "opset_version": 11},
    "torchscript 13": {"dynamo": False, "opset_version": 13, "dynamic_axes": {"x": {0: "n"}}},
    "torchscript 20": {"dynamo": False, "opset_version": 20},
    "dynamo": {"dynamo": True, "dynamic_shapes": ({0: torch.export.Dim("n")},), "verbose": False},
}


@pytest.mark.parametrize("how", EXPORTS)
def test_what_torch_exports_is_read(tmp_path: Path, how: str) -> None:
    path = tmp_path / "t.onnx"
    torch.onnx.export(mixed(), (torch.randn(2, 3, 8, 8),), path, input_names=["x"], **EXPORTS[how])
    net = read(path)
    held_against_runtime(path, net)
    (norm,) = (layer for layer in net.spec.layers if isinstance(layer, LRN))
    assert (norm.size, norm.alpha, norm.beta, norm.k, norm.towers) == (5, 1e-4, 0.75, 2.0, 1)
    assert sum(isinstance(layer, Shuffle) for layer in net.spec.layers) == 1
    bare = read(stripped(path))
    assert not unlike(net.spec, bare.spec)
    assert [a.tobytes() for a in net.parameters.values()] == [a.tobytes() for a in bare.parameters.values()]


def test_a_graph_of_tensorflow_loses_its_transposes(tmp_path: Path) -> None:
    tf, tf2onnx, rng = pytest.importorskip("tensorflow"), pytest.importorskip("tf2onnx"), np.random.default_rng(0)

    def draw(*shape: int) -> Array:
        return (rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))).astype("f")

    def function(x: Any) -> Any:
        x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, draw(3, 3, 3, 8), 2, "SAME"), draw(8)))
        x = tf.nn.max_pool2d(tf.nn.lrn(x, 2, 2.0, 2e-5, 0.75), 3, 2, "SAME")
        parts = [tf.nn.conv2d(part, draw(1, 1, 4, 3), 1, "VALID") for part in tf.split(x, 2, 3)]
        x = tf.nn.avg_pool2d(tf.concat([x, tf.nn.relu(tf.concat(parts, 3))], 3), 2, 1, "SAME")
        x = tf.nn.batch_normalization(x, draw(14), abs(draw(14)) + 1, draw(14), draw(14), 1e-3)
        x = tf.nn.relu(tf.reshape(x, [-1, 4 * 4 * 14]) @ draw(224, 7) + draw(7))
        return tf.nn.softmax(x @ draw(7, 5))

    signature = [tf.TensorSpec([None, 16, 16, 3], tf.float32, name="x")]
    path = tmp_path / "t.onnx"
    made = tf.function(function, input_signature=signature)
    tf2onnx.convert.from_function(made, input_signature=signature, opset=15, output_path=str(path))
    net = read(path)
    held_against_runtime(path, net, turned=True)
    assert net.spec.inputs == (Input(name="x", shape=(3, 16, 16)),) and "N x H x W x C" in net.notes[0]
    assert "Permute" not in {type(layer).__name__ for layer in net.spec.layers}
    assert [layer.groups for layer in net.spec.layers if isinstance(layer, Conv)] == [1, 2]
    held_against_runtime(stripped(path), read(stripped(path)), turned=True)


def written(weights: Weights, **how: Any) -> bytes:
    """Our own graph, without the network in its metadata."""
    return b"".join(chunks(replace(ours.graph(weights.spec, **how), metadata={}), weights.tensors))


@pytest.mark.parametrize("fast_lrn", [False, True])
@pytest.mark.parametrize("model", registry.models())
def test_members_that_are_written_are_read_as_what_they_are(model: str, fast_lrn: bool) -> None:
    weights = small_weights(model)
    net = ours.read_graph(parse(memoryview(written(weights, fast_lrn=fast_lrn)), Path()), model, "")
    same_windows = model != "alexnet_mini" or not fast_lrn  # of 4 channels, a window of 5 is one of 3
    assert not same_windows or not unlike(weights.spec, net.spec)
    assert {name: array.tobytes() for name, array in net.parameters.items()} == {
        name: np.ascontiguousarray(array).tobytes() for name, array in weights.tensors.items()
    }


# Whose ONNX form is read as something else, which computes the same, or is outside of what is read.
_REFUSED = (
    *("argmax", "batch statistics", "concat batch", "constant", "detections", "embed", "flatten batch", "pool mask"),
    *("prior boxes", "regions", "reshape batch", "slice batch", "tile batch", "unpool"),
)
# Inputs of one network with batches of two sizes, which a graph whose inputs are N each cannot say.
_TWO_BATCHES = {"crop batch"}
_NOTHING = {"power 1", "flatten nothing"}


@pytest.mark.parametrize("opset", [7, 10, 12, 17, max(IR_VERSIONS)])
def test_every_kind_that_is_written_is_read(opset: int) -> None:
    for name, spec in kinds.KINDS.items():
        arrays, inputs = kinds.probe(spec)
        weights = Weights(spec=spec, tensors=arrays, source="")
        if name in _TWO_BATCHES:
            continue
        try:
            data = written(weights, opset=opset)
        except UnsupportedError as error:
            assert opset < 13 and "from operator set" in str(error), name
            continue
        try:
            net = ours.read_graph(parse(memoryview(data), Path()), "net", "net")
        except (UnsupportedError, ValueError) as error:
            assert name in _NOTHING or name.startswith(_REFUSED), (name, error)
            continue
        found = reference.forward(net.spec, net.parameters, inputs)
        for output in spec.outputs:
            np.testing.assert_allclose(
                found[output], reference.forward(spec, arrays, inputs)[output], 1e-5, 1e-5, err_msg=name
            )


# What is refused


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


REFUSED: dict[str, tuple[Any, str]] = {
    "operator": (model_of(node("Erf")), "Erf 'the Erf': this operator is not supported"),
    "two operators": (
        model_of(node("Erf", makes="e"), node("Relu", "e", "r"), node("Add", "r z")),
        "'the Erf'.*'the Add'",
    ),
    "domain": (model_of(node("Gelu", domain="com.microsoft"), domain="com.microsoft"), "operator of 'com.microsoft'"),
    "attribute": (model_of(node("Relu", slope=1.0)), "its attribute slope says is not known"),
    "missing": (model_of(node("Conv", "x w")), "its weight|reads 'w', which the file has not"),
    "cycle": (
        model_of(node("Add", "x b", "a"), node("Relu", "a", "b"), node("Relu", "b")),
        "a cycle, or nodes out of order",
    ),
    "twice": (model_of(node("Relu"), node("Tanh")), "made already"),
    "type": (
        model_of(node("Relu"), x=make.make_tensor_value_info("x", TensorProto.DOUBLE, [1, 3])),
        "type 11, expected 1",
    ),
    "integers": (
        model_of(node("Relu"), x=make.make_tensor_value_info("x", TensorProto.INT64, [1, 3])),
        "type 7, expected 1",
    ),
    "open size": (
        model_of(node("Relu"), x=make.make_tensor_value_info("x", 1, ["n", 3, "h", "w"])),
        "leaves sizes open",
    ),
    "no size": (model_of(node("Relu"), x=make.make_tensor_value_info("x", 1, None)), "does not say its sizes"),
    "float64 weight": (model_of(node("Conv", "x w"), stored={"w": W.astype("d")}), "is float64, expected float32"),
    "training": (
        model_of(node("Dropout", "x r t"), stored={"r": np.asarray(0.5, np.float32), "t": np.asarray(True)}),
        "left on",
    ),
    "old training": (model_of(node("Dropout", ratio=0.5), opset=6), "left on: is_test is 0"),
    "batch": (model_of(node("Reshape", "x s"), stored={"s": np.array([3, -1])}), "items are no longer apart"),
    "transposed batch": (model_of(node("Transpose", perm=[1, 0, 2, 3])), "moves the batch"),
    "even window": (model_of(node("LRN", size=4)), "even window"),
    "pad": (model_of(node("Pad", "x p", "q"), node("Tanh", "q"), stored={"p": np.array([0, 0, 1, 1] * 2)}), "padded"),
    "3-D": (model_of(node("Conv", "x w"), stored={"w": W[:, :, None]}), "two-dimensional images alone"),
    "kernel": (model_of(node("Conv", "x w", kernel_shape=[5, 5]), stored={"w": W}), "does not fit kernel"),
    "second output": (
        model_of(node("MaxPool", "x", "m i", kernel_shape=[2, 2]), node("Cast", "i", to=1)),
        "'i' is read",
    ),
    "newest": (model_of(node("Relu"), opset=99), "operator set 99"),
    "resize": (
        model_of(node("Resize", "x  s", mode="cubic"), stored={"s": np.array([1, 1, 2, 2], "f")}),
        "says neither",
    ),
    "if": (
        model_of(
            node("ReduceSum", "x", "s", keepdims=0),
            node("Cast", "s", "c", to=9),
            make.make_node("If", ["c"], ["y"], "the If", then_branch=branch("t"), else_branch=branch("e")),
        ),
        "batch",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_outside_is_refused_by_node(what: str) -> None:
    model, told = REFUSED[what]
    with pytest.raises((UnsupportedError, ValueError), match=told) as refused:
        read_model(model)
    assert "\n" not in str(refused.value)


def test_an_if_whose_condition_is_known_is_the_branch() -> None:
    condition = make.make_node("If", ["c"], ["y"], then_branch=branch("t"), else_branch=branch("e"))
    net = read_model(model_of(condition, stored={"c": np.asarray(True)}))
    assert [type(layer) for layer in net.spec.layers] == [ReLU]


def test_constants_do_not_fill_the_memory() -> None:
    shape = np.array([1 << 20, 1 << 20], np.int64)
    nodes = [node("ConstantOfShape", "s", "c"), node("Add", "x c")]
    with pytest.raises(UnsupportedError, match="repeat numbers to more"):
        read_model(model_of(*nodes, stored={"s": shape}))
    wide, tall = np.ones((1, 1, 1, 1 << 15), np.float32), np.ones((1, 1, 1 << 15, 1), np.float32)
    with pytest.raises(UnsupportedError, match="before memory runs out"):
        read_model(model_of(node("Add", "a b", "c"), node("Add", "x c"), stored={"a": wide, "b": tall}))


# Windows


@pytest.mark.parametrize("operator", ["Conv", "MaxPool", "AveragePool"])
def test_windows_are_what_they_are_in_the_runtime(tmp_path: Path, operator: str) -> None:
    """Padding that differs at both ends, sizes that are rounded up, padding that counts or does not."""
    rng, read_here = np.random.default_rng(0), 0
    for trial in range(60):
        kernel, stride = [int(k) for k in rng.integers(1, 5, 2)], [int(s) for s in rng.integers(1, 4, 2)]
        pads = [int(rng.integers(0, kernel[i % 2])) for i in range(4)]
        how: dict[str, Any] = {"kernel_shape": kernel, "strides": stride, "pads": pads}
        if trial % 3 == 0:
            del how["pads"]
            how["strides"] = [min(stride[i], kernel[i]) for i in (0, 1)]  # with gaps, ONNX Runtime 1.32 has none of it
            how["auto_pad"] = ("SAME_UPPER", "SAME_LOWER", "VALID")[trial % 9 // 3]
        if operator != "Conv" and "auto_pad" not in how:
            how["ceil_mode"] = int(rng.integers(0, 2))
        if operator == "AveragePool":
            how["count_include_pad"] = int(rng.integers(0, 2))
        weight = rng.normal(size=(4, 3, *kernel)).astype("f")
        conv = operator == "Conv"
        model = model_of(node(operator, "x w" if conv else "x", **how), stored={"w": weight} if conv else {}, opset=19)
        model.ir_version = 9
        path = tmp_path / "m.onnx"
        onnx.save(model, path)
        try:
            net = read(path)
        except UnsupportedError as error:
            assert "cannot be had" in str(error), how
            continue
        held_against_runtime(path, net)
        read_here += 1
    assert read_here > 50


# Files at the command line


@pytest.fixture(name="file")
def graph_file(tmp_path: Path) -> Path:
    """A stranger's network in a file: what squeezenet is made of, small."""
    spec = ModelSpec(
        name="stranger",
        title="",
        inputs=(Input(name="data_0", shape=(3, 13, 13)),),
        layers=(
            Conv(name="a", out_channels=6, kernel=(3, 3), stride=(2, 2)),
            ReLU(name="b"),
            Pool(name="c", mode="ave", kernel=(3, 3), stride=(2, 2), pad=(1, 1)),
            Scale(name="d", bias=True),
            Dense(name="e", out_features=5),
            Softmax(name="f"),
        ),
    )
    (tmp_path / "s.onnx").write_bytes(written(probe_weights(spec)))
    return tmp_path / "s.onnx"


def test_a_file_is_a_network_to_every_command(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(file)]) == 0
    assert "ave, rounded" in capsys.readouterr().out
    assert main(["info", str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["network"] == "s" and told["fits"] == [] and not told["unread"]
    assert main(["diff", str(file), str(file)]) == 0
    for framework in ("caffe", "onnx", "pytorch", "tf_slim"):
        assert main(["generate", str(file), "--framework", framework, "-o", str(file.parent / framework)]) == 0
    for suffix in ("caffemodel", "safetensors", "pt", "ckpt", "npz"):
        assert main(["convert", str(file), "-o", str(file.parent / f"c.{suffix}")]) == 0
    assert main(["export", str(file), "-o", str(file.parent / "e.onnx")]) == 0
    again = load(file.parent / "c.caffemodel")
    wanted = load(file)
    assert {n: np.asarray(a).tobytes() for n, a in again.tensors.items()} == {
        n: np.asarray(a).tobytes() for n, a in wanted.tensors.items()
    }


def test_a_file_is_proved_in_every_framework_and_is_a_subject_itself(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(file), "--frameworks", "caffe,onnx,pytorch,tf_slim", "--json"]) == 0
    subjects = json.loads(capsys.readouterr().out)["subjects"]
    assert [item["name"] for item in subjects] == [str(file), "caffe", "onnx", "pytorch", "tf_slim"]
    assert {item["status"] for item in subjects} == {"passed"}


def test_a_graph_outside_the_vocabulary_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(model_of(node("Conv", "x w", "c"), node("Erf", "c"), stored={"w": W}), tmp_path / "m.onnx")
    assert main(["show", str(tmp_path / "m.onnx")]) == 2
    assert "Erf 'the Erf': this operator is not supported" in capsys.readouterr().err
    assert "not supported" in cast(Any, open_file(tmp_path / "m.onnx").native.graph).refusal


# Family members


def graph_of(weights: Weights, path: Path) -> Path:
    path.write_bytes(written(weights))
    return path


def test_a_member_is_told_only_where_it_is_that_one(tmp_path: Path) -> None:
    weights = probe_weights(registry.model("alexnet_cifar10"))
    assert load(graph_of(weights, tmp_path / "a.onnx")).spec.name == "alexnet_cifar10"
    other = weights.with_spec(weights.spec.change("pool1", mode="ave"))
    found = load(graph_of(other, tmp_path / "b.onnx")).spec
    assert found.name == "b" and cast(Pool, found.layer("pool1")).mode == "ave"
    with pytest.raises(ZooError, match=r"pool1: pooling max in alexnet_cifar10, ave in the file"):
        load(tmp_path / "b.onnx", spec=weights.spec)


def test_another_size_than_a_networks_own_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spec = ModelSpec(
        name="own", title="", inputs=(Input(shape=(3, 9, 9)),), layers=(Conv(name="c", out_channels=4, kernel=(3, 3)),)
    )
    weights = probe_weights(spec)
    graph_of(weights.with_spec(spec.with_input_size(11)), tmp_path / "o.onnx")
    assert load(tmp_path / "o.onnx", spec=spec).spec == spec
    assert "size 3 x 9 x 9 in own, 3 x 11 x 11 in the file" in caplog.text


def test_a_graph_may_stop_at_the_logits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = probe_weights(registry.model("alexnet_mini"))
    bare = weights.with_spec(without_closing_softmax(weights.spec))
    path = graph_of(bare, tmp_path / "m.onnx")
    assert load(path, spec=weights.spec).spec.name == "alexnet_mini"
    assert not caplog.text
    assert load(path).spec.name == "m"


def test_likeness_looks_through_spelling(tmp_path: Path) -> None:
    spec = registry.model("alexnet")
    assert not unlike(spec, spec.change("pool1", rounding="floor"))
    assert not unlike(spec, spec.without("drop6"))
    for layer, change in (("norm1", {"k": 1.0}), ("conv2", {"groups": 1}), ("pool2", {"kernel": (2, 2)})):
        assert layer in str(unlike(spec, spec.change(layer, **change)))
    assert "size" in str(unlike(spec, spec.with_input_size(231)))
    assert activation_shapes(spec)["fc6"] == (4096,)


def test_damage_is_one_line(tmp_path: Path, file: Path) -> None:
    data = file.read_bytes()
    for at in range(0, len(data) // 2, 97):
        (tmp_path / "d.onnx").write_bytes(data[:at] + bytes([data[at] ^ 0x5A]) + data[at + 1 :])
        try:
            save(load(tmp_path / "d.onnx"), tmp_path / "d.npz", force=True)
        except ZooError as error:
            assert str(error).isprintable()


def test_tensors_outside_the_folder_are_refused(tmp_path: Path) -> None:
    model = model_of(node("Conv", "x w"), stored={"w": W})
    stored = model.graph.initializer[0]
    stored.ClearField("raw_data")
    stored.data_location = TensorProto.EXTERNAL
    stored.external_data.add(key="location", value="../w.bin")
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(FileFormatError, match="outside the folder"):
        load(tmp_path / "m.onnx")
