"""Graphs in disguise: what the probes do not reach, what stands at names that mean something else, and odd results."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from converters.convert import save
from converters.parity import probe_weights, verify_files
from converters.report.wording import verdict_sentence
from converters.weights import Weights
from tests.onnx_graphs import by_numbers
from tests.test_outputs import CHAIN, Change, proof, verdict
from zoo.layers import (
    LRN,
    Axpy,
    BatchNorm,
    Conv,
    Dense,
    Input,
    ModelSpec,
    ReLU,
    Scale,
    Sigmoid,
    TanH,
    Unary,
)

# The chain without its softmax: an answer that a bound can cut off.
SCORES = replace(CHAIN, name="scores", layers=CHAIN.layers[:-1])

OPSET = helper.make_opsetid("", 17)

# A bound that no probe reaches.
_FAR = 1e4


@pytest.fixture
def chain() -> Weights:
    return probe_weights(CHAIN)


def store(graph: Any, name: str, value: Any, dtype: Any = np.float32) -> str:
    graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
    return name


def behind(graph: Any, source: str, *made: onnx.NodeProto) -> None:
    """Nodes behind a tensor; what read it reads the last of them."""
    at = next(i for i, node in enumerate(graph.node) if source in node.output) + 1
    result = made[-1].output[0]
    for node in graph.node:
        node.input[:] = [result if name == source else name for name in node.input]
    for k, node in enumerate(made):
        graph.node.insert(at + k, node)


def of_type(graph: Any, operator: str) -> str:
    """The result of the first node of a type, whatever it is called."""
    return next(node for node in graph.node if node.op_type == operator).output[0]


def clipped(graph: Any, source: str, result: str) -> onnx.NodeProto:
    bounds = [store(graph, "lowest", -_FAR), store(graph, "highest", _FAR)]
    return helper.make_node("Clip", [source, *bounds], [result])


def test_a_bound_behind_an_answer_of_another_name_is_seen(tmp_path: Path) -> None:
    def change(graph: Any) -> None:
        graph.node.append(clipped(graph, "fc", "answer"))
        graph.output[0].name = "answer"

    found = verdict(probe_weights(SCORES), tmp_path, change, names=False)
    assert (found.status, found.first_failure) == ("failed", "fc")
    assert any("its output answer is held to fc" in note for note in found.notes)


def test_a_bound_that_no_probe_reaches_is_told_by_structure(tmp_path: Path, chain: Weights) -> None:
    def bounded(graph: Any) -> None:
        source = of_type(graph, "Conv")
        bounds = [store(graph, "lowest", -1e7), store(graph, "highest", 1e7)]
        behind(graph, source, helper.make_node("Clip", [source, *bounds], ["bounded"]))

    report = proof(chain, tmp_path, bounded)
    found = report.subjects[1]
    assert found.structure and found.structure.verdict == "differs"
    assert "a Unary too many" in found.structure.sentence
    assert f"; of another structure, the same by numbers alone: {found.name}" in verdict_sentence(report)


@pytest.mark.parametrize("size", [0, 5, 17])
def test_a_declared_size_is_the_one_that_comes_out(size: int, tmp_path: Path, chain: Weights) -> None:
    def declared(graph: Any) -> None:
        graph.output[0].type.tensor_type.shape.dim[1].dim_value = size  # 0 leaves it open

    found = verdict(chain, tmp_path, declared)
    wanted = ("failed", "is declared N x 17, and has N x 5") if size == 17 else ("passed", None)
    assert (found.status, found.outputs[0].reason) == wanted


@pytest.mark.parametrize("names", [True, False], ids=["named", "stripped"])
@pytest.mark.parametrize("operator", ["Identity", "Dropout", "Reshape"])
def test_an_operator_of_another_domain_is_another(operator: str, names: bool, tmp_path: Path, chain: Weights) -> None:
    def change(graph: Any) -> None:
        source = of_type(graph, "Conv")
        behind(graph, source, helper.make_node(operator, [source], ["theirs"], domain="of.somebody"))

    # It has the name of an operator that hands its input on, and is a bound.
    bounds = [helper.make_node("Constant", [], [name], value_float=by) for name, by in (("l", -_FAR), ("h", _FAR))]
    body = [*bounds, helper.make_node("Clip", ["x", "l", "h"], ["y"])]
    theirs = helper.make_function("of.somebody", operator, ["x"], ["y"], body, [helper.make_opsetid("", 13)])
    found = verdict(chain, tmp_path, change, names=names, functions=[theirs])
    assert (found.status, found.first_failure) == ("failed", "relu")


@pytest.mark.parametrize("names", [True, False], ids=["named", "stripped"])
def test_a_batch_size_written_into_the_graph_is_seen(names: bool, tmp_path: Path, chain: Weights) -> None:
    def two(graph: Any) -> None:
        source = of_type(graph, "Conv")
        shape = store(graph, "two", [2, 6, 7, 7], np.int64)
        behind(graph, source, helper.make_node("Reshape", [source, shape], ["as_two"]))

    found = verdict(chain, tmp_path, two, names=names)
    assert (found.status, found.outputs[0].ok) == ("failed", False)
    assert "cannot be run for a batch of 1" in str(found.outputs[0].reason)


def test_what_is_the_same_at_a_batch_of_two_alone_is_seen(tmp_path: Path) -> None:
    def turned(graph: Any) -> None:
        graph.node[-1].output[0] = "kept"
        graph.node.append(helper.make_node("Reshape", ["kept", store(graph, "two", [2, -1], np.int64)], ["fc"]))

    even = replace(SCORES, layers=(*SCORES.layers[:-1], Dense(name="fc", out_features=6)))
    found = verdict(probe_weights(even), tmp_path, turned)
    assert found.status == "failed"
    assert found.outputs[0].reason == "is another one in a batch of 1, though it declares any"


def test_a_graph_with_our_names_that_stops_half_way_is_no_strangers(tmp_path: Path, chain: Weights) -> None:
    def one(graph: Any) -> None:
        shape = store(graph, "one", [1, 6, 7, 7], np.int64)
        behind(graph, "conv", helper.make_node("Reshape", ["conv", shape], ["as_one"]))

    found = verdict(chain, tmp_path, one)
    assert found.status == "failed"
    assert not any("other names" in note for note in found.notes), found.notes
    assert "it runs at a batch of 1 alone, though it declares any" in found.notes


def test_names_of_the_pieces_do_not_meet_those_of_the_graph(tmp_path: Path, chain: Weights) -> None:
    def change(graph: Any) -> None:
        node = next(node for node in graph.node if node.op_type == "Relu")
        node.input[0] = "bounded"
        graph.node.insert(list(graph.node).index(node), clipped(graph, "conv", "bounded"))
        for i in range(len(CHAIN.layers)):
            for mark in ("", "piece", "piece_"):
                store(graph, f"{mark}{i}/relu", 0)

    found = verdict(chain, tmp_path, change)
    assert (found.status, found.first_failure) == ("failed", "relu")


@pytest.mark.parametrize("names", [True, False], ids=["named", "stripped"])
def test_a_sequence_beside_the_road_is_left_alone(names: bool, tmp_path: Path, chain: Weights) -> None:
    def change(graph: Any) -> None:
        graph.node.append(helper.make_node("SequenceConstruct", [of_type(graph, "Conv")] * 2, ["list"]))

    found = verdict(chain, tmp_path, change, names=names)
    assert found.status == "passed", found.to_dict()
    assert {layer.local is not None for layer in found.layers} == {True}


def test_a_split_that_onnx_runtime_does_not_survive_is_refused(tmp_path: Path, chain: Weights) -> None:
    def change(graph: Any) -> None:
        graph.node.append(helper.make_node("Split", ["relu"], ["", "second"], axis=1))

    found = verdict(chain, tmp_path, change)
    assert found.status == "unavailable" and "one of its outputs has no name" in str(found.reason)


def looks_back(graph: Any) -> None:
    """The ReLU's place is taken by a choice: its negative, where the network's input is loud."""
    node = next(node for node in graph.node if node.op_type == "Relu")
    at, source, result = list(graph.node).index(node), node.input[0], node.output[0]
    loud, quiet = (
        helper.make_graph([helper.make_node(operator, [source], ["y"])], operator, [], [onnx.ValueInfoProto(name="y")])
        for operator in ("Neg", "Relu")
    )
    graph.node.remove(node)
    graph.node.insert(at, helper.make_node("If", ["is_loud"], [result], then_branch=loud, else_branch=quiet))
    graph.node.insert(at, helper.make_node("Greater", ["peak", store(graph, "limit", _FAR)], ["is_loud"]))
    graph.node.insert(at, helper.make_node("ReduceMax", ["data"], ["peak"], keepdims=0))


def adds_back(graph: Any) -> None:
    """What stands behind the convolution: its result, and how far the network's input is over a limit."""
    source = of_type(graph, "Conv")
    behind(
        graph,
        source,
        helper.make_node("ReduceMax", ["data"], ["peak"], keepdims=0),
        helper.make_node("Sub", ["peak", store(graph, "limit", _FAR)], ["over"]),
        helper.make_node("Relu", ["over"], ["only_over"]),
        helper.make_node("Add", [source, "only_over"], ["more"]),
    )


