"""TF-slim trains as PyTorch does: one plan, one recipe, one loss curve."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.small import normed
from zoo import registry
from zoo.errors import ZooError
from zoo.layers import LRN, Dropout, ModelSpec
from zoo.training.checkpoint import checkpoints
from zoo.training.job import TrainOptions
from zoo.training.journal import read_metrics
from zoo.training.launch import train

pytestmark = pytest.mark.slow

tf_slim = pytest.importorskip("zoo.training.tf_slim")

MINI = registry.model("alexnet_mini")
SMALL: ModelSpec = replace(
    MINI.change("conv1", out_channels=8)
    .change("conv2", out_channels=16)
    .change("conv3", out_channels=16)
    .change("conv4", out_channels=16)
    .change("conv5", out_channels=16)
    .change("fc6", out_features=32)
    .change("fc7", out_features=32),
    name="small",
)
ACROSS = replace(
    SMALL,
    name="across",
    layers=tuple(replace(layer, towers=1, k=1.0) if isinstance(layer, LRN) else layer for layer in SMALL.layers),
)


def _options(out: Path, spec: ModelSpec, **changes: Any) -> TrainOptions:
    common = {"model": spec, "data": "digits", "out": out, "steps": 20, "batch_size": 16, "checkpoint_every": 10}
    given: dict[str, Any] = common | changes
    return TrainOptions(**given)


def _losses(out: Path) -> np.ndarray:
    return np.array([row["loss"] for row in read_metrics(out)], dtype=float)


def _without_dropout(spec: ModelSpec) -> ModelSpec:
    return spec.without(*(layer.name for layer in spec.layers if isinstance(layer, Dropout)))


@pytest.mark.parametrize(
    ("spec", "steps", "devices", "rate"),
    # With dropout a few units carry everything: once rounding has moved one of them across zero, the curves part. So
    # they do where batch normalisation divides by small deviations, unless the rate is low.
    [
        (_without_dropout(SMALL), 20, 1, 0.01),
        (_without_dropout(ACROSS), 20, 2, 0.01),
        (SMALL, 8, 2, 0.01),
        (normed(_without_dropout(SMALL)), 4, 1, 0.001),
        (normed(_without_dropout(SMALL)), 4, 2, 0.001),
    ],
    ids=["one", "lrn-across-two", "dropout-two", "normed", "normed-two"],
)
def test_both_frameworks_follow_one_loss_curve(
    spec: ModelSpec, steps: int, devices: int, rate: float, tmp_path: Path
) -> None:
    train(_options(tmp_path / "torch", spec, steps=steps, rate=rate))
    train(_options(tmp_path / "slim", spec, steps=steps, rate=rate, framework="tf_slim", devices=devices))
    torch_losses, slim_losses = _losses(tmp_path / "torch"), _losses(tmp_path / "slim")
    assert np.abs(slim_losses / torch_losses - 1).max() < 1e-4
    assert len(torch_losses) == steps
    assert steps < 8 or torch_losses[-1] < torch_losses[0]
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("slim", "torch"))
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        # What is near zero still, biases after few steps, is rounding in part.
        assert np.abs(ours[name] - tensor).max() < 1e-3 * max(np.abs(tensor).max(), 0.01), name


def test_the_towers_lie_on_two_devices(tmp_path: Path) -> None:
    from zoo.training.job import prepare  # noqa: PLC0415

    learner = tf_slim.TFSlimLearner(prepare(_options(tmp_path, ACROSS, framework="tf_slim", devices=2)))
    kinds = {"Conv2D", "Conv2DBackpropFilter", "LRN", "LRNGrad", "MatMul"}
    devices: dict[str, set[str]] = {}
    for operation in learner._session.graph.get_operations():
        if operation.type in kinds:
            devices.setdefault(operation.type, set()).add(operation.device)
    assert devices.keys() == kinds
    assert all(len(places) == 2 for places in devices.values()), devices


def test_a_run_goes_on_after_a_checkpoint_on_another_number_of_devices(tmp_path: Path) -> None:
    train(_options(tmp_path / "whole", SMALL, framework="tf_slim", devices=2))
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    checkpoints(tmp_path / "again")[-1].unlink()
    train(_options(tmp_path / "again", SMALL, framework="tf_slim", devices=1, resume=True))
    whole, again = _losses(tmp_path / "whole"), _losses(tmp_path / "again")
    assert np.array_equal(whole[:10], again[:10])
    assert np.abs(whole / again - 1).max() < 1e-4


def test_a_profile_holds_as_many_steps_as_asked_for(tmp_path: Path) -> None:
    train(_options(tmp_path, SMALL, framework="tf_slim", steps=3, batch_size=4, profile=2))
    traces = sorted((tmp_path / "profile").iterdir())
    assert [trace.name for trace in traces] == ["trace-0.json", "trace-1.json"]
    assert "Conv2DBackpropFilter" in traces[1].read_text()


def test_out_of_memory_says_what_to_lower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise tf_slim.tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    learner = tf_slim.TFSlimLearner.__init__

    def made(self: Any, *args: Any) -> None:
        learner(self, *args)
        self._session = SimpleNamespace(run=full)

    monkeypatch.setattr(tf_slim.TFSlimLearner, "__init__", made)
    with pytest.raises(ZooError, match=r"out of memory on cpu with small, 4 images .*a smaller --batch-size than 4 or"):
        train(_options(tmp_path, SMALL, framework="tf_slim", steps=1, batch_size=4))


def test_other_modes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match=r"tf_slim trains on one device, or on two.*--framework pytorch"):
        train(_options(tmp_path, SMALL, framework="tf_slim", devices=2, parallel="data"))
