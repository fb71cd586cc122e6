"""A program that calls the command line, or imports the packages, keeps its own settings."""

from __future__ import annotations

import gc
import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from converters import commands, host
from converters.cli import main
from converters.convert import save
from converters.host import memory_kept
from tests.small import small_weights
from zoo.environment import environment
from zoo.errors import ZooError
from zoo.training import SETTINGS

_PROGRAM = """
import gc, json, logging, os, sys, warnings
from converters.cli import main
def state():
    loggers = [logging.getLogger(), *map(logging.getLogger, sorted(logging.root.manager.loggerDict))]
    levels = {logger.name: [logger.level, len(logger.handlers)] for logger in loggers}
    names = {name: found for name, found in levels.items() if found != [0, 0]}
    return [dict(os.environ), names, [str(line) for line in warnings.filters], gc.isenabled()]
before, statuses = state(), []
for command in json.loads(sys.argv[1]):
    statuses.append(main(command))
    assert state() == before, [command, before, state()]
print(json.dumps(statuses))
"""


def test_a_program_that_calls_main_gets_its_process_back_as_it_was(tmp_path: Path) -> None:
    save(small_weights(), tmp_path / "a.safetensors")
    runs = (
        (["list", "--json"], 0),
        (["convert", "a.safetensors", "-o", "a.npz"], 0),
        (["convert", "a.safetensors", "-o", "a.npz"], 2),
        (["-v", "convert", "none.safetensors", "-o", "b.npz"], 2),
        (["--nonsense", "-v"], 2),
    )
    command = [sys.executable, "-c", _PROGRAM, json.dumps([arguments for arguments, _ in runs])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [status for _, status in runs]


@pytest.fixture
def unsettled() -> Generator[None]:
    """A process that has set nothing, as a user's."""
    kept = {name: os.environ.pop(name) for name in SETTINGS if name in os.environ}
    yield
    os.environ.update(kept)


@pytest.mark.parametrize("fails", [False, True])
def test_a_command_runs_with_its_settings_and_takes_them_away_again(
    fails: bool, unsettled: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = dict[str, Any]()

    def command(_: object) -> int:
        seen.update(os.environ, collects=gc.isenabled(), torch=logging.getLogger("torch").level)
        warnings.simplefilter("ignore")
        if fails:
            raise ZooError("no")
        return 0

    monkeypatch.setitem(commands.COMMANDS, "train", command)
    monkeypatch.setitem(commands.COMMANDS, "convert", command)
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    before, filters = dict(os.environ), list(warnings.filters)
    assert main(["train", "alexnet", "--data", "digits", "-o", str(tmp_path)]) == (2 if fails else 0)
    assert {name: seen[name] for name in SETTINGS} == SETTINGS | {"GOMP_SPINCOUNT": "7"}
    assert seen["torch"] == logging.ERROR and seen["collects"]
    assert main(["convert", "a", "-o", "b"]) == (2 if fails else 0)
    assert seen["OPENBLAS_NUM_THREADS"] == "1" and not seen["collects"]
    assert dict(os.environ) == before and warnings.filters == filters and gc.isenabled()
    assert logging.getLogger("torch").level != logging.ERROR


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_ONE", "theirs")
    monkeypatch.delenv("ZOO_TWO", raising=False)
    with environment({"ZOO_ONE": "ours", "ZOO_TWO": "ours"}):
        assert (os.environ["ZOO_ONE"], os.environ["ZOO_TWO"]) == ("theirs", "ours")
    assert os.environ["ZOO_ONE"] == "theirs" and "ZOO_TWO" not in os.environ


def test_memory_that_is_kept_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[tuple[Any, ...]]()

    class Library:
        def mallopt(self, *what: int) -> None:
            asked.append(what)

        def malloc_trim(self, pad: int) -> None:
            asked.append((pad,))

    monkeypatch.setattr(host, "sys", SimpleNamespace(platform="linux"))
    monkeypatch.setattr(host.ctypes, "CDLL", lambda _: Library())
    with memory_kept():
        assert asked == [(-1, 2**30), (-3, 2**30)]
    assert asked[2:] == [(-1, 2**17), (-3, 2**17), (0,)]
    monkeypatch.setattr(host.ctypes, "CDLL", lambda _: object())  # musl
    with memory_kept():
        pass
    assert len(asked) == 5
