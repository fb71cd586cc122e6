"""SIGKILL at random moments: the target is absent, the old one or the whole new one, and the next run cleans up."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from converters.convert import load, save
from tests.small import shrink, small_weights

ZOO = [sys.executable, "-m", "converters"]


def _digest(folder: Path, names: list[str]) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}


def _kill_at_random(command: list[str], check: Callable[[], None], kills: int) -> None:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    usual = time.perf_counter() - started
    check()
    rng = random.Random(str(command))
    interrupted = 0
    for _ in range(kills):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=rng.uniform(0.3, 1.1) * usual)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            interrupted += 1
        check()
    assert interrupted > 0
    subprocess.run(command, check=True, capture_output=True)
    check()


@pytest.mark.parametrize("name", ["new.safetensors", "new.caffemodel", "new.ckpt", "new.onnx", "new.pt", "new.npz"])
def test_convert_killed(tmp_path: Path, name: str, request: pytest.FixtureRequest) -> None:
    spec = shrink("alexnet")
    old, new = tmp_path / "old.safetensors", tmp_path / "newer.safetensors"
    save(small_weights(seed=1), old)
    save(small_weights(seed=2), new)
    target = tmp_path / "out" / name
    target.parent.mkdir()
    save(load(old, spec=spec), target)
    names = [path.name for path in target.parent.iterdir()]
    whole_old = _digest(target.parent, names)
    save(load(new, spec=spec), target, force=True)
    whole_new = _digest(target.parent, names)
    main = name + ".index" if name.endswith(".ckpt") else name

    def check() -> None:
        there = _digest(target.parent, names)
        # Without its main file a target is absent, whatever lies beside.
        assert main not in there or there in (whole_old, whole_new)
        unknown = {p.name for p in target.parent.iterdir()} - set(names)
        assert all(".zoo-staging-" in other and other.startswith(".") for other in unknown), unknown

    save(load(old, spec=spec), target, force=True)
    command = [*ZOO, "convert", str(new), "-o", str(target), "--force"]
    _kill_at_random(command, check, request.config.getoption("--kills"))
    assert sorted(p.name for p in target.parent.iterdir()) == sorted(names)


def test_export_killed(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    save(small_weights(), tmp_path / "w.safetensors")
    target = tmp_path / "out" / "w.onnx"
    target.parent.mkdir()
    command = [*ZOO, "export", str(tmp_path / "w.safetensors"), "-o", str(target), "--force", "--no-verify"]
    subprocess.run(command, check=True, capture_output=True)
    whole = target.read_bytes()

    def check() -> None:
        assert not target.exists() or target.read_bytes() == whole

    target.unlink()
    _kill_at_random(command, check, request.config.getoption("--kills"))
    assert [p.name for p in target.parent.iterdir()] == ["w.onnx"]


def test_train_killed(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Whenever it dies, what is there is whole, and --resume goes on from it."""
    out = tmp_path / "run"
    command = [*ZOO, "train", "alexnet_mini", "--data", "digits", "-o", str(out), "--steps", "6", "--batch-size", "8"]
    command += ["--checkpoint-every", "1"]
    rng = random.Random(0)
    for _ in range(max(2, request.config.getoption("--kills") // 3)):
        process = subprocess.Popen([*command, "--resume"] if (out / "checkpoints").exists() else command)
        deadline = time.monotonic() + 60
        while process.poll() is None and not list(out.glob("checkpoints/*")) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 1.5))
        process.kill()
        process.wait()
        if (out / "model.safetensors").exists():
            assert load(out / "model.safetensors").spec.name == "alexnet_mini"
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert load(out / "model.safetensors").spec.name == "alexnet_mini"
    assert not [path for path in out.rglob("*") if ".tmp" in path.name or "staging" in path.name]
