"""Damage to files: at random, and along the structure of each format, with the checksums and lengths made right again.

A wound that leaves a checksum wrong is refused at the checksum, and nothing behind it is tried. So every function here
that knows a format takes it apart, wounds one part, and puts it together as a writer would. Each is a function of the
good bytes and a `random.Random`, and may itself be handed damaged bytes: it then falls back to `wounds`.
"""

from __future__ import annotations

import io
import json
import pickletools
import random
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from typing import Any, TypeAlias

from zoo.wire.protobuf import BYTES, FIXED32, FIXED64, VARINT, fields, message, tag, varint
from zoo.wire.table import crc32c, masked, read_table, write_table

Damage: TypeAlias = Callable[[bytes, random.Random], bytes]

_EXTREMES = (-1, 0, 1, 2, 3, 8, 255, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
_TEXTS = (
    *("", "../x", "/etc/passwd", "a\nb", "\x1b[2J", "\0", "\udcff", "é" * 300, "x" * 70_000, "conv1", "fc2", "weights"),
    *("../../w.data", "-1", "1e400", "nan", "O8", "<f8", "|S9", "Input", "Convolution", "InnerProduct", "Reshape"),
)


def wounds(data: bytes, rng: random.Random) -> bytes:
    """One to four wounds anywhere: bits, cuts, splices, and extremes for runs of numbers."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(out)) if out else 0
        # Formats keep their structure at the ends; payload is in the middle.
        at = rng.choice((at, min(at, 300 % max(len(out), 1)), max(0, len(out) - 1 - at % 400)))
        match rng.randrange(9):
            case 0 if out:
                out[at] ^= 1 << rng.randrange(8)
            case 1 if out:
                out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                del out[at:]
            case 3:
                del out[at : at + rng.choice((1, 2, 4, 8, 64))]
            case 4:
                out[at:at] = rng.randbytes(rng.choice((1, 4, 9)))
            case 5:
                width = rng.choice(("<I", ">I", "<Q", ">H"))
                size = struct.calcsize(width)
                out[at : at + size] = struct.pack(width, rng.choice(_EXTREMES) % 256**size)
            case 6:
                out[at : at + 1] = b"\xff" * rng.randrange(1, 10) + b"\x01"  # an enormous varint
            case 7:
                other = rng.randrange(len(out)) if out else 0
                out[at:at] = out[other : other + rng.randrange(200)]
            case _:
                out[:] = numbers(bytes(out), rng)
    return bytes(out)


def numbers(data: bytes, rng: random.Random) -> bytes:
    """Another number in the place of one that is written in digits."""
    found = list(re.finditer(rb"\d+", data))
    if not found:
        return data
    number = rng.choice(found)
    new = rng.choice(
        (b"0", b"-1", b"99999999999", b"1e400", b"18446744073709551616", b"{{{{", b'"', b"nan", b"2" * 5000)
    )
    return data[: number.start()] + new + data[number.end() :]


def protobuf(data: bytes, rng: random.Random, depth: int = 0) -> bytes:
    """One field, at any depth, changed; the lengths of all that hold it are right."""
    try:
        found: list[tuple[int, int, Any]] = [
            (n, kind, v if isinstance(v, int) else bytes(v)) for n, kind, v in fields(data)
        ]
    except ValueError:
        found = []
    if not found or depth > 8:
        return wounds(data, rng)
    i = rng.randrange(len(found))
    number, kind, value = found[i]
    if kind == BYTES and value and rng.random() < 0.75:
        found[i] = (number, kind, protobuf(value, rng, depth + 1))
        return b"".join(map(_field, found))
    match rng.randrange(9):
        case 0:
            del found[i]
        case 1:
            found[i:i] = [found[i]] * rng.choice((1, 1, 2, 40))
        case 2:
            found.append(found.pop(i))
        case 3:
            found[i] = (rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 100, 2**29 - 1)), kind, value)
        case 4:
            found[i] = (number, VARINT, rng.choice(_EXTREMES))
        case 5:
            found[i] = (number, BYTES, rng.choice(_TEXTS).encode("utf-8", "surrogateescape"))
        case 6:
            found[i] = (number, FIXED32, rng.choice((b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff" * 4, b"\0" * 4)))
        case 7:
            found[i] = (number, FIXED64, rng.randbytes(8))
        case _:
            nested = value if kind == BYTES else b""
            for _ in range(rng.choice((1, 3, 200))):
                nested = message(number, nested)
            found[i] = (number, BYTES, nested)
    return b"".join(map(_field, found))


def _field(item: tuple[int, int, Any]) -> bytes:
    number, kind, value = item
    if kind == VARINT:
        return tag(number, kind) + varint(value)
    return message(number, value) if kind == BYTES else tag(number, kind) + value


def json_value(value: Any, rng: random.Random, depth: int = 0) -> Any:
    """One place of a JSON value changed; text that is JSON itself is descended into."""
    if isinstance(value, str) and value[:1] in ("{", "[") and rng.random() < 0.8:
        return json.dumps(json_value(json.loads(value), rng, depth))
    if isinstance(value, dict | list) and value and rng.random() < 0.85:
        changed: Any = dict(value) if isinstance(value, dict) else list(value)
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        match rng.randrange(6 if depth else 3):
            case 3:
                del changed[key]
            case 4 if isinstance(changed, dict):
                changed[rng.choice((*_TEXTS[:5], "kind", "name", "shape", "layers"))] = changed.pop(key)
            case 4 | 5 if isinstance(changed, list):
                changed[key:key] = [changed[key]] * rng.choice((1, 2, 50))
            case _:
                changed[key] = json_value(changed[key], rng, depth + 1)
        return changed
    deep: Any = 0
    for _ in range(300):
        deep = [deep]
    return rng.choice((*_EXTREMES, *_TEXTS, 0.5, 1e308, float("inf"), float("nan"), None, True, [], {}, [1], deep))


def safetensors(data: bytes, rng: random.Random) -> bytes:
    """The header, as JSON, or the data behind it."""
    try:
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length])
    except (ValueError, struct.error):
        return wounds(data, rng)
    text = json.dumps(json_value(header, rng)).encode("utf-8", "replace")
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def table(data: bytes, rng: random.Random) -> bytes:
    """A TensorFlow table: a key or a value, in sorted order or not; or a block's inside; checksums right again."""
    if rng.random() < 0.35:
        return _block(data, rng)
    try:
        items = [(key, bytes(value)) for key, value in read_table(memoryview(data))]
    except ValueError:
        return wounds(data, rng)
    i = rng.randrange(len(items))
    key, value = items[i]
    match rng.randrange(8):
        case 0:
            key = rng.choice((b"", b"\0x", b"\xff\xfe", *(text.encode("utf-8", "replace") for text in _TEXTS)))
        case 1:
            del items[i]
        case 2:
            items.append((key + b"x", value))
        case 3:
            value = items[rng.randrange(len(items))][1]
        case _:
            value = protobuf(value, rng)
    if i < len(items):
        items[i] = key, value
    if rng.random() < 0.9:
        items = sorted(dict(items).items())
    return write_table(items)


def _block(data: bytes, rng: random.Random) -> bytes:
    """Bytes inside a block, which keeps its length and gets its checksum anew; or the footer."""
    out, starts, position = bytearray(data), list[tuple[int, int]](), 0
    while position < len(data) - 48:  # blocks lie end to end, and a block's checksum tells where it ends
        ends = (e for e in range(position + 4, len(data) - 52) if _is_block(data, position, e))
        end = next(ends, None)
        if end is None:
            break
        starts.append((position, end))
        position = end + 5
    if not starts or rng.random() < 0.1:
        return data[:-48] + wounds(data[-48:], rng)[:48].ljust(48, b"\0")
    start, end = rng.choice(starts)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(start, end + 1)  # the byte after the content is the kind of compression
        new = rng.choice(
            (rng.randbytes(1), b"\xff\xff\xff\xff\x0f", b"\0", struct.pack("<I", rng.choice(_EXTREMES) % 2**32))
        )
        out[at : min(at + len(new), end + 1)] = new[: end + 1 - at]
    out[end + 1 : end + 5] = struct.pack("<I", masked(crc32c(bytes(out[start : end + 1]))))
    return bytes(out)


def _is_block(data: bytes, start: int, end: int) -> bool:
    if data[end] != 0:
        return False
    return struct.pack("<I", masked(crc32c(data[start : end + 1]))) == data[end + 1 : end + 5]


def matlab(data: bytes, rng: random.Random) -> bytes:
    """One variable of a level 5 file: its tags, shapes and names; a packed one is unpacked first, and packed again."""
    parts, at = list[tuple[int, bytes]](), _MATLAB_HEADER
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<II", data, at)
        parts.append((kind, data[at + 8 : at + 8 + size]))
        at += 8 + size
    if not parts or rng.random() < 0.1:
        return wounds(data, rng)
    i = rng.randrange(len(parts))
    kind, content = parts[i]
    try:
        plain = zlib.decompress(content) if kind == _MATLAB_PACKED else content
    except zlib.error:
        return wounds(data, rng)
    changed = _words(plain, rng) if rng.random() < 0.8 else wounds(plain, rng)
    if kind == _MATLAB_PACKED:
        changed = zlib.compress(changed) if rng.random() < 0.95 else _BOMB
    parts[i] = kind if rng.random() < 0.95 else rng.choice((0, 1, 9, 14, 15, 99)), changed
    return data[:_MATLAB_HEADER] + b"".join(struct.pack("<II", kind, len(part)) + part for kind, part in parts)


_MATLAB_HEADER, _MATLAB_PACKED = 128, 15


def _words(data: bytes, rng: random.Random) -> bytes:
    """Words of four bytes, which tags, flags and shapes are: mostly small ones, which are those."""
    out = bytearray(data)
    small = [at for at in range(0, len(out) - 3, 4) if 0 < int.from_bytes(out[at : at + 4], "little") < 1 << 16]
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.choice(small) if small else 0
        value = rng.choice((*_EXTREMES, *range(1, 19), len(out)))
        out[at : at + 4] = struct.pack("<I", value % 2**32)
    return bytes(out)


def archive(member: Damage) -> Damage:
    """A zip: one member by `member`, its name, its compression, the comment; or the zip's own fields as they lie."""

    def damage(data: bytes, rng: random.Random) -> bytes:
        if rng.random() < 0.3:
            return _zip_fields(data, rng)
        with zipfile.ZipFile(io.BytesIO(data)) as source:
            members: list[list[Any]] = [[info.filename, source.read(info)] for info in source.infolist()]
            comment = source.comment
        chosen: list[Any] = rng.choice(members)
        methods = {id(chosen): rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))}
        match rng.randrange(8):
            case 0:
                chosen[0] = rng.choice(
                    ("../evil", "/tmp/zoo-evil", "a\\..\\b", chosen[0] + "/", "é" * 99, chosen[0].upper())
                )
            case 1:
                members.remove(chosen)
            case 2:
                members.append([chosen[0] + rng.choice(("", "2")), chosen[1]])
            case 3 if comment:
                key, _, text = comment.partition(b"=")
                comment = (key + b"=" + json.dumps(json_value(json.loads(text), rng)).encode("utf-8", "replace"))[
                    :65535
                ]
            case _:
                chosen[1] = member(chosen[1], rng)
        target = io.BytesIO()
        with warnings.catch_warnings(), zipfile.ZipFile(target, "w") as made:
            warnings.simplefilter("ignore")  # names that stand twice are meant
            for item in members:
                info = zipfile.ZipInfo(item[0])
                info.compress_type = methods.get(id(item), zipfile.ZIP_STORED)
                made.writestr(info, item[1])
            made.comment = comment
        return target.getvalue()

    return damage


