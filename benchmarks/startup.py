"""How long the command line takes to answer, beside the interpreter alone."""

from __future__ import annotations

import sys

from benchmarks.measure import ZOO, compare, table


def main() -> str:
    costs = compare(
        {
            "python -c pass": [sys.executable, "-c", "pass"],
            "zoo --help": [ZOO, "--help"],
            "zoo show alexnet": [ZOO, "show", "alexnet"],
        },
        runs=11,
    )
    goals = {"python -c pass": "-", "zoo --help": "< 150 ms", "zoo show alexnet": "< 300 ms"}
    rows = [[f"`{name}`", f"{cost.seconds * 1000:.0f} ms", goals[name]] for name, cost in costs.items()]
    return table(["command", "median of 11", "goal"], rows)


if __name__ == "__main__":
    print(main())
