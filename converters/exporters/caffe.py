"""caffe2onnx 2.0.1 on a modern Python, with a network it cannot get wrong.

What it needs: a modern module of its protobuf schema (`_caffe_schema`), its output declared as the opset it is written
for, and a batch size left open, which it has no notion of. Where it parts from Caffe it gets an exactly equal network:

* LRN: `k` and the window within a map are ignored -> k 1 and a Power; squares, average pooling, power, product.
* Eltwise: coefficients and a third input are ignored -> Powers and pairs; a product fails -> its Axpy, plus zero.
* BatchNorm fails without a Scale behind it -> the equal Scale. Bias is unknown -> a Scale by one.

Tensors go from our weights into the graph as they are: its own way makes a Python float of each number.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import caffe2onnx
import numpy as np
import onnx
from google.protobuf import text_format

from converters.exporters._caffe_schema import caffe_module
from converters.weights import Array, Weights
from zoo import layers
from zoo.axes import axis_index
from zoo.errors import UnsupportedError
from zoo.frameworks.caffe import (
    NetLayer,
    as_scales,
    for_caffe,
    input_layer,
    layer_blobs,
    net_layers,
    rewrite_all,
    without_k,
    without_overhang,
)
from zoo.layers import LRN, Eltwise, Layer, ModelSpec, Names, Pool, Power, Shape
from zoo.shapes import activation_shapes, window
from zoo.wire.prototxt import Message, dumps

_LOG = logging.getLogger(__name__)

# caffe2onnx writes nodes as this operator set defines them, and the intermediate representation of its time.
OPSET = 11
_IR_VERSION = 6
_SCHEMA = "caffe2onnx.proto.caffe_upsample_pb2"
# A tensor of more numbers than this is filled in after the graph is built, which copies it several times.
_SMALL = 1024
_END = (1 << 63) - 1


def export_onnx(weights: Weights, path: Path, *, every_activation: bool, opset: int | None = None) -> None:
    """Write the network as caffe2onnx converts it.

    Args:
        weights: the network and its parameters.
        path: the ``.onnx`` to write; weights sit inside it.
        every_activation: every layer is a graph output, not the spec's outputs alone.
        opset: 11, the only one caffe2onnx writes, or None.

    Inputs are named as the spec's, N x shape with a free N; outputs are named as their layers.

    Raises:
        UnsupportedError: another opset, or layers caffe2onnx has no equal for; lists them all.
    """
    if opset not in (None, OPSET):
        raise UnsupportedError(f"{weights.spec.name}: caffe2onnx writes operator set {OPSET} only, not {opset}")
    network = _prepared(weights)
    model = _converted(network)
    wanted = weights.spec.graph_outputs(every_activation=every_activation)
    _mend(model, network, wanted)
    onnx.save_model(model, path)


@dataclass(frozen=True, kw_only=True)
class _Network:
    """What caffe2onnx is given: `original` rewritten as `spec`; `names` as in `zoo.frameworks.caffe.Lowered`."""

    original: ModelSpec
    spec: ModelSpec
    names: Mapping[str, str]
    weights: Mapping[str, Array]
    layers: Sequence[NetLayer]


def _prepared(weights: Weights) -> _Network:
    caffe = for_caffe(weights.spec)
    lowered = rewrite_all(caffe.spec, without_overhang, _within, without_k, _pairs)
    spec, tensors = as_scales(lowered.spec, weights.tensors, batch_norms=True)
    problems = list(_problems(spec))
    if problems:
        raise UnsupportedError(f"{weights.spec.name}: caffe2onnx cannot express {'; '.join(problems)}")
    free, layers = Names(activation_shapes(spec)), list[NetLayer]()
    for item in net_layers(spec, in_place=False):
        if isinstance(item.layer, Eltwise) and item.layer.operation == "prod":
            layers += _product(item.message, free)
        elif item.message.string("type") != "Silence":
            layers.append(item)
    names = {name: lowered.names[now] for name, now in caffe.names.items()}
    return _Network(original=weights.spec, spec=spec, names=names, weights=tensors, layers=layers)


def _within(layer: Layer, inputs: Sequence[Shape], free: Names) -> list[Layer] | None:
    """LRN within a map, step by step as Caffe computes it (``lrn_layer.cpp``); k is 1 by now."""
    if not isinstance(layer, LRN) or layer.region == "across":
        return None
    square = Power(name=free.fresh(f"{layer.name}_square"), inputs=layer.inputs, power=2.0)
    side, pad = (layer.size, layer.size), (layer.size // 2, layer.size // 2)
    mean = Pool(name=free.fresh(f"{layer.name}_mean"), inputs=(square.name,), mode="ave", kernel=side, pad=pad)
    name = free.fresh(f"{layer.name}_factor")
    factor = Power(name=name, inputs=(mean.name,), power=-layer.beta, scale=layer.alpha, shift=1.0)
    product = Eltwise(name=layer.name, inputs=(layer.inputs[0], factor.name), operation="prod")
    return [square, mean, factor, product]


def _pairs(layer: Layer, inputs: Sequence[Shape], free: Names) -> list[Layer] | None:
    """Sums and products of two, without coefficients."""
    if not isinstance(layer, Eltwise) or layer.operation == "max":
        return None
    result, names = list[Layer](), list[str]()
    for source, factor in zip(layer.inputs, layer.coeffs or (1.0,) * len(layer.inputs), strict=True):
        name = source if factor == 1 else free.fresh(f"{layer.name}_times{len(names)}")
        if factor != 1:
            result.append(Power(name=name, inputs=(source,), scale=factor))
        names.append(name)
    while len(names) > 1:
        name = layer.name if len(names) == 2 else free.fresh(f"{layer.name}_first{len(names)}")
        result.append(Eltwise(name=name, inputs=(names[0], names[1]), operation=layer.operation))
        names[:2] = [name]
    return result


def _product(message: Message, free: Names) -> list[NetLayer]:
    """caffe2onnx fails on a product of two, but knows Axpy, a * b + c: c is zero."""
    name, (a, b) = message.string("name"), message.strings("bottom")
    zero = Message().add("name", free.fresh(f"{name}_zero")).add("type", "Power").add("bottom", a)
    zero.add("top", zero.string("name")).add("power_param", Message().add("scale", 0.0))
    axpy = Message().add("name", name).add("type", "Axpy").add("bottom", a, b, zero.string("name")).add("top", name)
    return [NetLayer(zero), NetLayer(axpy)]


def _problems(spec: ModelSpec) -> Iterator[str]:
    shapes, wiring = activation_shapes(spec), spec.wiring()
    for layer in spec.layers:
        problem = _problem(layer, [shapes[name] for name in wiring[layer.name]])
        if problem:
            yield f"layer {layer.name!r} ({type(layer).__name__}, {problem})"


def _problem(layer: Layer, inputs: Sequence[Shape]) -> str:
    """Why caffe2onnx would get a layer wrong; empty where it does not."""
    shape = inputs[0] if inputs else ()
    if not shape:
        return "one axis alone"
    match layer:
        case layers.Conv():
            return "dilation that differs by axis" if layer.dilation[0] != layer.dilation[1] else ""
        case layers.Dense():
            return "axis other than 1" if axis_index(layer.name, layer.axis, shape) != 1 else ""
        case Pool():
            return _pool_problem(layer, shape)
        case layers.Softmax():
            last = axis_index(layer.name, layer.axis, shape) == len(shape)
            return "" if last else "axis other than the last: its operator set flattens from there"
        case layers.Flatten():
            return "" if (layer.axis, layer.end_axis) == (1, -1) else "axes other than all"
        case layers.Slice():
            cuts_batch = axis_index(layer.name, layer.axis, shape) == 0
            return "" if len(shape) in (1, 3) and not cuts_batch else "needs N x C or N x C x H x W, and not its batch"
        case Eltwise():
            return "maximum" if layer.operation == "max" else ""
        case layers.Scale() | layers.Bias():
            plain = len(inputs) == 1 and len(shape) == 3 and (layer.axis, layer.num_axes) == (1, 1)
            return "" if plain else "anything but one number a channel of N x C x H x W"
        case layers.BatchNorm():
            return "statistics of the batch"  # with given ones, it is a Scale by now
        case LRN():
            return "alpha or beta that ONNX Runtime's LRN refuses" if min(layer.alpha, layer.beta) <= 0 else ""
        case layers.ReLU() | layers.Sigmoid() | layers.TanH() | Power() | layers.Dropout() | layers.Concat():
            return ""
        case _:
            return "a kind it gets wrong or does not know"


def _pool_problem(layer: Pool, shape: Shape) -> str:
    if layer.global_pool:
        return ""
    if (layer.pad[0] == 0) != (layer.pad[1] == 0):
        return "a pad on one axis alone"
    place = window(layer, shape)
    for i in range(2):
        free = shape[1 + i] + 2 * layer.pad[i] - layer.kernel[i]
        full = (-(-free // layer.stride[i]) if layer.rounding == "ceil" else free // layer.stride[i]) + 1
        if place.out[i] != full or (full - 1) * layer.stride[i] >= shape[1 + i] + layer.pad[i]:
            return "a last window that starts outside the image"
    return ""


@cache
def _converter() -> tuple[ModuleType, ModuleType]:
    """caffe2onnx's converter module, imported over our schema, and that schema."""
    _LOG.debug("caffe2onnx from %s", caffe2onnx.__file__)
    sys.modules[_SCHEMA] = schema = caffe_module(_SCHEMA)
    from caffe2onnx.src import caffe2onnx as converter

    return converter, schema


