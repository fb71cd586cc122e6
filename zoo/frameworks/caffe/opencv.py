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
* Bias is unknown -> a Scale by one; a second input is spread over a tensor of ones and added. Scale needs its axis
  counted from the front, and at least one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from zoo.errors import UnsupportedError
from zoo.frameworks.caffe.lower import Names, as_scales, for_caffe, rewrite_all, without_k
from zoo.frameworks.caffe.writer import NetLayer, input_layer, layer_blobs, net_layers
from zoo.layers import BatchNorm, Bias, Concat, Eltwise, Layer, ModelSpec, Pool, Power, Scale, Shape, Slice
from zoo.shapes import activation_shapes, window
from zoo.wire.caffemodel import caffemodel
from zoo.wire.prototxt import Message, Word, dumps

Array: TypeAlias = NDArray[Any]

VERSION = f"OpenCV {cv2.__version__} dnn"

_LOWEST = float(np.finfo(np.float32).min)


def forward(spec: ModelSpec, weights: Mapping[str, Array], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """See `zoo.registry.Framework.forward`; raises `UnsupportedError` for what OpenCV cannot do."""
    caffe = for_caffe(spec)
    lowered = rewrite_all(caffe.spec, without_k, _pool, _bias)
    text, model = _network(
        *as_scales(lowered.spec, weights, batch_norms=False), {name: len(batch) for name, batch in inputs.items()}
    )
    names = [lowered.names[caffe.names[layer.name]] for layer in spec.layers]
    outputs = _run(spec.name, text.encode(), model, inputs, names)
    return {layer.name: output for layer, output in zip(spec.layers, outputs, strict=True)}


def forward_file(prototxt: Path, model: Path, spec: ModelSpec, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run somebody's own prototxt and caffemodel as they are.

    Args:
        prototxt, model: the files.
        spec: the network that the prototxt was read as, for its layers' names.
        inputs: input name -> batch.

    Raises:
        UnsupportedError: OpenCV cannot run them, or parts from Caffe in a layer of theirs.
    """
    lowered = rewrite_all(for_caffe(spec).spec, without_k, _pool, _bias).spec
    odd = [
        layer for layer in spec.layers if isinstance(layer, Slice) or _takes_the_batch(layer) or _joins_one(layer, spec)
    ]
    if lowered.layers != _written_out(spec) or odd:
        changed = {layer.name for layer in lowered.layers} - {layer.name for layer in spec.layers}
        where = ", ".join(sorted({layer.name for layer in odd} | changed)) or "a layer"
        raise UnsupportedError(f"{VERSION} computes {where} otherwise than Caffe")
    names = [layer.name for layer in spec.layers]
    outputs = _run(spec.name, prototxt.read_bytes(), np.fromfile(model, np.uint8), inputs, names)
    return dict(zip(names, outputs, strict=True))


def _written_out(spec: ModelSpec) -> tuple[Layer, ...]:
    wiring = spec.wiring()
    return tuple(replace(layer, inputs=wiring[layer.name]) for layer in spec.layers)


def _takes_the_batch(layer: Layer) -> bool:
    return isinstance(layer, BatchNorm) and layer.batch_stats


def _joins_one(layer: Layer, spec: ModelSpec) -> bool:
    return isinstance(layer, Concat) and len(spec.wiring()[layer.name]) == 1


def _run(name: str, text: bytes, model: Array, inputs: Mapping[str, Array], names: Sequence[str]) -> list[Array]:
    """The results of layers, by their names."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # its errors reach the user as ours
    try:
        net = cast(Any, cv2.dnn).readNetFromCaffe(np.frombuffer(text, np.uint8), model)
        net.enableWinograd(False)  # faster, but it rounds in more places than Caffe does
        for source, batch in inputs.items():
            net.setInput(np.ascontiguousarray(batch, np.float32), source)
        return [np.asarray(output) for output in net.forward(names)]
    except cv2.error as error:
        reason = str(cast(Any, error).err or error).replace("\n", " ")
        raise UnsupportedError(f"{name}: {VERSION} cannot run this network: {reason}") from error


def _network(spec: ModelSpec, weights: Mapping[str, Array], batches: Mapping[str, int]) -> tuple[str, Array]:
    """The prototxt and the caffemodel of a network."""
    shapes, wiring = activation_shapes(spec), spec.wiring()
    free, layers = Names(shapes), list[NetLayer]()
    for item in net_layers(spec, in_place=False):
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
        spec.name, [(item.message, layer_blobs(item.layer, weights) if item.layer else []) for item in layers]
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
    lowest = Power(name=free.fresh(f"{name}_lowest{axis}"), inputs=(row.name,), scale=0.0, shift=_LOWEST)
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
