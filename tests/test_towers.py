"""Two devices compute what one does: plans, gradients, bytes."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn import functional

from tests.small import normed
from zoo import registry
from zoo.errors import ZooError
from zoo.frameworks.pytorch import build
from zoo.layers import (
    LRN,
    BatchNorm,
    Bias,
    Concat,
    Conv,
    Dense,
    Dropout,
    Eltwise,
    Flatten,
    Input,
    ModelSpec,
    Pool,
    ReLU,
    Scale,
    Sigmoid,
    Slice,
    Softmax,
)
from zoo.shapes import parameter_shapes
from zoo.torch_names import parameter_names
from zoo.training.collectives import sent
from zoo.training.masks import keep_mask
from zoo.training.placed import Draw, PlacedNetwork, own_row, summing
from zoo.training.towers import Arrangement, arrange, least_bytes, plan, share

MINI = registry.model("alexnet_mini")
BATCH, SEED, STEP = 6, 3, 7


def _across(spec: ModelSpec) -> ModelSpec:
    """The same network with its LRN across towers, k 1: BVLC's style."""
    layers = tuple(replace(layer, towers=1, k=1.0) if isinstance(layer, LRN) else layer for layer in spec.layers)
    return replace(spec, name="across", layers=layers)


def _code_style(spec: ModelSpec) -> ModelSpec:
    """LRN within maps as well, and a classifier of an odd number of classes, which two devices cannot halve."""
    within = LRN(name="cnorm2", size=5, alpha=1e-2, beta=0.75, region="within")
    return replace(spec.insert(within, after="norm2").with_num_classes(7), name="code_style")


# A DAG of everything else: branches, odd channels, three groups, own parameters, two readers of one activation.
ODD = ModelSpec(
    name="odd",
    title="every other kind of layer",
    inputs=(Input(name="data", shape=(3, 12, 12)),),
    layers=(
        Conv(name="a", out_channels=12, kernel=(3, 3), pad=(1, 1)),
        Sigmoid(name="a_sigmoid"),
        Conv(name="b", inputs=("a_sigmoid",), out_channels=12, kernel=(3, 3), pad=(1, 1), groups=3),
        Conv(name="c", inputs=("a_sigmoid",), out_channels=12, kernel=(1, 1)),
        Eltwise(name="sum", inputs=("b", "c")),
        Scale(name="scale", bias=True),
        Bias(name="shift", axis=2, num_axes=2),
        Conv(name="d", out_channels=12, kernel=(3, 3), groups=4),
        LRN(name="wide", size=7, alpha=0.5, beta=0.6, k=1.5),
        Dropout(name="drop", ratio=0.3),
        BatchNorm(name="norm"),
        Slice(name="left", inputs=("norm",), start=0, stop=4),
        Slice(name="rows", inputs=("drop",), start=2, stop=8, axis=2),
        Pool(name="pool", inputs=("rows",), mode="ave", kernel=(2, 2), stride=(2, 2), pad=(1, 0)),
        Conv(name="e", inputs=("left",), out_channels=5, kernel=(7, 1), stride=(1, 2), bias=False),
        BatchNorm(name="of_five"),
        Flatten(name="flat_e"),
        Flatten(name="flat_pool", inputs=("pool",)),
        Concat(name="join", inputs=("flat_e", "flat_pool")),
        Dense(name="hidden", out_features=8),
        ReLU(name="relu", negative_slope=0.1),
        Dropout(name="drop_hidden"),
        Dense(name="out", out_features=4),
        Softmax(name="prob"),
    ),
)
SPECS = {"mini": MINI, "across": _across(MINI), "code": _code_style(MINI), "normed": normed(MINI), "odd": ODD}


def _weights(spec: ModelSpec) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(1)
    return {
        name: torch.from_numpy(
            (rng.standard_normal(shape) * (np.sqrt(2 / max(1, prod(shape[1:]))) if len(shape) > 1 else 0.2)).astype(
                "f4"
            )
        )
        for name, shape in parameter_shapes(spec).items()
    }


