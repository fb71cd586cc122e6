"""Float32 sums that add their terms one after the other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from converters.parity.local import Bench, error_alone
from converters.parity.partial_sums import widened
from converters.parity.segments import Segment
from converters.weights import Array
from zoo import reference
from zoo.layers import Conv, Dense, Layer, ReLU

BUDGET = 1e-5


def added_in_order(terms: Array) -> np.float32:
    return np.cumsum(terms.astype(np.float32), dtype=np.float32)[-1]


def wandering(layer: Layer, shape: tuple[int, ...], weight: Array) -> tuple[Segment, Bench, Array]:
    """A layer on its bench, and its first number added term by term: the first half up, the second down again."""
    read = np.random.default_rng(0).uniform(0.5, 1, (1, *shape)).astype(np.float32)
    right = reference.apply(layer, [read.astype(np.float64)], {"weight": weight})
    bound = np.sqrt(reference.apply(layer, [np.square(read, dtype=np.float64)], {"weight": np.square(weight)}))
    segment = Segment(reads=("x",), layers=(layer,))
    return segment, Bench(inputs={"x": read}, right=right, bound=bound, exercised={}), read


def up_and_down(count: int) -> Array:
    return np.where(np.arange(count) < count // 2, 1.0, -1.0).astype(np.float32)


def dense() -> tuple[Segment, Bench, Array, Array]:
    weight = up_and_down(20_000)[None]
    segment, bench, read = wandering(Dense(name="f", out_features=1, bias=False, inputs=("x",)), (20_000,), weight)
    return segment, bench, weight, np.array([[added_in_order(weight[0] * read[0])]])


def convolution() -> tuple[Segment, Bench, Array, Array]:
    """One pixel, so that the order of a convolution over H, W, C is that of its transposed terms."""
    weight = up_and_down(9 * 2000).reshape(3, 3, 2000).transpose(2, 0, 1)[None]
    layer = Conv(name="f", out_channels=1, kernel=(3, 3), bias=False, inputs=("x",))
    segment, bench, read = wandering(layer, (2000, 3, 3), weight)
    terms = (weight[0] * read[0]).transpose(1, 2, 0).ravel()
    return segment, bench, weight, added_in_order(terms).reshape(1, 1, 1, 1)


@pytest.mark.parametrize("case", [dense, convolution])
def test_a_sum_that_wanders_is_held_to_where_it_went(
    case: Callable[[], tuple[Segment, Bench, Array, Array]],
) -> None:
    segment, bench, weight, y = case()
    error, _ = error_alone(y, bench, segment)
    assert error is not None and error > BUDGET  # or the case shows nothing
    wider = widened(segment, bench, y, {"f.weight": weight}, BUDGET)
    assert wider is not None
    error, _ = error_alone(y, wider, segment)
    assert error is not None and error <= BUDGET
    error, _ = error_alone(y + np.float32(2 * BUDGET * wider.bound.item()), wider, segment)
    assert error is not None and error > BUDGET


def test_what_does_not_wander_is_not_excused() -> None:
    """A weight that is wrong by a hundredth shows in sums that stay where they are."""
    weight = np.random.default_rng(1).standard_normal((1, 4000)).astype(np.float32)
    segment, bench, read = wandering(Dense(name="f", out_features=1, bias=False, inputs=("x",)), (4000,), weight)
    wrong = weight.copy()
    wrong[0, np.abs(weight[0]).argmax()] *= 1.01
    y = (wrong.astype(np.float64) @ read[0].astype(np.float64)).astype(np.float32)[None]
    wider = widened(segment, bench, y, {"f.weight": weight}, BUDGET)
    assert wider is not None
    error, _ = error_alone(y, wider, segment)
    assert error is not None and error > BUDGET


def test_many_wrong_numbers_and_other_layers_do_not_wander() -> None:
    segment, bench, weight, y = dense()
    many = Bench(inputs=bench.inputs, right=np.zeros((1, 100)), bound=np.ones((1, 100)), exercised={})
    assert widened(segment, many, np.ones((1, 100), np.float32), {"f.weight": weight}, BUDGET) is None
    other = Segment(reads=("x",), layers=(ReLU(name="f", inputs=("x",)),))
    assert widened(other, bench, y, {}, BUDGET) is None


@pytest.mark.parametrize(
    ("y", "bound", "told"),
    [
        ([0.0, 1.0], [0.0, 1.0], (0.0, None)),
        ([np.nan, 1.0], [0.0, 1.0], (None, "by itself: NaN or Inf")),
        ([0.0, np.inf], [0.0, 1.0], (None, "by itself: NaN or Inf")),
        ([1e-3, 1.0], [0.0, 1.0], (None, "by itself, on dense inputs: not zero, where it should be")),
        ([0.0, 1.5], [0.0, -1.0], (0.5, None)),
        ([1e-31, 1.0], [1e-38, 1.0], (0.0, None)),
    ],
)
def test_numbers_by_themselves_are_held_to_their_bounds(
    y: list[float], bound: list[float], told: tuple[float | None, str | None]
) -> None:
    segment, *_ = dense()
    bench = Bench(inputs={}, right=np.array([[0.0, 1.0]]), bound=np.array([bound]), exercised={})
    assert error_alone(np.array([y]), bench, segment) == told
