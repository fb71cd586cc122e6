"""A few bytes may describe a network that asks for all memory: it is refused before anything is allocated."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from converters import save
from converters.cli import main
from converters.parity import probe_weights, verify_model
from converters.weights import Weights
from tests.kinds import net
from tests.small import shrink
from zoo import registry
from zoo.api import forward, generate
from zoo.errors import ZooError
from zoo.layers import LRN, Conv, Deconv, Dense, Eltwise, Layer, ModelSpec, Pool, PoolMask, ROIPool
from zoo.limits import Limits, allowing, limits
from zoo.shapes import check_cost

SMALL = shrink("alexnet_mini", 2)
# Each activation is below what one may have; both, for two probes in float64, are 12 GB.
WIDE = net(Conv(name="op", out_channels=3, kernel=(1, 1)), shapes=[(3, 9000, 9000)])
# 100 GB of parameters from a small input.
DEEP = net(Dense(name="op", out_features=25_000_000), shapes=[(1000, 1, 1)])


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    save(probe_weights(SMALL), folder / "w.safetensors")
    wide = {"op.weight": np.ones((3, 3, 1, 1), np.float32), "op.bias": np.ones(3, np.float32)}
    save(Weights(spec=WIDE, tensors=wide, source="here"), folder / "wide.safetensors")
    Image.new("RGB", (64, 64)).save(folder / "a.png")
    return folder


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


@pytest.mark.parametrize("command", ["verify wide.safetensors", "export wide.safetensors -o x.onnx"])
def test_what_asks_for_gigabytes_is_refused_before_anything_is_allocated(
    desk: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(desk)
    before = _peak()
    assert main(command.split()) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "computing it takes 11.7 GB of memory" in said and "8 GB are the limit; --max-memory GB lifts it" in said
    assert "the largest, 'in0', has 243,000,000 an item" in said
    assert _peak() - before < 1.5  # one input alone would be 1.9
    assert not (desk / "x.onnx").exists()


@pytest.mark.parametrize(
    "command",
    [
        "run w.safetensors a.png --images-like alexnet_mini",
        "generate alexnet --framework caffe -o src",
        "convert w.safetensors -o more.safetensors --num-classes 7",
        "export w.safetensors -o x.onnx",
        "export w.safetensors -o x.onnx --no-verify",
        "verify w.safetensors",
        "verify alexnet",
        "train alexnet_mini --data digits -o run",
        "eval w.safetensors --data digits --images-like alexnet_mini",
    ],
)
def test_every_command_that_computes_has_the_limit(
    desk: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(desk)
    there = set(desk.iterdir())
    assert main([*command.split(), "--max-memory", "0.00001"]) == 2
    assert "--max-memory GB" in capsys.readouterr().err
    assert {path for path in desk.iterdir() if path.is_file()} <= there


def test_the_flag_lifts_it(desk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(desk)
    with allowing(Limits(gigabytes=1e-5)), pytest.raises(ZooError, match="--max-memory GB"):
        check_cost(SMALL, items=1)
    with allowing(Limits(gigabytes=1.0)):
        check_cost(SMALL, items=1)
    assert main(["verify", "w.safetensors", "w.safetensors", "--max-memory", "0.001"]) == 2
    assert main(["verify", "w.safetensors", "w.safetensors", "--max-memory", "0.1"]) == 0
    assert main(["verify", "w.safetensors", "--max-memory", "lots"]) == 2
    assert "expected a number above 0, got 'lots'" in capsys.readouterr().err


def test_the_same_flag_lifts_the_limit_of_a_layer(
    desk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No command takes the network for one without a limit; what only carries or tells it need not compute it."""
    monkeypatch.chdir(desk)
    vast = net(Conv(name="op", out_channels=3, kernel=(1, 1)), shapes=[(3, 20_000, 20_000)])
    numbers = {"op.weight": np.ones((3, 3, 1, 1), np.float32), "op.bias": np.ones(3, np.float32)}
    with allowing(Limits(gigabytes=40)):
        save(Weights(spec=vast, tensors=numbers, source="here"), desk / "vast.safetensors")
    of_it = "3 x 20000 x 20000 numbers an item are 4.8 GB of memory; 1 GB, an eighth of --max-memory GB, are the limit"
    said = f"vast.safetensors: layer 'in0': {of_it}"
    for command in ("show vast.safetensors", "diff vast.safetensors alexnet", "convert vast.safetensors -o vast.npz"):
        assert main(command.split()) == 2
        assert said in capsys.readouterr().err
        assert main([*command.split(), "--max-memory", "39"]) == 0
    assert main(["verify", "vast.safetensors", "--max-memory", "39"]) == 2
    assert "computing it takes 57.6 GB of memory" in capsys.readouterr().err


