"""What only a GPU can show: ``make test-gpu``. Elsewhere these say that there is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from converters.cli import main
from tests.small import normed, shrink
from zoo import registry
from zoo.layers import ModelSpec
from zoo.training.augment import Augment
from zoo.training.checkpoint import checkpoints
from zoo.training.data import Batch, Batches, TrainingStream
from zoo.training.devices import alone
from zoo.training.images import open_digits
from zoo.training.job import TrainOptions, prepare
from zoo.training.journal import read_metrics
from zoo.training.launch import train
from zoo.training.masks import keep_mask, keep_mask_on
from zoo.training.pytorch import PyTorchLearner

GPUS = torch.cuda.device_count() if torch.cuda.is_available() else 0
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not GPUS, reason="torch sees no CUDA GPU here")]


def _common(out: Path, **changes: Any) -> dict[str, Any]:
    model = registry.model("alexnet_mini")
    return {"model": model, "data": "digits", "out": out, "steps": 8, "batch_size": 16} | changes


def _losses(out: Path, **changes: Any) -> np.ndarray:
    train(TrainOptions(**_common(out, **changes)))
    return np.array([row["loss"] for row in read_metrics(out)], dtype=float)


NORMED = normed(shrink("alexnet_mini", 4))


def test_auto_takes_the_gpu_and_says_its_name() -> None:
    device, said = alone("auto")
    assert device.type == "cuda"
    assert torch.cuda.get_device_name(device) in said


@pytest.mark.parametrize("changes", [{}, {"model": NORMED, "rate": 1e-3}], ids=["lrn", "normed"])
def test_a_gpu_follows_the_cpu_s_curve(changes: dict[str, Any], tmp_path: Path) -> None:
    cpu, gpu = (_losses(tmp_path / kind, device=kind, **changes) for kind in ("cpu", "cuda"))
    assert np.abs(gpu / cpu - 1).max() < 1e-2


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns(precision: str, tmp_path: Path) -> None:
    """As well in the end; half precision leaves the first steps out, until its scale fits the gradients."""
    single, half = (_losses(tmp_path / p, device="cuda", precision=p, steps=60) for p in ("fp32", precision))
    assert half[0] == pytest.approx(single[0], rel=1e-3)
    assert half[-10:].mean() == pytest.approx(single[-10:].mean(), rel=0.1)
    assert half[-10:].mean() < 0.95 * half[0]


@pytest.mark.parametrize("changes", [{}, {"model": NORMED, "rate": 1e-3}], ids=["lrn", "normed"])
def test_compiled_follows_the_curve(changes: dict[str, Any], tmp_path: Path) -> None:
    plain, compiled = (_losses(tmp_path / str(c), device="cuda", compiled=c, **changes) for c in (False, True))
    assert np.abs(compiled / plain - 1).max() < 1e-2


@pytest.mark.skipif(GPUS < 2, reason="takes two GPUs")
@pytest.mark.parametrize("parallel", ["towers", "data", "hybrid"])
def test_two_gpus_follow_the_curve_of_one(parallel: str, tmp_path: Path) -> None:
    one = _losses(tmp_path / "one", device="cuda")
    two = _losses(tmp_path / "two", device="cuda", devices=2, parallel=parallel)
    assert np.abs(two / one - 1).max() < 1e-2


@pytest.mark.parametrize(("first", "second"), [("cuda", "cpu"), ("cpu", "cuda")])
def test_a_run_goes_on_on_the_other_kind_of_device(first: str, second: str, tmp_path: Path) -> None:
    whole = _losses(tmp_path / "whole", device=second)
    _losses(tmp_path / "parts", device=first, checkpoint_every=4)
    checkpoints(tmp_path / "parts")[-1].unlink()
    assert np.abs(_losses(tmp_path / "parts", device=second, resume=True) / whole - 1).max() < 1e-2


def test_a_gpu_draws_the_cpu_s_masks() -> None:
    place: dict[str, Any] = {"seed": 5, "step": 9, "layer": "drop6", "images": range(3, 131)}
    for part in (None, range(128, 256)):
        there = keep_mask_on(torch.device("cuda"), (256, 6, 6), 0.5, channels=part, **place)
        assert np.array_equal(there.cpu().numpy(), keep_mask((256, 6, 6), 0.5, channels=part, **place))


def test_a_gpu_draws_the_cpu_s_windows_and_colours() -> None:
    """The windows bit for bit; colours, from logarithms and cosines in float64, but for a last bit of float32."""
    spec, images = registry.model("alexnet_mini"), replace(open_digits("train"), natural=True)
    recipe, places = registry.recipe(registry.model("alexnet")), range(1000, 1064)
    pixels = torch.randint(0, 256, (64, 72, 72, 3), dtype=torch.uint8)
    batch = Batch(pixels=pixels, labels=torch.zeros(64, dtype=torch.int64))
    here, there = (
        Augment(images, spec, recipe, 5, device)(batch.to(device), places)
        for device in (torch.device("cpu"), torch.device("cuda"))
    )
    assert torch.equal(here.pixels, there.pixels.cpu())
    assert here.colour is not None and there.colour is not None
    assert torch.allclose(here.colour, there.colour.cpu(), rtol=1e-6)


@pytest.mark.parametrize("model", [registry.model("alexnet_mini"), NORMED], ids=["lrn", "normed"])
def test_a_step_waits_for_nothing_from_the_gpu(model: ModelSpec, tmp_path: Path) -> None:
    """Torch warns of everything that makes the host wait; reading a loss a step late is no such thing."""
    job = prepare(TrainOptions(**_common(tmp_path, device="cuda", model=model)))
    learner = PyTorchLearner(job, *alone("cuda"))
    stream = TrainingStream(job.train, job.spec, 0)
    try:
        for step, batch in enumerate(Batches(stream, [range(i, i + 16) for i in (0, 16, 32)], 0, pinned=True)):
            learner.train_step(batch, step, learner.start)
            torch.cuda.set_sync_debug_mode("error")  # means and deviations were put there in the first step
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(GPUS < 2, reason="takes two GPUs")
def test_eval_on_two_gpus_counts_as_on_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _losses(tmp_path, device="cuda", steps=2)
    told = list[str]()
    for devices in ("1", "2"):
        command = ["eval", str(tmp_path / "model.safetensors"), "--data", "digits", "--device", "cuda"]
        assert main([*command, "--devices", devices]) == 0
        told.append(capsys.readouterr().out.split("loss")[0])
    assert told[0] == told[1]


@pytest.mark.skipif(GPUS != 1, reason="takes exactly one GPU")
def test_two_processes_on_one_gpu_are_refused_and_auto_says_why(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "alexnet_mini", "--data", "digits", "--steps", "2", "--batch-size", "8", "--devices", "2"]
    assert main([*command, "--device", "cuda", "-o", str(tmp_path / "a")]) == 2
    assert "--device cuda: 2 processes would share one GPU" in capfd.readouterr().err
    assert main([*command, "-o", str(tmp_path / "b")]) == 0
    assert "device: 2 x cpu (2 processes would share one GPU" in capfd.readouterr().err


def test_a_batch_that_does_not_fit_says_what_to_lower(tmp_path: Path) -> None:
    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + 2**20) / whole))
    try:
        with pytest.raises(Exception, match=r"out of memory on cuda.*use a smaller --batch-size"):
            _losses(tmp_path, device="cuda", batch_size=1024, steps=1)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
