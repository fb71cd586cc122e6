"""Modules and functions in `assert_parity`: inputs of their own, weights compared, odd results refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from converters.convert import save
from converters.parity import probe_weights
from converters.testing import assert_parity
from converters.weights import Array, Weights
from zoo import reference
from zoo.errors import ZooError
from zoo.layers import Conv, Dense, Input, ModelSpec, ReLU

NET = ModelSpec(
    name="small",
    title="two dense layers behind a convolution",
    inputs=(Input(name="data", shape=(3, 6, 6)),),
    layers=(
        Conv(name="conv", out_channels=4, kernel=(3, 3)),
        ReLU(name="relu"),
        Dense(name="one", out_features=12),
        ReLU(name="live"),
        Dense(name="two", out_features=5),
    ),
)


@pytest.fixture
def weights() -> Weights:
    """One unit in three is silent on any noise."""
    made = probe_weights(NET)
    bias = made.tensors["one.bias"].copy()
    bias[::3] = -1e5
    return Weights(spec=NET, tensors={**made.tensors, "one.bias": bias}, source="test")


def module(tensors: Any) -> nn.Module:
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 5)]
    made = nn.Sequential(*layers)
    made.load_state_dict(dict(zip(made.state_dict(), (torch.tensor(t) for t in tensors.values()), strict=True)))
    return made


def test_weights_behind_silent_units_of_a_module_are_compared(tmp_path: Path, weights: Weights) -> None:
    save(weights, tmp_path / "right.safetensors")
    report = assert_parity(tmp_path / "right.safetensors", module(weights.tensors))
    assert "its weights were matched by order and shape" in report.subjects[1].notes
    other = {name: tensor.copy() for name, tensor in weights.tensors.items()}
    other["two.weight"][:, ::3] *= -3
    for right in (tmp_path / "right.safetensors", weights):
        with pytest.raises(AssertionError, match=r"two\.weight differs in 20 of 60 numbers"):
            assert_parity(right, module(other))


def test_weights_that_cannot_be_matched_are_said_to_be_uncompared(weights: Weights) -> None:
    class Transposed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(*list(module(weights.tensors).children())[:5])
            self.last = nn.Parameter(torch.tensor(weights.tensors["two.weight"].T.copy()))
            self.bias = nn.Parameter(torch.tensor(weights.tensors["two.bias"]))

        def forward(self, x: Any) -> Any:
            return self.inner(x) @ self.last + self.bias

    found = assert_parity(weights, Transposed()).subjects[0]
    assert any(note.startswith("its weights were not compared one by one") for note in found.notes)


def test_what_cannot_be_cut_is_fed_many_probes_and_what_they_miss_is_said(weights: Weights) -> None:
    with pytest.warns(UserWarning, match="is not shown in full: <lambda> is exercised in part only: two"):
        report = assert_parity(weights, lambda x: reference.forward(NET, weights.tensors, {"data": x})["two"])
    assert len(report.samples) == 16
    assert any("exercised in part only: two" in limit for limit in report.limits), report.limits
    linear = probe_weights(replace(NET, layers=NET.layers[:1]))
    report = assert_parity(linear, lambda x: reference.forward(linear.spec, linear.tensors, {"data": x})["conv"])
    assert report.limits == ()


def less_five(x: Any) -> Any:
    x -= 5.0
    return 2 * x


class LessFive(nn.Module):
    def forward(self, x: Any) -> Any:
        return less_five(x)


@pytest.mark.parametrize("first", [less_five, LessFive()])
def test_every_call_has_inputs_of_its_own(first: Callable[..., Any]) -> None:
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    before = x.copy()
    for inputs in (x, {"x": x}):
        function = first if isinstance(first, nn.Module) or inputs is x else lambda given: first(given["x"])
        with pytest.raises(AssertionError, match="first in output"):
            assert_parity(function, lambda given: 2 * (given["x"] if isinstance(given, dict) else given), inputs)
    assert np.array_equal(x, before)


def test_what_a_function_gives_is_its_own() -> None:
    buffer = np.zeros((2, 3), np.float32)

    def same_array(x: Array) -> Array:
        buffer[:] = x.sum() if not buffer.any() else -1
        return buffer

    with pytest.raises(AssertionError, match="first in output"):
        assert_parity(same_array, same_array, np.ones((2, 3), np.float32))


def test_outputs_without_names_go_by_their_order(weights: Weights) -> None:
    def both(x: Array) -> tuple[Array, Array]:
        return 2 * x, x[:, :1]

    x = np.random.default_rng(0).normal(size=(4, 3))
    report = assert_parity(both, both, x)
    assert [layer.name for layer in report.subjects[0].layers] == ["output 0", "output 1"]
    with pytest.raises(AssertionError, match="first in output 0"):
        assert_parity(both, lambda x: both(x)[::-1], x)
    with pytest.raises(AssertionError, match="no such activation"):
        assert_parity(both, lambda x: both(x)[0], x)
    with pytest.raises(AssertionError, match="equal to none of its layers"):
        assert_parity(weights, lambda x: (reference.forward(NET, weights.tensors, {"data": x})["two"], x[:, 0]))


class Unsteady(nn.Module):
    def __init__(self, tensors: Any, how: str) -> None:
        super().__init__()
        self.network, self.how, self.calls = module(tensors), how, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        y = self.network(x)
        odd = {"memory": self.calls > 1, "batch": len(x) == 1, "always": True, "nothing": False}
        return y * (1 + self.calls) if odd[self.how] else y  # no two calls alike, whatever a seed draws


@pytest.mark.parametrize("how", ["memory", "batch", "always", "nothing"])
def test_a_module_tells_the_same_of_a_sample_alone(how: str, weights: Weights) -> None:
    inputs = np.random.default_rng(0).normal(0, 60, (3, 3, 6, 6)).astype(np.float32)
    steady = module(weights.tensors)
    for right, fed in ((weights, None), (steady, inputs)):
        other = Unsteady(weights.tensors, how)
        if how == "nothing":
            assert_parity(right, other, fed)
            continue
        with pytest.raises(AssertionError, match="is another one when it is run for a batch of 1"):
            assert_parity(right, other, fed)


def test_a_function_tells_the_same_a_second_time(weights: Weights) -> None:
    right = reference.forward(NET, weights.tensors, {"data": np.ones((2, 3, 6, 6), np.float32)})["two"]
    answers = iter((right, 2 * right))
    with pytest.raises(AssertionError, match="is another one when it is run a second time"):
        assert_parity(weights, lambda _: next(answers), np.ones((2, 3, 6, 6), np.float32))


def test_zeros_are_no_proof() -> None:
    zeros = {"a": np.zeros((2, 3)), "b": np.zeros((2, 1))}
    with pytest.raises(AssertionError, match="show nothing: every activation of the first is zero"):
        assert_parity(zeros, zeros)


def test_whole_numbers_and_bfloat16_are_numbers() -> None:
    right = {"a": np.array([1, 2])}
    report = assert_parity(right, {"a": torch.tensor([1.0, 2.0], dtype=torch.bfloat16)})
    assert "a is float32, int64 in the first" in report.subjects[0].notes
    assert_parity({"a": 2.0}, {"a": torch.tensor(2.0)})
    with pytest.raises(AssertionError, match="first in a"):
        assert_parity({"a": 2.0}, {"a": 3.0})


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.array(["x"]), "a: holds <U1, expected real numbers"),
        (np.array([1 + 1j]), "a: holds complex128, expected real numbers"),
        ([[1.0, 2.0], [3.0]], "a: no array"),
        (np.zeros((0, 3)), "a: is empty \\(0 x 3\\)"),
        (None, "a: holds object"),
    ],
)
def test_odd_arrays_are_refused_in_one_line(value: Any, told: str) -> None:
    for a, b in ((value, np.ones(1)), (np.ones(1), value)):
        with pytest.raises(TypeError, match=told) as refusal:
            assert_parity({"a": a}, {"a": b})
        assert "\n" not in str(refusal.value)
    with pytest.raises(TypeError, match=told.replace("a:", "inputs:")):
        assert_parity(nn.Identity(), nn.Identity(), value if value is not None else np.array([None]))


@pytest.mark.parametrize("budget", [0, -1.0, float("nan"), float("inf")])
def test_a_budget_is_a_positive_number(budget: float) -> None:
    with pytest.raises(ZooError, match="the budget must be a positive number"):
        assert_parity({"a": np.ones(2)}, {"a": np.ones(2)}, budget=budget)


def test_a_network_that_cannot_be_used_is_refused(tmp_path: Path, weights: Weights) -> None:
    with pytest.raises(TypeError, match="spec is str, expected"):
        assert_parity(weights, weights, spec="alexnet")
    for a in (weights, {"a": np.ones(2)}):
        with pytest.raises(TypeError, match="the first argument is no file; leave it out"):
            assert_parity(a, a, spec=NET)
    save(weights, tmp_path / "a.npz")
    assert_parity(tmp_path / "a.npz", weights, spec=NET)
