"""A stranger's prototxt -> `ModelSpec`: what Caffe would run in its TEST phase, with the user's own layer names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from zoo.errors import UnsupportedError
from zoo.frameworks.caffe.images import DataImages, images_of
from zoo.frameworks.caffe.legacy import V1_TYPES, current_layers
from zoo.frameworks.caffe.schema import check, check_own
from zoo.frameworks.caffe.sharing import FACTOR, Sharing
from zoo.frameworks.caffe.vocabulary import VOCABULARY, build_layer, refusal
from zoo.layers import BatchNorm, Dropout, Input, Layer, ModelSpec, Power, Shape, Slice
from zoo.shapes import activation_shapes, layer_parameters, output_shape
from zoo.wire.prototxt import Message, PrototxtError, Word

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


_NO_NETWORK = "no network here: it needs an input and at least one layer (is this a solver?)"


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

    # Blob -> the stage of a layer that would make it, and is left out.
    absent: dict[str, str]
    sizes: Mapping[str, Shape]
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
    # Blob -> the layers that read what it holds at this point.
    readers: dict[str, list[str]] = field(default_factory=dict[str, "list[str]"])
    # Inputs that are read by layers for training alone, if no other reads them.
    for_training: set[str] = field(default_factory=set[str])
    sharing: Sharing = field(default_factory=Sharing)
    images: DataImages | None = None

    def add(self, layer: Layer, top: str) -> None:
        """A layer and the blob it fills; an impossible one raises `SpecError`."""
        self.shapes[layer.name] = output_shape(layer, [self.shapes[name] for name in layer.inputs])
        self.layers.append(layer)
        self.blobs[top] = layer.name
        self.readers.pop(top, None)

    def read(self, node: _Node, blob: str) -> str | None:
        """A layer reads a blob: the activation it holds, None for a label and the like."""
        if blob not in self.blobs:
            stage = f"; a layer of stage {self.absent[blob]!r} would, but is left out" if blob in self.absent else ""
            raise PrototxtError(node.message.line, f"reads {blob!r}, which nothing before it makes{stage}")
        if blob in self.overwritten:
            raise PrototxtError(
                node.message.line,
                f"reads {blob!r} after layer {self.overwritten[blob]!r} has worked in place on a blob that shares"
                " its memory; give that layer a top of its own",
            )
        self.readers.setdefault(blob, []).append(node.name)
        return self.blobs[blob]

    def share(self, bottom: str, tops: list[str]) -> None:
        """Blobs that are another in the same memory, as Caffe's `ShareData` makes them."""
        self.memory.update(dict.fromkeys([bottom, *tops], self.memory.get(bottom, bottom)))

    def overwrite(self, blob: str, layer: str) -> None:
        """A layer works in place on a blob."""
        whose = self.memory.get(blob, blob)
        self.overwritten |= {name: layer for name, root in self.memory.items() if root == whose and name != blob}