@pytest.mark.parametrize("names", [True, False], ids=["named", "stripped"])
@pytest.mark.parametrize("change", [looks_back, adds_back])
def test_a_layer_that_also_looks_at_the_networks_input_is_seen(
    change: Change, names: bool, tmp_path: Path, chain: Weights
) -> None:
    found = verdict(chain, tmp_path, change, names=names)
    assert (found.status, found.first_failure) == ("failed", "relu")


@pytest.mark.parametrize("shape", [(16, 5, 3), (16, 8, 1)])
def test_three_columns_are_no_channels(shape: tuple[int, int, int], tmp_path: Path) -> None:
    spec = ModelSpec(
        name="features",
        title="no picture",
        inputs=(Input(name="data", shape=shape),),
        layers=(Conv(name="conv", out_channels=4, kernel=(3, 1)), ReLU(name="relu")),
    )
    for names in (True, False):
        assert (found := verdict(probe_weights(spec), tmp_path, lambda _: None, names=names)).status == "passed", found


def test_gates_of_one_pixel_are_no_pictures(tmp_path: Path) -> None:
    spec = ModelSpec(
        name="gated",
        title="a number a channel, and two pictures",
        inputs=(Input(name="gate", shape=(4, 1, 1)), *(Input(name=name, shape=(4, 5, 6)) for name in ("one", "two"))),
        layers=(Axpy(name="gated", inputs=("gate", "one", "two")),),
    )
    found = verdict(probe_weights(spec), tmp_path, lambda _: None)
    assert found.status == "passed", found.to_dict()