def test_the_processes_that_are_started_have_the_limits_too() -> None:
    told = [sys.executable, "-c", "from zoo.limits import limits; print(limits())"]
    before = dict(os.environ)
    with allowing(Limits(gigabytes=0.5, operations=3e7)):
        assert limits() == Limits(gigabytes=0.5, operations=3e7)
        assert subprocess.check_output(told, text=True).strip() == repr(limits())
        with allowing(Limits(gigabytes=float("inf"))):
            assert limits().gigabytes == float("inf")
        assert limits().gigabytes == 0.5
    assert limits() == Limits() and dict(os.environ) == before


@pytest.mark.parametrize("spec", [DEEP, WIDE], ids=["parameters", "activations"])
def test_what_programs_call_has_it_too(spec: ModelSpec, tmp_path: Path) -> None:
    before = _peak()
    with pytest.raises(ZooError, match=r"computing it takes [\d.]+ GB of memory"):
        verify_model(spec, frameworks=["onnx"])
    if spec is DEEP:
        with pytest.raises(ZooError, match=r"computing it takes 100\.1 GB"):
            generate(spec, "caffe", tmp_path)
        assert not list(tmp_path.iterdir())
    assert _peak() - before < 1.5


@pytest.mark.parametrize(
    "layer",
    [
        LRN(name="wide", size=99_999_999, alpha=1.0, beta=0.75),
        LRN(name="wide", size=9_999_999, alpha=1.0, beta=0.75, region="within"),
        Pool(name="wide", mode="ave", kernel=(10**7, 10**7), pad=(5 * 10**6, 5 * 10**6), stride=(1, 1)),
        Pool(name="wide", mode="max", kernel=(1, 2), stride=(1, 10**12)),
    ],
    ids=lambda layer: f"{type(layer).__name__} {layer}"[:24],
)
def test_what_a_window_reads_past_the_edges_counts_too(layer: LRN | Pool) -> None:
    with pytest.raises(
        ZooError, match=r"computing it takes [\d,.]+ GB of memory .* the largest, 'wide', has [\d,]{11,}"
    ):
        check_cost(net(layer, shapes=[(3, 9, 9)]), items=1)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (Pool(name="far", mode="ave", kernel=(9000, 9000)), (1, 9999, 9999)),
        (Pool(name="far", mode="max", kernel=(999, 999)), (3, 2000, 2000)),
        (PoolMask(name="far", kernel=(9999, 9999)), (1, 9999, 9999)),
        (LRN(name="far", size=9999, alpha=1.0, beta=0.75, region="within"), (1, 9999, 9999)),
        (LRN(name="far", size=99_999, alpha=1.0, beta=0.75), (99_999, 20, 20)),
        (Conv(name="far", out_channels=1, kernel=(3000, 3000)), (1, 6000, 6000)),
        (Deconv(name="far", out_channels=1, kernel=(3000, 3000)), (1, 3000, 3000)),
        (ROIPool(name="far", inputs=("in0", "in1"), size=(9999, 9999), scale=1.0), [(1, 9, 9), (5,)]),
        (Eltwise(name="far", operation="sum", inputs=("in0",) * 2000), (3, 3000, 3000)),
    ],
    ids=lambda case: type(case).__name__,
)
def test_what_takes_hours_is_refused_before_it_begins(layer: Layer, shape: Any) -> None:
    """A hundred billion reads, of numbers that fit into memory: it is the work that is too much."""
    spec = net(layer, shapes=shape if isinstance(shape, list) else [shape])
    with allowing(Limits(gigabytes=1e3)):
        check_cost(spec)
        with pytest.raises(ZooError, match=r"takes [\d.e+]+ operations an item \('far' .* --max-operations N lifts it"):
            check_cost(spec, items=1)
    with allowing(Limits(gigabytes=1e3, operations=1e20)):
        check_cost(spec, items=1)


def test_networks_that_people_use_are_below_the_limit() -> None:
    for name in registry.models():
        with allowing(Limits(operations=2e10)):
            check_cost(registry.model(name), items=1)


def test_inputs_that_are_given_count_by_their_batch() -> None:
    weights = probe_weights(SMALL)
    (source,) = SMALL.inputs
    with allowing(Limits(gigabytes=0.05)), pytest.raises(ZooError, match="computing it takes"):
        forward(SMALL, weights.tensors, {source.name: np.broadcast_to(np.float32(0), (10**6, *source.shape))})
