"""Networks with batch normalisation are trained: statistics follow, are kept, and stay where their layer is frozen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from tests.small import normed, shrink
from zoo import layers, registry
from zoo.errors import ZooError
from zoo.recipe import rates_at
from zoo.training.batch_norm import BatchNorm
from zoo.training.checkpoint import checkpoints
from zoo.training.job import Begin, TrainOptions
from zoo.training.journal import read_metrics
from zoo.training.launch import train

pytestmark = pytest.mark.slow  # whole runs

NORMED = normed(shrink("alexnet_mini", 4))


def _options(out: Path, **changes: Any) -> TrainOptions:
    common = {"model": NORMED, "data": "digits", "out": out, "steps": 6, "batch_size": 16, "device": "cpu"}
    given: dict[str, Any] = common | changes
    return TrainOptions(**given)


@pytest.mark.parametrize("rank", [2, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_is_torchs_own(rank: int, dtype: torch.dtype) -> None:
    theirs = (nn.BatchNorm2d if rank == 4 else nn.BatchNorm1d)(5, eps=1e-3, momentum=0.3, affine=False)
    ours = BatchNorm(layers.BatchNorm(name="bn", eps=1e-3), 5)
    x = torch.randn((6, 5, *[3] * (rank - 2)), generator=torch.Generator().manual_seed(0)).to(dtype)
    for _ in range(2):
        assert torch.equal(ours(x, torch.tensor(0.3), []), theirs(x))
    assert np.allclose(ours.running_mean, cast(Any, theirs.running_mean))
    assert np.allclose(ours.running_var, cast(Any, theirs.running_var))
    assert torch.allclose(ours(x, None, []), theirs.eval()(x))


def test_one_number_a_channel_is_refused_by_layer() -> None:
    with pytest.raises(ZooError, match="layer 'bn': one number a channel has no variance; use a larger --batch-size"):
        BatchNorm(layers.BatchNorm(name="bn"), 5)(torch.ones(1, 5), torch.tensor(0.1), [])


@pytest.mark.parametrize("model", ["alexnet_bn", "alexnet_deepcluster"])
def test_members_with_batch_normalisation_are_trained(model: str, tmp_path: Path) -> None:
    train(_options(tmp_path, model=shrink(model, 32), data="digits", steps=2, batch_size=4, rate=1e-3))
    weights = load_file(tmp_path / "model.safetensors")
    moved = [name for name in weights if name.endswith(".mean") and np.abs(weights[name]).max() > 0]
    assert moved == [name for name in weights if name.endswith(".mean")]
    assert len(moved) > 4


def test_what_a_network_saw_is_averaged_from_its_first_step_and_followed_where_it_knew_some(tmp_path: Path) -> None:
    recipe = replace(registry.recipe(registry.model("alexnet_mini")), statistics_rate=0.1)
    shares = [rates_at(recipe, NORMED, step=s, steps=9, epoch=0, drops=0).statistics for s in (0, 1, 1000)]
    assert shares == pytest.approx([1.0, 1 / 1.9, 0.1])  # Caffe's factor is 1, 1.9, ..., 10
    assert rates_at(recipe, NORMED, step=0, steps=9, epoch=0, drops=0, begun=True).statistics == 0.1


def test_a_broken_run_ends_with_the_bits_of_a_whole_one(tmp_path: Path) -> None:
    train(_options(tmp_path / "whole", checkpoint_every=3))
    train(_options(tmp_path / "parts", checkpoint_every=3))
    checkpoints(tmp_path / "parts")[-1].unlink()
    train(_options(tmp_path / "parts", checkpoint_every=3, resume=True))
    whole, parts = (load_file(checkpoints(tmp_path / name)[-1]) for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert not [name for name in whole if name.startswith("velocity/") and name.endswith((".mean", ".variance"))]
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)


def test_statistics_of_frozen_layers_stay_and_count(tmp_path: Path) -> None:
    train(_options(tmp_path / "a", steps=2))
    weights = load_file(tmp_path / "a" / "model.safetensors")
    begin = Begin(weights=weights, lineage={})
    train(_options(tmp_path / "b", steps=1, begin=begin, freeze=("*_bn",), rate=1e-3))
    after = load_file(checkpoints(tmp_path / "b")[-1])
    statistics = [name for name in weights if name.endswith((".mean", ".variance"))]
    assert all(np.array_equal(after[name], weights[name]) for name in statistics) and len(statistics) == 6
    assert not np.array_equal(after["conv1.weight"], weights["conv1.weight"])
    # By the statistics that it keeps, the loss of the first step is another one than by the batch's.
    train(_options(tmp_path / "c", steps=1, begin=begin, rate=1e-3))
    kept, followed = (float(read_metrics(tmp_path / name)[0]["loss"]) for name in ("b", "c"))
    assert kept != pytest.approx(followed, rel=1e-3)
