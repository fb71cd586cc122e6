"""YAML that says one thing, in a size that its file gives away."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import yaml

from zoo.errors import FileFormatError, said
from zoo.wire.regular import check_regular

_TEXT, *_WORDS = [f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "timestamp")]


class StrictLoader(yaml.SafeLoader):
    """YAML without aliases, which can make a small file endless, and without keys that replace each other."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """A part of the text, unless it stands for another one."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"aliases are not allowed (line {self.peek_event().start_mark.line + 1})")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Keys and values; no two keys are one, and all are text, for numbers can be chosen that have one hash."""
        for key, _ in node.value:
            if key.tag in _WORDS:
                key.tag = _TEXT
        keys = [key.value for key, _ in node.value]
        if len({str(key) for key in keys}) != len(keys):
            raise yaml.YAMLError(f"a key is given twice (line {node.start_mark.line + 1})")
        return cast("dict[Any, Any]", super().construct_mapping(node, deep))


def read_yaml(path: Path, most_bytes: int, loader: type[StrictLoader] = StrictLoader) -> object:
    """What a file holds.

    Raises:
        FileFormatError: it is missing, longer than `most_bytes`, or no YAML.
    """
    try:
        check_regular(path)
        if path.stat().st_size > most_bytes:
            raise FileFormatError(path, f"has more than {most_bytes:,} bytes")
        return yaml.load(path.read_text(encoding="utf-8"), loader)
    except OSError as error:
        raise FileFormatError(path, f"cannot be read: {error.strerror}") from error
    except (
        yaml.YAMLError,
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
        ArithmeticError,
        RecursionError,
    ) as error:
        raise FileFormatError(path, f"no YAML: {said(error)}") from error
