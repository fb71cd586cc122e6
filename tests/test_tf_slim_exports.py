"""TensorFlow's ways out: tf2onnx, the frozen graph and the SavedModel hold the network that went in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow.compat.v1")
tf2 = pytest.importorskip("tensorflow")
onnx = pytest.importorskip("onnx")

from converters.export import ExportOptions, export  # noqa: E402
from converters.exporters import tf_slim as exporter  # noqa: E402
from converters.weights import Weights  # noqa: E402
from tests.kinds import KINDS, assert_same, net, probe  # noqa: E402
from tests.small import small_weights  # noqa: E402
from zoo import reference  # noqa: E402
from zoo.errors import CheckFailedError, FileFormatError, UnsupportedError  # noqa: E402
from zoo.frameworks import onnx as runtime  # noqa: E402
from zoo.layers import Constant, Conv, Crop, ModelSpec, PriorBox, ReLU, Softmax, Unpool  # noqa: E402
from zoo.runtimes import litert  # noqa: E402

pytestmark = pytest.mark.slow


def weights_of(spec: ModelSpec):
    tensors, inputs = probe(spec)
    return Weights(spec=spec, tensors=tensors, source="probe"), inputs


def _refusal(spec: ModelSpec) -> str | None:
    """What tf2onnx cannot write of a network, if it cannot."""
    for layer in spec.layers:
        match layer:
            case Constant() | PriorBox():
                return "which do not depend on any input"
            case Unpool():
                return "SegmentMax"
            case Crop(axis=axis) if axis != 0:
                return "in1, of which only the size is read"
            case _:
                pass
    return None


@pytest.mark.parametrize("spec", KINDS.values(), ids=KINDS.keys())
def test_tf2onnx_says_the_same_of_every_kind(spec: ModelSpec, tmp_path: Path) -> None:
    weights, inputs = weights_of(spec)
    path = tmp_path / "net.onnx"
    if refusal := _refusal(spec):
        with pytest.raises(UnsupportedError, match=refusal):
            exporter.export_onnx(weights, path, every_activation=True)
        return
    exporter.export_onnx(weights, path, every_activation=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = reference.forward(spec, weights.tensors, inputs)
    assert_same(runtime.run(path, inputs, [layer.name for layer in spec.layers]), expected)


def images(spec: ModelSpec, batch: int = 2):
    return {"data": np.random.default_rng(1).normal(scale=60, size=(batch, *spec.inputs[0].shape)).astype("f")}


@pytest.mark.parametrize("name", ["alexnet", "bvlc_alexnet", "alexnet_v2"])
def test_tf2onnx_names_inputs_and_outputs_as_the_spec(name: str, tmp_path: Path) -> None:
    weights = small_weights(name)
    spec, inputs = weights.spec, images(weights.spec, 3)
    expected = reference.forward(spec, weights.tensors, inputs)
    for every, wanted in ((True, [layer.name for layer in spec.layers]), (False, list(spec.outputs))):
        path = tmp_path / f"{every}.onnx"
        exporter.export_onnx(weights, path, every_activation=every)
        graph = onnx.load(path).graph
        assert [value.name for value in graph.input] == ["data"]
        assert [value.name for value in graph.output] == wanted
        assert_same(runtime.run(path, inputs, wanted), {layer: expected[layer] for layer in wanted})
    onnx.checker.check_model(onnx.load(path), full_check=True)
    assert sum(np.prod(tensor.dims) for tensor in graph.initializer if tensor.data_type == 1) == sum(
        tensor.size for tensor in weights.tensors.values()
    ), "each weight once, and nothing but weights"


def test_opsets(tmp_path: Path) -> None:
    weights, inputs = small_weights(), images(small_weights().spec)
    expected = reference.forward(weights.spec, weights.tensors, inputs)
    for opset in (11, 13, 18):
        exporter.export_onnx(weights, tmp_path / "net.onnx", every_activation=False, opset=opset)
        assert onnx.load(tmp_path / "net.onnx").opset_import[0].version == opset
        assert_same(runtime.run(tmp_path / "net.onnx", inputs, ["prob"]), {"prob": expected["prob"]})
    with pytest.raises(UnsupportedError, match="opsets 9 to 18, not 99"):
        exporter.export_onnx(weights, tmp_path / "net.onnx", every_activation=False, opset=99)


def test_a_frozen_graph(tmp_path: Path) -> None:
    weights = small_weights()
    spec, inputs = weights.spec, images(weights.spec)
    expected = reference.forward(spec, weights.tensors, inputs)
    exporter.export_frozen_graph(weights, tmp_path / "net.pb")
    assert_same(exporter.run_frozen_graph(tmp_path / "net.pb", weights, inputs), expected)
    definition = tf.GraphDef.FromString((tmp_path / "net.pb").read_bytes())
    assert {node.name for node in definition.node} >= {"data", "fc8", "prob"}
    assert not any("Variable" in node.op or "VarHandle" in node.op for node in definition.node)
    with tf.Graph().as_default(), tf.Session() as session:
        tf.import_graph_def(definition, name="")
        found = session.run("fc8:0", {"data:0": inputs["data"].transpose(0, 2, 3, 1)})
    assert_same({"fc8": found}, {"fc8": expected["fc8"]})
    exporter.export_frozen_graph(weights, tmp_path / "again.pb")
    assert (tmp_path / "again.pb").read_bytes() == (tmp_path / "net.pb").read_bytes()


def test_a_saved_model(tmp_path: Path) -> None:
    weights = small_weights("bvlc_alexnet")
    spec, inputs = weights.spec, images(weights.spec)
    expected = reference.forward(spec, weights.tensors, inputs)
    exporter.export_saved_model(weights, tmp_path / "net")
    assert_same(exporter.run_saved_model(tmp_path / "net", weights, inputs), expected)
    loaded = tf2.saved_model.load(str(tmp_path / "net")).signatures["serving_default"]
    found = loaded(data=tf2.constant(inputs["data"].transpose(0, 2, 3, 1)))
    assert set(found) == {"fc8", "prob"}
    assert_same({"fc8": found["fc8"].numpy()}, {"fc8": expected["fc8"]})
    exporter.export_saved_model(weights, tmp_path / "again")
    for path in sorted((tmp_path / "net").rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "again" / path.relative_to(tmp_path / "net")).read_bytes(), path


def test_a_tflite(tmp_path: Path) -> None:
    weights = small_weights("bvlc_alexnet")
    spec, inputs = weights.spec, images(weights.spec, 3)
    expected = reference.forward(spec, weights.tensors, inputs)
    export(weights, str(tmp_path / "net.tflite"), ExportOptions())
    model = (tmp_path / "net.tflite").read_bytes()
    assert model == exporter.tflite(weights)
    fed = {"data": inputs["data"].transpose(0, 2, 3, 1)}
    found = litert.run_tflite(model, fed)
    assert {*found} == {"fc8", "prob"}
    assert_same({"fc8": found["fc8"]}, {"fc8": expected["fc8"]})
    with pytest.raises(FileFormatError, match="LiteRT refuses it"):
        litert.run_tflite(b"no model at all", fed)
    with pytest.raises(FileFormatError, match="LiteRT refuses it"):
        litert.run_tflite(model, {"data": inputs["data"][:, :2]})


def test_a_tflite_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, whole = small_weights("alexnet_cifar10"), exporter.tflite
    wrong = {
        name: tensor * np.float32(1.001 if name == "conv2.weight" else 1) for name, tensor in weights.tensors.items()
    }
    other = Weights(spec=weights.spec, tensors=wrong, source="wrong")
    monkeypatch.setattr(exporter, "export_tflite", lambda _, path: path.write_bytes(whole(other)))
    with pytest.raises(CheckFailedError, match=r"differs from the reference at fc8: .*; nothing was written"):
        export(weights, str(tmp_path / "net.tflite"), ExportOptions())
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("kind", ["lrn", "max pad", "prelu", "concat", "conv groups"])
def test_litert_says_the_same_of_every_layer(kind: str) -> None:
    weights, inputs = weights_of(KINDS[kind])
    found = exporter.run_tflite(
        exporter.tflite(weights, every_activation=True), weights.spec, inputs, litert.run_tflite
    )
    assert_same(found, reference.forward(weights.spec, weights.tensors, inputs))


def test_what_litert_has_no_operator_for_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match="LiteRT has no operator of its own for Pad"):
        exporter.tflite(weights_of(KINDS["deconv"])[0])


def test_odd_names_survive(tmp_path: Path) -> None:
    spec = net(Conv(name="_größe 1", out_channels=4, kernel=(1, 1)), ReLU(name="a b"), Softmax(name="a_b"))
    weights, inputs = weights_of(spec)
    expected = reference.forward(spec, weights.tensors, inputs)
    exporter.export_onnx(weights, tmp_path / "net.onnx", every_activation=True)
    assert_same(runtime.run(tmp_path / "net.onnx", inputs, [layer.name for layer in spec.layers]), expected)
    exporter.export_frozen_graph(weights, tmp_path / "net.pb")
    assert_same(exporter.run_frozen_graph(tmp_path / "net.pb", weights, inputs), expected)
    model = exporter.tflite(weights, every_activation=True)
    assert_same(exporter.run_tflite(model, spec, inputs, litert.run_tflite), expected)


def test_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    weights = small_weights()
    (tmp_path / "text.pb").write_text("no graph")
    (tmp_path / "empty.pb").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for run, name in (
        (exporter.run_frozen_graph, "text.pb"),
        (exporter.run_frozen_graph, "empty.pb"),
        (exporter.run_saved_model, "folder"),
    ):
        with pytest.raises(FileFormatError) as caught:
            run(tmp_path / name, weights, images(weights.spec))
        assert "\n" not in str(caught.value)
