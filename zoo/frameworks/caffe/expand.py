"""Layers of Caffe's that are several of ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

from zoo import layers
from zoo.axes import axis_index
from zoo.frameworks.caffe import pooling, shaping
from zoo.frameworks.caffe.batches import across_batch
from zoo.frameworks.caffe.row import MANY
from zoo.frameworks.caffe.vocabulary import BY_TYPE
from zoo.frameworks.caffe.walk import Node, Walk
from zoo.layers import Layer, Pair
from zoo.shapes import layer_parameters
from zoo.wire.prototxt import PrototxtError

# spp_layer.cpp would make 4^height bins of every map.
_HIGHEST_PYRAMID = 12


def expand(walk: Walk, node: Node, sources: Sequence[str]) -> bool:
    """Add a layer as several of ours, where it is; says whether it was."""
    how = _EXPANSIONS.get(node.type)
    if how is None or not how(walk, node, sources):
        return False
    params, blobs = len(node.message.messages("param")), _BLOBS.get(node.type, MANY)
    if params > blobs:
        raise PrototxtError(node.message.line, f"has {params} param blocks, but {blobs} blobs")
    return True


def _slice(walk: Walk, node: Node, sources: Sequence[str]) -> bool:
    names, source = node.tops if len(node.tops) > 1 else [node.name], sources[0]
    pieces = shaping.read_slices(node.message, names, source, walk.shapes[source], walk.batches[source])
    for piece, top in zip(pieces, node.tops, strict=True):
        walk.add(piece, top)
    return True


def _convolution(walk: Walk, node: Node, sources: Sequence[str]) -> bool:
    """One kernel over several bottoms, each into a top of its own, and axes that count as batch."""
    row = BY_TYPE[node.type]
    block = node.message.message(row.block)
    shapes = {(walk.batches[source], *walk.shapes[source]) for source in sources}
    if len(node.tops) != len(sources):
        raise PrototxtError(node.message.line, f"has {len(sources)} bottoms and {len(node.tops)} tops; one top each")
    if len(shapes) > 1:
        raise PrototxtError(node.message.line, "has bottoms of different shapes, and one kernel for all")
    full = shapes.pop()
    axis = axis_index(node.name, block.integer("axis", 1), full[1:])
    if len(full) - axis != 3:
        told = f"convolves over {len(full) - 1 - axis} axes from axis {axis} on; channels and two axes behind them do"
        raise PrototxtError(block.line, f"{told} (N x C x H x W)")
    read = row.read
    assert read is not None
    made = list[layers.Reshape]()
    for i, (source, top) in enumerate(zip(sources, node.tops, strict=True)):
        name = node.name if i == 0 else walk.name_of(top)
        layer = read(block, name, (source,))
        assert isinstance(layer, layers.Conv | layers.Deconv)
        if node.type == "ConvolutionDepthwise":
            layer = replace(layer, out_channels=full[axis], groups=full[axis])
        if axis == 1:
            walk.add(layer, top)
        else:
            made.append(_over_items(walk, layer, source, top, axis))
        rows = layer_parameters(layer, [full[axis:]])
        family = node.name if len(sources) > 1 else ""
        walk.sharing.add(name, node.message, [(row.role, row.shape) for row in rows], family=family)
    for reshape, top in zip(made, node.tops, strict=False):
        walk.add(reshape, top)
    return True


def _over_items(walk: Walk, layer: layers.Conv | layers.Deconv, source: str, top: str, axis: int) -> layers.Reshape:
    """A convolution whose channels are not axis 1: the axes before them become one batch, and come back after it.

    Returns what brings them back, which is not yet added.
    """
    full = (walk.batches[source], *walk.shapes[source])
    items, made = (walk.fresh(f"{layer.name}_{what}") for what in ("items", "made"))
    walk.add(layers.Reshape(name=items, inputs=(source,), dims=(-1, *full[axis:])), top)
    # Its parameters are called after the layer: it keeps the name, and what comes back takes another.
    walk.add(replace(layer, inputs=(items,)), top)
    size = (*full[:axis], *walk.shapes[layer.name])
    return layers.Reshape(name=made, inputs=(layer.name,), dims=(-1, *size[1:]))


def add_across_batch(walk: Walk, layer: Layer, top: str) -> Layer:
    """A layer of `across_batch`: the batch becomes an axis of a single item, and comes back after the layer.

    A result without axes is a single number here. Returns the layer as it stands in the network.
    """
    sets = list[str]()
    for i, source in enumerate(layer.inputs):
        sets.append(walk.fresh(f"{layer.name}_set{i or ''}"))
        dims = (-1, walk.batches[source], *walk.shapes[source])
        walk.add(layers.Reshape(name=sets[-1], inputs=(source,), dims=dims), top)
    layer = replace(layer, inputs=tuple(sets))
    walk.add(layer, top)
    made = walk.shapes[layer.name]
    if not made:
        walk.scalars.add(layer.name)
    else:
        walk.add(layers.Reshape(name=walk.fresh(f"{layer.name}_made"), inputs=(layer.name,), dims=(-1, *made[1:])), top)
    return layer


def _by_scalar(walk: Walk, node: Node, sources: Sequence[str]) -> bool:
    """A second bottom without axes, which fits any first: one number for all, or here for each item its own."""
    if len(sources) != 2 or sources[1] not in walk.scalars:
        return False
    read = BY_TYPE[node.type].read
    layer = read(node.message.message(BY_TYPE[node.type].block), node.name, tuple(sources)) if read else None
    assert isinstance(layer, layers.Scale | layers.Bias)
    if not isinstance(layer, layers.Scale) or not layer.bias:
        walk.add(replace(layer, axis=0), node.tops[0])
        return True
    factor = replace(layer, name=walk.fresh(f"{node.name}_factor"), axis=0, bias=False)
    walk.add(factor, node.tops[0])
    bias = layers.Bias(name=node.name, inputs=(factor.name,), axis=layer.axis, num_axes=0)
    moved = across_batch(bias, walk.shapes[factor.name])
    if moved is None:
        walk.add(bias, node.tops[0])
    else:
        add_across_batch(walk, moved, node.tops[0])
    walk.sharing.add(node.name, node.message, [("bias", ())])
    return True


def _pooling(walk: Walk, node: Node, sources: Sequence[str]) -> bool:
    """A second top: the mask of the maxima."""
    if len(node.tops) < 2:
        return False
    layer = pooling.read_pool(node.message.message("pooling_param"), node.name, tuple(sources))
    if layer.mode != "max":
        raise PrototxtError(node.message.line, "has a second top, the mask of the maxima; an average has none")
    walk.add(layer, node.tops[0])
    mask = layers.PoolMask(
        name=walk.name_of(node.tops[1]),
        inputs=layer.inputs,
        kernel=layer.kernel,
        stride=layer.stride,
        pad=layer.pad,
        rounding=layer.rounding,
        global_pool=layer.global_pool,
    )
    walk.add(mask, node.tops[1])
    return True


def _pyramid(walk: Walk, node: Node, sources: Sequence[str]) -> bool:
    """SPP: 1, 2, 4, ... bins a side, flattened and joined, unless there is one level (spp_layer.cpp)."""
    block = node.message.message("spp_param")
    height, shape = block.integer("pyramid_height", 0), walk.shapes[sources[0]]
    if len(shape) != 3 or not 1 <= height <= _HIGHEST_PYRAMID:
        raise PrototxtError(
            node.message.line,
            f"needs N x C x H x W and a pyramid_height of 1 to {_HIGHEST_PYRAMID}, got {height}",
        )
    mode = "ave" if block.enum("pool", "MAX", pooling.METHODS) == "AVE" else "max"
    levels = list[str]()
    for level in range(height):
        kernel, pad = _level_window((shape[1], shape[2]), 2**level)
        if any(p >= k for p, k in zip(pad, kernel, strict=True)):
            raise PrototxtError(node.message.line, f"{shape[1]} x {shape[2]} pixels make no {2**level} bins a side")
        name = node.name if height == 1 else walk.fresh(f"{node.name}_pool{level}")
        walk.add(
            layers.Pool(name=name, inputs=(sources[0],), mode=mode, kernel=kernel, stride=kernel, pad=pad), node.tops[0]
        )
        if height > 1:
            levels.append(walk.fresh(f"{node.name}_flatten{level}"))
            walk.add(layers.Flatten(name=levels[-1], inputs=(name,)), node.tops[0])
    if levels:
        walk.add(layers.Concat(name=node.name, inputs=tuple(levels)), node.tops[0])
    return True


def _level_window(size: Pair, bins: int) -> tuple[Pair, Pair]:
    """Kernel and pad of a level of SPP."""
    height, width = (-(-side // bins) for side in size)
    return (height, width), ((height * bins - size[0] + 1) // 2, (width * bins - size[1] + 1) // 2)


def _bn(walk: Walk, node: Node, sources: Sequence[str]) -> bool:
    """BN of the forks: PSPNet's has four blobs, SegNet's two, told apart by their words (both: bn_layer.cpp)."""
    block = node.message.message("bn_param")
    segnet, pspnet = ("bn_mode", "scale_filler", "shift_filler"), ("slope_filler", "eps", "frozen")
    ours, theirs = ([field for field in fields if field in block] for fields in (segnet, pspnet))
    if ours and theirs:
        raise PrototxtError(block.line, f"{ours[0]} is SegNet's word, {theirs[0]} PSPNet's; no Caffe has both")
    if ours or len(walk.shapes[sources[0]]) > 3:  # PSPNet's keeps fewer axes than four
        sources = [walk.of_four_axes(node, sources[0])]
    if not ours:
        _add_affine(walk, node, sources, layers.BatchNorm(name="", eps=block.number("eps", 1e-5)))
    elif block.enum("bn_mode", "LEARN", ("LEARN", "INFERENCE")) == "LEARN":
        walk.notes.append(f"{node} has bn_mode LEARN: it normalises by the batch at hand, at inference as well")
        _add_affine(walk, node, sources, layers.BatchNorm(name="", eps=1e-9, batch_stats=True))
    else:
        walk.add(layers.Scale(name=node.name, inputs=tuple(sources), bias=True), node.tops[0])
    return True


def _batch_norm(walk: Walk, node: Node, sources: Sequence[str]) -> bool:
    """NVIDIA's BatchNorm of five blobs, with a scale and a bias in it; a filler of theirs asks for both as well."""
    block = node.message.message("batch_norm_param")
    if not (block.flag("scale_bias", False) or "scale_filler" in block or "bias_filler" in block):
        return False
    # Both are of its versions 0.16 and 0.17: in the TEST phase the statistics are those stored, whatever is said of it.
    _add_affine(walk, node, sources, layers.BatchNorm(name="", eps=max(block.number("eps", 1e-5), 1e-5)))
    return True


