"""The pickle inside an ``.npy`` dictionary of arrays: read without running anything, written always the same.

Format: Python's ``pickletools.py``; NumPy's ``ndarray.__reduce__``. Reading goes through an unpickler that knows only
the opcodes of dictionaries, lists, tuples, strings and numbers, and puts notes in the place of the few NumPy names that
an array needs: nothing of NumPy, and nothing that the file names, is ever called.
"""

from __future__ import annotations

import pickle
import re
import struct
from collections.abc import Callable, Mapping
from math import prod
from pickle import PickleError
from typing import Any, BinaryIO, cast

import numpy as np

from zoo.arrays import Array
from zoo.wire.layout import contiguous
from zoo.wire.unpickler import PythonUnpickler

_ALLOWED = (
    "PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE "
    "SHORT_BINUNICODE BINUNICODE8 BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 EMPTY_DICT EMPTY_LIST "
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 APPEND APPENDS SETITEM SETITEMS BINPUT LONG_BINPUT MEMOIZE BINGET "
    "LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BUILD"
)
_CODES = {getattr(pickle, name)[0] for name in _ALLOWED.split()}
# Strings this long are numbers of an array; they stay views of the file.
_LONG = 1 << 12
_TYPE = re.compile(r"\?|b1|[fiu][1248]")


class _ArrayNote:
    """What the pickle says of one array."""

    def __init__(self, *state: object) -> None:
        self.state = state

    def array(self) -> Array:
        """The array, a view of the file where its numbers are long enough."""
        if len(self.state) not in (4, 5):
            raise ValueError("an array without content")
        shape, kind, fortran, content = self.state[-4:]
        sizes = cast("tuple[object, ...]", shape) if isinstance(shape, tuple) else ("?",)
        if not all(isinstance(size, int) and size >= 0 for size in sizes) or not isinstance(kind, _TypeNote):
            raise ValueError("an array of impossible shape or type")
        if isinstance(content, str):  # what Python 2 wrote as a string
            content = content.encode("latin1")
        if not isinstance(content, bytes | memoryview):
            raise ValueError("an array of objects; arrays of numbers alone are read")
        dtype, shape = kind.dtype(), cast("tuple[int, ...]", sizes)
        if prod(shape) * dtype.itemsize != len(content):
            raise ValueError(f"an array of shape {shape} with {len(content)} bytes")
        return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")

    def opened(self) -> object:
        """Of an array of objects, the list of them; without axes, what `numpy.save` makes of a dictionary, the one."""
        shape, kind, _, content = self.state[-4:] if len(self.state) >= 4 else (None,) * 4
        if not isinstance(kind, _TypeNote) or not kind.name.startswith("O"):
            return self
        if not isinstance(content, list) or (shape == () and len(cast("list[object]", content)) != 1):
            raise ValueError("an array of objects without them")
        return cast("list[object]", content)[0] if shape == () else cast("list[object]", content)


class _TypeNote:
    """What the pickle says of a number type."""

    def __init__(self, name: object) -> None:
        self.name, self.order = _word(name), "|"

    def dtype(self) -> np.dtype[Any]:
        """The type; raises `ValueError` for anything but numbers."""
        if not _TYPE.fullmatch(self.name) or self.order not in ("<", ">", "|", "="):
            raise ValueError(f"an array of {self.name[:20]!r}; arrays of numbers alone are read")
        return np.dtype(self.name).newbyteorder(cast(Any, self.order))


def _word(text: object) -> str:
    if isinstance(text, bytes):
        return text.decode("latin1")
    if not isinstance(text, str):
        raise ValueError("a number type without a name")
    return text


def _encoded(text: object, encoding: object) -> bytes:
    """How Python 3 writes bytes that Python 2 shall read."""
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError("bytes in an unknown encoding")
    return text.encode("latin1")


class _Bytes:
    """A view as the file an unpickler reads; what is long is handed out as a view."""

    def __init__(self, data: memoryview) -> None:
        self._data, self._position = data, 0

    def read(self, size: int) -> bytes | memoryview:
        found = self._data[self._position : self._position + size]
        if len(found) != size:
            raise EOFError("it is cut short")
        self._position += size
        return found if size >= _LONG else bytes(found)

    def readline(self) -> bytes:
        line = bytes(self._data[self._position : self._position + 200]).partition(b"\n")[0] + b"\n"
        self._position += len(line)
        return line