def _data(spec: ModelSpec) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(2)
    images = rng.standard_normal((BATCH, *spec.inputs[0].shape)).astype("f4") * 40
    head = spec.head
    assert isinstance(head, Dense)
    return torch.from_numpy(images), torch.from_numpy(rng.integers(0, head.out_features, BATCH))


def _reference(spec: ModelSpec) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss, gradients and moving statistics, in float64, of the single-device adapter with the masks put in."""
    x, labels = _data(spec)
    network = build(spec, {name: w.numpy() for name, w in _weights(spec).items()}).double()

    def drop(layer: Dropout) -> Any:
        def hook(module: torch.nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
            kept = keep_mask(
                tuple(args[0].shape[1:]), layer.ratio, seed=SEED, step=STEP, layer=layer.name, images=range(BATCH)
            )
            return args[0] * torch.from_numpy(kept) / (1 - layer.ratio)

        return hook

    for layer in spec.layers:
        if isinstance(layer, BatchNorm):
            network.get_submodule(layer.name).train()
        if isinstance(layer, Dropout):
            network.get_submodule(layer.name).register_forward_hook(drop(layer))
    logits = network.activations(x.double())[spec.wiring()[spec.layers[-1].name][0]]
    loss = functional.cross_entropy(logits.flatten(1), labels)
    loss.backward()
    keys = parameter_names(spec)
    learned = {name: p.grad for name in keys if (p := dict(network.named_parameters()).get(keys[name])) is not None}
    statistics = dict(network.named_buffers())
    return loss.item(), {name: learned.get(name, statistics.get(keys[name])) for name in parameter_shapes(spec)}  # type: ignore[misc]


def _loss_and_gradients(
    spec: ModelSpec, arrangement: Arrangement, channels_last: bool
) -> tuple[float, dict[str, torch.Tensor], int]:
    row = own_row(arrangement)
    network = PlacedNetwork(spec, arrangement, row)
    network.load(_weights(spec))
    images = share(range(BATCH), row.number, arrangement.replicas)
    x, labels = _data(spec)
    own = share(images, network.rank, network.parts) if arrangement.source == "batch" else images
    x, labels = x[own.start : own.stop], labels[images.start : images.stop]
    if channels_last:
        cast(Any, network).to(memory_format=torch.channels_last)  # in place
        x = x.contiguous(memory_format=torch.channels_last)
    runner, before = summing(network, row), sent.bytes
    logits = runner(x, Draw(seed=SEED, step=STEP, images=images, statistics=0.1))
    loss = functional.cross_entropy(logits, labels, reduction="sum") / BATCH
    loss.backward()
    bytes_sent = sent.bytes - before
    total = loss.detach().clone()
    if row.replicas is not None:
        dist.all_reduce(total, group=row.replicas)
    found = {name: t if (t.grad is None) else t.grad for name, t in network.canonical_tensors().items()}
    return total.item(), network.collect(found), bytes_sent


ARRANGEMENTS = {
    "towers": Arrangement(parts=2),
    "data": Arrangement(replicas=2),
    "hybrid": Arrangement(parts=2, source="batch"),
}


def _rank(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port, is_master=False)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    for name, spec in SPECS.items():
        for mode, arrangement in ARRANGEMENTS.items():
            for channels_last in (False, True) if name == "across" else (False,):
                result = _loss_and_gradients(spec, arrangement, channels_last)
                torch.save(result, Path(folder) / f"{name}-{mode}-{channels_last}-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_devices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    mp.start_processes(_rank, (store.port, str(folder)), nprocs=2, start_method="spawn")
    return folder


def _check(
    result: tuple[float, dict[str, torch.Tensor], int], reference: tuple[float, dict[str, torch.Tensor]]
) -> None:
    assert result[0] == pytest.approx(reference[0], rel=1e-5)
    assert set(result[1]) == set(reference[1])
    for name, gradient in reference[1].items():
        error = (result[1][name].double() - gradient).abs().max() / gradient.abs().max()
        assert error < 1e-5, f"{name}: {error:.1e}"


@pytest.mark.parametrize("name", SPECS)
def test_one_device_gives_torchs_own_gradients(name: str) -> None:
    _check(_loss_and_gradients(SPECS[name], Arrangement(), False), _reference(SPECS[name]))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ARRANGEMENTS)
@pytest.mark.parametrize("name", SPECS)
def test_two_devices_give_the_gradients_of_one(two_devices: Path, name: str, mode: str) -> None:
    for channels_last in (False, True) if name == "across" else (False,):
        results = [torch.load(two_devices / f"{name}-{mode}-{channels_last}-{rank}.pt") for rank in (0, 1)]
        _check(results[0], _reference(SPECS[name]))
        assert results[0][0] == results[1][0]
        assert results[1][1].keys() == (set(results[0][1]) if mode == "data" else set())


@pytest.mark.slow
@pytest.mark.parametrize("mode", ARRANGEMENTS)
@pytest.mark.parametrize("name", SPECS)
def test_no_byte_too_many_is_sent(two_devices: Path, name: str, mode: str) -> None:
    spec, arrangement = SPECS[name], ARRANGEMENTS[mode]
    bytes_sent = torch.load(two_devices / f"{name}-{mode}-False-0.pt")[2]
    assert bytes_sent == pytest.approx(least_bytes(spec, arrangement, BATCH), rel=0.05)


def test_a_plan_keeps_grouped_layers_at_home_and_gathers_before_the_others() -> None:
    steps = {step.layer.name: step for step in plan(registry.model("alexnet"), 2)}
    gathers = [name for name, step in steps.items() if "channels" in step.have and step.want == "replicated"]
    assert gathers == ["conv3", "fc6", "fc7", "fc8", "prob"]  # the paper's figure 2
    conv2, norm2, fc8 = steps["conv2"].layer, steps["norm2"].layer, steps["fc8"].layer
    assert isinstance(conv2, Conv)
    assert isinstance(norm2, LRN)
    assert isinstance(fc8, Dense)
    assert (conv2.out_channels, conv2.groups, norm2.towers, fc8.out_features) == (128, 1, 1, 500)


def test_lrn_across_towers_needs_two_channels_of_the_neighbour() -> None:
    steps = {step.layer.name: step for step in plan(registry.model("bvlc_alexnet"), 2)}
    assert steps["norm1"].reach == 2
    assert steps["norm1"].output == "channels"


@pytest.mark.parametrize(
    ("devices", "parallel", "message"),
    [
        (1, "towers", "--devices 2"),
        (3, "towers", "--parallel data"),
        (1, "hybrid", "--devices 2"),
        (2, "pipeline", "known: towers, data, hybrid"),
    ],
)
def test_devices_that_do_not_suit_the_mode_are_refused(devices: int, parallel: str, message: str) -> None:
    with pytest.raises(ZooError, match=message):
        arrange(MINI, devices, parallel)


def test_the_mode_follows_from_the_network() -> None:
    assert arrange(MINI, 4, None) == Arrangement(replicas=2, parts=2)
    assert arrange(registry.model("alexnet_owt"), 2, None) == Arrangement(replicas=2)
    assert arrange(MINI, 1, None).devices == 1


def test_half_precision_halves_what_activations_send_and_not_the_gradients_of_parameters() -> None:
    def least(mode: str, activation: int) -> int:
        return least_bytes(MINI, ARRANGEMENTS[mode], BATCH, activation=activation)

    assert 2 * least("towers", 2) == least("towers", 4)
    assert least("data", 2) == least("data", 4)
    assert least("hybrid", 4) / 2 < least("hybrid", 2) < least("hybrid", 4)
