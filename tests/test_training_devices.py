"""Which device a process works on: as asked for, told apart, said aloud; and errors told by their type."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from converters.cli import main
from zoo import registry
from zoo.errors import ZooError
from zoo.training import devices
from zoo.training.devices import View, alone, decide, local_rank, own_view, settle
from zoo.training.job import TrainOptions, prepare
from zoo.training.journal import read_metrics
from zoo.training.launch import train
from zoo.training.pytorch import PyTorchLearner
from zoo.training.trouble import LostPartnerError, translated


def _views(*gpus: tuple[str, ...], hosts: str = "") -> list[View]:
    """One process after the other, on one machine unless `hosts` names one for each."""
    hosts = hosts or "a" * len(gpus)
    return [
        View(host=host, gpus=seen, local_rank=hosts[:rank].count(host))
        for rank, (host, seen) in enumerate(zip(hosts, gpus, strict=True))
    ]


# What the processes see -> the devices, or why there are none.
PLACES: dict[str, tuple[list[View], list[str] | str]] = {
    "no GPU": (_views(()), "sees no CUDA GPU in process 0"),
    "one of one": (_views(("A",)), ["cuda:0"]),
    "one of several": (_views(("A", "B")), ["cuda:0"]),
    "two of two": (_views(("A", "B"), ("A", "B")), ["cuda:0", "cuda:1"]),
    # As SLURM deals them out: each task sees its own alone.
    "one visible a task": (_views(("A",), ("B",)), ["cuda:0", "cuda:0"]),
    "two tasks on one": (_views(("A",), ("A",)), "2 processes would share one GPU of a"),
    "three on two": (
        _views(("A", "B"), ("A", "B"), ("A", "B")),
        "process 2 is number 2 on a, where 2 GPUs are visible",
    ),
    "two machines": (_views(("A", "B"), ("A", "B"), ("A", "B"), ("A", "B"), hosts="aabb"), ["cuda:0", "cuda:1"] * 2),
    "alike on two machines": (_views(("A",), ("A",), hosts="ab"), ["cuda:0", "cuda:0"]),
    "one without": (_views(("A",), (), hosts="ab"), "sees no CUDA GPU in process 1 on b"),
}


@pytest.mark.parametrize("case", PLACES)
def test_gpus_are_dealt_out_or_refused_and_auto_says_why_not(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    views, expected = PLACES[case]
    if isinstance(expected, list):
        assert [str(device) for device in decide("cuda", views)[0]] == expected
        assert [str(device) for device in decide("auto", views)[0]] == expected
        return
    with pytest.raises(ZooError, match="--device cuda: ") as caught:
        decide("cuda", views)
    assert expected in str(caught.value)
    chosen, said = decide("auto", views)
    assert {device.type for device in chosen} == {"cpu"}
    assert expected in said or not any(view.gpus for view in views)


def test_the_cpu_is_taken_where_it_is_asked_for() -> None:
    assert decide("cpu", _views(("A", "B"), ("A", "B"))) == ([torch.device("cpu")] * 2, "2 x cpu")


def test_metal_is_for_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert decide("mps", _views(()))[0] == decide("auto", _views(()))[0] == [torch.device("mps")]
    assert decide("auto", _views((), ()))[0] == [torch.device("cpu")] * 2
    with pytest.raises(ZooError, match="--device mps: one device, not 2"):
        decide("mps", _views((), ()))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ZooError, match=r"--device mps: torch .* sees no Metal GPU"):
        decide("mps", _views(()))


def test_what_is_visible_is_known_by_its_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(devices, "_identity", lambda index: f"GPU-{index}")
    assert own_view(1).gpus == ("GPU-0", "GPU-1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert own_view(1).gpus == ()


def test_the_number_on_a_machine_is_torchruns_or_slurms(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOCAL_RANK", "SLURM_LOCALID", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert local_rank() == 0
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ZooError, match="LOCAL_RANK is not set"):
        local_rank()
    monkeypatch.setenv("SLURM_LOCALID", "3")
    assert local_rank() == 3
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert local_rank() == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("framework", ["pytorch", "tf_slim"])
def test_a_device_that_is_not_there_is_refused(
    framework: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(ZooError, match="--device cuda: "):
        alone("cuda")
    command = ["train", "alexnet_mini", "--data", "digits", "-o", str(tmp_path), "--device", "cuda"]
    assert main([*command, "--framework", framework]) == 2
    assert capsys.readouterr().err.startswith("zoo: --device cuda: ")


def _options(out: Path, **changes: Any) -> TrainOptions:
    common = {"model": registry.model("alexnet_mini"), "data": "digits", "out": out, "steps": 4, "batch_size": 8}
    return TrainOptions(**(common | {"device": "cpu"} | changes))  # pyright: ignore


def test_half_precision_follows_single(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.training.pytorch._FIRST_SCALE", 256.0)  # with which no step overflows
    losses = dict[str, list[float]]()
    for name in ("fp32", "bf16", "fp16"):
        train(_options(tmp_path / name, precision=name))
        losses[name] = [float(row["loss"]) for row in read_metrics(tmp_path / name)]
    for name in ("bf16", "fp16"):
        assert losses[name] == pytest.approx(losses["fp32"], rel=0.02)
        assert losses[name] != losses["fp32"]
        with pytest.raises(ZooError, match=rf"was made with precision {name} \(now fp32\)"):
            train(_options(tmp_path / name, resume=True))


def test_gradients_that_overflow_leave_a_step_out_and_halve_the_scale(tmp_path: Path) -> None:
    job = prepare(_options(tmp_path, precision="fp16"))
    learner = PyTorchLearner(job, torch.device("cpu"), "cpu")
    assert learner.loss_scale == 65536.0
    before = {name: p.detach().clone() for name, p in learner.network.canonical_parameters().items()}

    def step(number: int, gradient: float) -> dict[str, bool]:
        """One step with these gradients; which parameters did not move."""
        for parameter in learner.network.parameters():
            parameter.grad = torch.full_like(parameter, 1.0)
        next(iter(learner.network.parameters())).grad.fill_(gradient)  # pyright: ignore[reportOptionalMemberAccess]
        learner.momentum.step(job.rates(number, 0), learner._unscale(number))
        return {name: torch.equal(p, before[name]) for name, p in learner.network.canonical_parameters().items()}

    assert all(step(0, float("inf")).values())
    assert learner.loss_scale == 32768.0
    assert all(bool((v == 0).all()) for v in learner.momentum.velocities().values())
    assert not any(step(1999, 2.0).values())
    assert learner.loss_scale == 65536.0


# Errors, by their type.

OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 20.00 GiB."
ERRORS: list[tuple[Callable[[], RuntimeError | MemoryError | OSError], str | None, bool]] = [
    (
        lambda: torch.OutOfMemoryError(OUT_OF_MEMORY),
        "out of memory on cuda:0 with alexnet_mini, 8 images a step",
        False,
    ),
    (MemoryError, "out of memory on cuda:0", False),
    (lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "out of memory on", False),
    (lambda: dist.DistNetworkError("the client socket has failed " + "x" * 300), "x" * 300, True),
    (lambda: RuntimeError("[/gloo/transport/tcp/pair.cc:553] Connection closed by peer"), "closed by peer", True),
    (lambda: dist.DistBackendError("NCCL error: Duplicate GPU detected"), "cannot work: NCCL error: Duplicate", False),
    (lambda: dist.DistBackendError("remote process exited or there was a network error"), "is gone", True),
    (lambda: OSError(28, "No space left on device"), ": No space left on device; no checkpoint was written yet", False),
    (lambda: OSError(2, "No such file", "/mnt/a"), "/mnt/a: No such file; no checkpoint", False),
    (BrokenPipeError, None, False),
    (lambda: RuntimeError("connection of layers fc6 and fc7: shapes do not match"), None, False),
]


@pytest.mark.parametrize(("raised", "message", "is_lost"), ERRORS)
def test_errors_are_told_by_their_type(
    raised: Callable[[], RuntimeError | MemoryError | OSError], message: str | None, is_lost: bool, tmp_path: Path
) -> None:
    job = prepare(_options(tmp_path))
    told = translated(raised(), job, torch.device("cuda", 0))
    assert (told is None) == (message is None)
    if told is not None and message is not None:
        assert message in str(told) and "\n" not in str(told)
        assert isinstance(told, LostPartnerError) == is_lost


def test_out_of_memory_says_what_to_lower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError(OUT_OF_MEMORY)

    monkeypatch.setattr(PyTorchLearner, "train_step", full)
    with pytest.raises(ZooError, match=r"fp32: use a smaller --batch-size than 8 or more --devices \(CUDA out of mem"):
        train(_options(tmp_path))
    told = translated(torch.OutOfMemoryError(""), prepare(_options(tmp_path)), torch.device("cuda", 0))
    assert "--precision bf16" in str(told)
    halves = replace(prepare(_options(tmp_path)), options=_options(tmp_path, precision="bf16"))
    assert "--precision" not in str(translated(torch.OutOfMemoryError(""), halves, torch.device("cuda", 0)))


def test_products_are_single_precision_and_in_any_order_unless_asked_for_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What torch does by itself is left neither to its version nor to what ran before in this process."""
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    settle("tf32", torch.device("cuda", 0), deterministic=True)
    assert cuda.allow_tf32 and cudnn.allow_tf32
    assert cudnn.deterministic and torch.is_deterministic_algorithms_warn_only_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    settle("fp32", torch.device("cuda", 0))
    assert not cuda.allow_tf32 and not cudnn.allow_tf32  # asking raises where torch.export would
    assert not cudnn.deterministic and not torch.are_deterministic_algorithms_enabled()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    for device in ("cpu", "cuda:0"):
        with pytest.raises(ZooError, match=rf"--precision tf32: {device} has none, as NVIDIA GPUs have from Ampere on"):
            settle("tf32", torch.device(device))