def _add_affine(walk: Walk, node: Node, sources: Sequence[str], norm: layers.BatchNorm) -> None:
    if node.message.messages("param") and any("name" in param for param in node.message.messages("param")):
        raise PrototxtError(node.message.line, f"shares its blobs, which is not supported for {node.type}")
    norm = replace(norm, name=walk.fresh(f"{node.name}_norm"), inputs=tuple(sources))
    walk.add(norm, node.tops[0])
    walk.add(layers.Scale(name=node.name, inputs=(norm.name,), bias=True), node.tops[0])


def _interp(walk: Walk, node: Node, sources: Sequence[str]) -> bool:
    """The size of a second bottom, of which nothing else is read (a fork's ``use_blob_size``)."""
    block = node.message.message("interp_param")
    if not block.flag("use_blob_size", False):
        return False
    if len(sources) != 2 or not all(len(walk.shapes[name]) == 3 for name in sources):
        raise PrototxtError(block.line, "use_blob_size needs two bottoms of N x C x H x W")
    height, width = walk.shapes[sources[1]][1:]
    pads = [block.integer(name, 0) for name in ("pad_beg", "pad_end")]
    layer = layers.Interp(name=node.name, inputs=(sources[0],), size=(height, width), pad_beg=pads[0], pad_end=pads[1])
    walk.add(layer, node.tops[0])
    return True


