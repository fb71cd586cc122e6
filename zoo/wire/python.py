"""Python source that others are to run."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection
from functools import cache
from pathlib import Path

from zoo.errors import UnsupportedError, one_line


def write_source(path: Path, text: str) -> None:
    """Write source in UTF-8; raises `UnsupportedError` where a name in it keeps it from being Python."""
    try:
        compile(text, path.name, "exec", dont_inherit=True)
        path.write_text(text, encoding="utf-8")
    except (SyntaxError, ValueError) as error:
        raise UnsupportedError(f"{path.name}: a name of the network makes it no Python source ({error})") from error


def quoted(text: str) -> str:
    """A string literal, in double quotes where nothing has to be escaped."""
    literal = repr(text)
    return f'"{text}"' if literal == f"'{text}'" and '"' not in text else literal


def in_docstring(text: str) -> str:
    """Anybody's words, made safe within a docstring."""
    return one_line(text).replace("\\", "\\\\").replace('"', "'")


@cache
def definitions(folder: Path) -> dict[str, str]:
    """The functions and classes of a folder's files by name, as they are written, in the order of the files."""
    found = dict[str, str]()
    for file in sorted(folder.glob("*.py")):
        text = file.read_text(encoding="utf-8")
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                found[node.name] = "\n".join(text.splitlines()[first - 1 : node.end_lineno])
    return found


def definitions_of(folder: Path, used: Collection[str]) -> list[str]:
    """The text of those that are used, and of those that they call or are made from, in the order of the files."""
    known = definitions(folder)
    wanted = new = known.keys() & used
    while new:
        text = "\n".join(known[name] for name in new)
        new = {name for name in known.keys() - wanted if re.search(rf"(?<![.\w]){name}[()]", text)}
        wanted = wanted | new
    return [text for name, text in known.items() if name in wanted]