class _Blob:
    """What caffe2onnx reads of a BlobProto; never copied."""

    def __init__(self, array: Array) -> None:
        self.shape, self.data = SimpleNamespace(dim=list(array.shape)), array

    def __deepcopy__(self, memo: object) -> _Blob:
        return self


def _converted(network: _Network) -> onnx.ModelProto:
    """caffe2onnx's own result, its large tensors filled in."""
    converter, schema = _converter()
    text = Message().add("name", network.spec.name)
    text.add("layer", *(input_layer(source.name, source.shape, batch=1) for source in network.spec.inputs))
    first = _all_inputs(network)
    text.add("layer", *([first] if first else []), *(item.message for item in network.layers))
    net = text_format.Parse(dumps(text), schema.NetParameter())
    blobs = [
        SimpleNamespace(
            name=item.message.string("name"),
            blobs=[_Blob(blob) for blob in layer_blobs(item.layer, network.weights)] if item.layer else [],
        )
        for item in network.layers
    ]
    log = StringIO()
    try:
        with redirect_stdout(log), np.errstate(over="ignore"), _lazy_tensors(converter) as arrays:
            model = converter.Caffe2Onnx(net, SimpleNamespace(layer=blobs, layers=[]), network.spec.name)
            result = cast(onnx.ModelProto, model.createOnnxModel())
    except (SystemExit, AttributeError, AssertionError, IndexError, TypeError, ValueError) as error:
        last = (log.getvalue().strip().splitlines() or [""])[-1]
        raise UnsupportedError(f"{network.spec.name}: caffe2onnx fails: {error or last} ({last})") from error
    _LOG.debug("%s", log.getvalue())
    for tensor in result.graph.initializer:
        if tensor.name in arrays:
            tensor.raw_data = np.ascontiguousarray(arrays[tensor.name], np.dtype("<f4")).tobytes()
    return result


