"""A stranger's prototxt -> `ModelSpec`: what Caffe would run in its TEST phase, with the user's own layer names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from zoo.errors import UnsupportedError
from zoo.frameworks._caffe_images import DataImages, images_of
from zoo.frameworks._caffe_layers import IGNORED_PARAMS, VOCABULARY, build_layer, check_fields, refusal
from zoo.frameworks._caffe_legacy import current_layers
from zoo.frameworks._prototxt import Message, PrototxtError
from zoo.layers import Input, Layer, ModelSpec, Shape, Slice
from zoo.shapes import activation_shapes, output_shape

# Layers that only serve training, testing or bookkeeping; they are left out, and named.
_OMITTED = {
    "Accuracy",
    "ContrastiveLoss",
    "EuclideanLoss",
    "HDF5Output",
    "HingeLoss",
    "InfogainLoss",
    "MultinomialLogisticLoss",
    "SigmoidCrossEntropyLoss",
    "Silence",
    "SoftmaxWithLoss",
}
_DATA = {"Data", "DummyData", "HDF5Data", "ImageData", "MemoryData", "WindowData"}
# Layers that may overwrite what they read; of the others, Caffe's CPU code reads again what it has written.
_IN_PLACE = {"BatchNorm", "Bias", "Dropout", "Power", "ReLU", "Scale", "Sigmoid", "Softmax", "TanH"}
_LAYER_FIELDS = {
    *("name", "type", "bottom", "top", "phase", "loss_weight", "param", "blobs", "propagate_down"),
    *("include", "exclude", "blobs_lr", "weight_decay", "blob_share_mode", "share_mode"),
}


@dataclass(frozen=True, kw_only=True)
class CaffeNet:
    """A prototxt, understood.

    Attributes:
        spec: the deployed network; every layer's activation is its own, though Caffe may compute in place.
        omitted: what was left out of it, such as ``loss (SoftmaxWithLoss)``.
        notes: what was replaced or had to be assumed, one sentence each.
        transposed: InnerProduct layers whose weights are stored (in, out).
        images: what its data layer says of the images; in the spec, but for a mean that is in a file.
    """

    spec: ModelSpec
    omitted: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    transposed: frozenset[str] = frozenset()
    images: DataImages | None = None


@dataclass
class _Node:
    message: Message
    name: str
    type: str
    bottoms: list[str]
    tops: list[str]

    def __str__(self) -> str:
        return f"layer {self.name!r} ({self.type})"


@dataclass
class _Walk:
    """The state of reading a network from top to bottom."""

    inputs: list[Input] = field(default_factory=list[Input])
    layers: list[Layer] = field(default_factory=list[Layer])
    omitted: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])
    transposed: set[str] = field(default_factory=set[str])
    # Blob -> the activation it holds at this point; None for labels and what omitted layers make.
    blobs: dict[str, str | None] = field(default_factory=dict[str, "str | None"])
    # Activation -> its shape, without the batch.
    shapes: dict[str, Shape] = field(default_factory=dict[str, Shape])
    silenced: set[str] = field(default_factory=set[str])
    # Blob that shares its memory -> the one whose memory it is; blob -> the layer that overwrote it through another.
    memory: dict[str, str] = field(default_factory=dict[str, str])
    overwritten: dict[str, str] = field(default_factory=dict[str, str])
    images: DataImages | None = None

    def add(self, layer: Layer, top: str) -> None:
        """A layer and the blob it fills; an impossible one raises `SpecError`."""
        self.shapes[layer.name] = output_shape(layer, [self.shapes[name] for name in layer.inputs])
        self.layers.append(layer)
        self.blobs[top] = layer.name

    def share(self, bottom: str, tops: list[str]) -> None:
        """Blobs that are another in the same memory, as Caffe's `ShareData` makes them."""
        self.memory.update(dict.fromkeys([bottom, *tops], self.memory.get(bottom, bottom)))

    def overwrite(self, blob: str, layer: str) -> None:
        """A layer works in place on a blob."""
        whose = self.memory.get(blob, blob)
        self.overwritten |= {name: layer for name, root in self.memory.items() if root == whose and name != blob}


def read_net(net: Message, name: str, title: str) -> CaffeNet:
    """The network of a parsed prototxt.

    Raises:
        PrototxtError: a malformed network, with line and layer.
        UnsupportedError: lists every layer outside the vocabulary by name and type.
        SpecError: a well-formed but impossible network.
    """
    nodes = [_node(layer) for layer in current_layers(net) if _in_test_phase(layer, net.message("state"))]
    refused = [f"{node}: {why}" for node in nodes if (why := _refusal(node))]
    if refused:
        raise UnsupportedError(f"{title}: outside the layer vocabulary: {'; '.join(refused)}")
    walk = _Walk()
    for top, shape in _net_inputs(net):
        _add_input(walk, top, shape)
    for node in nodes:
        try:
            _visit(walk, node)
        except PrototxtError as error:
            raise PrototxtError(0, f"{node}: {error}") from error
    if not walk.inputs or not walk.layers:
        raise PrototxtError(1, "no network here: it needs an input and at least one layer (is this a solver?)")
    _drop_silenced(walk)
    layers = _chained(walk.layers, walk.inputs[0].name)
    spec = ModelSpec(name=net.string("name") or name, title=title, inputs=tuple(walk.inputs), layers=tuple(layers))
    activation_shapes(spec)  # refuses an impossible network by layer name
    return CaffeNet(
        spec=spec,
        omitted=tuple(walk.omitted),
        notes=tuple(walk.notes),
        transposed=frozenset(walk.transposed),
        images=walk.images if len(walk.inputs) == 1 else None,
    )


