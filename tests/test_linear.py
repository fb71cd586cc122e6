"""Ten times the input takes ten times the time, in every reader, writer and source; and memory in proportion."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from converters import load, save
from converters.parity import probe_weights
from converters.weights import Weights
from tests.cost import assert_in_proportion
from zoo import show, spec_json
from zoo.api import generate
from zoo.errors import ZooError
from zoo.frameworks.caffe import read_prototxt
from zoo.frameworks.keras.naming import variables as keras_variables
from zoo.frameworks.tf_slim.naming import variables as slim_variables
from zoo.layers import Conv, Input, ModelSpec, PriorBox, ReLU
from zoo.shapes import prior_ratios
from zoo.svg import svg
from zoo.wire.protobuf import integer, message

FEW, MANY = 60, 600


@cache
def _weights(count: int) -> Weights:
    layers = [
        layer
        for i in range(count // 2)
        for layer in (Conv(name=f"c{i}", out_channels=2, kernel=(1, 1)), ReLU(name=f"r{i}"))
    ]
    data = Input(name="data", shape=(2, 4, 4))
    return probe_weights(ModelSpec(name="net", title="net", inputs=(data,), layers=tuple(layers)))


def _is_linear(work: Callable[[int], Any]) -> None:
    assert_in_proportion(work, FEW, MANY)


@pytest.mark.parametrize("suffix", ["safetensors", "caffemodel", "onnx", "pt", "npz", "npy", "ckpt", "keras", "h5"])
def test_a_format_is_written_and_read(tmp_path: Path, suffix: str) -> None:
    _is_linear(lambda count: save(_weights(count), tmp_path / f"{count}.{suffix}", force=True))
    is_described = suffix in ("safetensors", "caffemodel", "onnx", "npz")
    spec = (lambda _: None) if is_described else (lambda count: _weights(count).spec)
    _is_linear(lambda count: load(tmp_path / f"{count}.{suffix}", spec=spec(count)))


@pytest.mark.parametrize("framework", ["pytorch", "tf_slim", "caffe", "onnx", "keras"])
def test_a_source_is_generated(tmp_path: Path, framework: str) -> None:
    _is_linear(lambda count: generate(_weights(count).spec, framework, tmp_path / str(count)))


def test_the_variables_of_a_framework_are_named() -> None:
    for variables in (keras_variables, slim_variables):
        assert_in_proportion(lambda count, named=variables: named(_weights(count).spec), 300, 3000)


def _turned(count: int) -> ModelSpec:
    spec = _weights(count).spec
    layers = tuple(ReLU(name=layer.name) for layer in spec.layers)
    return ModelSpec(name="turned", title="net", inputs=spec.inputs, layers=layers[::-1])


def test_a_network_is_told_drawn_and_compared(tmp_path: Path) -> None:
    for count in (FEW, MANY):
        (text,) = [
            path
            for path in generate(_weights(count).spec, "caffe", tmp_path / str(count))
            if path.name == "deploy.prototxt"
        ]
        text.rename(tmp_path / f"{count}.prototxt")
    _is_linear(lambda count: read_prototxt(tmp_path / f"{count}.prototxt"))
    _is_linear(lambda count: spec_json.loads(spec_json.dumps(_weights(count).spec)))
    _is_linear(lambda count: show.show_text(_weights(count).spec))
    _is_linear(lambda count: svg(_weights(count).spec))
    _is_linear(lambda count: show.diff_text(_weights(count).spec, _turned(count)))


def test_the_ratios_of_prior_boxes_are_told_apart() -> None:
    def boxes(count: int) -> PriorBox:
        return PriorBox(name="p", min_sizes=(1.0,), ratios=tuple(1 + i / 7 for i in range(count)), inputs=("a", "b"))

    assert prior_ratios(boxes(4)) == pytest.approx([1, 8 / 7, 7 / 8, 9 / 7, 7 / 9, 10 / 7, 7 / 10])
    assert prior_ratios(PriorBox(name="p", min_sizes=(1.0,), ratios=(2.0, 0.5, 2.0000001), inputs=("a", "b"))) == [
        1,
        2,
        0.5,
    ]
    assert_in_proportion(lambda count: prior_ratios(boxes(count)), 600, 6000)


SIZE = 30_000
# Records that hold nothing, two bytes each.
EMPTY = {
    "layers.caffemodel": lambda: message(100, b"") * (SIZE // 3),
    "old layers.caffemodel": lambda: message(2, b"") * (SIZE // 2),
    "blobs.caffemodel": lambda: message(100, message(1, b"x") + message(7, b"") * (SIZE // 2)),
    "nodes.onnx": lambda: integer(1, 8) + message(7, message(1, b"") * (SIZE // 2)),
    "weights.onnx": lambda: integer(1, 8) + message(7, message(5, b"") * (SIZE // 2)),
    "attributes.onnx": lambda: integer(1, 8) + message(7, message(1, message(5, b"") * (SIZE // 2))),
    "functions.onnx": lambda: integer(1, 8) + message(25, b"") * (SIZE // 3) + message(7, b""),
}


@pytest.mark.parametrize("name", EMPTY)
def test_empty_records_cost_little_memory(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(EMPTY[name]())
    with pytest.raises(ZooError):  # also loads what the reader needs
        load(path)
    tracemalloc.start()
    try:
        with pytest.raises(ZooError):
            load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * SIZE + 200_000
