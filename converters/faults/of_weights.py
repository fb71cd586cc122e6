"""Faults of weights, of convolutions and dense layers, and of what the network is fed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from converters.faults.initial import initialiser
from converters.faults.of_layers import same_padding
from converters.faults.types import Edit, Fault, Site, evaluate, only
from converters.weights import Array
from zoo.layers import Conv, Dense, Layer, Preprocessing
from zoo.parameters import parameters_of
from zoo.shapes import layer_parameters

Weighted: TypeAlias = Conv | Dense


def _weighted(edits: Callable[[Site, Weighted], Iterator[Edit]]) -> Callable[[Site], Iterator[Edit]]:
    return only((Conv, Dense), edits)


def _kernel(change: Callable[[Array], Array | None]) -> Callable[[Site], Iterator[Edit]]:
    """Faults of a convolution's kernel, (O, I, H, W)."""

    def edits(site: Site, layer: Conv) -> Iterator[Edit]:
        changed = change(site.parameters["weight"])
        if changed is not None:
            yield Edit(layers=(layer,), parameters={"weight": changed})

    return only(Conv, edits)


def _transposed(weight: Array) -> Array | None:
    return weight.swapaxes(2, 3) if weight.shape[2] == weight.shape[3] > 1 else None


def _flipped(weight: Array) -> Array | None:
    return weight[:, :, ::-1, ::-1] if max(weight.shape[2:]) > 1 else None


def _channels_reversed(site: Site, layer: Layer) -> Iterator[Edit]:
    """The picture's channels the other way round, in the kernel or in what is fed."""
    if site.reads_input and site.inputs[0].ndim == 4 and site.inputs[0].shape[1] == 3:
        if isinstance(layer, Conv) and layer.groups == 1:
            yield Edit(layers=(layer,), parameters={"weight": site.parameters["weight"][:, ::-1]})
        else:
            yield Edit(layers=(layer,), feed=lambda x: x[:, ::-1])
        said = _preprocessing(site)
        shift = _column(said.mean[::-1], said) - _column(said.mean, said)
        yield Edit(layers=(layer,), feed=lambda x: x[:, ::-1] + shift, also="before its mean was subtracted")


# ILSVRC-2012's mean, for networks that do not say how their images are prepared (BVLC's ilsvrc_2012_mean.npy).
_MEAN = Preprocessing(channels="BGR", mean=(104.00698793, 116.66876762, 122.67891434))


def _preprocessing(site: Site) -> Preprocessing:
    said = site.spec.preprocessing
    return said if said and len(said.mean) == 3 and any(said.mean) else _MEAN


def _column(values: tuple[float, ...], said: Preprocessing) -> Array:
    """Three values, in pixels, as the network sees them: divided by std; (3, 1, 1)."""
    std = np.asarray(said.std if len(said.std) == 3 else (1.0, 1.0, 1.0))
    return (np.asarray(values) / std).reshape(3, 1, 1)


def _picture(edits: Callable[[Site, Preprocessing], Iterator[Edit]]) -> Callable[[Site], Iterator[Edit]]:
    """Faults of how pictures were prepared; they show in the first layer."""

    def of(site: Site) -> Iterator[Edit]:
        if site.reads_input and site.inputs[0].ndim == 4 and site.inputs[0].shape[1] == 3:
            yield from edits(site, _preprocessing(site))

    return of


def _mean_kept(site: Site, said: Preprocessing) -> Iterator[Edit]:
    yield Edit(layers=(site.layer,), feed=lambda x: x + _column(said.mean, said))


def _mean_reversed(site: Site, said: Preprocessing) -> Iterator[Edit]:
    if said.mean != said.mean[::-1]:
        shift = _column(said.mean, said) - _column(said.mean[::-1], said)
        yield Edit(layers=(site.layer,), feed=lambda x: x + shift)


def _range(site: Site, said: Preprocessing) -> Iterator[Edit]:
    for factor in (1 / 255, 255.0):
        yield Edit(layers=(site.layer,), feed=lambda x, factor=factor: x * factor)
        mean = _column(said.mean, said)
        yield Edit(
            layers=(site.layer,),
            feed=lambda x, factor=factor, mean=mean: (x + mean) * factor - mean,
            also="before its mean was subtracted",
        )


