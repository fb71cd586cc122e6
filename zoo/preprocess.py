"""Images -> the canonical input of a network, as its `Preprocessing` says.

Arrays carry their layout in the name: ``image_HWC`` is RGB, uint8, height x width x 3; ``x_CHW`` is what the network
reads, float32, in its own channel order and range.
"""

from __future__ import annotations

import math
import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zoo.axes import shape_text
from zoo.errors import FileFormatError, UnpreparedError, UnsupportedError, ZooError, said
from zoo.layers import ModelSpec, Pair, Preprocessing

RGBImage: TypeAlias = NDArray[np.uint8]
FloatArray: TypeAlias = NDArray[np.float32]

# What cameras, scanners and data sets of the time write. Others are refused by name: some of Pillow's readers start
# programs (EPS), or make the picture as large as is declared before anyone can look at its size (WebP).
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF")

# Pillow's own threshold of suspicion; a decoded image may take three bytes a pixel.
MAX_PIXELS = 89_478_485

# Beyond this many pixels a file must bring a byte for every hundred of them, as every photograph does: a few damaged or
# forged bytes of a header cannot ask for hundreds of megabytes.
_FREE_PIXELS = 4_000_000
_PIXELS_A_BYTE = 100

# What Pillow's decoders raise on damaged files, besides the documented OSError.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
)


def load_image(path: Path) -> RGBImage:
    """An image file as RGB, uint8, (H, W, 3); 16-bit grey is reduced to 8, transparency is dropped.

    The pixels are taken as stored: an EXIF orientation is not applied, as in Caffe's and torchvision's readers.

    Raises:
        FileFormatError: missing, damaged, no image, more than `MAX_PIXELS`, or many more than its bytes can hold; the
            message names the file.
    """
    return _decode(image_file(path), path, path.stat().st_size)


def image_file(path: Path) -> Path:
    """The path of a file; raises `FileFormatError` where there is none: a pipe would be waited for."""
    if not path.is_file():
        raise FileFormatError(path, "no such image file")
    return path


def decode_image(data: bytes, name: Path) -> RGBImage:
    """`load_image` of a file's bytes, which lie elsewhere; `name` is for messages."""
    return _decode(BytesIO(data), name, len(data))


def _decode(file: Path | BytesIO, path: Path, bytes_there: int) -> RGBImage:
    try:
        with warnings.catch_warnings():
            # Pillow only warns up to twice its limit, and about oddities that do not change the pixels.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                pixels = image.width * image.height
                if pixels > max(_FREE_PIXELS, _PIXELS_A_BYTE * bytes_there):
                    raise FileFormatError(
                        path, f"declares {pixels:,} pixels in {bytes_there:,} bytes; refused as a decompression bomb"
                    )
                if any(tile.codec_name == "libtiff" for tile in getattr(image, "tile", ())):
                    # libtiff writes remarks of its own to stderr, and would decode more formats than are meant here.
                    raise FileFormatError(path, "a compressed TIFF is not read; save it as PNG, or uncompressed")
                return _as_rgb(image, path)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise FileFormatError(path, f"more than {MAX_PIXELS:,} pixels; refused as a decompression bomb") from error
    except Image.UnidentifiedImageError as error:
        raise FileFormatError(path, f"no image in a known format ({', '.join(FORMATS)})") from error
    except _DAMAGE as error:
        raise FileFormatError(path, f"damaged image: {said(error)}") from error