def cast_to(kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", ["prob"], ["odd"], to=kind)


ODD = {
    "bfloat16": cast_to(onnx.TensorProto.BFLOAT16),
    "text": cast_to(onnx.TensorProto.STRING),
    "a sequence": helper.make_node("SequenceConstruct", ["prob", "prob"], ["odd"]),
    "an optional tensor": helper.make_node("Optional", ["prob"], ["odd"]),
}


@pytest.mark.parametrize("names", [True, False], ids=["named", "stripped"])
@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_tensor_of_numbers_is_left_alone_inside_and_fails_as_an_answer(
    kind: str, names: bool, tmp_path: Path, chain: Weights
) -> None:
    def inside(graph: Any) -> None:
        graph.node.append(ODD[kind])

    def answer(graph: Any) -> None:
        inside(graph)
        graph.output[0].CopyFrom(onnx.ValueInfoProto(name="odd"))

    def beside(graph: Any) -> None:
        inside(graph)
        graph.output.append(onnx.ValueInfoProto(name="odd"))

    assert (found := verdict(chain, tmp_path, inside, names=names)).status == "passed", found.to_dict()
    found = verdict(chain, tmp_path, answer, names=names)
    assert found.status == "failed" and "is no tensor of numbers" in str(found.outputs[0].reason)
    assert not any("drawn by chance" in note for note in found.notes)
    found = verdict(chain, tmp_path, beside, names=names)
    assert (found.status, found.first_failure) == ("failed", "odd")


def test_a_graph_that_gives_no_number_is_not_called_random(tmp_path: Path, chain: Weights) -> None:
    def change(graph: Any) -> None:
        graph.node[-1].output[0] = "kept"
        graph.node.append(helper.make_node("Sqrt", [store(graph, "minus", [[-1.0] * 5] * 2)], ["never"]))
        graph.node.append(helper.make_node("Add", ["kept", "never"], ["prob"]))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = verdict(chain, tmp_path, change)
    assert found.status == "failed"
    assert not any("drawn by chance" in note for note in found.notes), found.notes


def test_chance_that_two_runs_do_not_meet_is_seen(tmp_path: Path, chain: Weights) -> None:
    def seldom(graph: Any) -> None:
        behind(
            graph,
            "relu",
            helper.make_node("RandomUniform", [], ["drawn"], shape=[1, 1, 1, 1]),
            helper.make_node("Greater", ["drawn", store(graph, "limit", 1e-9)], ["mostly"]),
            helper.make_node("Cast", ["mostly"], ["gate"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Mul", ["relu", "gate"], ["gated"]),
        )

    def beside(graph: Any) -> None:
        graph.node.append(helper.make_node("RandomUniformLike", ["relu"], ["unused"]))

    found = verdict(chain, tmp_path, seldom)
    assert (found.status, found.outputs[0].reason) == ("failed", "depends on chance: RandomUniform")
    assert verdict(chain, tmp_path, beside).status == "passed"


@pytest.mark.parametrize("by", ["numbers", "sizes"])
def test_a_branch_that_no_probe_takes_is_no_proof(by: str, tmp_path: Path, chain: Weights) -> None:
    def branching(graph: Any) -> None:
        asked = {
            "numbers": helper.make_node("ReduceMax", ["relu"], ["asked"], keepdims=0),
            "sizes": helper.make_node("Size", ["relu"], ["size"]),
        }[by]
        as_float = [] if by == "numbers" else [helper.make_node("Cast", ["size"], ["asked"], to=onnx.TensorProto.FLOAT)]
        branches = [
            helper.make_graph(
                [helper.make_node(operator, ["relu"], [operator])],
                operator,
                [],
                [helper.make_tensor_value_info(operator, onnx.TensorProto.FLOAT, None)],
            )
            for operator in ("Neg", "Identity")
        ]
        is_far = helper.make_node("Greater", ["asked", store(graph, "far", 1e9)], ["is_far"])
        behind(
            graph,
            "relu",
            asked,
            *as_float,
            is_far,
            helper.make_node("If", ["is_far"], ["taken"], then_branch=branches[0], else_branch=branches[1]),
        )

    found = verdict(chain, tmp_path, branching)
    told = "goes one way or another by the numbers that are fed: If"
    assert (found.status, found.outputs[0].reason) == (("failed", told) if by == "numbers" else ("passed", None))


@pytest.mark.parametrize("most", [5e3, 4e3])
def test_a_clip_in_several_nodes_that_clips_nothing_along_the_network(most: float, tmp_path: Path) -> None:
    def bounded(graph: Any) -> None:
        for constant in (node.attribute[0].t for node in graph.node if node.op_type == "Constant"):
            if numpy_helper.to_array(constant) == np.float32(5e3):
                constant.CopyFrom(numpy_helper.from_array(np.asarray(most, np.float32)))

    layers = (
        Conv(name="conv", out_channels=4, kernel=(3, 3)),
        Unary(name="bound", function="clip", numbers=(-5e3, 5e3)),
        Dense(name="fc", out_features=5),
    )
    weights = probe_weights(ModelSpec(name="bounded", title="", inputs=(Input(shape=(3, 8, 8)),), layers=layers))
    found = verdict(weights, tmp_path, bounded, names=False)
    assert (found.status, found.first_failure) == (("passed", None) if most == 5e3 else ("failed", "bound"))


def test_what_a_layer_reads_may_be_made_twice(tmp_path: Path, chain: Weights) -> None:
    def twice(graph: Any) -> None:
        relu = next(node for node in graph.node if node.op_type == "Relu")
        behind(graph, relu.output[0], helper.make_node("Relu", list(relu.input), ["again"]))

    assert verdict(chain, tmp_path, twice, names=False).status == "passed"


@pytest.mark.parametrize("operator", ["Tanh", "Sigmoid"])
def test_the_rounding_of_sums_is_no_fault_of_what_bends_them(operator: str, tmp_path: Path) -> None:
    def fused(graph: Any) -> None:
        conv, bend = (next(node for node in graph.node if node.op_type == kind) for kind in ("Conv", operator))
        conv.op_type, conv.domain, conv.output[0] = "FusedConv", "com.microsoft", bend.output[0]
        conv.attribute.append(helper.make_attribute("activation", operator))
        graph.node.remove(bend)

    bends = {"Tanh": TanH(name="bend"), "Sigmoid": Sigmoid(name="bend")}[operator]
    layers = (Conv(name="conv", out_channels=6, kernel=(3, 3)), bends, Dense(name="fc", out_features=5))
    for seed in range(3):
        weights = probe_weights(
            ModelSpec(name="bent", title="", inputs=(Input(shape=(4, 10, 10)),), layers=layers), seed
        )
        found = verdict(weights, tmp_path, fused)
        assert found.status == "passed", found.diagnosis


def test_one_class_that_has_it_all_says_nothing_of_what_comes_before(tmp_path: Path, chain: Weights) -> None:
    def scaled(graph: Any) -> None:
        source = of_type(graph, "Conv")
        behind(graph, source, helper.make_node("Mul", [source, store(graph, "factor", 1.0005)], ["scaled"]))

    loud = {name: array * np.float32(1e3) if name == "fc.weight" else array for name, array in chain.tensors.items()}
    found = verdict(replace(chain, tensors=loud), tmp_path, scaled, names=False)
    assert (found.status, found.first_failure) == ("failed", "relu")


def test_a_maximum_hides_nothing_of_what_comes_before(tmp_path: Path, chain: Weights) -> None:
    def leaking(graph: Any) -> None:
        next(node for node in graph.node if node.op_type == "Relu").op_type = "LeakyRelu"

    found = verdict(chain, tmp_path, leaking, names=False)
    assert found.diagnosis and (found.status, found.diagnosis.message[:5]) == ("failed", "relu:")


def test_a_tensor_of_another_shape_leaves_the_other_layers_judged_by_themselves(tmp_path: Path) -> None:
    spec = replace(SCORES, layers=(SCORES.layers[0], SCORES.layers[2], Dense(name="fc", out_features=5)))

    def change(graph: Any) -> None:
        source = of_type(graph, "MaxPool")
        behind(graph, source, helper.make_node("Concat", [source, source], ["doubled"], axis=2))
        join = next(node for node in graph.node if node.op_type == "Concat")
        pool = next(node for node in graph.node if node.op_type == "MaxPool")
        pool.output[0], join.input[:], join.output[0] = "single", ["single", "single"], "pool"
        for node in graph.node:
            node.input[:] = ["pool" if name == "doubled" else name for name in node.input]
        dense = next(node for node in graph.node if node.op_type == "Gemm")
        axis = store(graph, "half", np.arange(54), np.int64)
        at = list(graph.node).index(dense)
        graph.node.insert(at, helper.make_node("Gather", [dense.input[0], axis], ["cut"], axis=1))
        dense.input[0] = "cut"

    found = verdict(probe_weights(spec), tmp_path, change)
    assert (found.status, found.first_failure) == ("failed", "pool")
    assert found.layers[0].local is not None, found.notes


@pytest.mark.parametrize("names", [True, False])
def test_a_graph_inside_a_function_is_looked_into(tmp_path: Path, chain: Weights, names: bool) -> None:
    def wrapped(change: Change) -> Change:
        def inner(graph: Any) -> None:
            change(graph)
            stored = [tensor.name for tensor in graph.initializer]
            body = helper.make_function("own", "Net", ["data", *stored], ["prob"], list(graph.node), [OPSET])
            del graph.node[:]
            graph.node.append(helper.make_node("Net", ["data", *stored], ["prob"], domain="own"))
            functions.append(body)

        return inner

    def bounded(graph: Any) -> None:
        source = of_type(graph, "Conv")
        behind(graph, source, clipped(graph, source, "cut"))

    functions = list[Any]()
    right = verdict(chain, tmp_path, wrapped(lambda _: None), names=names, functions=functions)
    assert right.status == "passed", right.to_dict()
    assert all(layer.local is not None for layer in right.layers)
    functions.clear()
    wrong = verdict(chain, tmp_path, wrapped(bounded), names=names, functions=functions)
    assert wrong.status == "failed"
    assert wrong.first_failure in ("conv", "relu")


@pytest.mark.parametrize(
    ("ratio", "training", "status"), [(1e-7, True, "failed"), (0.0, True, "passed"), (0.5, False, "passed")]
)
def test_a_dropout_that_is_on_is_found_by_structure(
    tmp_path: Path, chain: Weights, ratio: float, training: bool, status: str
) -> None:
    def change(graph: Any) -> None:
        numbers = [store(graph, "ratio", ratio), store(graph, "training", training, bool)]
        behind(graph, "pool", helper.make_node("Dropout", ["pool", *numbers], ["kept"]))

    found = verdict(chain, tmp_path, change)
    assert found.status == status, found.to_dict()
    assert any("depends on chance: Dropout" in str(output.reason) for output in found.outputs) == (status == "failed")


def test_a_normalisation_of_other_numbers_is_told_by_what_the_graph_says(tmp_path: Path) -> None:
    spec = replace(
        CHAIN, layers=(CHAIN.layers[0], LRN(name="norm", size=3, alpha=0.5, beta=0.75, k=1.0), *CHAIN.layers[1:])
    )

    def change(graph: Any) -> None:
        node = next(node for node in graph.node if node.op_type == "LRN")
        next(item for item in node.attribute if item.name == "alpha").f = 0.4

    found = verdict(probe_weights(spec), tmp_path, change)
    assert found.diagnosis is not None
    assert (found.diagnosis.fault, found.diagnosis.layer) == ("definition_differs", "norm")
    assert "alpha is 0.4" in found.diagnosis.message


def test_a_small_mistake_is_told_once_and_not_again_as_the_answer(tmp_path: Path) -> None:
    spec = replace(CHAIN, layers=(CHAIN.layers[0], BatchNorm(name="norm", eps=1e-5), *CHAIN.layers[1:]))

    def change(graph: Any) -> None:
        node = next(node for node in graph.node if node.op_type == "BatchNormalization")
        next(item for item in node.attribute if item.name == "epsilon").f = 1e-3

    found = verdict(probe_weights(spec), tmp_path, change)
    assert found.diagnosis is not None
    assert found.diagnosis.layer == "norm"
    assert not found.further, found.to_dict()


def test_a_function_that_is_called_as_an_operator_of_onnx_is_not_what_runs(tmp_path: Path, chain: Weights) -> None:
    bent = helper.make_function("", "Relu", ["X"], ["Y"], [helper.make_node("Neg", ["X"], ["Y"])], [OPSET])
    save(chain, tmp_path / "right.safetensors")
    save(chain, tmp_path / "subject.onnx")
    model = onnx.load(str(tmp_path / "subject.onnx"))
    model.functions.append(bent)
    onnx.save(model, str(tmp_path / "subject.onnx"))
    with by_numbers():
        found = verify_files([tmp_path / "right.safetensors", tmp_path / "subject.onnx"]).subjects[1]
    assert found.status == "passed", found.to_dict()
    assert all(layer.local is not None for layer in found.layers)


def test_a_layer_is_cut_off_whichever_copy_of_a_tensor_it_reads(tmp_path: Path, chain: Weights) -> None:
    """An exporter shows one cast of a tensor, and hands on another."""

    def change(graph: Any) -> None:
        source = of_type(graph, "Conv")
        names = ("handed", "again", source)
        copies = [helper.make_node("Cast", ["made"], [name], to=onnx.TensorProto.FLOAT) for name in names]
        node = next(node for node in graph.node if source in node.output)
        node.output[:] = ["made"]
        for reader in graph.node:
            reader.input[:] = ["again" if name == source else name for name in reader.input]
        at = list(graph.node).index(node) + 1
        for k, copy in enumerate(copies):
            graph.node.insert(at + k, copy)

    found = verdict(chain, tmp_path, change)
    assert found.status == "passed", found.to_dict()
    relu = next(layer for layer in found.layers if layer.name == "relu")
    assert relu.local is not None and relu.local < 1e-6


def test_weights_that_an_old_exporter_lists_as_inputs_are_no_inputs(tmp_path: Path, chain: Weights) -> None:
    def listed(graph: Any) -> None:
        store(graph, "norm.num_batches_tracked", 7, np.int64)  # nothing reads it
        for tensor in graph.initializer:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))

    assert verdict(chain, tmp_path, listed).status == "passed"


def test_a_normalisation_that_is_folded_on_our_side_alone_is_the_same_network(tmp_path: Path) -> None:
    """The folded network has the tensor of the convolution under a name that means less in the other one."""
    conv = Conv(name="conv", out_channels=4, kernel=(3, 3), bias=False)
    layers = (conv, BatchNorm(name="norm"), Scale(name="scale", bias=True), ReLU(name="relu"))
    spec = ModelSpec(name="apart", title="apart", inputs=(Input(name="data", shape=(3, 8, 8)),), layers=layers)
    apart = probe_weights(spec)
    tensors = dict(apart.tensors)
    # Means far from zero, which the folded bias takes away: what is left is small beside what was summed.
    tensors["norm.mean"] = np.array([300, -200, 500, 100], np.float32)
    gain = np.float64(tensors["scale.weight"]) / np.sqrt(np.float64(tensors["norm.variance"]) + 1e-5)
    shift = tensors["scale.bias"] - np.float64(tensors["norm.mean"]) * gain
    tensors["scale.bias"] = (tensors["scale.bias"] - shift + 0.01).astype(np.float32)
    shift = tensors["scale.bias"] - np.float64(tensors["norm.mean"]) * gain
    folded = replace(spec, layers=(replace(conv, bias=True), layers[3]))
    weight = (tensors["conv.weight"] * gain[:, None, None, None]).astype(np.float32)
    ours = Weights(spec=folded, tensors={"conv.weight": weight, "conv.bias": shift.astype(np.float32)}, source="here")
    save(ours, tmp_path / "folded.onnx")
    save(replace(apart, tensors=tensors), tmp_path / "apart.onnx")
    report = verify_files([tmp_path / "folded.onnx", tmp_path / "apart.onnx"])
    second = report.subjects[1]
    assert second.status == "passed" and second.structure is not None and second.structure.verdict == "rounded"
    assert {layer.name for layer in second.layers if layer.local is not None} >= {"conv", "relu"}
