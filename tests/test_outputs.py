"""A subject is what it declares: outputs by name and order, shape and type, of graphs, files and functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from converters.convert import save
from converters.parity import Report, probe_weights, verify_files
from converters.report import html, text
from converters.testing import assert_parity
from converters.verdicts import SubjectVerdict
from converters.weights import Weights
from tests.onnx_graphs import by_numbers
from zoo import reference
from zoo.layers import (
    Concat,
    Conv,
    Dense,
    Eltwise,
    Flatten,
    Input,
    ModelSpec,
    Pool,
    Power,
    Preprocessing,
    ReLU,
    Softmax,
)

CHAIN = ModelSpec(
    name="chain",
    title="a small chain",
    inputs=(Input(name="data", shape=(3, 9, 9)),),
    layers=(
        Conv(name="conv", out_channels=6, kernel=(3, 3)),
        ReLU(name="relu"),
        Pool(name="pool", mode="max", kernel=(3, 3), stride=(2, 2)),
        Dense(name="fc", out_features=5),
        Softmax(name="prob"),
    ),
)
# Two inputs of one shape, two outputs of one shape.
FORK = ModelSpec(
    name="fork",
    title="two in, two out",
    inputs=(Input(name="left", shape=(3, 6, 6)), Input(name="right", shape=(3, 6, 6))),
    layers=(
        Eltwise(name="mix", inputs=("left", "right"), coeffs=(1.0, -2.0)),
        Conv(name="one", out_channels=4, kernel=(3, 3), inputs=("mix",)),
        Conv(name="two", out_channels=4, kernel=(3, 3), inputs=("mix",)),
    ),
)


@pytest.fixture
def chain() -> Weights:
    return probe_weights(CHAIN)


Change = Callable[[Any], None]


def verdict(
    weights: Weights, tmp_path: Path, change: Change, *, names: bool = True, functions: Sequence[Any] = ()
) -> SubjectVerdict:
    """The verdict on the project's own graph, changed; without interior names, with functions of its own, if asked."""
    return proof(weights, tmp_path, change, names=names, functions=functions).subjects[1]


def proof(
    weights: Weights, tmp_path: Path, change: Change, *, names: bool = True, functions: Sequence[Any] = ()
) -> Report:
    save(weights, tmp_path / "right.safetensors", force=True)
    save(weights, tmp_path / "plain.onnx", force=True)
    model = onnx.load(str(tmp_path / "plain.onnx"))
    if not names:
        del model.metadata_props[:]
        _strip(model.graph)
    change(model.graph)
    model.functions.extend(functions)
    model.opset_import.extend(helper.make_opsetid(function.domain, 1) for function in functions)
    onnx.save(model, str(tmp_path / "subject.onnx"))
    with by_numbers():
        return verify_files([tmp_path / "right.safetensors", tmp_path / "subject.onnx"])


def _strip(graph: Any) -> None:
    """Numbers for names, but for inputs and outputs."""
    kept = {value.name for value in (*graph.input, *graph.output)}
    made = [name for node in graph.node for name in node.output] + [t.name for t in graph.initializer]
    new = {name: str(100 + i) for i, name in enumerate(made) if name not in kept}
    for node in graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
        node.name = ""
    for tensor in graph.initializer:
        tensor.name = new[tensor.name]


def tail(operator: str, *constants: np.ndarray, source: str | None = None, **attributes: Any) -> Change:
    """One more node behind the answer, or behind the node that makes it, declared in its place."""

    def change(graph: Any) -> None:
        answer = graph.output[0].name
        last = next(node for node in graph.node if answer in node.output)
        reads = "kept"
        if source == "logits":
            reads = last.input[0]
            graph.node.remove(last)
        else:
            last.output[0] = "kept"
        for i, constant in enumerate(constants):
            graph.initializer.append(onnx.numpy_helper.from_array(constant, f"constant{i}"))
        given = [reads, *(f"constant{i}" for i in range(len(constants)))]
        graph.node.append(helper.make_node(operator, given, [answer], **attributes))
        del graph.output[0].type.tensor_type.shape.dim[:]
        graph.output[0].ClearField("type")

    return change


TAILS = {
    "classes_permuted": tail("Gather", np.array([4, 3, 2, 1, 0]), axis=1),
    "softmax_log": tail("Log"),
    "log_softmax": tail("LogSoftmax", source="logits", axis=1),
    "softmax_twice": tail("Softmax", axis=1),
    "output_negated": tail("Neg"),
    "sigmoid_for_softmax": tail("Sigmoid", source="logits"),
    "output_exp": tail("Exp", source="logits"),
    "output_scaled": tail("Mul", np.array([2.0], np.float32), source="logits"),
    "output_argmax": tail("ArgMax", axis=1, keepdims=0),
}


