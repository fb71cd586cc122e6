"""The long run of the tests of the proof: thousands of wrong graphs, and right ones written otherwise."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import table
from tests.mutants import HEADER, counted, every, sample, tried

_COUNT = 2400


def main() -> str:
    with TemporaryDirectory() as folder:
        results = list(tried(sample(every(Path(folder)), _COUNT), Path(folder)))
    return table(HEADER, counted(results))


if __name__ == "__main__":
    print(main())
