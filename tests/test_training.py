"""Whole runs: bits, resumption, other numbers of devices, a killed device, a full disk, bad options."""

from __future__ import annotations

import itertools
import json
import math
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from tests import breaking
from tests.environments import ROOT
from zoo import registry, spec_json
from zoo.errors import ZooError
from zoo.layers import ModelSpec
from zoo.recipes import DEFAULT
from zoo.training import launch, loop
from zoo.training.checkpoint import checkpoints
from zoo.training.images import DigitImages
from zoo.training.job import TrainOptions, prepare
from zoo.training.journal import Journal, draw_curves, read_metrics
from zoo.training.launch import train
from zoo.training.optimiser import Momentum
from zoo.training.pytorch import PyTorchLearner
from zoo.wire.folders import alone_in

pytestmark = pytest.mark.slow  # whole runs

MINI = registry.model("alexnet_mini")
TINY: ModelSpec = replace(
    MINI.change("conv1", out_channels=8)
    .change("conv2", out_channels=16)
    .change("conv3", out_channels=16)
    .change("conv4", out_channels=16)
    .change("conv5", out_channels=16)
    .change("fc6", out_features=32)
    .change("fc7", out_features=32),
    name="tiny",
)
STEPS = 20


def _options(out: Path, **changes: Any) -> TrainOptions:
    common = {"model": TINY, "data": "digits", "out": out, "steps": STEPS, "batch_size": 16, "checkpoint_every": 5}
    given: dict[str, Any] = common | changes
    return TrainOptions(**given)


def _losses(out: Path) -> list[str]:
    return [row["loss"] for row in read_metrics(out)]


