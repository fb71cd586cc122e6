"""As much of JSON Schema as the project's own schemas use; a keyword that is not known here is an error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_SAID_OF_IT = {"$schema", "title", "description"}
_KNOWN = {"type", "properties", "required", "additionalProperties", "items", "enum", "const", "minimum", "maximum"}


def problems(value: Any, schema: dict[str, Any], where: str = "$") -> Iterator[str]:
    """Everything in which a value is not as its schema says."""
    unknown = schema.keys() - _KNOWN - _SAID_OF_IT
    if unknown:
        raise ValueError(f"{where}: keywords that this validator does not know: {sorted(unknown)}")
    if "const" in schema and value != schema["const"]:
        yield f"{where}: {value!r} is not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: {value!r} is none of {schema['enum']}"
    if "type" in schema and not _is_a(value, schema["type"]):
        yield f"{where}: {value!r} is no {schema['type']}"
        return
    if isinstance(value, dict):
        yield from _in_object(value, schema, where)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from problems(item, schema.get("items", {}), f"{where}[{i}]")
    elif isinstance(value, int | float) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield f"{where}: {value!r} is out of range"


def _is_a(value: Any, types: str | list[str]) -> bool:
    for name in [types] if isinstance(types, str) else types:
        if isinstance(value, _TYPES[name]) and (name == "boolean" or not isinstance(value, bool)):
            return True
    return False


def _in_object(value: dict[str, Any], schema: dict[str, Any], where: str) -> Iterator[str]:
    known, others = schema.get("properties", {}), schema.get("additionalProperties", {})
    yield from (f"{where}: {name} is missing" for name in schema.get("required", []) if name not in value)
    for name, item in value.items():
        if name in known:
            yield from problems(item, known[name], f"{where}.{name}")
        elif others is False:
            yield f"{where}: {name} is not in the schema"
        else:
            yield from problems(item, others, f"{where}.{name}")
