"""Seconds and memory of the whole proof at full size."""

from __future__ import annotations

from benchmarks.measure import ZOO, compare, table


def main() -> str:
    costs = compare({"zoo verify alexnet": [ZOO, "verify", "alexnet"]}, runs=3)
    rows = [[f"`{n}`", f"{c.seconds:.0f} s", f"{c.megabytes / 1024:.1f} GB", "60 s, 6 GB"] for n, c in costs.items()]
    return table(["command", "wall", "peak", "goal"], rows)


if __name__ == "__main__":
    print(main())
