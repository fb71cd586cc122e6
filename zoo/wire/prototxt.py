"""Protobuf's text format, as Caffe's users write it: a parser that reports lines, and a printer.

Language: protobuf.dev/reference/protobuf/textformat-spec. There is no schema here: a `Message` holds what was written,
and whoever asks for a field says what it must be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from zoo.limits import in_float32

T = TypeVar("T")


class PrototxtError(ValueError):
    """Text that is no text format, or a field of the wrong kind; the message starts with the line."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}" if line else problem)


class Word(str):
    """A bare identifier: an enum value, ``true`` or ``false``."""

    __slots__ = ()


class Radix(int):
    """A whole number written in hexadecimal or octal; protobuf takes none where a number with a fraction may stand."""

    def __new__(cls, value: int, written: str) -> Radix:
        """The number, and how it stood in the file."""
        number = super().__new__(cls, value)
        number.written = written
        return number

    written: str


Scalar: TypeAlias = "str | int | float"
Value: TypeAlias = "Scalar | Message"

# Caffe's own files nest four deep; a deeper one is an attack on somebody's stack.
_MAX_DEPTH = 32

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\f\v]+|\#[^\n]*)
    |(?P<newline>\n)
    |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<number>(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?[fF]?)(?![A-Za-z0-9_.]))
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<mark>[{}<>\[\]:;,-])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|[xX][0-9a-fA-F]{1,2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)")
_ESCAPES = {
    **{b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"},
    **{letter: letter for letter in (b"\\", b"'", b'"', b"?")},
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NO_NUMBERS = {"inf", "infinity", "nan"}


@dataclass
class Message:
    """The fields of one message, each with its values in the order written.

    Attributes:
        line: where it begins.
        fields: name -> values.
        lists: the names of fields that were written as a list, [1, 2], which protobuf takes for repeated ones alone.
    """

    line: int = 0
    fields: dict[str, list[Value]] = field(default_factory=dict[str, "list[Value]"])
    lists: set[str] = field(default_factory=set[str], compare=False)

    def add(self, name: str, *values: Value) -> Message:
        """Append values to a field; returns this message, so that calls chain."""
        if values:
            self.fields.setdefault(name, []).extend(values)
        return self

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    def messages(self, name: str) -> list[Message]:
        """A repeated sub-message."""
        values = self.fields.get(name, [])
        for value in values:
            if not isinstance(value, Message):
                raise PrototxtError(self.line, f"{name} must be a {{ }} block, got {value!r}")
        return [value for value in values if isinstance(value, Message)]

    def message(self, name: str) -> Message:
        """A sub-message; an empty one where it is absent."""
        found = self.messages(name)
        if len(found) > 1:
            raise PrototxtError(found[1].line, f"{name} is given twice")
        return found[0] if found else Message(line=self.line)

    def strings(self, name: str) -> list[str]:
        """A repeated string."""
        values = self.fields.get(name, [])
        if any(not isinstance(value, str) or isinstance(value, Word) for value in values):
            raise PrototxtError(self.line, f"{name} must be text in quotes, got {_shown(values)}")
        return [str(value) for value in values if isinstance(value, str)]

    def string(self, name: str, default: str = "") -> str:
        """A string."""
        return self._single(name, self.strings(name), default)

    def integers(self, name: str) -> list[int]:
        """A repeated integer, within 32 bits as all of Caffe's are."""
        values = self.fields.get(name, [])
        if any(not isinstance(value, int) or abs(value) >= 1 << 31 for value in values):
            raise PrototxtError(self.line, f"{name} must be a whole number, got {_shown(values)}")
        return [value for value in values if isinstance(value, int)]

    def integer(self, name: str, default: int) -> int:
        """An integer."""
        return self._single(name, self.integers(name), default)

    def numbers(self, name: str) -> list[float]:
        """A repeated number."""
        values = self.fields.get(name, [])
        numbers = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, Radix)]
        if len(numbers) < len(values) or not all(map(in_float32, numbers)):
            raise PrototxtError(
                self.line, f"{name} must be a decimal number of float32, and finite, got {_shown(values)}"
            )
        return numbers

    def number(self, name: str, default: float) -> float:
        """A number."""
        return self._single(name, self.numbers(name), default)

    def enum(self, name: str, default: str, names: tuple[str, ...]) -> str:
        """An enum value, written as its name or as its number, the place in `names`; returned as its name."""
        values = self.fields.get(name, [])
        known = [
            names[value] if isinstance(value, int) and 0 <= value < len(names) else value if value in names else None
            for value in values
        ]
        if None in known:
            raise PrototxtError(self.line, f"{name} must be one of {', '.join(names)}, got {_shown(values)}")
        return self._single(name, [str(value) for value in known], default)

    def flag(self, name: str, default: bool) -> bool:
        """A boolean, written ``true``/``false``, ``t``/``f`` or 1/0."""
        values = self.fields.get(name, [])
        known = {"true": True, "True": True, "t": True, "1": True, "false": False, "False": False, "f": False}
        known["0"] = False
        if any(str(value) not in known for value in values):
            raise PrototxtError(self.line, f"{name} must be true or false, got {_shown(values)}")
        return self._single(name, [known[str(value)] for value in values], default)

    def _single(self, name: str, values: list[T], default: T) -> T:
        if len(values) > 1:
            raise PrototxtError(self.line, f"{name} is given {len(values)} times")
        return values[0] if values else default


