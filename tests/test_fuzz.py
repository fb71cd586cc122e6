"""Damaged inputs: every reader reads them or refuses them in one line; no other exception, no hang, no flood of memory.

What the damage is stands in `tests.damage`. `make damage` tries 10,000 of each; the tests themselves a few.
"""

from __future__ import annotations

import io
import random
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from converters import manifest
from converters.cli import main
from converters.convert import load, save
from converters.formats import weights_format
from converters.formats.caffe import read_mean
from converters.parity import probe_weights
from converters.tensormap import to_native
from tests import damage, test_caffe_files, test_caffe_prototxt, test_matconvnet
from zoo.errors import ZooError
from zoo.frameworks import onnx
from zoo.frameworks.caffe import deploy_text, read_prototxt
from zoo.layers import LRN, Conv, Dense, Input, ModelSpec, Pool, ReLU
from zoo.preprocess import load_image
from zoo.training.checkpoint import Checkpoint, Setting, checkpoints, load_checkpoint, save_checkpoint
from zoo.training.journal import COLUMNS, read_metrics
from zoo.training.optimiser import Progress
from zoo.wire.onnx import chunks
from zoo.wire.protobuf import integer, message, text
from zoo.wire.table import write_table

# No input is larger than this test's; twice its bytes are lost in the rest.
_MEGABYTES = 200
_SECONDS = 60
# Lists every tensor that is missing, misshapen or unknown.
_LONGEST = 20_100

SPEC = ModelSpec(
    name="tiny",
    title="a network of a few hundred bytes",
    inputs=(Input(shape=(3, 9, 9)),),
    layers=(
        Conv(name="conv1", out_channels=4, kernel=(3, 3)),
        ReLU(name="relu1"),
        LRN(name="norm1", size=3, alpha=1e-4, beta=0.75, k=2.0, towers=2),
        Pool(name="pool1", mode="max", kernel=(2, 2), stride=(2, 2)),
        Dense(name="fc2", out_features=5),
    ),
)


@dataclass(frozen=True)
class Reader:
    """A reader under test.

    Attributes:
        make: writes a good file into a folder; returns the file to damage and the read to try.
        structure: damage that knows the format.
    """

    make: Callable[[Path], tuple[Path, Callable[[], object]]]
    structure: damage.Damage


def _weights(name: str, structure: damage.Damage, *, hurt: str = "", spec: ModelSpec | None = SPEC) -> Reader:
    """A weights file; without `spec` the reader must take the network from the file itself."""

    def make(folder: Path) -> tuple[Path, Callable[[], object]]:
        save(probe_weights(SPEC), folder / name)
        return folder / (hurt or name), lambda: load(folder / name, spec=spec)

    return Reader(make, structure)


def _bytes(name: str, content: Callable[[], bytes], read: Callable[[Path], object], structure: damage.Damage) -> Reader:
    """A file of given bytes."""

    def make(folder: Path) -> tuple[Path, Callable[[], object]]:
        (folder / name).write_bytes(content())
        return folder / name, lambda: read(folder / name)

    return Reader(make, structure)


