"""Images in a few large files: tar archives in WebDataset's layout, with an index that leads to every image.

A shard holds ``00000042.jpg`` and ``00000042.cls`` (the label in digits), image after image, in a shuffled order: who
reads shards from end to end, as WebDataset does, meets all classes. Here every image is read from where the index says
it lies, so that order, crops and resumption are those of a folder, to the bit. A checksum of each image stands in the
index: what was damaged on its way is named, not learned from.
"""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zoo.errors import FileFormatError, said
from zoo.philox import generator
from zoo.preprocess import RGBImage, decode_image, image_file, resize_short_side
from zoo.training.checkpoint import write_file
from zoo.training.images import FolderImages, OnBroken, check_broken, digest
from zoo.wire.cores import cores
from zoo.wire.positioned import read_at
from zoo.wire.regular import check_regular
from zoo.wire.safetensors import read_safetensors

INDEX = "index.safetensors"
# A hundred megabytes or so of photographs whose shorter side is 256.
_IMAGES_A_SHARD = 4096
_OPEN_SHARDS, _AHEAD = 256, 256
# Of JPEG. ImageNet's own files have 75 to 96; four fifths of the bytes of 95.
_QUALITY = 90
# What the index says of every image.
COLUMNS = {"labels": np.int32, "shards": np.int32, "offsets": np.int64, "lengths": np.int64, "checksums": np.uint32}


@dataclass(frozen=True, kw_only=True)
class ShardImages:
    """The images of a folder of shards, in the order of the folder that was packed.

    Attributes:
        folder: where the shards lie.
        classes: the names of the labels.
        side: the shorter side of whatever was larger.
        labels: of every image.
        shards: which shard it is in.
        offsets: where in it.
        lengths: of the image's file, in bytes.
        checksums: its CRC-32.
    """

    folder: Path
    classes: tuple[str, ...]
    side: int
    labels: NDArray[np.int32]
    shards: NDArray[np.int32]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]
    checksums: NDArray[np.uint32]
    natural: bool = True

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.labels)

    def label(self, index: int) -> int:
        """The class of an image."""
        return int(self.labels[index])

    def name(self, index: int) -> str:
        """The shard, and where in it an image begins."""
        return f"{self.folder / _name(int(self.shards[index]))}, image at byte {self.offsets[index]:,}"

    def pixels(self, index: int) -> RGBImage:
        """An image, decoded; raises `FileFormatError` where its bytes are not those that were packed."""
        where = self.name(index)
        try:
            file = self._opened(self.folder / _name(int(self.shards[index])))
            data = read_at(file.fileno(), int(self.lengths[index]), int(self.offsets[index]))
        except OSError as error:
            raise FileFormatError(where, f"cannot be read: {said(error)}") from error
        if zlib.crc32(data) != self.checksums[index]:
            raise FileFormatError(where, "damaged: its bytes are not those that were packed")
        return decode_image(data, Path(where))

    @cached_property
    def _opened(self) -> Callable[[Path], FileIO]:
        return lru_cache(_OPEN_SHARDS)(lambda path: FileIO(path))

    def digests(self) -> tuple[str, str]:
        """Hashes of the labels, and of all that the images hold."""
        return digest(self.labels), digest(self.lengths, self.checksums)


def _name(shard: int) -> str:
    return f"shard-{shard:06d}.tar"


def open_shards(folder: Path) -> ShardImages:
    """The images of a folder that `pack` wrote.

    Raises:
        FileFormatError: the index is damaged, or a shard is missing or of another size.
    """
    path = folder / INDEX
    check_regular(path)
    try:
        tensors, metadata = read_safetensors(np.fromfile(path, np.uint8).data)
        about = json.loads(metadata["shards"])
        columns: dict[str, Any] = {name: tensors[name] for name in (*COLUMNS, "sizes")}
        classes, side = tuple(map(str, about["classes"])), int(about["side"])
        _check_index(columns, len(classes))
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise FileFormatError(path, f"damaged index of shards ({said(error)}); pack the images again") from error
    for number, size in enumerate(columns.pop("sizes").tolist()):
        shard = folder / _name(number)
        found = shard.stat().st_size if shard.is_file() else None
        if found != size:
            there = "is missing" if found is None else f"has {found:,} bytes"
            raise FileFormatError(shard, f"{there}, and had {size:,} when it was packed; copy it again")
    return ShardImages(folder=folder, classes=classes, side=side, **columns)


