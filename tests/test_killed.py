"""SIGKILL at random moments: the target is absent, the old one or the whole new one, and the next run cleans up.

A third of the moments lies anywhere in a run, the rest after the first file was begun. `make damage` kills each command
a hundred times and prints how many kills found work half done. Every run is a process of its own, forked from one that
has imported the frameworks: importing writes no file, and takes most of a command's time.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from stat import S_ISREG
from typing import Any

import pytest

from converters import fetch, manifest
from converters.cli import main
from converters.convert import load, save
from converters.parity import probe_weights
from converters.weights import Weights
from tests.small import shrink
from tests.test_fetch import DATA, Server, get, make_entry
from zoo import registry
from zoo.layers import Dense
from zoo.training.checkpoint import checkpoints, load_checkpoint
from zoo.training.journal import read_metrics

pytestmark = pytest.mark.slow

_FORKS = get_context("forkserver")
_FORKS.set_forkserver_preload(["converters.commands", "converters.exporters.tf_slim", "zoo.training.launch"])
# The hidden files and folders that work goes on in.
_UNFINISHED = (".zoo-staging-", ".zoo-download-")


def _weights(seed: int) -> Weights:
    """13 MB of weights: writing takes long enough to be hit."""
    spec = shrink("alexnet", channels=4)
    for name in ("fc6", "fc7"):
        layer = spec.layer(name)
        assert isinstance(layer, Dense)
        spec = spec.replace_layer(replace(layer, out_features=1024))
    return probe_weights(spec, seed)


def _digests(folder: Path, names: set[str]) -> dict[str, str]:
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    found = {name: path for name, path in files.items() if name.partition("/")[0] in names}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in found.items()}


def _hidden(folder: Path) -> Iterator[Path]:
    # os.walk, unlike rglob, does not mind folders that vanish meanwhile.
    for root, folders, files in os.walk(folder):
        yield from (Path(root, name) for name in (*folders, *files) if any(mark in name for mark in _UNFINISHED))


def _work(folder: Path) -> set[tuple[str, int, int]]:
    """Every unfinished file there is, and of which moment."""
    found = set[tuple[str, int, int]]()
    for outer in _hidden(folder):
        inner = [Path(root, name) for root, _, files in os.walk(outer) for name in files]
        for path in inner or [outer]:
            try:
                status = path.stat()
            except FileNotFoundError:  # put in place meanwhile
                continue
            if S_ISREG(status.st_mode):
                found.add((str(path), status.st_ino, status.st_mtime_ns))
    return found


def _silent(work: Callable[..., int], arguments: tuple[Any, ...]) -> None:
    """What a process does that is begun here."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    sys.exit(work(*arguments))


@dataclass(frozen=True)
class _Command:
    """What is run, in a process of its own, and its name."""

    name: str
    work: Callable[..., int]
    arguments: tuple[Any, ...]

    def begin(self) -> ForkServerProcess:
        process = _FORKS.Process(target=_silent, args=(self.work, self.arguments))
        process.start()
        return process

    def run(self) -> None:
        """To its end, which must be a good one."""
        process = self.begin()
        process.join()
        assert process.exitcode == 0


def _zoo(*arguments: str) -> _Command:
    """A command of the command line; in its name, paths are short."""
    return _Command(" ".join(Path(word).name for word in arguments), main, (arguments,))


@dataclass
class _Killer:
    """Runs a command and kills it."""

    out: Path
    kills: int
    killed: int = 0
    writing: int = 0
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    before: float = 0.0
    during: float = 0.0

    def usual(self, command: _Command) -> None:
        """Measures an undisturbed run: the time until its first file, and from there until all is in its place."""
        started = time.perf_counter()
        process, _ = self._begin(command)
        self.before = time.perf_counter() - started
        while process.exitcode is None and _work(self.out):
            time.sleep(0.001)
        self.during = time.perf_counter() - started - self.before
        process.join()
        assert process.exitcode == 0

    def kill(self, command: _Command) -> int | None:
        """Runs the command and kills it at a random moment; returns its exit status if it ended before."""
        anywhere = self.rng.random() < 1 / 3
        process, left = self._begin(command, watch=not anywhere)
        began = time.perf_counter()
        wait = self.rng.uniform(0, self.before + self.during if anywhere else 1.1 * self.during)
        process.join(timeout=wait)
        if process.exitcode is not None:
            if not anywhere:  # what it was thought to take came from a slower moment, or another machine
                self.during = min(self.during, time.perf_counter() - began)
            return process.exitcode
        process.kill()
        process.join()
        self.killed += 1
        self.writing += bool(_work(self.out) - left)
        return None

    def _begin(self, command: _Command, *, watch: bool = True) -> tuple[ForkServerProcess, set[Any]]:
        """Starts the command, and waits for its first file; what earlier ones left is not it."""
        left = _work(self.out)
        process = command.begin()
        while watch and process.exitcode is None and not _work(self.out) - left:
            time.sleep(0.001)
        return process, left

    def __str__(self) -> str:
        assert self.killed > 0
        return f"{self.kills} runs, {self.killed} killed, {self.writing} half done"


def _kill_at_random(
    command: _Command, out: Path, check: Callable[[], None], kills: int, tell: Callable[[str], None]
) -> None:
    killer = _Killer(out, kills)
    killer.usual(command)
    check()
    for _ in range(kills):
        killer.kill(command)
        check()
    command.run()
    check()
    assert not list(_hidden(out)), "the next run cleans up"
    tell(f"{command.name}: {killer}")


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--kills") or 0)


