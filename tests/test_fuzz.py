"""Damaged inputs: every reader reads them or refuses them in one line; no other exception, no hang, no flood of memory.

Damage is random (bits, cuts, splices) and structural: lengths, counts and offsets are the interesting bytes of every
format, so runs of small integers, varints and text numbers are replaced by their extremes.
"""

from __future__ import annotations

import random
import re
import resource
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from converters import manifest
from converters.convert import load, save
from converters.parity import probe_weights
from converters.weights import Weights
from zoo.errors import ZooError
from zoo.frameworks.caffe import read_prototxt
from zoo.layers import LRN, Conv, Dense, Input, ModelSpec, Pool, ReLU
from zoo.preprocess import load_image

_SECONDS = 10
_MEGABYTES = 200

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


def _file(name: str, damaged: str | None = None) -> Callable[[Path], tuple[Path, Callable[[], object]]]:
    """Makes a good file; returns the file to damage and the read to try."""

    def make(folder: Path) -> tuple[Path, Callable[[], object]]:
        weights: Weights = probe_weights(SPEC)
        save(weights, folder / name)
        return folder / (damaged or name), lambda: load(folder / name, spec=SPEC)

    return make


def _own_word(name: str) -> Callable[[Path], tuple[Path, Callable[[], object]]]:
    """The same, but the reader must take the network from the file itself."""

    def make(folder: Path) -> tuple[Path, Callable[[], object]]:
        save(probe_weights(SPEC), folder / name)
        return folder / name, lambda: load(folder / name)

    return make


def _prototxt(folder: Path) -> tuple[Path, Callable[[], object]]:
    save(probe_weights(SPEC), folder / "w.caffemodel")
    return folder / "w.prototxt", lambda: read_prototxt(folder / "w.prototxt")


def _image(suffix: str) -> Callable[[Path], tuple[Path, Callable[[], object]]]:
    def make(folder: Path) -> tuple[Path, Callable[[], object]]:
        pixels = np.random.default_rng(0).integers(0, 255, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"i{suffix}")
        return folder / f"i{suffix}", lambda: load_image(folder / f"i{suffix}")

    return make


def _manifest(folder: Path) -> tuple[Path, Callable[[], object]]:
    path = folder / "m.yaml"
    path.write_text(manifest.PATH.read_text()[:6000].rpartition("\n  - id")[0] + "\n")
    return path, lambda: manifest.load(path)


READERS = {
    "safetensors": _file("w.safetensors"),
    "safetensors-spec": _own_word("w.safetensors"),
    "pth": _file("w.pth"),
    "caffemodel": _file("w.caffemodel"),
    "prototxt": _prototxt,
    "checkpoint-index": _file("w.ckpt", "w.ckpt.index"),
    "checkpoint-data": _file("w.ckpt", "w.ckpt.data-00000-of-00001"),
    "onnx": _file("w.onnx"),
    "onnx-spec": _own_word("w.onnx"),
    "npy": _file("w.npy"),
    "npz": _file("w.npz"),
    "png": _image(".png"),
    "jpg": _image(".jpg"),
    "manifest": _manifest,
}


def damage(data: bytes, rng: random.Random) -> bytes:
    """One to four wounds."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(out)) if out else 0
        # Formats keep their structure at the ends; payload is in the middle.
        at = rng.choice((at, min(at, 300 % max(len(out), 1)), max(0, len(out) - 1 - at % 400)))
        match rng.randrange(9):
            case 0 if out:
                out[at] ^= 1 << rng.randrange(8)
            case 1 if out:
                out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                del out[at:]
            case 3:
                del out[at : at + rng.choice((1, 2, 4, 8, 64))]
            case 4:
                out[at:at] = rng.randbytes(rng.choice((1, 4, 9)))
            case 5:
                extreme = rng.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1))
                out[at : at + 8] = struct.pack("<Q", extreme)
            case 6:
                out[at : at + 1] = b"\xff" * rng.randrange(1, 10) + b"\x01"  # an enormous varint
            case 7:
                other = rng.randrange(len(out)) if out else 0
                out[at:at] = out[other : other + rng.randrange(200)]
            case _:
                numbers = list(re.finditer(rb"\d+", bytes(out)))
                if numbers:
                    number = rng.choice(numbers)
                    new = rng.choice(
                        (b"0", b"-1", b"99999999999", b"1e400", b"18446744073709551616", b"{{{{", b'"', b"nan")
                    )
                    out[number.start() : number.end()] = new
    return bytes(out)


@contextmanager
def _limits() -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError(f"no answer within {_SECONDS} s")

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.signal(signal.SIGALRM, late)
    yield
    signal.alarm(0)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < _MEGABYTES, f"memory grew by {grown:.0f} MB"


@pytest.mark.parametrize("reader", READERS)
def test_damaged_inputs_are_read_or_refused(tmp_path: Path, reader: str, request: pytest.FixtureRequest) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    path, attempt = READERS[reader](folder)
    attempt()  # warms up, and the good file must be readable
    good, refused = path.read_bytes(), 0
    around = {p.name for p in folder.iterdir()}
    with _limits():
        for seed in range(request.config.getoption("--fuzz")):
            path.write_bytes(damage(good, random.Random(f"{reader} {seed}")))
            signal.alarm(_SECONDS)
            try:
                attempt()
            except ZooError as error:
                refused += 1
                assert "\n" not in str(error), seed
            except BaseException as error:
                raise AssertionError(f"{reader}, seed {seed}: {type(error).__name__}: {error}") from error
    assert refused > 0
    assert {p.name for p in folder.iterdir()} == around
    assert [p.name for p in tmp_path.iterdir()] == ["in"]
