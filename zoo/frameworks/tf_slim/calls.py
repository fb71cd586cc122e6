"""Calls as data: what is run and what is printed are one and the same thing, so the two cannot drift apart.

An expression is a number, a string, a list, a `Name` or a `Call` of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

from zoo.wire.python import quoted

_WIDTH = 120


@dataclass(frozen=True, slots=True)
class Name:
    """A name of the generated function: ``net``, ``is_training``, ``tf.float32.min``."""

    text: str


@dataclass(frozen=True, slots=True)
class Activation:
    """What another layer, or an input, put out."""

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """``function(*arguments, **options)``."""

    function: str
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


Expression: TypeAlias = Any


def call(function: str, *arguments: Expression, **options: Expression) -> Call:
    """A `Call`, written like one; options that are None are left out."""
    return Call(function, arguments, {key: value for key, value in options.items() if value is not None})


def evaluate(value: Expression, lookup: Callable[[Name | Activation], Any]) -> Any:
    """Run an expression; `lookup` knows what the names stand for, functions included."""
    match value:
        case Name() | Activation():
            return lookup(value)
        case Call():
            function = lookup(Name(value.function))
            arguments = [evaluate(item, lookup) for item in value.arguments]
            return function(*arguments, **{key: evaluate(item, lookup) for key, item in value.options.items()})
        case list():
            return [evaluate(item, lookup) for item in cast("list[Any]", value)]
        case _:
            return value


def render(value: Expression, spell: Callable[[Activation], str]) -> str:
    """An expression as Python source, on one line; `spell` says how to write an activation."""
    match value:
        case Name():
            return value.text
        case Activation():
            return spell(value)
        case Call():
            return f"{value.function}({', '.join(_items(value, spell))})"
        case list():
            return f"[{', '.join(render(item, spell) for item in cast('list[Any]', value))}]"
        case str():
            return quoted(value)
        case _:
            return repr(value)


def statement(target: str, value: Expression, spell: Callable[[Activation], str], indent: str) -> str:
    """``target = value``, broken into one argument a line where it is long."""
    line = f"{indent}{target} = {render(value, spell)}"
    if len(line) <= _WIDTH or not isinstance(value, Call):
        return line
    items = "".join(f"{indent}    {item},\n" for item in _items(value, spell))
    return f"{indent}{target} = {value.function}(\n{items}{indent})"


def _items(value: Call, spell: Callable[[Activation], str]) -> list[str]:
    positional = [render(item, spell) for item in value.arguments]
    return positional + [f"{key}={render(item, spell)}" for key, item in value.options.items()]


def functions(value: Expression) -> set[str]:
    """The names of all functions an expression calls."""
    match value:
        case Call():
            inner = [*value.arguments, *value.options.values()]
            return {value.function}.union(*map(functions, inner))
        case list():
            return set[str]().union(*map(functions, cast("list[Any]", value)))
        case _:
            return set()