def _as_rgb(image: Image.Image, path: Path) -> RGBImage:
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips at 255, which turns almost every 16-bit picture white.
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise FileFormatError(path, f"pixels of mode {image.mode!r} have no fixed range; save it with 8 bits a channel")
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def resize_short_side(image_HWC: RGBImage, size: int) -> RGBImage:
    """The image with its shorter side `size` pixels long, proportions kept (bilinear, antialiased: Pillow's)."""
    height, width = _check_image(image_HWC)
    short = min(height, width)
    # The longer side is cut to a whole number, as torchvision.transforms.Resize does.
    target = (size * height // short, size * width // short)
    if target[0] * target[1] > MAX_PIXELS:
        raise ZooError(f"an image of {width} x {height} is too elongated: it would grow to {target[1]} x {target[0]}")
    if target == (height, width):
        return image_HWC
    return np.asarray(Image.fromarray(image_HWC).resize((target[1], target[0]), Image.Resampling.BILINEAR))


def crop(image_HWC: RGBImage, top: int, left: int, size: Pair) -> RGBImage:
    """The (height, width) window at (top, left); a view."""
    height, width = _check_image(image_HWC)
    if top < 0 or left < 0 or top + size[0] > height or left + size[1] > width:
        raise ZooError(
            f"cannot cut {size[1]} x {size[0]} at ({left}, {top}) from an image of {width} x {height}; "
            "the preprocessing's resize is smaller than the network's input"
        )
    return image_HWC[top : top + size[0], left : left + size[1]]


def centre_crop(image_HWC: RGBImage, size: Pair, rounding: Literal["floor", "even"] = "floor") -> RGBImage:
    """The (height, width) window in the middle, whose place is rounded as `Preprocessing.crop` says; a view."""
    height, width = _check_image(image_HWC)
    to_whole = math.floor if rounding == "floor" else round
    return crop(image_HWC, to_whole((height - size[0]) / 2), to_whole((width - size[1]) / 2), size)


def normalise(image_HWC: RGBImage, preprocessing: Preprocessing) -> FloatArray:
    """RGB pixels as the network reads them: channel order, scale, mean and std; (3, H, W) float32, contiguous."""
    _check_image(image_HWC)
    ordered = image_HWC[..., ::-1] if preprocessing.channels == "BGR" else image_HWC
    x_CHW = np.ascontiguousarray(ordered.transpose(2, 0, 1)).astype(np.float32)
    # In this order and in float32, a scale of 1 and a std of 1 leave whole numbers whole.
    if preprocessing.scale != 1.0:
        x_CHW *= np.float32(preprocessing.scale)
    x_CHW -= _per_channel(preprocessing.mean, "mean")
    if preprocessing.std != (1.0, 1.0, 1.0):
        x_CHW /= _per_channel(preprocessing.std, "std")
    return x_CHW


def _per_channel(values: tuple[float, ...], what: str) -> FloatArray:
    if len(values) not in (1, 3):
        raise ZooError(f"the preprocessing's {what} has {len(values)} values, expected one for each of 3 channels")
    return np.asarray(values, dtype=np.float32).reshape(-1, 1, 1)


def canonical_input(source: Path | RGBImage, spec: ModelSpec) -> FloatArray:
    """What `spec` reads for one image: short side to ``resize``, centre crop, normalised; (3, H, W) float32.

    Args:
        source: an image file, or RGB pixels, uint8, (H, W, 3).
        spec: a network with one image input and a `Preprocessing`.

    Raises:
        FileFormatError: the file is no whole image.
        ZooError: the network has no preprocessing, or its ``resize`` is smaller than its input.
        UnsupportedError: the network does not read one RGB image.
    """
    preprocessing, size = _preparation(spec)
    resized = resize_short_side(_pixels(source), preprocessing.resize)
    return normalise(centre_crop(resized, size, preprocessing.crop), preprocessing)


def ten_crop(source: Path | RGBImage, spec: ModelSpec) -> FloatArray:
    """The ten views of the 2012 paper (section 4.1), whose probabilities are averaged; (10, 3, H, W) float32.

    The four corners and the centre of the central ``resize`` x ``resize`` square, then the same five mirrored.
    """
    preprocessing, size = _preparation(spec)
    views = ten_crop_pixels(_pixels(source), preprocessing.resize, size)
    return np.stack([normalise(view, preprocessing) for view in views])


def ten_crop_pixels(image_HWC: RGBImage, side: int, size: Pair) -> RGBImage:
    """The ten views of `ten_crop` before they are normalised, from the central `side` x `side`; (10, H, W, 3) uint8."""
    square = centre_crop(resize_short_side(image_HWC, side), (side, side))
    bottom, right = side - size[0], side - size[1]
    corners = ((0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2))
    five = np.stack([crop(square, top, left, size) for top, left in corners])
    return np.concatenate([five, five[:, :, ::-1]])


def _preparation(spec: ModelSpec) -> tuple[Preprocessing, Pair]:
    if spec.preprocessing is None:
        raise UnpreparedError(spec.name)
    if len(spec.inputs) != 1 or len(spec.inputs[0].shape) != 3 or spec.inputs[0].shape[0] != 3:
        shapes = ", ".join(shape_text(source.shape) for source in spec.inputs)
        raise UnsupportedError(f"{spec.name} reads {shapes}; images are 3 x H x W")
    return spec.preprocessing, (spec.inputs[0].shape[1], spec.inputs[0].shape[2])


def _pixels(source: Path | RGBImage) -> RGBImage:
    return load_image(source) if isinstance(source, Path) else source


def _check_image(image_HWC: NDArray[Any]) -> Pair:
    if image_HWC.ndim != 3 or image_HWC.shape[2] != 3 or image_HWC.dtype != np.uint8 or 0 in image_HWC.shape:
        raise ZooError(f"an image is uint8, H x W x 3 (RGB), got {image_HWC.dtype} {image_HWC.shape}")
    return image_HWC.shape[0], image_HWC.shape[1]
