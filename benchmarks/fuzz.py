"""Coverage-guided fuzzing of every reader by atheris: what no reader may do, it is led to by the branches it takes.

``python -m benchmarks.fuzz [--seconds N] [READER ...]``. It begins with the good file that `tests.test_fuzz` makes for
each reader. What it finds lies in build/fuzz/READER, and so does the corpus, with which the next run goes on. Every
checksum is taken for right, since no input that is led by branches would ever get behind one.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import ANY, patch

_CORPORA = Path("build/fuzz")
_LONGEST_INPUT = 1 << 16
_CHECKSUMS = (
    "zipfile.ZipExtFile._update_crc",
    "zoo.wire.checkpoint.masked",
    "zoo.wire.table.masked",
    "zoo.wire.zipped._checksum",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readers", nargs="*", metavar="READER")
    parser.add_argument("--seconds", type=int, default=600, help="for each reader")
    parser.add_argument("--here", action="store_true", help="in this process: of one reader")
    options = parser.parse_args()
    if options.here:
        _fuzz(options.readers[0], options.seconds)
        return
    from tests.test_fuzz import READERS  # noqa: PLC0415 - a child instruments it first

    names = options.readers or list(READERS)
    # Each in a process of its own: what atheris finds ends it, and so does the end of its time.
    command = [sys.executable, "-m", "benchmarks.fuzz", "--here", "--seconds", str(options.seconds)]
    failed = [name for name in names if subprocess.run([*command, name]).returncode]
    sys.exit(f"found something: {', '.join(failed)}; see {_CORPORA}" if failed else 0)


def _fuzz(name: str, seconds: int) -> None:
    import atheris  # noqa: PLC0415 # pyright: ignore  # for Linux alone

    guide: Any = atheris
    with guide.instrument_imports(include=["zoo", "converters"]):
        from tests.test_fuzz import READERS  # noqa: PLC0415
        from zoo.errors import ZooError  # noqa: PLC0415

    logging.disable()
    corpus = _CORPORA / name
    corpus.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="zoo-fuzz-") as folder:
        path, read = READERS[name].make(Path(folder))
        (corpus / "good").write_bytes(path.read_bytes())
        for checksum in _CHECKSUMS:
            patch(checksum, lambda *_: ANY).start()

        def once(data: bytes) -> None:
            path.write_bytes(data)
            try:
                read()
            except ZooError as error:
                assert "\n" not in str(error)

        limits = ["-timeout=20", "-rss_limit_mb=4096", f"-max_len={_LONGEST_INPUT}", f"-max_total_time={seconds}"]
        guide.Setup([sys.argv[0], *limits, f"-artifact_prefix={corpus}/found-", str(corpus)], once)
        guide.Fuzz()


if __name__ == "__main__":
    main()
