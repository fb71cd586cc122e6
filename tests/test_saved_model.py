"""A SavedModel is held to what its own graph answers, and that graph is run only where it does nothing but compute."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters import exporters
from converters.convert import save
from converters.formats import tf_slim
from converters.parity import probe_weights, verify_file, verify_files
from converters.parity.saved_model import SavedGraph
from zoo.errors import FileFormatError, UnsupportedError
from zoo.frameworks.tf_slim.runtime import tf
from zoo.layers import Conv, Dense, Input, ModelSpec, ReLU, Softmax

# After TensorFlow, which is quiet only if its runtime loads it.
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel  # isort: skip

SPEC = ModelSpec(
    name="tiny",
    title="tiny",
    inputs=(Input(name="data", shape=(3, 8, 7)),),
    layers=(
        Conv(name="conv", out_channels=5, kernel=(3, 3), inputs=("data",)),
        ReLU(name="relu", inputs=("conv",)),
        Dense(name="fc", out_features=4, inputs=("relu",)),
        Softmax(name="prob", inputs=("fc",)),
    ),
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    weights = probe_weights(SPEC)
    save(weights, folder / "w.safetensors")
    exporters.exporter("tf_slim").export_saved_model(weights, folder / "saved")
    return folder


@pytest.fixture
def edited(exported: Path, tmp_path: Path) -> Callable[[Callable[[Any], None]], Path]:
    """The exported SavedModel with an edited graph."""

    def edit(change: Callable[[Any], None]) -> Path:
        shutil.copytree(exported / "saved", tmp_path / "saved")
        path, saved = tmp_path / "saved" / "saved_model.pb", SavedModel()
        saved.ParseFromString(path.read_bytes())
        change(saved.meta_graphs[0])
        path.write_bytes(saved.SerializeToString())
        return tmp_path / "saved"

    return edit


def node(meta: Any, name: str) -> Any:
    return next(node for node in meta.graph_def.node if node.name == name)


@pytest.mark.parametrize("place", ["saved", "saved/saved_model.pb"])
def test_a_saved_model_is_run_by_its_own_graph(exported: Path, place: str) -> None:
    report = verify_files([exported / "w.safetensors", exported / place])
    assert report.passed
    assert [output.name for output in report.subjects[1].outputs] == ["prob"]
    assert report.subjects[1].structure is None  # what its variables are says nothing of its graph


def test_another_answer_of_the_same_variables_fails(
    exported: Path, edited: Callable[[Callable[[Any], None]], Path]
) -> None:
    def negated(meta: Any) -> None:
        node(meta, "prob").op = "Neg"

    folder = edited(negated)
    report = verify_files([exported / "w.safetensors", folder])
    assert not report.passed
    assert report.subjects[1].first_failure == "prob"
    alone = verify_file(folder, SPEC, ["onnx"])
    assert [(item.status, item.first_failure) for item in alone.subjects] == [("failed", "prob"), ("passed", None)]


def test_it_may_call_its_one_input_and_its_answer_as_it_likes(
    exported: Path, edited: Callable[[Callable[[Any], None]], Path]
) -> None:
    def renamed(meta: Any) -> None:
        signature = meta.signature_def["serving_default"]
        del signature.outputs["fc"]
        for side, old, new in ((signature.inputs, "data", "images"), (signature.outputs, "prob", "scores")):
            side[new].CopyFrom(side[old])
            del side[old]
        meta.signature_def["predict"].CopyFrom(signature)
        del meta.signature_def["serving_default"]

    report = verify_files([exported / "w.safetensors", edited(renamed)])
    assert report.passed, report.subjects


def _reads_a_file(meta: Any) -> None:
    graph = meta.graph_def
    path = graph.node.add(name="path", op="Const")
    path.attr["dtype"].type = tf.string.as_datatype_enum
    path.attr["value"].tensor.CopyFrom(tf.make_tensor_proto("/etc/hostname"))
    graph.node.add(name="file", op="ReadFile", input=["path"])
    node(meta, "prob").input.append("^file")


def _draws(meta: Any) -> None:
    size = meta.graph_def.node.add(name="size", op="Const")
    size.attr["dtype"].type = tf.int32.as_datatype_enum
    size.attr["value"].tensor.CopyFrom(tf.make_tensor_proto([1]))
    drawn = meta.graph_def.node.add(name="drawn", op="RandomUniform", input=["size"])
    drawn.attr["dtype"].type, drawn.attr["T"].type = tf.float32.as_datatype_enum, tf.int32.as_datatype_enum
    node(meta, "prob").input.append("^drawn")


def _calls(meta: Any) -> None:
    called = meta.graph_def.node.add(name="called", op="PartitionedCall")
    called.attr["f"].func.name = "inner"
    node(meta, "prob").input.append("^called")


def _invents(meta: Any) -> None:
    node(meta, "prob").op = "OfMyOwn"


def _signs_twice(meta: Any) -> None:
    for name in ("a", "b"):
        meta.signature_def[name].CopyFrom(meta.signature_def["serving_default"])
    del meta.signature_def["serving_default"]


def _signs_nothing_there(meta: Any) -> None:
    meta.signature_def["serving_default"].outputs["prob"].name = "nowhere:0"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_reads_a_file, "reaches outside"),
        (_draws, r"has a state \(drawn, of the kind RandomUniform\)"),
        (_calls, r"calls functions, as TensorFlow 2 writes it \(called"),
        (_invents, "has a node that TensorFlow does not know"),
        (_signs_twice, "has the signatures a, b, expected serving_default"),
        (_signs_nothing_there, "does not lead to its outputs"),
    ],
)
def test_a_graph_that_does_more_than_compute_is_refused(
    edited: Callable[[Callable[[Any], None]], Path], change: Callable[[Any], None], told: str
) -> None:
    with pytest.raises(UnsupportedError, match=f"its graph {told}.*give .*variables") as caught:
        SavedGraph(edited(change), probe_weights(SPEC).tensors)
    assert "\n" not in str(caught.value)


def test_a_variable_that_is_not_there_and_a_damaged_graph_are_told(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"reads tiny/.*, which is not among its variables"):
        SavedGraph(exported / "saved", {})
    (tmp_path / "saved_model.pb").write_bytes(b"\x0a\xff")
    with pytest.raises(FileFormatError, match="no SavedModel"):
        SavedGraph(tmp_path, {})


def test_what_it_reads_must_be_what_the_network_reads(edited: Callable[[Callable[[Any], None]], Path]) -> None:
    def grown(meta: Any) -> None:
        meta.signature_def["serving_default"].inputs["data"].tensor_shape.dim[1].size = 9

    folder = edited(grown)
    graph = SavedGraph(folder, tf_slim.read(folder).tensors)
    with pytest.raises(UnsupportedError, match="reads images of 9 x 7 x 3, expected 3 x 8 x 7"):
        graph.declared(SPEC, {"data": np.zeros((1, 3, 8, 7))})
