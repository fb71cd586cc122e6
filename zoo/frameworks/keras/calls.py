"""A Keras layer as data: what is printed, and what a saved model says of it, are made from one `Call`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

from zoo.wire.python import quoted

# Where the axes N, C, H, W of an image lie with channels last.
LAST = (0, 3, 1, 2)

# A number, a string, None, a tuple or a list of them, or one of the classes below.
Value: TypeAlias = Any


@dataclass(frozen=True, slots=True)
class Axis:
    """A canonical axis of an image, which lies elsewhere with channels last."""

    index: int


@dataclass(frozen=True, slots=True)
class Word:
    """An argument of the generated function, and the value it stands for unless it is given."""

    text: str
    value: Any


@dataclass(frozen=True, slots=True)
class Initializer:
    """``keras.initializers.<name>(**options)``."""

    name: str
    options: Mapping[str, float]


# Under which the layers of ours are registered with Keras.
PACKAGE = "alexnet_zoo"

DATA_FORMAT = Word("data_format", "channels_last")


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A layer of Keras, or one of ours, beside it in the source.

    Attributes:
        make: its class.
        args: its first arguments, by name; printed without.
        options: the others.
        own: whether it is ours.
        suffix: what follows the name of our layer in its name; empty for the one that carries its parameters.
    """

    make: str
    args: Mapping[str, Value] = field(default_factory=dict[str, Value])
    options: Mapping[str, Value] = field(default_factory=dict[str, Value])
    own: bool = False
    suffix: str = ""

    @property
    def function(self) -> str:
        """What makes the layer."""
        return self.make if self.own else f"keras.layers.{self.make}"

    def arguments(self) -> list[str]:
        """What it is given but for its name, printed."""
        given = [printed(value) for value in self.args.values()]
        return [*given, *(f"{key}={printed(value)}" for key, value in self.options.items())]

    def described(self) -> dict[str, Any]:
        """What Keras makes the layer from again but for its name, with channels last."""
        return {
            "module": None if self.own else "keras.layers",
            "class_name": self.make,
            "config": {key: plain(value) for key, value in {**self.args, **self.options}.items()},
            "registered_name": f"{PACKAGE}>{self.make}" if self.own else None,
        }

    def of_ours(self) -> set[str]:
        """The classes of ours that it is made of."""
        inner = [value.of_ours() for value in self.args.values() if isinstance(value, Call)]
        return set[str]().union({self.make} if self.own else (), *inner)


def own(make: str, **options: Value) -> Call:
    """A layer of ours, with all its arguments by name."""
    return Call(make=make, options=options, own=True)


def canonical(make: str, **options: Value) -> Call:
    """A layer of ours that counts axes as N, C, H, W, and so is told how images lie."""
    return own(make, **options, data_format=DATA_FORMAT)


def unless(default: bool, **options: Value) -> dict[str, Value]:
    """Options that are only worth writing where they are not the default."""
    return {} if default else options


def printed(value: Value) -> str:
    """A value as Python source."""
    match value:
        case Axis(index):
            return f"axes[{index}]"
        case Word(text):
            return text
        case Call():
            return f"{value.function}({', '.join(value.arguments())})"
        case Initializer(name, options):
            return f"keras.initializers.{name}({', '.join(f'{key}={number!r}' for key, number in options.items())})"
        case tuple() | list():
            items = [printed(item) for item in cast("Sequence[Value]", value)]
            return (
                f"({', '.join(items)}{',' * (len(items) == 1)})"
                if isinstance(value, tuple)
                else f"[{', '.join(items)}]"
            )
        case str():
            return quoted(value)
        case _:
            return repr(value)


def plain(value: Value) -> Any:
    """A value as JSON has it, with channels last."""
    match value:
        case Axis(index):
            return LAST[index]
        case Word(_, meant):
            return meant
        case Call():
            return value.described()
        case Initializer(name, options):
            config = dict(options)
            return {"module": "keras.initializers", "class_name": name, "config": config, "registered_name": None}
        case tuple() | list():
            return [plain(item) for item in cast("Sequence[Value]", value)]
        case _:
            return value
