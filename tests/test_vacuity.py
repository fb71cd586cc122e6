"""A proof that proves nothing is not called one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from converters.cli import main
from converters.convert import save
from converters.parity import Proof, Report, probe_weights, verify_files, verify_model
from converters.report import json_text, text
from converters.weights import Array, Weights
from tests.test_outputs import CHAIN
from zoo.layers import LRN, Conv, Input, ModelSpec, Reduction, Unary


def changed(change: Callable[[str, Array], Array]) -> Weights:
    weights = probe_weights(CHAIN)
    return replace(weights, tensors={name: change(name, tensor.copy()) for name, tensor in weights.tensors.items()})


def against_itself(weights: Weights, tmp_path: Path) -> Report:
    save(weights, tmp_path / "a.safetensors")
    return verify_files([tmp_path / "a.safetensors", tmp_path / "a.safetensors"])


def biased(name: str, value: float) -> Callable[[str, Array], Array]:
    return lambda key, tensor: np.full_like(tensor, value) if key == name else tensor


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda _, tensor: np.zeros_like(tensor), "every weight is zero"),
        (lambda _, tensor: np.full_like(tensor, 0.5), "every weight is one number"),
        (biased("conv.bias", -1e6), "no ReLU has a live unit"),
        (biased("fc.weight", 0.0), "is the same on every probe"),
        (lambda key, tensor: tensor + 1e4 * np.arange(5) if key == "fc.bias" else tensor, "saturated softmax"),
    ],
)
def test_where_nothing_is_shown_nothing_is_proved(
    change: Callable[[str, Array], Array], why: str, tmp_path: Path
) -> None:
    report = against_itself(changed(lambda key, tensor: change(key, tensor).astype(np.float32)), tmp_path)
    assert [subject.status for subject in report.subjects] == ["passed", "passed"]
    assert not report.passed and report.exit_status == 2
    assert any(why in reason for reason in report.unproved)
    assert "NOT PROVED" in text(report) and why in text(report)
    assert report.to_dict()["unproved"] == list(report.unproved) and report.to_dict()["passed"] is False


def test_what_float32_cannot_hold_is_said(tmp_path: Path) -> None:
    tiny = against_itself(changed(lambda key, x: x * np.float32(1e-40) if key == "fc.weight" else x), tmp_path)
    assert any(limit.startswith("fc.weight holds nothing above 1.2e-38") for limit in tiny.limits), tiny.limits
    huge = Proof(changed(lambda key, x: x * np.float32(1e38) if key == "fc.weight" else x))
    assert any(limit.startswith("fc is past float32's 3.4e+38") for limit in huge.vacuity.limits)
    assert not [limit for limit in Proof(probe_weights(CHAIN)).vacuity.limits if "float32" in limit]


def test_a_dead_network_s_layers_are_still_held_apart(tmp_path: Path) -> None:
    dead = changed(biased("conv.bias", -1e6))
    save(dead, tmp_path / "a.safetensors")
    other = {**dead.tensors, "fc.weight": -dead.tensors["fc.weight"][::-1]}
    save(replace(dead, tensors=other), tmp_path / "b.onnx")
    assert verify_files([tmp_path / "a.safetensors", tmp_path / "b.onnx"]).exit_status == 1


def test_what_is_not_shown_is_said() -> None:
    weights = probe_weights(replace(CHAIN, layers=(LRN(name="norm", size=3, alpha=1e-12, beta=0.75), *CHAIN.layers)))
    limits = Proof(weights).vacuity.limits
    assert any("norm: on these probes its k and alpha cannot be told from no normalisation" in told for told in limits)
    assert Proof(probe_weights(CHAIN)).vacuity.limits == ()


def test_the_command_line_says_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    save(changed(lambda _, tensor: np.zeros_like(tensor)), tmp_path / "zero.safetensors")
    assert main(["verify", str(tmp_path / "zero.safetensors"), "--frameworks", "onnx", "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert told["unproved"][0] == "every weight is zero" and told["passed"] is False
    assert main(["export", str(tmp_path / "zero.safetensors"), "-o", str(tmp_path / "zero.onnx")]) == 0
    assert "NOT PROVED: every weight is zero" in caplog.text


LOGARITHM = ModelSpec(
    name="logarithm",
    title="NaN where what it reads is negative",
    inputs=(Input(name="data", shape=(3, 6, 6)),),
    layers=(
        Conv(name="conv", out_channels=4, kernel=(3, 3)),
        Unary(name="log", function="log", numbers=(2.0, 1.0, 0.0)),
    ),
)


def test_an_answer_that_is_nan_in_places_is_right_where_it_is_nan_in_the_same(tmp_path: Path) -> None:
    weights = probe_weights(LOGARITHM)
    report = verify_model(LOGARITHM, weights, ["onnx", "pytorch"])
    assert report.passed, report.to_dict()
    assert any(limit.startswith("log is NaN or Inf in ") for limit in report.limits)
    json.loads(json_text(report))
    save(weights, tmp_path / "a.safetensors")
    save(weights, tmp_path / "a.onnx")
    model = onnx.load(str(tmp_path / "a.onnx"))
    model.graph.node.insert(1, onnx.helper.make_node("Abs", ["conv"], ["abs"]))
    model.graph.node[2].input[0] = "abs"
    onnx.save(model, str(tmp_path / "a.onnx"))
    wrong = verify_files([tmp_path / "a.safetensors", tmp_path / "a.onnx"]).subjects[1]
    assert wrong.status == "failed"
    assert "NaN or Inf do not stand in the same places" in str(wrong.outputs[0].reason)


def test_an_answer_that_is_nan_throughout_proves_nothing() -> None:
    spec = replace(LOGARITHM, layers=(*LOGARITHM.layers, Reduction(name="sum", axis=1)))
    report = verify_model(spec, probe_weights(spec), ["onnx"])
    assert not report.passed
    assert any("NaN or Inf throughout" in reason for reason in report.unproved)