def _shown(values: list[Value]) -> str:
    return ", ".join(map(shown, values[:4]))


def shown(value: Value) -> str:
    """A value as it was written, near enough to be found."""
    match value:
        case Message():
            return "a { } block"
        case Radix():
            return value.written
        case Word():
            return str(value)
        case _:
            return repr(value)


@dataclass(slots=True)
class _Token:
    kind: str
    text: str
    line: int


def _tokens(text: str) -> Iterator[_Token]:
    position, line = 0, 1
    while position < len(text):
        match = _TOKEN.match(text, position)
        if not match or not match.lastgroup:
            raise PrototxtError(line, f"cannot read {text[position : position + 12]!r}")
        if match.lastgroup not in ("space", "newline"):
            yield _Token(match.lastgroup, match.group(), line)
        line += match.lastgroup == "newline"
        position = match.end()
    yield _Token("end", "the end of the file", line)


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens = _tokens(text)
        self.token = next(self.tokens)

    def advance(self) -> _Token:
        token = self.token
        if token.kind != "end":
            self.token = next(self.tokens)
        return token

    def skip(self, *marks: str) -> bool:
        found = self.token.kind == "mark" and self.token.text in marks
        if found:
            self.advance()
        return found

    def message(self, line: int, closing: str, depth: int) -> Message:
        """The fields up to the closing mark, or up to the end of the file."""
        message = Message(line=line)
        while not (self.skip(closing) if closing else self.token.kind == "end"):
            self.field(message, depth)
            self.skip(",", ";")
        return message

    def field(self, message: Message, depth: int) -> None:
        name = self.advance()
        if name.kind != "word":
            raise PrototxtError(name.line, f"expected a field name, got {name.text}")
        colon = self.skip(":")
        if not self.skip("["):
            message.add(name.text, self.value(name, depth, colon))
            return
        message.lists.add(name.text)
        while not self.skip("]"):
            message.add(name.text, self.value(name, depth, colon))
            if not self.skip(",") and self.token.text != "]":
                raise PrototxtError(self.token.line, f"expected ',' or ']', got {self.token.text}")

    def value(self, name: _Token, depth: int, colon: bool) -> Value:
        for opening, closing in ("{}", "<>"):
            if self.skip(opening):
                if depth == _MAX_DEPTH:
                    raise PrototxtError(name.line, f"blocks are nested deeper than {_MAX_DEPTH}")
                return self.message(name.line, closing, depth + 1)
        if not colon:
            raise PrototxtError(name.line, f"expected ':' or '{{' after {name.text}, got {self.token.text}")
        return self.scalar()

    def scalar(self) -> Scalar:
        token = self.advance()
        match token.kind:
            case "string":
                value = _unescape(token)
                while self.token.kind == "string":  # adjacent strings are one
                    value += _unescape(self.advance())
                try:
                    return value.decode()
                except UnicodeDecodeError as error:
                    raise PrototxtError(token.line, f"the text {token.text} is no UTF-8") from error
            case "number":
                return _number(token)
            case "word":
                return Word(token.text)
            case _ if token.text == "-":
                return self.negative(token)
            case _:
                raise PrototxtError(token.line, f"expected a value, got {token.text}")

    def negative(self, sign: _Token) -> Scalar:
        """What follows a minus, with or without a space."""
        token = self.advance()
        if token.kind == "word" and token.text.lower() in _NO_NUMBERS:
            return -float(token.text)
        if token.kind != "number":
            raise PrototxtError(sign.line, f"expected a number after -, got {token.text}")
        value = _number(token)
        return Radix(-value, f"-{value.written}") if isinstance(value, Radix) else -value


