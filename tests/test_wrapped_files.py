"""A folder of one AlexNet, wrapped as people wrap it: one loop converts all of it, with no flag."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel

from converters.cli import main
from converters.convert import load, save
from converters.formats import matconvnet
from converters.parity import probe_weights
from converters.tensormap import to_native
from converters.weights import Array, Weights
from tests.small import shrink, small_weights
from zoo.frameworks.pytorch import build, state_dict
from zoo.registry import model
from zoo.wire.protobuf import FIXED32, integer, message, tag
from zoo.wire.table import crc32c, masked, write_table

io: Any = pytest.importorskip("scipy.io")

State = dict[str, torch.Tensor]


def bfloat16(tensor: Array) -> Array:
    """The nearest numbers that every type in the folder can hold."""
    return torch.from_numpy(np.array(tensor)).bfloat16().float().numpy()


@pytest.fixture(scope="module")
def weights() -> Weights:
    spec = model("alexnet_mini")  # whose shapes no other member has
    drawn = probe_weights(spec, seed=4).tensors
    return Weights(spec=spec, tensors={name: bfloat16(tensor) for name, tensor in drawn.items()}, source="probe")


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def in_blocks(state: State) -> State:
    return {("classifier." if name[0] == "f" else "features.") + name: tensor for name, tensor in state.items()}


def numbered(state: State) -> State:
    """As a Sequential numbers its layers, LRN and ReLU among them."""
    places = iter((0, 4, 8, 10, 12, 16, 19, 22))
    layers = {name: str(next(places)) for name in dict.fromkeys(key.partition(".")[0] for key in state)}
    return {f"{layers[key.partition('.')[0]]}.{key.partition('.')[2]}": tensor for key, tensor in state.items()}


def averaged(weights: Weights) -> State:
    return AveragedModel(build(weights.spec, weights.tensors)).state_dict()


TORCH: dict[str, Callable[[State], Any]] = {
    "plain.pt": lambda state: state,
    "script.pth.tar": lambda state: {
        "epoch": 90,
        "arch": "alexnet",
        "state_dict": prefixed(state, "module."),
        "best_acc1": torch.tensor(56.5),
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.01}]},
    },
    "model.pth": lambda state: {"model": state, "args": {"lr": 0.1}},
    "net.bin": lambda state: {"net": prefixed(state, "_orig_mod."), "acc": 93.1, "epoch": 199},
    "lightning.ckpt": lambda state: {
        "state_dict": prefixed(state, "model."),
        "pytorch-lightning_version": "2.4.0",
        "epoch": 3,
        "global_step": 12,
        "callbacks": {},
        "loops": {},
        "hparams_name": "kwargs",
    },
    "twice": lambda state: {"state_dict": {"model": prefixed(state, "module._orig_mod.")}},
    "blocks.pt": in_blocks,
    "sequential.pth": numbered,
    "timm.pth.tar": lambda state: {
        "epoch": 3,
        "args": argparse.Namespace(model="alexnet", lr=0.1),
        "state_dict": state,
        "metric": np.float64(56.5),
        "version": 2,
    },
    "two.pth": lambda state: {"net_state_dict": state, "optim_state_dict": {"state": {}, "param_groups": []}},
    "tuple.pkl": lambda state: (90, {"my_net": state}),
    "parts.pt": lambda state: {
        "features": {name: tensor for name, tensor in state.items() if name[0] == "c"},
        "classifier": {name: tensor for name, tensor in state.items() if name[0] == "f"},
        "epoch": 3,
    },
    "flat.pth": lambda state: {**state, "epoch": 3, "best_acc1": torch.tensor(56.5)},
    "metrics.ckpt": lambda state: {
        "state_dict": {
            **prefixed(state, "net.module."),
            "train_acc.total": torch.tensor(5),
            "val_acc.mean": torch.ones(()),
        },
        "hyper_parameters": {"path": Path("/data")},
    },
    "averages.pth": lambda state: {"ema": {"decay": 0.999, "shadow": state}},
    "sorted.pt": lambda state: dict(sorted(numbered(state).items())),
    "half.pt": lambda state: {name: tensor.bfloat16() for name, tensor in state.items()},
    "double.pt": lambda state: {name: tensor.double() for name, tensor in state.items()},
}


def write_matlab(path: Path, weights: Weights) -> None:
    cells = np.empty((1, 8), object)
    native = to_native(weights, matconvnet.entries(weights.spec, None))
    for i, name in enumerate(dict.fromkeys(key.split("/")[-2] for key in native)):
        parts = [array for key, array in native.items() if key.split("/")[-2] == name]
        cells[0, i] = {"type": "conv", "name": name, "weights": np.empty((1, 2), object)}
        cells[0, i]["weights"][0, 0], cells[0, i]["weights"][0, 1] = parts[0], parts[1].reshape(1, -1)
    io.savemat(path, {"layers": cells})


def write_slices(path: Path, weights: Weights) -> None:
    """A checkpoint of variables that a partitioner of TensorFlow has cut along their first axis."""
    native = to_native(weights, matconvnet.entries(weights.spec, None))
    shard, numbers, table = Path(f"{path}.data-00000-of-00001"), b"", [(b"", integer(1, 1))]
    for name, array in native.items():
        cut, places = array.shape[0] // 2, list[bytes]()
        for start, part in ((0, array[:cut]), (cut, array[cut:])):
            if not part.size:
                continue
            content = np.ascontiguousarray(part).tobytes()
            whole = b"".join(message(1, b"") for _ in array.shape[1:])
            places.append(message(1, integer(1, start) + integer(2, len(part))) + whole)
            shape = message(2, b"".join(message(2, integer(1, size)) for size in part.shape))
            entry = integer(1, 1) + shape + integer(4, len(numbers)) + integer(5, len(content))
            crc = tag(6, FIXED32) + masked(crc32c(content)).to_bytes(4, "little")
            table.append((b"\0" + name.encode() + b"\0\1" + bytes([1, start > 0]), entry + crc))
            numbers += content
        shape = message(2, b"".join(message(2, integer(1, size)) for size in array.shape))
        table.append((name.encode(), integer(1, 1) + shape + b"".join(message(7, place) for place in places)))
    shard.write_bytes(numbers)
    Path(f"{path}.index").write_bytes(write_table(sorted(table)))


def write_snapshot(path: Path, weights: Weights) -> None:
    """What Caffe writes with ``snapshot_format: HDF5``."""
    with cast(Any, h5py).File(path, "w") as file:
        for name, tensor in weights.tensors.items():
            layer, _, role = name.partition(".")
            file[f"data/{layer}/{0 if role == 'weight' else 1}"] = np.asarray(tensor)


def write_keras(path: Path, weights: Weights) -> None:
    """A ``.weights.h5`` of Keras 3: a layer's variables are numbered."""
    native = to_native(weights, matconvnet.entries(weights.spec, None))
    with cast(Any, h5py).File(path, "w") as file:
        for key, array in native.items():
            *_, layer, kind = key.split("/")
            dense = kind == "weights" and layer.startswith("fc")
            holder = file.require_group(f"layers/{layer}")
            holder.require_group("vars")
            file[f"layers/{layer}/vars/{0 if kind == 'weights' else 1}"] = (
                array.reshape(-1, array.shape[-1]) if dense else array
            )
            holder["vars"].attrs["name"] = layer