def read_net(net: Message, name: str, title: str, sizes: Mapping[str, Shape] | None = None) -> CaffeNet:
    """The network of a parsed prototxt.

    Args:
        net: what was parsed.
        name: of the network, if it does not say.
        title: of the spec.
        sizes: of inputs whose data layer does not say them, without the batch.

    Raises:
        PrototxtError: a malformed network, with line and layer.
        UnsupportedError: lists every layer outside the vocabulary by name and type.
        SpecError: a well-formed but impossible network.
    """
    if not any(name in net for name in ("layer", "layers", "input")):
        raise PrototxtError(1, _NO_NETWORK)
    check_own(net, "NetParameter")
    for layer in net.messages("layers"):
        check(layer, "V1LayerParameter")
    check(net.message("state"), "NetState")
    state = net.message("state")
    kept, left_out = list[Message](), list[Message]()
    for layer in current_layers(net):
        (kept if _in_test_phase(layer, state) else left_out).append(layer)
    nodes = [_node(layer) for layer in kept]
    refused = [f"{node}: {why}" for node in nodes if (why := _refusal(node))]
    if refused:
        raise UnsupportedError(f"{title}: outside the layer vocabulary: {'; '.join(refused)}")
    for layer in left_out:
        check_own(layer, "LayerParameter")
    walk = _Walk(absent=_absent_stages(left_out), sizes=sizes or {})
    for top, shape in _net_inputs(net):
        _add_input(walk, top, shape)
    for node in nodes:
        try:
            _visit(walk, node)
        except PrototxtError as error:
            raise PrototxtError(0, f"{node}: {error}") from error
    if not walk.inputs or not walk.layers:
        raise PrototxtError(1, _NO_NETWORK)
    _drop_silenced(walk)
    _drop_labels(walk)
    layers = _chained(walk.layers, walk.inputs[0].name)
    spec = ModelSpec(
        name=net.string("name") or name,
        title=title,
        inputs=tuple(walk.inputs),
        layers=tuple(layers),
        ties=walk.sharing.ties(),
    )
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
    written = message.fields.get("type", [""])[0]
    if isinstance(written, Word):
        hint = f'"{V1_TYPES[written][1]}"' if written in V1_TYPES else "text in quotes"
        raise PrototxtError(
            message.line,
            f"type: {written} is a word of the old dialect, of 'layers' blocks; in a 'layer' block it is {hint}",
        )
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
    # Caffe's tools and its Python module set the level to 0, whatever the file says (net.cpp).
    level, stages = 0, set(state.strings("stage"))

    def met(rule: Message) -> bool:
        return (
            rule.enum("phase", "TEST", ("TRAIN", "TEST")) == "TEST"
            and rule.integer("min_level", level) <= level <= rule.integer("max_level", level)
            and stages.issuperset(rule.strings("stage"))
            and stages.isdisjoint(rule.strings("not_stage"))
        )

    return any(map(met, include)) if include else not any(map(met, exclude))


def _absent_stages(left_out: list[Message]) -> dict[str, str]:
    """Blob -> the stage for which a layer would make it, of layers that are left out."""
    return {
        top: stage
        for layer in left_out
        for rule in layer.messages("include")
        for stage in rule.strings("stage")
        for top in layer.strings("top")
    }


def _net_inputs(net: Message) -> Iterable[tuple[str, Shape]]:
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


def _add_input(walk: _Walk, top: str, sizes: Shape) -> None:
    """An input of these sizes, the batch first; one of a single axis holds labels."""
    if top in walk.blobs:
        raise PrototxtError(0, f"the blob {top!r} is made twice")
    if min(sizes, default=0) < 1:
        raise PrototxtError(
            0, f"the input {top!r} must have positive sizes, got {' x '.join(map(str, sizes)) or 'none'}"
        )
    if len(sizes) == 1:
        walk.notes.append(f"the input {top!r} has one number an image, a label: left out")
        walk.blobs[top] = None
        return
    walk.inputs.append(Input(name=top, shape=sizes[1:]))
    walk.blobs[top], walk.shapes[top] = top, sizes[1:]


def _visit(walk: _Walk, node: _Node) -> None:
    _check_text(node)
    backward = node.message.fields.get("propagate_down", [])
    if backward and len(backward) != len(node.bottoms):
        raise PrototxtError(
            node.message.line, f"has {len(node.bottoms)} bottoms and {len(backward)} propagate_down; one each, or none"
        )
    if node.type == "Input":
        _visit_input(walk, node)
    elif node.type in _DATA:
        _visit_data(walk, node)
    elif node.type in _OMITTED:
        _visit_omitted(walk, node)
    elif node.type == "Split":
        (source,) = _sources(walk, node)
        walk.blobs.update(dict.fromkeys(node.tops, source))
        walk.share(node.bottoms[0], node.tops)
    else:
        _visit_layer(walk, node)


