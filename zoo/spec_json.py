"""A `ModelSpec` as JSON text, so that a file can carry the network it belongs to."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, Union, cast, get_args, get_origin

from zoo.errors import UnknownNameError, ZooError
from zoo.layers import Layer, ModelSpec
from zoo.limits import in_float32

# The metadata key under which formats that carry metadata (safetensors, ONNX) hold the spec of their weights.
METADATA_KEY = "alexnet_zoo.spec"
_MOST_DIGITS = 64


def to_dict(value: Any) -> Any:
    """Dataclasses as dictionaries, a layer with its ``kind``; fields at their default are left out."""
    if isinstance(value, tuple | list):
        return [to_dict(item) for item in cast("tuple[Any, ...]", value)]
    if not is_dataclass(value):
        return value
    kind = {"kind": type(value).__name__} if isinstance(value, get_args(Layer)) else {}
    return kind | {
        f.name: to_dict(getattr(value, f.name)) for f in fields(value) if getattr(value, f.name) != f.default
    }


def dumps(spec: ModelSpec) -> str:
    """The spec as one line of JSON; equal specs give equal text."""
    return json.dumps(to_dict(spec), sort_keys=True, separators=(",", ":"), allow_nan=False)


def loads(text: str) -> ModelSpec:
    """The inverse of `dumps`; raises `ZooError` for anything that is no spec."""
    try:
        return cast(ModelSpec, build(ModelSpec, json.loads(text, parse_int=_whole)))
    except (ValueError, TypeError, RecursionError, UnknownNameError) as error:
        raise ZooError(f"the embedded network description is damaged: {error}") from error


def build(expected: Any, value: Any) -> Any:
    """Plain data, as JSON and YAML have it, as what the type says: the inverse of `to_dict`.

    Dataclasses from dictionaries, one of several told by its ``kind``; tuples from lists, mappings, literals, numbers.

    Raises:
        ValueError, TypeError, UnknownNameError: it is none.
    """
    origin, arguments = get_origin(expected), get_args(expected)
    if origin in (Union, types.UnionType):
        return _one_of(arguments, value)
    if origin is tuple:
        inner = arguments[0] if arguments[-1] is Ellipsis else None
        if not isinstance(value, list) or (inner is None and len(cast("list[Any]", value)) != len(arguments)):
            raise TypeError(f"expected a list, got {value!r}")
        items = cast("list[Any]", value)
        return tuple(build(inner or arguments[i], item) for i, item in enumerate(items))
    if origin is Mapping:
        return {build(arguments[0], key): build(arguments[1], item) for key, item in _mapping(value).items()}
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"expected one of {arguments}, got {value!r}")
        return value
    if is_dataclass(expected):
        return _dataclass(expected, _mapping(value))
    if expected is float and type(value) in (float, int):
        return _finite(value)
    if type(value) is not expected:
        raise TypeError(f"expected {expected.__name__}, got {value!r}")
    if expected is str:
        _text(value)
    return value


def _whole(digits: str) -> float:
    """A whole number; of one that no field holds, Python would speak of its own limit of digits."""
    return int(digits) if len(digits) < _MOST_DIGITS else float(digits)


def _text(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:  # half a surrogate pair is legal JSON
        raise ValueError(f"expected text, got {value!r}, which is none in UTF-8") from error


def _finite(number: float) -> float:
    if not in_float32(number):
        raise ValueError(f"expected a finite number of float32, got {number}")
    return float(number)


def _one_of(kinds: tuple[Any, ...], value: Any) -> Any:
    if type(None) in kinds:
        return None if value is None else build(next(kind for kind in kinds if kind is not type(None)), value)
    content, known = _mapping(value), {kind.__name__: kind for kind in kinds}
    kind = content.get("kind")
    if not isinstance(kind, str):
        raise TypeError("kind is missing")
    if kind not in known:
        raise UnknownNameError("kind", kind, known)
    return build(known[kind], {key: item for key, item in content.items() if key != "kind"})


def _mapping(value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"expected keys with values, got {value!r}")
    return cast("dict[Any, Any]", value)


def _dataclass(expected: Any, value: dict[Any, Any]) -> Any:
    hints, needed = typing.get_type_hints(expected), [field for field in fields(expected) if _is_needed(field)]
    for key in value:
        if key not in hints:
            raise UnknownNameError(f"key of a {expected.__name__}", str(key), hints)
    missing = [field.name for field in needed if field.name not in value]
    if missing:
        raise ValueError(f"{', '.join(missing)} of a {expected.__name__} is missing")
    built = dict[str, Any]()
    for key, item in value.items():
        try:
            built[key] = build(hints[key], item)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{key}: {error}") from error
    return expected(**built)


def _is_needed(field: Any) -> bool:
    return field.default is MISSING and field.default_factory is MISSING
