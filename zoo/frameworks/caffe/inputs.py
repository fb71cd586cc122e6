"""What feeds a Caffe network: inputs of either style, and data layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from zoo.axes import shape_text
from zoo.frameworks.caffe import forks
from zoo.frameworks.caffe.images import images_of
from zoo.frameworks.caffe.walk import Node, Walk
from zoo.layers import Constant, Input, Shape
from zoo.wire.prototxt import Message, PrototxtError

T = TypeVar("T")

# blob.hpp, kMaxBlobAxes
_MOST_AXES = 32


def net_inputs(net: Message) -> Iterable[tuple[str, Shape]]:
    """The inputs of the older style, declared beside the layers."""
    names, dims = net.strings("input"), net.integers("input_dim")
    shapes = [shape.integers("dim") for shape in net.messages("input_shape")]
    if not shapes and not dims:
        return []  # Input layers say it all; Caffe drops the names (upgrade_proto.cpp, UpgradeNetInput)
    if names and not shapes and len(dims) == 4 * len(names):
        shapes = [dims[i : i + 4] for i in range(0, len(dims), 4)]
    if len(shapes) != len(names):
        raise PrototxtError(1, f"{len(names)} inputs need as many input_shape, or 4 input_dim each")
    return [(name, tuple(shape)) for name, shape in zip(names, shapes, strict=True)]


def add_input(walk: Walk, top: str, sizes: Shape) -> None:
    """An input of these sizes, the batch first; one of a single axis holds labels, one without any a number an item."""
    if top in walk.blobs:
        raise PrototxtError(0, f"the blob {top!r} is made twice")
    if min(sizes, default=1) < 1 or len(sizes) > _MOST_AXES:
        raise PrototxtError(
            0, f"the input {top!r} must have at most {_MOST_AXES} positive sizes, got {shape_text(sizes)}"
        )
    told = walk.given.sizes.get(top, sizes[1:])
    if told != sizes[1:]:
        raise PrototxtError(0, f"the input {top!r} is {shape_text(sizes[1:])} there, not {shape_text(told)}")
    if not sizes:
        walk.scalars.add(top)
        sizes = (1,)
    walk.inputs.append(Input(name=top, shape=sizes[1:]))
    walk.blobs[top], walk.shapes[top], walk.batches[top] = top, sizes[1:], sizes[0]


def visit_input(walk: Walk, node: Node) -> None:
    """An Input layer."""
    shapes = [shape.integers("dim") for shape in node.message.message("input_param").messages("shape")]
    if not node.tops or len(shapes) not in (1, len(node.tops)):
        raise PrototxtError(node.message.line, f"{len(node.tops)} tops need one shape or as many, got {len(shapes)}")
    for i, top in enumerate(node.tops):
        add_input(walk, top, tuple(shapes[i if len(shapes) > 1 else 0]))


def visit_data(walk: Walk, node: Node) -> None:
    """A data layer becomes an input of the size it says."""
    if not node.tops:
        raise PrototxtError(node.message.line, "a data layer needs a top")
    note, sizes = "", {**walk.given.known, **walk.given.sizes}
    known = {top: (1, *sizes[top]) for top in node.tops if top in sizes}
    is_told = any(top in walk.given.sizes for top in node.tops)
    if node.type == "DummyData":
        shapes = _dummy_shapes(node)
        values = _constants(node) if walk.is_fed else [None] * len(shapes)
        for i, (top, shape, value) in enumerate(zip(node.tops, shapes, values, strict=True)):
            if value is not None:
                _add_constant(walk, node.name if i == 0 else walk.name_of(top), top, shape, value)
        made = {top: shape for top, shape, value in zip(node.tops, shapes, values, strict=True) if value is None}
        walk.for_training.update(top for top in node.tops[1:] if top in made)
    elif known and (is_told or node.type == "HDF5Data"):
        made = known
        _check_told(node, known)
    else:
        shape, note = _data_shape(node)
        made = {node.tops[0]: (1, *shape)}
        walk.images = images_of(node.message, shape)
    walk.blobs.update(dict.fromkeys(top for top in node.tops if top not in made and top not in walk.blobs))
    for top, sizes in made.items():
        add_input(walk, top, sizes)
        walk.notes.append(f"{node} became the input {top!r}, {' x '.join(map(str, sizes[1:]))}{note}")


def _check_told(node: Node, sizes: Mapping[str, Shape]) -> None:
    """Refuse another size than the layer's own, where it says one."""
    try:
        own, _ = _data_shape(node)
    except PrototxtError:
        return  # it says none
    told = sizes.get(node.tops[0], (1, *own))[1:]
    if told != own:
        raise PrototxtError(node.message.line, f"says {shape_text(own)} itself, not {shape_text(told)}")