def _flatten(site: Site, layer: Dense) -> Iterator[Edit]:
    x = site.inputs[0]
    if x.ndim != 4 or layer.axis % x.ndim != 1 or x.shape[1] == 1 or x.shape[2:] == (1, 1):
        return
    channels, height, width = x.shape[1:]
    order = np.arange(channels * height * width).reshape(channels, height, width).transpose(1, 2, 0).reshape(-1)
    for columns in (order, np.argsort(order)):
        yield Edit(layers=(layer,), parameters={"weight": site.parameters["weight"][:, columns]})


def _dense_transposed(site: Site, layer: Dense) -> Iterator[Edit]:
    weight = site.parameters["weight"]
    if weight.shape[0] == weight.shape[1] > 1:
        yield Edit(layers=(layer,), parameters={"weight": weight.T})


def _half_filters(tensor: Array, groups: int) -> Array:
    """The groups' blocks of filters in reverse order."""
    return np.concatenate(np.split(tensor, groups)[::-1])


def _groups_swapped(_: Site, layer: Conv) -> Iterator[Edit]:
    def feed(x: Array) -> Array:
        return np.concatenate(np.split(x, layer.groups, axis=1)[::-1], axis=1)

    def result(y: Array) -> Array:
        return np.concatenate(np.split(y, layer.groups, axis=1)[::-1], axis=1)

    if layer.groups > 1:
        yield Edit(layers=(layer,), feed=feed, also="in what it reads")
        yield Edit(layers=(layer,), result=result, also="in what it gives")


def _groups_repeated(site: Site, layer: Conv) -> Iterator[Edit]:
    if layer.groups < 2:
        return
    first = {name: np.split(tensor, layer.groups)[0] for name, tensor in site.parameters.items()}
    repeated = {name: np.concatenate([tensor] * layer.groups) for name, tensor in first.items()}
    yield Edit(layers=(layer,), feed=lambda x: np.tile(np.split(x, layer.groups, axis=1)[0], (1, layer.groups, 1, 1)))
    yield Edit(layers=(layer,), parameters=repeated, also="with its filters")
    yield Edit(layers=(layer,), parameters={"weight": repeated["weight"]}, also="with its filters, not their biases")


def _halves(site: Site, layer: Conv) -> Iterator[Edit]:
    if layer.groups > 1:
        swapped = {name: _half_filters(tensor, layer.groups) for name, tensor in site.parameters.items()}
        yield Edit(layers=(layer,), parameters=swapped)
        yield Edit(layers=(layer,), parameters={"weight": swapped["weight"]}, also="but not their biases")


def _exchanged_layers(site: Site, layer: Weighted) -> Iterator[Edit]:
    shapes = {row.role: row.shape for row in layer_parameters(layer, [x.shape[1:] for x in site.inputs])}
    for other in site.spec.layers:
        theirs = parameters_of(site.weights, other.name)
        if other.name != layer.name and theirs and {n: t.shape for n, t in theirs.items()} == shapes:
            yield Edit(layers=(layer,), parameters=theirs, also=f"of {other.name}", other=other.name)


def _bias_lost(site: Site, layer: Layer) -> Iterator[Edit]:
    if "bias" in site.parameters:
        yield Edit(layers=(layer,), parameters={"bias": np.zeros_like(site.parameters["bias"])})


def _rounded(round_to: Callable[[Array], Array]) -> Callable[[Site, Weighted], Iterator[Edit]]:
    def edits(site: Site, layer: Weighted) -> Iterator[Edit]:
        rounded = {name: round_to(tensor) for name, tensor in site.parameters.items()}
        yield Edit(layers=(layer,), parameters=rounded)
        yield Edit(layers=(layer,), parameters={"weight": rounded["weight"]}, also="but not the bias")

    return edits


def to_half(tensor: Array) -> Array:
    """float32 by way of float16."""
    with np.errstate(over="ignore"):
        return tensor.astype(np.float16).astype(np.float32)


def to_bfloat16(tensor: Array) -> Array:
    """float32 by way of bfloat16, rounded to nearest, ties to even."""
    bits = np.ascontiguousarray(tensor, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32)


def _initial(site: Site, layer: Weighted) -> Iterator[Edit]:
    """Initial values cannot be guessed, but seen: where the subject's own weights are known, or all are zero."""
    right = site.parameters
    if site.observed is None:
        generator = np.random.default_rng(1)
        scale = (2.0 / right["weight"][0].size) ** 0.5
        drawn = (generator.standard_normal(right["weight"].shape, np.float32) * scale).astype(np.float32)
        yield Edit(
            layers=(layer,), parameters={name: np.zeros_like(t) for name, t in right.items()} | {"weight": drawn}
        )
    elif site.theirs:
        origin = initialiser(site.theirs, right)
        if origin:
            yield Edit(layers=(layer,), parameters=dict(site.theirs), also=f"they look like {origin}")
    else:
        yield Edit(layers=(layer,), parameters={name: np.zeros_like(t) for name, t in right.items()}, also="all zero")


