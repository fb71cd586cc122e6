"""A kind of layer in Caffe's words, both ways: one row, in the file of its family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar, cast

from zoo.layers import Layer, Pair
from zoo.wire.prototxt import Message, PrototxtError, Word

Kind = TypeVar("Kind", bound=Layer)


# Field -> its kind, and whether it is repeated.
Fields: TypeAlias = dict[str, tuple[str, bool]]


def fields(**names: str) -> Fields:
    """The fields of a message by their kind; a repeated one is written with a star."""
    return {name.rstrip("*"): (kind, name.endswith("*")) for kind, listed in names.items() for name in listed.split()}


# As many tops as one likes.
MANY = 1 << 31


def _never(block: Message) -> str:
    return ""


@dataclass(frozen=True, kw_only=True)
class Row(Generic[Kind]):
    """One kind.

    Attributes:
        kind: our word.
        type: Caffe's.
        block: the field of its parameters, empty where it has none.
        fields: of that block, where a fork has added it; those of BVLC caffe are in `zoo.frameworks.caffe.schema`.
        read: the layer that a block describes, its name and what it reads; raises `PrototxtError`.
        write: the block of a layer; what equals Caffe's default is left out, sizes excepted. What `expand`
            reads alone has no `read`.
        four_axes: of how many bottoms Caffe's code asks for num, channels, height and width, so that axes that are not
            there count as 1.
        in_place: whether it may overwrite what it reads; of the others, Caffe's CPU code reads again what it has
            written.
        tops: how many it can have.
        refusal: why a block of this type cannot be taken after all; empty where it can.
    """

    kind: type[Kind]
    type: str
    block: str
    fields: Fields | None = None
    read: Callable[[Message, str, tuple[str, ...]], Kind] | None = None
    write: Callable[[Kind], Message] | None = None
    four_axes: int = 0
    in_place: bool = False
    tops: int = 1
    refusal: Callable[[Message], str] = _never


@dataclass(frozen=True, slots=True)
class Setting:
    """A field of a block that is a setting of our kind as it stands.

    Attributes:
        field: Caffe's word.
        default: Caffe's default, which says what the field holds: a flag, a whole number, a number, or (a tuple) a list
            of whole numbers; None for a whole number that has none.
        ours: our word, where it is another.
        always: it is written even where it has the default.
    """

    field: str
    default: float | tuple[int, ...] | None
    ours: str = ""
    always: bool = False

    def read(self, block: Message) -> float | tuple[int, ...]:
        """What a block says."""
        match self.default:
            case None:
                return required(block, self.field)
            case bool() as default:
                return block.flag(self.field, default)
            case int() as default:
                return block.integer(self.field, default)
            case float() as default:
                return block.number(self.field, default)
            case _:
                return tuple(block.integers(self.field))

    def write(self, block: Message, value: float | tuple[int, ...]) -> None:
        """Add what a layer has."""
        if isinstance(value, tuple):
            block.add(self.field, *value)
        elif self.always or self.default is None or isinstance(self.default, tuple):
            block.add(self.field, value)
        else:
            unless(block, self.field, value, self.default)


def plain_row(
    kind: type[Kind],
    type: str,
    block: str = "",
    *settings: Setting,
    fields: Fields | None = None,
    four_axes: int = 0,
    in_place: bool = False,
) -> Row[Kind]:
    """The row of a kind that is its settings and nothing else: they are read and written by one table."""
    words = {setting.ours or setting.field: setting for setting in settings}

    def read(block: Message, name: str, inputs: tuple[str, ...]) -> Kind:
        values = {ours: setting.read(block) for ours, setting in words.items()}
        return cast("Callable[..., Kind]", kind)(name=name, inputs=inputs, **values)

    def write(layer: Kind) -> Message:
        block = Message()
        for ours, setting in words.items():
            setting.write(block, getattr(layer, ours))
        return block

    return Row(
        kind=kind,
        type=type,
        block=block,
        fields=fields,
        read=read,
        write=write,
        four_axes=four_axes,
        in_place=in_place,
    )


def required(block: Message, name: str) -> int:
    """A number that has no default."""
    if name not in block:
        raise PrototxtError(block.line, f"{name} is missing")
    return block.integer(name, 0)


def read_pair(block: Message, name: str, stem: str, default: int | None) -> Pair:
    """A (height, width) given once, twice, or as `stem`_h and `stem`_w; ``default=None`` makes it required."""
    values = block.integers(name)
    sides = [f"{stem}_h", f"{stem}_w"] if stem else []
    if any(side in block for side in sides):
        if values:
            raise PrototxtError(block.line, f"either {name} or {sides[0]} and {sides[1]}, not both")
        if default != 0 and not all(side in block for side in sides):
            raise PrototxtError(block.line, f"{sides[0]} and {sides[1]} belong together")
        return block.integer(sides[0], 0), block.integer(sides[1], 0)
    if not values and default is None:
        raise PrototxtError(block.line, f"{name} is missing")
    if len(values) > 2:
        raise PrototxtError(block.line, f"{name} is given {len(values)} times; this network is two-dimensional")
    if len(values) == 2:
        return values[0], values[1]
    return (values[0], values[0]) if values else (default or 0, default or 0)


def unless(block: Message, name: str, value: float | bool, default: float | bool) -> Message:
    """Add a field where it is not Caffe's default; returns the block."""
    if value != default:
        block.add(name, Word(str(value).lower()) if isinstance(value, bool) else value)
    return block


def write_pair(block: Message, name: str, stem: str, value: Pair, default: int | None) -> None:
    """The inverse of `read_pair`, in as few words as say it."""
    if value[0] == value[1]:
        if value[0] != default:
            block.add(name, value[0])
    else:
        block.add(f"{stem}_h", value[0]).add(f"{stem}_w", value[1])
