"""Each extra alone, in an environment that holds nothing else: its job works; another job names the extra it needs."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from converters.convert import load, save
from converters.formats import matconvnet
from converters.formats.caffe import read_network
from converters.tensormap import to_native
from tests.environments import Done, build_wheel, environment, python, zoo
from tests.small import small_weights
from tests.test_docs import PAGES, commands
from tests.test_matconvnet import matlab_73
from zoo.registry import extras

pytestmark = pytest.mark.slow

# What only comes with a framework that no index has, or by hand.
_ELSEWHERE = {"caffe", "caffe2onnx"}

_IMPORT_ALL = """
import contextlib, importlib, os, pkgutil, zoo, converters
from zoo.registry import extras
for package in (*extras(), "tf2onnx.convert"):
    with contextlib.suppress(ImportError):
        importlib.import_module(package)
before = dict(os.environ)
for package in (zoo, converters):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as error:
                print(module.name, error.name.partition(".")[0])
assert dict(os.environ) == before, "an import sets an environment variable"
"""

# Extra -> commands that work with it alone. MINE is a caffemodel with its prototxt.
WORKS = {
    "": [
        "list",
        "list frameworks",
        "show alexnet",
        "diff alexnet caffenet",
        "convert MINE -o a.safetensors",
        "convert MINE -o a.onnx",
        "convert MINE -o a.npz",
        "convert MINE -o a.npy",
        "convert a.safetensors -o again.caffemodel",
        "convert a.onnx -o again.npz",
        "convert a.npy --prototxt deploy.prototxt -o npy.safetensors",
        "convert net.mat --prototxt deploy.prototxt -o mat.safetensors",
        "generate --prototxt deploy.prototxt --framework caffe -o source",
        "generate --prototxt deploy.prototxt --framework onnx -o source",
        "generate --prototxt deploy.prototxt --framework tf_slim -o source",
        "generate --prototxt deploy.prototxt --framework keras -o keras",
        "export MINE -o b.onnx --no-verify",
        "verify a.safetensors a.npz --prototxt deploy.prototxt --report proof.html",
    ],
    "caffe": ["verify MINE --frameworks caffe", "convert MINE -o a.onnx"],
    "onnx": [
        "export MINE -o a.onnx",
        "verify a.onnx --frameworks onnx",
        "convert MINE -o a.safetensors",
        "verify a.onnx a.safetensors",
    ],
    "openvino": ["convert MINE -o a.onnx", "verify a.onnx --runtimes openvino", "verify MINE --runtimes openvino"],
    "opencv": ["convert MINE -o a.onnx", "verify a.onnx --runtimes opencv"],
    "litert": ["export MINE -o a.tflite"],
    "pytorch": [
        "convert MINE -o again.npz",
        "convert MINE -o a.pt",
        "convert a.pt --prototxt deploy.prototxt -o again.caffemodel",
        "generate --prototxt deploy.prototxt --framework pytorch -o source",
        "verify a.pt again.npz --prototxt deploy.prototxt",
        "verify alexnet_mini --frameworks pytorch",
    ],
    "tf-checkpoint": [
        "convert MINE -o a.ckpt",
        "convert a.ckpt --prototxt deploy.prototxt -o again.caffemodel",
        "convert a.ckpt --prototxt deploy.prototxt -o again.onnx",
    ],
    "keras": [
        "convert snap.caffemodel.h5 --prototxt deploy.prototxt -o again.caffemodel",
        "convert MINE -o a.keras",
        "convert a.keras --prototxt deploy.prototxt -o keras.npz",
    ],
    "jax": ["verify alexnet_mini --frameworks keras-jax"],
    "mat": ["convert net73.mat --prototxt deploy.prototxt -o again.caffemodel"],
    "tf-slim": [
        "convert MINE -o a.ckpt",
        "verify a.ckpt --prototxt deploy.prototxt --frameworks tf_slim",
        "export MINE -o a.pb",
    ],
    "fetch": ["list weights"],
    "images": ["verify small.safetensors small.safetensors --image flower.png"],
    "train": [
        "train alexnet_mini --data digits -o run --steps 2 --batch-size 8",
        "eval run/model.safetensors --data digits",
    ],
    "completion": ["--print-completion bash"],
}

# Commands that need more than nothing -> the extra they must name.
NEEDS = {
    "convert MINE -o a.pt": "pytorch",
    "convert MINE -o a.ckpt": "tf-checkpoint",
    "convert x.ckpt --model alexnet_v2 -o a.npz": "tf-checkpoint",
    "convert snap.caffemodel.h5 --model alexnet -o a.npz": "keras",
    "convert net73.mat --model alexnet -o a.npz": "mat",
    "generate alexnet --framework pytorch -o source": "pytorch",
    "export MINE -o c.onnx": "onnx",
    "export MINE -o c.pb": "tf-slim",
    "export MINE -o c.tflite": "tf-slim",
    "export MINE -o c/": "tf-slim",
    "verify alexnet_mini --frameworks pytorch": "pytorch",
    "verify alexnet_mini --frameworks tf_slim": "tf-slim",
    "verify alexnet_mini --frameworks keras-torch": "keras",
    "verify alexnet_mini --frameworks caffe": "caffe",
    "verify alexnet_mini --frameworks onnx": "onnx",
    "verify small.safetensors small.safetensors --image flower.png": "images",
    "list weights": "fetch",
    "fetch bvlc_alexnet": "fetch",
    "info hf:someone/alexnet/model.onnx": "hub",
    "convert bvlc_alexnet -o x.npz": "fetch",
    "train alexnet_mini --data digits -o run --steps 1": "train",
    "eval small.safetensors --data digits": "train",
    "demo": "all",
    "--print-completion bash": "completion",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def files(tmp_path: Path, mini_alexnet: Path) -> Path:
    """A folder with what the commands read."""
    folder = tmp_path / "files"
    folder.mkdir()
    shutil.copy(mini_alexnet / "mini_alexnet.caffemodel", folder / "mine.caffemodel")
    shutil.copy(mini_alexnet / "deploy.prototxt", folder)
    save(small_weights(), folder / "small.safetensors")
    write_hdf5_and_mat(folder)
    Image.new("RGB", (300, 260), (200, 100, 50)).save(folder / "flower.png")
    return folder


def write_hdf5_and_mat(folder: Path) -> None:
    """The mini AlexNet as a snapshot in HDF5, and as MatConvNet has it."""
    weights = load(folder / "mine.caffemodel", spec=read_network(folder / "deploy.prototxt").spec)
    with cast(Any, h5py).File(folder / "snap.caffemodel.h5", "w") as file:
        for name, tensor in weights.tensors.items():
            file[f"data/{name.replace('weight', '0').replace('bias', '1').replace('.', '/')}"] = tensor
    layers = dict[str, list[Any]]()
    for name, tensor in to_native(weights, matconvnet.entries(weights.spec, None)).items():
        layers.setdefault(name.split("/")[-2], []).append(tensor)
    cells, pair = np.empty((1, len(layers)), object), np.empty((1, 2), object)
    for i, (layer, arrays) in enumerate(layers.items()):
        pair[0, :] = arrays
        cells[0, i] = {"name": layer, "weights": pair.copy()}
    savemat(folder / "net.mat", {"layers": cells})
    structs = [{"name": layer, "weights": arrays} for layer, arrays in layers.items()]
    matlab_73(folder / "net73.mat", {"layers": structs})


def run(site: Path, folder: Path, commands: Iterable[str]) -> list[Done]:
    mine = "mine.caffemodel --prototxt deploy.prototxt"
    done = zoo(site, folder, *(command.replace("MINE", mine) for command in commands))
    assert all("Traceback" not in answer.stderr and "internal error" not in answer.stderr for answer in done)
    return done


@pytest.mark.parametrize("extra", WORKS)
def test_the_job_of_an_extra_works_with_it_alone(extra: str, wheel: Path, files: Path) -> None:
    done = run(environment(files.parent, wheel, extra or None), files, WORKS[extra])
    for command, answer in zip(WORKS[extra], done, strict=True):
        assert answer.status == 0, f"{command}: {answer.stderr}"
        assert answer.stdout


def test_the_examples_of_the_readme_work_with_what_it_installs(wheel: Path, files: Path) -> None:
    """Proofs left out, which take their time: what they need is what `export` and `run` need."""
    readme = PAGES[0].read_text()
    (line,) = re.findall(r"^pip install '\.\[(.*?)\]'", readme, re.MULTILINE)
    shutil.copy(files / "flower.png", files / "cat.jpg")
    wanted = [" ".join(shlex.split(command, comments=True)[1:]) for command in commands(PAGES[0])]
    kinds = ("convert", "generate", "export", "run", "list", "show", "diff")
    done = run(environment(files.parent, wheel, line), files, [it for it in wanted if it.startswith(kinds)])
    assert len(done) >= len(kinds)
    assert [answer.stderr for answer in done if answer.status] == []


def test_what_does_not_work_says_what_to_install(wheel: Path, files: Path) -> None:
    (files / "x.ckpt.index").write_bytes(b"x")
    before, told = {path.name for path in files.iterdir()}, dict[str, str]()
    for command, answer in zip(NEEDS, run(environment(files.parent, wheel, None), files, NEEDS), strict=True):
        assert answer.status == 2, command
        told[command] = (answer.stdout + answer.stderr).partition("alexnet-zoo[")[2].partition("]")[0]
        if not command.startswith("verify alexnet_mini --frameworks"):  # a report, with a line for each subject
            assert answer.stdout == "", command
            assert answer.stderr.splitlines()[-1].startswith("zoo: "), command
    assert told == NEEDS
    assert {path.name for path in files.iterdir()} == before


@pytest.mark.parametrize("extra", ["", "caffe", "onnx", "tf-checkpoint", "images", "fetch", "all"])
def test_every_module_imports_or_misses_a_declared_package(extra: str, wheel: Path, tmp_path: Path) -> None:
    said = python(environment(tmp_path, wheel, extra or None), _IMPORT_ALL, tmp_path)
    missing = {package for _, package in map(str.split, said.splitlines())}
    own = {package for package, brought_by in extras().items() if brought_by == extra}
    assert missing <= {*extras(), *_ELSEWHERE}
    assert not missing & own
    assert extra != "all" or missing == _ELSEWHERE
