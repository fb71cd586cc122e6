"""A network that real Caffe trained: its files, both dialects, through every framework, against Caffe's activations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from converters.convert import load, same_bits, save
from converters.exporters.caffe import export_onnx
from converters.formats.caffe import read_mean
from zoo import reference, registry
from zoo.frameworks.caffe import read_prototxt
from zoo.frameworks.onnx import run

BUDGET = 1e-5


def check(outputs: dict[str, np.ndarray], folder: Path) -> None:
    with np.load(folder / "layers.npz") as expected:
        assert list(outputs) == [name for name in expected if name != "data"]
        for name, got in outputs.items():
            want = expected[name]
            assert got.shape == want.shape
            assert np.abs(got - want).max() <= BUDGET * np.abs(want).max(), name


@pytest.mark.parametrize("framework", ["reference", "pytorch", "tf_slim", "onnx", "caffe"])
@pytest.mark.parametrize("dialect", ["", "_v1"])
def test_every_activation_is_caffes(framework: str, dialect: str, mini_alexnet: Path) -> None:
    spec = read_prototxt(mini_alexnet / f"deploy{dialect}.prototxt").spec
    weights = load(mini_alexnet / f"mini_alexnet{dialect}.caffemodel", spec=spec)
    images = np.load(mini_alexnet / "layers.npz")["data"]
    subject = reference if framework == "reference" else registry.framework(framework)
    check(subject.forward(spec, weights.tensors, {"data": images}), mini_alexnet)


def test_caffe2onnx_too(mini_alexnet: Path, tmp_path: Path) -> None:
    spec = read_prototxt(mini_alexnet / "deploy.prototxt").spec
    weights = load(mini_alexnet / "mini_alexnet.caffemodel", spec=spec)
    export_onnx(weights, tmp_path / "mini.onnx", every_activation=True)
    check(run(tmp_path / "mini.onnx", {"data": np.load(mini_alexnet / "layers.npz")["data"]}, None), mini_alexnet)


def test_both_dialects_hold_one_network_and_one_set_of_numbers(mini_alexnet: Path) -> None:
    current, old = (read_prototxt(mini_alexnet / f"deploy{dialect}.prototxt").spec for dialect in ("", "_v1"))
    assert current.layers == old.layers and current.inputs == old.inputs
    a, b = (load(mini_alexnet / f"mini_alexnet{dialect}.caffemodel", spec=current) for dialect in ("", "_v1"))
    assert all(same_bits(a.tensors[name], b.tensors[name]) for name in a.tensors)


def test_the_training_file_is_deployed_without_its_losses(mini_alexnet: Path) -> None:
    net = read_prototxt(mini_alexnet / "train_val.prototxt")
    assert net.spec.layers == read_prototxt(mini_alexnet / "deploy.prototxt").spec.layers[:-1]  # all but prob
    assert net.omitted == ("accuracy (Accuracy)", "loss (SoftmaxWithLoss)")
    assert net.notes == ("layer 'data' (MemoryData) became the input 'data', 3 x 67 x 67",)


def test_written_by_us_it_is_the_same_network_with_the_same_bits(mini_alexnet: Path, tmp_path: Path) -> None:
    spec = read_prototxt(mini_alexnet / "deploy.prototxt").spec
    weights = load(mini_alexnet / "mini_alexnet_v1.caffemodel", spec=spec)
    save(weights, tmp_path / "again.caffemodel")
    again = load(tmp_path / "again.caffemodel")
    assert again.spec == spec
    assert all(same_bits(again.tensors[name], weights.tensors[name]) for name in weights.tensors)


def test_the_mean_image(mini_alexnet: Path) -> None:
    mean = read_mean(mini_alexnet / "mean.binaryproto")
    assert mean.shape == (3, 67, 67) and mean.dtype == np.float32
    assert [set(np.unique(channel)) for channel in mean] == [{104.0}, {117.0}, {123.0}]
