"""Which tensor of a graph without names is which layer, where numbers along the network leave a choice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from converters.parity import probe_weights
from tests.test_onnx_subject import of_type, store
from tests.test_outputs import verdict
from zoo.layers import LRN, Concat, Conv, Dense, Input, ModelSpec, ReLU, Sigmoid, Slice, TanH, Unary


@pytest.mark.parametrize("bend", [Sigmoid(name="bend"), TanH(name="bend")], ids=["sigmoid", "tanh"])
def test_what_is_saturated_says_nothing_of_what_comes_before(bend: Sigmoid | TanH, tmp_path: Path) -> None:
    """Nobody's names: a normalisation is told by what it reads."""

    def fainter(graph: Any) -> None:
        norm = next(node for node in graph.node if node.op_type == "LRN")
        next(item for item in norm.attribute if item.name == "alpha").f = 1e-6

    layers = (
        Conv(name="conv", out_channels=8, kernel=(3, 3)),
        ReLU(name="relu"),
        LRN(name="norm", size=5, alpha=1e-3, beta=0.75, k=1.0),
        Dense(name="fc", out_features=5),
        bend,
    )
    probe = probe_weights(ModelSpec(name="full", title="", inputs=(Input(shape=(3, 10, 10)),), layers=layers))
    full = {name: array * np.float32(1e4) if name == "fc.weight" else array for name, array in probe.tensors.items()}
    assert verdict(replace(probe, tensors=full), tmp_path, lambda _: None, names=False).status == "passed"
    found = verdict(replace(probe, tensors=full), tmp_path, fainter, names=False)
    assert (found.status, found.first_failure) == ("failed", "norm")


@pytest.mark.parametrize("most", [100.0, 90.0])
def test_a_tensor_that_is_two_layers_on_the_probes_is_the_last(most: float, tmp_path: Path) -> None:
    """As ONNX Runtime saves a ReLU and a clip in one node with the convolution before them."""

    def fused(graph: Any) -> None:
        conv, dense = (next(node for node in graph.node if node.op_type == kind) for kind in ("Conv", "Gemm"))
        start, *_, end = [i for i, node in enumerate(graph.node) if node.op_type in ("Relu", "Min", "Greater", "Where")]
        conv.op_type, conv.domain, conv.output[0] = "FusedConv", "com.microsoft", graph.node[end].output[0]
        bounds = helper.make_attribute("activation_params", [0.0, most])
        conv.attribute.extend([helper.make_attribute("activation", "Clip"), bounds])
        dense.op_type, dense.domain, dense.output[0] = "FusedGemm", "com.microsoft", "bend"
        dense.attribute.append(helper.make_attribute("activation", "Sigmoid"))
        del graph.node[-1], graph.node[start : end + 1]

    layers = (
        Conv(name="conv", out_channels=6, kernel=(3, 3)),
        ReLU(name="relu"),
        Unary(name="bound", function="clip", numbers=(-100.0, 100.0)),
        Dense(name="fc", out_features=5),
        Sigmoid(name="bend"),
    )
    weights = probe_weights(ModelSpec(name="two", title="", inputs=(Input(shape=(3, 8, 8)),), layers=layers))
    found = verdict(weights, tmp_path, fused, names=False)
    assert (found.status, found.first_failure) == (("passed", None) if most == 100.0 else ("failed", "bound"))


def test_the_parts_of_a_split_are_seen(tmp_path: Path) -> None:
    """The second feeds a sigmoid of next to nothing, which alone says little of what it reads."""
    layers = (
        Conv(name="conv", out_channels=4, kernel=(3, 3)),
        Slice(name="first", axis=1, start=0, stop=2),
        Slice(name="second", inputs=("conv",), axis=1, start=2, stop=4),
        Sigmoid(name="bend"),
        Concat(name="both", inputs=("first", "bend")),
        Dense(name="fc", out_features=3),
    )
    probe = probe_weights(ModelSpec(name="parts", title="", inputs=(Input(shape=(3, 6, 6)),), layers=layers))
    low = probe.tensors["conv.bias"] - np.array([0, 0, 20, 20], np.float32)

    def split(graph: Any) -> None:
        conv = of_type(graph, "Conv")
        parts = [node for node in graph.node if node.op_type in ("Slice", "Split")]
        named = [part.output[0] for part in parts]
        for part in parts:
            graph.node.remove(part)
        sizes = store(graph, "sizes", [2, 2], np.int64)
        behind_conv = next(i for i, node in enumerate(graph.node) if conv in node.output) + 1
        graph.node.insert(behind_conv, helper.make_node("Split", [conv, sizes], named, axis=1))

    found = verdict(replace(probe, tensors={**probe.tensors, "conv.bias": low}), tmp_path, split, names=False)
    assert found.status == "passed", found.layers
    assert next(layer for layer in found.layers if layer.name == "second").local == 0.0