def _node(message: Message) -> _Node:
    tops, bottoms = message.strings("top"), message.strings("bottom")
    name = message.string("name") or (tops[0] if tops else "")
    kind = message.string("type")
    if not name or not kind:
        raise PrototxtError(message.line, f"a layer needs a name and a type, got name {name!r} and type {kind!r}")
    return _Node(message=message, name=name, type=kind, bottoms=bottoms, tops=tops)


def _refusal(node: _Node) -> str:
    if node.type in _OMITTED | _DATA | {"Input", "Split"}:
        return ""
    if node.type not in VOCABULARY:
        return "this type is not supported"
    return refusal(node.type, node.message, len(node.tops))


def _in_test_phase(layer: Message, state: Message) -> bool:
    include, exclude = layer.messages("include"), layer.messages("exclude")
    if include and exclude:
        raise PrototxtError(layer.line, "a layer has either include or exclude rules, not both")
    level, stages = state.integer("level", 0), set(state.strings("stage"))

    def met(rule: Message) -> bool:
        return (
            rule.enum("phase", "TEST", ("TRAIN", "TEST")) == "TEST"
            and rule.integer("min_level", level) <= level <= rule.integer("max_level", level)
            and stages.issuperset(rule.strings("stage"))
            and stages.isdisjoint(rule.strings("not_stage"))
        )

    return any(map(met, include)) if include else not any(map(met, exclude))


def _net_inputs(net: Message) -> Iterable[tuple[str, Shape]]:
    """The inputs of the older style, declared beside the layers."""
    names, dims = net.strings("input"), net.integers("input_dim")
    shapes = [shape.integers("dim") for shape in net.messages("input_shape")]
    if names and not shapes and len(dims) == 4 * len(names):
        shapes = [dims[i : i + 4] for i in range(0, len(dims), 4)]
    if len(shapes) != len(names):
        raise PrototxtError(1, f"{len(names)} inputs need as many input_shape, or 4 input_dim each")
    return [(name, tuple(shape[1:])) for name, shape in zip(names, shapes, strict=True)]


def _add_input(walk: _Walk, top: str, shape: Shape) -> None:
    if top in walk.blobs:
        raise PrototxtError(0, f"the blob {top!r} is made twice")
    walk.inputs.append(Input(name=top, shape=shape))
    walk.blobs[top], walk.shapes[top] = top, shape


def _visit(walk: _Walk, node: _Node) -> None:
    unknown = set(node.message.fields) - _LAYER_FIELDS - IGNORED_PARAMS
    if unknown:
        raise PrototxtError(node.message.line, f"unknown field {', '.join(sorted(unknown))}")
    if node.type == "Input":
        _visit_input(walk, node)
    elif node.type in _DATA:
        _visit_data(walk, node)
    elif node.type in _OMITTED:
        if node.type != "Silence":
            walk.omitted.append(f"{node.name} ({node.type})")
        sources = [walk.blobs.get(bottom) for bottom in node.bottoms]
        walk.silenced.update(source for source in sources if source and node.type == "Silence")
        walk.blobs.update(dict.fromkeys(node.tops))
    elif node.type == "Split":
        (source,) = _sources(walk, node)
        walk.blobs.update(dict.fromkeys(node.tops, source))
        walk.share(node.bottoms[0], node.tops)
    else:
        _visit_layer(walk, node)


def _visit_input(walk: _Walk, node: _Node) -> None:
    block = node.message.message("input_param")
    check_fields(block, {"shape"}, "input_param")
    shapes = [shape.integers("dim") for shape in block.messages("shape")]
    if not node.tops or len(shapes) not in (1, len(node.tops)):
        raise PrototxtError(node.message.line, f"{len(node.tops)} tops need one shape or as many, got {len(shapes)}")
    for i, top in enumerate(node.tops):
        _add_input(walk, top, tuple(shapes[i if len(shapes) > 1 else 0][1:]))


def _visit_data(walk: _Walk, node: _Node) -> None:
    if not node.tops:
        raise PrototxtError(node.message.line, "a data layer needs a top")
    shape, note = _data_shape(node)
    _add_input(walk, node.tops[0], shape)
    walk.blobs.update(dict.fromkeys(node.tops[1:]))
    walk.images = images_of(node.message, shape)
    size = " x ".join(map(str, shape))
    walk.notes.append(f"{node} became the input {node.tops[0]!r}, {size}{note}")


