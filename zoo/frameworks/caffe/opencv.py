"""Caffe networks run by OpenCV 4's dnn module, handed over in memory.

Where OpenCV parts from Caffe, it gets another network that computes exactly the same (each case is in the golden
tests; seen with 4.14):

* LRN: `k` is ignored -> k 1 and a Power.
* Pooling: `round_mode` is unknown -> rounded up, the surplus cut off. A window larger than the padded image is
  refused -> it is cut. The last window is clipped an axis at a time, not
  on both as soon as one has a pad -> the input is cut. A maximum over no pixel is 0, not -FLT_MAX -> it is joined on.
* BatchNorm with the statistics of the batch: refused for more than one image -> axes exchanged, MVN, and back.
* Slice: only the first top can be read by name -> an identity after each.
* Concat of one input along the batch, or of one that is no image: numbers of nowhere -> an identity.
* Log and Swish: their numbers are ignored -> Powers around a natural logarithm; a sigmoid and a product.
* Clip and Threshold are unknown -> maxima with constants, of which the second reads the negative. NaN stays NaN.
* PReLU with one slope for all: refused -> one a channel.
* MVN: eps is put under the root, and fewer than four axes are kept -> its mean alone, on four axes, then by elements.
* Reshape, Permute: a part of the axes is refused, or misread -> all of them. Tile is another one -> Concat.
* Crop, Axpy: misread, or unknown -> Slices; a Scale and a sum. ShuffleChannel -> Reshape, Permute, Reshape.
* Interp: pads are ignored, and shrinking refused -> Slices and the size it comes to.
* Normalize: a shared factor without axes is refused -> with one. PriorBox: sizes are not cut -> whole numbers.
* DetectionOutput: -1 for no limit breaks it -> the number of boxes. It lists by score, and fills up with zeros -> put
  in order.
* Reduction and ArgMax are right in a part of their forms, or unknown: refused. So are Embed, Upsample, masks,
  constants, regions, and what cuts or joins batches.
* Convolution: a kernel that overhangs its padded input is refused, and one of 3 x 3 a channel with gaps between its
  columns is misplaced beside a pad of 1 -> padded further, the surplus cut off.
* Deconvolution: dilation is ignored, so it is refused. With a kernel of 1 x 1 a pad is forgotten, and numbers are
  written past the end of the memory (the process may die) -> the input is cut.
* Bias is unknown -> a Scale by one; a second input is spread over a tensor of ones and added. Scale needs its axis
  counted from the front, and at least one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import log, prod
from pathlib import Path

import cv2
import numpy as np

from zoo.arrays import Array
from zoo.axes import axis_index
from zoo.errors import UnsupportedError, said
from zoo.frameworks.caffe.lower import (
    Lowered,
    as_scales,
    for_caffe,
    rewrite_all,
    without_gaps,
    without_k,
    without_overhang,
)
from zoo.frameworks.caffe.writer import NetLayer, input_layer, layer_blobs, net_layers
from zoo.layers import (
    FUNCTIONS,
    LOWEST,
    MVN,
    ArgMax,
    Axpy,
    BatchNorm,
    Bias,
    Concat,
    Constant,
    Crop,
    Deconv,
    DetectionOutput,
    Eltwise,
    Embed,
    Flatten,
    Interp,
    Layer,
    ModelSpec,
    Names,
    Normalize,
    Pair,
    Permute,
    Pool,
    PoolMask,
    Power,
    PriorBox,
    PSROIPool,
    Reduction,
    Reshape,
    ROIPool,
    Scale,
    Shape,
    Shuffle,
    Sigmoid,
    Slice,
    Tile,
    Unary,
    Unpool,
)
from zoo.shapes import activation_shapes, cuts, interp_size, output_shape, permutation, window
from zoo.wire.caffemodel import caffemodel
from zoo.wire.prototxt import Message, Word, dumps

VERSION = f"OpenCV {cv2.__version__} dnn"


def forward(spec: ModelSpec, weights: Mapping[str, Array], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """See `zoo.registry.Framework.forward`; raises `UnsupportedError` for what OpenCV cannot do."""
    for name, shape in activation_shapes(spec).items():
        if not shape:
            raise UnsupportedError(f"layer {name!r}: {VERSION} makes two axes of one")
    caffe = for_caffe(spec)
    lowered = _lowered(caffe.spec)
    # OpenCV takes no input that nothing reads: a Crop reads but the size of its second.
    read = {name for names in lowered.spec.wiring().values() for name in names}
    used = replace(lowered.spec, inputs=tuple(source for source in lowered.spec.inputs if source.name in read))
    inputs = {source.name: inputs[source.name] for source in used.inputs}
    text, model = _network(
        *as_scales(used, weights, batch_norms=False), {name: len(batch) for name, batch in inputs.items()}
    )
    names = [lowered.names[caffe.names[layer.name]] for layer in spec.layers]
    outputs = _run(spec.name, text.encode(), model, inputs, names)
    return {
        layer.name: _in_caffes_order(layer.name, output, len(next(iter(inputs.values()))))
        if isinstance(layer, DetectionOutput)
        else output
        for layer, output in zip(spec.layers, outputs, strict=True)
    }


def _in_caffes_order(name: str, found: Array, images: int) -> Array:
    """Detections, 1 x 1 x M x 7, which OpenCV lists by score and fills up with rows of zeros."""
    rows = found.reshape(-1, 7)
    rows = rows[rows.any(axis=1)]
    rows = rows[np.lexsort((-rows[:, 2], rows[:, 1], rows[:, 0]))]
    if (rows[1:, :3] == rows[:-1, :3]).all(axis=1).any():
        raise UnsupportedError(f"layer {name!r} (DetectionOutput): {VERSION} has an order of its own for equal scores")
    if not len(rows):
        rows = np.full((images, 7), -1, np.float32)
        rows[:, 0] = np.arange(images)
    return rows[None, None]


def forward_file(prototxt: Path, model: Path, spec: ModelSpec, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run somebody's own prototxt and caffemodel as they are.

    Args:
        prototxt, model: the files.
        spec: the network that the prototxt was read as, for its layers' names.
        inputs: input name -> batch.

    Raises:
        UnsupportedError: OpenCV cannot run them, or parts from Caffe in a layer of theirs.
    """
    lowered = _lowered(for_caffe(spec).spec).spec
    odd = [
        layer
        for layer in spec.layers
        if isinstance(layer, Slice | DetectionOutput) or _is_odd(layer) or _joins_one(layer, spec)
    ]
    if lowered.layers != _written_out(spec) or odd:
        changed = {layer.name for layer in lowered.layers} - {layer.name for layer in spec.layers}
        where = ", ".join(sorted({layer.name for layer in odd} | changed)) or "a layer"
        raise UnsupportedError(f"{VERSION} may compute {where} otherwise than Caffe")
    names = [layer.name for layer in spec.layers]
    outputs = _run(spec.name, prototxt.read_bytes(), np.fromfile(model, np.uint8), inputs, names)
    return dict(zip(names, outputs, strict=True))