class _Unpickler(PythonUnpickler):
    """Python's unpickler (the one written in Python) without most of its opcodes and all of its imports."""

    dispatch = {code: load for code, load in PythonUnpickler.dispatch.items() if code in _CODES}  # noqa: RUF012

    def _decode_string(self, value: bytes | memoryview) -> str | memoryview:
        return value if isinstance(value, memoryview) else value.decode("latin1")

    def find_class(self, module: str, name: str) -> Callable[..., object]:
        known: dict[tuple[str, str], Callable[..., object]] = {
            ("multiarray", "_reconstruct"): lambda *_: _ArrayNote(),
            ("multiarray", "scalar"): lambda kind, content: _ArrayNote((), kind, False, content),
            ("numpy", "ndarray"): lambda *_: _ArrayNote(),
            ("numpy", "dtype"): lambda name, *_: _TypeNote(name),
            ("_codecs", "encode"): lambda text, encoding: _encoded(text, encoding),
        }
        short = "multiarray" if module in ("numpy.core.multiarray", "numpy._core.multiarray") else module
        if (short, name) not in known:
            raise ValueError(f"it names {module[:60]}.{name[:60]}, which is never called; only arrays are read")
        return known[short, name]

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(state, tuple):
            raise ValueError("a state that is none")
        values = cast("tuple[object, ...]", state)
        if isinstance(target, _ArrayNote):
            target.state = values
        elif isinstance(target, _TypeNote) and len(values) > 1:
            target.order = _word(values[1])
        else:
            raise ValueError("a state for what has none")

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set(self.stack[-1], [key, value])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self._set(self.stack[-1], items)

    def _set(self, target: object, items: list[object]) -> None:
        # Only words and small numbers are keys: the hash of a deeply nested tuple would overflow the C stack, and
        # large numbers can be chosen that all have one hash.
        if not isinstance(target, dict) or len(items) % 2:
            raise ValueError("items for what is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | bytes) and not (type(key) is int and 0 <= key < 1 << 31):
                raise ValueError("a key that is no word")
            cast("dict[object, object]", target)[key] = value

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems


def loads(data: memoryview) -> dict[str, Array]:
    """The arrays of a pickled dictionary {layer: {name: array}} or {layer: [array, ...]}, as ``layer/name``.

    A list, and an array of objects, are taken as a dictionary whose names are numbers.

    Raises:
        ValueError: it is damaged, names anything but NumPy's arrays, or is no such dictionary.
    """
    try:
        found = _Unpickler(_Bytes(data), encoding="latin1").load()
    except (PickleError, EOFError, LookupError, TypeError, AttributeError, AssertionError, struct.error) as error:
        raise ValueError(f"a damaged pickle, or one of more than arrays ({error})") from error
    arrays = dict[str, Array]()
    for layer, value in _pairs("the file", found):
        if isinstance(value, _ArrayNote):
            arrays[layer] = value.array()
            continue
        for name, note in _pairs(layer, value):
            if not isinstance(note, _ArrayNote):
                raise ValueError(f"{layer}/{name} is no array")
            arrays[f"{layer}/{name}"] = note.array()
    return arrays


def _pairs(where: str, value: object) -> list[tuple[str, object]]:
    value = _opened(value)
    if isinstance(value, list | tuple):
        value = dict(enumerate(cast("list[object]", value)))
    if not isinstance(value, dict):
        raise ValueError(f"{where[:60]} is no dictionary and no list of arrays")
    items = cast("dict[object, object]", value).items()
    return [(key.decode("latin1") if isinstance(key, bytes) else str(key), _opened(item)) for key, item in items]


def _opened(value: object) -> object:
    return value.opened() if isinstance(value, _ArrayNote) else value


def dump(layers: Mapping[str, Mapping[str, Array]], file: BinaryIO) -> None:
    """Write {layer: {name: array}} as `numpy.save` would, in the names that NumPy 1 and 2 both know.

    Written here, opcode for opcode, because the bytes of Python's own pickler depend on which strings happen to be the
    same object, and because it would copy every array.
    """
    file.write(b"\x80\x04" + _ARRAY + b"(K\x01)" + _type("O8", "|") + b"\x89](}(")
    for layer, arrays in layers.items():
        file.write(_string(layer) + b"}(")
        for name, array in arrays.items():
            content = contiguous(array).astype("<f4", copy=False)
            shape = b"(" + b"".join(b"J" + struct.pack("<i", size) for size in array.shape) + b"t"
            file.write(_string(name) + _ARRAY + b"(K\x01" + shape + _type("f4", "<") + b"\x89")
            file.write(pickle.BINBYTES8 + struct.pack("<Q", content.nbytes))
            file.write(content.data)
            file.write(b"tb")
        file.write(b"u")
    file.write(b"uetb.")


def _string(text: str) -> bytes:
    encoded = text.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded


# ndarray.__reduce__: _reconstruct(ndarray, (0,), b"b"), to which BUILD then gives its state.
_ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"


def _type(name: str, order: str) -> bytes:
    # dtype.__reduce__: dtype(name, False, True), and the state (version, order, ..., flags).
    flags = b"K?" if name == "O8" else b"K\x00"
    rest = b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff" + flags
    return b"cnumpy\ndtype\n" + _string(name) + b"\x89\x88\x87R(K\x03" + _string(order) + rest + b"tb"
