"""Python source that others are to run."""

from __future__ import annotations

from pathlib import Path

from zoo.errors import UnsupportedError


def write_source(path: Path, text: str) -> None:
    """Write source in UTF-8; raises `UnsupportedError` where a name in it keeps it from being Python."""
    try:
        compile(text, path.name, "exec", dont_inherit=True)
        path.write_text(text, encoding="utf-8")
    except (SyntaxError, ValueError) as error:
        raise UnsupportedError(f"{path.name}: a name of the network makes it no Python source ({error})") from error
