"""Run the benchmarks (all, or those named) and renew their tables in docs/, between their marks.

python -m benchmarks [NAME ...]
python -m benchmarks training --device cuda
"""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path

_ROOT = Path(__file__).parent.parent
_PAGES = sorted((_ROOT / "docs").glob("*.md"))


def main() -> None:
    marks = {name: page for page in _PAGES for name in re.findall(r"<!-- table: (\w+) -->", page.read_text())}
    if sys.argv[2:] and sys.argv[2].startswith("-"):  # otherwise than for the page: measured, and said
        module = import_module(f"benchmarks.{sys.argv[1]}")
        print(module.main(**module.options(sys.argv[2:])))
        return
    for name in sys.argv[1:] or marks:
        if name not in marks:
            sys.exit(f"no page has a table {name!r}; there are: {', '.join(marks)}")
        print(f"{name} ...", flush=True)
        text = import_module(f"benchmarks.{name}").main()
        block, page = rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", marks[name]
        page.write_text(re.sub(block, lambda m, text=text: f"{m[1]}{text}\n{m[2]}", page.read_text(), flags=re.S))
        print(text, flush=True)


if __name__ == "__main__":
    main()
