"""ONNX files: ours bit for bit, and anybody's by what the graph does, made by the real exporters where there is one."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnx.helper as make
import pytest
from onnx import TensorProto, numpy_helper

from converters.convert import load, same_bits
from converters.formats import onnx as ours
from converters.formats._onnx_walk import tensors as graph_tensors
from converters.parity import probe_weights
from converters.weights import Array, Weights
from tests.small import shrink, small_weights
from zoo import registry
from zoo.errors import FileFormatError, WeightsError, ZooError
from zoo.frameworks.onnx import Constants
from zoo.frameworks.onnx import graph as graph_of
from zoo.frameworks.onnx import write as write_graph
from zoo.layers import Conv, Dense, Input, ModelSpec, Pool, ReLU
from zoo.wire.onnx import Model, Node, parse

Change = Callable[[Any], None]


def assert_same(path: Path, weights: Weights) -> None:
    read = load(path, spec=weights.spec)
    for name, tensor in weights.tensors.items():
        assert same_bits(np.asarray(read.tensors[name]), np.asarray(tensor)), name


# Our own files


def test_our_own_files_come_back_as_views_with_their_network(tmp_path: Path) -> None:
    weights, path = small_weights("caffenet"), tmp_path / "w.onnx"
    ours.write(path, weights)
    native = ours.read(path)
    assert native.spec == weights.spec
    assert list(native.tensors) == list(weights.tensors)
    assert all(not tensor.flags.owndata and not tensor.flags.writeable for tensor in native.tensors.values())
    assert_same(path, weights)
    assert ours.main_file(path) == path


def test_kernels_that_are_no_parameters_stand_where_readers_look_for_kernels(tmp_path: Path) -> None:
    weights, path = small_weights("caffenet"), tmp_path / "w.onnx"
    write_graph(path, graph_of(weights.spec, fast_lrn=True), weights.tensors)
    model = onnx.load(path)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    assert all(item.input[1] in stored for item in model.graph.node if item.op_type == "Conv")
    assert list(ours.read(path).tensors) == list(weights.tensors)
    band = stored["norm1/band"]  # other numbers there are somebody's, and not dropped
    band.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(band), band.name))
    onnx.save(model, path)
    assert "norm1/band" in ours.read(path).tensors


def test_a_network_without_weights_is_one_too(tmp_path: Path) -> None:
    spec = ModelSpec(name="m", title="", inputs=(Input(shape=(2,)),), layers=(ReLU(name="r"),))
    ours.write(tmp_path / "w.onnx", Weights(spec=spec, tensors={}, source="nothing"))
    assert load(tmp_path / "w.onnx").spec == spec


def test_equal_weights_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        ours.write(tmp_path / name, small_weights())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# Other people's exporters


@pytest.mark.slow
@pytest.mark.parametrize("exporter", registry.names("converters.exporters"))
@pytest.mark.parametrize("model", ["alexnet", "alexnet_owt", "alexnet_v2"])
def test_every_frameworks_own_export_is_read_bit_for_bit(tmp_path: Path, exporter: str, model: str) -> None:
    weights = small_weights(model)
    cast(Any, registry.load_module("converters.exporters", exporter, "exporter")).export_onnx(
        weights, tmp_path / "w.onnx", every_activation=False
    )
    assert_same(tmp_path / "w.onnx", weights)


def test_the_older_exporter_of_torch_is_read_too(tmp_path: Path) -> None:
    weights = small_weights()
    exporter = cast(Any, registry.load_module("converters.exporters", "pytorch", "exporter"))
    exporter.export_onnx(weights, tmp_path / "w.onnx", every_activation=False, exporter="torchscript")
    assert_same(tmp_path / "w.onnx", weights)


def tensorflow_function(weights: Weights, *, split: bool, convolutional: bool) -> Any:
    """A shrunken AlexNet in plain TensorFlow: H, W, C everywhere, groups split by hand or not, fc as either."""
    tf = pytest.importorskip("tensorflow")
    w = {name: np.asarray(tensor) for name, tensor in weights.tensors.items()}

    def conv(x: Any, name: str, pad: int = 0, groups: int = 1, stride: int = 1) -> Any:
        kernel = w[f"{name}.weight"].transpose(2, 3, 1, 0)
        x = tf.pad(x, [[0, 0], [pad, pad], [pad, pad], [0, 0]]) if pad else x
        if split and groups > 1:
            parts = zip(tf.split(x, groups, 3), tf.split(tf.constant(kernel), groups, 3), strict=True)
            x = tf.concat([tf.nn.conv2d(part, k, stride, "VALID") for part, k in parts], 3)
        else:
            x = tf.nn.conv2d(x, kernel, stride, "VALID")
        return tf.nn.relu(tf.nn.bias_add(x, w[f"{name}.bias"]))

    def function(x: Any) -> Any:
        x = tf.nn.max_pool2d(tf.nn.lrn(conv(x, "conv1", stride=4), 2, 2.0, 2e-5, 0.75), 3, 2, "VALID")
        x = tf.nn.max_pool2d(tf.nn.lrn(conv(x, "conv2", 2, 2), 2, 2.0, 2e-5, 0.75), 3, 2, "VALID")
        x = conv(conv(conv(x, "conv3", 1), "conv4", 1, 2), "conv5", 1, 2)
        x = tf.nn.max_pool2d(x, 3, 2, "VALID")
        _, height, width, channels = x.shape
        kernel = w["fc6.weight"].reshape(-1, channels, height, width).transpose(2, 3, 1, 0)
        if convolutional:
            x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, kernel, 1, "VALID"), w["fc6.bias"]))
            x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, w["fc7.weight"].T[None, None], 1, "VALID"), w["fc7.bias"]))
            x = tf.nn.bias_add(tf.nn.conv2d(x, w["fc8.weight"].T[None, None], 1, "VALID"), w["fc8.bias"])
            return tf.nn.softmax(tf.squeeze(x, [1, 2]))
        x = tf.reshape(x, [-1, height * width * channels])
        x = tf.nn.relu(x @ kernel.reshape(-1, kernel.shape[3]) + w["fc6.bias"])
        x = tf.nn.relu(x @ w["fc7.weight"].T + w["fc7.bias"])
        return tf.nn.softmax(x @ w["fc8.weight"].T + w["fc8.bias"])

    return tf.function(function, input_signature=[tf.TensorSpec([None, 227, 227, 3], tf.float32, name="x")])


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("convolutional", [False, True])
def test_strangers_tensorflow_networks_are_read(tmp_path: Path, split: bool, convolutional: bool) -> None:
    tf2onnx = pytest.importorskip("tf2onnx")
    weights = small_weights()
    function = tensorflow_function(weights, split=split, convolutional=convolutional)
    tf2onnx.convert.from_function(
        function, input_signature=function.input_signature, opset=15, output_path=str(tmp_path / "w.onnx")
    )
    assert_same(tmp_path / "w.onnx", weights)


# The ONNX model zoo's forms


def zoo_model(weights: Weights, opset: int) -> Any:
    """bvlc_alexnet as the ONNX model zoo wrote it: Caffe2's names, weights among the inputs, old attributes."""
    nodes, inputs, initializers, x, flat = list[Any](), list[Any](), list[Any](), "data_0", False
    inputs.append(make.make_tensor_value_info("data_0", 1, [1, *weights.spec.inputs[0].shape]))

    def stored(name: str, array: Array, raw: bool) -> str:
        array = np.asarray(array)
        kind = TensorProto.FLOAT if array.dtype == np.float32 else TensorProto.INT64
        values = array.tobytes() if raw else array.reshape(-1).tolist()
        initializers.append(make.make_tensor(name, kind, array.shape, values, raw=raw))
        inputs.append(make.make_tensor_value_info(name, kind, array.shape))
        return name

    for layer in weights.spec.layers:
        y = f"{layer.name}_1"
        match layer:
            case Conv():
                weight = stored(f"{layer.name}_w_0", weights.tensors[f"{layer.name}.weight"], raw=False)
                bias = stored(f"{layer.name}_b_0", weights.tensors[f"{layer.name}.bias"], raw=False)
                pads = [*layer.pad, *layer.pad]
                nodes.append(
                    make.make_node(
                        "Conv",
                        [x, weight, bias],
                        [y],
                        kernel_shape=layer.kernel,
                        strides=layer.stride,
                        pads=pads,
                        group=layer.groups,
                    )
                )
            case Dense():
                if not flat:
                    flat, rows = True, weights.tensors[f"{layer.name}.weight"].shape[1]
                    if opset < 5:
                        nodes.append(make.make_node("Reshape", [x], ["OC2_DUMMY_0"], shape=[1, rows]))
                    else:
                        shape = stored("OC2_DUMMY_1", np.array([1, rows], np.int64), raw=True)
                        nodes.append(make.make_node("Reshape", [x, shape], ["OC2_DUMMY_0"]))
                    x = "OC2_DUMMY_0"
                weight = stored(f"{layer.name}_w_0", weights.tensors[f"{layer.name}.weight"], raw=True)
                bias = stored(f"{layer.name}_b_0", weights.tensors[f"{layer.name}.bias"], raw=True)
                old: dict[str, Any] = {"broadcast": 1} if opset < 7 else {}
                nodes.append(make.make_node("Gemm", [x, weight, bias], [y], transB=1, **old))
            case Pool():
                nodes.append(make.make_node("MaxPool", [x], [y], kernel_shape=layer.kernel, strides=layer.stride))
            case ReLU():
                nodes.append(make.make_node("Relu", [x], [y]))
            case _:
                op = {"LRN": "LRN", "Dropout": "Dropout", "Softmax": "Softmax"}[type(layer).__name__]
                rest: dict[str, Any] = {"LRN": {"size": 5}, "Dropout": {"is_test": 1} if opset < 7 else {}}.get(op, {})
                nodes.append(make.make_node(op, [x], [y], **rest))
        x = y
    output = make.make_tensor_value_info(x, 1, [1, 10])
    graph = make.make_graph(nodes, "bvlc_alexnet", inputs, [output], initializers)
    return make.make_model(graph, opset_imports=[make.make_opsetid("", opset)], ir_version=3)


