"""Reshaping, joining and cutting."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, assert_never

from zoo.axes import axis_index
from zoo.frameworks.caffe.row import MANY, Row, Setting, fields, plain_row, unless
from zoo.layers import Concat, Constant, Crop, Flatten, Permute, Reshape, Shape, Shaping, Shuffle, Slice, Tile
from zoo.wire.prototxt import Message, PrototxtError


def _read_concat(block: Message, name: str, inputs: tuple[str, ...]) -> Concat:
    if "axis" in block and "concat_dim" in block:
        raise PrototxtError(block.line, "concat_param has either axis or concat_dim, not both")
    return Concat(name=name, inputs=inputs, axis=block.integer("concat_dim", block.integer("axis", 1)))


def of_nothing(layer: Flatten, shape: Shape) -> Reshape | None:
    """A Flatten whose end is the axis before its first, which makes an axis of one there (flatten_layer.cpp)."""
    first, last = (axis_index(layer.name, axis, shape) for axis in (layer.axis, layer.end_axis))
    return (
        Reshape(name=layer.name, inputs=layer.inputs, dims=(1,), axis=first, num_axes=0) if first == last + 1 else None
    )


def _write_concat(layer: Concat) -> Message:
    return unless(Message(), "axis", layer.axis, 1)


def read_slices(message: Message, names: Sequence[str], source: str, shape: Shape, batch: int) -> list[Slice]:
    """A Slice layer with several tops is one `Slice` a top.

    Args:
        message: the layer.
        names: of the pieces.
        source: what is cut.
        shape: its shape, without the batch axis.
        batch: the length of that.
    """
    block, pieces = message.message(SLICE.block), len(names)
    if "axis" in block and "slice_dim" in block:
        raise PrototxtError(block.line, "slice_param has either axis or slice_dim, not both")
    axis, points = block.integer("slice_dim", block.integer("axis", 1)), block.integers("slice_point")
    if not -len(shape) - 1 <= axis <= len(shape):
        raise PrototxtError(message.line, f"cannot slice axis {axis}")
    size = (batch, *shape)[axis]
    if points and len(points) != pieces - 1:
        raise PrototxtError(message.line, f"{pieces} tops need {pieces - 1} slice_point, got {len(points)}")
    if not points and size % pieces:
        raise PrototxtError(message.line, f"{size} does not divide into {pieces} tops; give slice_point")
    bounds = [0, *points, size] if points else list(range(0, size + 1, size // pieces))
    return [
        Slice(name=name, inputs=(source,), start=start, stop=stop, axis=axis)
        for name, (start, stop) in zip(names, pairwise(bounds), strict=True)
    ]


def write_slice(axis: int, points: Sequence[int]) -> Message:
    """The block of a Slice layer that cuts at these points."""
    return unless(Message(), "axis", axis, 1).add("slice_point", *points)


def _read_reshape(block: Message, name: str, inputs: tuple[str, ...]) -> Reshape:
    axis, num_axes = block.integer("axis", 0), block.integer("num_axes", -1)
    return Reshape(
        name=name, inputs=inputs, dims=tuple(block.message("shape").integers("dim")), axis=axis, num_axes=num_axes
    )


def _read_parameter(block: Message, name: str, inputs: tuple[str, ...]) -> Constant:
    dims = tuple(block.message("shape").integers("dim"))
    if not dims or min(dims) < 1:
        raise PrototxtError(block.line, f"needs a shape of positive sizes, got {' x '.join(map(str, dims)) or 'none'}")
    return Constant(name=name, inputs=inputs, shape=dims)


def _write_parameter(layer: Constant) -> Message:
    return Message().add("shape", Message().add("dim", *layer.shape))


def _write_dummy_data(layer: Constant) -> Message:
    filler = Message().add("type", "constant").add("value", layer.value or 0.0)
    dims = (1, *layer.shape) if layer.inputs else layer.shape  # as many items as in the network, by whoever writes it
    return Message().add("data_filler", filler).add("shape", Message().add("dim", *dims))


def _write_reshape(layer: Reshape) -> Message:
    block = Message().add("shape", Message().add("dim", *layer.dims))
    unless(block, "axis", layer.axis, 0)
    return unless(block, "num_axes", layer.num_axes, -1)


_CROP = plain_row(Crop, "Crop", "crop_param", Setting("axis", 2), Setting("offset", (), "offsets"))
_SHUFFLE = plain_row(
    Shuffle,
    "ShuffleChannel",
    "shuffle_channel_param",
    Setting("group", 1, "groups"),
    fields=fields(count="group"),  # farmingyard/ShuffleNet
    four_axes=1,
)
_RESHAPE = Row(kind=Reshape, type="Reshape", block="reshape_param", read=_read_reshape, write=_write_reshape)
_PERMUTE = plain_row(
    Permute,
    "Permute",
    "permute_param",
    Setting("order", ()),
    fields=fields(count="order*"),  # weiliu89/caffe, branch ssd
)
_TILE = plain_row(Tile, "Tile", "tile_param", Setting("tiles", None), Setting("axis", 1))
_FLATTEN = plain_row(Flatten, "Flatten", "flatten_param", Setting("axis", 1), Setting("end_axis", -1))
_CONCAT = Row(kind=Concat, type="Concat", block="concat_param", read=_read_concat, write=_write_concat)
# One layer of Caffe's is several of ours: see `read_slices` and `write_slice`.
SLICE = Row(kind=Slice, type="Slice", block="slice_param", tops=MANY)
_PARAMETER = Row(kind=Constant, type="Parameter", block="parameter_param", read=_read_parameter, write=_write_parameter)
# Read by `inputs`: some are what a network is fed with.
_DUMMY_DATA = Row(kind=Constant, type="DummyData", block="dummy_data_param", write=_write_dummy_data)
ROWS: tuple[Row[Any], ...] = (
    _PARAMETER,
    _DUMMY_DATA,
    _FLATTEN,
    _CONCAT,
    SLICE,
    _RESHAPE,
    _PERMUTE,
    _TILE,
    _CROP,
    _SHUFFLE,
)


def row(layer: Shaping) -> Row[Any]:
    """The row of a layer of the family."""
    match layer:
        case Constant():
            return _PARAMETER if layer.value is None else _DUMMY_DATA
        case Flatten():
            return _FLATTEN
        case Concat():
            return _CONCAT
        case Slice():
            return SLICE
        case Reshape():
            return _RESHAPE
        case Permute():
            return _PERMUTE
        case Crop():
            return _CROP
        case Shuffle():
            return _SHUFFLE
        case Tile():
            return _TILE
        case _:
            assert_never(layer)
