"""ONNX graphs read as networks: onnx's own networks, our own, what a few layers mean, and files of open sizes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnx.helper as make
import pytest
from onnx import TensorProto, numpy_helper

from converters.cli import main
from converters.convert import load, open_file, save
from converters.parity import probe_weights
from converters.weights import Weights
from tests import kinds
from tests.onnx_graphs import W, assert_close, branch, held_against_runtime, model_of, node, read, read_model
from tests.small import small_weights
from zoo import reference, registry
from zoo.errors import FileFormatError, UnsupportedError, ZooError
from zoo.frameworks import onnx as ours
from zoo.layers import MVN, Conv, Dense, Eltwise, Input, ModelSpec, Pool, ReLU, Scale, Shuffle, Softmax, TanH
from zoo.likeness import unlike, without_closing_softmax
from zoo.shapes import activation_shapes
from zoo.wire.onnx import IR_VERSIONS, chunks, parse

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def test_nodes_are_put_in_an_order_that_they_can_run_in() -> None:
    """As a runtime puts them; keras2onnx wrote the last one first."""
    net = read_model(model_of(node("Add", "s t"), node("Relu", "t", "s"), node("Tanh", "x", "t")))
    assert [type(layer) for layer in net.spec.layers] == [TanH, ReLU, Eltwise]


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


# Our own graphs


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


# What is read as other layers, which compute the same: what one operator is, or a few of them.
_OTHERS = {
    *("crop", "crop channels", "exp", "flatten batch", "flatten some", "log", "lrn sequence", "parameter", "power"),
    *("scale by image", "weighted sum"),
}
# Nothing that an input goes into.
_NOTHING = {"constant alone", "flatten nothing", "power 1", "prior boxes"}


@pytest.mark.parametrize("opset", [7, 10, 12, 17, max(IR_VERSIONS)])
def test_every_kind_that_is_written_is_read(opset: int) -> None:
    for name, spec in kinds.KINDS.items():
        arrays, inputs = kinds.probe(spec)
        weights = Weights(spec=spec, tensors=arrays, source="")
        try:
            data = written(weights, opset=opset)
        except UnsupportedError as error:
            assert opset < 13 and "from operator set" in str(error), name
            continue
        if name in _NOTHING:
            with pytest.raises((UnsupportedError, ValueError)):
                ours.read_graph(parse(memoryview(data), Path()), "net", "net")
            continue
        net = ours.read_graph(parse(memoryview(data), Path()), "net", "net")
        found = reference.forward(net.spec, net.parameters, inputs)
        for output in spec.outputs:
            np.testing.assert_allclose(
                found[output], reference.forward(spec, arrays, inputs)[output], 1e-5, 1e-5, err_msg=name
            )
        is_itself = type(net.spec.layers[-1]) is type(spec.layers[-1]) and len(net.spec.layers) == len(spec.layers)
        assert is_itself or name in _OTHERS or (opset < 13 and "softmax" in name), name


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("code", ["corner", "center_size", "corner_size"])
def test_detections_are_read_as_what_they_are(code: Any, shared: bool) -> None:
    spec = kinds.KINDS["detections"]
    priors, found = spec.layers
    for top_k, keep, least, background in ((-1, -1, None, 0), (5, -1, 0.25, 2), (-1, 7, 0.0, 1), (5, 7, None, 0)):
        limits = {"top_k": top_k, "keep": keep, "confidence": least, "background": background}
        encoded = top_k > 0
        layer = replace(cast(Any, found), share_location=shared, code=code, variance_encoded=encoded, **limits)
        offsets = spec.inputs[0] if shared else replace(spec.inputs[0], shape=(3 * 144,))
        changed = replace(spec, inputs=(offsets, *spec.inputs[1:]), layers=(priors, layer))
        data = written(Weights(spec=changed, tensors={}, source=""))
        assert ours.read_graph(parse(memoryview(data), Path()), "net", "net").spec.layers[-1] == layer


def test_a_layer_of_many_nodes_is_read_for_what_each_number_says() -> None:
    """One number of it another, and it is another layer, or none."""
    spec = kinds.net(MVN(name="op"))
    model = onnx.load_from_string(written(Weights(spec=spec, tensors={}, source="")))
    assert [type(layer) for layer in read_model(model).spec.layers] == [MVN]
    axes = next(item for item in model.graph.node if item.op_type == "ReduceMean").attribute[0].ints
    axes[:] = [1, 2]
    assert MVN not in [type(layer) for layer in read_model(model).spec.layers]


def test_an_if_whose_condition_is_known_is_the_branch() -> None:
    condition = make.make_node("If", ["c"], ["y"], then_branch=branch("t"), else_branch=branch("e"))
    net = read_model(model_of(condition, stored={"c": np.asarray(True)}))
    assert [type(layer) for layer in net.spec.layers] == [ReLU]


# What exporters write, and a few layers mean

X12 = make.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 12, 4, 5])
_INTS = {"one": np.asarray(1), "k": np.array([3]), "axes": np.array([1]), "wide": np.array([1, 12, 4, 5])}
_BORDERS = {"sides": np.array([0, 0, 1, 0, 0, 0, 2, 1]), "scales": np.array([1, 1, 2, 3], np.float32)}
_APART = {"apart": np.array([-1, 3, 2, 2, 4, 5]), "whole": np.array([-1, 3, 8, 10]), "groups": np.array([0, 2, -1])}
_ROW = {"row": np.array([-1, 12, 20]), "window": np.linspace(-1, 1, 72, dtype=np.float32).reshape(6, 4, 3)}
_STEPS = {
    **{"from": np.array([1, 0]), "up_to": np.array([99, 8]), "axes23": np.array([2, 3]), "by": np.array([2, 3])},
}
_TABLE = {"table": np.arange(24, dtype=np.float32).reshape(12, 2), "factors": np.array([2, 3], np.float32)}
_MAPS = {
    **{"none": np.asarray(0), "no": np.array([0, 0]), "ones": np.array([1, 1]), "two": np.array([2, 3])},
    **{"maps": np.asarray(12), "area": np.asarray(20), "each": np.array([-1, 12, 1, 1]), "item": np.array([12, 20])},
    **{"flat": np.array([-1]), "rows": np.array([0, 12, -1]), "image": np.array([-1, 12, 4, 5])},
}
# As torch.onnx writes it: places in the whole batch, less the first one of each map; and back, to put numbers there.
_PLACES = [
    node("MaxPool", "x", "p i", kernel_shape=[2, 2], strides=[2, 2]),
    node("MaxPool", "x", "x1 all", kernel_shape=[1, 1]),
    node("Slice", "all no ones two", "firsts"),
    node("Sub", "i firsts", "within"),
    node("Shape", "x", "n", start=0, end=1),
]
_BACK = [
    *(node("Squeeze", "n", "items"), node("Mul", "items maps", "all_maps"), node("Range", "none all_maps one", "r")),
    *(node("Reshape", "r each", "e"), node("Mul", "e area", "starts"), node("Add", "within starts", "through")),
    *(node("Reshape", "through flat", "f"), node("Unsqueeze", "f flat", "at"), node("Reshape", "p flat", "numbers")),
    *(node("Shape", "x", "s"), node("ConstantOfShape", "s", "z"), node("Reshape", "z flat", "zeros")),
]
SPELT: dict[str, list[Any]] = {
    "put back": [*_PLACES, *_BACK, node("ScatterND", "zeros at numbers", "o"), node("Reshape", "o image")],
    "put back in each map": [
        *_PLACES,
        *(node("Reshape", "within rows", "at"), node("Reshape", "p rows", "numbers")),
        *(node("Concat", "n item", "shape", axis=0), node("ConstantOfShape", "shape", "zeros")),
        *(node("ScatterElements", "zeros at numbers", "o", axis=2), node("Reshape", "o image")),
    ],
    "blocks, outputs first": [node("DepthToSpace", blocksize=2, mode="CRD")],
    "blocks": [node("DepthToSpace", blocksize=2)],
    "blocks by axes": [
        node("Reshape", "x apart", "a"),
        node("Transpose", "a", "t", perm=[0, 1, 4, 2, 5, 3]),
        node("Reshape", "t whole"),
    ],
    "one place": [node("Gather", "x one", axis=1)],
    "rows of a table": [node("Abs", "x", "a"), node("Cast", "a", "i", to=7), node("Gather", "table i", axis=0)],
    "greatest": [node("TopK", "x k", "y i", axis=1)],
    "where the greatest are": [node("TopK", "x k", "v i", axis=1), node("Cast", "i", "c", to=1), node("Relu", "c")],
    "length": [node("ReduceL2", "x axes")],
    "lesser": [node("Tanh", "x", "t"), node("Min", "x t")],
    "spread": [node("ReduceMean", "x axes", "m"), node("Expand", "m wide")],
    "border alone": [node("Pad", "x sides", "p"), node("Tanh", "p")],
    "edges": [
        node("Pad", "x sides", "p", mode="reflect"),
        node("Pad", "p sides", "q", mode="edge"),
        node("Pad", "q sides", "r", mode="wrap"),
        node("Mish", "r"),
    ],
    "windows over rows": [
        node("Reshape", "x row", "r"),
        node("Conv", "r window", "c", group=3, strides=[2], pads=[1, 0]),
        node("MaxPool", "c", "m", kernel_shape=[3], ceil_mode=1, strides=[2]),
        node("GlobalAveragePool", "m"),
    ],
    "every second row": [
        make.make_node("Resize", ["x", "", "scales"], ["l"]),
        node("MaxPool", "l", "m", kernel_shape=[2, 2]),
        node("Slice", "m from up_to axes23 by"),
    ],
    "lines between": [make.make_node("Resize", ["x", "", "scales"], ["y"], mode="linear")],
    "lines from the corner": [
        make.make_node(
            "Resize", ["x", "", "scales"], ["y"], mode="linear", coordinate_transformation_mode="asymmetric"
        ),
    ],
    "groups": [node("Reshape", "x groups", "g"), node("InstanceNormalization", "g factors factors")],
}


@pytest.mark.parametrize("what", SPELT)
def test_what_a_few_layers_mean_is_read(tmp_path: Path, what: str) -> None:
    read_by = {name for item in SPELT[what] for name in item.input}
    stored = {
        name: array
        for name, array in (_INTS | _BORDERS | _APART | _MAPS | _ROW | _STEPS | _TABLE).items()
        if name in read_by
    }
    model = model_of(*SPELT[what], x=X12, stored=stored, opset=19)
    model.ir_version = 9
    for item in model.graph.node:
        item.name = ""
    onnx.save(model, tmp_path / "m.onnx")
    held_against_runtime(tmp_path / "m.onnx", read(tmp_path / "m.onnx"))


def test_whole_numbers_that_are_fed_are_rows_of_a_table(tmp_path: Path) -> None:
    words = make.make_tensor_value_info("x", TensorProto.INT64, ["n", 5])
    model = model_of(node("Gather", "table x", "g"), node("Relu", "g"), x=words, stored={"table": _TABLE["table"]})
    model.ir_version = 8
    onnx.save(model, tmp_path / "m.onnx")
    net, fed = read(tmp_path / "m.onnx"), np.arange(10).reshape(2, 5)
    assert net.spec.inputs == (Input(name="x", shape=(5,)),)
    found = reference.forward(net.spec, net.parameters, {"x": fed.astype("f")})["y"]
    assert_close(found.astype("f"), ours.run(tmp_path / "m.onnx", {"x": fed})["y"])
    assert_close(found.astype("f"), ours.run(tmp_path / "m.onnx", {"x": fed.astype("f") + np.float32(0.5)})["y"])
    assert main(["verify", str(tmp_path / "m.onnx"), "--frameworks", "onnx"]) == 0


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


def open_file_of(path: Path, *, sizes: tuple[Any, ...] = ("N", "h", "w", 3)) -> Path:
    """A network of any size in N, H, W, C, as Keras exports one: a softmax over the last axis, an output moved back."""
    draw = np.random.default_rng(0)
    weights = {
        "kernel": draw.normal(size=(4, 3, 3, 3)).astype("f"),
        "points": draw.normal(size=(2, 3, 3, 3)).astype("f"),
    }
    nodes = [
        make.make_node("Transpose", ["images"], ["front"], perm=[0, 3, 1, 2]),
        make.make_node("Conv", ["front", "kernel"], ["boxes_inner"]),
        make.make_node("Conv", ["front", "points"], ["points_inner"]),
        make.make_node("Transpose", ["boxes_inner"], ["boxes"], perm=[0, 2, 3, 1]),
        make.make_node("Transpose", ["points_inner"], ["last"], perm=[0, 2, 3, 1]),
        make.make_node("Softmax", ["last"], ["scores"], axis=3),
    ]
    graph = make.make_graph(
        nodes,
        "open",
        [make.make_tensor_value_info("images", TensorProto.FLOAT, sizes)],
        [make.make_tensor_value_info(name, TensorProto.FLOAT, ["N", None, None, None]) for name in ("boxes", "scores")],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save_model(make.make_model(graph, opset_imports=[make.make_opsetid("", 9)], ir_version=6), path)
    return path


@pytest.mark.parametrize("sizes", [("N", "h", "w", 3), (-1, -1, -1, 3), ("N", "h", "w", "c")])
def test_sizes_that_a_graph_leaves_open_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sizes: tuple[Any, ...]
) -> None:
    path = open_file_of(tmp_path / "open.onnx", sizes=sizes)
    assert main(["show", str(path)]) == 2
    assert (
        capsys.readouterr()
        .err.strip()
        .endswith("say them: --input NAME=CxHxW; with --model or --prototxt, its weights alone are looked for")
    )
    assert main(["verify", str(path), "--input", "images=3x8x9", "--frameworks", "onnx", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [item["name"] for item in told["subjects"][0]["outputs"]] == ["boxes", "scores"]


def test_an_output_keeps_the_name_that_the_file_declares(tmp_path: Path) -> None:
    graph = open_file(open_file_of(tmp_path / "open.onnx", sizes=("N", 8, 9, 3))).native.graph
    assert graph is not None and graph.spec is not None
    assert graph.spec.outputs == ("boxes", "scores")
    softmax = graph.spec.layer("scores")
    assert isinstance(softmax, Softmax) and softmax.axis == 1


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("images=4x8x9", "is N x h x w x 3, not 4 x 8 x 9 an item"),
        ("images=8x9", "leaves sizes open"),
        ("pictures=3x8x9", "input 'pictures', whose size is given: there is none of this name"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str, why: str
) -> None:
    path = open_file_of(tmp_path / "open.onnx")
    assert main(["show", str(path), "--input", given]) == 2
    assert why in capsys.readouterr().err


def test_sizes_that_a_graph_fixes_are_held_to_axis_by_axis(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = open_file_of(tmp_path / "fixed.onnx", sizes=("N", 8, 9, 3))
    assert main(["show", str(path), "--input", "images=3x8x9"]) == 0
    assert main(["show", str(path), "--input", "images=3x9x8"]) == 2
    assert "is N x 8 x 9 x 3, not 3 x 9 x 8 an item" in capsys.readouterr().err


def test_a_file_of_weights_has_no_open_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mini.npz"
    save(small_weights("alexnet_owt"), path)
    assert main(["show", str(path), "--input", "data=3x8x8"]) == 2
    assert "is no graph that may leave sizes open; leave --input out" in capsys.readouterr().err


def test_outputs_stay_in_the_order_that_the_file_declares(tmp_path: Path) -> None:
    """Whatever the order of the nodes: who runs it takes them by place."""
    nodes = [make.make_node("Relu", ["x"], ["first"]), make.make_node("Tanh", ["x"], ["second"])]
    values = {name: make.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in ("x", "first", "second")}
    graph = make.make_graph(nodes, "two", [values["x"]], [values["second"], values["first"]])
    path = tmp_path / "two.onnx"
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 13)]), path)
    assert read(path).spec.outputs == ("second", "first")
    assert main(["verify", str(path), "--frameworks", "onnx"]) == 0
