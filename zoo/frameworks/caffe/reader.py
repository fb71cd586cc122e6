"""A stranger's prototxt -> `ModelSpec`: what Caffe would run in its TEST phase, with the user's own layer names."""

from __future__ import annotations

from dataclasses import dataclass, replace

from zoo import layers
from zoo.errors import UnknownNameError, UnsupportedError
from zoo.frameworks.caffe import forks, shaping
from zoo.frameworks.caffe.around import CONSTANT, DATA, FEEDS, OMITTED, check_counts, count_tops
from zoo.frameworks.caffe.batches import across_batch, by_numbers, leaves_no_axis
from zoo.frameworks.caffe.expand import add_across_batch, expand
from zoo.frameworks.caffe.images import DataImages
from zoo.frameworks.caffe.inputs import add_input, net_inputs, visit_data, visit_input
from zoo.frameworks.caffe.legacy import current_layers
from zoo.frameworks.caffe.schema import check, check_own, passed_over
from zoo.frameworks.caffe.sharing import FACTOR
from zoo.frameworks.caffe.vocabulary import BY_TYPE, refusal
from zoo.frameworks.caffe.walk import Given, Node, Walk
from zoo.layers import Layer, ModelSpec, Names, Shape, chained
from zoo.shapes import activation_shapes, layer_parameters
from zoo.wire.caffemodel import V1_TYPES
from zoo.wire.prototxt import Message, PrototxtError, Word

# What may be made of labels and losses for a layer that is left out; where all is, it is left out as well.
_OF_LABELS = layers.Shaping | layers.Eltwise | layers.Power | layers.Unary | layers.Reduction
_KNOWN = OMITTED | DATA | {"Input", "Split", *BY_TYPE}
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


