"""The parts of training on one device: LRN's closed form, masks, momentum, initial weights, schedules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from zoo import registry
from zoo.errors import ZooError
from zoo.frameworks.pytorch import call
from zoo.initial import initial_weights
from zoo.layers import LRN
from zoo.philox import generator
from zoo.recipe import (
    Constant,
    CosineAnnealingLR,
    MultiStepLR,
    Normal,
    Rates,
    Recipe,
    ReduceLROnPlateau,
    StepLR,
    check_patterns,
    decay_of,
    initial_values,
    rates_at,
)
from zoo.recipes import DEFAULT
from zoo.shapes import parameter_shapes
from zoo.training import lrn, masks
from zoo.training.lrn import LocalResponseNorm
from zoo.training.masks import keep_mask, keep_mask_on
from zoo.training.optimiser import Momentum, Progress

MINI = registry.model("alexnet_mini")
PAPER = registry.recipe(registry.model("alexnet"))
CODE_2012 = registry.recipe(registry.model("alexnet_2012_code"))

NORMS = [
    LRN(name="n", size=5, alpha=1e-4, beta=0.75, k=2.0, towers=2),
    LRN(name="n", size=5, alpha=1e-4, beta=0.75),
    LRN(name="n", size=3, alpha=0.3, beta=0.6, k=1.5),
    LRN(name="n", size=9, alpha=0.3, beta=0.75, towers=4),
    LRN(name="n", size=5, alpha=1e-3, beta=0.75, region="within"),
]


@pytest.mark.parametrize("layer", NORMS, ids=lambda layer: f"{layer.region}-{layer.size}-{layer.towers}")
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_closed_form_is_the_lrn_of_torch_and_so_is_its_gradient(layer: LRN, channels_last: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 8, 7, 6) * 30
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    fast, stock = x.clone().requires_grad_(), x.double().requires_grad_()
    y, expected = LocalResponseNorm(layer)(fast), call(layer, [(8, 7, 6)]).module()(stock)
    g = torch.randn_like(x)
    y.backward(g)
    expected.backward(g.double())
    assert fast.grad is not None
    assert stock.grad is not None
    assert (y - expected).abs().max() < 1e-6 * expected.abs().max()
    assert (fast.grad - stock.grad).abs().max() < 2e-6 * stock.grad.abs().max()


@pytest.mark.parametrize("layer", NORMS, ids=lambda layer: f"{layer.region}-{layer.size}-{layer.towers}")
@pytest.mark.parametrize("channels_last", [False, True])
def test_lrn_does_not_depend_on_how_it_is_cut_into_pieces(
    layer: LRN, channels_last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(5, 8, 6, 7, generator=torch.Generator().manual_seed(0)) * 30
    x = x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format).requires_grad_()

    def both() -> tuple[torch.Tensor, torch.Tensor]:
        y = LocalResponseNorm(layer)(x)
        return y.detach(), torch.autograd.grad(y, x, torch.ones(5, 8, 6, 7))[0]

    y, grad = both()
    monkeypatch.setattr(lrn, "_PIECE", 100)
    # Not bit for bit: s^b of another beta is another routine where a vector register is not filled.
    assert torch.allclose(both()[0], y, rtol=1e-6)
    assert torch.allclose(both()[1], grad, rtol=1e-5, atol=1e-6)
    assert y.stride() == grad.stride() == x.stride()


@pytest.mark.parametrize("shape", [(4, 8), (4, 8, 1, 1), (0, 8, 3, 3), (4, 2, 3, 3)])
def test_lrn_takes_flat_empty_and_narrow_activations_in_any_order_in_memory(shape: tuple[int, ...]) -> None:
    layer = LRN(name="n", size=5, alpha=0.2, beta=0.75)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 5
    for one in (x, x.mT.contiguous().mT, x.flip(1)):
        one.requires_grad_()
        y, wide = LocalResponseNorm(layer)(one), one.double() if one.dim() > 2 else one.double()[..., None]
        expected = functional.local_response_norm(wide, 5, 0.2, 0.75, 1.0).reshape(shape)
        assert torch.allclose(y.double(), expected, rtol=1e-6)
        (ours,), (stock,) = torch.autograd.grad(y.sum(), one), torch.autograd.grad(expected.sum(), one)
        assert torch.allclose(ours, stock, rtol=1e-5, atol=1e-6)


class Copies(TorchDispatchMode):
    """Notes what is copied from one device to another, or read back."""

    def __init__(self) -> None:
        super().__init__()
        self.found = list[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        devices = {x.device.type for x in (*args, result) if isinstance(x, torch.Tensor) and x.dim()}
        name = str(func)
        if len(devices) > 1 or ("_to_copy" in name and "device" in (kwargs or {})) or "_local_scalar_dense" in name:
            self.found.append(name)
        return result


@pytest.mark.parametrize("layer", NORMS, ids=lambda layer: f"{layer.region}-{layer.size}-{layer.towers}")
def test_lrn_and_masks_copy_nothing_between_devices(layer: LRN) -> None:
    x = torch.empty(2, 8, 7, 6, device="meta").contiguous(memory_format=torch.channels_last).requires_grad_()
    with Copies() as copies:
        LocalResponseNorm(layer)(x).backward(torch.empty_like(x))
        keep_mask_on(x.device, (8, 7, 6), 0.5, seed=0, step=1, layer="drop", images=range(2))
    assert copies.found == []
    with Copies() as copies:
        torch.ones(3).to("meta")
    assert copies.found


def test_lrn_in_half_precision_is_worked_in_single() -> None:
    x = torch.randn(2, 8, 5, 5) * 100
    y = LocalResponseNorm(NORMS[0])(x.bfloat16())
    assert y.dtype == torch.bfloat16
    exact = LocalResponseNorm(NORMS[0])(x.bfloat16().float())
    assert torch.equal(y, exact.bfloat16())


def test_a_mask_is_the_same_however_it_is_cut() -> None:
    draw: dict[str, Any] = {"seed": 5, "step": 9, "layer": "drop6"}
    whole = keep_mask((6, 5, 3), 0.5, **draw, images=range(8))
    assert np.array_equal(whole[2:6], keep_mask((6, 5, 3), 0.5, **draw, images=range(2, 6)))
    part = keep_mask((6, 5, 3), 0.5, **draw, images=range(3, 8), channels=range(3, 6))
    assert np.array_equal(whole[3:, 3:], part)


DRAWS: list[dict[str, Any]] = [
    {"images": range(8)},
    {"images": range(3, 8), "channels": range(3, 6)},
    {"images": range(700, 702), "channels": range(1, 2), "step": 2**31, "seed": 2**64 - 1},
]


@pytest.mark.parametrize("draw", DRAWS, ids=["all", "part", "far"])
@pytest.mark.parametrize("shape", [(6, 5, 3), (4096,), (7, 1, 1)])
def test_an_accelerator_draws_the_same_masks_itself(
    shape: tuple[int, ...], draw: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    place: dict[str, Any] = {"seed": 5, "step": 9, "layer": "drop6"} | draw
    expected = keep_mask(shape, 0.3, **place)
    monkeypatch.setattr(masks, "keep_mask", None)  # what the CPU draws is not asked for
    there = keep_mask_on(torch.device("meta"), shape, 0.3, **place)
    assert (there.device.type, there.dtype, there.shape) == ("meta", torch.bool, expected.shape)
    arithmetic = Elsewhere()
    with arithmetic:
        drawn = keep_mask_on(cast(Any, arithmetic), shape, 0.3, **place)
    assert np.array_equal(drawn.numpy(), expected)


class Elsewhere(torch.overrides.TorchFunctionMode):
    """A device that is not called the CPU and computes as it does."""

    type = "elsewhere"

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **{key: value for key, value in (kwargs or {}).items() if key != "device"})


def test_masks_differ_by_seed_step_layer_and_image_and_keep_their_share() -> None:
    base: dict[str, Any] = {"seed": 5, "step": 9, "layer": "drop6"}
    changes: list[dict[str, Any]] = [{}, {"seed": 6}, {"step": 10}, {"layer": "drop7"}]
    masks = [keep_mask((4096,), 0.3, **(base | change), images=range(4)) for change in changes]
    rows = {row.tobytes() for mask in masks for row in mask}
    assert len(rows) == 16
    assert abs(np.mean(masks) - 0.7) < 0.01


def test_a_ratio_of_zero_keeps_everything() -> None:
    assert keep_mask((1000,), 0.0, seed=0, step=0, layer="drop", images=range(100)).all()


def test_places_have_generators_of_their_own() -> None:
    first, again, other = (generator(1, "crop", place).random(4) for place in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def _caffe_step(
    w: np.ndarray, v: np.ndarray, g: np.ndarray, rate: float, momentum: float, decay: float
) -> tuple[np.ndarray, np.ndarray]:
    """BVLC caffe, sgd_solver.cpp: Regularize, ComputeUpdateValue, then Net::Update."""
    diff = g + decay * w
    history = momentum * v + rate * diff
    return w - history, history


@pytest.mark.parametrize("channels_last", [False, True])
def test_momentum_is_caffes_across_changes_of_rate(channels_last: bool) -> None:
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((6, 4, 3, 3)), rng.standard_normal(6)
    format_ = torch.channels_last if channels_last else torch.contiguous_format
    parameters = {
        "conv.weight": nn.Parameter(torch.from_numpy(weight.astype("f4")).contiguous(memory_format=format_)),
        "conv.bias": nn.Parameter(torch.from_numpy(bias.astype("f4"))),
    }
    momentum, v, b = Momentum(parameters, PAPER), np.zeros_like(weight), np.zeros_like(bias)
    for step, rate in enumerate([0.01, 0.01, 0.001, 0.001, 0.0, 0.1, 0.1]):
        gw, gb = rng.standard_normal(weight.shape), rng.standard_normal(6)
        parameters["conv.weight"].grad = torch.from_numpy(gw.astype("f4")).contiguous(memory_format=format_)
        parameters["conv.bias"].grad = torch.from_numpy(gb.astype("f4"))
        momentum.step(Rates(weight=rate, bias=2 * rate))
        weight, v = _caffe_step(weight, v, gw, rate, 0.9, 5e-4)
        bias, b = _caffe_step(bias, b, gb, 2 * rate, 0.9, 0.0)
        assert np.abs(parameters["conv.weight"].detach().numpy() - weight).max() < 2e-6, step
        assert np.abs(parameters["conv.bias"].detach().numpy() - bias).max() < 2e-6, step
        assert np.abs(momentum.velocities()["conv.weight"].numpy() - v).max() < 2e-6, step
        assert parameters["conv.weight"].grad is None


def test_the_papers_biases_and_the_codes_deviations() -> None:
    spec = registry.model("alexnet")
    paper, code = initial_values(PAPER, spec), initial_values(CODE_2012, spec)
    ones = {name for name, (_, rule) in paper.items() if rule == Constant(value=1.0)}
    assert ones == {f"{layer}.bias" for layer in ("conv2", "conv4", "conv5", "fc6", "fc7")}
    assert {rule for name, (_, rule) in paper.items() if name.endswith("weight")} == {Normal(std=0.01)}
    assert code["conv3.weight"][1] == code["conv5.weight"][1] == Normal(std=0.03)
    assert code["conv2.weight"][1] == code["fc8.weight"][1] == Normal(std=0.01)


def test_initial_weights_have_the_deviation_of_the_recipe() -> None:
    weights = initial_weights(MINI, DEFAULT, seed=3)
    assert {name: w.shape for name, w in weights.items()} == parameter_shapes(MINI)
    assert weights["fc6.weight"].std() == pytest.approx((2 / 256) ** 0.5, rel=0.02)
    # As if the pixels had a deviation of one.
    assert weights["conv1.weight"].std() == pytest.approx((2 / 147) ** 0.5 / 64, rel=0.1)
    assert np.array_equal(weights["fc7.weight"], initial_weights(MINI, DEFAULT, seed=3)["fc7.weight"])
    some = initial_weights(MINI, DEFAULT, seed=3, only=["fc7.weight"])
    assert some.keys() == {"fc7.weight"} and np.array_equal(some["fc7.weight"], weights["fc7.weight"])


def test_biases_learn_twice_as_fast_and_do_not_decay() -> None:
    rates = rates_at(PAPER, registry.model("alexnet"), step=0, steps=1, epoch=0, drops=1)
    assert rates.of("conv1.weight") == pytest.approx(0.001)
    assert rates.of("conv1.bias") == pytest.approx(0.002)
    assert decay_of(PAPER, "conv1.weight") == 5e-4
    assert decay_of(PAPER, "conv1.bias") == 0.0


def test_the_2012_codes_phases() -> None:
    spec = registry.model("alexnet_2012_code")
    at = {e: rates_at(CODE_2012, spec, step=0, steps=1, epoch=e, drops=0) for e in (0, 24, 25, 51, 67, 72, 90)}
    assert [at[e].weight for e in at] == [1e-2, 1e-2, 1e-3, 1e-4, 1e-4, 1e-4, 1e-5]
    assert at[67].of("conv1.weight") == 1e-5
    assert at[72].of("conv1.weight") == 0.0
    assert {rate.bias for rate in at.values()} == {0.02}
    assert [rate.colour_noise for rate in at.values()] == [True] * 4 + [False] * 3


def _rate(recipe: Recipe, step: int, steps: int, epoch: int = 0, **more: float) -> float:
    return rates_at(recipe, MINI, step=step, steps=steps, epoch=epoch, drops=0, **more).weight  # pyright: ignore


def test_schedules_are_torchs() -> None:
    bvlc, owt = (registry.recipe(registry.model(name)) for name in ("bvlc_alexnet", "alexnet_owt"))
    assert [_rate(bvlc, step, 450_000) for step in (0, 99_999, 100_000)] == pytest.approx([0.01, 0.01, 0.001])
    assert _rate(owt, 0, 1, epoch=60) == pytest.approx(1e-4)
    assert [_rate(DEFAULT, step, 100) for step in (59, 60, 85)] == pytest.approx([0.01, 0.001, 0.0001])
    multi = replace(DEFAULT, schedule=MultiStepLR(milestones=(2, 5), unit="epochs", gamma=0.5))
    assert [_rate(multi, 0, 1, epoch=e) for e in (1, 2, 5)] == pytest.approx([0.01, 0.005, 0.0025])
    cosine = replace(DEFAULT, schedule=CosineAnnealingLR(eta_min=0.001))
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=0.01)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 10, eta_min=0.001)
    for step in range(10):
        assert _rate(cosine, step, 10) == pytest.approx(optimiser.param_groups[0]["lr"]), step
        optimiser.step()
        theirs.step()


def test_a_warm_up_rises_step_by_step() -> None:
    warm = replace(DEFAULT, warmup_epochs=2, warmup_start=0.1, schedule=StepLR(step_size=30))
    rates = [_rate(warm, step, 1000, epoch=step // 5, steps_an_epoch=5) for step in (0, 5, 10, 11)]
    assert rates == pytest.approx([0.001, 0.0055, 0.01, 0.01])


def test_layers_have_rates_of_their_own_and_zero_freezes() -> None:
    recipe = replace(DEFAULT, layer_rates={"conv*": 0.0, "conv5": 0.5, "head": 10.0})
    rates = rates_at(recipe, MINI, step=0, steps=1, epoch=0, drops=0)
    assert [rates.of(f"{layer}.weight") for layer in ("conv2", "conv5", "fc6", "fc8")] == pytest.approx(
        [0, 0.005, 0.01, 0.1]
    )
    assert rates.of("fc8.bias") == pytest.approx(0.2)
    assert rates.of("conv1.bias") == 0
    for wrong in ({"layer_rates": {"conv9": 0.0}}, {"initial": {**DEFAULT.initial, "fc9.*": Constant()}}):
        with pytest.raises(ZooError, match="fits nothing in alexnet_mini; it has conv1"):
            check_patterns(replace(DEFAULT, **wrong), MINI)  # pyright: ignore
    with pytest.raises(ZooError, match=r"initial says nothing of conv1\.bias"):
        initial_values(replace(DEFAULT, initial={"*.weight": Normal(std=1.0)}), MINI)


def test_a_plateau_is_waited_for_and_reached_three_times_at_most() -> None:
    recipe = replace(PAPER, schedule=ReduceLROnPlateau(factor=0.1, patience=1, drops=3))
    progress, drops = Progress(), list[int]()
    for top1 in [0.1, 0.2, 0.2, 0.2, 0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]:
        progress = progress.after_validation(recipe, top1, 1.0)
        drops.append(progress.drops)
    assert drops == [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3]
    assert progress.best == (0.3, 1.0)