@pytest.mark.parametrize(
    "name", ["new.safetensors", "new.caffemodel", "new.ckpt", "new.onnx", "new.pt", "new.npz", "new.npy"]
)
def test_convert_killed(tmp_path: Path, name: str, kills: int, tell: Callable[[str], None]) -> None:
    old, new = _weights(1), _weights(2)
    save(new, tmp_path / "new.safetensors")
    target = tmp_path / "out" / name
    target.parent.mkdir()
    save(new, target)
    names = {path.name for path in target.parent.iterdir()}
    whole_new = _digests(target.parent, names)
    save(old, target, force=True)
    whole_old = _digests(target.parent, names)
    main = name + ".index" if name.endswith(".ckpt") else name

    def check() -> None:
        there = _digests(target.parent, names)
        # Without its main file a target is absent, whatever lies beside.
        assert main not in there or there in (whole_old, whole_new)
        unknown = {path for path in target.parent.iterdir() if path.name not in names}
        assert unknown <= set(_hidden(target.parent)), unknown

    command = _zoo("convert", str(tmp_path / "new.safetensors"), "-o", str(target), "--force")
    _kill_at_random(command, target.parent, check, kills, tell)
    assert {path.name for path in target.parent.iterdir()} == names


@pytest.mark.parametrize(
    "name", ["w.onnx", pytest.param("w.pb", marks=pytest.mark.slow), pytest.param("folder/", marks=pytest.mark.slow)]
)
def test_export_killed(tmp_path: Path, name: str, kills: int, tell: Callable[[str], None]) -> None:
    target = tmp_path / "out" / name
    target.parent.mkdir()
    whole = list[dict[str, str]]()
    for seed in (1, 2):
        save(_weights(seed), tmp_path / "w.safetensors", force=True)
        words = ["export", str(tmp_path / "w.safetensors"), "-o", f"{tmp_path}/out/{name}", "--force", "--no-verify"]
        command = _zoo(*words)
        command.run()
        whole.append(_digests(target.parent, {target.name}))

    def check() -> None:
        assert _digests(target.parent, {target.name}) in ({}, *whole)

    _kill_at_random(command, target.parent, check, kills, tell)
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def _fetch(url: str, what: dict[str, Any], folder: str) -> int:
    """``zoo fetch`` of an entry that is no part of the manifest, from this machine."""
    entry = make_entry(url, **what)
    fetch.Line.__init__.__kwdefaults__ = {**(fetch.Line.__init__.__kwdefaults__ or {}), "loopback": True}
    manifest.entry = lambda name: entry
    return main(["fetch", "test", "-o", folder])


@pytest.mark.parametrize("way", ["slow", "file"])
def test_fetch_killed(tmp_path: Path, way: str, kills: int, tell: Callable[[str], None]) -> None:
    """From a server that takes its time, and from a file."""
    content = DATA if way == "slow" else DATA * 40
    (tmp_path / "source").write_bytes(content)
    out, server = tmp_path / "out", _SlowServer()
    out.mkdir()
    target = out / "test.caffemodel"
    url = f"{server.root}/slow" if way == "slow" else (tmp_path / "source").as_uri()
    what: dict[str, Any] = {"hash": "sha256:" + hashlib.sha256(content).hexdigest(), "size": len(content)}
    command = _Command(f"fetch ({way})", _fetch, (url, what, str(out)))

    def check() -> None:
        assert not target.exists() or target.read_bytes() == content
        assert {path.name.partition(".zoo-download-")[0] for path in out.iterdir()} <= {target.name, f".{target.name}"}

    killer = _Killer(out, kills)
    killer.usual(command)
    for _ in range(kills):
        target.unlink(missing_ok=True)
        killer.kill(command)
        check()
    # What is there already is not fetched again, but cleaned up after.
    assert get(make_entry(url, **what), out).read_bytes() == content
    assert [path.name for path in out.iterdir()] == [target.name]
    tell(f"{command.name}: {killer}")
    server.http.shutdown()
    server.http.server_close()


class _SlowServer(Server):
    def do_slow(self, handler: BaseHTTPRequestHandler) -> None:
        """A fifth of a second for all of it, in eighty pieces."""
        asked = handler.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        content = {"Content_Range": f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"} if asked else {}
        self.head(handler, 206 if asked else 200, len(DATA) - start, **content)
        piece = len(DATA) // 80
        try:
            for at in range(start, len(DATA), piece):
                handler.wfile.write(DATA[at : at + piece])
                time.sleep(0.0025)
        except OSError:  # whoever asked was killed
            handler.close_connection = True


def _train(out: Path) -> _Command:
    """Training, from the last checkpoint where there is one."""
    options = ["--data", "digits", "--steps", "12", "--batch-size", "8", "--checkpoint-every", "1", "-o", str(out)]
    return _zoo("train", "alexnet_mini", *options, *(["--resume"] if checkpoints(out) else []))


def test_train_killed(tmp_path: Path, kills: int, tell: Callable[[str], None]) -> None:
    """Whenever it dies, what is there is whole, and --resume goes on from it."""
    spec, runs, out = registry.model("alexnet_mini"), 0, tmp_path / "run0"
    killer = _Killer(tmp_path, kills, during=2.0)
    for _ in range(kills):
        ended = killer.kill(_train(out))
        assert ended in (None, 0), "what a kill left can be gone on from"
        for path in checkpoints(out):
            load_checkpoint(path, spec)
        if (out / "metrics.csv").exists():
            steps = [int(row["step"]) for row in read_metrics(out)]
            assert steps == list(range(1, len(steps) + 1))
        if (out / "model.safetensors").exists():
            assert load(out / "model.safetensors").spec.name == spec.name
        if ended == 0:
            runs += 1
            assert not list(_hidden(out))
            out = tmp_path / f"run{runs}"
    _train(out).run()
    assert load(out / "model.safetensors").spec.name == spec.name
    assert not list(_hidden(tmp_path))
    tell(f"train: {killer}")