def _zip_fields(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    heads = [match.start() for match in re.finditer(rb"PK(?:\x01\x02|\x03\x04|\x05\x06|\x06\x06|\x06\x07)", data)]
    for _ in range(rng.choice((1, 1, 3))):
        at = rng.choice(heads) + rng.choice((4, 6, 8, 10, 14, 16, 18, 20, 22, 24, 26, 28, 30, 34, 42, 46))
        width = rng.choice((2, 4))
        out[at : at + width] = (rng.choice((*_EXTREMES, len(data), 1, 12, 14, 99)) % 256**width).to_bytes(
            width, "little"
        )
    return bytes(out)


def npy(data: bytes, rng: random.Random) -> bytes:
    """An array: its header as text, with its length right; or, behind it, a pickle or numbers."""
    if data[:6] != b"\x93NUMPY":
        return wounds(data, rng)
    (length,) = struct.unpack_from("<H", data, 8)
    header, content = data[10 : 10 + length], data[10 + length :]
    if b"|O" in header and rng.random() < 0.85:
        return data[: 10 + length] + pickled(content, rng)
    match rng.randrange(4):
        case 0:
            header = numbers(header, rng)
        case 1:
            kinds = (b"|O", b"<f8", b"|V99999999", b"<U9999", b">f4", b"f4,f4", b"<M8[s]", b"?")
            header = re.sub(rb"'[<|>][^']*'", b"'" + rng.choice(kinds) + b"'", header)
        case 2:
            shapes = (
                b"()",
                b"(0,)",
                b"(-1,)",
                b"(1" + b",1" * 40 + b")",
                b"(4294967296,4294967296)",
                b"(True,)",
                b"[3]",
            )
            header = re.sub(rb"\([^)]*\)", rng.choice(shapes), header)
        case _:
            header = tokens(header, rng)
    header = header[:60_000]
    return data[:6] + rng.choice((b"\x01\0", b"\x01\0", b"\x03\0")) + struct.pack("<H", len(header)) + header + content


def pickled(data: bytes, rng: random.Random) -> bytes:
    """A pickle, opcode by opcode: left out, repeated, moved, exchanged, given another argument."""
    try:
        starts = [position for _, _, position in pickletools.genops(data) if position is not None]
    except (ValueError, AttributeError, IndexError, struct.error):
        return wounds(data, rng)
    end = starts[-1] + 1  # the last one is STOP
    ops = [data[a:b] for a, b in zip(starts, [*starts[1:], end], strict=True)]
    for _ in range(rng.choice((1, 1, 2, 6))):
        i = rng.randrange(len(ops))
        match rng.randrange(6):
            case 0 if len(ops) > 1:
                del ops[i]
            case 1:
                ops[i:i] = [ops[i]] * rng.choice((1, 3, 2000))
            case 2:
                ops.insert(rng.randrange(len(ops)), ops.pop(i))
            case 3:
                ops[i] = rng.choice(pickletools.opcodes).code.encode("latin1") + ops[i][1:]
            case 4:
                ops[i] = rng.choice(_OPS)
            case _:
                ops[i] = ops[i][:1] + wounds(ops[i][1:], rng)
    return b"".join(ops) + data[end:]


_OPS = (
    *(
        b"cos\nsystem\n",
        b"cbuiltins\neval\n",
        b"\x8c\x02os\x8c\x06system\x93",
        b"i__builtin__\neval\n",
        b"P1\n",
        b"\x82\x01",
    ),
    *(
        b"R",
        b"b",
        b"o",
        b"\x81",
        b"\x92",
        b"Q",
        b"\x97",
        b"\x98",
        b"0",
        b"1",
        b".",
        b"}",
        b")",
        b"N",
        b"(t",
        b"K\0\x85",
    ),
    *(b"J\xff\xff\xff\x7f", b"\x8a\xff" + b"\x7f" * 255, b"L" + b"9" * 5000 + b"L\n", b"\x8b\xff\xff\xff\x7f"),
    *(
        b"\x8d" + b"\xff" * 8,
        b"\x8e\0\0\0\0\x01\0\0\0",
        b"B\xff\xff\xff\x7f",
        b"\x96\0\0\0\0\x01\0\0\0",
        b"\x95" + b"\xff" * 8,
    ),
    *(b"h\xff", b"j\xff\xff\xff\x7f", b"r\xff\xff\xff\x7f", b"(" * 3000, b"]" * 3000, b"2" * 50),
    *(b"G\x7f\xf8\0\0\0\0\0\0", b"I99999999999999999999\n", b"I" + b"9" * 6000 + b"\n"),
)


def pickles(data: bytes, rng: random.Random) -> bytes:
    """The row of pickles of PyTorch's old format, one of them damaged, and the raw storages behind."""
    parts, rest = list[bytes](), data
    for _ in range(5):
        stream = io.BytesIO(rest)
        try:
            for _ in pickletools.genops(stream):
                pass
        except (ValueError, AttributeError, IndexError, struct.error):
            break
        parts.append(rest[: stream.tell()])
        rest = rest[stream.tell() :]
    if len(parts) < 2 or rng.random() < 0.15:
        return b"".join(parts) + wounds(rest, rng)
    i = rng.choice((*range(len(parts)), len(parts) - 2, len(parts) - 2))
    parts[i] = pickled(parts[i], rng)
    return b"".join(parts) + rest


_TOKEN = re.compile(rb"[A-Za-z_][\w.+/-]*|-?\d[\w.+-]*|\"[^\"\n]*\"|'[^'\n]*'|\s+|.", re.DOTALL)
_ODD = (
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b"<",
        b">",
        b":",
        b"'",
        b'"',
        b",",
        b"#",
        b"&a",
        b"*a",
        b"!!python/object:os.system",
        b"---",
    ),
    *(
        b"- " * 200,
        b"[" * 500,
        b"? ",
        b"\t",
        b"\r",
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"!!binary",
        b"!!timestamp",
        b"0x",
        b"0o9",
    ),
    *(
        b"-1",
        b"0",
        b"2147483647",
        b"4294967296",
        b"1e400",
        b"nan",
        b"-inf",
        b"9" * 6000,
        b"true",
        b"null",
        b"~",
        b"1_000",
    ),
    *(
        b"layer",
        b"layers",
        b"type",
        b"input_dim",
        b"dim: 0",
        b'"\\x',
        b"pad: 99999",
        b"2001-01-01",
        b"1:1:1:1",
        b"<<: ",
    ),
)


