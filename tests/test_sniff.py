"""What a file is, told by its bytes: every writer's own file under any name, in every command."""

import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from converters.cli import main
from converters.convert import load, same_bits, save
from converters.formats import format_name
from converters.sniff import sniffed
from converters.weights import Weights
from tests.small import small_weights
from zoo.errors import FileFormatError, ZooError
from zoo.frameworks import pytorch
from zoo.frameworks.caffe import deploy_text

WRITTEN = {
    "w.safetensors": "safetensors",
    "w.pt": "pytorch",
    "w.caffemodel": "caffe",
    "w.onnx": "onnx",
    "w.npy": "numpy",
    "w.npz": "numpy",
}


@pytest.fixture(scope="module")
def weights() -> Weights:
    return small_weights("alexnet_mini")


def same(one: Weights, other: Weights) -> bool:
    return all(same_bits(np.asarray(one.tensors[name]), np.asarray(other.tensors[name])) for name in other.tensors)


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("called", ["noname", "w.pth.tar", "w.ckpt", "w.caffemodel", "w.onnx"])
def test_a_renamed_file_is_what_it_was(tmp_path: Path, weights: Weights, name: str, called: str) -> None:
    save(weights, tmp_path / name)
    (tmp_path / "theirs").mkdir()
    theirs = (tmp_path / name).rename(tmp_path / "theirs" / called)
    assert format_name(theirs) == WRITTEN[name]
    assert same(load(theirs, spec=weights.spec), weights)


def test_the_old_format_of_pytorch_needs_no_suffix(tmp_path: Path, weights: Weights) -> None:
    state = pytorch.state_dict(weights.spec, weights.tensors)
    torch.save(state, tmp_path / "epoch=3.ckpt", _use_new_zipfile_serialization=False)
    assert sniffed(tmp_path / "epoch=3.ckpt") == "pytorch"
    assert same(load(tmp_path / "epoch=3.ckpt", spec=weights.spec), weights)


def test_every_command_reads_a_file_of_any_name(
    tmp_path: Path, weights: Weights, capsys: pytest.CaptureFixture[str]
) -> None:
    save(weights, tmp_path / "w.pt")
    theirs = str((tmp_path / "w.pt").rename(tmp_path / "checkpoint.pth.tar"))
    (tmp_path / "net.prototxt").write_text(deploy_text(weights.spec))
    network = ("--prototxt", str(tmp_path / "net.prototxt"))
    assert main(["convert", theirs, *network, "-o", str(tmp_path / "w.npz")]) == 0
    assert main(["export", theirs, *network, "-o", str(tmp_path / "w.onnx"), "--no-verify"]) == 0
    assert main(["verify", theirs, str(tmp_path / "w.npz"), *network]) == 0
    assert main(["eval", theirs, *network, "--data", "digits"]) == 0
    assert "PASSED" in capsys.readouterr().out


def test_the_folder_of_a_checkpoint_is_its_last_one(tmp_path: Path, weights: Weights) -> None:
    save(weights, tmp_path / "model.ckpt-7.ckpt")
    assert same(load(tmp_path, spec=weights.spec), weights)  # there is no other
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/elsewhere/model.ckpt-7.ckpt"\n')
    assert same(load(tmp_path, spec=weights.spec), weights)
    (tmp_path / "checkpoint").write_text("nothing\n")
    with pytest.raises(FileFormatError, match=r"checkpoint\.index: no such file"):
        load(tmp_path, spec=weights.spec)


def test_a_saved_model_is_its_variables(tmp_path: Path, weights: Weights) -> None:
    (tmp_path / "saved" / "variables").mkdir(parents=True)
    save(weights, tmp_path / "saved" / "variables" / "variables.ckpt")
    for path in (tmp_path / "saved" / "variables").iterdir():
        path.rename(path.with_name(path.name.replace("variables.ckpt", "variables")))
    assert same(load(tmp_path / "saved", spec=weights.spec), weights)
    shutil.rmtree(tmp_path / "saved" / "variables")
    with pytest.raises(ZooError, match="is a folder without a checkpoint in it"):
        load(tmp_path / "saved", spec=weights.spec)