def _detection(walk: Walk, node: Node, sources: Sequence[str]) -> bool:
    """What Caffe asks of its bottoms, a fourth of which is for drawing alone (detection_output_layer.cpp)."""
    if not 3 <= len(sources) <= 4:
        raise PrototxtError(node.message.line, f"has {len(sources)} bottoms; it takes 3, and a fourth that it draws on")
    places, scores, priors = (walk.shapes[source] for source in sources[:3])
    if max(prod(places[1:]), prod(scores[1:]), prod(priors[2:])) > 1 or len(priors) < 2:
        raise PrototxtError(
            node.message.line, "needs offsets and scores of N x C (x 1 x 1), and priors of 1 x 2 x K (x 1)"
        )
    reads = [*sources[:3]]
    if walk.batches[reads[2]] > 1:  # the first are taken for all
        reads[2] = walk.fresh(f"{node.name}_first")
        walk.add(layers.Slice(name=reads[2], inputs=(sources[2],), start=0, stop=1, axis=0), reads[2])
    if len(priors) > 2:
        priors_of_three = walk.fresh(f"{node.name}_priors")
        walk.add(layers.Reshape(name=priors_of_three, inputs=(reads[2],), dims=(0, *priors[:2])), priors_of_three)
        reads[2] = priors_of_three
    row = BY_TYPE["DetectionOutput"]
    assert row.read is not None
    walk.add(row.read(node.message.message(row.block), node.name, tuple(reads)), node.tops[0])
    return True