def _constants(node: Node) -> list[float | None]:
    """What fills each top of a DummyData layer; None where that is drawn at random."""
    fillers = node.message.message("dummy_data_param").messages("data_filler")
    if len(fillers) not in (0, 1, len(node.tops)):
        raise PrototxtError(node.message.line, f"{len(node.tops)} tops need one data_filler or as many")
    found = [
        filler.number("value", 0.0) if (filler.string("type") or "constant") == "constant" else None
        for filler in fillers
    ]
    return (found or [0.0]) * (len(node.tops) if len(found) < 2 else 1)


def _add_constant(walk: Walk, name: str, top: str, sizes: Shape, value: float) -> None:
    """A constant blob: as many items as the first input, where it has as many there."""
    if min(sizes, default=0) < 1:
        raise PrototxtError(0, f"the blob {top!r} must have positive sizes, got {shape_text(sizes)}")
    first = walk.inputs[0].name if walk.inputs else ""
    follows = len(sizes) > 1 and bool(first) and walk.batches[first] == sizes[0]
    shape, inputs = (sizes[1:], (first,)) if follows else (sizes, ())
    walk.add(Constant(name=name, inputs=inputs, shape=shape, value=value), top)


def _dummy_shapes(node: Node) -> list[Shape]:
    """The shapes of a DummyData layer's tops, given once for all, or once each (dummy_data_layer.cpp)."""
    block = node.message.message("dummy_data_param")
    count = len(node.tops)

    def for_each(values: list[T], what: str) -> list[T]:
        if len(values) not in (1, count):
            raise PrototxtError(node.message.line, f"{count} tops need one {what} or as many, got {len(values)}")
        return values * count if len(values) == 1 else values

    shapes = [tuple(shape.integers("dim")) for shape in block.messages("shape")]
    sides = [name for name in ("num", "channels", "height", "width") if name in block]
    if shapes and sides:
        raise PrototxtError(node.message.line, f"has shape and {sides[0]}; either, not both")
    if not sides:
        return for_each(shapes, "shape")
    return list(
        zip(*(for_each(block.integers(name), name) for name in ("num", "channels", "height", "width")), strict=True)
    )


def _data_shape(node: Node) -> tuple[Shape, str]:
    """The shape of one image of a data layer, and what had to be assumed for it."""
    message = node.message
    if node.type in forks.DATA:  # some hold more than pictures
        raise PrototxtError(
            message.line,
            f"does not say the size of what it feeds in Caffe's words; give it with --input {node.tops[0]}=CxHxW",
        )
    blocks = [message.message(name) for name in message.fields if name.endswith("_param")]
    crops = [block.integer("crop_size", 0) for block in blocks if "crop_size" in block]
    crop = max(crops, default=0)
    memory = message.message("memory_data_param")
    if memory.fields:
        channels, height, width = (memory.integer(name, 0) for name in ("channels", "height", "width"))
        return (channels, crop or height, crop or width), ""
    pictures = message.message("image_data_param")
    height, width = (crop or pictures.integer(name, 0) for name in ("new_height", "new_width"))
    if not height or not width:
        raise PrototxtError(
            message.line,
            f"does not say the size of its images (no crop_size); give it with --input {node.tops[0]}=CxHxW",
        )
    transform = message.message("transform_param")
    grey = transform.flag("force_gray", False) or not pictures.flag("is_color", True)
    return (
        1 if grey else 3,
        height,
        width,
    ), "" if grey or pictures.fields else " (it does not say the channels: 3 assumed)"
