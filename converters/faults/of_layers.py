"""Faults of what a layer computes: pooling, rectifiers, dropout, softmax, and the order of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from converters.faults.types import Edit, Fault, Site, only
from converters.weights import Array
from zoo import layers
from zoo.layers import LOWEST, Layer, ModelSpec
from zoo.shapes import window


def dropped(kind: type[Any]) -> Callable[[Site], Iterator[Edit]]:
    """The layer is missing."""

    def edits(_site: Site, _layer: Layer) -> Iterator[Edit]:
        yield Edit(layers=())

    return only(kind, edits)


def _layer_dropped(site: Site, layer: Layer) -> Iterator[Edit]:
    yield Edit(layers=())
    if isinstance(layer, layers.Dense) and site.inputs[0].ndim > 2:
        yield Edit(layers=(layers.Flatten(name="rows"),))  # which the layer did by itself


def _bias_after_relu(site: Site) -> Iterator[Edit]:
    """A bias added behind the ReLU that should come after it; it may show in the ReLU, or in what reads that."""
    named = {layer.name: layer for layer in site.spec.layers}
    wiring = site.spec.wiring()
    source = wiring[site.layer.name][0]
    if isinstance(site.layer, layers.ReLU):
        bias = _bias_of(site, source)
        if bias is not None:
            yield Edit(layers=(site.layer,), feed=lambda x: x - bias, result=lambda y: y + bias)
            yield Edit(layers=(site.layer,), result=lambda y: y + bias)
    elif isinstance(named.get(source), layers.ReLU):
        bias = _bias_of(site, wiring[source][0])
        if bias is not None:
            yield Edit(layers=(site.layer,), feed=lambda x: x + bias)


def _bias_of(site: Site, source: str) -> Array | None:
    """The bias of a layer as its output is shaped: (C, 1, 1) or (C,)."""
    bias, axes = site.weights.get(f"{source}.bias"), site.inputs[0].ndim - 2
    channels = site.inputs[0].shape[1] if axes >= 0 else 0
    return None if bias is None or bias.shape != (channels,) else bias.reshape(-1, *[1] * axes)


def _before(kind: type[Any], other: type[Any]) -> Callable[[Site], Iterator[Edit]]:
    """A layer of `kind` that should come first and is run after the one of `other` that follows it."""

    def edits(site: Site, layer: Layer) -> Iterator[Edit]:
        follower = site.next()
        if follower is not None and isinstance(follower, other):
            yield Edit(layers=(follower, layer), spec=exchanged(site.spec, layer.name, follower.name))

    return only(kind, edits)


def exchanged(spec: ModelSpec, first: str, second: str) -> ModelSpec:
    """`spec` with two neighbours of a chain in the other order, under their own names."""
    wiring = spec.wiring()
    source = wiring[first]
    swap = {first: second, second: first}

    def rewired(layer: Layer) -> Layer:
        if layer.name == second:
            return replace(layer, inputs=source)
        if layer.name == first:
            return replace(layer, inputs=(second,))
        return replace(layer, inputs=tuple(first if name == second else name for name in wiring[layer.name]))

    named = {layer.name: rewired(layer) for layer in spec.layers}
    return replace(spec, layers=tuple(named[swap.get(layer.name, layer.name)] for layer in spec.layers))


def _pool(change: Callable[[layers.Pool], Iterator[layers.Pool]]) -> Callable[[Site], Iterator[Edit]]:
    def edits(_: Site, layer: layers.Pool) -> Iterator[Edit]:
        if not layer.global_pool:
            for other in change(layer):
                if other != layer:
                    yield Edit(layers=(other,))

    return only(layers.Pool, edits)


def _floor(layer: layers.Pool) -> Iterator[layers.Pool]:
    yield replace(layer, rounding="floor")


def _ceil(layer: layers.Pool) -> Iterator[layers.Pool]:
    yield replace(layer, rounding="ceil")


def _other_mode(layer: layers.Pool) -> Iterator[layers.Pool]:
    yield replace(layer, mode="ave" if layer.mode == "max" else "max")


def _pool_padding_lost(layer: layers.Pool) -> Iterator[layers.Pool]:
    yield replace(layer, pad=(0, 0))


def _zero_padding(site: Site, layer: layers.Pool) -> Iterator[Edit]:
    """A maximum that zeros take part in: the image is padded first, with what convolutions are padded with."""
    at = window(layer, site.inputs[0].shape[1:])
    if layer.mode == "max" and (max(at.before) > 0 or max(at.after) > 0):
        inner = replace(layer, pad=(0, 0), rounding="floor", kernel=at.kernel, global_pool=False)
        yield Edit(layers=(inner,), feed=_padded(at.before, at.after, 0.0))


def _padded(before: tuple[int, int], after: tuple[int, int], fill: float) -> Callable[[Array], Array]:
    widths = [(0, 0), (0, 0), *((max(b, 0), max(a, 0)) for b, a in zip(before, after, strict=True))]
    return lambda x: np.pad(x, widths, constant_values=fill)


def same_padding(
    size: tuple[int, ...], kernel: tuple[int, int], stride: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """TensorFlow's SAME: as much padding as ceil(size / stride) positions need, the odd pixel at the end."""
    total = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(size, kernel, stride, strict=True)]
    return (total[0] // 2, total[1] // 2), (total[0] - total[0] // 2, total[1] - total[1] // 2)


def _same_pool(site: Site, layer: layers.Pool) -> Iterator[Edit]:
    if not layer.global_pool and layer.mode == "max":
        before, after = same_padding(site.inputs[0].shape[2:], layer.kernel, layer.stride)
        inner = replace(layer, pad=(0, 0), rounding="floor")
        yield Edit(layers=(inner,), feed=_padded(before, after, LOWEST))


def _relu_slope(_: Site, layer: layers.ReLU) -> Iterator[Edit]:
    if layer.negative_slope:
        yield Edit(layers=(replace(layer, negative_slope=0.0),))


def _ceiling(site: Site, layer: layers.ReLU) -> Iterator[Edit]:
    """ReLU6, or another bound that is told from the largest number there is."""
    yield Edit(layers=(layer,), result=lambda y: np.minimum(y, 6.0), also="at 6: ReLU6")
    top = 6.0 if site.observed is None else float(site.observed.max(initial=0.0))
    if top > 0 and top != 6.0:
        yield Edit(layers=(layer,), result=lambda y: np.minimum(y, top), also=f"at {top:g}")


def _dropout_on(site: Site, layer: layers.Dropout) -> Iterator[Edit]:
    """Which numbers were dropped is read from the result itself: they are zero, and the rest is scaled, or is not."""
    keep = 1.0 - layer.ratio
    if site.observed is None:
        mask = np.random.default_rng(0).random(site.inputs[0].shape) < keep
    elif site.observed.shape == site.inputs[0].shape:
        mask = site.observed != 0
        candidates = int(np.count_nonzero(site.inputs[0]))
        dropped = 1 - np.count_nonzero(mask) / candidates if candidates else 0.0
        # Chance may drop somewhat more or less than the ratio, but not none or all.
        if abs(dropped - layer.ratio) > 0.05 + 4 * (layer.ratio * keep / max(candidates, 1)) ** 0.5:
            return
    else:
        return
    yield Edit(layers=(layer,), feed=lambda x: np.where(mask, x / keep, 0.0))
    yield Edit(layers=(layer,), feed=lambda x: np.where(mask, x, 0.0), also="without its scale of 1 / (1 - ratio)")


def _dropout_scaled(_: Site, layer: layers.Dropout) -> Iterator[Edit]:
    if layer.ratio:
        yield Edit(layers=(layer,), feed=lambda x: x * (1 - layer.ratio))
        yield Edit(layers=(layer,), feed=lambda x: x / (1 - layer.ratio))
        yield Edit(layers=(layer,), feed=lambda x: x * layer.ratio)


def _softmax_axis(site: Site, layer: layers.Softmax) -> Iterator[Edit]:
    for axis in range(1, site.inputs[0].ndim):
        if axis != layer.axis % site.inputs[0].ndim:
            yield Edit(layers=(replace(layer, axis=axis),))


FAULTS = (
    Fault(
        name="pool_before_norm",
        sentence="pooling was run before the normalisation (CaffeNet's order)",
        remedy="normalise first, then pool: this is AlexNet's order, CaffeNet has the other",
        made_by="weights of bvlc_alexnet in CaffeNet's prototxt",
        family="order",
        edits=_before(layers.LRN, layers.Pool),
    ),
    Fault(
        name="norm_before_pool",
        sentence="the normalisation was run before pooling (AlexNet's order)",
        remedy="pool first, then normalise: this is CaffeNet's order, AlexNet has the other",
        made_by="weights of CaffeNet in bvlc_alexnet's prototxt",
        family="order",
        edits=_before(layers.Pool, layers.LRN),
    ),
    Fault(
        name="norm_before_relu",
        sentence="the normalisation was run before the ReLU",
        remedy="rectify first, then normalise",
        made_by="ports that follow conv1 of the 2012 code in every layer",
        family="order",
        edits=_before(layers.ReLU, layers.LRN),
    ),
    Fault(
        name="pool_floor_for_ceil",
        sentence="the output size was rounded down, Caffe rounds it up",
        remedy="use ceil_mode=True (PyTorch), ceil_mode=1 (ONNX), or pad right and bottom with -inf",
        made_by="PyTorch, TensorFlow and ONNX by default; nobuco, caffemodel2pytorch, onnx2caffe",
        family="window",
        edits=_pool(_floor),
    ),
    Fault(
        name="pool_ceil_for_floor",
        sentence="the output size was rounded up, as Caffe does, where this network rounds it down",
        remedy="write round_mode: FLOOR in the prototxt, or crop the input so that both agree",
        made_by="Caffe by default: PytorchToCaffe, onnx2caffe",
        family="window",
        edits=_pool(_ceil),
    ),
    Fault(
        name="pool_zero_padding",
        sentence="a maximum was taken over padding of 0 instead of -inf",
        remedy="pad with -inf, or let the pooling layer itself pad; it matters where inputs are negative",
        made_by="pytorch2keras (ZeroPadding before MaxPool), caffe2onnx's separate Pad",
        family="window",
        edits=only(layers.Pool, _zero_padding),
    ),
    Fault(
        name="pool_same_padding",
        sentence="pooling was padded as TensorFlow's SAME does",
        remedy="use VALID after explicit padding",
        made_by="MMdnn, caffe-tensorflow: anything not VALID becomes SAME",
        family="window",
        edits=only(layers.Pool, _same_pool),
    ),
    Fault(
        name="pool_padding_lost",
        sentence="the pooling's padding is missing",
        remedy="carry pad_h and pad_w over",
        made_by="importers that read pad for convolutions only",
        family="window",
        edits=_pool(_pool_padding_lost),
    ),
    Fault(
        name="pool_other_mode",
        sentence="averages where there should be maxima, or the reverse",
        remedy="carry the pooling method over; MAX is 0, AVE is 1 in Caffe's enumeration",
        made_by="importers that do not read pool",
        family="layer",
        edits=_pool(_other_mode),
    ),
    Fault(
        name="layer_dropped",
        sentence="the layer is missing",
        remedy="add it",
        made_by="importers that skip what they do not know; a graph rebuilt by hand",
        family="layer",
        edits=only(
            (
                layers.Conv,
                layers.Dense,
                layers.Pool,
                layers.BatchNorm,
                layers.Scale,
                layers.Bias,
                layers.Power,
                layers.Sigmoid,
                layers.TanH,
            ),
            _layer_dropped,
        ),
    ),
    Fault(
        name="bias_after_relu",
        sentence="the bias is added after the ReLU",
        remedy="add the bias first, then rectify",
        made_by="graphs in which a bias is a node of its own (MatMul, Add) and the ReLU is fused with the product",
        family="layer",
        edits=_bias_after_relu,
    ),
    Fault(
        name="relu_lost",
        sentence="the ReLU is missing",
        remedy="add it; in-place layers are easily lost when a graph is rebuilt by names",
        made_by="importers that resolve Caffe's in-place tops by name",
        family="layer",
        edits=dropped(layers.ReLU),
    ),
    Fault(
        name="relu_slope_ignored",
        sentence="the negative slope was ignored",
        remedy="use a leaky ReLU with this slope",
        made_by="importers that read ReLU without relu_param",
        family="layer",
        edits=only(layers.ReLU, _relu_slope),
    ),
    Fault(
        name="relu_ceiling",
        sentence="the ReLU has a ceiling",
        remedy="use a plain ReLU: its result has no upper bound",
        made_by="ReLU6 of mobile networks; Clip nodes written by quantising exporters",
        family="layer",
        edits=only(layers.ReLU, _ceiling),
    ),
    Fault(
        name="dropout_left_on",
        sentence="dropout was left on",
        remedy="run the network for inference: eval() in PyTorch, is_training=False in slim, phase TEST in Caffe",
        made_by="forgotten eval(); ONNX graphs exported in training mode",
        family="layer",
        edits=only(layers.Dropout, _dropout_on),
        needs_output=True,
    ),
    Fault(
        name="dropout_scaled_at_test",
        sentence="dropout scales at inference; today's frameworks scale while they train",
        remedy="drop the layer at inference; only the 2012 code multiplied by 1 - ratio at test",
        made_by="ports that follow the paper; MMdnn and caffe-tensorflow (keep_prob = dropout_ratio)",
        family="layer",
        edits=only(layers.Dropout, _dropout_scaled),
    ),
    Fault(
        name="softmax_lost",
        sentence="the softmax is missing: these are the logits",
        remedy="add it, or compare logits with logits",
        made_by="exports of a classifier without its last layer (torchvision's alexnet has none)",
        family="layer",
        edits=dropped(layers.Softmax),
    ),
    Fault(
        name="softmax_axis",
        sentence="the softmax runs along another axis",
        remedy="take it over the channels: axis 1 in NCHW, the last in NHWC",
        made_by="NCHW graphs read as NHWC; ONNX below opset 13, whose softmax flattens",
        family="layer",
        edits=only(layers.Softmax, _softmax_axis),
    ),
)