def _dropout(walk: Walk, node: Node, sources: Sequence[str]) -> bool:
    """A Dropout that scales not in training but at inference, by ``1 - ratio`` (caffe-fast-rcnn, dropout_layer.cpp)."""
    block = node.message.message("dropout_param")
    if block.flag("sample_weights_test", False):
        raise PrototxtError(block.line, "sample_weights_test drops at random at inference, too; take it out")
    ratio, scales = block.number("dropout_ratio", 0.5), not block.flag("scale_train", True)
    if not scales and ratio != 1:
        return False
    name = walk.fresh(f"{node.name}_mask") if scales else node.name
    # dropout_layer.cpp looks at a ratio of 1 in debug builds alone; in training nothing would be left.
    mask = layers.Dropout(name=name, inputs=tuple(sources), ratio=0.0 if ratio == 1 else ratio)
    walk.add(mask, node.tops[0])
    if ratio == 1:
        walk.notes.append(
            f"{node} has dropout_ratio: 1, with which training would leave nothing; here it drops nothing"
        )
    if not scales:
        return True
    walk.add(layers.Power(name=node.name, inputs=(mask.name,), scale=1 - ratio), node.tops[0])
    walk.notes.append(f"{node} has scale_train: false: at inference it multiplies by {1 - ratio:g}")
    return True


# How many blobs those have whose blobs are not asked for names; the others are in the walk's `Sharing`.
_BLOBS = {
    "BN": 4,
    "BatchNorm": 5,
    "DetectionOutput": 0,
    "Dropout": 0,
    "Interp": 0,
    "Pooling": 0,
    "SPP": 0,
    "Slice": 0,
}
_EXPANSIONS: dict[str, Callable[[Walk, Node, Sequence[str]], bool]] = {
    "BN": _bn,
    "BatchNorm": _batch_norm,
    "Bias": _by_scalar,
    "Convolution": _convolution,
    "ConvolutionDepthwise": _convolution,
    "Deconvolution": _convolution,
    "DepthwiseConvolution": _convolution,
    "DetectionOutput": _detection,
    "Dropout": _dropout,
    "Interp": _interp,
    "Pooling": _pooling,
    "SPP": _pyramid,
    "Scale": _by_scalar,
    "Slice": _slice,
}
