"""YAML that says one thing, in a size that its file gives away."""

from __future__ import annotations

from typing import Any, cast

import yaml

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