def _data_shape(node: _Node) -> tuple[Shape, str]:
    """The shape of one image of a data layer, and what had to be assumed for it."""
    message = node.message
    blocks = [message.message(name) for name in message.fields if name.endswith("_param")]
    crops = [block.integer("crop_size", 0) for block in blocks if "crop_size" in block]
    crop = max(crops, default=0)
    memory, dummy = message.message("memory_data_param"), message.message("dummy_data_param")
    if memory.fields:
        channels, height, width = (memory.integer(name, 0) for name in ("channels", "height", "width"))
        return (channels, crop or height, crop or width), ""
    if "shape" in dummy:
        return tuple(dummy.messages("shape")[0].integers("dim")[1:]), ""
    if dummy.fields:
        first = [dummy.integers(name)[:1] for name in ("channels", "height", "width")]
        return tuple(size for sizes in first for size in sizes), ""
    if not crop:
        raise PrototxtError(
            message.line,
            "does not say the size of its images (no crop_size); replace it by an Input layer with a shape",
        )
    transform = message.message("transform_param")
    grey = transform.flag("force_gray", False) or not message.message("image_data_param").flag("is_color", True)
    return (1 if grey else 3, crop, crop), "" if grey else " (it does not say the channels: 3 assumed)"


def _sources(walk: _Walk, node: _Node) -> list[str]:
    if not node.bottoms:
        raise PrototxtError(node.message.line, "has no bottom")
    sources = list[str]()
    for bottom in node.bottoms:
        if bottom not in walk.blobs:
            raise PrototxtError(node.message.line, f"reads {bottom!r}, which nothing before it makes")
        if bottom in walk.overwritten:
            raise PrototxtError(
                node.message.line,
                f"reads {bottom!r} after layer {walk.overwritten[bottom]!r} has worked in place on a blob that shares"
                " its memory; give that layer a top of its own",
            )
        source = walk.blobs[bottom]
        if source is None:
            raise PrototxtError(
                node.message.line, f"reads {bottom!r}, a label or the output of a layer that is left out"
            )
        sources.append(source)
    return sources


def _visit_layer(walk: _Walk, node: _Node) -> None:
    sources = _sources(walk, node)
    if not node.tops:
        raise PrototxtError(node.message.line, "has no top")
    for top in node.tops:
        if top in walk.blobs and top not in node.bottoms:
            raise PrototxtError(node.message.line, f"makes {top!r}, which another layer makes already")
        if top in node.bottoms and node.type not in _IN_PLACE:
            raise PrototxtError(node.message.line, f"cannot work in place on {top!r}; give it a top of its own")
        if top in node.bottoms:
            walk.overwrite(top, node.name)
    if node.type == "Flatten" or (node.type in {"Concat", "Slice"} and len(node.bottoms) == len(node.tops) == 1):
        walk.share(node.bottoms[0], node.tops)
    if node.type == "Slice":
        _visit_slice(walk, node, sources)
        return
    walk.add(build_layer(node.type, node.message, node.name, tuple(sources)), node.tops[0])
    if node.type == "InnerProduct" and node.message.message("inner_product_param").flag("transpose", False):
        walk.transposed.add(node.name)


def _visit_slice(walk: _Walk, node: _Node, sources: list[str]) -> None:
    """A Slice with several tops becomes one `Slice` a top, named after it."""
    block = node.message.message("slice_param")
    check_fields(block, {"axis", "slice_dim", "slice_point"}, "slice_param")
    axis = block.integer("slice_dim", block.integer("axis", 1))
    points, pieces = block.integers("slice_point"), len(node.tops)
    shape = walk.shapes[sources[0]]
    if not -len(shape) <= axis <= len(shape) or axis % (len(shape) + 1) == 0:
        raise PrototxtError(node.message.line, f"cannot slice axis {axis}")
    size = shape[axis % (len(shape) + 1) - 1]
    if points and len(points) != pieces - 1:
        raise PrototxtError(node.message.line, f"{pieces} tops need {pieces - 1} slice_point, got {len(points)}")
    if not points and size % pieces:
        raise PrototxtError(node.message.line, f"{size} does not divide into {pieces} tops; give slice_point")
    bounds = [0, *points, size] if points else list(range(0, size + 1, size // pieces))
    for i, top in enumerate(node.tops):
        name = top if pieces > 1 else node.name
        piece = Slice(name=name, inputs=(sources[0],), start=bounds[i], stop=bounds[i + 1], axis=axis)
        walk.add(piece, top)


def _drop_silenced(walk: _Walk) -> None:
    """Pieces of a Slice that only a Silence layer reads were never meant as outputs."""
    read = {name for layer in walk.layers for name in layer.inputs}
    dead = walk.silenced - read
    walk.layers = [layer for layer in walk.layers if not (isinstance(layer, Slice) and layer.name in dead)]


def _chained(layers: list[Layer], first: str) -> list[Layer]:
    """The layers with the inputs left out that are just the layer before."""
    previous = [first, *(layer.name for layer in layers)]
    return [
        replace(layer, inputs=()) if layer.inputs == (before,) else layer
        for layer, before in zip(layers, previous, strict=False)
    ]