@pytest.mark.parametrize("opset", [3, 6, 7, 8, 9, 12])
def test_the_model_zoos_forms_are_read(tmp_path: Path, opset: int) -> None:
    weights = small_weights("bvlc_alexnet")
    onnx.save(zoo_model(weights, opset), tmp_path / "w.onnx")
    assert list(ours.read(tmp_path / "w.onnx").tensors)[:3] == ["conv1_w_0", "conv1_b_0", "conv2_w_0"]
    assert_same(tmp_path / "w.onnx", weights)


def test_all_that_does_not_fit_is_said_in_the_files_own_names(tmp_path: Path) -> None:
    weights = small_weights("bvlc_alexnet")
    onnx.save(zoo_model(weights, 9), tmp_path / "w.onnx")
    with pytest.raises(WeightsError, match=r"conv1_w_0 has shape \(12, 3, 11, 11\), expected \(8, 3, 11, 11\)"):
        load(tmp_path / "w.onnx", spec=shrink("alexnet_v2"))
    deeper = ModelSpec(
        name="deeper",
        title="",
        inputs=weights.spec.inputs,
        layers=(*weights.spec.layers, Dense(name="fc9", out_features=2)),
    )
    with pytest.raises(WeightsError, match="the weight of fc9 is missing"):
        load(tmp_path / "w.onnx", spec=deeper)


