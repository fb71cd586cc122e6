"""One node as its reader sees it: every attribute is asked for, or the node is refused."""

from __future__ import annotations

from typing import Any, NoReturn, overload

import numpy as np

from zoo.arrays import Array
from zoo.wire.onnx import Node

# What says nothing of the numbers: which input may be overwritten (operator set 1), and how training goes on.
_SILENT = {"consumed_inputs", "momentum", "seed"}
_LONGEST_LIST = 64


class RefusalError(ValueError):
    """A node that cannot be read; the message says why."""


class Op:
    """A node, its constant inputs at hand.

    Attributes:
        node: as the file has it.
        opset: the operator set that says what it means.
        constants: input -> its numbers, of those that are known.
    """

    def __init__(self, node: Node, opset: int, constants: dict[str, Array]) -> None:
        self.node, self.opset, self.constants = node, opset, constants
        self._asked = set(_SILENT)

    @property
    def out(self) -> str:
        """The name of its first output."""
        return self.node.outputs[0]

    def refuse(self, why: str) -> NoReturn:
        """Refuse the node."""
        raise RefusalError(why)

    def has(self, at: int) -> bool:
        """Whether an input is given."""
        return at < len(self.node.inputs) and bool(self.node.inputs[at])

    def reads(self, at: int = 0) -> str:
        """The name of an input; one that is missing is refused."""
        if not self.has(at):
            self.refuse(f"input {at} is missing")
        return self.node.inputs[at]

    def constant(self, at: int) -> Array | None:
        """The numbers of an input, where they are known."""
        return self.constants.get(self.node.inputs[at]) if self.has(at) else None

    def stored(self, at: int, what: str) -> Array:
        """The numbers of an input that must be known."""
        found = self.constant(at)
        if found is None:
            self.refuse(f"its {what} {self.reads(at)!r} is computed or fed, not stored")
        return found

    def weight(self, at: int, what: str) -> Array:
        """The float32 numbers of an input."""
        found = self.stored(at, what)
        if found.dtype != np.float32:
            self.refuse(f"its {what} {self.reads(at)!r} is {found.dtype.name}, expected float32")
        return found

    def integer(self, name: str, default: int) -> int:
        """An attribute that is a whole number."""
        return self._typed(name, default, int)

    def flag(self, name: str, default: int) -> bool:
        """An attribute that is 0 or 1."""
        found = self.integer(name, default)
        if found not in (0, 1):
            self.refuse(f"{name} is {found}, expected 0 or 1")
        return bool(found)

    def number(self, name: str, default: float) -> float:
        """An attribute that is a float32, as the shortest decimal that is one."""
        return short(self._typed(name, default, (int, float)))

    def text(self, name: str, default: str) -> str:
        """An attribute that is a word."""
        return self._typed(name, default, str)

    @overload
    def integers(self, name: str) -> tuple[int, ...] | None: ...
    @overload
    def integers(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]: ...
    def integers(self, name: str, default: tuple[int, ...] | None = None) -> tuple[int, ...] | None:
        """An attribute that is a list of whole numbers."""
        return self._typed(name, default, tuple)

    def listed(self, name: str, at: int) -> tuple[int, ...] | None:
        """Whole numbers that newer operator sets take as an input, older ones as an attribute; None if not given."""
        if not self.has(at):
            return self.integers(name)
        found = self.stored(at, name)
        if found.dtype.kind not in "iu" or found.size > _LONGEST_LIST or found.ndim > 1:
            self.refuse(f"{name} is no list of whole numbers")
        return tuple(int(item) for item in np.atleast_1d(found))

    def scalar(self, name: str, at: int, default: float) -> float:
        """A number that newer operator sets take as an input, older ones as an attribute."""
        if not self.has(at):
            return self.number(name, default)
        found = self.weight(at, name)
        if found.size != 1:
            self.refuse(f"{name} is no single number")
        return short(found.reshape(-1)[0])

    def place_of(self, axis: int, rank: int) -> int:
        """An axis counted from the front; one that does not exist is refused."""
        if not -rank <= axis < rank:
            self.refuse(f"axis {axis} does not exist in {rank} axes")
        return axis % rank

    def passes_over(self, *names: str) -> None:
        """Attributes that say nothing where this is read."""
        self._asked.update(names)

    def other(self, name: str) -> object:
        """An attribute of any type; None if not given."""
        self._asked.add(name)
        return self.node.attributes.get(name)

    def check(self) -> None:
        """Refuse attributes that nobody asked for."""
        unknown = [name for name in self.node.attributes if name not in self._asked]
        if unknown:
            self.refuse(f"what its attribute {', '.join(unknown)} says is not known here")

    def _typed(self, name: str, default: object, kind: type | tuple[type, ...]) -> Any:
        self._asked.add(name)
        value = self.node.attributes.get(name, default)
        if name in self.node.attributes and not isinstance(value, kind):
            self.refuse(f"its attribute {name} is of another type than expected")
        return value


def short(value: float | Array) -> float:
    """The shortest decimal that is the same float32: 0.0001 for the float32 nearest to it; of an array, its number."""
    return float(str(np.float32(np.asarray(value).item())))
