"""Snappy, to unpack: how the blocks of checkpoints are packed that Google has published.

Format: github.com/google/snappy ``format_description.txt``: the size, then runs of bytes, and copies of earlier ones.
"""

from __future__ import annotations

from zoo.wire.protobuf import read_varint

# A copy is of 64 bytes at most, and takes three; nor is a block of a checkpoint any larger than this.
_UNFOLDED, _LARGEST = 22, 1 << 28


def unpacked(data: memoryview) -> bytes:
    """What a block holds.

    Raises:
        ValueError: it is damaged, or would unfold to more than Snappy can.
    """
    size, at = read_varint(data, 0)
    if size > min(_LARGEST, _UNFOLDED * len(data)):
        raise ValueError(f"a packed block of {len(data):,} bytes declares {size:,}")
    found = bytearray()
    while at < len(data) and len(found) <= size:
        tag, at = data[at], at + 1
        length = (tag >> 2) + 1
        if tag & 3 == 0:
            if length > 60:  # the length itself follows, in as many bytes
                width = length - 60
                length, at = int.from_bytes(data[at : at + width], "little") + 1, at + width
            found += data[at : at + length]
            at += length
            continue
        width = (0, 1, 2, 4)[tag & 3]
        offset, at = int.from_bytes(data[at : at + width], "little"), at + width
        if width == 1:
            length, offset = 4 + (tag >> 2 & 7), offset + (tag >> 5 << 8)
        if not 0 < offset <= len(found):
            raise ValueError("a packed block copies what is not there")
        start = len(found) - offset  # what is copied may run into its own copy
        found += (found[start : start + length] * (length // offset + 1))[:length]
    if len(found) != size:
        raise ValueError(f"a packed block unfolds to {len(found):,} bytes, not the {size:,} that it declares")
    return bytes(found)
