"""A network's answer is recognised for what it is: the right one, the logits, or a known function of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from converters.faults.of_outputs import IDENTICAL, LOGITS, explain_output
from converters.weights import Array
from zoo.layers import Dense, Layer, Softmax

PROB = Softmax(name="prob")
FC8 = Dense(name="fc8", out_features=10)


def _logits(shape: tuple[int, ...] = (3, 10), deviation: float = 5.0) -> Array:
    return np.random.default_rng(4).normal(0, deviation, shape)


def _softmax(z: Array, axis: int | tuple[int, ...] = 1) -> Array:
    raised = np.exp(z - z.max(axis=axis, keepdims=True))
    return raised / raised.sum(axis=axis, keepdims=True)


def _single(function: Callable[[Array], Array], z: Array, seed: int = 1) -> Array:
    """What a float32 network answers: the logits are off by a millionth of their peak."""
    peaks = np.abs(z).max(axis=tuple(range(1, z.ndim)), keepdims=True)
    noise = np.random.default_rng(seed).uniform(-1e-6, 1e-6, z.shape) * peaks
    with np.errstate(over="ignore", divide="ignore"):
        return function((z + noise).astype(np.float32).astype(np.float64)).astype(np.float32)


def _named(layer: Layer, z: Array, function: Callable[[Array], Array]) -> str | None:
    found = explain_output(layer, z, _single(function, z))
    return found.fault if found else None


def _one_hot(z: Array) -> Array:
    return (z == z.max(axis=1, keepdims=True)) * 1.0


def _log_of_softmax(z: Array) -> Array:
    """In float32, where a probability may be 0."""
    return np.log(_softmax(z).astype(np.float32))


TAILS: dict[str, tuple[Callable[[Array], Array], str]] = {
    "softmax": (_softmax, IDENTICAL),
    "logits": (lambda z: z, LOGITS),
    "log-softmax": (lambda z: np.log(_softmax(z)), "softmax_log"),
    "log of softmax": (_log_of_softmax, "softmax_log"),
    "softmax twice": (lambda z: _softmax(_softmax(z)), "softmax_twice"),
    "along the samples": (lambda z: _softmax(z, 0), "softmax_axis"),
    "along one number": (np.ones_like, "softmax_axis"),
    "temperature": (lambda z: _softmax(z / 4), "softmax_temperature"),
    "negated before": (lambda z: _softmax(-z), "softmax_temperature"),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), "sigmoid_for_softmax"),
    "exp": (np.exp, "output_exp"),
    "exp of softmax": (lambda z: np.exp(_softmax(z)), "output_exp"),
    "relu": (lambda z: np.maximum(z, 0), "output_rectified"),
    "negated": (lambda z: -z, "output_negated"),
    "probabilities negated": (lambda z: -_softmax(z), "output_negated"),
    "doubled": (lambda z: 2 * z, "output_scaled"),
    "percent": (lambda z: 100 * _softmax(z), "output_scaled"),
    "shifted": (lambda z: z + 1, "output_shifted"),
    "affine": (lambda z: 3 * z - 7, "output_affine"),
    "one-hot": (_one_hot, "output_one_hot"),
    "argmax": (lambda z: z.argmax(1), "output_argmax"),
    "argmax, axis kept": (lambda z: z.argmax(1)[:, None], "output_argmax"),
    "top-k numbers": (lambda z: np.argsort(-z, 1)[:, :3], "output_top_k_indices"),
    "top-k": (lambda z: -np.sort(-_softmax(z), 1)[:, :3], "output_top_k"),
    "classes reversed": (lambda z: _softmax(z)[:, ::-1], "classes_permuted"),
    "logits reversed": (lambda z: z[:, ::-1], "classes_permuted"),
    "log-softmax reversed": (lambda z: np.log(_softmax(z))[:, ::-1], "classes_permuted"),
    "first classes": (lambda z: _softmax(z)[:, :4], "classes_left_out"),
    "K x N": (lambda z: _softmax(z).T, "output_transposed"),
    "one zero": (np.zeros_like, "output_constant"),
}


@pytest.mark.parametrize("tail", TAILS)
def test_a_softmax_is_known_by_what_became_of_it(tail: str) -> None:
    function, fault = TAILS[tail]
    assert _named(PROB, _logits(), function) == fault


@pytest.mark.parametrize("deviation", [0.1, 40.0])
@pytest.mark.parametrize(
    "tail",
    ["softmax", "logits", "log-softmax", "log of softmax", "temperature", "negated", "doubled", "argmax"],
)
def test_neither_even_nor_saturated_probabilities_hide_it(tail: str, deviation: float) -> None:
    function, fault = TAILS[tail]
    assert _named(PROB, _logits(deviation=deviation), function) == fault


LAST: dict[str, tuple[Callable[[Array], Array], str]] = {
    "itself": (lambda z: z, IDENTICAL),
    "softmax": (_softmax, "softmax_added"),
    "log-softmax": (lambda z: np.log(_softmax(z)), "softmax_log"),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), "output_sigmoid"),
    "exp": (np.exp, "output_exp"),
    "relu": (lambda z: np.maximum(z, 0), "output_rectified"),
    "negated": (lambda z: -z, "output_negated"),
    "doubled": (lambda z: 2 * z, "output_scaled"),
    "reversed": (lambda z: z[:, ::-1], "classes_permuted"),
    "argmax": (lambda z: z.argmax(1), "output_argmax"),
}


@pytest.mark.parametrize("tail", LAST)
def test_so_is_any_other_last_layer(tail: str) -> None:
    function, fault = LAST[tail]
    assert _named(FC8, _logits(), function) == fault


MAPS: dict[str, tuple[Callable[[Array], Array], str]] = {
    "itself": (_softmax, IDENTICAL),
    "logits": (lambda z: z, LOGITS),
    "along the rows": (lambda z: _softmax(z, 2), "softmax_axis"),
    "over everything": (lambda z: _softmax(z, (1, 2, 3)), "softmax_axis"),
    "classes rolled": (lambda z: np.roll(_softmax(z), 1, axis=1), "classes_permuted"),
    "argmax": (lambda z: z.argmax(1), "output_argmax"),
    "NHWC": (lambda z: _softmax(z).transpose(0, 2, 3, 1), "output_transposed"),
    "NCWH": (lambda z: _softmax(z).transpose(0, 1, 3, 2), "output_transposed"),
}


@pytest.mark.parametrize("tail", MAPS)
def test_maps_of_classes_too(tail: str) -> None:
    function, fault = MAPS[tail]
    assert _named(PROB, _logits((2, 5, 4, 3)), function) == fault


def test_the_message_says_which_and_how() -> None:
    z = _logits((2, 10))

    def told(function: Callable[[Array], Array]) -> str:
        found = explain_output(PROB, z, _single(function, z))
        assert found is not None and found.layer == "prob" and found.remedy
        return found.message

    assert "0 holds 9, 1 holds 8, 2 holds 7, ..." in told(lambda z: _softmax(z)[:, ::-1])
    assert "divided by 4" in told(lambda z: _softmax(z / 4))
    assert "2 times the logits" in told(lambda z: 2 * z)
    assert "the logits +1" in told(lambda z: z + 1)
    maps = _logits((2, 5, 4, 3))
    found = explain_output(PROB, maps, _softmax(maps).transpose(0, 2, 3, 1))
    assert found is not None and "N, H, W, C" in found.message


def test_axes_of_one_are_no_difference() -> None:
    z = _logits()
    for shape in ((3, 10, 1, 1), (3, 1, 10)):
        found = explain_output(PROB, z, _softmax(z).reshape(shape))
        assert found is not None and found.fault == IDENTICAL
    found = explain_output(PROB, z.reshape(3, 10, 1, 1), _softmax(z))
    assert found is not None and found.fault == IDENTICAL


def test_equal_classes_stay_in_their_places() -> None:
    z = _logits()
    z[:, 4:8] = z[:, 4:5]
    found = explain_output(PROB, z, _single(lambda z: _softmax(z)[:, [1, 0, 2, 3, 4, 5, 6, 7, 8, 9]], z))
    assert found is not None and found.fault == "classes_permuted"
    assert "(0 holds 1, 1 holds 0)" in found.message
    best = _logits()
    best[:, 2] = best[:, 5] = best.max(axis=1) + 1
    for index in (2, 5):
        found = explain_output(PROB, best, np.full(3, index))
        assert found is not None and found.fault == "output_argmax"


def test_a_thousand_classes_are_sorted_out_through_the_noise() -> None:
    z = _logits((2, 1000), 30.0)
    order = np.random.default_rng(8).permutation(1000)
    for function in (lambda z: z[:, order], lambda z: _softmax(z)[:, order]):
        assert _named(PROB, z, function) == "classes_permuted"


@pytest.mark.parametrize("layer", [PROB, FC8])
def test_what_is_no_known_function_is_not_explained(layer: Layer) -> None:
    z = _logits()
    other = np.random.default_rng(9).normal(0, 5, z.shape)
    for y in (other, _softmax(other), 1 / (1 + np.exp(-other)), other[:, :7], np.tanh(z), z**3):
        assert explain_output(layer, z, y) is None
    slightly = z.copy()
    slightly[1, 3] += 1e-3 * np.abs(z).max()
    for y in (
        slightly,
        _softmax(slightly),
        np.exp(slightly),
        2 * slightly,
        slightly[:, ::-1],
        np.log(_softmax(slightly)),
    ):
        assert explain_output(layer, z, y) is None
    worst = z.argsort(axis=1)[:, 0]
    for y in (worst, np.full_like(z, np.nan), np.zeros((3, 0)), np.zeros((2, 10)) + 3.5):
        assert explain_output(layer, z, y) is None
    assert explain_output(layer, np.full_like(z, np.nan), z) is None


def test_probabilities_that_are_one_and_zero_are_told_with_what_else_they_may_be() -> None:
    """Nothing tells a saturated softmax along the classes from the best class marked by 1."""
    z = np.array([[400.0, 0, -300], [-200, 300, 10.0], [0, -50, 500]])
    found = explain_output(PROB, z, _single(_one_hot, z))
    assert found is not None and found.fault == IDENTICAL
    found = explain_output(FC8, z, _single(_one_hot, z))
    assert found is not None and {found.fault, *found.rivals} == {"softmax_added", "output_one_hot"}