@pytest.mark.parametrize("names", [True, False], ids=["named", "stripped"])
@pytest.mark.parametrize("fault", TAILS)
def test_another_function_of_the_answer_fails_and_is_named(
    fault: str, names: bool, tmp_path: Path, chain: Weights
) -> None:
    found = verdict(chain, tmp_path, TAILS[fault], names=names)
    assert (found.status, found.first_failure) == ("failed", "prob")
    assert [(output.name, output.declared, output.ok) for output in found.outputs] == [("prob", "prob", False)]
    named = {"log_softmax": "softmax_log"}.get(fault, fault)
    assert found.diagnosis and (found.diagnosis.fault, found.diagnosis.layer) == (named, "prob")


def test_the_row_of_a_failed_output_comes_first(tmp_path: Path, chain: Weights) -> None:
    report = proof(chain, tmp_path, TAILS["output_negated"])
    rows = [line for line in text(report).splitlines() if line.startswith(("output", "conv"))]
    assert rows[0].startswith("output prob") and "!" in rows[0] and rows[1].startswith("conv")
    page = html(report)
    assert page.index("What each subject declares") < page.index("Every layer of every subject")


def _keep(_: Any) -> None:
    pass


def test_the_right_graph_passes_with_and_without_names(tmp_path: Path, chain: Weights) -> None:
    for names in (True, False):
        found = verdict(chain, tmp_path, _keep, names=names)
        assert found.status == "passed", found.to_dict()
        assert {layer.local is not None for layer in found.layers} == {True}
        assert {layer.exercised for layer in found.layers} == {1.0}


def test_logits_pass_under_a_name_of_their_own_and_it_is_said(tmp_path: Path, chain: Weights) -> None:
    def stop(name: str) -> Change:
        def change(graph: Any) -> None:
            last = next(node for node in graph.node if node.output[0] == "prob")
            before = next(node for node in graph.node if node.output[0] == last.input[0])
            graph.node.remove(last)
            before.output[0] = graph.output[0].name = name

        return change

    for name in ("fc", "scores"):
        found = verdict(chain, tmp_path, stop(name), names=False)
        assert found.status == "passed"
        assert any("stops at its logits, fc" in note for note in found.notes)
    claimed = verdict(chain, tmp_path, stop("prob"), names=False)
    assert claimed.status == "failed"
    assert claimed.diagnosis and claimed.diagnosis.fault == "softmax_lost"


def test_more_outputs_pass_where_they_are_layers(tmp_path: Path, chain: Weights) -> None:
    def also(operator: str) -> Change:
        def change(graph: Any) -> None:
            graph.node.append(helper.make_node(operator, ["fc"], ["more"]))
            graph.output.append(onnx.ValueInfoProto(name="more"))

        return change

    right = verdict(chain, tmp_path, also("Identity"))
    assert right.status == "passed" and any("also declares more, which is fc" in note for note in right.notes)
    wrong = verdict(chain, tmp_path, also("Neg"))
    assert (wrong.status, wrong.first_failure) == ("failed", "more")
    assert "equal to none of its layers" in str(wrong.outputs[1].reason)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(TensorProto.DOUBLE, "float64"), (TensorProto.FLOAT16, "float16"), (TensorProto.INT64, "int64")],
)
def test_an_output_of_another_type_fails(kind: int, reason: str, tmp_path: Path, chain: Weights) -> None:
    found = verdict(chain, tmp_path, tail("Cast", to=kind))
    assert found.status == "failed" and found.outputs[0].reason == f"is {reason}, expected float32"


def test_an_output_of_another_shape_fails(tmp_path: Path, chain: Weights) -> None:
    found = verdict(chain, tmp_path, tail("Unsqueeze", np.array([2])))
    assert found.status == "failed" and found.outputs[0].reason == "shape 2 x 5 x 1, expected 2 x 5"


def test_a_renamed_output_of_a_graph_with_our_names_is_seen(tmp_path: Path, chain: Weights) -> None:
    def rename(graph: Any) -> None:
        next(node for node in graph.node if node.output[0] == "prob").output[0] = "answer"
        graph.output[0].name = "answer"

    found = verdict(chain, tmp_path, rename)
    assert found.status == "failed" and "is called 'answer'" in str(found.outputs[0].reason)
    assert verdict(chain, tmp_path, rename, names=False).status == "passed"


