"""What only a GPU can show: ``make test-gpu``. Elsewhere these say that there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from converters.cli import main
from zoo import registry
from zoo.training.devices import alone
from zoo.training.job import TrainOptions
from zoo.training.journal import read_metrics
from zoo.training.launch import train

GPUS = torch.cuda.device_count() if torch.cuda.is_available() else 0
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not GPUS, reason="torch sees no CUDA GPU here")]


def _losses(out: Path, **changes: Any) -> np.ndarray:
    common = {"model": registry.model("alexnet_mini"), "data": "digits", "out": out, "steps": 8, "batch_size": 16}
    train(TrainOptions(**(common | changes)))  # pyright: ignore[reportArgumentType]
    return np.array([row["loss"] for row in read_metrics(out)], dtype=float)


def test_auto_takes_the_gpu_and_says_its_name() -> None:
    device, said = alone("auto")
    assert device.type == "cuda"
    assert torch.cuda.get_device_name(device) in said


def test_a_gpu_follows_the_cpu_s_curve(tmp_path: Path) -> None:
    cpu, gpu = (_losses(tmp_path / kind, device=kind) for kind in ("cpu", "cuda"))
    assert np.abs(gpu / cpu - 1).max() < 1e-2


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns(precision: str, tmp_path: Path) -> None:
    single, half = (_losses(tmp_path / p, device="cuda", precision=p) for p in ("fp32", precision))
    assert np.abs(half / single - 1).max() < 0.1


def test_compiled_follows_the_curve(tmp_path: Path) -> None:
    plain, compiled = (_losses(tmp_path / str(c), device="cuda", compiled=c) for c in (False, True))
    assert np.abs(compiled / plain - 1).max() < 1e-2


@pytest.mark.skipif(GPUS < 2, reason="takes two GPUs")
@pytest.mark.parametrize("parallel", ["towers", "data", "hybrid"])
def test_two_gpus_follow_the_curve_of_one(parallel: str, tmp_path: Path) -> None:
    one = _losses(tmp_path / "one", device="cuda")
    two = _losses(tmp_path / "two", device="cuda", devices=2, parallel=parallel)
    assert np.abs(two / one - 1).max() < 1e-2


@pytest.mark.skipif(GPUS != 1, reason="takes exactly one GPU")
def test_two_processes_on_one_gpu_are_refused_and_auto_says_why(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "alexnet_mini", "--data", "digits", "--steps", "2", "--batch-size", "8", "--devices", "2"]
    assert main([*command, "--device", "cuda", "-o", str(tmp_path / "a")]) == 2
    assert "--device cuda: process 1 is number 1" in capfd.readouterr().err
    assert main([*command, "-o", str(tmp_path / "b")]) == 0
    assert "device: 2 x cpu (process 1 is number 1" in capfd.readouterr().err


def test_a_batch_that_does_not_fit_says_what_to_lower(tmp_path: Path) -> None:
    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + 2**20) / whole))
    try:
        with pytest.raises(Exception, match=r"out of memory on cuda.*use a smaller --batch-size"):
            _losses(tmp_path, device="cuda", batch_size=1024, steps=1)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