def test_a_graph_of_another_size_is_another_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = small_weights("bvlc_alexnet")
    onnx.save(zoo_model(weights, 9), tmp_path / "w.onnx")
    wanted = weights.spec.with_input_size(224)  # its weights would fit
    monkeypatch.setattr(registry, "model", lambda name: wanted)
    with pytest.raises(ZooError, match="data: size 3 x 224 x 224 in bvlc_alexnet, 3 x 227 x 227 in the file"):
        load(tmp_path / "w.onnx", spec=wanted)


# Small graphs by hand

NET = ModelSpec(
    name="m",
    title="",
    inputs=(Input(shape=(2, 3, 4)),),
    layers=(Conv(name="c", out_channels=3, kernel=(2, 2)), ReLU(name="r"), Dense(name="d", out_features=5)),
)
WEIGHTS = probe_weights(NET, seed=3)
W, B, D, E = (np.asarray(tensor) for tensor in WEIGHTS.tensors.values())


def save(folder: Path, nodes: list[Any], constants: dict[str, Array], change: Change | None = None) -> Path:
    graph = make.make_graph(nodes, "g", [], [], [numpy_helper.from_array(a, name) for name, a in constants.items()])
    model = make.make_model(graph)
    if change:
        change(model)
    path = folder / "w.onnx"
    path.write_bytes(model.SerializeToString())
    return path


