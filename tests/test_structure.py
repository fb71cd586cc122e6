"""The proof by reading: what a file is called before it is run, and where that is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters.convert import load, save
from converters.parity import Report, probe_weights, verify_file, verify_files
from converters.parity.file_subjects import open_subject
from converters.parity.proof import Proof
from converters.parity.structure import structure_of_graph, structure_of_weights
from converters.report import html, json_text, markdown, text
from converters.verdicts import Structure
from converters.weights import Weights
from tests import kinds
from zoo import reference
from zoo.frameworks.onnx import graph
from zoo.layers import LRN, Conv, Dense, Flatten, Input, ModelSpec, Pool, ReLU, Softmax, Unary
from zoo.wire.onnx import chunks

SPEC = ModelSpec(
    name="small",
    title="a small network",
    inputs=(Input(name="data", shape=(3, 11, 11)),),
    layers=(
        Conv(name="conv1", out_channels=8, kernel=(3, 3), pad=(1, 1)),
        ReLU(name="relu1"),
        LRN(name="norm1", size=5, alpha=1e-4, beta=0.75, k=2.0),
        Pool(name="pool1", mode="max", kernel=(3, 3), stride=(2, 2)),
        Flatten(name="flat"),
        Dense(name="fc", out_features=6),
        Softmax(name="prob"),
    ),
)
Edit = Callable[[onnx.ModelProto], None]


@pytest.fixture(scope="module")
def right() -> Weights:
    return probe_weights(SPEC)


@pytest.fixture
def file(right: Weights, tmp_path: Path) -> Path:
    save(right, tmp_path / "file.onnx")
    return tmp_path / "file.onnx"


def edited(path: Path, edit: Edit) -> Path:
    model = onnx.load(path)
    edit(model)
    onnx.save(model, path)
    return path


def at(model: onnx.ModelProto, name: str) -> Any:
    return next(node for node in model.graph.node if node.output[0] == name)


def changed(name: str, change: Callable[[Any], None]) -> Edit:
    """One initializer with other numbers."""

    def edit(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == name)
        array = numpy_helper.to_array(tensor).copy()
        change(array)
        tensor.CopyFrom(numpy_helper.from_array(array, name))

    return edit


def attribute(node: str, name: str, value: Any) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        found = at(model, node)
        kept = [a for a in found.attribute if a.name != name]
        del found.attribute[:]
        found.attribute.extend([*kept, helper.make_attribute(name, value)])

    return edit


def three(array: Any) -> None:
    array.flat[[5, 6, 100]] += np.float32(0.5)


def one_more_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["N", 3]))


def inner_declared(model: onnx.ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("norm1", TensorProto.FLOAT, None))


def renamed(model: onnx.ModelProto) -> None:
    at(model, "prob").output[0] = model.graph.output[0].name = "answer"


def tanh(model: onnx.ModelProto) -> None:
    at(model, "relu1").op_type = "Tanh"


def without_bias(model: onnx.ModelProto) -> None:
    del at(model, "conv1").input[2]


DIFFERENCES: dict[str, tuple[Edit, str]] = {
    "a number of a layer": (attribute("norm1", "alpha", 5e-4), "norm1: alpha 0.0005, not 0.0001"),
    "a window": (attribute("pool1", "kernel_shape", [2, 2]), "pool1: kernel 2 x 2, not 3 x 3"),
    "weights": (changed("conv1.weight", three), "conv1: 3 of 216 weights differ, first at [0, 0, 1, 2]: "),
    "the last bit": (changed("fc.bias", lambda a: a.view(np.uint32).__iadd__(1)), "fc: 6 of 6 biases differ"),
    "another kind": (tanh, "relu1: layer TanH (relu1), not ReLU"),
    "no bias": (without_bias, "conv1: no bias"),
    "an input for nobody": (one_more_input, "more: an input that nothing reads"),
    "one more output": (inner_declared, "outputs: prob, norm1, not prob"),
    "another name": (renamed, "outputs: called answer, not prob"),
}


def test_its_own_file_is_identical(file: Path, right: Weights) -> None:
    assert structure_of_graph(file, right) == Structure(verdict="identical")


@pytest.mark.parametrize("what", DIFFERENCES)
def test_what_differs_is_named(what: str, file: Path, right: Weights) -> None:
    edit, told = DIFFERENCES[what]
    found = structure_of_graph(edited(file, edit), right)
    assert found.verdict == "differs"
    assert len({fact.partition(":")[0] for fact in found.differences}) == 1, found
    assert found.differences[0].startswith(told)


def test_a_factor_that_is_rounded_is_no_identity(file: Path, right: Weights) -> None:
    found = structure_of_graph(edited(file, attribute("fc", "beta", 1.0)), right)
    assert found.verdict == "identical"

    def third(model: onnx.ModelProto) -> None:
        attribute("fc", "alpha", 3.0)(model)
        changed("fc.weight", lambda a: a.__itruediv__(np.float32(3)))(model)

    assert structure_of_graph(edited(file, third), right).verdict != "identical"


def test_what_cannot_be_read_says_nothing(file: Path, right: Weights) -> None:
    found = structure_of_graph(edited(file, lambda model: setattr(at(model, "relu1"), "domain", "of.somebody")), right)
    assert found.verdict == "unread" and "of.somebody" in found.reason and not found.sentence
    file.write_bytes(b"\x08")
    assert structure_of_graph(file, right).verdict == "unread"


def test_what_a_graph_spells_in_pieces_says_nothing(tmp_path: Path) -> None:
    layers = (
        Conv(name="conv", out_channels=4, kernel=(3, 3)),
        Unary(name="e", function="exp", numbers=(2.0, 1.0, 1.0)),
    )
    weights = probe_weights(ModelSpec(name="pieces", title="", inputs=SPEC.inputs, layers=layers))
    save(weights, tmp_path / "pieces.onnx")
    found = structure_of_graph(tmp_path / "pieces.onnx", weights)
    assert found.verdict == "unread" and found.reason.startswith("e: written there in several nodes")


# What reads an input only for its size, which nothing in a graph then reads; or is no graph.
_UNSAID = {
    *("constant alone", "crop", "crop batch", "crop channels", "detections", "exp", "flatten nothing", "log"),
    *("parameter", "power 1", "prior boxes"),
}


def test_every_kind_is_known_again_in_its_graph(tmp_path: Path) -> None:
    for name, spec in kinds.KINDS.items():
        weights = Weights(spec=spec, tensors=kinds.probe(spec)[0], source="")
        (tmp_path / "kind.onnx").write_bytes(b"".join(chunks(graph(spec), weights.tensors)))
        assert (structure_of_graph(tmp_path / "kind.onnx", weights).verdict == "identical") == (name not in _UNSAID), (
            name
        )


def test_files_of_weights_are_networks(right: Weights, tmp_path: Path) -> None:
    for name in ("a.safetensors", "a.npz", "a.caffemodel"):
        save(right, tmp_path / name)
        mine = load(tmp_path / name, spec=SPEC)
        assert structure_of_weights(mine, right) == Structure(verdict="identical"), name
    tensors = {**right.tensors, "fc.weight": right.tensors["fc.weight"][::-1].copy()}
    other = Weights(spec=SPEC, tensors=tensors, source="other")
    assert structure_of_weights(other, right).differences[0].startswith("fc: 1,200 of 1,200 weights differ")


def test_what_a_graph_was_read_as_says_nothing_of_it(file: Path, right: Weights) -> None:
    own = verify_file(file, frameworks=["onnx"])
    assert [s.structure for s in own.subjects] == [Structure(verdict="identical"), None]
    strange = edited(file, lambda model: model.metadata_props.__delitem__(slice(None)))
    report = verify_file(strange, frameworks=["onnx"])
    assert report.passed and [s.structure for s in report.subjects] == [None, None]
    assert "identical" not in text(report)


def proved(file: Path, right: Weights, said: list[str] | None = None) -> Report:
    save(right, file.with_suffix(".safetensors"))
    return verify_files([file.with_suffix(".safetensors"), file], progress=(said if said is not None else []).append)


def test_every_report_says_it(file: Path, right: Weights) -> None:
    report = proved(file, right)
    assert report.passed and [s.structure for s in report.subjects] == [None, Structure(verdict="identical")]
    assert all("identical by structure" in form(report) for form in (text, markdown, html))
    first, second = json.loads(json_text(report))["subjects"]
    assert "structure" not in first and second["structure"] == {"verdict": "identical", "differences": []}
    assert text(report).splitlines()[0].endswith("; identical by structure")
    layers = report.subjects[1].layers
    assert {layer.exercised for layer in layers} == {1.0} and {layer.local for layer in layers} == {None}


def test_what_is_the_reference_s_own_is_not_run_again(
    file: Path, right: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file that the reference runs, what comes before the first difference."""
    proof, ran = Proof(right), list[str]()
    other = replace(right, tensors={**right.tensors, "fc.bias": right.tensors["fc.bias"] * np.float32(1.5)})
    save(other, file.with_suffix(".safetensors"))
    subject = open_subject(file.with_suffix(".safetensors"), None, right).subject(right)
    apply = reference.apply
    monkeypatch.setattr(reference, "apply", lambda layer, *args: ran.append(layer.name) or apply(layer, *args))
    with subject.open() as feed:
        found = feed(proof.inputs, proof.reference)
    names = [layer.name for layer in right.spec.layers]
    assert ran == names[names.index("fc") :]
    whole = reference.forward(other.spec, other.tensors, proof.inputs)
    assert all(np.array_equal(found.activations[name], whole[name]) for name in names)
    assert not proof.judge(subject).layers[names.index("fc")].ok


