"""What a layer does on inputs of its own, where it shares a node with others or the probes leave it silent."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from converters.parity import probe_weights
from converters.parity.local import bench, error_alone
from converters.parity.noise import ranges_of
from converters.parity.segments import segments
from converters.verdicts import DEFAULT_BUDGET
from converters.weights import Weights
from tests.test_onnx_subject import behind, clipped, of_type, store
from tests.test_outputs import CHAIN, verdict
from zoo import reference
from zoo.layers import LRN, Conv, Dense, Input, ModelSpec, Pool, ReLU, Scale, Sigmoid, TanH
from zoo.shapes import activation_shapes


def test_a_bound_on_what_a_softmax_reads_is_seen(tmp_path: Path) -> None:
    """It is below all but scores that are all far down."""

    def bounded(graph: Any) -> None:
        behind(graph, "fc", helper.make_node("Max", ["fc", store(graph, "least", -200.0)], ["bounded"]))

    found = verdict(probe_weights(CHAIN), tmp_path, bounded)
    assert (found.status, found.first_failure) == ("failed", "prob")


def test_a_bound_before_layers_in_one_node_is_seen(tmp_path: Path) -> None:
    """A dense layer adds up what it bounds, and a sigmoid bends the sum: with the layer before, it is asked plainly."""

    def fused(graph: Any) -> None:
        behind(graph, of_type(graph, "Relu"), clipped(graph, of_type(graph, "Relu"), "bounded"))
        dense = next(node for node in graph.node if node.op_type == "Gemm")
        dense.op_type, dense.domain, dense.output[0] = "FusedGemm", "com.microsoft", "bend"
        dense.attribute.append(helper.make_attribute("activation", "Sigmoid"))
        del graph.node[-1]

    layers = (
        Conv(name="conv", out_channels=6, kernel=(3, 3)),
        ReLU(name="relu"),
        Dense(name="fc", out_features=1),
        Sigmoid(name="bend"),
    )
    weights = probe_weights(ModelSpec(name="one", title="", inputs=(Input(shape=(3, 8, 8)),), layers=layers))
    found = verdict(weights, tmp_path, fused, names=False)
    assert (found.status, found.first_failure) == ("failed", "relu")


def test_every_unit_of_a_layer_is_alive_by_itself(tmp_path: Path) -> None:
    """Each is above zero in some sample, also where there are few: a factor behind a ReLU shows."""
    layers = (Dense(name="fc", out_features=8), ReLU(name="relu"), Dense(name="last", out_features=3))
    probe = probe_weights(ModelSpec(name="units", title="", inputs=(Input(shape=(4, 1, 1)),), layers=layers))
    dead = {**probe.tensors, "fc.bias": np.full(8, -1e4, np.float32)}

    def louder(graph: Any, unit: int) -> None:
        source, factors = of_type(graph, "Relu"), np.ones(8)
        factors[unit] = 1.01
        behind(graph, source, helper.make_node("Mul", [source, store(graph, "factors", factors)], ["louder"]))

    for unit in range(8):
        found = verdict(replace(probe, tensors=dead), tmp_path, partial(louder, unit=unit), names=False)
        assert found.status == "failed", unit


def test_every_unit_of_a_layer_in_one_node_with_its_relu_is_alive(tmp_path: Path) -> None:
    layers = (Dense(name="fc", out_features=12), ReLU(name="relu"), Dense(name="last", out_features=3))
    probe = probe_weights(ModelSpec(name="units", title="", inputs=(Input(shape=(4, 1, 1)),), layers=layers))

    def fused(graph: Any, unit: int) -> None:
        dense, relu = (next(node for node in graph.node if node.op_type == kind) for kind in ("Gemm", "Relu"))
        dense.op_type, dense.domain, dense.output[0] = "FusedGemm", "com.microsoft", relu.output[0]
        dense.attribute.append(helper.make_attribute("activation", "Relu"))
        graph.node.remove(relu)
        bias = next(tensor for tensor in graph.initializer if tensor.name == dense.input[2])
        numbers = numpy_helper.to_array(bias) + np.float32(0.01) * (np.arange(12) == unit)
        bias.CopyFrom(numpy_helper.from_array(numbers.astype(np.float32), bias.name))

    for unit in range(12):
        found = verdict(probe, tmp_path, partial(fused, unit=unit), names=False)
        assert (found.status, found.first_failure) == ("failed", "relu"), unit


def test_what_is_read_in_another_layout_is_judged_with_what_makes_it(tmp_path: Path) -> None:
    """As ONNX Runtime keeps maps in blocks of channels, and takes squares of them there."""

    def twice(graph: Any) -> None:
        relu = next(node for node in graph.node if node.op_type == "Relu")
        reads = [node for node in graph.node if relu.output[0] in node.input]
        perm, back = [0, 2, 3, 1], [0, 3, 1, 2]
        at = list(graph.node).index(relu)
        made = [
            helper.make_node("Transpose", list(relu.input), ["turned"], perm=perm),
            helper.make_node("Relu", ["turned"], ["other"]),
            helper.make_node("Mul", ["other", "other"], ["squared"]),
            helper.make_node("Transpose", ["squared"], ["squares"], perm=back),
        ]
        square = next(node for node in reads if node.op_type == "Mul" and node.input[0] == node.input[1])
        for node in graph.node:
            node.input[:] = ["squares" if name == square.output[0] else name for name in node.input]
        graph.node.remove(square)
        for k, node in enumerate(made):
            graph.node.insert(at + k, node)

    layers = (
        Conv(name="conv", out_channels=6, kernel=(3, 3)),
        ReLU(name="relu"),
        LRN(name="norm", size=3, alpha=0.05, beta=0.75, region="within"),
        Dense(name="fc", out_features=5),
    )
    weights = probe_weights(ModelSpec(name="turned", title="", inputs=(Input(shape=(3, 8, 8)),), layers=layers))
    assert verdict(weights, tmp_path, twice).status == "passed"


def _bent(outputs: int) -> Weights:
    layers = (
        Conv(name="conv", out_channels=6, kernel=(3, 3)),
        Dense(name="fc", out_features=outputs),
        Sigmoid(name="p"),
    )
    return probe_weights(ModelSpec(name="bent", title="", inputs=(Input(shape=(3, 8, 8)),), layers=layers))


@pytest.mark.parametrize("outputs", [1, 3, 40])
@pytest.mark.parametrize("least", [1e-3, 1e-5])
def test_what_is_lost_of_the_ends_of_a_sigmoid_is_seen(outputs: int, least: float, tmp_path: Path) -> None:
    """It is held to what it reads, and to what float32 leaves of one: not to a budget of its own peak."""

    def cut(graph: Any) -> None:
        graph.node[-1].output[0] = "whole"
        bound, nothing = store(graph, "least", least), store(graph, "nothing", 0.0)
        graph.node.append(helper.make_node("Less", ["whole", bound], ["small"]))
        graph.node.append(helper.make_node("Where", ["small", nothing, "whole"], ["p"]))

    found = verdict(_bent(outputs), tmp_path, cut)
    assert (found.status, found.first_failure) == ("failed", "p")


def test_a_sigmoid_may_be_computed_in_any_way(tmp_path: Path) -> None:
    def by_tanh(graph: Any) -> None:
        bend, half = graph.node.pop(), store(graph, "half", 0.5)
        graph.node.append(helper.make_node("Mul", [bend.input[0], half], ["halved"]))
        graph.node.append(helper.make_node("Tanh", ["halved"], ["tanh"]))
        graph.node.append(helper.make_node("Mul", ["tanh", half], ["lower"]))
        graph.node.append(helper.make_node("Add", ["lower", half], ["p"]))

    def by_exp(graph: Any) -> None:
        bend, one = graph.node.pop(), store(graph, "one", 1.0)
        graph.node.append(helper.make_node("Neg", [bend.input[0]], ["less"]))
        graph.node.append(helper.make_node("Exp", ["less"], ["exp"]))
        graph.node.append(helper.make_node("Add", ["exp", one], ["more"]))
        graph.node.append(helper.make_node("Reciprocal", ["more"], ["p"]))

    for outputs in (1, 40):
        for change in (by_tanh, by_exp):
            found = verdict(_bent(outputs), tmp_path, change)
            assert found.status == "passed", found.to_dict()


def test_what_is_lost_near_zero_is_seen(tmp_path: Path) -> None:
    """In what follows a ReLU as well, whose numbers on the probes are all larger."""

    def cut(graph: Any) -> None:
        source, least, nothing = of_type(graph, "MaxPool"), store(graph, "least", 2e-3), store(graph, "nothing", 0.0)
        mask = helper.make_node("Less", [source, least], ["small"])
        behind(graph, source, helper.make_node("Where", ["small", nothing, source], ["cut"]))
        at = next(i for i, node in enumerate(graph.node) if source in node.output)
        graph.node.insert(at + 1, mask)

    found = verdict(probe_weights(CHAIN), tmp_path, cut, names=False)
    assert found.status == "failed", found.to_dict()


def test_a_bound_just_within_a_narrow_range_is_seen(tmp_path: Path) -> None:
    """A few numbers between -1 and 1 hardly come near to either by chance."""
    layers = (
        Dense(name="fc", out_features=4),
        TanH(name="bend"),
        Dense(name="last", out_features=2),
    )
    weights = probe_weights(ModelSpec(name="narrow", title="", inputs=(Input(shape=(4, 1, 1)),), layers=layers))
    small = {**weights.tensors, "fc.weight": weights.tensors["fc.weight"] * np.float32(0.01)}

    for ends in ((-1.0, 0.99), (-0.99, 1.0)):

        def bounded(graph: Any, ends: tuple[float, float] = ends) -> None:
            least, most = (store(graph, name, end) for name, end in zip(("least", "most"), ends, strict=True))
            behind(graph, "bend", helper.make_node("Clip", ["bend", least, most], ["bounded"]))

        found = verdict(replace(weights, tensors=small), tmp_path, bounded)
        assert (found.status, found.first_failure) == ("failed", "last")


def test_a_factor_that_is_hidden_by_a_mean_is_seen() -> None:
    """What is added up for a mean has either sign: it leaves next to nothing, and so does an error of it."""
    layers = (Scale(name="scale"), Pool(name="mean", mode="ave", global_pool=True))
    weights = probe_weights(ModelSpec(name="mean", title="", inputs=(Input(shape=(4, 14, 14)),), layers=layers))
    shapes, segment = activation_shapes(weights.spec), next(segments(weights.spec, {"mean"}))
    made = bench(weights.tensors, segment, shapes, ranges_of(weights.spec, shapes), 1.0, 0)
    assert made
    other = {"scale.weight": weights.tensors["scale.weight"] * np.float32(1 + 1.8e-5)}
    for tensors, is_right in ((weights.tensors, True), (other, False)):
        y = reference.forward(weights.spec, tensors, made.inputs)["mean"].astype(np.float32)
        error, _ = error_alone(y, made, segment)
        assert error is not None and (error <= DEFAULT_BUDGET) is is_right, error
