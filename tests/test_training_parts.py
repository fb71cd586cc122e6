"""The parts of training on one device: LRN's closed form, masks, momentum, initial weights, schedules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from zoo import registry
from zoo.frameworks.pytorch import call
from zoo.layers import LRN
from zoo.recipe import (
    CODE_2012,
    PAPER,
    SMALL,
    Every,
    Plateau,
    Rates,
    decay_of,
    initial_values,
    rates_at,
    recipe_for,
)
from zoo.shapes import parameter_shapes
from zoo.training import lrn
from zoo.training.lrn import LocalResponseNorm
from zoo.training.masks import generator, keep_mask
from zoo.training.optimiser import Momentum, Progress, initial_weights

MINI = registry.model("alexnet_mini")

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
    ones = {name for name, (_, constant, _) in paper.items() if constant == 1.0}
    assert ones == {f"{layer}.bias" for layer in ("conv2", "conv4", "conv5", "fc6", "fc7")}
    assert {std for name, (_, _, std) in paper.items() if name.endswith("weight")} == {0.01}
    assert code["conv3.weight"][2] == code["conv5.weight"][2] == 0.03
    assert code["conv2.weight"][2] == code["fc8.weight"][2] == 0.01


def test_initial_weights_have_the_deviation_of_the_recipe() -> None:
    weights = initial_weights(MINI, SMALL, seed=3)
    assert {name: w.shape for name, w in weights.items()} == parameter_shapes(MINI)
    assert weights["fc6.weight"].std() == pytest.approx((2 / 256) ** 0.5, rel=0.02)
    # As if the pixels had a deviation of one.
    assert weights["conv1.weight"].std() == pytest.approx((2 / 147) ** 0.5 / 64, rel=0.1)
    assert np.array_equal(weights["fc7.weight"], initial_weights(MINI, SMALL, seed=3)["fc7.weight"])


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


def test_caffes_and_torchvisions_steps() -> None:
    bvlc, owt = registry.model("bvlc_alexnet"), registry.model("alexnet_owt")
    assert isinstance(recipe_for(bvlc).schedule, Every)
    rate = [
        rates_at(recipe_for(bvlc), bvlc, step=s, steps=450_000, epoch=0, drops=0).weight for s in (0, 99_999, 100_000)
    ]
    assert rate == pytest.approx([0.01, 0.01, 0.001])
    assert rates_at(recipe_for(owt), owt, step=0, steps=1, epoch=60, drops=0).weight == pytest.approx(1e-4)
    assert [rates_at(SMALL, MINI, step=s, steps=100, epoch=0, drops=0).bias for s in (59, 60, 85)] == pytest.approx(
        [0.02, 0.002, 0.0002]
    )


def test_a_plateau_is_waited_for_and_reached_three_times_at_most() -> None:
    recipe = replace(PAPER, schedule=Plateau(factor=0.1, patience=1, drops=3))
    progress, drops = Progress(), list[int]()
    for top1 in [0.1, 0.2, 0.2, 0.2, 0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]:
        progress = progress.after_validation(recipe, top1, 1.0)
        drops.append(progress.drops)
    assert drops == [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3]
    assert progress.best == (0.3, 1.0)
