"""Networks in one form: what is called the same is the same for the oracle, and every rewrite is seen through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any, get_args

import numpy as np
import pytest

from converters.convert import same_bits
from converters.weights import Array
from tests import kinds
from tests.mutant_graphs import networks
from zoo import reference
from zoo.canonical import Form, Numbering, canonical, differing, folded
from zoo.canonical.folding import ROUNDINGS, nearness
from zoo.canonical.numbering import same_parameters
from zoo.errors import SpecError
from zoo.layers import (
    LOWEST,
    BatchNorm,
    Bias,
    Concat,
    Conv,
    Dense,
    Dropout,
    Eltwise,
    Flatten,
    Input,
    Layer,
    ModelSpec,
    Permute,
    Pool,
    Power,
    ReLU,
    Reshape,
    Scale,
    Softmax,
    Unary,
)
from zoo.layers.pointwise import Function
from zoo.shapes import parameter_shapes

SAME = same_parameters(same_bits)


def equal(left: Form, right: Form) -> bool:
    numbering = Numbering(SAME)
    ours, theirs = numbering.of(left), numbering.of(right)
    shapes = left.shapes == right.shapes
    return shapes and [ours[at] for at in left.outputs] == [theirs[at] for at in right.outputs]


def chain(*layers: Layer) -> ModelSpec:
    return ModelSpec(name="chain", title="", inputs=(Input(name="in0", shape=(4, 6, 5)),), layers=layers)


# What is called the same, is


def other_values(layer: Layer) -> Iterator[dict[str, Any]]:
    """Every field of a layer, changed a little."""
    words = {"floor": "ceil", "ceil": "floor", "max": "ave", "ave": "max", "across": "within", "within": "across"}
    words |= {"sum": "prod", "prod": "max", "mean": "sum", "asum": "sumsq", "sumsq": "mean"}
    words |= {name: "abs" for name in get_args(Function) if name != "abs"}
    words |= {"corner": "center_size", "center_size": "corner_size", "corner_size": "corner"}
    for item in fields(layer):
        value = getattr(layer, item.name)
        if item.name in ("name", "inputs"):
            continue
        if isinstance(value, bool):
            yield {item.name: not value}
        elif isinstance(value, int | float):
            yield from ({item.name: value + by} for by in (1, -1, 0.5) if isinstance(value, float) or by != 0.5)
        elif isinstance(value, str):
            yield {item.name: words.get(value, value)}
        elif isinstance(value, tuple):
            for i in range(len(value)):
                yield from ({item.name: (*value[:i], value[i] + by, *value[i + 1 :])} for by in (1, -1))
            yield {item.name: value[::-1]}
            yield {item.name: ()}
        elif value is None:
            yield from ({item.name: other} for other in (1, (2, 2), (1.0, 1.0)))


def variants(spec: ModelSpec) -> Iterator[ModelSpec]:
    for layer in spec.layers:
        for change in other_values(layer):
            try:
                other = spec.replace_layer(replace(layer, **change))
                parameter_shapes(other)
            except (SpecError, TypeError, ValueError, ZeroDivisionError, IndexError, AttributeError):
                continue
            yield other


def answers(spec: ModelSpec, arrays: Mapping[str, Array], inputs: Mapping[str, Array]) -> list[Array] | None:
    try:
        found = reference.forward(spec, arrays, inputs)
    except (SpecError, TypeError, ValueError, ZeroDivisionError, IndexError):
        return None
    return [found[name] for name in spec.outputs]


@pytest.mark.parametrize("name", kinds.KINDS)
def test_what_is_one_form_is_one_function(name: str) -> None:
    spec = kinds.KINDS[name]
    arrays, inputs = kinds.probe(spec)
    right, form = answers(spec, arrays, inputs), canonical(spec, arrays)
    assert right is not None
    for other in variants(spec):
        needed = parameter_shapes(other)
        if any(arrays[n].shape != shape if n in arrays else True for n, shape in needed.items()):
            continue
        if equal(form, canonical(other, {n: arrays[n] for n in needed})):
            found = answers(other, arrays, inputs)
            assert found is not None and len(found) == len(right), other.layers
            for a, b in zip(right, found, strict=True):
                np.testing.assert_allclose(b, a, 1e-12, 1e-12, err_msg=str(other.layers))


@pytest.mark.parametrize("name", kinds.KINDS)
def test_names_say_nothing(name: str) -> None:
    spec = kinds.KINDS[name]
    arrays, _ = kinds.probe(spec)
    wiring, inputs = spec.wiring(), {source.name for source in spec.inputs}

    def other(activation: str) -> str:
        return activation if activation in inputs else f"{activation}_x"

    layers = tuple(
        replace(layer, name=other(layer.name), inputs=tuple(map(other, wiring[layer.name]))) for layer in spec.layers
    )
    renamed = {f"{other(key.rpartition('.')[0])}.{key.rpartition('.')[2]}": array for key, array in arrays.items()}
    form, same = canonical(spec, arrays), canonical(replace(spec, layers=layers), renamed)
    assert equal(form, same) and not list(differing(form, same, SAME))


# Spellings that are seen through

SPELLINGS: dict[str, tuple[ModelSpec, ModelSpec]] = {
    "dropout": (chain(ReLU(name="a")), chain(ReLU(name="a"), Dropout(name="d"))),
    "times 1, plus 0": (chain(ReLU(name="a")), chain(Power(name="p"), ReLU(name="a"), Power(name="q"))),
    "a factor and a term of all": (
        chain(Power(name="p", scale=3, shift=2)),
        chain(Power(name="p", scale=3), Power(name="q", shift=2)),
    ),
    "bounds one by one": (
        chain(Unary(name="u", function="clip", numbers=(-1, 0.5))),
        chain(
            Unary(name="u", function="clip", numbers=(LOWEST, 0.5)),
            Unary(name="v", function="clip", numbers=(-1, -LOWEST)),
        ),
    ),
    "a bound of zero": (
        chain(ReLU(name="a")),
        chain(Unary(name="u", function="clip", numbers=(0, -LOWEST))),
    ),
    "factors of a sum": (
        chain(ReLU(name="q"), Eltwise(name="e", inputs=("in0", "q"), coeffs=(1, -2))),
        chain(ReLU(name="q"), Power(name="p", scale=-2), Eltwise(name="e", inputs=("p", "in0"))),
    ),
    "turned twice": (
        chain(ReLU(name="a")),
        chain(Power(name="p", scale=-1), Power(name="q", scale=-1), ReLU(name="a")),
    ),
    "a ReLU of a ReLU": (chain(ReLU(name="a")), chain(ReLU(name="a"), ReLU(name="b"))),
    "rounding that changes no size": (
        chain(Pool(name="p", mode="max", kernel=(2, 1), stride=(2, 1))),
        chain(Pool(name="p", mode="max", kernel=(2, 1), stride=(2, 1), rounding="floor")),
    ),
    "a whole image, as a window": (
        chain(Pool(name="p", mode="ave", global_pool=True)),
        chain(Pool(name="p", mode="ave", kernel=(6, 5), stride=(3, 2))),
    ),
    "a stride that is never gone": (
        chain(Conv(name="c", out_channels=2, kernel=(6, 4), stride=(1, 1))),
        chain(Conv(name="c", out_channels=2, kernel=(6, 4), stride=(5, 1))),
    ),
    "a flatten before a dense layer": (
        chain(Dense(name="c", out_features=3)),
        chain(Flatten(name="f"), Dense(name="c", out_features=3)),
    ),
    "axes counted from the end": (chain(Softmax(name="s", axis=1)), chain(Softmax(name="s", axis=-3))),
    "softmax of rows": (
        chain(Softmax(name="s", axis=1), Flatten(name="f")),
        chain(Reshape(name="r", dims=(0, 4, 30)), Softmax(name="s", axis=1), Flatten(name="f")),
    ),
    "a bias of its own": (
        chain(Conv(name="c", out_channels=2, kernel=(1, 1))),
        chain(Conv(name="c", out_channels=2, kernel=(1, 1), bias=False), Bias(name="b")),
    ),
    "a factor and a term": (
        chain(Scale(name="s", bias=True)),
        chain(Scale(name="s"), Bias(name="b")),
    ),
    "another order of a sum": (
        chain(
            Power(name="p", scale=3),
            ReLU(name="q", inputs=("in0",)),
            Eltwise(name="e", inputs=("p", "q"), coeffs=(2, 5)),
        ),
        chain(
            ReLU(name="q"),
            Power(name="p", inputs=("in0",), scale=3),
            Eltwise(name="e", inputs=("q", "p"), coeffs=(5, 2)),
        ),
    ),
    "an order that moves nothing": (
        chain(Pool(name="p", mode="max", global_pool=True), Flatten(name="f")),
        chain(Pool(name="p", mode="max", global_pool=True), Permute(name="x", order=(0, 2, 3, 1)), Flatten(name="f")),
    ),
}


def numbers(spec: ModelSpec) -> dict[str, Array]:
    """The same ones for roles of one shape, whatever their layers are called."""
    return {
        name: np.random.default_rng(len(name.rpartition(".")[2])).normal(size=shape).astype(np.float32)
        for name, shape in parameter_shapes(spec).items()
    }


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_spelling_is_seen_through(name: str) -> None:
    left, right = SPELLINGS[name]
    ours, theirs = canonical(left, numbers(left)), canonical(right, numbers(right))
    assert equal(ours, theirs)
    image = {"in0": np.random.default_rng(0).normal(size=(2, 4, 6, 5))}
    one, other = (reference.forward(spec, numbers(spec), image)[spec.outputs[0]] for spec in (left, right))
    np.testing.assert_allclose(one, other)


def test_a_dense_layer_is_a_convolution_over_all_it_reads() -> None:
    conv = chain(Conv(name="c", out_channels=3, kernel=(6, 5)), Flatten(name="f"))
    dense, arrays = chain(Dense(name="c", out_features=3)), numbers(chain(Dense(name="c", out_features=3)))
    apart = {"c.weight": arrays["c.weight"].reshape(3, 4, 6, 5), "c.bias": arrays["c.bias"]}
    assert equal(canonical(dense, arrays), canonical(conv, apart))
    other = {**apart, "c.weight": apart["c.weight"].swapaxes(2, 3).reshape(3, 4, 6, 5)}
    assert not equal(canonical(dense, arrays), canonical(conv, other))


def test_what_only_looks_alike_is_not_the_same() -> None:
    """Axes of one number that stand elsewhere: the classes are along another axis then."""
    pooled = Pool(name="p", mode="max", global_pool=True)
    rows = chain(pooled, Reshape(name="r", dims=(0, 1, 4)), Softmax(name="s", axis=1), Flatten(name="f"))
    classes = chain(pooled, Softmax(name="s", axis=1), Flatten(name="f"))
    assert not equal(canonical(classes), canonical(rows))
    joined = [chain(ReLU(name="a"), Concat(name="c", inputs=order)) for order in (("in0", "a"), ("a", "in0"))]
    assert not equal(*map(canonical, joined))


# Statistics that are folded


def with_norm() -> tuple[ModelSpec, dict[str, Array], ModelSpec, dict[str, Array]]:
    """A convolution with a BatchNorm and a Scale; and as one, folded in float32."""
    left = chain(Conv(name="c", out_channels=8, kernel=(3, 3)), BatchNorm(name="n"), Scale(name="s", bias=True))
    arrays = numbers(left)
    arrays["n.variance"] = np.abs(arrays["n.variance"]) + np.float32(0.1)
    factor = arrays["s.weight"] / np.sqrt(arrays["n.variance"] + np.float32(1e-5))
    weight = arrays["c.weight"] * factor[:, None, None, None]
    bias = (arrays["c.bias"] - arrays["n.mean"]) * factor + arrays["s.bias"]
    return left, arrays, chain(left.layers[0]), {"c.weight": weight, "c.bias": bias}


def test_folded_statistics_agree_within_rounding_and_no_further() -> None:
    left, arrays, right, merged = with_norm()
    assert not equal(canonical(left, arrays), canonical(right, merged))

    def far(tensors: Mapping[str, Array]) -> float:
        one, other = folded(canonical(left, arrays)), folded(canonical(right, tensors))
        assert len(one.steps) == len(other.steps) == 1
        return nearness(one.steps[0].part.parameters, other.steps[0].part.parameters)

    assert 0 < far(merged) <= ROUNDINGS
    for role, by in (("c.weight", 1e-6), ("c.bias", 1e-6)):
        changed = merged[role].copy()
        changed.flat[3] *= np.float32(1 + by) * 2
        assert far({**merged, role: changed}) > ROUNDINGS
    negative = {**arrays, "n.variance": -arrays["n.variance"]}
    one, other = (folded(canonical(left, tensors)).steps[0].part.parameters for tensors in (arrays, negative))
    assert nearness(one, other) == np.inf
    half = merged["c.weight"].astype(np.float16).astype(np.float32)
    assert far({**merged, "c.weight": half}) > ROUNDINGS


def test_statistics_behind_something_else_are_not_folded() -> None:
    spec = chain(
        Conv(name="c", out_channels=8, kernel=(3, 3)), BatchNorm(name="n"), ReLU(name="r", inputs=("c",)),
        Concat(name="e", inputs=("n", "r")),
    )  # fmt: skip
    form = folded(canonical(spec, numbers(spec)))
    assert [step.part.key[0] for step in form.steps] == ["folded", "norm", "least", "concat"]


# In what they differ


def told(left: ModelSpec, right: ModelSpec, ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> list[str]:
    found = differing(canonical(left, ours), canonical(right, theirs), SAME)
    return [f"{item.layer}: {item.what} {item.right}, not {item.left}" for item in found]


def test_differences_are_told_where_they_are() -> None:
    spec = networks()["branching"].spec
    arrays = kinds.probe(spec)[0]
    assert told(spec, spec, arrays, arrays) == []
    changed = {name: array.copy() for name, array in arrays.items()}
    weights = next(name for name in arrays if name.endswith(".weight") and arrays[name].ndim == 4)
    changed[weights].flat[[3, 7, 11]] += 1
    (line,) = told(spec, spec, arrays, changed)
    assert line.startswith(f"{weights.partition('.')[0]}: 3 of {arrays[weights].size:,} weights differ, first at [0, ")
    bias = next(name for name in arrays if name.endswith(".bias"))
    lines = told(spec, spec, arrays, {**arrays, bias: np.zeros_like(arrays[bias])})
    assert lines == [f"{bias.partition('.')[0]}: layer absent, not bias"]
    for layer in spec.layers:
        if isinstance(layer, ReLU):
            lines = told(spec, spec.change(layer.name, negative_slope=0.1), arrays, arrays)
            assert lines and lines[0].startswith(f"{layer.name}: "), lines


def test_factors_belong_to_what_they_multiply() -> None:
    def net(order: tuple[str, ...], coeffs: tuple[float, ...]) -> ModelSpec:
        parts = Power(name="p", scale=3), ReLU(name="q", inputs=("in0",))
        return chain(*parts, Eltwise(name="e", inputs=order, coeffs=coeffs))

    right = net(("p", "q"), (2, 5))
    assert told(right, net(("q", "p"), (5, 2)), {}, {}) == []
    assert told(right, net(("q", "p"), (2, 5)), {}, {})


def test_of_any_two_networks_what_differs_is_told() -> None:
    """Something is, wherever they are not one; and nothing where they are."""
    forms = [canonical(spec, kinds.probe(spec)[0]) for spec in kinds.KINDS.values()]
    for left in forms[::3]:
        for right in forms[::2]:
            if len(left.spec.inputs) != len(right.spec.inputs) or len(left.outputs) != len(right.outputs):
                continue
            numbering = Numbering(SAME)
            ours, theirs = numbering.of(left), numbering.of(right)
            same = [ours[at] for at in left.outputs] == [theirs[at] for at in right.outputs]
            assert bool(list(differing(left, right, SAME))) != same, (left.spec.layers, right.spec.layers)