def _classes(site: Site, layer: Weighted) -> Iterator[Edit]:
    if site.spec.head is None or layer.name != site.spec.head.name:
        return
    if site.observed is None:
        order = np.roll(np.arange(len(site.parameters["weight"])), 1)
    else:
        found = _permutation(site, layer)
        if found is None:
            return
        order = found
    yield Edit(layers=(layer,), parameters={name: tensor[order] for name, tensor in site.parameters.items()})


def _permutation(site: Site, layer: Weighted) -> Array | None:
    """Which right output each observed one is, told by the order of their values; None where it is no permutation."""
    right, observed = evaluate(site, Edit(layers=(layer,))), site.observed
    if right is None or observed is None or right.shape != observed.shape or right.ndim < 2 or not right.size:
        return None
    ours, theirs = np.moveaxis(right, 1, -1), np.moveaxis(observed, 1, -1)
    ours, theirs = ours.reshape(-1, ours.shape[-1]), theirs.reshape(-1, theirs.shape[-1])
    order = np.empty(ours.shape[1], np.int64)
    order[np.argsort(theirs[0], kind="stable")] = np.argsort(ours[0], kind="stable")
    return None if np.array_equal(order, np.arange(len(order))) else order


def _same_conv(site: Site, layer: Conv) -> Iterator[Edit]:
    reach = (layer.dilation[0] * (layer.kernel[0] - 1) + 1, layer.dilation[1] * (layer.kernel[1] - 1) + 1)
    before, after = same_padding(site.inputs[0].shape[2:], reach, layer.stride)
    if (before, after) != (layer.pad, layer.pad):
        widths = [(0, 0), (0, 0), *zip(before, after, strict=True)]
        yield Edit(layers=(replace(layer, pad=(0, 0), rounding="floor"),), feed=lambda x: np.pad(x, widths))


def _conv(change: Mapping[str, object]) -> Callable[[Site], Iterator[Edit]]:
    def edits(_: Site, layer: Conv) -> Iterator[Edit]:
        other = replace(layer, **change)
        if other != layer:
            yield Edit(layers=(other,))

    return only(Conv, edits)


