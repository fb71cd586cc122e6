"""A `ModelSpec` as JSON text, so that a file can carry the network it belongs to."""

from __future__ import annotations

import json
import types
import typing
from dataclasses import fields, is_dataclass
from typing import Any, Literal, Union, cast, get_args, get_origin

from zoo.errors import ZooError
from zoo.layers import Layer, ModelSpec

# The metadata key under which formats that carry metadata (safetensors, ONNX) hold the spec of their weights.
METADATA_KEY = "alexnet_zoo.spec"

_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(Layer)}


def to_dict(value: Any) -> Any:
    """Dataclasses as dictionaries, a layer with its ``kind``; fields at their default are left out."""
    if isinstance(value, tuple | list):
        return [to_dict(item) for item in cast("tuple[Any, ...]", value)]
    if not is_dataclass(value):
        return value
    kind = {"kind": type(value).__name__} if type(value).__name__ in _KINDS else {}
    return kind | {
        f.name: to_dict(getattr(value, f.name)) for f in fields(value) if getattr(value, f.name) != f.default
    }


def dumps(spec: ModelSpec) -> str:
    """The spec as one line of JSON; equal specs give equal text."""
    return json.dumps(to_dict(spec), sort_keys=True, separators=(",", ":"), allow_nan=False)


def loads(text: str) -> ModelSpec:
    """The inverse of `dumps`; raises `ZooError` for anything that is no spec."""
    try:
        return cast(ModelSpec, _build(ModelSpec, json.loads(text)))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ZooError(f"the embedded network description is damaged: {error}") from error


def _build(expected: Any, value: Any) -> Any:
    origin, arguments = get_origin(expected), get_args(expected)
    if expected is Layer:
        return _build(_KINDS[value["kind"]], {key: item for key, item in value.items() if key != "kind"})
    if origin in (Union, types.UnionType):
        return None if value is None else _build(next(a for a in arguments if a is not type(None)), value)
    if origin is tuple:
        inner = arguments[0] if arguments[-1] is Ellipsis else None
        if not isinstance(value, list) or (inner is None and len(cast("list[Any]", value)) != len(arguments)):
            raise TypeError(f"expected a list, got {value!r}")
        items = cast("list[Any]", value)
        return tuple(_build(inner or arguments[i], item) for i, item in enumerate(items))
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"expected one of {arguments}, got {value!r}")
        return value
    if is_dataclass(expected):
        hints = typing.get_type_hints(expected)
        return cast(Any, expected)(**{key: _build(hints[key], item) for key, item in dict(value).items()})
    if expected is float and type(value) is int:
        return float(value)
    if type(value) is not expected:
        raise TypeError(f"expected {expected.__name__}, got {value!r}")
    return value
