"""The members of a zip archive that is memory-mapped: views of it, where they are not compressed."""

from __future__ import annotations

import struct
import zipfile
import zlib

from zoo.wire.mapped import release

# The fixed part of a local file header (zip's APPNOTE.TXT, 4.3.7): its length, and where two lengths lie in it.
_LOCAL_HEADER, _LOCAL_LENGTHS = 30, struct.Struct("<HH")
# So many bytes are summed up before they are let go.
_PIECE = 1 << 24


def member_bytes(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, data: memoryview, *, checked: bool = True
) -> memoryview:
    """A member's bytes, as a view of the file where it is not compressed.

    Args:
        archive: the file.
        member: of it.
        data: the same file, mapped.
        checked: its checksum is checked, for which all of it is read.

    Raises:
        ValueError: it is damaged, or as for `unpacked`.
    """
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
        return memoryview(unpacked(archive, member))
    at = member.header_offset
    if bytes(data[at : at + 4]) != b"PK\x03\x04" or len(data) < at + _LOCAL_HEADER:
        raise ValueError(f"{member.filename} is not where the archive says")
    start = at + _LOCAL_HEADER + sum(_LOCAL_LENGTHS.unpack_from(data, at + _LOCAL_HEADER - _LOCAL_LENGTHS.size))
    content = data[start : start + member.file_size]
    if len(content) != member.file_size or (checked and _checksum(content) != member.CRC):
        raise ValueError(f"the checksum of {member.filename} differs: the file is damaged")
    return content


def unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """A member's bytes, read; raises `ValueError` where it is damaged, encrypted or packed as nobody packs weights."""
    if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename} is encrypted, or packed otherwise than by deflate")
    try:
        return archive.read(member)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, struct.error) as error:
        raise ValueError(f"{member.filename} is damaged: {error}") from error


def _checksum(content: memoryview) -> int:
    """Of a part of a mapped file, which is let go piece by piece: who asks what it holds need not hold it."""
    total = 0
    for start in range(0, len(content), _PIECE):
        total = zlib.crc32(content[start : start + _PIECE], total)
        release(content)
    return total
