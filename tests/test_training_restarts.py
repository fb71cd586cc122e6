"""A run that is broken off, by whatever, and started again by the same command ends with the same bits."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from converters.cli import main
from tests.environments import ROOT
from tests.small import shrink
from zoo import registry
from zoo.errors import ZooError
from zoo.recipe import MultiStepLR
from zoo.recipes import DEFAULT
from zoo.training import pytorch
from zoo.training.checkpoint import checkpoints
from zoo.training.job import TrainOptions, prepare
from zoo.training.journal import read_metrics
from zoo.training.launch import train

pytestmark = pytest.mark.slow  # whole runs

ZOO = [sys.executable, "-m", "converters"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
COMMAND = [
    "train",
    "alexnet_mini",
    "--data",
    "digits",
    "--batch-size",
    "16",
    "--steps",
    "16",
    "--checkpoint-every",
    "2",
]
PAIR = ["--parallel", "towers", "--device", "cpu", "--resume", "auto"]


def _state(out: Path) -> dict[str, np.ndarray]:
    return load_file(checkpoints(out)[-1])


def _losses(out: Path) -> list[str]:
    return [row["loss"] for row in read_metrics(out)]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unbroken")
    done = subprocess.run([*ZOO, *COMMAND, *PAIR, "--devices", "2", "-o", out], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def _assert_same(out: Path, unbroken: Path) -> None:
    assert _losses(out) == _losses(unbroken)
    ours, theirs = _state(out), _state(unbroken)
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def _broken(command: list[str], out: Path, *places: str) -> subprocess.CompletedProcess[str]:
    """A run that breaks off at those places; see tests/breaking.py."""
    (out / "marks").mkdir(parents=True)
    settings = os.environ | {"BREAKING": " ".join([str(out / "marks"), *places])}
    return subprocess.run(
        command, cwd=ROOT, env=settings, capture_output=True, text=True, start_new_session=True, check=False
    )


def test_a_run_killed_three_times_under_torchrun_ends_with_the_same_bits(unbroken: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [*TORCHRUN, "--max-restarts", "3", "-m", "tests.breaking", *COMMAND, *PAIR, "-o", str(out)]
    done = _broken(command, tmp_path, "5:1:SIGKILL", "8:0:SIGKILL", "13:1:SIGKILL")
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.findall(r"goes on after step (\d+)", done.stderr) == ["4", "8", "12"]
    _assert_same(out, unbroken)


def test_a_requeued_job_ends_with_the_same_bits(unbroken: Path, tmp_path: Path) -> None:
    """A job manager sends SIGTERM to every process of a job, and starts it again by the same command."""
    out = tmp_path / "run"
    options = [*COMMAND, *PAIR, "--devices", "2", "-o", str(out)]
    done = _broken([sys.executable, "-m", "tests.breaking", *options], tmp_path, "5:1:SIGTERM")
    assert done.returncode == 128 + signal.SIGTERM, done.stderr[-3000:]
    last = checkpoints(out)[-1].name
    assert done.stderr.splitlines()[-1] == f"zoo: terminated; go on from {last} with the same command and --resume"
    assert len(_losses(out)) == int(last[5:13]) < 16
    done = subprocess.run([*ZOO, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    _assert_same(out, unbroken)


SMALL = replace(shrink("alexnet_mini", 4), name="small")
STEADY = replace(DEFAULT, schedule=MultiStepLR(milestones=()))


def _options(out: Path, **changes: Any) -> TrainOptions:
    common = {"model": SMALL, "data": "digits", "out": out, "steps": 6, "batch_size": 8, "device": "cpu"}
    return TrainOptions(**(common | {"recipe": STEADY} | changes))  # pyright: ignore


def test_a_run_may_be_lengthened_and_auto_begins_goes_on_and_rests(tmp_path: Path) -> None:
    train(_options(tmp_path / "whole", steps=10))
    for steps in (6, 6, 10, 10):  # begins, rests, goes on, rests
        train(_options(tmp_path / "auto", steps=steps, resume="auto"))
    assert _losses(tmp_path / "auto") == _losses(tmp_path / "whole")
    assert all(
        np.array_equal(tensor, _state(tmp_path / "whole")[name]) for name, tensor in _state(tmp_path / "auto").items()
    )
    with pytest.raises(ZooError, match="is past the 4 steps that are asked for"):
        train(_options(tmp_path / "auto", steps=4, resume="auto"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for i in range(4):
                pixels = rng.integers(0, 256, (72, 72, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / part / name / f"{i}.png")
    return tmp_path / "data"


def test_another_data_set_or_recipe_is_refused_saying_what_differs(pictures: Path, tmp_path: Path) -> None:
    options = _options(tmp_path / "run", data=pictures, steps=2, batch_size=4)
    train(options)

    def refused(changed: TrainOptions) -> str:
        with pytest.raises(ZooError) as caught:
            train(replace(changed, resume="auto", steps=4))
        return str(caught.value)

    assert "recipe: rate 0.01 (now 0.02)" in refused(replace(options, rate=0.02))
    assert "recipe: layer rates: conv1 None (now 0.0)" in refused(replace(options, freeze=("conv1",)))
    assert "seed 0 (now 1)" in refused(replace(options, seed=1))
    image = pictures / "train" / "cat" / "3.png"
    whole = image.read_bytes()
    image.write_bytes(whole + b"x")
    assert "data: sizes of the files" in refused(options)
    image.write_bytes(whole)
    image.rename(image.with_name("4.png"))
    assert "data: names of the files" in refused(options)
    image.with_name("4.png").rename(image)
    for part in ("train", "val"):
        (pictures / part / "dog").rename(pictures / part / "fox")
    assert "data: classes dog (now fox)" in refused(options)
    for part in ("train", "val"):
        (pictures / part / "fox").rename(pictures / part / "dog")
    train(replace(options, resume="auto", steps=4))
    assert len(_losses(tmp_path / "run")) == 4


def test_devices_that_see_other_checkpoints_do_not_go_on_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pytorch, "_of_first", lambda step: 500)
    with pytest.raises(ZooError, match=r"not all devices see the same checkpoints \(this one that of step 0\)"):
        pytorch.PyTorchLearner(prepare(_options(tmp_path)), torch.device("cpu"), "cpu")


def test_the_whole_recipe_stands_in_the_checkpoint_and_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from zoo.recipe_file import from_plain  # noqa: PLC0415
    from zoo.training.checkpoint import load_checkpoint  # noqa: PLC0415

    mini = registry.model("alexnet_mini")
    train(_options(tmp_path, model=mini, recipe=None, rate=0.003, batch_size=4, steps=2))
    (_, path) = (tmp_path, checkpoints(tmp_path)[-1])
    found = from_plain(load_checkpoint(path, mini).setting.recipe)
    assert found == replace(registry.recipe(mini), rate=0.003, batch_size=4, epochs=1)
    said = capfd.readouterr().err
    assert "rate: 0.003" in said and "  momentum: 0.9" in said and "device: cpu; pytorch, fp32" in said


def test_resume_stands_alone_or_with_auto(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "alexnet_mini", "--data", "digits", "--batch-size", "4", "--device", "cpu", "-o", str(tmp_path)]
    assert main([*command, "--resume", "--steps", "1"]) == 2
    assert "no checkpoint to go on from" in capsys.readouterr().err
    assert main([*command, "--resume", "auto", "--steps", "1"]) == 0
    assert main([*command, "--steps", "2", "--resume"]) == 0
    assert len(_losses(tmp_path)) == 2
