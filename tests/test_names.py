"""Text in names, whatever it is, survives every format and source, or is refused before anything is written."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from converters import load, save
from converters.parity import probe_weights
from tests.cost import assert_in_proportion
from zoo.api import generate
from zoo.errors import CheckFailedError, UnsupportedError, ZooError
from zoo.frameworks.caffe import read_prototxt
from zoo.frameworks.tf_slim.naming import scopes
from zoo.layers import Conv, Input, ModelSpec, ReLU
from zoo.torch_names import attribute_names

NAMES = {
    **{word: word for word in ("class", "None", "self", "forward", "nan", "1", "..", "/", "a/b", "a.b", "a b", "#x")},
    **{"NUL": "a\0b", "CR": "a\rb", "LF": "a\nb", "DEL": "\x7f", "NEL": "a\x85b", "LS": "a\u2028b"},
    **{"quotes": 'a"""b\'c', "octal": "\\303\\251", "backslash": "a\\", "braces": "{x}", "Latin": "é", "Han": "卷积"},
}
SUFFIXES = ("safetensors", "caffemodel", "onnx", "pt", "npz", "npy", "ckpt")
# What describes its network itself.
DESCRIBED = ("safetensors", "caffemodel", "onnx")


def _spec(name: str, *, of_layer: bool) -> ModelSpec:
    conv = Conv(name=name if of_layer else "conv", out_channels=2, kernel=(3, 3))
    words = "net" if of_layer else name
    data = Input(name="data", shape=(1, 5, 5))
    return ModelSpec(name=words, title=words, inputs=(data,), layers=(conv, ReLU(name="relu")))


@pytest.mark.parametrize("of_layer", [True, False], ids=["layer", "network"])
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_name_survives_every_format_or_is_refused(tmp_path: Path, name: str, of_layer: bool) -> None:
    spec = _spec(name, of_layer=of_layer)
    weights = probe_weights(spec)
    for suffix in SUFFIXES:
        folder = tmp_path / suffix
        folder.mkdir()
        try:
            save(weights, folder / f"x.{suffix}")
        except UnsupportedError as error:
            assert "\0" in name and suffix == "npz" and "NUL" in str(error)
            assert not list(folder.iterdir())
            continue
        back = load(folder / f"x.{suffix}", spec=None if suffix in DESCRIBED else spec)
        assert [layer.name for layer in back.spec.layers] == [layer.name for layer in spec.layers], suffix
        assert {key: array.tobytes() for key, array in back.tensors.items()} == {
            key: array.tobytes() for key, array in weights.tensors.items()
        }


@pytest.mark.parametrize("of_layer", [True, False], ids=["layer", "network"])
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_name_survives_in_every_source(tmp_path: Path, name: str, of_layer: bool) -> None:
    spec = _spec(name, of_layer=of_layer)
    for framework in ("pytorch", "tf_slim", "caffe", "onnx"):
        for path in generate(spec, framework, tmp_path):
            if path.suffix == ".py":
                tree = ast.parse(path.read_bytes())
                # No statement came out of a name: a docstring, imports, definitions, and what is set of them.
                assert all(
                    isinstance(
                        node, ast.Expr | ast.Import | ast.ImportFrom | ast.ClassDef | ast.FunctionDef | ast.Assign
                    )
                    for node in tree.body
                )
            elif path.name in ("deploy.prototxt", "train_val.prototxt"):
                assert spec.layers[0].name in [layer.name for layer in read_prototxt(path).spec.layers]


def test_a_network_that_reads_back_differently_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tensors alone would be right."""
    spec = _spec("conv1", of_layer=True)
    text = "converters.formats.caffe.deploy_text"
    other = _spec("conv2", of_layer=True)
    from zoo.frameworks.caffe import deploy_text  # noqa: PLC0415

    monkeypatch.setattr(text, lambda _: deploy_text(other))
    with pytest.raises((CheckFailedError, ZooError)):
        save(probe_weights(spec), tmp_path / "x.caffemodel")
    monkeypatch.setattr(text, lambda _: "layer { name: 'half")
    with pytest.raises(ZooError):
        save(probe_weights(spec), tmp_path / "x.caffemodel")
    assert not list(tmp_path.iterdir())


def _alike(count: int) -> ModelSpec:
    """Layers whose names all collapse to one identifier."""
    layers = [ReLU(name="层" * 3 + chr(0x4E00 + i % 20_000) + chr(0x4E00 + i // 20_000)) for i in range(count)]
    return ModelSpec(name="net", title="net", inputs=(Input(name="data", shape=(1, 2, 2)),), layers=tuple(layers))


@pytest.mark.parametrize("named", [attribute_names, scopes], ids=["pytorch", "tf_slim"])
def test_names_that_collapse_to_one_identifier_cost_no_more_than_others(named: Any) -> None:
    specs = {count: _alike(count) for count in (1000, 10_000)}
    assert all(len(set(named(spec).values())) >= count for count, spec in specs.items())
    assert_in_proportion(lambda count: named(specs[count]), *specs)
