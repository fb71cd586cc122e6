"""Every kind of layer stands in every table: a new kind is run through them all, and what misses it is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast, get_args

import pytest

from converters.formats import weights_format
from tests.kinds import KINDS, net, probe
from zoo import reference, registry, spec_json
from zoo.errors import UnsupportedError
from zoo.frameworks.caffe.vocabulary import BY_TYPE, ROWS
from zoo.layers import Detecting, Layer, ModelSpec, Normalising, Pointwise, Pooling, PoolMask, Shaping, Weighted
from zoo.parameters import ROLES
from zoo.shapes import activation_shapes, layer_parameters, parameter_shapes, parameter_table

ALL = get_args(Layer)
FAMILIES = {
    "weighted": get_args(Weighted),
    "pooling": get_args(Pooling),
    "normalising": get_args(Normalising),
    "pointwise": get_args(Pointwise),
    "shaping": get_args(Shaping),
    "detecting": get_args(Detecting),
}


def networks(kind: type) -> list[ModelSpec]:
    """The cases of a kind that any framework can express."""
    return [spec for spec in KINDS.values() if any(type(layer) is kind for layer in spec.layers)]


@pytest.fixture(params=ALL, ids=[kind.__name__ for kind in ALL])
def network(request: pytest.FixtureRequest) -> ModelSpec:
    found = networks(request.param)
    assert found, f"tests/kinds.py has no network of {request.param.__name__}"
    return found[0]


def missing(table: Callable[[ModelSpec], Any], spec: ModelSpec, where: str) -> str:
    """The place that does not know a network's kind, or nothing."""
    try:
        table(spec)
    except UnsupportedError as error:
        assert any(repr(layer.name) in str(error) for layer in spec.layers), error  # known, and refused by name
    except (KeyError, AssertionError, TypeError, AttributeError) as error:
        return f"{where} ({type(error).__name__}: {error})"
    return ""


def test_every_kind_is_in_one_family_and_each_framework_has_a_file_of_the_family() -> None:
    assert sorted(kind.__name__ for kinds in FAMILIES.values() for kind in kinds) == sorted(k.__name__ for k in ALL)
    folders = [Path(registry.__file__).parent / "frameworks" / name for name in registry.frameworks()]
    folders += [Path(registry.__file__).parent / name for name in ("reference", "shapes")]
    places = [folder / f"{family}.py" for folder in folders for family in FAMILIES]
    assert [str(place) for place in places if not place.is_file()] == []


def test_every_kind_goes_through_every_table(network: ModelSpec, tmp_path: Path) -> None:
    weights, inputs = probe(network)

    tables: dict[str, Callable[[ModelSpec], Any]] = {
        "zoo/shapes": activation_shapes,
        "the parameters of zoo/shapes": parameter_table,
        "zoo/spec_json.py": lambda spec: spec_json.loads(spec_json.dumps(spec)),
        "zoo/reference": lambda spec: reference.forward(spec, weights, inputs),
        **{
            f"zoo/frameworks/{name} generates": lambda spec, name=name: registry.framework(name).generate(
                spec, tmp_path
            )
            for name in registry.frameworks()
        },
        **{
            f"converters/formats/{name}.py": lambda spec, name=name: weights_format(name).entries(spec, None)
            for name in registry.names("converters.formats")
        },
    }
    gaps = [gap for where, table in tables.items() if (gap := missing(table, network, where))]
    assert not gaps, f"{type(network.layers[-1]).__name__} is missing in: {'; '.join(gaps)}"


def test_every_kind_has_a_row_in_caffes_words_and_no_word_two() -> None:
    assert {row.kind for row in ROWS} | {PoolMask} == set(ALL)  # which is a Pool's second top
    assert len(BY_TYPE) == len(ROWS)


@pytest.mark.parametrize("spec", KINDS.values(), ids=KINDS)
def test_rows_of_parameters_tell_them_apart(spec: ModelSpec) -> None:
    shapes, wiring = activation_shapes(spec), spec.wiring()
    for layer in spec.layers:
        rows = layer_parameters(layer, [shapes[name] for name in wiring[layer.name]])
        for names in zip(*((row.role, row.torch, row.slim, row.numpy) for row in rows), strict=True):
            assert len(set(names)) == len(names)
        # Blobs are written in the order of the roles, and counted without a gap.
        assert [row.blob for row in rows] == list(range(len(rows)))
        assert [row.role for row in rows] == sorted((row.role for row in rows), key=ROLES.index)
    assert list(parameter_shapes(spec)) == list(parameter_table(spec))


def test_a_kind_that_nobody_knows_is_named_where_it_is_missing() -> None:
    stranger = net(cast(Any, _Stranger("op")))
    assert missing(activation_shapes, stranger, "zoo/shapes").startswith("zoo/shapes (")


class _Stranger:
    def __init__(self, name: str) -> None:
        self.name, self.inputs = name, ()