def read_net(net: Message, name: str, title: str, given: Given | None = None) -> CaffeNet:
    """The network of a parsed prototxt.

    Args:
        net: what was parsed.
        name: of the network, if it does not say.
        title: of the spec.
        given: what is known of it beside.

    Raises:
        PrototxtError: a malformed network, with line and layer.
        UnsupportedError: lists every layer outside the vocabulary by name and type.
        SpecError: a well-formed but impossible network.
    """
    given = given or Given()
    _check_net(net)
    kept, left_out = _phases(net, given)
    nodes, renamed = _distinct([_node(layer) for layer in kept])
    refused = [f"{node}: {why}" for node in nodes if (why := _refusal(node))]
    if refused:
        raise UnsupportedError(f"outside the layer vocabulary: {'; '.join(refused)}")
    for layer in left_out:
        if layer.fields.get("type", [""])[0] in _KNOWN:  # nobody knows the fields of other types
            check_own(layer, "LayerParameter")
    walk = _walked(net, nodes, _absent(left_out), given)
    _refuse_twins(walk, renamed)
    _refuse_unfed(walk)
    _drop_silenced(walk)
    _drop_labels(walk)
    _note_passed_over(walk, net, nodes)
    spec = ModelSpec(
        name=net.string("name") or name,
        title=title,
        inputs=tuple(walk.inputs),
        layers=tuple(chained(walk.layers, walk.inputs[0].name if walk.inputs else "")),
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


def _check_net(net: Message) -> None:
    if not any(name in net for name in ("layer", "layers", "input")):
        raise PrototxtError(1, _NO_NETWORK)
    check_own(net, "NetParameter")
    for layer in net.messages("layers"):
        check(layer, "V1LayerParameter")
    check(net.message("state"), "NetState")


def _phases(net: Message, given: Given) -> tuple[list[Message], list[Message]]:
    """The layers of the deployed network, and those that are left out of it."""
    stages = {*net.message("state").strings("stage"), *given.stages}
    layers, kept, left_out = current_layers(net), list[Message](), list[Message]()
    rules = [rule for layer in layers for which in ("include", "exclude") for rule in layer.messages(which)]
    asked = {stage for rule in rules for which in ("stage", "not_stage") for stage in rule.strings(which)}
    for stage in given.stages:
        if stage not in asked:
            raise PrototxtError(0, str(UnknownNameError("stage", stage, asked)))
    for layer in layers:
        (kept if _in_test_phase(layer, stages) else left_out).append(layer)
    return kept, left_out


def _walked(net: Message, nodes: list[Node], absent: dict[str, str], given: Given) -> Walk:
    """Every input and layer read, from top to bottom."""
    names = frozenset(node.name for node in nodes)
    taken = Names([*names, *(blob for node in nodes for blob in (*node.tops, *node.bottoms))])
    walk = Walk(absent=absent, given=given, layer_names=names, names=taken)
    types = {node.type for node in nodes}
    walk.is_fed = not types.isdisjoint(FEEDS) or any(net_inputs(net)) or types <= CONSTANT
    for top, shape in net_inputs(net):
        add_input(walk, top, shape)
    for node in nodes:
        try:
            _visit(walk, node)
        except PrototxtError as error:
            raise PrototxtError(0, f"{node}: {error}") from error
    return walk


def _refuse_unfed(walk: Walk) -> None:
    unfed = [name for name in walk.given.sizes if name not in walk.shapes]
    if unfed:
        raise PrototxtError(1, f"nothing feeds {', '.join(unfed)}, of which a size is given")
    if not walk.layers or not (walk.inputs or isinstance(walk.layers[0], layers.Constant)):
        raise PrototxtError(1, _NO_NETWORK)


def _node(message: Message) -> Node:
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
    return Node(message=message, name=name, type=kind, bottoms=bottoms, tops=tops)


def _distinct(nodes: list[Node]) -> tuple[list[Node], dict[str, str]]:
    """The layers, each with a name of its own, and what those are called in Caffe that have another now."""
    names, seen, renamed = Names(node.name for node in nodes), set[str](), dict[str, str]()
    for node in nodes:
        if node.name in seen:
            own = names.numbered(node.name)
            renamed[own], node.name = node.name, own
        seen.add(node.name)
    return nodes, renamed


def _refuse_twins(walk: Walk, renamed: dict[str, str]) -> None:
    """Of layers of one name, only the first may have weights: Caffe loads into it whatever has its name (net.cpp)."""
    for layer in walk.layers:
        if layer.name in renamed and layer_parameters(layer, [walk.shapes[name] for name in layer.inputs]):
            twin = renamed[layer.name]
            raise PrototxtError(
                0, f"layer {twin!r} is there twice, and Caffe loads the weights of both into the first; rename one"
            )
    walk.notes += [f"the name {twin!r} is used twice: the later layer is {own!r} here" for own, twin in renamed.items()]


def _refusal(node: Node) -> str:
    if node.type == "Python":
        written = node.message.message("python_param")
        what = f"class {written.string('layer') or '?'} of module {written.string('module') or '?'}"
        cut = "cut the prototxt before it, and run it on what comes out"
        advice = cut if node.bottoms else "put an Input layer in its place"
        return f"{what} is Python code, which is not converted; {advice}"
    if node.type not in _KNOWN:
        return "this type is not supported"
    return refusal(node.type, node.message, len(node.tops)) if node.type in BY_TYPE and node.type not in DATA else ""


def _in_test_phase(layer: Message, stages: set[str]) -> bool:
    include, exclude = layer.messages("include"), layer.messages("exclude")
    if include and exclude:
        raise PrototxtError(layer.line, "a layer has either include or exclude rules, not both")
    # Caffe's tools and its Python module set the level to 0, whatever the file says (net.cpp).
    level = 0

    def met(rule: Message) -> bool:
        return (
            rule.enum("phase", "TEST", ("TRAIN", "TEST")) == "TEST"
            and rule.integer("min_level", level) <= level <= rule.integer("max_level", level)
            and stages.issuperset(rule.strings("stage"))
            and stages.isdisjoint(rule.strings("not_stage"))
        )

    return any(map(met, include)) if include else not any(map(met, exclude))


def _absent(left_out: list[Message]) -> dict[str, str]:
    """Blob -> for what alone a layer would make it, of layers that are left out."""
    stages = [
        (layer, [stage for rule in layer.messages("include") for stage in rule.strings("stage")]) for layer in left_out
    ]
    return {
        top: f"stage {found[0]!r}" if found else "another phase"
        for layer, found in stages
        for top in layer.strings("top")
    }


def _visit(walk: Walk, node: Node) -> None:
    _check_text(node)
    check_counts(node)
    for i, top in enumerate(node.tops):
        in_place = node.type in BY_TYPE and top in node.bottoms[i : i + 1]
        if (top in walk.blobs and not in_place) or top in node.tops[:i]:
            raise PrototxtError(node.message.line, f"makes {top!r}, which is made already")
    weights = node.message.fields.get("loss_weight", [])
    if weights and len(weights) != count_tops(node):
        raise PrototxtError(
            node.message.line, f"has {len(node.tops)} tops and {len(weights)} loss_weight; one each, or none"
        )
    backward = node.message.fields.get("propagate_down", [])
    if backward and len(backward) != len(node.bottoms):
        raise PrototxtError(
            node.message.line, f"has {len(node.bottoms)} bottoms and {len(backward)} propagate_down; one each, or none"
        )
    if node.type == "Input":
        visit_input(walk, node)
    elif node.type in DATA:
        visit_data(walk, node)
    elif node.type in OMITTED:
        _visit_omitted(walk, node)
    elif node.type == "Split":
        (source,) = _sources(walk, node)
        walk.blobs.update(dict.fromkeys(node.tops, source))
        walk.share(node.bottoms[0], node.tops)
    else:
        _visit_layer(walk, node)


def _check_text(node: Node) -> None:
    """Refuse fields that Caffe does not know, and weights or a phase in the text."""
    check(node.message, "LayerParameter")
    if node.type in OMITTED:
        return
    if "blobs" in node.message:
        raise PrototxtError(node.message.line, "holds blobs, weights written as text; they belong into a caffemodel")
    if node.message.enum("phase", "TEST", ("TRAIN", "TEST")) == "TRAIN" and _differs_in_training(node):
        raise PrototxtError(
            node.message.line,
            "has phase: TRAIN of its own, so that Caffe runs it as in training even in a deployed network; take the"
            " phase out, or write include { phase: TRAIN } for a layer of training alone",
        )


def _differs_in_training(node: Node) -> bool:
    if node.type == "BatchNorm":
        return "use_global_stats" not in node.message.message("batch_norm_param")
    return node.type == "Dropout" or node.type in DATA


def _visit_omitted(walk: Walk, node: Node) -> None:
    if node.type != "Silence":
        walk.omitted.append(f"{node.name} ({node.type})")
    sources = [walk.read(node, bottom) for bottom in node.bottoms]
    if node.type == "Silence":
        walk.silenced.update(source for source in sources if source)
    else:
        walk.for_training.update(source for source in sources if source)
    walk.blobs.update(dict.fromkeys(node.tops))


def _sources(walk: Walk, node: Node) -> list[str]:
    if not node.bottoms and node.type != "Parameter":
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


def _visit_layer(walk: Walk, node: Node) -> None:
    row = BY_TYPE[node.type]
    if node.bottoms and issubclass(row.kind, _OF_LABELS) and not any(map(walk.blobs.get, node.bottoms)):
        _visit_omitted(walk, node)
        return
    sources = _sources(walk, node)
    _check_scalars(walk, node, sources)
    if not node.tops:
        raise PrototxtError(node.message.line, "has no top")
    for top in (top for top in node.tops if top in node.bottoms):
        if not row.in_place:
            raise PrototxtError(node.message.line, f"cannot work in place on {top!r}; give it a top of its own")
        _check_alone(walk, node, top)
        walk.overwrite(top, node.name)
    if node.type in {"Flatten", "Reshape"} or (
        node.type in {"Concat", "Slice"} and len(node.bottoms) == len(node.tops) == 1
    ):
        walk.share(node.bottoms[0], node.tops)
    sources[: row.four_axes] = [walk.of_four_axes(node, source) for source in sources[: row.four_axes]]
    if expand(walk, node, sources):
        return
    assert row.read is not None
    layer = row.read(node.message.message(row.block), node.name, tuple(sources))
    if isinstance(layer, layers.Flatten):
        layer = shaping.of_nothing(layer, walk.shapes[sources[0]]) or layer
    elif isinstance(layer, layers.Reshape):
        if sources[0] in walk.scalars:  # no axes are all of them
            layer = replace(layer, axis=0, num_axes=-1)
        if leaves_no_axis(layer, walk.batches[sources[0]], walk.shapes[sources[0]]):
            walk.scalars.add(layer.name)
        layer = by_numbers(layer, walk.batches[sources[0]], walk.shapes[sources[0]])
    if node.type == "LRN" and len(walk.shapes[sources[0]]) != 3:
        raise PrototxtError(node.message.line, "normalises N x C x H x W only, and its bottom has other axes")
    moved = across_batch(layer, walk.shapes[sources[0]]) if sources else None
    if moved is None:
        walk.add(layer, node.tops[0])
    else:
        layer = add_across_batch(walk, moved, node.tops[0])
    if node.type == "InnerProduct" and node.message.message("inner_product_param").flag("transpose", False):
        walk.transposed.add(node.name)
    _share_blobs(walk, node, layer)


def _check_scalars(walk: Walk, node: Node, sources: list[str]) -> None:
    """Refuse what wants axes of a blob that has none, and an Eltwise of such a blob and another."""
    scalars = [name for name in sources if name in walk.scalars]
    if scalars and not _takes_scalars(node, sources, scalars):
        raise PrototxtError(
            node.message.line,
            f"reads {node.bottoms[sources.index(scalars[0])]!r}, a number without axes; give it some with a Reshape",
        )


def _takes_scalars(node: Node, sources: list[str], scalars: list[str]) -> bool:
    match node.type:
        case "Eltwise":
            return len(scalars) == len(sources)
        case "Scale" | "Bias":
            return len(sources) == 2 and sources[1] in scalars
        case "Reshape":
            block = node.message.message("reshape_param")
            anywhere = block.integer("axis", 0) in (0, -1) and block.integer("num_axes", -1) in (0, -1)
            return anywhere and 0 not in block.message("shape").integers("dim")
        case _:
            return issubclass(BY_TYPE[node.type].kind, layers.Pointwise)


def _check_alone(walk: Walk, node: Node, blob: str) -> None:
    """Refuse in-place work on what another layer reads: Caffe splits that blob, and then two layers make it."""
    if node.bottoms.count(blob) > 1:
        raise PrototxtError(node.message.line, f"works in place on {blob!r}, which it reads twice; give it another top")
    others = [name for name in walk.readers[blob] if name != node.name]
    if others:
        raise PrototxtError(
            node.message.line,
            f"works in place on {blob!r}, which layer {others[0]!r} reads as well; give it a top of its own",
        )


def _share_blobs(walk: Walk, node: Node, layer: Layer) -> None:
    rows = layer_parameters(layer, [walk.shapes[name] for name in layer.inputs])
    blobs: list[tuple[str, Shape]] = [(row.role, row.shape) for row in rows]
    if isinstance(layer, layers.BatchNorm):
        blobs.append((FACTOR, (1,)))
        params = node.message.messages("param")
        # Three are of its first definition, and set to 0 (upgrade_proto.cpp, UpgradeNetBatchNorm).
        if len(params) != 3 and any(param.number("lr_mult", 1.0) for param in params):
            raise PrototxtError(node.message.line, "has an lr_mult other than 0; the statistics are not learned")
    walk.sharing.add(node.name, node.message, blobs, transposed=node.name in walk.transposed)


def _note_passed_over(walk: Walk, net: Message, nodes: list[Node]) -> None:
    found = net.fields.keys() & forks.PASSED_OVER["NetParameter"]
    found |= {
        name for node in nodes if node.type not in OMITTED for name in passed_over(node.message, "LayerParameter")
    }
    if found:
        walk.notes.append(f"passed over, of a fork and not of the deployed network: {', '.join(sorted(found))}")


def _drop_silenced(walk: Walk) -> None:
    """Pieces of a Slice that only a Silence layer reads were never meant as outputs."""
    read = {name for layer in walk.layers for name in layer.inputs}
    dead = walk.silenced - read
    walk.layers = [layer for layer in walk.layers if not (isinstance(layer, layers.Slice) and layer.name in dead)]


def _drop_labels(walk: Walk) -> None:
    """Labels: inputs and constants that only layers for training read, and single numbers that nothing reads."""
    read = {name for layer in walk.layers for name in layer.inputs}
    for label in [source for source in walk.inputs if source.name not in read]:
        if label.name in walk.for_training or not label.shape:
            walk.inputs.remove(label)
            walk.notes.append(f"the input {label.name!r} is read in training alone, a label: left out")
    idle = walk.for_training - read
    walk.layers = [layer for layer in walk.layers if not (isinstance(layer, layers.Constant) and layer.name in idle)]