def _unescape(token: _Token) -> bytes:
    """The bytes a string stands for: escapes are of bytes, not of letters, but for ``\\u`` and ``\\U``."""

    def one(match: re.Match[bytes]) -> bytes:
        code = match.group(1)
        if b"0" <= code[:1] <= b"7":
            return bytes([int(code, 8) & 0xFF])
        if code[:1] in b"xX" and len(code) > 1:
            return bytes([int(code[1:], 16)])
        if code[:1] in b"uU" and len(code) > 1:
            try:
                return chr(int(code[1:], 16)).encode()
            except (ValueError, OverflowError) as error:
                raise PrototxtError(token.line, f"no letter is \\{code.decode()}") from error
        if code not in _ESCAPES:
            raise PrototxtError(token.line, f"unknown escape \\{code.decode(errors='replace')} in {token.text}")
        return _ESCAPES[code]

    return _ESCAPE.sub(one, token.text[1:-1].encode())


def _number(token: _Token) -> int | float:
    text = token.text.lower()
    if len(text) > 64:
        raise PrototxtError(token.line, "a number of more than 64 digits")
    if "x" in text:
        return Radix(int(text, 16), token.text)
    if text[:1] == "0" and text[1:2].isdigit():
        if set(text) - set("01234567"):
            raise PrototxtError(token.line, f"{text}: a number that begins with 0 is octal")
        return Radix(int(text, 8), token.text)
    return int(text) if text.isdigit() else float(text.removesuffix("f"))


def parse(text: str) -> Message:
    """The message a text holds; raises `PrototxtError` with the line."""
    return _Parser(text).message(1, "", 1)


def dumps(message: Message, *, width: int = 88) -> str:
    """A message as text; blocks that fit a line stay on one."""
    return "".join(line + "\n" for name, values in message.fields.items() for line in _lines(name, values, 0, width))


def _lines(name: str, values: list[Value], indent: int, width: int) -> Iterator[str]:
    pad = "  " * indent
    for value in values:
        if not isinstance(value, Message):
            yield f"{pad}{name}: {_scalar(value)}"
            continue
        short = f"{pad}{name} {_inline(value)}"
        if len(short) <= width:
            yield short
            continue
        yield f"{pad}{name} {{"
        for child, children in value.fields.items():
            yield from _lines(child, children, indent + 1, width)
        yield f"{pad}}}"


def _inline(message: Message) -> str:
    parts = [
        f"{name} {_inline(value)}" if isinstance(value, Message) else f"{name}: {_scalar(value)}"
        for name, values in message.fields.items()
        for value in values
    ]
    return f"{{ {' '.join(parts)} }}" if parts else "{ }"


def _scalar(value: Scalar) -> str:
    if isinstance(value, Word):
        return str(value)
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + _CONTROL.sub(lambda match: f"\\{ord(match.group()):03o}", escaped) + '"'
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else repr(value)