def _legacy_pth() -> bytes:
    weights, file = probe_weights(SPEC), io.BytesIO()
    state = {name: torch.from_numpy(tensor.copy()) for name, tensor in weights.tensors.items()}
    torch.save(state, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def _v1_checkpoint() -> bytes:
    """A SavedTensorSlices table (TensorFlow ``util/saved_tensor_slice.proto``)."""
    form, weights = weights_format("tf_slim"), probe_weights(SPEC)
    native = sorted(to_native(weights, form.entries(SPEC, None)).items())
    declared, items = b"", list[tuple[bytes, bytes]]()
    for name, tensor in native:
        shape = b"".join(message(2, integer(1, size)) for size in tensor.shape)
        piece = b"".join(message(1, b"") for _ in tensor.shape)
        declared += message(1, text(1, name) + message(2, shape) + integer(3, 1) + message(4, piece))
        numbers = message(5, np.ascontiguousarray(tensor).astype("<f4").tobytes())
        data = message(2, text(1, name) + message(2, piece) + message(3, integer(1, 1) + message(2, shape) + numbers))
        items.append((b"\0" + name.encode(), data))
    return write_table([(b"", message(1, declared)), *items])


def _matlab(*, packed: bool) -> Reader:
    """MatConvNet's, as scipy writes what MATLAB would."""

    def content() -> bytes:
        file, layers = io.BytesIO(), test_matconvnet.cells(probe_weights(SPEC), old=False)
        test_matconvnet.io.savemat(file, {"layers": layers}, do_compression=packed)
        return file.getvalue()

    return _bytes("w.mat", content, lambda path: load(path, spec=SPEC), damage.matlab)


def _image(suffix: str, structure: damage.Damage, **options: object) -> Reader:
    def content() -> bytes:
        pixels, file = np.random.default_rng(0).integers(0, 255, (20, 24, 3), dtype=np.uint8), io.BytesIO()
        Image.fromarray(pixels).save(file, suffix.upper(), **options)
        return file.getvalue()

    return _bytes(f"i.{suffix}", content, load_image, structure)


def _manifest() -> bytes:
    return (manifest.PATH.read_text()[:6000].rpartition("\n  - id")[0] + "\n").encode()


def _checkpoint(folder: Path) -> tuple[Path, Callable[[], object]]:
    weights = probe_weights(SPEC).tensors
    setting = Setting(
        seed=0,
        batch_size=8,
        steps=6,
        framework="pytorch",
        precision="fp32",
        recipe={},
        data={"classes": ["a"]},
        lineage=None,
    )
    state = Checkpoint(weights=weights, velocities=weights, progress=Progress(step=3, best=(0.5, 1.0)), setting=setting)
    save_checkpoint(folder, SPEC, state)
    return checkpoints(folder)[0], lambda: load_checkpoint(checkpoints(folder)[0], SPEC)


def _metrics(folder: Path) -> tuple[Path, Callable[[], object]]:
    rows = [",".join(map(str, (step, 0.5, 2.3, 0.01, 99.5, "", "", ""))) for step in range(1, 9)]
    (folder / "metrics.csv").write_text("\n".join([",".join(COLUMNS), *rows, "9,1.0,2.1,0.01,99,2.2,0.3,0.8", ""]))
    return folder / "metrics.csv", lambda: read_metrics(folder)


def _tensor_file(name: str, form: str) -> Reader:
    spec = test_caffe_files.SPEC
    content = test_caffe_files.FORMS[form]
    return _bytes(name, lambda: content, lambda path: load(path, spec=spec), damage.protobuf)


def _mean() -> bytes:
    return test_caffe_files.blob(np.ones((3, 4, 5), np.float32), legacy=True)


def _graph() -> bytes:
    """A graph that says nothing of its network but what it computes."""
    graph = replace(onnx.graph(SPEC), metadata={})
    return b"".join(chunks(graph, probe_weights(SPEC).tensors))


def _prototxt_reader(text_of: Callable[[], bytes]) -> Reader:
    return _bytes("n.prototxt", text_of, read_prototxt, damage.tokens)


READERS = {
    "safetensors": _weights("w.safetensors", damage.safetensors),
    "safetensors-spec": _weights("w.safetensors", damage.safetensors, spec=None),
    "pth": _weights("w.pth", damage.archive(damage.pickled)),
    "pth-legacy": _bytes("w.pth", _legacy_pth, lambda path: load(path, spec=SPEC), damage.pickles),
    "caffemodel": _weights("w.caffemodel", damage.protobuf),
    "caffemodel-unpacked": _tensor_file("w.caffemodel", "unpacked"),
    "caffemodel-double": _tensor_file("w.caffemodel", "double"),
    "caffemodel-v1": _tensor_file("w.caffemodel", "v1"),
    "caffemodel-v0": _tensor_file("w.caffemodel", "v0"),
    "binaryproto": _bytes("m.binaryproto", _mean, read_mean, damage.protobuf),
    "prototxt": _prototxt_reader(lambda: deploy_text(SPEC).encode()),
    "prototxt-v1": _prototxt_reader(lambda: test_caffe_prototxt.V1.encode()),
    "prototxt-v0": _prototxt_reader(lambda: test_caffe_prototxt.V0.encode()),
    "checkpoint-index": _weights("w.ckpt", damage.table, hurt="w.ckpt.index"),
    "checkpoint-data": _weights("w.ckpt", damage.wounds, hurt="w.ckpt.data-00000-of-00001"),
    "checkpoint-v1": _bytes("w.ckpt", _v1_checkpoint, lambda path: load(path, spec=SPEC), damage.table),
    "onnx": _weights("w.onnx", damage.protobuf),
    "onnx-spec": _weights("w.onnx", damage.protobuf, spec=None),
    "onnx-graph": _bytes("w.onnx", _graph, load, damage.protobuf),
    "npy": _weights("w.npy", damage.npy),
    "npz": _weights("w.npz", damage.archive(damage.npy)),
    "npz-spec": _weights("w.npz", damage.archive(damage.npy), spec=None),
    "keras": _weights("w.keras", damage.archive(damage.wounds)),
    "keras-h5": _weights("w.weights.h5", damage.wounds),
    "mat": _matlab(packed=False),
    "mat-packed": _matlab(packed=True),
    "png": _image("png", damage.png),
    "jpeg": _image("jpeg", damage.jpeg),
    "jpeg-progressive": _image("jpeg", damage.jpeg, progressive=True),
    "gif": _image("gif", damage.wounds),
    "bmp": _image("bmp", damage.wounds),
    "ppm": _image("ppm", damage.tokens),
    "tiff": _image("tiff", damage.tiff),
    "manifest": _bytes("m.yaml", _manifest, manifest.read_manifest, damage.tokens),
    "training-checkpoint": Reader(_checkpoint, damage.safetensors),
    "training-metrics": Reader(_metrics, damage.tokens),
}


def damaged(good: bytes, structure: damage.Damage, seed: str) -> bytes:
    """At random, along the structure, or both."""
    rng = random.Random(seed)
    match rng.randrange(10):
        case 0 | 1 | 2:
            return damage.wounds(good, rng)
        case 3:
            return damage.wounds(structure(good, rng), rng)
        case _:
            return structure(good, rng)


def _memory() -> dict[str, int]:
    """Sizes of this process, in MB (proc(5))."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {words[0][:-1]: int(words[1]) // 1024 for words in lines if words[0].startswith("Vm")}


class _LateError(BaseException):
    """No `Exception`, which a reader might take for damage."""


class _Limits:
    """Ends a test that hangs, and sees every flood of memory, not the first alone."""

    def __init__(self) -> None:
        self._peak = _memory()["VmPeak"]

    @contextmanager
    def watch(self) -> Generator[None]:
        def late(*_: object) -> None:
            raise _LateError(f"no answer within {_SECONDS} s")

        Path("/proc/self/clear_refs").write_text("5")  # the peak of what is resident begins anew
        before = _memory()
        signal.signal(signal.SIGALRM, late)
        signal.alarm(_SECONDS)
        try:
            yield
        finally:
            signal.alarm(0)
            self._check(before)

    def _check(self, before: dict[str, int]) -> None:
        after = _memory()
        grown = after["VmHWM"] - before["VmRSS"]
        assert grown < _MEGABYTES, f"memory grew by {grown} MB"
        # What was asked for and never touched: the declared size of something that is not there.
        asked = after["VmPeak"] - max(before["VmSize"], self._peak)
        self._peak = max(self._peak, after["VmPeak"])
        assert asked < _MEGABYTES, f"{asked} MB were asked for"


@pytest.mark.parametrize("name", READERS)
def test_damaged_inputs_are_read_or_refused(
    tmp_path: Path, name: str, request: pytest.FixtureRequest, tell: Callable[[str], None]
) -> None:
    folder, reader = tmp_path / "in", READERS[name]
    folder.mkdir()
    path, attempt = reader.make(folder)
    attempt()  # warms up, and the good file must be readable
    good, refused, limits = path.read_bytes(), 0, _Limits()
    around = {p.name for p in folder.rglob("*")}
    first, count = (int(request.config.getoption(option) or 0) for option in ("--fuzz-from", "--fuzz"))
    for seed in range(first, first + count):
        path.write_bytes(damaged(good, reader.structure, f"{name} {seed}"))
        try:
            with limits.watch():
                attempt()
        except ZooError as error:
            refused += 1
            assert str(error).isprintable() and len(str(error)) < _LONGEST, seed
        except BaseException as error:
            raise AssertionError(f"{name}, seed {seed}: {type(error).__name__}: {error}") from error
    assert refused > 0
    assert {p.name for p in folder.rglob("*")} == around
    assert [p.name for p in tmp_path.iterdir()] == ["in"]
    assert not list(Path("/tmp").glob("zoo-evil*"))
    tell(f"{name}: {count:,} damaged inputs, {refused:,} refused, the others read")


@pytest.mark.parametrize("command", ["convert", "export", pytest.param("verify", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["safetensors", "pth", "caffemodel", "checkpoint-index", "onnx", "npy", "npz"])
def test_damaged_inputs_through_the_command_line(
    tmp_path: Path, name: str, command: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """A slower sample: the exit status is 2, there is one line on stderr, and nothing new in any folder."""
    folder, reader = tmp_path / "in", READERS[name]
    folder.mkdir()
    path, _ = reader.make(folder)
    good, source = path.read_bytes(), folder / ("w.ckpt" if name.startswith("checkpoint") else path.name)
    (tmp_path / "n.prototxt").write_text(deploy_text(SPEC))
    target = tmp_path / f"x.{'onnx' if command == 'export' else 'npz'}"
    arguments = [command, str(source), "--prototxt", str(tmp_path / "n.prototxt")]
    arguments += {"convert": ["-o", str(target), "--force"], "verify": ["--frameworks", "onnx"]}.get(
        command, ["-o", str(target), "--force", "--no-verify"]
    )
    before = {p.name for p in folder.rglob("*")}
    for seed in range(max(6, int(request.config.getoption("--fuzz") or 0) // 50)):
        path.write_bytes(damaged(good, reader.structure, f"{name} {command} {seed}"))
        target.unlink(missing_ok=True)
        capsys.readouterr()
        status = main(arguments)
        said = capsys.readouterr()
        assert "internal error" not in said.err and status in ((0, 1, 2) if command == "verify" else (0, 2)), seed
        if status == 2 and said.err:
            assert said.err.startswith("zoo: ") and said.err.count("\n") == 1 and not said.out, (seed, said.err)
        assert target.exists() == (status == 0 and command != "verify"), seed
        assert {p.name for p in folder.rglob("*")} == before
        assert {p.name for p in tmp_path.iterdir()} <= {"in", "n.prototxt", target.name}