FAULTS = (
    Fault(
        name="input_bgr",
        sentence="the input's channels are in the other order (BGR for RGB)",
        remedy="reverse the channels of the picture, or once and for all those of this layer's kernel",
        made_by="Caffe networks (BGR, OpenCV's order) fed by Pillow or torchvision (RGB)",
        family="input",
        edits=lambda site: _channels_reversed(site, site.layer),
    ),
    Fault(
        name="mean_not_subtracted",
        sentence="the input's mean was not subtracted",
        remedy="subtract the mean that belongs to the weights, in their channel order",
        made_by="converters that carry no preprocessing; the ONNX model zoo documents none",
        family="input",
        edits=_picture(_mean_kept),
    ),
    Fault(
        name="mean_wrong_order",
        sentence="the mean was subtracted in the other channel order",
        remedy="reverse the mean: BVLC's is B, G, R (104, 117, 123)",
        made_by="Caffe's mean used on RGB pictures",
        family="input",
        edits=_picture(_mean_reversed),
    ),
    Fault(
        name="input_range",
        sentence="the input is in another range (0..1 for 0..255, or the reverse)",
        remedy="multiply the picture by 255, or by 1 / 255, before its mean is subtracted",
        made_by="torchvision's ToTensor before a Caffe network",
        family="input",
        edits=_picture(_range),
    ),
    Fault(
        name="groups_swapped",
        sentence="the two groups of channels are swapped",
        remedy="split and join the channels in the same order",
        made_by="split and concat written by hand (caffe-tensorflow's idiom)",
        family="weights",
        edits=only(Conv, _groups_swapped),
    ),
    Fault(
        name="groups_first_half_twice",
        sentence="the first group of channels was used for every group",
        remedy="give each group its own channels (groups in PyTorch and Caffe, group in ONNX)",
        made_by="importers that ignore group and broadcast what fits",
        family="weights",
        edits=only(Conv, _groups_repeated),
    ),
    Fault(
        name="group_filters_exchanged",
        sentence="the filters of the two groups are exchanged",
        remedy="concatenate the groups' filters along O in the order of the towers",
        made_by="towers joined from two files in the wrong order",
        family="weights",
        edits=only(Conv, _halves),
    ),
    Fault(
        name="kernel_transposed",
        sentence="the kernel's height and width are swapped",
        remedy="TensorFlow's HWIO becomes OIHW by the permutation (3, 2, 0, 1), not (3, 2, 1, 0)",
        made_by="transposes written by hand; MatConvNet, whose first axis is y",
        family="weights",
        edits=_kernel(_transposed),
    ),
    Fault(
        name="kernel_flipped",
        sentence="the kernel is flipped: a convolution where there should be a correlation",
        remedy="reverse both spatial axes of the kernel",
        made_by="Theano's weights (theano_alexnet), whose convolution flips",
        family="weights",
        edits=_kernel(_flipped),
    ),
    Fault(
        name="conv_same_padding",
        sentence="the convolution was padded as TensorFlow's SAME does, instead of explicitly",
        remedy="pad explicitly and convolve with VALID",
        made_by="MMdnn, caffe-tensorflow",
        family="window",
        edits=only(Conv, _same_conv),
    ),
    Fault(
        name="conv_padding_lost",
        sentence="the convolution's padding is missing",
        remedy="carry pad_h and pad_w over",
        made_by="importers that read pad but not pad_h and pad_w",
        family="window",
        edits=_conv({"pad": (0, 0)}),
    ),
    Fault(
        name="conv_floor_for_ceil",
        sentence="the convolution's output size was rounded down, cuda-convnet rounds it up",
        remedy="pad right and bottom by the missing pixels",
        made_by="every framework but the 2012 code",
        family="window",
        edits=_conv({"rounding": "floor"}),
    ),
    Fault(
        name="conv_dilation_ignored",
        sentence="the dilation was ignored",
        remedy="carry dilation over",
        made_by="importers older than Caffe's dilation parameter",
        family="window",
        edits=_conv({"dilation": (1, 1)}),
    ),
    Fault(
        name="flatten_hwc",
        sentence="the columns are in H, W, C order where the input is flattened C, H, W, or the reverse",
        remedy="reorder its columns between (C, H, W) and (H, W, C); only the first dense layer needs it",
        made_by="nn-transfer 16 and 17, MMdnn 595: TensorFlow's fc6 in PyTorch and back",
        family="weights",
        edits=only(Dense, _flatten),
    ),
    Fault(
        name="dense_transposed",
        sentence="the square weight is transposed, which no shape check sees",
        remedy="transpose it: TensorFlow keeps (in, out), the others (out, in)",
        made_by="converters that transpose by shape alone",
        family="weights",
        edits=only(Dense, _dense_transposed),
    ),
    Fault(
        name="bias_lost",
        sentence="the bias is missing",
        remedy="carry the bias over; a missing one is zero without a word",
        made_by="load_state_dict(strict=False); MatMul without its Add",
        family="weights",
        edits=lambda site: _bias_lost(site, site.layer),
    ),
    Fault(
        name="weights_half_precision",
        sentence="the weights were rounded to half precision (float16)",
        remedy="convert from the float32 original; what was rounded off cannot be brought back",
        made_by="model.half() before saving; size-optimised exports",
        family="rounding",
        edits=_weighted(_rounded(to_half)),
    ),
    Fault(
        name="weights_bfloat16",
        sentence="the weights were rounded to bfloat16",
        remedy="convert from the float32 original; what was rounded off cannot be brought back",
        made_by="checkpoints of mixed-precision training",
        family="rounding",
        edits=_weighted(_rounded(to_bfloat16)),
    ),
    Fault(
        name="weights_initial",
        sentence="the weights are still at their initial values",
        remedy="load this layer's weights too; look for a name that differs between file and model",
        made_by="load_state_dict(strict=False); Caffe's CopyTrainedLayersFrom, which skips names it does not find",
        family="weights",
        edits=_weighted(_initial),
        needs_output=True,
    ),
    Fault(
        name="layers_exchanged",
        sentence="the weights are those of another layer of the same shape",
        remedy="match weights by name, not by shape",
        made_by="converters that match by shape and order",
        family="weights",
        edits=_weighted(_exchanged_layers),
    ),
    Fault(
        name="classes_permuted",
        sentence="the output classes are in another order",
        remedy="reorder the rows of this layer, or use the list of classes that belongs to the weights",
        made_by="class folders sorted by name against the order of ILSVRC's synsets",
        family="weights",
        edits=_weighted(_classes),
        needs_output=True,
    ),
)