CONV = make.make_node("Conv", ["x", "w", "b"], ["c"])
RELU = make.make_node("Relu", ["c"], ["r"])
FLAT = make.make_node("Flatten", ["r"], ["f"])
GEMM = make.make_node("Gemm", ["f", "d", "e"], ["y"], transB=1)
PLAIN = {"w": W, "b": B, "d": D, "e": E}
HWC = D.reshape(5, 3, 2, 3).transpose(0, 2, 3, 1).reshape(5, 18)

FORMS: dict[str, tuple[list[Any], dict[str, Array]]] = {
    "gemm": ([CONV, RELU, FLAT, GEMM], PLAIN),
    "gemm not transposed": ([CONV, RELU, FLAT, make.make_node("Gemm", ["f", "d", "e"], ["y"])], PLAIN | {"d": D.T}),
    "bias added": (
        [
            make.make_node("Conv", ["x", "w"], ["c0"]),
            make.make_node("Add", ["c0", "b"], ["c"]),
            RELU,
            FLAT,
            make.make_node("MatMul", ["f", "d"], ["m"]),
            make.make_node("Add", ["e", "m"], ["y"]),
        ],
        PLAIN | {"b": B.reshape(1, 3, 1, 1), "d": D.T},
    ),
    "flattened H, W, C": (
        [
            CONV,
            RELU,
            make.make_node("Transpose", ["r"], ["t"], perm=[0, 2, 3, 1]),
            make.make_node("Flatten", ["t"], ["f"]),
            GEMM,
        ],
        PLAIN | {"d": HWC},
    ),
    "transposed there and back": (
        [
            CONV,
            make.make_node("Transpose", ["c"], ["t"], perm=[0, 2, 3, 1]),
            make.make_node("Relu", ["t"], ["u"]),
            make.make_node("Transpose", ["u"], ["r"], perm=[0, 3, 1, 2]),
            FLAT,
            GEMM,
        ],
        PLAIN,
    ),
    "weights rearranged by nodes": (
        [
            make.make_node("Transpose", ["w0"], ["w"], perm=[3, 2, 0, 1]),
            make.make_node("Constant", [], ["shape"], value=numpy_helper.from_array(np.array([5, -1]))),
            make.make_node("Reshape", ["d0", "shape"], ["d1"]),
            make.make_node("Identity", ["d1"], ["d"]),
            make.make_node("Constant", [], ["e"], value_floats=E.tolist()),
            make.make_node("Squeeze", ["b0"], ["b1"], axes=[0]),
            make.make_node("Unsqueeze", ["b1"], ["b2"], axes=[0]),
            make.make_node("Squeeze", ["b2"], ["b"]),
            CONV,
            RELU,
            FLAT,
            GEMM,
        ],
        {"w0": W.transpose(2, 3, 1, 0), "b0": B[None], "d0": D.reshape(5, 3, 6)},
    ),
    "convolutions for dense layers": (
        [CONV, RELU, make.make_node("Conv", ["r", "d", "e"], ["y"])],
        PLAIN | {"d": D.reshape(5, 3, 2, 3)},
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_weight_is_known_by_what_its_node_does(tmp_path: Path, form: str) -> None:
    assert_same(save(tmp_path, *FORMS[form]), WEIGHTS)


def test_a_dense_layer_may_stand_for_a_convolution_over_the_whole_image(tmp_path: Path) -> None:
    spec = ModelSpec(
        name="m",
        title="",
        inputs=(Input(shape=(3, 2, 3)),),
        layers=(Conv(name="d", out_channels=5, kernel=(2, 3)),),
    )
    path = save(tmp_path, [make.make_node("Flatten", ["x"], ["f"]), GEMM], {"d": D, "e": E})
    np.testing.assert_array_equal(load(path, spec=spec).tensors["d.weight"], D.reshape(5, 3, 2, 3))


@pytest.mark.parametrize(
    ("nodes", "constants", "reason"),
    [
        ([RELU], {}, "no Conv, Gemm or MatMul with weights"),
        ([CONV], {"b": B}, "Conv 'c': its weight 'w' is computed or fed"),
        ([CONV], {"w": W}, "its bias 'b' is computed"),
        ([make.make_node("Conv", ["x"], ["c"])], {}, "its weight '' is computed"),
        ([make.make_node("MatMul", ["f", "d"], ["y"])], {"d": W}, "'d' has 4 axes, not 2"),
        ([make.make_node("Gemm", ["f", "d"], ["y"], alpha=0.5)], {"d": D}, r"alpha is 0\.5, expected 1"),
        ([make.make_node("Gemm", ["f", "d"], ["y"], transA=1)], {"d": D}, "transA is 1, expected 0"),
        ([make.make_node("Conv", ["x", "b"], ["c"])], {"b": B}, "its weight 'b' has 1 axes"),
        ([make.make_node("Relu", ["x"], [])], {}, "has no output"),
        (
            [
                CONV,
                make.make_node("Transpose", ["c"], ["t"], perm=[0, 3, 2, 1]),
                make.make_node("Flatten", ["t"], ["f"]),
                GEMM,
            ],
            PLAIN,
            "cannot tell in which order",
        ),
        ([make.make_node("Transpose", ["w"], ["c"], perm=[0, 0, 9, 9])], {"w": W}, "no ONNX file that can be read"),
        ([make.make_node("Reshape", ["w", "i"], ["c"])], {"w": W, "i": np.array([0] * 9)}, "no ONNX file"),
    ],
)
def test_graphs_that_hide_their_weights_are_refused(
    tmp_path: Path, nodes: list[Any], constants: dict[str, Array], reason: str
) -> None:
    with pytest.raises(FileFormatError, match=reason) as caught:
        ours.read(save(tmp_path, nodes, constants))
    assert "\n" not in str(caught.value)


def test_what_else_may_be_learnt_is_not_dropped(tmp_path: Path) -> None:
    mean = make.make_node("Sub", ["image", "mean"], ["x"])
    extra = {"mean": np.full((1, 2, 1, 1), 3, np.float32), "unread": np.ones(2, np.float32)}
    path = save(tmp_path, [mean, CONV, RELU, FLAT, GEMM], PLAIN | extra)
    with pytest.raises(WeightsError, match=r"mean is not a parameter .*; unread is not a parameter"):
        load(path, spec=NET)
    scalar = {"mean": np.full((), 3, np.float32)}
    assert_same(save(tmp_path, [mean, CONV, RELU, FLAT, GEMM], PLAIN | scalar), WEIGHTS)


def test_a_weight_that_two_nodes_share_is_found_twice(tmp_path: Path) -> None:
    again = make.make_node("Conv", ["c", "w"], ["c2"])
    names = list(ours.read(save(tmp_path, [CONV, again], {"w": W, "b": B})).tensors)
    assert names == ["w", "b", "w (again)", "w: no bias, so zeros"]


def test_a_bias_the_exporter_left_out_is_zeros_where_the_network_has_one(tmp_path: Path) -> None:
    path = save(tmp_path, [make.make_node("Conv", ["x", "w"], ["c"]), RELU, FLAT, GEMM], {"w": W, "d": D, "e": E})
    read = load(path, spec=NET)
    np.testing.assert_array_equal(read.tensors["c.bias"], np.zeros(3))
    np.testing.assert_array_equal(read.tensors["c.weight"], W)
    without = NET.replace_layer(Conv(name="c", out_channels=3, kernel=(2, 2), bias=False))
    assert list(load(path, spec=without).tensors) == ["c.weight", "d.weight", "d.bias"]


def test_torch_leaves_zero_biases_out(tmp_path: Path) -> None:
    weights = small_weights("alexnet_cifar10")
    zeros = {name: np.zeros_like(w) if name.endswith("bias") else w for name, w in weights.tensors.items()}
    silent = Weights(spec=weights.spec, tensors=zeros, source="silent")
    exporter = cast(Any, registry.load_module("converters.exporters", "pytorch", "exporter"))
    exporter.export_onnx(silent, tmp_path / "w.onnx", every_activation=False)
    assert_same(tmp_path / "w.onnx", silent)


def test_other_number_types_are_named(tmp_path: Path) -> None:
    path = save(tmp_path, [CONV, RELU, FLAT, GEMM], PLAIN | {"d": D.astype(np.float64) + 1e-12})
    with pytest.raises(FileFormatError, match="numbers of float64 do not fit float32"):
        load(path, spec=NET)

    def to_bfloat(model: Any) -> None:
        model.graph.initializer[0].data_type = TensorProto.BFLOAT16

    with pytest.raises(FileFormatError, match="'w' has ONNX's data type 16"):
        ours.read(save(tmp_path, [CONV], {"w": W, "b": B}, to_bfloat))


def test_numbers_in_fields_of_their_own_are_read(tmp_path: Path) -> None:
    def unpacked(model: Any) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.float_data.extend(W.reshape(-1).tolist())

    path = save(tmp_path, [CONV, RELU, FLAT, GEMM], PLAIN, unpacked)
    assert_same(path, WEIGHTS)
    # The same numbers as proto2 wrote them: a tag before each.
    data = path.read_bytes()
    packed = onnx.load(path).graph.initializer[0].SerializeToString()
    parts = [b"\x25" + number.tobytes() for number in W.reshape(-1)]
    body = b"".join([*(b"\x08" + bytes([size]) for size in W.shape), b"\x10\x01", *parts, b"\x42\x01w"])
    head = packed.find(b"\x22")
    assert head > 0
    graph = onnx.load_from_string(data).graph
    del graph.initializer[0]
    rest = graph.SerializeToString() + b"\x2a" + _varint(len(body)) + body
    path.write_bytes(b"\x3a" + _varint(len(rest)) + rest)
    assert_same(path, WEIGHTS)


def _varint(value: int) -> bytes:
    return bytes([value & 0x7F | 0x80, value >> 7]) if value > 0x7F else bytes([value])


# External data


def external(folder: Path, location: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = save(folder, [CONV, RELU, FLAT, GEMM], PLAIN)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="w.data", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = location
    path.write_bytes(model.SerializeToString())
    return path


def test_tensors_beside_the_file_are_read_as_views(tmp_path: Path) -> None:
    path = external(tmp_path / "in", "w.data")
    assert_same(path, WEIGHTS)
    assert not ours.read(path).tensors["w"].flags.owndata


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "", "sub/../../secret", "link"])
def test_tensors_outside_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret").write_bytes(bytes(4096))
    path = external(tmp_path / "in", location)
    (tmp_path / "in" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(FileFormatError, match="outside the folder of the file: refused"):
        ours.read(path)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("offset", "99999", "cut short"),
        ("offset", "-1", "no position"),
        ("length", "99999", "cut short"),
        ("length", "4", "holds 1 numbers"),
        ("length", "3", "no whole number"),
        ("location", "missing", "cannot be read"),
    ],
)
def test_external_data_that_is_not_there_is_refused(tmp_path: Path, key: str, value: str, reason: str) -> None:
    path = external(tmp_path / "in", "w.data")
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == key:
            entry.value = value
    path.write_bytes(model.SerializeToString())
    with pytest.raises(FileFormatError, match=reason):
        ours.read(path)


