"""Writes json.md, the fields of every ``--json``, from the schemas: ``python docs/fields.py``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "json.md"
SCHEMAS = ROOT / "converters" / "schemas"

HEAD = """# JSON

What `--json` prints, one object on stdout, and `--report FILE.json` writes. A field is always there unless it is called
*optional*. Numbers are finite. New fields may come; one is removed or changes its meaning only with another `schema`.

The same as JSON Schema (2020-12), for a validator: [list](schemas/list.json), [info](schemas/info.json),
[show](schemas/show.json), [run](schemas/run.json), [eval](schemas/eval.json), [verify](schemas/verify.json). They come
with the package, in `converters/schemas`. The tests hold real output against them, and let no other field pass. The
page is written by `python docs/fields.py`.

```python
import json
from importlib.resources import files

schema = json.loads((files("converters") / "schemas" / "verify.json").read_text())
assert "subjects" in schema["required"]
```
"""


def page() -> str:
    """The text of the page."""
    parts = [HEAD]
    for path in sorted(SCHEMAS.glob("*.json")):
        schema = json.loads(path.read_text(encoding="utf-8"))
        parts.append(f"\n## `{schema['title']}`\n\n| field | type | |\n|---|---|---|\n")
        parts += [f"| `{name}` | {kind} | {told} |\n" for name, kind, told in _rows(schema, "")]
    return "".join(parts)


def _rows(schema: dict[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    """Every field below a schema: its path, its type and what it means."""
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        told = field.get("description", "")
        kind = _kind(field) + ("" if name in required else ", *optional*")
        yield f"{path}{name}", kind, told.replace("|", "\\|")
        inner = field.get("items", field)
        yield from _rows(inner, f"{path}{name}{'[]' if 'items' in field else ''}.")


def _kind(field: dict[str, Any]) -> str:
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    types = field["type"] if isinstance(field["type"], list) else [field["type"]]
    words = [f"array of {_kind(field['items'])}" if kind == "array" else kind for kind in types]
    return " or ".join(words)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