def tokens(data: bytes, rng: random.Random) -> bytes:
    """Text, token by token; whole lines and blocks, too."""
    found = _TOKEN.findall(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        i = rng.randrange(max(len(found), 1))
        match rng.randrange(6):
            case 0 if found:
                del found[i]
            case 1:
                found.insert(i, rng.choice(_ODD))
            case 2 if found:
                found[i] = rng.choice(_ODD)
            case 3 if found:
                found[i] = rng.choice(found)
            case 4:
                length = rng.choice((2, 10, 60))
                found[i:i] = found[i : i + length] * rng.choice((1, 1, 2, 30))
            case _:
                del found[i : i + rng.choice((2, 10, 60))]
    return b"".join(found)


_BOMB = zlib.compress(bytes(1 << 22), 9)


def png(data: bytes, rng: random.Random) -> bytes:
    """One chunk; every chunk's length and checksum right again."""
    chunks, at = list[list[Any]](), 8
    while at + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        chunks.append([data[at + 4 : at + 8], data[at + 8 : at + 8 + size]])
        at += 12 + size
    chunk: list[Any] = rng.choice(chunks)
    extra = (
        *(
            [b"zTXt", b"a\0\0" + _BOMB],
            [b"iCCP", b"a\0\0" + _BOMB],
            [b"iTXt", b"a\0\x01\0\0\0" + _BOMB],
            [b"IDAT", _BOMB],
        ),
        *([b"PLTE", rng.randbytes(rng.choice((0, 3, 768, 4096)))], [b"acTL", b"\xff" * 8], [b"fcTL", b"\xff" * 26]),
        *([b"eXIf", b"MM\0*\xff\xff\xff\xff"], [b"IHDR", b"\0\0\x20\0\0\0\x20\0\x10\x06\0\0\0"], [b"tRNS", b"\0" * 6]),
        *([b"gAMA", b""], [b"cHRM", b"\xff"], [b"fdAT", b"\0\0\0\1" + _BOMB], [b"\0\0\0\0", b""], [b"CgBI", b""]),
    )
    match rng.randrange(7):
        case 0:
            chunks.insert(rng.randrange(len(chunks)), rng.choice(extra))
        case 1:
            chunks.remove(chunk)
        case 2:
            chunks.insert(0 if rng.random() < 0.3 else rng.randrange(len(chunks)), chunk)
        case 3:
            header = bytearray(chunks[0][1])
            at = rng.choice((0, 4))
            header[at : at + 4] = struct.pack(
                ">I", rng.choice((0, 1, 255, 1999, 2001, 8999, 65536, 2**31 - 1, 2**32 - 1))
            )
            chunks[0][1] = bytes(header)
        case 4:
            chunks[0][1] = chunks[0][1][:8] + bytes(rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255)) for _ in range(5))
        case _:
            chunk[1] = wounds(chunk[1], rng)
    packed = (struct.pack(">I", len(c[1])) + c[0] + c[1] + struct.pack(">I", zlib.crc32(c[0] + c[1])) for c in chunks)
    return data[:8] + b"".join(packed)