def _stop_at(step: int, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """The next run breaks off when it has recorded a step."""
    record = Journal.step

    def broken(self: Journal, at: int, *args: Any) -> None:
        record(self, at, *args)
        if at == step:
            raise error

    monkeypatch.setattr(Journal, "step", broken)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run on one device."""
    out = tmp_path_factory.mktemp("alone")
    train(_options(out))
    return out


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, interrupted at step 8: its last checkpoint is that of step 5."""
    out = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        _stop_at(8, patch, KeyboardInterrupt())
        with pytest.raises(ZooError, match=r"interrupted; go on from step-00000005.*--resume"):
            train(_options(out))
    return out


def test_a_run_leaves_model_metrics_events_curves_and_checkpoints(alone: Path) -> None:
    with safe_open(alone / "model.safetensors", "numpy") as file:
        metadata = file.metadata()
    assert spec_json.loads(metadata[spec_json.METADATA_KEY]) == replace(TINY, classes=DigitImages.classes)
    assert metadata["model"] == "tiny"
    rows = read_metrics(alone)
    assert [int(row["step"]) for row in rows] == list(range(1, STEPS + 1))
    assert float(rows[-1]["val_top1"]) <= float(rows[-1]["val_top5"]) <= 1.0
    assert [path.name for path in checkpoints(alone)] == ["step-00000015.safetensors", "step-00000020.safetensors"]
    with Image.open(alone / "curves.png") as image:
        assert np.asarray(image.convert("L")).std() > 1
    # A start is no step's time; on the CPU there is no GPU's memory.
    assert rows[0]["images_per_second"] == "" and all(float(row["images_per_second"]) > 0 for row in rows[1:])
    assert {row["gpu_gigabytes"] for row in rows} == {""}
    (events,) = alone.glob("events.out.tfevents.*")
    logged = [value.tag for event in EventFileLoader(str(events)).Load() for value in event.summary.value]
    assert logged.count("loss") == STEPS
    assert logged.count("val_top1") == 1
    assert not list(alone.rglob(".*"))


def test_the_curves_have_a_title_and_legends_that_cover_no_line(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = list[Figure]()
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: (drawn.append(figure), path.write_bytes(b"")))
    draw_curves(alone, "tiny x 1 on digits").unlink()
    (figure,) = drawn
    figure.draw_without_rendering()
    assert figure.get_suptitle() == "tiny x 1 on digits"
    for axes in figure.axes:
        legend = axes.get_legend()
        assert legend is not None and legend.get_window_extent().y0 >= axes.get_window_extent().y1


def test_the_estimate_leaves_the_start_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    journal = Journal(tmp_path, done=0, steps=10, batch_size=4, title="x", memory=lambda: 2_500_000_000)
    journal.bar._time = lambda: now[0]
    for now[0] in (100.0, 101.0, 102.0):  # the start takes a hundred seconds, a step one
        journal.step(int(now[0]) - 99, 0.1, 1.0, 0.1, None, None if now[0] == 100 else 1.0)
    told = journal.bar.format_dict
    journal.close()
    assert told["n"] == 3 and told["initial"] == 1
    assert (told["n"] - told["initial"]) / told["elapsed"] == pytest.approx(1.0)
    rows = read_metrics(tmp_path)
    assert [row["images_per_second"] for row in rows] == ["", "4.0", "4.0"]
    assert {row["gpu_gigabytes"] for row in rows} == {"2.5"}


@pytest.mark.parametrize("lag", [0, 1])
def test_a_rate_is_that_of_steps_alone_on_a_device_that_works_by_itself(
    lag: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step takes the device a second, validation and checkpoints take a minute; losses are asked for late."""
    now, ended, validate, step, save = [0.0], [0.0], PyTorchLearner.validate, PyTorchLearner.train_step, loop._save

    def begin(learner: PyTorchLearner, *given: Any) -> Callable[[], float]:
        loss, ended[0] = step(learner, *given), max(ended[0], now[0]) + 1.0
        return lambda end=ended[0]: (now.__setitem__(0, max(now[0], end)), loss())[1]

    def minute(do: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given, **named: (now.__setitem__(0, max(*now, *ended) + 60), do(*given, **named))[1]

    monkeypatch.setattr("zoo.training.loop.time.perf_counter", lambda: now[0])
    monkeypatch.setattr(PyTorchLearner, "train_step", begin)
    monkeypatch.setattr(PyTorchLearner, "validate", minute(validate))
    monkeypatch.setattr(loop, "_save", minute(save))
    learner = PyTorchLearner(
        prepare(_options(tmp_path, steps=8, batch_size=512, checkpoint_every=4)), torch.device("cpu"), "cpu"
    )
    learner.lag = lag
    loop.run(learner.job, learner)
    rows = read_metrics(tmp_path)
    assert [row["step"] for row in rows if row["val_top1"]] == ["3", "6", "8"]
    assert [row["images_per_second"] for row in rows] == ["", *["512.0"] * 7]


def test_a_profile_holds_as_many_steps_as_asked_for(tmp_path: Path) -> None:
    train(_options(tmp_path, steps=5, profile=2))
    trace = json.loads((tmp_path / "profile" / "trace.json").read_text())["traceEvents"]
    assert sum(event["name"] == "aten::cross_entropy_loss" for event in trace) == 2
    assert "aten::convolution" in (tmp_path / "profile" / "operators.txt").read_text()


def test_the_same_seed_gives_the_same_bits(alone: Path, tmp_path: Path) -> None:
    train(_options(tmp_path))
    assert _losses(tmp_path) == _losses(alone)
    ours, theirs = (load_file(out / "model.safetensors") for out in (tmp_path, alone))
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no alarm ends what would wait for ever")
def test_a_second_termination_may_break_into_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job manager's and the one that the first process passes on come at once; neither may wait for the other."""
    depth = 0

    def at_every_line(*_: object) -> Any:
        nonlocal depth
        depth += 1
        if depth == 2:  # within the handler
            launch._terminate(signal.SIGTERM, None)
        return at_every_line

    def given_up(*_: object) -> None:
        raise TimeoutError("the handler waits for itself")

    monkeypatch.setattr(launch.stop, "asked", False)
    before = signal.signal(signal.SIGALRM, given_up)
    signal.setitimer(signal.ITIMER_REAL, 60)
    try:
        for line in range(1, 40):
            depth = 2 - line
            sys.settrace(at_every_line)
            launch._terminate(signal.SIGTERM, None)
            sys.settrace(None)
    finally:
        sys.settrace(None)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert launch.stop.asked


def test_a_termination_leaves_a_checkpoint_and_one_line(
    alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Journal.step

    def terminated(self: Journal, at: int, *args: Any) -> None:
        record(self, at, *args)
        if at == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Journal, "step", terminated)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZooError, match=r"terminated; go on from step-00000006") as caught:
        train(_options(tmp_path))
    assert caught.value.exit_status == 143
    assert signal.getsignal(signal.SIGTERM) == before
    monkeypatch.undo()
    train(_options(tmp_path, resume="auto"))
    assert _losses(tmp_path) == _losses(alone)


def test_a_resumed_run_goes_on_bit_for_bit(alone: Path, stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    train(_options(tmp_path, resume=True))
    assert _losses(tmp_path) == _losses(alone)
    ours, theirs = (load_file(checkpoints(out)[-1]) for out in (tmp_path, alone))
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_one_two_and_one_device_again(
    alone: Path, stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second device is killed; that a pair goes on bit for bit, tests/test_training_restarts.py shows."""
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    begun = time.monotonic()
    monkeypatch.setenv("BREAKING", f"{tmp_path} 17:1:SIGKILL")
    monkeypatch.setattr(launch, "_device_process", breaking.device_process)
    with pytest.raises(
        ZooError, match=r"device 1 was ended by SIGKILL; go on from step-00000015.safetensors .*--resume"
    ):
        train(_options(tmp_path, resume=True, devices=2, parallel="towers"))
    assert not multiprocessing.active_children()
    assert time.monotonic() - begun < launch.PATIENCE.total_seconds()
    train(_options(tmp_path, resume=True))
    one, mixed = (np.array(_losses(out), dtype=float) for out in (alone, tmp_path))
    assert np.abs(one / mixed - 1).max() < 1e-4
    assert one[-1] < one[0]


def test_a_device_that_hangs_ends_the_run_within_its_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_device_process", breaking.device_process)
    monkeypatch.setenv("BREAKING", f"{tmp_path} 3:1:SIGSTOP")
    begun, said = time.monotonic(), ""
    for patience in ("6", "60"):  # a machine may be too slow for the first to get as far as that
        if not (tmp_path / "3").exists():
            monkeypatch.setenv("PATIENCE", patience)
            with pytest.raises(ZooError) as caught:
                train(_options(tmp_path / patience, devices=2, parallel="towers", checkpoint_every=1))
            said = str(caught.value)
    assert re.search(r"another device is gone \(.*[Tt]imed out.*go on from step-00000003\.safetensors", said)
    assert time.monotonic() - begun < launch.PATIENCE.total_seconds()
    assert not multiprocessing.active_children()


def test_the_message_of_a_killed_device_is_the_last_word(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.breaking", "train", "alexnet_mini", "--data", "digits", "-o", tmp_path]
    command += ["--devices", "2", "--batch-size", "16", "--steps", "8", "--checkpoint-every", "2"]
    settings = os.environ | {"BREAKING": f"{tmp_path} 5:1:SIGKILL"}
    done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr[-3000:]
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert re.fullmatch(
        r"zoo: device 1 was ended by SIGKILL; go on from step-00000004\.safetensors with .* --resume", last
    )


def test_a_full_disk_leaves_the_last_checkpoint_whole(
    alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    record = Journal.flush

    def fill(self: Journal) -> None:
        record(self)
        if len(checkpoints(tmp_path)) == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))

    monkeypatch.setattr(Journal, "flush", fill)
    try:
        with pytest.raises(ZooError, match=r"step-00000015.*cannot be written.*step-00000010.safetensors, is whole"):
            train(_options(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    monkeypatch.undo()
    assert not list(tmp_path.rglob(".*"))
    train(_options(tmp_path, resume=True))
    assert _losses(tmp_path) == _losses(alone)


def test_losses_that_cannot_be_written_end_the_run_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Journal) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "flush", full)
    with pytest.raises(ZooError, match=rf"{tmp_path}: No space left on device; no checkpoint was written yet"):
        train(_options(tmp_path))


def test_a_broken_image_stops_the_run_or_is_skipped_as_asked(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for i in range(4):
                pixels = rng.integers(0, 256, (80, 80, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / part / name / f"{i}.png")
    (tmp_path / "data" / "train" / "a" / "2.png").write_bytes(b"nothing")
    options = _options(tmp_path / "out", data=tmp_path / "data", batch_size=4, steps=4, workers=2)
    with pytest.raises(ZooError, match=r"2\.png: no image .*--on-broken-image skip"):
        train(options)
    train(replace(options, on_broken_image="skip"))
    assert "2.png" in capfd.readouterr().err
    with safe_open(tmp_path / "out" / "model.safetensors", "numpy") as file:
        assert file.get_slice("fc8.weight").get_shape() == [2, 32]  # as many outputs as there are classes


def test_weights_that_are_not_finite_are_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of a step says nothing of the weights after it."""
    step, done = Momentum.step, itertools.count(1)

    def leap(self: Momentum, *args: Any) -> None:
        step(self, *args)
        if next(done) == 10:
            self.parameters["fc6.weight"].data[0, 0] = math.inf

    monkeypatch.setattr(Momentum, "step", leap)
    with pytest.raises(ZooError, match=r"fc6\.weight is not finite after step 10: .*step-00000005.*is of before"):
        train(_options(tmp_path))
    assert [path.stem for path in checkpoints(tmp_path)] == ["step-00000005"]


@pytest.mark.parametrize("lag", [0, 1])
def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path, lag: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[int]()

    def step(learner: PyTorchLearner, batch: Any, step: int, progress: Any) -> Any:
        learner.lag = lag

        def loss() -> float:
            asked.append(step)
            return math.nan if step == 6 else 1.0

        return loss

    monkeypatch.setattr(PyTorchLearner, "train_step", step)
    with pytest.raises(ZooError, match=r"the loss is nan at step 7: the rate is too high.*step-00000005.*is of before"):
        train(_options(tmp_path))
    assert asked == list(range(7))
    assert [int(row["step"]) for row in read_metrics(tmp_path)] == list(range(1, 7))


def test_losses_that_are_asked_for_late_are_recorded_all_the_same(
    alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = PyTorchLearner.__init__

    def late(self: PyTorchLearner, *args: Any) -> None:
        made(self, *args)
        self.lag = 3

    monkeypatch.setattr(PyTorchLearner, "__init__", late)
    train(_options(tmp_path))
    assert _losses(tmp_path) == _losses(alone)


def test_a_rate_that_is_too_high_is_named(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match=r"the loss is .* the rate is too high"):
        train(_options(tmp_path, recipe=replace(DEFAULT, rate=1e6)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"devices": 1, "parallel": "towers"}, "the two towers need 2, 4, 6"),
        ({"devices": 4, "batch_size": 3}, "a batch of 3 images is smaller than 4 devices"),
        ({"devices": 2, "parallel": "data", "batch_size": 15}, "cannot be dealt out evenly over 2 devices"),
        ({"data": "/nowhere"}, "/nowhere: no train folder"),
        ({"resume": True}, "no checkpoint to go on from"),
        ({"model": replace(TINY, preprocessing=None)}, "does not say how its images are prepared"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ZooError, match=message) as caught:
        train(_options(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_a_run_is_not_overwritten_nor_continued_with_other_numbers(alone: Path) -> None:
    with pytest.raises(ZooError, match="holds a run already"):
        train(_options(alone))
    with pytest.raises(ZooError, match=r"was made with batch size 16 \(now 32\)"):
        train(_options(alone, resume=True, batch_size=32))
    with pytest.raises(ZooError, match=r"is of another network \(tiny\), not of this alexnet_mini: .* in the check"):
        train(_options(alone, resume=True, model=MINI))


def test_of_two_runs_in_one_folder_the_second_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with alone_in(tmp_path / "run"), pytest.raises(ZooError, match="run: another run works there"):
        train(_options(tmp_path / "run", steps=1))
    assert not list((tmp_path / "run").iterdir())


def test_a_damaged_checkpoint_is_named(stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    (path,) = checkpoints(tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ZooError, match=r"step-00000005.safetensors: damaged checkpoint"):
        train(_options(tmp_path, resume=True))


def test_the_length_follows_from_epochs_and_the_recipe(tmp_path: Path) -> None:
    options = _options(tmp_path, steps=None, batch_size=None, epochs=2)
    job = prepare(options)
    assert (job.batch_size, job.steps) == (64, 45)  # 2 x 1437 images
    assert [step for step in range(job.steps) if job.ends_epoch(step)] == [22, 44]
    assert prepare(replace(options, epochs=None)).steps == -(-DEFAULT.epochs * 1437 // 64)