def _check_index(columns: dict[str, NDArray[Any]], classes: int) -> None:
    """Raises `ValueError` where the columns are no index."""
    count, sizes = len(columns["labels"]), columns["sizes"]
    for name, dtype in COLUMNS.items():
        if columns[name].dtype != dtype or columns[name].shape != (count,):
            raise ValueError(f"{name} are {columns[name].dtype} {columns[name].shape}")
    if not count or sizes.ndim != 1 or not np.issubdtype(sizes.dtype, np.integer):
        raise ValueError("it leads nowhere")
    for name, end in (("labels", classes), ("shards", len(sizes))):
        if columns[name].min() < 0 or columns[name].max() >= end:
            raise ValueError(f"{name} are not below {end}")
    begin, length = columns["offsets"], columns["lengths"]
    if begin.min() < 0 or length.min() < 0 or (length > sizes[columns["shards"]] - begin).any():
        raise ValueError("images lie outside their shards")


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What `pack` has written: how many images and shards; and messages about the images that it left out."""

    images: int
    shards: int
    broken: tuple[str, ...]


def pack(
    images: FolderImages,
    folder: Path,
    *,
    side: int,
    on_broken: OnBroken = "stop",
    done: Callable[[], Any] = lambda: None,
) -> Packed:
    """Write images as shards and index.

    What is larger is resized once, so that its shorter side is `side` pixels long, and kept as a JPEG; the others are
    kept as they are, byte for byte. All are decoded, so that none of what is packed is broken. Equal images give equal
    bytes.

    Args:
        images: what to pack.
        folder: an empty folder.
        side: pixels.
        on_broken: leave a broken image out, or stop at it.
        done: called after every image.

    Raises:
        ZooError: an image is broken, or the disk is full.
    """
    order = generator(0, "pack").permutation(len(images)).tolist()
    rows, sizes, broken, files = list[tuple[int, ...]](), list[int](), list[str](), _files(images, order, side)
    for first in range(0, len(order), _IMAGES_A_SHARD):
        path = folder / _name(len(sizes))
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for index, file in zip(order[first : first + _IMAGES_A_SHARD], files, strict=False):
                if isinstance(file, FileFormatError):
                    broken.append(str(file))
                    check_broken(broken, on_broken)
                else:
                    offset, label = _add(tar, f"{index:08d}", *file, images.label(index)), images.label(index)
                    rows.append((index, label, len(sizes), offset, len(file[1]), zlib.crc32(file[1])))
                done()
        sizes.append(path.stat().st_size)
    if not rows:
        raise FileFormatError(images.folder, "no image could be read: nothing to pack")
    _write_index(folder, rows, sizes, {"classes": images.classes, "side": side})
    return Packed(images=len(rows), shards=len(sizes), broken=tuple(broken))


def _write_index(folder: Path, rows: Iterable[tuple[int, ...]], sizes: Sequence[int], about: Mapping[str, Any]) -> None:
    columns = dict(zip(COLUMNS, np.array(sorted(rows), np.int64).T[1:], strict=True))
    table = {name: column.astype(COLUMNS[name]) for name, column in columns.items()}
    write_file(folder / INDEX, table | {"sizes": np.array(sizes, np.int64)}, {"shards": json.dumps(about)})


def _files(images: FolderImages, order: list[int], side: int) -> Iterator[tuple[str, bytes] | FileFormatError]:
    """The files of images as they are packed, in an order; worked on by all cores, a few hundred ahead."""
    with ThreadPoolExecutor(cores()) as pool:  # Pillow's decoders and filters hold no lock
        for first in range(0, len(order), _AHEAD):
            yield from pool.map(lambda index: _shrunk(images.path(index), side), order[first : first + _AHEAD])


def _shrunk(path: Path, side: int) -> tuple[str, bytes] | FileFormatError:
    """The suffix and bytes of an image whose shorter side is no longer than `side`; or why there is none."""
    try:
        data = image_file(path).read_bytes()
        pixels = decode_image(data, path)
        if min(pixels.shape[:2]) <= side:
            return "png" if path.suffix.lower() == ".png" else "jpg", data
        file = BytesIO()
        Image.fromarray(resize_short_side(pixels, side)).save(file, "JPEG", quality=_QUALITY)
    except OSError as error:
        return FileFormatError(path, f"cannot be read: {said(error)}")
    except FileFormatError as error:
        return error
    return "jpg", file.getvalue()


def _add(tar: tarfile.TarFile, key: str, suffix: str, data: bytes, label: int) -> int:
    """Put an image and its label into an archive; returns where the image begins."""
    offset = tar.offset + tarfile.BLOCKSIZE
    for ending, content in ((suffix, data), ("cls", str(label).encode())):
        member = tarfile.TarInfo(f"{key}.{ending}")
        member.size, member.mode = len(content), 0o644
        tar.addfile(member, BytesIO(content))
    return offset
