"""Caffe networks run by OpenCV 4's dnn module, handed over in memory; `opencv_forms` says what it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from zoo.arrays import Array
from zoo.errors import UnsupportedError, said
from zoo.frameworks.caffe.lower import as_scales, for_caffe
from zoo.frameworks.caffe.opencv_forms import VERSION, lowered
from zoo.frameworks.caffe.writer import NetLayer, input_layer, layer_blobs, net_layers
from zoo.layers import BatchNorm, Concat, DetectionOutput, Layer, ModelSpec, Names, PriorBox, Shape, Slice
from zoo.shapes import activation_shapes
from zoo.wire.caffemodel import caffemodel
from zoo.wire.prototxt import Message, Word, dumps


def forward(spec: ModelSpec, weights: Mapping[str, Array], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """See `zoo.registry.Framework.forward`; raises `UnsupportedError` for what OpenCV cannot do."""
    for name, shape in activation_shapes(spec).items():
        if not shape:
            raise UnsupportedError(f"layer {name!r}: {VERSION} makes two axes of one")
    caffe = for_caffe(spec)
    equal = lowered(caffe.spec)
    # OpenCV takes no input that nothing reads: a Crop reads but the size of its second.
    read = {name for names in equal.spec.wiring().values() for name in names}
    used = replace(equal.spec, inputs=tuple(source for source in equal.spec.inputs if source.name in read))
    inputs = {source.name: inputs[source.name] for source in used.inputs}
    text, model = _network(
        *as_scales(used, weights, batch_norms=False), {name: len(batch) for name, batch in inputs.items()}
    )
    names = [equal.names[caffe.names[layer.name]] for layer in spec.layers]
    outputs = _run(spec.name, text.encode(), model, inputs, names)
    return {
        layer.name: _in_caffes_order(layer.name, output, max(map(len, inputs.values())))
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
    equal = lowered(for_caffe(spec).spec).spec
    odd = [
        layer
        for layer in spec.layers
        if isinstance(layer, Slice | DetectionOutput) or _is_odd(layer) or _joins_one(layer, spec)
    ]
    if equal.layers != _written_out(spec) or odd:
        changed = {layer.name for layer in equal.layers} - {layer.name for layer in spec.layers}
        where = ", ".join(sorted({layer.name for layer in odd} | changed)) or "a layer"
        raise UnsupportedError(f"{VERSION} may compute {where} otherwise than Caffe")
    names = [layer.name for layer in spec.layers]
    outputs = _run(spec.name, prototxt.read_bytes(), np.fromfile(model, np.uint8), inputs, names)
    return dict(zip(names, outputs, strict=True))


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