def in_parts(folder: Path, state: dict[str, torch.Tensor], suffix: str) -> Path:
    """A model's folder as Hugging Face's libraries save it."""
    folder.mkdir()
    stem, write = ("model", save_file) if suffix == "safetensors" else ("pytorch_model", torch.save)
    places = {name: f"{stem}-0000{1 + i % 2}-of-00002.{suffix}" for i, name in enumerate(state)}
    for place in set(places.values()):
        write({name: tensor for name, tensor in state.items() if places[name] == place}, folder / place)
    index = folder / f"{stem}.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 9}, "weight_map": places}, indent=2))
    return index


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_an_index_is_what_its_files_hold_together(tmp_path: Path, weights: Weights, suffix: str) -> None:
    state = pytorch.state_dict(weights.spec, weights.tensors)
    index = in_parts(tmp_path / "hf", state, suffix)
    for path in (index, index.parent):
        assert same(load(path, spec=weights.spec), weights)
    part = next(index.parent.glob("*-00002-*"))
    text = index.read_text()
    index.write_text(text.replace("-00001-", "-00002-", 1))
    with pytest.raises(FileFormatError, match=rf"{part.name}: holds no conv1\.weight, which {index.name} lists in it"):
        load(index, spec=weights.spec)
    for wrong in (text.replace(part.name, "../hf/" + part.name), text.replace("-00001-", "-00003-")):
        index.write_text(wrong)
        with pytest.raises(FileFormatError, match="expected a file in the same folder"):
            load(index, spec=weights.spec)
    index.write_text(text[:-9])
    with pytest.raises(FileFormatError, match="no sound index"):
        load(index, spec=weights.spec)


def test_a_model_s_folder_is_its_file(tmp_path: Path, weights: Weights) -> None:
    (tmp_path / "config.json").write_text("{}")
    save(weights, tmp_path / "model.safetensors")
    assert same(load(tmp_path), weights)


def test_folders_and_archives_of_other_things_are_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("inner/w.pth", "")
    with pytest.raises(FileFormatError, match=r"is a zip archive of inner/w\.pth"):
        load(tmp_path / "w.pth")
    torch.export.save(torch.export.export(torch.nn.Linear(2, 3), (torch.zeros(1, 2),)), tmp_path / "w.pt2")
    with pytest.raises(FileFormatError, match=r"is a program of torch\.export"):
        load(tmp_path / "w.pt2")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / ".metadata").write_bytes(b"\x80\x02.")
    with pytest.raises(FileFormatError, match="dcp_to_torch"):
        load(tmp_path / "parts")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"", "the file is empty"),
        (b"\n <!DOCTYPE HTML><title>Sign in</title>", "a web page"),
        (b"<html>", "a web page"),
        (b"\xef\xbb\xbf<!doctype html>", "a web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "a server's answer"),
        (b'{"error":"Repository not found"}', "a server's answer"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"Rar!\x1a\x07", "RAR"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"BZh9", "bzip2"),
        (bytes(257) + b"ustar\x0000", "tar archive"),
        (b"Entry not found", r"is a text \(Entry not found\)"),
        (pickle.dumps({"conv1": [1.0]}), "a pickle of Python's own"),
        (b"\x1c\0\0\0TFL3", "LiteRT"),
        (b"\x08\x01\x10\x01\x18\x01\x20\x01\x2a\x04\0\0\0\0", "give it with --mean"),
        (b"\x3a\x03\x0a\x01\x01\x2a\x04\0\0\0\0", "give it with --mean"),
        (b"\x0a\x03\x0a\x01a\x22\x02\x08\x01", "a graph of TensorFlow"),
        (b"\x0a\x03\x0a\x01a\x12\0", "a graph of TensorFlow"),  # frozen
        (b'# of 2015\n\nname: "VGG"\nlayer {', "a network without weights; give its .caffemodel, and this with"),
        (b"\x08\xf4\x03\x12\x0ca.caffemodel\x1a\x02\x28\x00", "solver's state"),
    ],
)
def test_what_is_no_weights_is_called_by_its_name(tmp_path: Path, content: bytes, told: str) -> None:
    for name in ("a.pth", "a"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FileFormatError, match=told) as caught:
            load(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_saved_model_that_lost_its_variables_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01\x12\x02\x0a\0")
    for path in (tmp_path, tmp_path / "saved_model.pb"):
        with pytest.raises(FileFormatError, match="a SavedModel without the folder variables"):
            load(path)


def test_a_pipe_is_called_one(tmp_path: Path) -> None:
    for name in ("a.pth", "a"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(FileFormatError, match="is no regular file"):
            load(tmp_path / name)


@pytest.mark.parametrize("content", [b"\0", b"PK\x03\x04", b"\x08", b"\x0a\x02", b"\xff" * 600])
def test_bytes_that_tell_nothing_leave_it_to_the_suffix(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    assert sniffed(tmp_path / "a.onnx") is None
    assert format_name(tmp_path / "a.onnx") == "onnx"
    assert format_name(tmp_path / "a.onnx", "caffe") == "caffe"
