"""SIGTERM and SIGHUP end a command as Ctrl-C does: one line, 128 and the signal's number, and nothing is left behind.

`python -m benchmarks.damage` tries fifty random moments of each command and signal instead of a few.
"""

from __future__ import annotations

import hashlib
import math
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from converters.cli import main
from converters.convert import save
from converters.parity import probe_weights
from tests.small import shrink
from tests.test_fetch import DATA
from tests.test_killed import (
    _FORKS,
    _fetch,
    _SlowServer,
    _weights,
)

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no such signal")
BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])


@pytest.fixture(autouse=True)
def nothing_is_passed_over() -> Iterator[None]:
    """As in a terminal, whatever runs the tests: under nohup, SIGHUP would be passed over."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@BOTH
def test_a_signal_is_one_line_and_128_and_its_number(
    tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twice, as `timeout` and a terminal that is closed send it: the second does not break into the cleaning up."""
    save(probe_weights(shrink("alexnet_mini", 2)), tmp_path / "w.safetensors")

    def twice(*_: object, **__: object) -> None:
        assert list(tmp_path.glob(".x.npz.zoo-staging-*"))
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(number)

    monkeypatch.setattr("converters.convert._check_written", twice)
    before = signal.getsignal(number)
    assert main(["convert", str(tmp_path / "w.safetensors"), "-o", str(tmp_path / "x.npz")]) == 128 + number
    assert capsys.readouterr() == ("", f"zoo: ended by {number.name}; nothing half written was left\n")
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]
    assert signal.getsignal(number) == before


def test_a_signal_that_an_import_takes_for_its_own_trouble_ends_the_command_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def imported(*_: object) -> str:
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException as error:
            raise ImportError("cannot be imported") from error
        raise AssertionError

    monkeypatch.setattr("zoo.show.show_text", imported)
    assert main(["show", "alexnet"]) == 143
    assert "ended by SIGTERM" in capsys.readouterr().err


def test_a_signal_that_a_destructor_passes_over_ends_the_command_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python says "Exception ignored in" of it, and goes on."""

    class Dying:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    def passed_over(*_: object) -> str:
        Dying()
        for _moment in range(6000):
            time.sleep(0.01)
        raise AssertionError("nobody ended it")

    monkeypatch.setattr("zoo.show.show_text", passed_over)
    assert main(["show", "alexnet"]) == 143
    assert capsys.readouterr().err == "zoo: ended by SIGTERM; nothing half written was left\n"


def test_what_nohup_passes_over_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def hung_up(*_: object) -> str:
        signal.raise_signal(signal.SIGHUP)
        return "done"

    monkeypatch.setattr("zoo.show.show_text", hung_up)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert main(["show", "alexnet"]) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def _told(work: Callable[..., int], arguments: tuple[Any, ...], folder: Path) -> None:
    """What a process does that is begun here: what it says goes into a file, its temporary files into a folder."""
    for stream in (1, 2):
        os.dup2(os.open(folder / f"said{stream}", os.O_WRONLY | os.O_CREAT), stream)
    tempfile.tempdir = str(folder / "temporary")
    sys.exit(work(*arguments))


def _command(name: str, tmp_path: Path, out: Path, server: str) -> tuple[Callable[..., int], tuple[Any, ...]]:
    if name == "fetch":
        what = {"hash": "sha256:" + hashlib.sha256(DATA).hexdigest(), "size": len(DATA)}
        return _fetch, (f"{server}/slow", what, str(out))
    weights = str(tmp_path / "w.safetensors")
    arguments = {
        "convert": ["convert", weights, "-o", f"{out}/x.npz"],
        "export": ["export", weights, "-o", f"{out}/x.onnx"],
        "verify": ["verify", weights, weights, "--report", f"{out}/report.html"],
        "train": [
            "train",
            "alexnet_mini",
            "--data",
            "digits",
            "--steps",
            "40",
            "--batch-size",
            "8",
            "-o",
            f"{out}/run",
        ],
    }
    return main, (arguments[name],)


# Of what is made, equal runs make equal bytes of these.
EQUAL = (".npz", ".onnx", ".prototxt", ".caffemodel")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convert", "export", "verify", "train", "fetch"])
def test_a_signal_at_a_random_moment(
    tmp_path: Path, name: str, request: pytest.FixtureRequest, tell: Callable[[str], None]
) -> None:
    save(_weights(1), tmp_path / "w.safetensors")
    server, rng, moments = _SlowServer(), random.Random(name), int(request.config.getoption("--kills") or 0) // 2
    ended, usual, whole = 0, 0.0, dict[str, bytes]()
    for moment in range(moments + 1):
        folder, number = tmp_path / str(moment), (signal.SIGTERM, signal.SIGHUP)[moment % 2]
        (folder / "out").mkdir(parents=True)
        (folder / "temporary").mkdir()
        process = _FORKS.Process(target=_told, args=(*_command(name, tmp_path, folder / "out", server.root), folder))
        process.start()
        while not (folder / "said2").exists() and process.exitcode is None:  # until then, modules are imported
            time.sleep(0.0005)
        begun = time.perf_counter()
        if moment:  # the first one is not disturbed
            process.join(rng.uniform(0, usual))
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(process.pid or 0, number)
        process.join()
        if process.exitcode == 0:  # the first one of all has taken longer than any other
            usual = min(usual or math.inf, time.perf_counter() - begun)
        said = (folder / "said2").read_text()
        # Before its first line it is the system that ends it; after its last, the work is done.
        assert process.exitcode in (0, 128 + number, -number) if moment else process.exitcode == 0, said
        if process.exitcode == 128 + number:
            ended += 1
            assert said.splitlines()[-1].startswith(("zoo: ended by ", "zoo: terminated; ")) and "Traceback" not in said
        made = {path.name: path.read_bytes() for path in (folder / "out").iterdir() if path.suffix in EQUAL}
        whole = whole or made
        assert made in ({}, whole), "half of it is there"
        left = [path for path in folder.rglob(".*") if ".zoo-download-" not in str(path)]
        assert not left and not list((folder / "temporary").glob("zoo-*"))
    server.http.shutdown()
    server.http.server_close()
    tell(f"{name}: {moments} moments of a signal, {ended} ended by it")