def _lowered(spec: ModelSpec) -> Lowered:
    """An equal network without what OpenCV computes otherwise than Caffe."""
    return rewrite_all(spec, without_overhang, without_gaps, without_k, _pool, _unary, _mvn, _moved, _bias)


def _written_out(spec: ModelSpec) -> tuple[Layer, ...]:
    wiring = spec.wiring()
    return tuple(replace(layer, inputs=wiring[layer.name]) for layer in spec.layers)


def _is_odd(layer: Layer) -> bool:
    """Whether a file may make another layer of it: statistics of the batch, boxes of which it is not said to clip."""
    return (isinstance(layer, BatchNorm) and layer.batch_stats) or (isinstance(layer, PriorBox) and not layer.clip)


def _joins_one(layer: Layer, spec: ModelSpec) -> bool:
    return isinstance(layer, Concat) and len(spec.wiring()[layer.name]) == 1


def _run(name: str, text: bytes, model: Array, inputs: Mapping[str, Array], names: Sequence[str]) -> list[Array]:
    """The results of layers, by their names."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # its errors reach the user as ours
    try:
        net = cv2.dnn.readNetFromCaffe(np.frombuffer(text, np.uint8), model)
        net.enableWinograd(False)  # faster, but it rounds in more places than Caffe does
        for source, batch in inputs.items():
            net.setInput(np.ascontiguousarray(batch, np.float32), source)
        return [np.asarray(output) for output in net.forward(names)]
    except cv2.error as error:
        raise UnsupportedError(f"{name}: {VERSION} cannot run this network: {error.err or said(error)}") from error


def _network(spec: ModelSpec, weights: Mapping[str, Array], batches: Mapping[str, int]) -> tuple[str, Array]:
    """The prototxt and the caffemodel of a network."""
    shapes, wiring = activation_shapes(spec), spec.wiring()
    free, layers = Names(shapes), list[NetLayer]()
    for item in net_layers(spec, batches, in_place=False):
        kind = item.message.string("type")
        if kind == "Slice":
            layers += _named_slices(item.message, free)
        elif isinstance(item.layer, BatchNorm) and item.layer.batch_stats:
            layers += _batch_statistics(item.layer, wiring[item.layer.name][0], shapes[item.layer.name], free)
        elif isinstance(item.layer, Concat) and len(item.message.strings("bottom")) == 1:
            layers.append(_helper(item.layer.name, "Dropout", item.message.string("bottom")))
        elif kind != "Silence":
            layers.append(item)
    net = Message().add("name", spec.name)
    net.add("layer", *(input_layer(source.name, source.shape, batches[source.name]) for source in spec.inputs))
    net.add("layer", *(item.message for item in layers))
    pieces = caffemodel(
        spec.name,
        [
            (item.message, [np.atleast_1d(blob) for blob in layer_blobs(item.layer, weights)] if item.layer else [])
            for item in layers
        ],
    )
    return dumps(net), np.frombuffer(b"".join(pieces), np.uint8)


def _pool(layer: Layer, inputs: Sequence[Shape], free: Names) -> list[Layer] | None:
    if not isinstance(layer, Pool) or layer.global_pool:
        return None
    wanted, shape, result = window(layer, inputs[0]).out, list(inputs[0]), list[Layer]()
    reach = (min(layer.kernel[i], shape[1 + i] + 2 * layer.pad[i]) for i in range(2))
    layer = replace(layer, kernel=(next(reach), next(reach)))
    source = layer.inputs[0]
    for i in range(2):
        # The axis without a pad, where the other has one: cut what lies before a last window over no pixel.
        last = -(-(shape[1 + i] - layer.kernel[i]) // layer.stride[i]) * layer.stride[i]
        if not layer.pad[i] and max(layer.pad) and last >= shape[1 + i]:
            shape[1 + i] = last - layer.stride[i] + layer.kernel[i]
            name = free.fresh(f"{layer.name}_in{2 + i}")
            result.append(Slice(name=name, inputs=(source,), start=0, stop=shape[1 + i], axis=2 + i))
            source = name
    ceil = replace(layer, inputs=(source,), rounding="ceil")
    made = window(ceil, tuple(shape)).out
    result.append(ceil)
    for i in range(2):
        axis = 2 + i
        empty = layer.mode == "max" and (wanted[i] - 1) * layer.stride[i] >= shape[1 + i] + layer.pad[i]
        if (keep := wanted[i] - empty) < made[i]:
            name = free.fresh(f"{layer.name}_cut{axis}")
            result.append(Slice(name=name, inputs=(result[-1].name,), start=0, stop=keep, axis=axis))
        if empty:
            result += _with_lowest(layer.name, result[-1].name, axis, free)
    return result


def _unary(layer: Layer, inputs: Sequence[Shape], free: Names) -> list[Layer] | None:
    if not isinstance(layer, Unary):
        return None
    steps = list[Layer]()

    def power(what: str, source: str = "", **numbers: float) -> None:
        source = source or (steps[-1].name if steps else layer.inputs[0])
        steps.append(Power(name=free.fresh(f"{layer.name}_{what}"), inputs=(source,), **numbers))

    def at_least(what: str, number: float) -> None:
        reached = steps[-1].name if steps else layer.inputs[0]
        power(f"{what}_bound", layer.inputs[0], scale=0.0, shift=number)  # what was made of it may be infinite
        pair = (steps[-1].name, reached)
        steps.append(Eltwise(name=free.fresh(f"{layer.name}_{what}"), inputs=pair, operation="max"))

    def clip(low: float, high: float) -> None:
        if low > high:
            power("least", scale=0.0, shift=low)
            return
        at_least("raised", low)
        power("negative", scale=-1.0)
        at_least("capped", -high)
        power("positive", scale=-1.0)

    match layer.function, layer.numbers:
        case "clip", (low, high):
            clip(low, high)
        case "threshold", (threshold,):
            # Any difference but a denormal one becomes more than one. It makes one layer of the two: neither their
            # scale nor the threshold times it may overflow.
            power("above", shift=-threshold)
            power("large", scale=1e38 / max(1.0, abs(threshold)))
            clip(0.0, 1.0)
        case "log", (base, scale, shift):
            power("read", scale=scale, shift=shift)
            plain = Unary(name=free.fresh(f"{layer.name}_ln"), inputs=(steps[-1].name,), function="log")
            steps.append(replace(plain, numbers=tuple(FUNCTIONS["log"].values())))
            power("base", scale=1 / log(base))
        case "swish", (beta,):
            power("scaled", scale=beta)
            steps.append(Sigmoid(name=free.fresh(f"{layer.name}_gate"), inputs=(steps[-1].name,)))
            pair = (layer.inputs[0], steps[-1].name)
            steps.append(Eltwise(name=free.fresh(f"{layer.name}_product"), inputs=pair, operation="prod"))
        case _:
            return None
    return steps


def _mvn(layer: Layer, inputs: Sequence[Shape], free: Names) -> list[Layer] | None:
    if not isinstance(layer, MVN):
        return None
    made = output_shape(layer, list(inputs))
    groups = 1 if layer.across_channels else made[0]
    rows = Reshape(
        name=free.fresh(f"{layer.name}_rows"), inputs=layer.inputs, dims=(0, groups, prod(made) // groups, 1)
    )
    centred = MVN(name=free.fresh(f"{layer.name}_centred"), inputs=(rows.name,), normalize_variance=False)
    steps: list[Layer] = [rows, centred]
    if layer.normalize_variance:
        names = [
            free.fresh(f"{layer.name}_{what}") for what in ("squares", "mean", "root", "inverse", "factor", "product")
        ]
        square, mean, root, inverse, factor, product = names
        steps += [
            Power(name=square, inputs=(centred.name,), power=2.0),
            Pool(name=mean, inputs=(square,), mode="ave", global_pool=True),
            Power(name=root, inputs=(mean,), power=0.5),
            Power(name=inverse, inputs=(root,), shift=layer.eps, power=-1.0),
            Flatten(name=factor, inputs=(inverse,)),
            Scale(name=product, inputs=(centred.name, factor), axis=0),
        ]
    return [*steps, Reshape(name=free.fresh(f"{layer.name}_back"), inputs=(steps[-1].name,), dims=(0, *made))]


def _refusal(layer: Layer, inputs: Sequence[Shape]) -> str:
    """Why OpenCV cannot run a layer; empty where it can."""
    match layer:
        case Crop() | Slice() | Flatten() if axis_index(layer.name, layer.axis, inputs[0]) == 0:
            return "is not given batches to cut"
        case Scale() | Bias() if len(inputs) == 2 and axis_index(layer.name, layer.axis, inputs[0]) != 0:
            return "multiplies from axis 0 on"
        case Reduction() | ArgMax() | Constant() | Embed() | PoolMask() | Unpool() | ROIPool() | PSROIPool():
            return "does not run Caffe's"
        case Normalize() if layer.across_spatial and not layer.shared:
            return "scales all of an image by one number"
        case PriorBox() if layer.image:
            return "ignores its image size"
        case DetectionOutput() if layer.code == "corner_size" or layer.variance_encoded or layer.eta != 1:
            return "does not run Caffe's"
        case DetectionOutput() if layer.confidence is None or layer.confidence < 0:
            return "fills up what it finds with scores of 0"
        case Deconv() if layer.dilation != (1, 1):
            return "ignores its dilation"
        case _:
            return ""


def _moved(layer: Layer, inputs: Sequence[Shape], free: Names) -> list[Layer] | None:
    if why := _refusal(layer, inputs):
        raise UnsupportedError(f"layer {layer.name!r} ({type(layer).__name__}): {VERSION} {why}")
    match layer:
        case Reshape():
            shape = output_shape(layer, list(inputs))
            first = 0 if prod(shape) == prod(inputs[0]) else -1
            return [replace(layer, dims=(first, *shape), axis=0, num_axes=-1)]
        case Permute():
            return [replace(layer, order=permutation(layer, inputs[0]))]
        case Crop():
            return _crop(layer, inputs, free)
        case Shuffle():
            shape, names = inputs[0], [free.fresh(f"{layer.name}_{what}") for what in ("groups", "turns")]
            area = prod(shape[1:])
            groups = Reshape(name=names[0], inputs=layer.inputs, dims=(0, layer.groups, shape[0] // layer.groups, area))
            turns = Permute(name=names[1], inputs=(names[0],), order=(0, 2, 1, 3))
            return [groups, turns, Reshape(name=layer.name, inputs=(names[1],), dims=(0, *shape))]
        case Axpy():
            a, x, y = layer.inputs
            names = [free.fresh(f"{layer.name}_{what}") for what in ("factor", "scaled")]
            factor, scaled = Flatten(name=names[0], inputs=(a,)), Scale(name=names[1], inputs=(x, names[0]), axis=0)
            return [factor, scaled, Eltwise(name=layer.name, inputs=(names[1], y))]
        case Interp():
            return _interp(layer, inputs[0], free)
        case Deconv(kernel=(1, 1), stride=(1, 1), pad=pad) if any(pad):
            inner = _inner(layer, [(p, side - p) for p, side in zip(pad, inputs[0][1:], strict=True)], free)
            return [*inner, replace(layer, inputs=(inner[-1].name,), pad=(0, 0))]
        case PriorBox():
            sizes = [tuple(float(int(size)) for size in sizes) for sizes in (layer.min_sizes, layer.max_sizes)]
            return [replace(layer, min_sizes=sizes[0], max_sizes=sizes[1])]
        case DetectionOutput():
            boxes = inputs[2][1] // 4
            top_k = layer.top_k if layer.top_k > -1 else boxes
            return [replace(layer, top_k=top_k, keep=layer.keep if layer.keep > -1 else boxes * layer.classes)]
        case Tile(tiles=1):
            return [Power(name=layer.name, inputs=layer.inputs)]
        case Tile():
            return [Concat(name=layer.name, inputs=layer.inputs * layer.tiles, axis=layer.axis)]
        case _:
            return None


def _inner(layer: Layer, bounds: Sequence[Pair], free: Names) -> list[Layer]:
    """What a layer reads of the rows and of the columns of its input."""
    steps, source = list[Layer](), layer.inputs[0]
    for axis, (start, stop) in enumerate(bounds, 2):
        name = free.fresh(f"{layer.name}_in{axis}")
        steps.append(Slice(name=name, inputs=(source,), start=start, stop=stop, axis=axis))
        source = name
    return steps


def _interp(layer: Interp, shape: Shape, free: Names) -> list[Layer]:
    bounds = [(-layer.pad_beg, side + layer.pad_end) for side in shape[1:]]
    steps: list[Layer] = _inner(layer, bounds, free) if layer.pad_beg or layer.pad_end else []
    source = steps[-1].name if steps else layer.inputs[0]
    return [*steps, Interp(name=layer.name, inputs=(source,), size=interp_size(layer, shape))]


def _crop(layer: Crop, inputs: Sequence[Shape], free: Names) -> list[Layer]:
    steps: list[Layer] = [Power(name=free.fresh(f"{layer.name}_whole"), inputs=layer.inputs[:1])]
    for i, (start, stop) in enumerate(cuts(layer, inputs)):
        if (start, stop) != (0, inputs[0][i]):
            name = free.fresh(f"{layer.name}_cut{i + 1}")
            steps.append(Slice(name=name, inputs=(steps[-1].name,), start=start, stop=stop, axis=i + 1))
    return steps


def _bias(layer: Layer, inputs: Sequence[Shape], free: Names) -> list[Layer] | None:
    if not isinstance(layer, Bias) or len(inputs) == 1:
        return None
    source, second = layer.inputs
    ones = Power(name=free.fresh(f"{layer.name}_ones"), inputs=(source,), scale=0.0, shift=1.0)
    spread = Scale(name=free.fresh(f"{layer.name}_spread"), inputs=(ones.name, second), axis=0)
    return [ones, spread, Eltwise(name=layer.name, inputs=(source, spread.name))]


def _with_lowest(name: str, source: str, axis: int, free: Names) -> list[Layer]:
    """One more row (or column) of what Caffe starts a maximum from."""
    row = Slice(name=free.fresh(f"{name}_one{axis}"), inputs=(source,), start=0, stop=1, axis=axis)
    lowest = Power(name=free.fresh(f"{name}_lowest{axis}"), inputs=(row.name,), scale=0.0, shift=LOWEST)
    return [row, lowest, Concat(name=free.fresh(f"{name}_full{axis}"), inputs=(source, lowest.name), axis=axis)]


def _named_slices(message: Message, free: Names) -> list[NetLayer]:
    tops = message.strings("top")
    inner = [free.fresh(f"{top}_piece") for top in tops]
    message.fields["top"] = list(inner)
    message.fields["name"] = [free.fresh(f"{message.string('name')}_pieces")]
    return [NetLayer(message), *(_helper(top, "Dropout", piece) for top, piece in zip(tops, inner, strict=True))]


def _helper(name: str, kind: str, source: str) -> NetLayer:
    return NetLayer(Message().add("name", name).add("type", kind).add("bottom", source).add("top", name))


def _batch_statistics(layer: BatchNorm, source: str, shape: Shape, free: Names) -> list[NetLayer]:
    """Mean and variance over batch and image: all images of a channel side by side in one image, then MVN."""
    exchange = Message().add("order", 1, 0, *range(2, len(shape) + 1))
    one, many = Message().add("dim", 1, shape[0], -1, 1), Message().add("dim", shape[0], -1, *shape[1:])
    mvn = Message().add("normalize_variance", Word("true")).add("eps", layer.eps)
    steps = [
        ("Permute", "permute_param", exchange),
        ("Reshape", "reshape_param", Message().add("shape", one)),
        ("MVN", "mvn_param", mvn),
        ("Reshape", "reshape_param", Message().add("shape", many)),
        ("Permute", "permute_param", exchange),
    ]
    result = list[NetLayer]()
    for i, (kind, block, parameters) in enumerate(steps):
        name = layer.name if i == len(steps) - 1 else free.fresh(f"{layer.name}_step{i + 1}")
        result.append(_helper(name, kind, source))
        result[-1].message.add(block, parameters)
        source = name
    return result