# Damage


def test_a_graph_that_copies_without_end_is_refused() -> None:
    nodes = [
        Node(op="Transpose", name=f"t{i}", inputs=("w",), outputs=(f"t{i}",), attributes={"perm": (1, 0)})
        for i in range(9)
    ]
    nodes += [
        Node(op="Reshape", name=f"r{i}", inputs=(f"t{i}",), outputs=(f"r{i}",), attributes={"shape": (-1,)})
        for i in range(9)
    ]
    model = Model(nodes=nodes, initializers={"w": np.zeros((1000, 1000), np.float32)})
    with pytest.raises(ValueError, match="over and over"):
        graph_tensors(model, Constants(model))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"\x00\x01", "no protobuf"),
        (b"\x08\x08", "one graph, this file has 0"),
        (b"\x3a\x00\x3a\x00", "one graph, this file has 2"),
        (b"\x38\x01", "a number stands where a message is due"),
        (b"\x3a\xff\xff\xff\xff\x0f", "cut short"),
        (b"\x3a\x02\x7a\x00", "sparse"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "w.onnx"
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match=reason):
        ours.read(path)


def test_every_truncation_of_a_strangers_file_is_refused_or_read(tmp_path: Path) -> None:
    data = save(tmp_path, *FORMS["weights rearranged by nodes"]).read_bytes()
    rng, path = random.Random(0), tmp_path / "damaged.onnx"
    refused = 0
    for i in range(400):
        wounded = bytearray(data)
        if i % 2:
            wounded[rng.randrange(len(data))] = rng.randrange(256)
        else:
            del wounded[rng.randrange(len(data)) :]
        path.write_bytes(wounded)
        try:
            ours.read(path)
        except FileFormatError as error:
            refused += 1
            assert "\n" not in str(error), i
    assert refused > 200


