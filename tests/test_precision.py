"""ONNX in float16 and int8: what is written, what it is judged by, and what is refused."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from converters import low_precision
from converters.cli import main
from converters.export import ExportOptions, export
from converters.low_precision import split
from converters.parity import probe_weights
from converters.weights import Weights
from tests.small import small_weights
from zoo import registry
from zoo.errors import CheckFailedError, UnknownNameError
from zoo.frameworks import onnx as runtime


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures of coloured noise, each rough or smooth."""
    folder, generator = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for i in range(12):
        pixels = generator.integers(0, 256, (4 + 5 * i, 4 + 5 * i, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((80, 80)).save(folder / f"{i:02}.png")
    return folder


@pytest.fixture(scope="module")
def weights() -> Weights:
    return probe_weights(registry.model("alexnet_mini"))


def kinds_of(path: Path) -> dict[str, str]:
    """Tensor -> its type, as the checker infers it."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True)
    onnx.checker.check_model(model, full_check=True)
    values = [*model.graph.value_info, *model.graph.input, *model.graph.output]
    return {value.name: onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type) for value in values}


@pytest.mark.parametrize("fast_lrn", [False, True], ids=["plain", "fast LRN"])
def test_float16_but_for_what_leaves_its_range(
    fast_lrn: bool, weights: Weights, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    export(weights, str(tmp_path / "a.onnx"), ExportOptions(verify=False, fast_lrn=fast_lrn))
    with caplog.at_level(logging.INFO):
        export(weights, str(tmp_path / "b.onnx"), ExportOptions(precision="fp16", fast_lrn=fast_lrn))
    assert "error a layer (budget 0.003 of its peak): conv1 " in caplog.text and "fc8 " in caplog.text
    assert "no picture was shown to it" in caplog.text
    assert (tmp_path / "b.onnx").stat().st_size < 0.53 * (tmp_path / "a.onnx").stat().st_size
    kinds, model = kinds_of(tmp_path / "b.onnx"), onnx.load(tmp_path / "b.onnx")
    assert kinds["data"] == kinds["prob"] == "FLOAT" and kinds["conv1"] == kinds["fc8"] == "FLOAT16"
    inner = {name for node in model.graph.node if node.name.startswith("norm1/") for name in node.output}
    arithmetic = {name for name in inner if kinds.get(name) == "FLOAT"}
    assert len(arithmetic) > (5 if fast_lrn else 0), "the squares of a normalisation are no numbers of float16"
    assert {tensor.data_type for tensor in model.graph.initializer if ".weight" in tensor.name} == {10}


def test_float16_that_overflows_is_not_written(weights: Weights, tmp_path: Path) -> None:
    loud = {name: array * np.float32(3e3 if name == "conv3.weight" else 1) for name, array in weights.tensors.items()}
    with pytest.raises(CheckFailedError, match=r"float16 misses its budget at conv3: NaN or Inf; nothing was written"):
        export(
            Weights(spec=weights.spec, tensors=loud, source="loud"),
            str(tmp_path / "b.onnx"),
            ExportOptions(precision="fp16"),
        )
    assert not [*tmp_path.iterdir()]


def test_int8_is_calibrated_and_judged_on_pictures(
    weights: Weights, pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    how = ExportOptions(precision="int8", calibrate=pictures)
    with caplog.at_level(logging.INFO):
        export(weights, str(tmp_path / "b.onnx"), how)
    assert "top-1 agreement with the reference 100.0% of 3 pictures held back, 99% asked" in caplog.text
    assert "joined with what follows them: conv1, conv2, conv3, conv4, conv5, fc6, fc7" in caplog.text
    assert "pre-processing" not in caplog.text
    model = onnx.load(tmp_path / "b.onnx")
    kinds = {tensor.name: (tensor.data_type, list(tensor.dims)) for tensor in model.graph.initializer}
    assert kinds["conv2.weight_quantized"][0] == onnx.TensorProto.INT8
    assert kinds["conv2.weight_scale"][1] == [weights.spec.layer("conv2").out_channels]  # type: ignore[attr-defined]
    assert {entry.key: entry.value for entry in model.metadata_props} == runtime.graph(weights.spec).metadata
    assert kinds_of(tmp_path / "b.onnx")["prob"] == "FLOAT"
    export(weights, str(tmp_path / "again.onnx"), how)
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_int8_of_wrong_ranges_is_not_written(
    weights: Weights, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = low_precision.write_int8

    def faint(source: Path, target: Path, batches: Any) -> None:
        whole(source, target, ({name: array * np.float32(0.1) for name, array in fed.items()} for fed in batches))

    monkeypatch.setattr("converters.export.write_int8", faint)
    with pytest.raises(CheckFailedError, match=r"int8 misses its budget at \w+: error .*; nothing was written"):
        export(weights, str(tmp_path / "b.onnx"), ExportOptions(precision="int8", calibrate=pictures))
    assert not [*tmp_path.iterdir()]


def test_agreement_alone_can_miss_the_budget(
    weights: Weights, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("converters.parity.reduced.LEAST_AGREEMENT", 1.01)
    with pytest.raises(CheckFailedError, match=r"top-1 agreement 100\.0% of 3 pictures, at least 101% asked"):
        export(weights, str(tmp_path / "b.onnx"), ExportOptions(precision="fp16", calibrate=pictures))


def test_every_fourth_picture_is_held_back() -> None:
    paths = [Path(str(i)) for i in range(10)]
    calibration, held = split(paths)
    assert [path.name for path in held] == ["3", "7"] and sorted(calibration + held) == sorted(paths)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("-o b.onnx --precision fp61", "unknown --precision 'fp61'; did you mean fp16"),
        ("-o b.onnx --precision int8", "--precision int8 needs --calibrate DIR"),
        ("-o b.onnx --precision int8 --calibrate nowhere", "nowhere: no such folder of images"),
        ("-o b.onnx --precision int8 --calibrate empty", "empty: holds no image"),
        ("-o b.onnx --precision int8 --calibrate few", "few: holds 2 pictures; --precision int8 needs at least 8"),
        ("-o b.onnx --precision int8 --calibrate PICTURES --opset 11", "needs operator set 13 or newer, not 11"),
        ("-o b.onnx --calibrate PICTURES", "--calibrate goes with --precision int8 or fp16"),
        ("-o b.tflite --precision fp16", "--precision are for .onnx targets"),
        ("-o b.pb --precision int8 --calibrate PICTURES", "--precision are for .onnx targets"),
    ],
)
def test_what_users_ask_wrongly(
    arguments: str,
    said: str,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "few").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / "few" / name)
    assert main(["export", "a.safetensors", *arguments.replace("PICTURES", str(pictures)).split()]) == 2
    told = capsys.readouterr().err
    assert told.startswith("zoo: ") and said in told and told.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "few"}


def test_an_unknown_precision_is_refused_in_programs_too(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown precision 'int4'"):
        export(small_weights(), str(tmp_path / "b.onnx"), ExportOptions(precision="int4"))
