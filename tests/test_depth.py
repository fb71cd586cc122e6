"""What float32 itself makes of a network is no fault of a subject; more than that is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from converters.convert import save
from converters.parity import probe_weights, verify_files
from converters.weights import Weights
from zoo.layers import Conv, Eltwise, Input, ModelSpec, ReLU

# The difference of two maps that are nearly one: what rounds off each of them is a hundred times as much of it.
_DIFFERENCE = ModelSpec(
    name="difference",
    title="",
    inputs=(Input(shape=(8, 9, 9)),),
    layers=(
        Conv(name="left", inputs=("data",), out_channels=8, kernel=(3, 3)),
        Conv(name="right", inputs=("data",), out_channels=8, kernel=(3, 3)),
        Eltwise(name="less", inputs=("left", "right"), coeffs=(1.0, -1.0)),
        ReLU(name="relu"),
        Conv(name="head", out_channels=4, kernel=(3, 3)),
    ),
)


@pytest.fixture
def weights() -> Weights:
    probe = probe_weights(_DIFFERENCE)
    near = {
        f"right.{role}": probe.tensors[f"left.{role}"] + np.float32(1e-2) * probe.tensors[f"right.{role}"]
        for role in ("weight", "bias")
    }
    return replace(probe, tensors={**probe.tensors, **near})


def test_a_layer_that_float32_itself_puts_past_the_budget_is_held_to_its_own_numbers(
    weights: Weights, tmp_path: Path
) -> None:
    save(weights, tmp_path / "right.safetensors")
    save(weights, tmp_path / "graph.onnx")
    found = verify_files([tmp_path / "right.safetensors", tmp_path / "graph.onnx"]).subjects[1]
    assert found.status == "passed"
    (note,) = (note for note in found.notes if note.startswith("less: float32's own error"))
    assert "by itself, no layer is wrong" in note


def test_what_is_further_off_than_float32_is_a_fault(weights: Weights, tmp_path: Path) -> None:
    """A kernel that is off by less than the budget by itself, and by far more in the difference."""
    save(weights, tmp_path / "right.safetensors")
    other = {**weights.tensors, "left.weight": weights.tensors["left.weight"] * np.float32(1 + 5e-6)}
    save(replace(weights, tensors=other), tmp_path / "graph.onnx")
    found = verify_files([tmp_path / "right.safetensors", tmp_path / "graph.onnx"]).subjects[1]
    assert (found.status, found.first_failure) == ("failed", "less")
