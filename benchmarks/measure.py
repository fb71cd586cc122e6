"""Whole processes, measured by the operating system: wall seconds and peak memory, medians over several runs."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent
ZOO = str(BIN / "zoo")

# Everybody starts from compiled bytecode, as an installed package does, whatever this shell says of writing it.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

_PAUSE = 0.1


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a command took: median seconds, of the clock and of a processor, and the largest peak of any run in MB."""

    seconds: float
    processor: float
    megabytes: float


def run(command: Sequence[str]) -> Cost:
    """One run of a command that must succeed."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=_ENVIRONMENT)
    assert process.stderr is not None
    told = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed: {told.decode(errors='replace')[-2000:]}")
    return Cost(seconds=seconds, processor=usage.ru_utime + usage.ru_stime, megabytes=usage.ru_maxrss / 1024)


def compare(commands: Mapping[str, Sequence[str]], runs: int = 5) -> dict[str, Cost]:
    """Every command in turn, A B C A B C ..., after a warm-up round, so that a drifting machine meets all alike."""
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for turn in range(runs + 1):
        for name, command in commands.items():
            cost = run(command)
            if turn:
                costs[name].append(cost)
    return {
        name: Cost(
            seconds=statistics.median(cost.seconds for cost in taken),
            processor=statistics.median(cost.processor for cost in taken),
            megabytes=max(cost.megabytes for cost in taken),
        )
        for name, taken in costs.items()
    }


def in_turn(functions: Mapping[str, Callable[[], object]], runs: int, rounds: int) -> dict[str, float]:
    """Median seconds of functions that take turns, for `runs` in a row each, of which the first does not count.

    The threads of a runtime spin for a while after its last run, in the way of the next one's: they get time to stop.
    """
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            time.sleep(_PAUSE)
            for turn in range(runs):
                started = time.perf_counter()
                function()
                if turn:
                    taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in taken.items()}


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
