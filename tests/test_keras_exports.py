"""Keras' own exporter: its ONNX, SavedModel and .tflite hold the network that went in, or are refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("keras")
onnx: Any = pytest.importorskip("onnx")

from converters.export import ExportOptions, export  # noqa: E402
from converters.exporters import keras as exporter  # noqa: E402
from converters.weights import Weights  # noqa: E402
from tests.kinds import KINDS, TWINS, assert_same, merged, probe  # noqa: E402
from tests.small import small_weights  # noqa: E402
from zoo import reference  # noqa: E402
from zoo.errors import UnknownNameError, UnsupportedError, ZooError  # noqa: E402
from zoo.frameworks import onnx as runtime  # noqa: E402
from zoo.layers import ArgMax, Constant, Crop, DetectionOutput, ModelSpec, PriorBox, PSROIPool, ROIPool, Unpool  # noqa: E402

SMALL = small_weights()
CASES = KINDS | TWINS


def refusal(spec: ModelSpec) -> str | None:
    """What Keras cannot write of a network as ONNX, if it cannot."""
    for layer in reversed(spec.layers):  # what the sizes of others are read for is refused first
        match layer:
            case ArgMax():
                return "Sort"
            case Unpool():
                return "take_along_dim"
            case ROIPool() | PSROIPool() | DetectionOutput():
                return "aten::ravel"
            case PriorBox() | Constant(inputs=()):
                return "of which only the size is read"
            case Crop(axis=axis) if axis != 0:
                return "of which only the size is read"
            case _:
                pass
    return None


@pytest.mark.slow
def test_onnx_says_the_same_of_every_kind_that_it_is_not_refused_for(tmp_path: Path) -> None:
    spec = merged({name: spec for name, spec in CASES.items() if refusal(spec) is None})
    tensors, inputs = probe(spec)
    path = tmp_path / "net.onnx"
    exporter.export_onnx(Weights(spec=spec, tensors=tensors, source="probe"), path, every_activation=True)
    found = runtime.run(path, inputs, [layer.name for layer in spec.layers])
    assert_same(found, reference.forward(spec, tensors, inputs))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["argmax", "unpool", "regions", "detections", "prior boxes", "crop"])
def test_what_keras_cannot_write_as_onnx_is_refused_in_a_line(name: str, tmp_path: Path) -> None:
    spec = KINDS[name]
    weights = Weights(spec=spec, tensors=probe(spec)[0], source="probe")
    with pytest.raises(UnsupportedError, match=refusal(spec)) as caught:
        exporter.export_onnx(weights, tmp_path / "net.onnx", every_activation=False)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_every_target_is_verified_and_called_as_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tf: Any = pytest.importorskip("tensorflow")
    litert: Any = pytest.importorskip("zoo.runtimes.litert")
    inputs = {"data": probe(SMALL.spec)[1]["data"]}
    expected = {"prob": reference.forward(SMALL.spec, SMALL.tensors, inputs)["prob"]}
    by_keras, native = ExportOptions(framework="keras"), inputs["data"].transpose(0, 2, 3, 1)
    export(SMALL, str(tmp_path / "net.onnx"), by_keras)
    graph = onnx.load(tmp_path / "net.onnx").graph
    assert ([value.name for value in graph.input], [value.name for value in graph.output]) == (["data"], ["prob"])
    monkeypatch.chdir(tmp_path)  # Keras' process is where it was started
    export(SMALL, "net/", by_keras)
    served = tf.saved_model.load(str(tmp_path / "net")).signatures["serving_default"](data=tf.constant(native))
    assert_same({name: value.numpy() for name, value in served.items()}, expected)
    export(SMALL, str(tmp_path / "net.tflite"), by_keras)
    assert_same(litert.run_tflite((tmp_path / "net.tflite").read_bytes(), {"data": native}), expected)


@pytest.mark.parametrize(
    ("target", "how", "told"),
    [
        ("a.pb", {}, r"keras writes no frozen graph; it writes: onnx, tflite, SavedModel"),
        ("a.onnx", {"opset": 99}, "Keras writes opsets 9 to 20, not 99"),
        ("a.onnx", {"fast_lrn": True}, "leave out --framework"),
        ("a.onnx", {"precision": "fp16"}, "leave out --framework"),
    ],
)
def test_what_the_exporter_is_not_for_is_refused(target: str, how: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ZooError, match=told):
        export(SMALL, str(tmp_path / target), ExportOptions(framework="keras", **how))
    with pytest.raises(UnknownNameError, match="kers"):
        export(SMALL, str(tmp_path / target), ExportOptions(framework="kers", **how))
    assert not [*tmp_path.iterdir()]