def test_a_renamed_output_beside_one_that_has_its_name_is_seen(tmp_path: Path, chain: Weights) -> None:
    two = replace(CHAIN, name="two", layers=(*CHAIN.layers, Dense(name="aux", inputs=("relu",), out_features=3)))

    def renamed(graph: Any) -> None:
        graph.node[-1].output[0] = graph.output[1].name = "other"

    found = verdict(probe_weights(two), tmp_path, renamed, names=False)
    assert (found.status, found.first_failure) == ("failed", "aux")
    assert found.outputs[1].reason == "is called 'other', where others have their layer's name"


def test_what_is_no_answer_is_no_answer(tmp_path: Path, chain: Weights) -> None:
    def an_input(graph: Any) -> None:
        graph.output[0].name = "data"

    def a_weight(graph: Any) -> None:
        graph.output[0].name = graph.initializer[0].name

    def none(graph: Any) -> None:
        del graph.output[:]

    def twice(graph: Any) -> None:
        graph.output.append(graph.output[0])

    again = verdict(chain, tmp_path, twice)
    assert "it also declares prob" in again.notes
    for change in (an_input, a_weight, none):
        found = verdict(chain, tmp_path, change)
        assert found.status in ("failed", "unavailable"), change
        assert found.reason or any(output.reason for output in found.outputs)


def test_a_tail_that_cannot_run_fails(tmp_path: Path, chain: Weights) -> None:
    for change in (tail("Reshape", np.array([7, 11])), tail("NoSuchOperator")):
        found = verdict(chain, tmp_path, change)
        assert found.status == "failed" and found.first_failure == "prob"
        assert any("cannot be run to its end" in note for note in found.notes)


def test_outputs_and_inputs_go_by_their_names(tmp_path: Path) -> None:
    fork = probe_weights(FORK)

    def inputs_reordered(graph: Any) -> None:
        graph.input.reverse()

    def inputs_exchanged(graph: Any) -> None:
        other = {"left": "right", "right": "left"}
        for node in graph.node:
            node.input[:] = [other.get(name, name) for name in node.input]

    def outputs_reordered(graph: Any) -> None:
        graph.output.reverse()

    def outputs_exchanged(graph: Any) -> None:
        other = {"one": "two", "two": "one"}
        for node in graph.node:
            node.output[:] = [other.get(name, name) for name in node.output]

    def lost(graph: Any) -> None:
        del graph.output[1]

    assert verdict(fork, tmp_path, inputs_reordered).status == "passed"
    assert verdict(fork, tmp_path, inputs_exchanged).status == "failed"
    assert verdict(fork, tmp_path, outputs_exchanged).status == "failed"
    moved = verdict(fork, tmp_path, outputs_reordered)
    assert moved.status == "failed" and "in another place" in str(moved.outputs[0].reason)
    less = verdict(fork, tmp_path, lost)
    assert less.status == "failed" and less.first_failure == "two"
    assert "not declared: its outputs are one" in str(less.outputs[1].reason)


@pytest.mark.parametrize("suffix", [".safetensors", ".onnx", ".caffemodel", ".npz"])
def test_a_layer_after_the_last_is_seen_in_every_format_that_carries_the_network(
    suffix: str, tmp_path: Path, chain: Weights
) -> None:
    longer = replace(CHAIN, layers=(*CHAIN.layers, Power(name="minus", scale=-1.0)))
    save(chain, tmp_path / "right.safetensors")
    save(chain.with_spec(longer), tmp_path / f"longer{suffix}")
    found = verify_files([tmp_path / "right.safetensors", tmp_path / f"longer{suffix}"]).subjects[1]
    assert found.status == "failed" and not found.outputs[0].ok
    assert found.diagnosis and found.diagnosis.fault == "output_negated"


def test_no_loud_neighbour_hides_a_quiet_one(tmp_path: Path) -> None:
    spec = ModelSpec(
        name="detector",
        title="boxes beside scores",
        inputs=(Input(name="data", shape=(3, 5, 5)),),
        layers=(
            Conv(name="boxes", out_channels=4, kernel=(3, 3), inputs=("data",)),
            Conv(name="scores", out_channels=2, kernel=(3, 3), inputs=("data",)),
            Flatten(name="flat_boxes", inputs=("boxes",)),
            Flatten(name="flat_scores", inputs=("scores",)),
            Concat(name="both", inputs=("flat_boxes", "flat_scores")),
        ),
    )
    weights = probe_weights(spec)
    by = {"boxes": np.float32(1e3), "scores": np.float32(1e-4)}
    tensors = {name: tensor * by[name.partition(".")[0]] for name, tensor in weights.tensors.items()}
    weights = replace(weights, tensors=tensors)

    def negate(graph: Any) -> None:
        join = next(node for node in graph.node if node.op_type == "Concat")
        graph.node.insert(list(graph.node).index(join), helper.make_node("Neg", [join.input[1]], ["minus"]))
        join.input[1] = "minus"

    for names in (True, False):
        assert verdict(weights, tmp_path, _keep, names=names).status == "passed"
        assert verdict(weights, tmp_path, negate, names=names).status == "failed"


