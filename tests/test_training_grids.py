"""Grids of devices that no test machine has, by torch's fake process group: what each asks of the others, and when.

Nothing is sent there, so that numbers mean nothing; `tests/test_towers.py` compares those, on real devices.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode

from tests.small import normed, shrink
from tests.test_training_parts import Copies
from zoo.layers import ModelSpec
from zoo.recipes import DEFAULT
from zoo.training.data import Batch, Batches, TrainingStream
from zoo.training.datasets import open_images
from zoo.training.job import TrainOptions, prepare
from zoo.training.placed import Draw, PlacedNetwork
from zoo.training.pytorch import PyTorchLearner
from zoo.training.towers import Arrangement

SMALL = replace(shrink("alexnet_mini", 4), name="small")
NORMED = normed(SMALL)

# What NCCL does with tensors of CUDA, by the table of backends in torch's documentation of `torch.distributed`; the
# names are those of the dispatcher.
NCCL = {
    "c10d::allgather_": "all_gather",
    "c10d::allreduce_": "all_reduce",
    "c10d::alltoall_base_": "all_to_all",
    "c10d::broadcast_": "broadcast",
    "c10d::gather_": "gather",
    "c10d::send": "send",
    "c10d::recv_": "recv",
}


class Collectives(TorchDispatchMode):
    """The names of what goes through the process group, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.names = list[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d":
            self.names.append(func.name())
        return func(*args, **(kwargs or {}))


@contextmanager
def _one_of(world: int, rank: int) -> Generator[None]:
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=world)
    try:
        yield
    finally:
        dist.destroy_process_group()


def _summed(group: dist.ProcessGroup, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    """`zoo.training.placed._sum`, whose future the fake group leaves empty."""
    dist.all_reduce(bucket.buffer(), group=group)
    done = torch.futures.Future[torch.Tensor]()
    done.set_result(bucket.buffer())
    return done


def _learner(out: Path, world: int, parallel: str, **changes: Any) -> PyTorchLearner:
    common = {"model": SMALL, "data": "digits", "out": out, "steps": 2, "batch_size": 16, "recipe": DEFAULT}
    options = TrainOptions(**cast(Any, common | changes), devices=world, parallel=parallel)
    return PyTorchLearner(prepare(options), torch.device("cpu"), f"{world} x cpu")


MODES = ("towers", "data", "hybrid")
GRIDS = [(world, parallel) for world in (2, 4, 8) for parallel in MODES]


@pytest.mark.parametrize(
    ("world", "parallel", "changes"),
    [(*grid, {}) for grid in GRIDS]
    + [(4, p, change) for p in MODES for change in ({"precision": "fp16"}, {"model": NORMED})],
)
def test_a_step_of_any_device_asks_for_what_nccl_has_and_all_ask_for_the_same(
    world: int, parallel: str, changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.training.placed._sum", _summed)
    asked = list[list[str]]()
    for rank in {0, world // 2, world - 1}:
        with _one_of(world, rank):
            learner = _learner(tmp_path, world, parallel, **changes)
            stream = TrainingStream(learner.job.train, SMALL, 0)
            (batch,) = Batches(stream, [learner.images_of(0)], 0)
            with Collectives() as collectives:
                learner.train_step(batch, 0, learner.start)
            asked.append(collectives.names)
    assert asked[0] and {*asked[0]} <= {*NCCL}, {*asked[0]} - {*NCCL}
    # One that asks for something else than its partners, or in another order, would hang them all.
    assert all(names == asked[0] for names in asked)


@pytest.mark.parametrize(("world", "parallel"), [(4, parallel) for parallel in MODES])
def test_every_image_is_read_once_by_the_devices_that_share_a_network(
    world: int, parallel: str, tmp_path: Path
) -> None:
    learned, judged, parts = list[int](), list[int](), 1
    images = len(open_images("digits", "val"))
    for rank in range(world):
        with _one_of(world, rank):
            learner = _learner(tmp_path, world, parallel)
            learned += learner.images_of(1)
            judged += [place for places in cast(Any, learner._validation)._loader.batch_sampler for place in places]
            parts = learner.network.parts
    assert sorted(learned) == list(range(16, 32))
    assert [place for place in sorted(judged) if place < images] == list(range(images))
    assert len(judged) < images + 16 + parts * world


@pytest.mark.parametrize("model", [SMALL, NORMED], ids=lambda model: model.name)
def test_a_whole_step_copies_nothing_to_or_from_its_device_but_the_images(
    model: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a device that computes nothing: draws, windows, forward, loss, backward. What is not waited for is no copy."""

    class Update:
        def __init__(self, parameters: dict[str, Any], recipe: Any) -> None:
            self.asked = list[Any]()

        def velocities(self) -> dict[str, Any]:
            return {}

        def step(self, *asked: Any) -> None:  # its kernel is for real devices alone
            self.asked.append(asked)

    monkeypatch.setattr("zoo.training.pytorch.Momentum", Update)
    monkeypatch.setattr("zoo.training.pytorch.arithmetic", lambda *_: nullcontext())  # torch has none for this device
    options = TrainOptions(**cast(Any, {"model": model, "data": "digits", "out": tmp_path, "steps": 2}))
    learner = PyTorchLearner(prepare(options), torch.device("meta"), "meta")
    count = learner.job.batch_size
    batch = Batch(
        pixels=torch.zeros((count, 72, 72, 3), dtype=torch.uint8), labels=torch.zeros(count, dtype=torch.int64)
    )
    learner.train_step(batch, 0, learner.start)  # means and deviations are put there once
    there = batch.to(learner.device)
    with Copies() as copies:
        learner.train_step(there, 1, learner.start)
    assert copies.found == []
    assert len(cast(Any, learner.momentum).asked) == 2


@pytest.mark.slow
@pytest.mark.parametrize("model", [SMALL, NORMED], ids=lambda model: model.name)
def test_a_network_is_compiled_whole_and_gives_the_same_gradients(model: ModelSpec) -> None:
    """By torch's own tracer, in one graph; the compiler behind it is left out."""
    network = PlacedNetwork(model, Arrangement())
    x = torch.randn((2, *model.inputs[0].shape), generator=torch.Generator().manual_seed(0))

    def gradients() -> list[torch.Tensor]:
        network.zero_grad()
        network(x, Draw(seed=0, step=1, images=range(2), statistics=0.5)).square().sum().backward()
        return [cast(torch.Tensor, p.grad).clone() for p in network.parameters()]

    plain, compiling = gradients(), torch.compile
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", lambda f: compiling(f, backend="eager", fullgraph=True))
        network.compile_steps()
    for ours, theirs in zip(gradients(), plain, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


def test_the_table_is_checked() -> None:
    with _one_of(2, 0), Collectives() as collectives:
        dist.reduce(torch.zeros(1), dst=0)
    assert collectives.names == ["c10d::reduce_"] and "c10d::reduce_" not in NCCL