def jpeg(data: bytes, rng: random.Random) -> bytes:
    """One segment, its length right again: sizes, tables, scans, other kinds of frame."""
    segments, at = list[list[Any]](), 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        (size,) = struct.unpack_from(">H", data, at + 2)
        segments.append([data[at + 1], data[at + 4 : at + 2 + size]])
        at += 2 + size
    scan = data[at:]
    segment: list[Any] = rng.choice(segments)
    match rng.randrange(7):
        case 0:
            frame: list[Any] = next(s for s in segments if 0xC0 <= s[0] <= 0xC2)
            sizes = struct.pack(">HH", *(rng.choice((0, 1, 17, 1999, 8000, 65500, 65535)) for _ in range(2)))
            frame[1] = frame[1][:1] + sizes + frame[1][5:]
        case 1:
            segment[0] = rng.choice(
                (0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xC4, 0xDB, 0xDD, 0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE)
            )
        case 2:
            segments.remove(segment)
        case 3:
            segments.insert(rng.randrange(len(segments)), segment)
        case 4:
            scan = scan[:-2] * rng.choice((2, 30)) + scan[-2:]
        case 5:
            scan = wounds(scan, rng)
        case _:
            segment[1] = wounds(segment[1], rng)[:65533]
    packed = (bytes((0xFF, kind)) + struct.pack(">H", len(content) + 2) + content for kind, content in segments)
    return data[:2] + b"".join(packed) + scan


def tiff(data: bytes, rng: random.Random) -> bytes:
    """Entries of the first directory: tag, type, count and value."""
    out = bytearray(data)
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    for _ in range(rng.choice((1, 1, 2))):
        entry = at + 2 + 12 * rng.randrange(count)
        match rng.randrange(5):
            case 0:
                tags = (256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 330, 347, 34665)
                out[entry : entry + 2] = struct.pack("<H", rng.choice(tags))
            case 1:
                out[entry + 2 : entry + 4] = struct.pack("<H", rng.randrange(14))
            case 2:
                out[entry + 4 : entry + 8] = struct.pack("<I", rng.choice(_EXTREMES) % 2**32)
            case 3:
                values = (*range(12), 32773, 32946, 34712, 50000, 50001, 34925, 65535, 2**31, 2**32 - 1, at, len(data))
                out[entry + 8 : entry + 12] = struct.pack("<I", rng.choice(values))
            case _:
                return wounds(bytes(out), rng)
    return bytes(out)
