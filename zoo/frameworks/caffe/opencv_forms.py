"""The networks that OpenCV 4's dnn module is given in the place of Caffe's, which compute exactly the same.

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
  in order; but not where scores are equal, of which it has an order of its own.
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

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import log, prod

import cv2

from zoo import layers
from zoo.axes import axis_index
from zoo.errors import UnsupportedError
from zoo.frameworks.caffe.lower import (
    Lowered,
    rewrite_all,
    without_gaps,
    without_k,
    without_overhang,
)
from zoo.layers import FUNCTIONS, LOWEST, Layer, ModelSpec, Names, Pair, Shape
from zoo.shapes import cuts, interp_size, output_shape, permutation, window

VERSION = f"OpenCV {cv2.__version__} dnn"


def lowered(spec: ModelSpec) -> Lowered:
    """An equal network without what OpenCV computes otherwise than Caffe."""
    return rewrite_all(spec, without_overhang, without_gaps, without_k, _pool, _unary, _mvn, _moved, _bias)


def _pool(layer: Layer, inputs: Sequence[Shape], free: Names) -> list[Layer] | None:
    if not isinstance(layer, layers.Pool) or layer.global_pool:
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
            result.append(layers.Slice(name=name, inputs=(source,), start=0, stop=shape[1 + i], axis=2 + i))
            source = name
    ceil = replace(layer, inputs=(source,), rounding="ceil")
    made = window(ceil, tuple(shape)).out
    result.append(ceil)
    for i in range(2):
        axis = 2 + i
        empty = layer.mode == "max" and (wanted[i] - 1) * layer.stride[i] >= shape[1 + i] + layer.pad[i]
        if (keep := wanted[i] - empty) < made[i]:
            name = free.fresh(f"{layer.name}_cut{axis}")
            result.append(layers.Slice(name=name, inputs=(result[-1].name,), start=0, stop=keep, axis=axis))
        if empty:
            result += _with_lowest(layer.name, result[-1].name, axis, free)
    return result


@dataclass
class _Chain:
    """Layers that read one another, made of what OpenCV has."""

    layer: Layer
    free: Names
    steps: list[Layer] = field(default_factory=list[Layer])

    @property
    def reached(self) -> str:
        return self.steps[-1].name if self.steps else self.layer.inputs[0]

    def name(self, what: str) -> str:
        return self.free.fresh(f"{self.layer.name}_{what}")

    def power(self, what: str, source: str = "", **numbers: float) -> None:
        self.steps.append(layers.Power(name=self.name(what), inputs=(source or self.reached,), **numbers))

    def at_least(self, what: str, number: float) -> None:
        reached = self.reached
        # Made of the layer's own input: what was made of it may be infinite.
        self.power(f"{what}_bound", self.layer.inputs[0], scale=0.0, shift=number)
        self.steps.append(layers.Eltwise(name=self.name(what), inputs=(self.reached, reached), operation="max"))

    def clip(self, low: float, high: float) -> None:
        if low > high:
            self.power("least", scale=0.0, shift=low)
            return
        self.at_least("raised", low)
        self.power("negative", scale=-1.0)
        self.at_least("capped", -high)
        self.power("positive", scale=-1.0)


def _unary(layer: Layer, inputs: Sequence[Shape], free: Names) -> list[Layer] | None:
    if not isinstance(layer, layers.Unary):
        return None
    chain = _Chain(layer, free)
    match layer.function, layer.numbers:
        case "clip", (low, high):
            chain.clip(low, high)
        case "threshold", (threshold,):
            # Any difference but a denormal one becomes more than one. It makes one layer of the two: neither their
            # scale nor the threshold times it may overflow.
            chain.power("above", shift=-threshold)
            chain.power("large", scale=1e38 / max(1.0, abs(threshold)))
            chain.clip(0.0, 1.0)
        case "log", (base, scale, shift):
            chain.power("read", scale=scale, shift=shift)
            plain = layers.Unary(name=chain.name("ln"), inputs=(chain.reached,), function="log")
            chain.steps.append(replace(plain, numbers=tuple(FUNCTIONS["log"].values())))
            chain.power("base", scale=1 / log(base))
        case "swish", (beta,):
            chain.power("scaled", scale=beta)
            chain.steps.append(layers.Sigmoid(name=chain.name("gate"), inputs=(chain.reached,)))
            pair = (layer.inputs[0], chain.reached)
            chain.steps.append(layers.Eltwise(name=chain.name("product"), inputs=pair, operation="prod"))
        case _:
            return None
    return chain.steps


def _mvn(layer: Layer, inputs: Sequence[Shape], free: Names) -> list[Layer] | None:
    if not isinstance(layer, layers.MVN):
        return None
    made = output_shape(layer, list(inputs))
    groups = 1 if layer.across_channels else made[0]
    rows = layers.Reshape(
        name=free.fresh(f"{layer.name}_rows"), inputs=layer.inputs, dims=(0, groups, prod(made) // groups, 1)
    )
    centred = layers.MVN(name=free.fresh(f"{layer.name}_centred"), inputs=(rows.name,), normalize_variance=False)
    steps: list[Layer] = [rows, centred]
    if layer.normalize_variance:
        names = [
            free.fresh(f"{layer.name}_{what}") for what in ("squares", "mean", "root", "inverse", "factor", "product")
        ]
        square, mean, root, inverse, factor, product = names
        steps += [
            layers.Power(name=square, inputs=(centred.name,), power=2.0),
            layers.Pool(name=mean, inputs=(square,), mode="ave", global_pool=True),
            layers.Power(name=root, inputs=(mean,), power=0.5),
            layers.Power(name=inverse, inputs=(root,), shift=layer.eps, power=-1.0),
            layers.Flatten(name=factor, inputs=(inverse,)),
            layers.Scale(name=product, inputs=(centred.name, factor), axis=0),
        ]
    return [*steps, layers.Reshape(name=free.fresh(f"{layer.name}_back"), inputs=(steps[-1].name,), dims=(0, *made))]


def _refusal(layer: Layer, inputs: Sequence[Shape]) -> str:
    """Why OpenCV cannot run a layer; empty where it can."""
    match layer:
        case layers.Crop() | layers.Slice() | layers.Flatten() if axis_index(layer.name, layer.axis, inputs[0]) == 0:
            return "is not given batches to cut"
        case layers.Scale() | layers.Bias() if len(inputs) == 2 and axis_index(layer.name, layer.axis, inputs[0]) != 0:
            return "multiplies from axis 0 on"
        case (
            layers.Reduction()
            | layers.ArgMax()
            | layers.Constant()
            | layers.Embed()
            | layers.PoolMask()
            | layers.Unpool()
            | layers.ROIPool()
            | layers.PSROIPool()
        ):
            return "does not run Caffe's"
        case layers.Normalize() if layer.across_spatial and not layer.shared:
            return "scales all of an image by one number"
        case layers.PriorBox() if layer.image:
            return "ignores its image size"
        case layers.DetectionOutput() if layer.code == "corner_size" or layer.variance_encoded or layer.eta != 1:
            return "does not run Caffe's"
        case layers.DetectionOutput() if layer.confidence is None or layer.confidence < 0:
            return "fills up what it finds with scores of 0"
        case layers.Deconv() if layer.dilation != (1, 1):
            return "ignores its dilation"
        case _:
            return ""


def _moved(layer: Layer, inputs: Sequence[Shape], free: Names) -> list[Layer] | None:
    if why := _refusal(layer, inputs):
        raise UnsupportedError(f"layer {layer.name!r} ({type(layer).__name__}): {VERSION} {why}")
    match layer:
        case layers.Reshape():
            shape = output_shape(layer, list(inputs))
            first = 0 if prod(shape) == prod(inputs[0]) else -1
            return [replace(layer, dims=(first, *shape), axis=0, num_axes=-1)]
        case layers.Permute():
            return [replace(layer, order=permutation(layer, inputs[0]))]
        case layers.Crop():
            return _crop(layer, inputs, free)
        case layers.Shuffle():
            return _shuffled(layer, inputs[0], free)
        case layers.Axpy():
            return _added(layer, free)
        case layers.Interp():
            return _interp(layer, inputs[0], free)
        case layers.Deconv(kernel=(1, 1), stride=(1, 1), pad=pad) if any(pad):
            inner = _inner(layer, [(p, side - p) for p, side in zip(pad, inputs[0][1:], strict=True)], free)
            return [*inner, replace(layer, inputs=(inner[-1].name,), pad=(0, 0))]
        case layers.PriorBox():
            sizes = [tuple(float(int(size)) for size in sizes) for sizes in (layer.min_sizes, layer.max_sizes)]
            return [replace(layer, min_sizes=sizes[0], max_sizes=sizes[1])]
        case layers.DetectionOutput():
            boxes = inputs[2][1] // 4
            top_k = layer.top_k if layer.top_k > -1 else boxes
            return [replace(layer, top_k=top_k, keep=layer.keep if layer.keep > -1 else boxes * layer.classes)]
        case layers.Tile(tiles=1):
            return [layers.Power(name=layer.name, inputs=layer.inputs)]
        case layers.Tile():
            return [layers.Concat(name=layer.name, inputs=layer.inputs * layer.tiles, axis=layer.axis)]
        case _:
            return None


def _shuffled(layer: layers.Shuffle, shape: Shape, free: Names) -> list[Layer]:
    names = [free.fresh(f"{layer.name}_{what}") for what in ("groups", "turns")]
    area = prod(shape[1:])
    groups = layers.Reshape(name=names[0], inputs=layer.inputs, dims=(0, layer.groups, shape[0] // layer.groups, area))
    turns = layers.Permute(name=names[1], inputs=(names[0],), order=(0, 2, 1, 3))
    return [groups, turns, layers.Reshape(name=layer.name, inputs=(names[1],), dims=(0, *shape))]


def _added(layer: layers.Axpy, free: Names) -> list[Layer]:
    a, x, y = layer.inputs
    names = [free.fresh(f"{layer.name}_{what}") for what in ("factor", "scaled")]
    factor, scaled = (
        layers.Flatten(name=names[0], inputs=(a,)),
        layers.Scale(name=names[1], inputs=(x, names[0]), axis=0),
    )
    return [factor, scaled, layers.Eltwise(name=layer.name, inputs=(names[1], y))]


def _inner(layer: Layer, bounds: Sequence[Pair], free: Names) -> list[Layer]:
    """What a layer reads of the rows and of the columns of its input."""
    steps, source = list[Layer](), layer.inputs[0]
    for axis, (start, stop) in enumerate(bounds, 2):
        name = free.fresh(f"{layer.name}_in{axis}")
        steps.append(layers.Slice(name=name, inputs=(source,), start=start, stop=stop, axis=axis))
        source = name
    return steps


def _interp(layer: layers.Interp, shape: Shape, free: Names) -> list[Layer]:
    bounds = [(-layer.pad_beg, side + layer.pad_end) for side in shape[1:]]
    steps: list[Layer] = _inner(layer, bounds, free) if layer.pad_beg or layer.pad_end else []
    source = steps[-1].name if steps else layer.inputs[0]
    return [*steps, layers.Interp(name=layer.name, inputs=(source,), size=interp_size(layer, shape))]


def _crop(layer: layers.Crop, inputs: Sequence[Shape], free: Names) -> list[Layer]:
    steps: list[Layer] = [layers.Power(name=free.fresh(f"{layer.name}_whole"), inputs=layer.inputs[:1])]
    for i, (start, stop) in enumerate(cuts(layer, inputs)):
        if (start, stop) != (0, inputs[0][i]):
            name = free.fresh(f"{layer.name}_cut{i + 1}")
            steps.append(layers.Slice(name=name, inputs=(steps[-1].name,), start=start, stop=stop, axis=i + 1))
    return steps


def _bias(layer: Layer, inputs: Sequence[Shape], free: Names) -> list[Layer] | None:
    if not isinstance(layer, layers.Bias) or len(inputs) == 1:
        return None
    source, second = layer.inputs
    ones = layers.Power(name=free.fresh(f"{layer.name}_ones"), inputs=(source,), scale=0.0, shift=1.0)
    spread = layers.Scale(name=free.fresh(f"{layer.name}_spread"), inputs=(ones.name, second), axis=0)
    return [ones, spread, layers.Eltwise(name=layer.name, inputs=(source, spread.name))]


def _with_lowest(name: str, source: str, axis: int, free: Names) -> list[Layer]:
    """One more row (or column) of what Caffe starts a maximum from."""
    row = layers.Slice(name=free.fresh(f"{name}_one{axis}"), inputs=(source,), start=0, stop=1, axis=axis)
    lowest = layers.Power(name=free.fresh(f"{name}_lowest{axis}"), inputs=(row.name,), scale=0.0, shift=LOWEST)
    return [row, lowest, layers.Concat(name=free.fresh(f"{name}_full{axis}"), inputs=(source, lowest.name), axis=axis)]
