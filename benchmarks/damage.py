"""The long run of the tests of damage: 10,000 damaged inputs a reader; 100 kills and 50 signals a command."""

from __future__ import annotations

import re
import subprocess
import sys

from benchmarks.measure import table
from zoo.wire.cores import cores

_INPUTS, _KILLS = 10_000, 100


def main() -> str:
    command = [sys.executable, "-m", "pytest", "-n", str(cores())]
    command += ["tests/test_fuzz.py", "tests/test_killed.py", "tests/test_signals.py"]
    command += [f"--fuzz={_INPUTS}", f"--kills={_KILLS}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.stdout)
    return summary(done.stdout)


def summary(told: str) -> str:
    """What a long run said of itself, as a table of the kills and a line about the readers."""
    kills = re.findall(r"^(.+): (\d+) runs, (\d+) killed, (\d+) half done$", told, re.MULTILINE)
    readers = re.findall(r"^\S+: [\d,]+ damaged inputs, ([\d,]+) refused", told, re.MULTILINE)
    signals = re.findall(r"^(\w+): (\d+) moments of a signal, (\d+) ended by it$", told, re.MULTILINE)
    ended = ", ".join(f"{command} {count} of {moments}" for command, moments, count in sorted(signals))
    refused = sorted(int(count.replace(",", "")) for count in readers)
    rows = [[f"`zoo {command}`", *counts] for command, *counts in sorted(kills)]
    lowest, highest = f"{refused[0]:,}", f"{refused[-1]:,}"
    return (
        f"{table(['command', 'runs', 'killed before they ended', 'with work half done'], rows)}\n\n"
        f"SIGTERM and SIGHUP at random moments ended {ended}; the others were done. Nothing was left.\n\n"
        f"{len(refused)} readers, {_INPUTS:,} damaged inputs each: {lowest} to {highest} of them refused in one line, "
        "the others read. Half a target, a traceback, a hang, a flood of memory or a file elsewhere would have ended "
        "the run."
    )


if __name__ == "__main__":
    print(main())