@contextmanager
def _lazy_tensors(converter: Any) -> Generator[dict[str, Array]]:
    """Let caffe2onnx make large tensors without their numbers; yields the numbers by tensor name."""
    helper, arrays = converter.helper, dict[str, Array]()

    def make_tensor(name: str, data_type: int, dims: Sequence[int], vals: Any, raw: bool = False) -> onnx.TensorProto:
        if not isinstance(vals, np.ndarray) or vals.size <= _SMALL:
            return helper.make_tensor(name, data_type, dims, vals, raw)
        arrays[name] = vals.reshape(list(dims))
        return onnx.TensorProto(name=name, data_type=data_type, dims=list(dims))

    converter.helper = SimpleNamespace(**{**vars(helper), "make_tensor": make_tensor})
    try:
        yield arrays
    finally:
        converter.helper = helper


_FIRST = "caffe2onnx_first"


def _all_inputs(network: _Network) -> Message | None:
    """caffe2onnx's first node always reads every input once; where ours does not, one is made and dropped later."""
    inputs = [source.name for source in network.spec.inputs]
    if network.layers[0].message.strings("bottom") == inputs:
        return None
    return Message().add("name", _FIRST).add("type", "Concat").add("bottom", *inputs).add("top", _FIRST)


def _mend(model: onnx.ModelProto, network: _Network, wanted: Sequence[str]) -> None:
    """The names, batch size and operator set that caffe2onnx gets wrong or has no notion of."""
    graph = model.graph
    kept = [node for node in graph.node if node.name != _FIRST]
    del graph.node[:]
    graph.node.extend(kept)
    _rename(graph, network)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Reshape":  # the batch as it comes, instead of 1
            shape = onnx.numpy_helper.to_array(constants[node.input[1]])
            free = np.array([0, -1] if len(shape) == 2 else [0, *shape[1:]], np.int64)
            constants[node.input[1]].CopyFrom(onnx.numpy_helper.from_array(free, node.input[1]))
    for item in network.layers:
        if item.message.string("type") == "Slice":  # the last piece ends where the axis does
            last = f"{item.message.string('name')}_ends{len(item.message.strings('top')) - 1}"
            constants[last].CopyFrom(onnx.numpy_helper.from_array(np.array([_END], np.int64), last))
    shapes = activation_shapes(network.original)
    del graph.input[:], graph.output[:], graph.value_info[:]
    graph.input.extend(_described(source.name, source.shape) for source in network.original.inputs)
    graph.output.extend(_described(name, shapes[name]) for name in wanted)
    del model.opset_import[:]
    model.opset_import.add(domain="", version=OPSET)
    model.ir_version = _IR_VERSION


def _rename(graph: onnx.GraphProto, network: _Network) -> None:
    names = {f"{source.name}_input": source.name for source in network.spec.inputs}
    for layer, made in network.names.items():
        if layer != made:
            names |= {layer: f"{layer}_uncut", made: layer}
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def _described(name: str, shape: Shape) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", *shape])
