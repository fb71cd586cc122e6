"""What no single fault explains: two at once, a function of the answer, an input altered on its way, float32 itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest

from converters.faults import RUNNING_SUM, Own, diagnose, findings, plant
from converters.faults.catalogue import own_layers, possible_forward
from converters.faults.of_norms import running_sum
from converters.parity import Proof, probe_inputs, probe_weights
from converters.verdicts import UNKNOWN, Diagnosis
from converters.weights import Array, Weights
from tests.small import shrink
from zoo import reference as oracle
from zoo.layers import LRN, Dense, Input, ModelSpec, ReLU, Softmax


def _mini() -> tuple[Weights, dict[str, Array]]:
    spec = shrink("alexnet", channels=16).change("conv1", kernel=(7, 7), stride=(3, 3)).with_input_size(67)
    weights = probe_weights(spec)
    return weights, probe_inputs(spec)[0]


def _shown(weights: Weights, inputs: Mapping[str, Array], changed: Mapping[str, Array]) -> dict[str, Array]:
    """What a network with some other weights gives, in float32."""
    return possible_forward(weights.spec, {**weights.tensors, **changed}, inputs)


def _only(found: tuple[Diagnosis, ...]) -> Diagnosis:
    (diagnosis,) = found
    return diagnosis


# Two mistakes in one layer


def _two(name: str, weights: Weights) -> dict[str, Array]:
    right = weights.tensors
    kernel, bias = right["conv1.weight"], right["conv1.bias"]
    match name:
        case "input_bgr+kernel_flipped":
            return {"conv1.weight": kernel[:, ::-1, ::-1, ::-1]}
        case "kernel_transposed+bias_lost":
            return {"conv2.weight": right["conv2.weight"].swapaxes(2, 3), "conv2.bias": 0 * right["conv2.bias"]}
        case "kernel_flipped+weights_half_precision":
            halves = {"conv1.weight": kernel[:, :, ::-1, ::-1], "conv1.bias": bias}
            return {key: value.astype(np.float16).astype(np.float32) for key, value in halves.items()}
        case "group_filters_exchanged+kernel_flipped":
            exchanged = {key: np.concatenate(np.split(right[key], 2)[::-1]) for key in ("conv4.weight", "conv4.bias")}
            return {**exchanged, "conv4.weight": exchanged["conv4.weight"][:, :, ::-1, ::-1]}
        case _:
            assert name == "flatten_hwc+bias_lost"
            columns = np.arange(right["fc6.weight"].shape[1]).reshape(16, -1).T.reshape(-1)
            return {"fc6.weight": right["fc6.weight"][:, columns], "fc6.bias": 0 * right["fc6.bias"]}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("input_bgr+kernel_flipped", "conv1"),
        ("kernel_transposed+bias_lost", "conv2"),
        ("kernel_flipped+weights_half_precision", "conv1"),
        ("group_filters_exchanged+kernel_flipped", "conv4"),
        ("flatten_hwc+bias_lost", "fc6"),
    ],
)
def test_two_mistakes_in_one_layer_are_named_together(name: str, layer: str, known: bool) -> None:
    weights, inputs = _mini()
    changed = _two(name, weights)
    wrong = replace(weights, tensors={**weights.tensors, **changed})
    theirs = own_layers(wrong) if known else {}
    found = _only(diagnose(weights.spec, weights.tensors, inputs, _shown(weights, inputs, changed), theirs=theirs))
    assert {*found.fault.split("+")} == {*name.split("+")}
    assert found.layer == layer and ", and " in found.message and ";" in found.remedy


def test_they_are_found_in_a_large_layer_by_few_of_its_outputs() -> None:
    spec = ModelSpec(
        name="wide",
        title="one wide layer",
        inputs=(Input(shape=(24, 12, 12)),),
        layers=(Dense(name="fc", out_features=512), Softmax(name="prob")),
    )
    weights, inputs = probe_weights(spec), probe_inputs(spec)[0]
    columns = np.arange(24 * 144).reshape(24, -1).T.reshape(-1)
    changed = {"fc.weight": weights.tensors["fc.weight"][:, columns], "fc.bias": 0 * weights.tensors["fc.bias"]}
    found = _only(diagnose(spec, weights.tensors, inputs, _shown(weights, inputs, changed)))
    assert found.fault == "flatten_hwc+bias_lost"


def test_two_mistakes_in_two_layers_are_told_where_the_second_alone_is_shown() -> None:
    weights, inputs = _mini()
    spec = weights.spec.change("norm1", alpha=5e-4)
    flipped = np.ascontiguousarray(weights.tensors["conv1.weight"][:, :, ::-1, ::-1])
    shown = possible_forward(spec, {**weights.tensors, "conv1.weight": flipped}, inputs)
    hidden = {name: value for name, value in shown.items() if name not in ("conv1", "relu1")}
    found = _only(diagnose(weights.spec, weights.tensors, inputs, hidden))
    assert (found.fault, found.layer) == ("kernel_flipped+lrn_alpha_not_divided", "conv1")
    assert "norm1: alpha was not divided" in found.message


# One mistake that shows in several layers


def _named(weights: Weights, inputs: Mapping[str, Array], shown: Mapping[str, Array]) -> list[tuple[str, str]]:
    return [(d.layer, d.fault) for d in diagnose(weights.spec, weights.tensors, inputs, shown)]


@pytest.mark.parametrize("relu", ["behind", "before"])
def test_a_bias_behind_the_relu_is_not_called_lost(relu: str) -> None:
    """Whether the tensor called relu3 is the one before the bias or the one behind it."""
    weights, inputs = _mini()
    bare = _shown(weights, inputs, {"conv3.bias": 0 * weights.tensors["conv3.bias"]})
    late = bare["relu3"] + weights.tensors["conv3.bias"].reshape(-1, 1, 1)
    rest = ModelSpec(
        name="rest",
        title="conv4 and on",
        inputs=(Input(name="relu3", shape=late.shape[1:]),),
        layers=weights.spec.layers[[layer.name for layer in weights.spec.layers].index("conv4") :],
    )
    shown = {**bare, **possible_forward(rest, weights.tensors, {"relu3": late})}
    if relu == "behind":
        shown["relu3"] = late
    assert _named(weights, inputs, shown) == [("conv3", "bias_after_relu")]
    (found,) = findings(weights.spec, weights.tensors, inputs, shown)
    assert found.layers == {"conv3", "relu3" if relu == "behind" else "conv4"}


def test_layers_that_stand_one_early_are_told_from_layers_that_are_exchanged() -> None:
    layers = [Dense(name="a", out_features=16), Dense(name="b", out_features=16), Dense(name="c", out_features=16)]
    spec = ModelSpec(
        name="three",
        title="three layers of one shape",
        inputs=(Input(name="x", shape=(16,)),),
        layers=(*layers, Dense(name="d", out_features=5)),
    )
    weights, inputs = probe_weights(spec), probe_inputs(spec)[0]
    tensors = weights.tensors
    moved = {
        f"{ours}.{role}": tensors[f"{their}.{role}"] for ours, their in ("ab", "bc") for role in ("weight", "bias")
    }
    early = possible_forward(spec.without("c"), {**tensors, **moved}, inputs)  # "a" is missing: b and c are a and b
    (found,) = diagnose(spec, tensors, inputs, early)
    assert (found.layer, found.fault) == ("a", "layer_dropped") and "b stands in its place" in found.message
    swap = {f"{ours}.{role}": tensors[f"{their}.{role}"] for ours, their in ("ab", "ba") for role in ("weight", "bias")}
    exchanged = possible_forward(spec, {**tensors, **swap}, inputs)
    assert _named(weights, inputs, exchanged) == [("a", "layers_exchanged"), ("b", "layers_exchanged")]


@pytest.mark.parametrize("layer", ["pool2", "conv4", "fc7"])
def test_a_missing_layer_is_named_and_what_its_size_brings_about_is_not(layer: str) -> None:
    weights, inputs = _mini()
    shown = possible_forward(weights.spec.without(layer), weights.tensors, inputs)
    assert _named(weights, inputs, shown) == [(layer, "layer_dropped")]


# What the network answers


@pytest.mark.parametrize(
    ("fault", "tail"),
    [
        ("softmax_log", lambda z, p: np.log(p)),
        ("softmax_temperature", lambda z, p: _softmax(z / 4)),
        ("softmax_twice", lambda z, p: _softmax(p)),
        ("sigmoid_for_softmax", lambda z, p: 1 / (1 + np.exp(-z))),
        ("classes_permuted", lambda z, p: p[:, ::-1]),
        ("output_scaled", lambda z, p: 2 * z),
    ],
)
def test_an_answer_that_is_a_known_function_of_the_right_one_is_named_at_its_layer(
    fault: str, tail: Callable[[Array, Array], Array]
) -> None:
    weights, inputs = _mini()
    inputs = {name: value / 60 for name, value in inputs.items()}  # no saturated softmax
    shown = _shown(weights, inputs, {})
    answer = tail(shown["fc8"].astype(np.float64), shown["prob"].astype(np.float64))
    found = _only(diagnose(weights.spec, weights.tensors, inputs, {**shown, "prob": answer.astype(np.float32)}))
    assert (found.fault, found.layer) == (fault, "prob")


def _softmax(z: Array) -> Array:
    raised = np.exp(z - z.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


# What a layer really read


def _read_by_fc6(change: str) -> tuple[Weights, dict[str, Array], dict[str, Array], Array]:
    """A subject in which something stands between pool5 and fc6, and shows it."""
    weights, inputs = _mini()
    shown = _shown(weights, inputs, {})
    read = shown["pool5"].reshape(2, -1)
    match change:
        case "dropped":
            read = np.where(np.random.default_rng(2).random(read.shape) < 0.5, 2 * read, 0).astype(np.float32)
        case "scaled":
            read = read * np.float32(0.5)
        case _:
            read = np.sqrt(np.abs(read))
    fc6 = oracle.apply(weights.spec.layer("fc6"), [read.astype(np.float64)], _parameters(weights, "fc6"))
    after = {"fc6": fc6.astype(np.float32)}
    for layer in weights.spec.layers[[layer.name for layer in weights.spec.layers].index("fc6") + 1 :]:
        reads = [after[name].astype(np.float64) for name in weights.spec.wiring()[layer.name]]
        after[layer.name] = oracle.apply(layer, reads, _parameters(weights, layer.name)).astype(np.float32)
    return weights, inputs, {**shown, **after}, read


def _parameters(weights: Weights, layer: str) -> dict[str, Array]:
    return {name.split(".")[1]: t for name, t in weights.tensors.items() if name.split(".")[0] == layer}


@pytest.mark.parametrize(
    ("change", "fault", "told"),
    [
        ("dropped", "dropout_left_on", "dropout was left on: \\d+% of the numbers are 0 and the rest is times 2"),
        ("scaled", "wrong_input", "reads not what pool5 gives: it is 0.5 times that"),
        ("rooted", "wrong_input", "reads not what pool5 gives"),
    ],
)
def test_what_stands_between_two_layers_is_not_blamed_on_the_second(change: str, fault: str, told: str) -> None:
    weights, inputs, shown, read = _read_by_fc6(change)
    own = Own(layer=weights.spec.layer("fc6"), parameters={}, read=read)
    found = _only(diagnose(weights.spec, weights.tensors, inputs, shown, theirs={"fc6": own}))
    assert (found.fault, found.layer) == (fault, "fc6")
    assert re.search(told, found.message)


def test_a_layer_that_is_wrong_itself_is_not_excused_by_what_it_read() -> None:
    weights, inputs, shown, read = _read_by_fc6("dropped")
    own = Own(layer=weights.spec.layer("fc6"), parameters={}, read=read + np.float32(1.0))
    found = diagnose(weights.spec, weights.tensors, inputs, shown, theirs={"fc6": own})[0]
    assert (found.fault, found.layer) == (UNKNOWN, "fc6")
    assert "what is shown before it is in order" in found.remedy


def test_dropout_that_is_hidden_is_named_where_the_next_layer_shows_what_it_read() -> None:
    weights, inputs = _mini()
    shown = plant("dropout_left_on", weights, "drop6").forward(inputs)
    own = Own(layer=weights.spec.layer("fc7"), parameters={}, read=shown.pop("drop6"))
    found = _only(diagnose(weights.spec, weights.tensors, inputs, shown, theirs={"fc7": own}))
    assert (found.fault, found.layer) == ("dropout_left_on", "drop6")
    blind = _only(diagnose(weights.spec, weights.tensors, inputs, shown))
    assert blind.fault == UNKNOWN and "drop6 is not shown" in blind.message


# Where a subject stops


def test_a_layer_that_gives_nothing_is_explained_by_how_the_subject_describes_it() -> None:
    weights, inputs = _mini()
    shown = _shown(weights, inputs, {})
    cut = {name: shown[name] for name in ("conv1", "relu1")}
    norm = weights.spec.layer("norm1")
    assert isinstance(norm, LRN)
    even = Own(layer=replace(norm, name="n", inputs=("r",), size=4), parameters={})
    found = _only(diagnose(weights.spec, weights.tensors, inputs, cut, theirs={"norm1": even}))
    assert (found.fault, found.layer) == ("lrn_even_size", "norm1")
    assert "size is 4, not 5" in found.message
    other = Own(layer=replace(norm, beta=-1.0), parameters={})
    found = _only(diagnose(weights.spec, weights.tensors, inputs, cut, theirs={"norm1": other}))
    assert found.fault == "definition_differs" and "beta is -1.0, not 0.75" in found.message
    alike = Own(layer=norm, parameters={})
    assert diagnose(weights.spec, weights.tensors, inputs, cut, theirs={"norm1": alike}) == ()


@pytest.mark.parametrize("before", [1, 2])
@pytest.mark.parametrize("size", [4, 6])
def test_an_even_window_is_named_on_either_side_of_its_middle(size: int, before: int) -> None:
    """As PyTorch (size // 2 before it) and ONNX ((size - 1) // 2 before it) place it."""
    weights, inputs = _mini()
    norm = weights.spec.layer("norm2")
    assert isinstance(norm, LRN)
    before += (size - 4) // 2
    shown = _shown(weights, inputs, {})
    x = shown["relu2"].astype(np.float64)
    blocks = (x * x).reshape(2, norm.towers, -1, *x.shape[2:])
    total = np.zeros_like(blocks)
    for channel in range(blocks.shape[2]):
        window = blocks[:, :, max(channel - before, 0) : channel - before + size]
        total[:, :, channel] = window.sum(axis=2)
    y = x / (norm.k + norm.alpha / size * total.reshape(x.shape)) ** norm.beta
    found = diagnose(weights.spec, weights.tensors, inputs, {**shown, "norm2": y.astype(np.float32)})[0]
    assert (found.fault, found.layer) == ("lrn_even_size", "norm2")
    assert f"{size} for 5" in found.message


@pytest.mark.parametrize(("ceiling", "told"), [(6.0, "at 6: ReLU6"), (40.0, "at 40")])
def test_a_ceiling_of_the_relu_is_named_with_its_height(ceiling: float, told: str) -> None:
    weights, inputs = _mini()
    shown = _shown(weights, inputs, {})
    clipped = np.minimum(shown["relu1"], np.float32(ceiling))
    found = diagnose(weights.spec, weights.tensors, inputs, {**shown, "relu1": clipped})[0]
    assert (found.fault, found.layer) == ("relu_ceiling", "relu1")
    assert told in found.message


# Float32's own error


def _after_a_huge_square(layer: LRN, fused: bool) -> tuple[Array, Array]:
    """A normalisation's input, and what a window that slides over it in float32 makes of it, pixel by pixel."""
    generator, single = np.random.default_rng(0), np.float32
    x = generator.normal(0, 1, (2, 12, 3, 4)).astype(single)
    x[0, 1, ::2] = 1700
    share, y = single(single(layer.alpha) / single(layer.size)), np.empty_like(x)
    channels = 12 // layer.towers
    for n, tower, i, j in np.ndindex(2, layer.towers, 3, 4):
        column = [single(0), single(0), *(x[n, tower * channels : (tower + 1) * channels, i, j] ** 2), *[single(0)] * 2]

        def plus(total: np.float32, factor: np.float32, square: np.float32) -> np.float32:
            exact = np.float64(factor) * np.float64(square)
            return np.float32(np.float64(total) + exact) if fused else total + factor * square

        total = single(layer.k)
        for square in column[:5]:
            total = plus(total, share, square)
        for c in range(channels):
            if c:
                total = plus(plus(total, share, column[c + 4]), -share, column[c - 1])
            y[n, tower * channels + c, i, j] = x[n, tower * channels + c, i, j] * total ** single(-layer.beta)
    return x, y


@pytest.mark.parametrize("towers", [1, 2])
@pytest.mark.parametrize("fused", [False, True])
def test_a_running_sum_in_float32_is_no_fault_of_the_file(fused: bool, towers: int) -> None:
    layer = LRN(name="norm", size=5, alpha=1.0, beta=0.75, towers=towers)
    x, y = _after_a_huge_square(layer, fused)
    right = oracle.apply(layer, [x.astype(np.float64)], {})
    assert np.abs(y - right).max() > 1e-3 * np.abs(right).max()
    found = running_sum(layer, x, y)
    assert found is not None and found.fault == RUNNING_SUM
    assert "square of 2.9e+06" in found.message
    assert running_sum(layer, x, right.astype(np.float32)) is None
    assert running_sum(layer, x, y * np.float32(1.001)) is None
    assert running_sum(replace(layer, alpha=0.9), x, y) is None
    spec = ModelSpec(
        name="n",
        title="one normalisation",
        inputs=(Input(name="x", shape=x.shape[1:]),),
        layers=(layer, ReLU(name="r")),
    )
    found = _only(diagnose(spec, {}, {"x": x}, {"norm": y, "r": np.maximum(y, 0)}))
    assert (found.fault, found.layer) == (RUNNING_SUM, "norm")


def test_a_right_network_is_still_in_order() -> None:
    weights, inputs = _mini()
    assert diagnose(weights.spec, weights.tensors, inputs, Proof(weights).reference) == ()
