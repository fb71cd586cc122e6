"""Run the benchmarks (all, or those named) and renew their tables in the README, between their marks."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path

_README = Path(__file__).parent.parent / "README.md"


def main() -> None:
    marks = re.findall(r"<!-- table: (\w+) -->", _README.read_text())
    for name in sys.argv[1:] or marks:
        if name not in marks:
            sys.exit(f"README.md has no table {name!r}; it has: {', '.join(marks)}")
        print(f"{name} ...", flush=True)
        text = import_module(f"benchmarks.{name}").main()
        block = rf"(<!-- table: {name} -->\n).*?(<!-- end -->)"
        _README.write_text(re.sub(block, lambda m, text=text: f"{m[1]}{text}\n{m[2]}", _README.read_text(), flags=re.S))
        print(text, flush=True)


if __name__ == "__main__":
    main()
