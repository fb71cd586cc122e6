"""What a file is said to be."""

import json
import sys
from mmap import mmap
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
import pytest
import torch
from scipy.io import savemat

from converters.cli import main
from converters.convert import open_file, save
from tests.small import small_weights
from tests.test_matconvnet import cells, dag, matlab_73
from zoo import registry
from zoo.frameworks import pytorch


def test_a_stranger_s_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = small_weights("alexnet_mini")
    state = {f"module.{name}": t.half() for name, t in pytorch.state_dict(weights.spec, weights.tensors).items()}
    torch.save({"model": state, "model_ema": state, "epoch": 3}, tmp_path / "theirs.bin")
    assert main(["info", str(tmp_path / "theirs.bin"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["format"], told["averages"], told["network"]) == (1, "pytorch", True, None)
    assert told["tensors"][0] == {"name": "module.conv1.weight", "shape": [4, 3, 7, 7], "type": "float16"}
    assert told["fits"] == []
    assert set(told["misfits"]) == set(registry.models())
    assert "module.conv1.weight has shape (4, 3, 7, 7), expected" in told["misfits"]["alexnet_mini"]
    assert main(["info", str(tmp_path / "theirs.bin")]) == 0
    out = capsys.readouterr().out
    for part in ("pytorch, 16 tensors", "float16  4 x 3 x 7 x 7", "--ema", "fits: no network", "with --model"):
        assert part in out


def test_what_wrote_a_file_and_its_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = small_weights("alexnet_mini")
    state = pytorch.state_dict(weights.spec, weights.tensors)
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.4\x1b[2J"}, tmp_path / "w.ckpt")
    names = np.array([f"cat {i}" for i in range(10)], object).reshape(1, -1)
    savemat(tmp_path / "w.mat", {"layers": cells(weights, old=False), "classes": {"description": names}})
    save(weights, tmp_path / "w.onnx")
    expected = {"w.ckpt": "PyTorch Lightning 2.4?[2J", "w.mat": "MATLAB 5.0 MAT-file", "w.onnx": "alexnet-zoo"}
    for name, writer in expected.items():
        assert main(["info", str(tmp_path / name), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["writer"].startswith(writer)
        assert told["class_names"] == (list(names[0]) if name == "w.mat" else [])
    assert main(["info", str(tmp_path / "w.mat")]) == 0
    assert "classes: 10: cat 0, cat 1, cat 2, cat 3, cat 4, ..." in capsys.readouterr().out


def test_a_file_that_describes_its_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(small_weights("alexnet_mini"), tmp_path / "w.safetensors")
    assert main(["info", str(tmp_path / "w.safetensors")]) == 0
    out = capsys.readouterr().out
    assert "describes: alexnet_mini" in out and "with --model" not in out
    assert main(["info", str(tmp_path / "nothing.pt")]) == 2


# Small arrays of an .npy are copied out of its pickle, large ones are views; the others do not look at sizes.
_WRITTEN = [".safetensors", ".pt", ".ckpt", ".onnx", ".npz", ".caffemodel", ".keras", ".weights.h5", ".h5"]


@pytest.mark.parametrize("suffix", _WRITTEN)
def test_names_shapes_and_types_are_told_without_the_numbers(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"w{suffix}"
    save(small_weights("alexnet_mini"), path)
    assert_outlined(path, monkeypatch)


@pytest.mark.parametrize("suffix", [".mat", "-packed.mat", "-7.3.mat", ".pth", "-packed.npz", ".caffemodel.h5"])
def test_nor_are_they_read_of_files_of_others(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, path = small_weights("alexnet_mini"), tmp_path / f"w{suffix}"
    if suffix == "-7.3.mat":
        matlab_73(path, dag(weights))
    elif suffix.endswith(".mat"):
        savemat(path, {"layers": cells(weights, old=False)}, do_compression="packed" in suffix)
    elif suffix == ".pth":
        state = {name: t.bfloat16() for name, t in pytorch.state_dict(weights.spec, weights.tensors).items()}
        torch.save({"model": state}, path, _use_new_zipfile_serialization=False)
    elif suffix.endswith(".npz"):
        cast(Any, np).savez_compressed(path, **weights.tensors)
    else:
        with cast(Any, h5py).File(path, "w") as file:
            for name, tensor in weights.tensors.items():
                file[f"data/{name.replace('weight', '0').replace('bias', '1').replace('.', '/')}"] = tensor
    assert_outlined(path, monkeypatch)


def assert_outlined(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An outline is what the reader reads, and no array of it takes memory of its own."""
    whole = open_file(path)
    monkeypatch.setattr(sys.modules[f"converters.formats.{whole.format}"], "LARGE", 0, raising=False)
    told = open_file(path, numbers=False)
    kinds = {name: (tensor.shape, tensor.dtype) for name, tensor in whole.native.tensors.items()}
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in told.native.tensors.items()} == kinds
    assert told.misfits() == whole.misfits()
    for tensor in told.native.tensors.values():
        assert not any(tensor.strides) or is_mapped(tensor)


def is_mapped(array: Any) -> bool:
    """Whether an array is a view of a file, of which nothing was read."""
    while isinstance(array, np.ndarray | memoryview):
        array = array.base if isinstance(array, np.ndarray) else array.obj
    return isinstance(array, mmap)