def test_a_difference_is_said_before_anything_is_run(file: Path, right: Weights) -> None:
    said = list[str]()
    report = proved(edited(file, attribute("norm1", "alpha", 5e-4)), right, said)
    sentence = "another structure: norm1: alpha 0.0005, not 0.0001"
    assert not report.passed and any(sentence in form(report) for form in (text, markdown, html))
    assert f"{file}: {sentence}" in said
    assert "identical" not in text(report)


def test_what_the_runtime_refuses_is_not_called_wrong_where_reading_says_it_is_right(
    file: Path, right: Weights
) -> None:
    def namesakes(model: Any) -> None:
        for node in model.graph.node:
            node.name = "same"

    subject = proved(edited(file, namesakes), right).subjects[1]
    assert subject.structure == Structure(verdict="identical")
    assert subject.status == "unavailable" and "same node name" in str(subject.reason)


def test_reading_does_not_stand_in_for_running(file: Path, right: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is called identical and computes something else fails all the same."""
    path = edited(file, attribute("norm1", "alpha", 5e-4))
    monkeypatch.setattr("converters.parity.file_subjects.structure_of_graph", lambda *_: Structure(verdict="identical"))
    report = proved(path, right)
    assert not report.passed and report.subjects[1].first_failure == "norm1"
    assert "identical" not in text(report).splitlines()[0]