def _check_text(node: _Node) -> None:
    """Refuse fields that Caffe does not know; what is in the blocks of a layer that is left out, nobody reads."""
    if node.type in _OMITTED:
        check_own(node.message, "LayerParameter")
        return
    check(node.message, "LayerParameter")
    if "blobs" in node.message:
        raise PrototxtError(node.message.line, "holds blobs, weights written as text; they belong into a caffemodel")
    if node.message.enum("phase", "TEST", ("TRAIN", "TEST")) == "TRAIN" and _differs_in_training(node):
        raise PrototxtError(
            node.message.line,
            "has phase: TRAIN of its own, so that Caffe runs it as in training even in a deployed network; take the"
            " phase out, or write include { phase: TRAIN } for a layer of training alone",
        )


def _differs_in_training(node: _Node) -> bool:
    if node.type == "BatchNorm":
        return "use_global_stats" not in node.message.message("batch_norm_param")
    return node.type == "Dropout" or node.type in _DATA


def _visit_omitted(walk: _Walk, node: _Node) -> None:
    if node.type != "Silence":
        walk.omitted.append(f"{node.name} ({node.type})")
    sources = [walk.read(node, bottom) for bottom in node.bottoms]
    if node.type == "Silence":
        walk.silenced.update(source for source in sources if source)
    else:
        walk.for_training.update(source for source in sources if source)
    walk.blobs.update(dict.fromkeys(node.tops))


def _visit_input(walk: _Walk, node: _Node) -> None:
    shapes = [shape.integers("dim") for shape in node.message.message("input_param").messages("shape")]
    if not node.tops or len(shapes) not in (1, len(node.tops)):
        raise PrototxtError(node.message.line, f"{len(node.tops)} tops need one shape or as many, got {len(shapes)}")
    for i, top in enumerate(node.tops):
        _add_input(walk, top, tuple(shapes[i if len(shapes) > 1 else 0]))


def _visit_data(walk: _Walk, node: _Node) -> None:
    if not node.tops:
        raise PrototxtError(node.message.line, "a data layer needs a top")
    note, known = "", {top: (1, *walk.sizes[top]) for top in node.tops if top in walk.sizes}
    if node.type == "DummyData":
        made = dict(zip(node.tops, _dummy_shapes(node), strict=True))
        walk.for_training.update(node.tops[1:])
    elif known and node.type == "HDF5Data":
        made = known
    else:
        shape, note = _data_shape(node)
        made = {node.tops[0]: (1, *shape)}
        walk.images = images_of(node.message, shape)
    walk.blobs.update(dict.fromkeys(top for top in node.tops if top not in made))
    for top, sizes in made.items():
        _add_input(walk, top, sizes)
        if top in walk.shapes:
            walk.notes.append(f"{node} became the input {top!r}, {' x '.join(map(str, sizes[1:]))}{note}")


def _dummy_shapes(node: _Node) -> list[Shape]:
    """The shapes of a DummyData layer's tops, given once for all, or once each (dummy_data_layer.cpp)."""
    block = node.message.message("dummy_data_param")
    shapes = [tuple(shape.integers("dim")) for shape in block.messages("shape")]
    if not shapes:
        sides = [block.integers(name) for name in ("num", "channels", "height", "width")]
        shapes = list(zip(*sides, strict=False))
        if any(len(side) != len(shapes) for side in sides):
            raise PrototxtError(block.line, "num, channels, height and width must be given equally often")
    if len(shapes) not in (1, len(node.tops)):
        raise PrototxtError(node.message.line, f"{len(node.tops)} tops need one shape or as many, got {len(shapes)}")
    return shapes * len(node.tops) if len(shapes) == 1 else shapes


