"""What stands in the place of the objects that PyTorch's pickles name: they do nothing but hold what they are given.

Format: pytorch ``torch/_utils.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from typing import Any, cast

import numpy as np

from zoo.arrays import BFLOAT16

# What numbers are, by the name of their storage's type,
DTYPES = {
    **{"Double": np.dtype("<f8"), "Float": np.dtype("<f4"), "Half": np.dtype("<f2"), "BFloat16": BFLOAT16},
    **{"Long": np.dtype("<i8"), "Int": np.dtype("<i4"), "Short": np.dtype("<i2")},
    **{"Char": np.dtype("i1"), "Byte": np.dtype("u1")},
}
# and what those are called that are no weights; others may be larger than is counted.
OTHERS = {"Bool": ("bool", 1), "ComplexFloat": ("complex64", 8), "ComplexDouble": ("complex128", 16)}
# NumPy's own limit of an array's axes is 64, and no parameter has so many.
_MAX_AXES = 8


class Inert:
    """Stands for whatever a file names: it takes anything, and does nothing."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __call__(self, *_: object) -> Inert:
        """What was to be made is this again."""
        return self

    def __setstate__(self, _: object) -> None:
        pass

    def __setitem__(self, _: object, __: object) -> None:
        pass

    def append(self, _: object) -> None:
        """Nothing is kept."""

    extend = append
    add = append


class Foreign(Inert, dict[object, object]):
    """An object of a class that is not known, as a dictionary of what it is filled with."""

    __setitem__ = dict[object, object].__setitem__  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]
    __hash__ = object.__hash__  # pyright: ignore[reportAssignmentType]


@dataclass(frozen=True, eq=False)
class Storage(Inert):
    """A storage, as the pickle says: where its numbers are kept, which of those are its own, how many of what type."""

    key: str
    start: int
    numbers: int
    type: str


@dataclass(frozen=True, eq=False)
class Tensor(Inert):
    """A tensor: its numbers' places in a storage, counted in numbers; `special` says why it has no such places."""

    storage: Storage | None = None
    offset: int = 0
    shape: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    special: str = ""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its numbers; `problem` says where they are of no such type."""
        return DTYPES[self.storage.type if self.storage else "Float"]

    @property
    def problem(self) -> str:
        """Why it cannot be a parameter; nothing where it can."""
        if self.storage is None:
            return self.special
        if prod(self.shape) > self.storage.numbers:
            return f"has shape {self.shape}, which is more than its stored numbers"
        if len(self.shape) > _MAX_AXES:
            return f"has {len(self.shape)} axes, more than any parameter"
        if self.storage.type not in DTYPES:
            name, _ = OTHERS.get(self.storage.type, (self.storage.type, 1))
            return f"is {name}, expected float32, or what can become it"
        return ""


def as_key(key: object) -> object:
    """A key of a dictionary: text or a small number as it is, which alone names something; an object for any other.

    A tuple is hashed as often as it is met, and numbers can be chosen that all have one hash.
    """
    return key if isinstance(key, str) or (type(key) is int and 0 <= key < 1 << 31) else Inert()


class Dictionary(dict[object, object]):
    """An ordered dictionary, whose attributes (a state dict's versions of modules) are left out."""

    def __init__(self, items: Iterable[tuple[object, object]] = ()) -> None:
        super().__init__((as_key(key), value) for key, value in items)

    def __setstate__(self, _: object) -> None:
        pass


_SPECIAL = "is sparse, quantised or without data, expected an ordinary tensor"


def _rebuilt(*parts: object) -> Tensor:
    """In the place of torch's functions that make a tensor of (storage, offset, size, stride, ...)."""
    if len(parts) < 4 or not isinstance(parts[0], Storage):
        raise ValueError("a tensor without a storage")
    if not isinstance(parts[2], tuple) or not isinstance(parts[3], tuple):
        raise ValueError("a tensor of no shape")
    size, stride = cast("tuple[object, ...]", parts[2]), cast("tuple[object, ...]", parts[3])
    numbers: list[Any] = [parts[1], *size, *stride]
    if len(size) != len(stride) or not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError("a tensor of impossible shape")
    offset, *rest = cast("list[int]", numbers)
    shape, steps = tuple(rest[: len(size)]), tuple(rest[len(size) :])
    last = offset + sum((side - 1) * step for side, step in zip(shape, steps, strict=True))
    if all(shape) and last >= parts[0].numbers:
        raise ValueError(f"a tensor reaches number {last:,} of a storage of {parts[0].numbers:,}")
    if parts[6:7] not in ((), (None,), ({},)):  # conjugated or negated when it is read
        return Tensor(special="is a view whose numbers are not stored as they are")
    return Tensor(storage=parts[0], offset=offset, shape=shape, stride=steps)


def special(*_: object) -> Tensor:
    """In the place of torch's functions that make any other tensor."""
    return Tensor(special=_SPECIAL)


def _of_new_type(*parts: object) -> Tensor:
    """In the place of what makes a tensor of a type that no storage is called after: float8, unsigned integers."""
    kind = parts[6] if len(parts) > 6 else None
    if not isinstance(kind, type):
        return special()
    return Tensor(special=f"is {kind.__name__}, expected float32, or what can become it")


def _parameter(tensor: object, *_: object) -> object:
    return tensor


def _of_a_subclass(make: object, _: object, parts: object, *__: object) -> object:
    return _rebuilt(*cast("tuple[object, ...]", parts)) if make is _rebuilt and isinstance(parts, tuple) else special()


KNOWN: dict[tuple[str, str], Callable[..., object]] = {
    ("torch._utils", "_rebuild_tensor"): _rebuilt,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuilt,
    ("torch._utils", "_rebuild_tensor_v3"): _of_new_type,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _of_a_subclass,
    ("collections", "OrderedDict"): Dictionary,
}