@pytest.fixture(scope="module")
def folder(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, state = tmp_path_factory.mktemp("theirs"), state_dict(weights.spec, weights.tensors)
    for name, wrapped in TORCH.items():
        torch.save(wrapped(state), folder / name)
    torch.save(averaged(weights), folder / "averaged.pt")
    torch.save({"state_dict": state}, folder / "old.pth", _use_new_zipfile_serialization=False)
    for suffix in ("safetensors", "npz", "npy", "caffemodel", "onnx", "ckpt"):
        save(weights, folder / f"ours.{suffix}")
    (folder / "ours.prototxt").unlink()  # the caffemodel stands for itself
    shutil.move(folder / "ours.npz", folder / "renamed")
    save_file(numbered({name: tensor.contiguous() for name, tensor in state.items()}), folder / "hub.safetensors")
    write_slices(folder / "sliced.ckpt", weights)
    write_matlab(folder / "imagenet.mat", weights)
    write_snapshot(folder / "iter_100.caffemodel.h5", weights)
    write_keras(folder / "mine.weights.h5", weights)
    return folder


def test_one_loop_converts_them_all(folder: Path, weights: Weights, tmp_path: Path) -> None:
    files = sorted(path for path in folder.iterdir() if ".data-" not in path.name)
    assert len(files) >= 30
    for file in files:
        target = tmp_path / f"{file.name}.safetensors"
        assert main(["convert", str(file), "-o", str(target)]) == 0, file.name
        found = load(target)
        assert found.spec.name == weights.spec.name, file.name
        for name, tensor in weights.tensors.items():
            np.testing.assert_array_equal(np.asarray(found.tensors[name]), tensor, f"{file.name}: {name}")


def test_where_two_networks_truly_fit_one_word_is_needed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:

    small = {name: shrink(name) for name in ("bvlc_alexnet", "caffenet")}
    weights = small_weights("caffenet")
    torch.save({"state_dict": state_dict(weights.spec, weights.tensors)}, tmp_path / "w.pth.tar")
    monkeypatch.setattr("zoo.registry.models", lambda: list(small))
    monkeypatch.setattr("zoo.registry.model", small.__getitem__)
    command = ["convert", str(tmp_path / "w.pth.tar"), "-o", str(tmp_path / "w.npz")]
    assert main(command) == 2
    assert "fit several networks (bvlc_alexnet, caffenet); say which with --model" in capsys.readouterr().err
    assert main([*command, "--model", "caffenet"]) == 0