def _data_shape(node: _Node) -> tuple[Shape, str]:
    """The shape of one image of a data layer, and what had to be assumed for it."""
    message = node.message
    blocks = [message.message(name) for name in message.fields if name.endswith("_param")]
    crops = [block.integer("crop_size", 0) for block in blocks if "crop_size" in block]
    crop = max(crops, default=0)
    memory = message.message("memory_data_param")
    if memory.fields:
        channels, height, width = (memory.integer(name, 0) for name in ("channels", "height", "width"))
        return (channels, crop or height, crop or width), ""
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
        source = walk.read(node, bottom)
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
    for i, top in enumerate(node.tops):
        if top in walk.blobs and top not in node.bottoms[i : i + 1]:
            raise PrototxtError(node.message.line, f"makes {top!r}, which another layer makes already")
        if top in node.bottoms and node.type not in _IN_PLACE:
            raise PrototxtError(node.message.line, f"cannot work in place on {top!r}; give it a top of its own")
        if top in node.bottoms:
            _check_alone(walk, node, top)
            walk.overwrite(top, node.name)
    if node.type == "Flatten" or (node.type in {"Concat", "Slice"} and len(node.bottoms) == len(node.tops) == 1):
        walk.share(node.bottoms[0], node.tops)
    if node.type == "Slice":
        _visit_slice(walk, node, sources)
        return
    layer = build_layer(node.type, node.message, node.name, tuple(sources))
    if node.type == "LRN" and len(walk.shapes[sources[0]]) != 3:
        raise PrototxtError(node.message.line, "normalises N x C x H x W only, and its bottom has other axes")
    if isinstance(layer, Dropout) and not node.message.message("dropout_param").flag("scale_train", True):
        _visit_unscaled(walk, layer, node.tops[0])
        return
    walk.add(layer, node.tops[0])
    if node.type == "InnerProduct" and node.message.message("inner_product_param").flag("transpose", False):
        walk.transposed.add(node.name)
    _share_blobs(walk, node, layer)


def _check_alone(walk: _Walk, node: _Node, blob: str) -> None:
    """Refuse in-place work on what another layer reads: Caffe splits that blob, and then two layers make it."""
    others = [name for name in walk.readers[blob] if name != node.name]
    if others:
        raise PrototxtError(
            node.message.line,
            f"works in place on {blob!r}, which layer {others[0]!r} reads as well; give it a top of its own",
        )


def _visit_unscaled(walk: _Walk, layer: Dropout, top: str) -> None:
    """A Dropout that scales not in training but at inference, by ``1 - ratio`` (caffe-fast-rcnn, dropout_layer.cpp)."""
    mask = replace(layer, name=f"{layer.name}_mask")
    if mask.name in walk.shapes:
        raise PrototxtError(0, f"scale_train: false needs a layer {mask.name!r} of its own, and there is one already")
    walk.add(mask, top)
    walk.add(Power(name=layer.name, inputs=(mask.name,), scale=1 - layer.ratio), top)
    walk.notes.append(
        f"layer {layer.name!r} (Dropout) has scale_train: false: at inference it multiplies by {1 - layer.ratio:g}"
    )


def _share_blobs(walk: _Walk, node: _Node, layer: Layer) -> None:
    rows = layer_parameters(layer, [walk.shapes[name] for name in layer.inputs])
    blobs: list[tuple[str, Shape]] = [(row.role, row.shape) for row in rows]
    if isinstance(layer, BatchNorm):
        blobs.append((FACTOR, (1,)))
        if any(param.number("lr_mult", 1.0) for param in node.message.messages("param")[:3]):
            raise PrototxtError(node.message.line, "has an lr_mult other than 0; the statistics are not learned")
    walk.sharing.add(node.name, node.message, blobs, transposed=node.name in walk.transposed)


def _visit_slice(walk: _Walk, node: _Node, sources: list[str]) -> None:
    """A Slice with several tops becomes one `Slice` a top, named after it."""
    block = node.message.message("slice_param")
    if "axis" in block and "slice_dim" in block:
        raise PrototxtError(block.line, "slice_param has either axis or slice_dim, not both")
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


def _drop_labels(walk: _Walk) -> None:
    """Inputs that only layers for training read are labels; a deployed network has none."""
    read = {name for layer in walk.layers for name in layer.inputs}
    for label in [source for source in walk.inputs if source.name in walk.for_training - read]:
        walk.inputs.remove(label)
        walk.notes.append(f"the input {label.name!r} is read in training alone, a label: left out")


def _chained(layers: list[Layer], first: str) -> list[Layer]:
    """The layers with the inputs left out that are just the layer before."""
    previous = [first, *(layer.name for layer in layers)]
    return [
        replace(layer, inputs=()) if layer.inputs == (before,) else layer
        for layer, before in zip(layers, previous, strict=False)
    ]