def test_equal_names_are_refused(tmp_path: Path) -> None:
    def twice(model: Any) -> None:
        model.graph.initializer.append(model.graph.initializer[0])

    with pytest.raises(FileFormatError, match="'w' stands twice"):
        ours.read(save(tmp_path, [CONV], {"w": W, "b": B}, twice))
    assert isinstance(parse(memoryview(b"\x3a\x00"), tmp_path), Model)


def filled(tmp_path: Path, sizes: list[int], value: Any) -> Path:
    """A convolution whose weight is one number, as in the light models of onnx's own tests."""
    shape = numpy_helper.from_array(np.array(sizes, np.int64), "shape")
    nodes = [
        make.make_node("ConstantOfShape", ["shape"], ["w"], "fill", **({} if value is None else {"value": value})),
        make.make_node("Conv", ["x", "w"], ["y"]),
    ]
    ends = [make.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    onnx.save(make.make_model(make.make_graph(nodes, "g", ends[:1], ends[1:], [shape])), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_constant_of_shape_is_a_weight(tmp_path: Path) -> None:
    spec = ModelSpec(
        name="m",
        title="",
        inputs=(Input(shape=(3, 5, 5)),),
        layers=(Conv(name="c", out_channels=4, kernel=(2, 2), bias=False),),
    )
    for value, number in ((make.make_tensor("v", TensorProto.FLOAT, [1], [0.25]), 0.25), (None, 0.0)):
        found = load(filled(tmp_path, [4, 3, 2, 2], value), spec=spec)
        assert same_bits(np.asarray(found.tensors["c.weight"]), np.full((4, 3, 2, 2), number, np.float32))


@pytest.mark.parametrize("sizes", [[1 << 20, 1 << 20, 1, 1], [1] * 9, [-1, 2, 2, 2]])
def test_constant_of_shape_does_not_fill_the_memory(tmp_path: Path, sizes: list[int]) -> None:
    with pytest.raises(FileFormatError, match="ConstantOfShape"):
        ours.read(filled(tmp_path, sizes, None))