def test_weights_behind_silent_units_are_seen(tmp_path: Path) -> None:
    weights = probe_weights(CHAIN)
    tensors = dict(weights.tensors)
    tensors["conv.bias"] = np.full_like(tensors["conv.bias"], 1.0)
    tensors["conv.bias"][0] = -1e4  # silent on any noise
    mine = replace(weights, tensors=tensors)
    other = dict(tensors)
    other["fc.weight"] = tensors["fc.weight"].copy()
    other["fc.weight"][:, :9] *= -3
    save(mine, tmp_path / "a.safetensors")
    for suffix in (".safetensors", ".pt", ".onnx"):
        save(replace(mine, tensors=other), tmp_path / f"b{suffix}")
        found = verify_files([tmp_path / "a.safetensors", tmp_path / f"b{suffix}"], CHAIN).subjects[1]
        assert (found.status, found.first_failure) == ("failed", "fc"), suffix
        assert found.layers[3].error is not None and found.layers[3].error < 1e-5
        assert "by itself" in str(found.layers[3].reason)


def test_a_clip_above_what_the_probes_reach_is_seen(tmp_path: Path, chain: Weights) -> None:
    def clip(graph: Any) -> None:
        node = next(node for node in graph.node if node.op_type == "Relu")
        node.op_type = "Clip"
        for name, value in (("lowest", 0.0), ("highest", 2000.0)):
            graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.float32), name))
            node.input.append(name)

    for names in (True, False):
        found = verdict(chain, tmp_path, clip, names=names)
        assert (found.status, found.first_failure) == ("failed", "relu")


def test_a_function_must_show_the_answer(chain: Weights) -> None:
    def first_layer(x: Any) -> Any:
        return {"conv": reference.forward(CHAIN, chain.tensors, {"data": x})["conv"]}

    def answer(x: Any) -> Any:
        return reference.forward(CHAIN, chain.tensors, {"data": x})["prob"]

    assert_parity(chain, answer)
    with pytest.raises(AssertionError, match="not declared: its outputs are conv"):
        assert_parity(chain, first_layer)


def test_a_bound_on_the_logits_is_seen_and_a_whole_network_is_not_held_to_its_last_layer(
    tmp_path: Path, chain: Weights
) -> None:
    def clip(graph: Any) -> None:
        node = next(node for node in graph.node if node.op_type == "Softmax")
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(5000.0, np.float32), "highest"))
        graph.node.insert(list(graph.node).index(node), helper.make_node("Clip", ["fc", "", "highest"], ["clipped"]))
        node.input[0] = "clipped"

    assert (found := verdict(chain, tmp_path, clip)).first_failure == "prob", found.to_dict()

    def opaque(graph: Any) -> None:
        body = helper.make_graph(list(graph.node), "body", [], [onnx.ValueInfoProto(name="prob")])
        del graph.node[:]
        graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
        graph.node.append(helper.make_node("If", ["yes"], ["answer"], then_branch=body, else_branch=body))
        graph.output[0].name = "answer"

    whole = verdict(chain, tmp_path, opaque)
    assert whole.status == "passed", whole.to_dict()
    assert [layer.name for layer in whole.layers if layer.local is not None] == ["prob"]


def test_files_that_prepare_images_otherwise_are_told_apart(tmp_path: Path, chain: Weights) -> None:
    def prepared(name: str, images: Preprocessing) -> Path:
        save(chain.with_spec(replace(chain.spec, preprocessing=images)), tmp_path / name)
        return tmp_path / name

    rgb = Preprocessing(mean=(1.0, 2.0, 3.0))
    files = [
        prepared("a.safetensors", rgb),
        prepared("b.safetensors", rgb),
        prepared("c.onnx", replace(rgb, channels="BGR")),
    ]
    report = verify_files(files)
    _, same, other = report.subjects
    assert same.status == other.status == "passed"
    assert same.preparation is None
    assert other.preparation == "channel order BGR, not RGB"
    assert other.to_dict()["preparation"] == other.preparation
    first, *rest = text(report).splitlines()
    assert f"BUT NOT OF A PICTURE: {files[2]} prepares images otherwise" in first
    assert any("prepares images otherwise (channel order BGR, not RGB)" in line for line in rest)
