"""`ModelSpec` -> prototxt: the deployed network, the network to train, and its solver."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import assert_never

from zoo import spec_json
from zoo.frameworks.caffe.lower import SliceGroup, for_caffe, slice_groups
from zoo.layers import (
    LRN,
    BatchNorm,
    Bias,
    Concat,
    Conv,
    Dense,
    Dropout,
    Eltwise,
    Flatten,
    Layer,
    ModelSpec,
    Pair,
    Pool,
    Power,
    ReLU,
    Scale,
    Shape,
    Sigmoid,
    Slice,
    Softmax,
    TanH,
)
from zoo.shapes import parameter_shapes
from zoo.wire.prototxt import Message, Word, dumps

# The last line of a deploy.prototxt: a comment to Caffe, the canonical spec (with its preprocessing) to us.
SPEC_COMMENT = f"# {spec_json.METADATA_KEY}: "


@dataclass
class NetLayer:
    """One layer of a Caffe network; `layer` is the one of the spec it stands for, None for helpers."""

    message: Message
    layer: Layer | None = None


def deploy_text(spec: ModelSpec, *, described: bool = True) -> str:
    """The network for inference; `described` appends `SPEC_COMMENT`.

    Raises:
        UnsupportedError: a layer Caffe has no equal for.
    """
    lowered = for_caffe(spec).spec
    net = Message().add("name", spec.name)
    for source in spec.inputs:
        net.add("layer", input_layer(source.name, source.shape, batch=1))
    net.add("layer", *(item.message for item in net_layers(lowered, in_place=True)))
    if not described:
        return dumps(net)
    return f"# {_one_line(spec.title)}\n{_preprocessing(spec)}{dumps(net)}{SPEC_COMMENT}{spec_json.dumps(spec)}\n"


def _preprocessing(spec: ModelSpec) -> str:
    p = spec.preprocessing
    if p is None:
        return ""
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (p.mean, p.std))
    pixels = "0..255" if p.scale == 1 else f"0..255 times {p.scale:g}"
    return (
        f"# Input: {p.channels} pixels {pixels}, minus mean ({mean}), over std ({std});"
        f" shorter side resized to {p.resize}, centre crop.\n"
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())


def input_layer(name: str, shape: Shape, batch: int) -> Message:
    """An Input layer."""
    dims = Message().add("shape", Message().add("dim", batch, *shape))
    return Message().add("name", name).add("type", "Input").add("top", name).add("input_param", dims)


def net_layers(spec: ModelSpec, *, in_place: bool) -> list[NetLayer]:
    """The Caffe layers of a network that `for_caffe` made, inputs excepted.

    Args:
        spec: the network.
        in_place: whether ReLU and Dropout overwrite their input where nobody else reads it, as Caffe's own networks do
            to save memory; every activation can be read back only without.
    """
    wiring, groups, result = spec.wiring(), slice_groups(spec), list[NetLayer]()
    readers = Counter(name for names in wiring.values() for name in names)
    inputs = {source.name for source in spec.inputs}
    # Whatever works in place on these, works on another blob as well: Caffe gives both the same memory.
    kept = inputs | {layer.name for layer in spec.layers if isinstance(layer, Flatten | Slice)}
    kept |= {layer.name for layer in spec.layers if isinstance(layer, Concat) and len(wiring[layer.name]) == 1}
    blobs, params = {name: name for name in inputs}, _shared_params(spec)
    for layer in spec.layers:
        sources = wiring[layer.name]
        if isinstance(layer, Slice):
            blobs[layer.name] = layer.name
            if layer.name in groups:
                result += _slice_layers(groups[layer.name], blobs)
            continue
        over = in_place and isinstance(layer, ReLU | Dropout) and sources[0] not in kept and readers[sources[0]] == 1
        blobs[layer.name] = blobs[sources[0]] if over else layer.name
        message = Message().add("name", layer.name).add("type", _type(layer))
        message.add("bottom", *(blobs[name] for name in sources)).add("top", blobs[layer.name])
        message.add("param", *params.get(layer.name, []))
        block = _parameters(layer)
        if block.fields:
            message.add(_BLOCKS[_type(layer)], block)
        result.append(NetLayer(message, layer))
    return result


def _shared_params(spec: ModelSpec) -> dict[str, list[Message]]:
    """Layer -> its ``param`` blocks, which name the blobs it shares with others."""
    if not spec.ties:
        return {}
    names = {parameter: tie.name for tie in spec.ties for parameter in tie.parameters}
    params = dict[str, list[Message]]()
    for parameter in parameter_shapes(spec):
        param = Message().add("name", names[parameter]) if parameter in names else Message()
        params.setdefault(parameter.rpartition(".")[0], []).append(param)
    for layer in spec.layers:
        if isinstance(layer, BatchNorm) and f"{layer.name}.mean" in names:
            # The third blob, the factor of the other two, is shared with them; Caffe insists that none is learned.
            params[layer.name].append(Message().add("name", f"{names[f'{layer.name}.mean']}_factor"))
            for param in params[layer.name]:
                param.add("lr_mult", 0)
    return {layer: blocks for layer, blocks in params.items() if any("name" in block for block in blocks)}


def _slice_layers(group: SliceGroup, blobs: dict[str, str]) -> list[NetLayer]:
    block = Message()
    if group.axis != 1:
        block.add("axis", group.axis)
    block.add("slice_point", *group.points)
    message = Message().add("name", group.name).add("type", "Slice").add("bottom", blobs[group.source])
    message.add("top", *group.pieces)
    if block.fields:
        message.add("slice_param", block)
    if not group.unused:
        return [NetLayer(message)]
    # Silence says that nobody misses these pieces; Caffe would list them as outputs of the network.
    silence = Message().add("name", f"{group.name}_silence").add("type", "Silence").add("bottom", *group.unused)
    return [NetLayer(message), NetLayer(silence)]


_BLOCKS = {
    "Convolution": "convolution_param",
    "InnerProduct": "inner_product_param",
    "Pooling": "pooling_param",
    "LRN": "lrn_param",
    "ReLU": "relu_param",
    "Power": "power_param",
    "Dropout": "dropout_param",
    "Softmax": "softmax_param",
    "Flatten": "flatten_param",
    "Concat": "concat_param",
    "Eltwise": "eltwise_param",
    "Scale": "scale_param",
    "Bias": "bias_param",
    "BatchNorm": "batch_norm_param",
}


def _type(layer: Layer) -> str:
    match layer:
        case Conv():
            return "Convolution"
        case Dense():
            return "InnerProduct"
        case Pool():
            return "Pooling"
        case (
            LRN()
            | ReLU()
            | Sigmoid()
            | TanH()
            | Power()
            | Dropout()
            | Softmax()
            | Flatten()
            | Concat()
            | Slice()
            | Eltwise()
            | Scale()
            | Bias()
            | BatchNorm()
        ):
            return type(layer).__name__
        case _:
            assert_never(layer)


def _parameters(layer: Layer) -> Message:
    """The parameter block of a layer; what equals Caffe's default is left out, sizes excepted."""
    block = Message()
    match layer:
        case Conv():
            return _conv_parameters(layer)
        case Pool():
            return _pool_parameters(layer)
        case Dense():
            block.add("num_output", layer.out_features)
            _unless(block, "bias_term", layer.bias, True)
            return _unless(block, "axis", layer.axis, 1)
        case LRN():
            block.add("local_size", layer.size).add("alpha", layer.alpha).add("beta", layer.beta)
            _unless(block, "k", layer.k, 1.0)
            return block.add("norm_region", Word("WITHIN_CHANNEL")) if layer.region == "within" else block
        case ReLU():
            return _unless(block, "negative_slope", layer.negative_slope, 0.0)
        case Power():
            _unless(block, "power", layer.power, 1.0)
            _unless(block, "scale", layer.scale, 1.0)
            return _unless(block, "shift", layer.shift, 0.0)
        case Dropout():
            return block.add("dropout_ratio", layer.ratio)
        case Softmax() | Concat():
            return _unless(block, "axis", layer.axis, 1)
        case Flatten():
            _unless(block, "axis", layer.axis, 1)
            return _unless(block, "end_axis", layer.end_axis, -1)
        case Eltwise():
            block.add("operation", Word(layer.operation.upper()))
            return block.add("coeff", *layer.coeffs)
        case Scale() | Bias():
            _unless(block, "axis", layer.axis, 1)
            _unless(block, "num_axes", layer.num_axes, 1)
            return _unless(block, "bias_term", isinstance(layer, Scale) and layer.bias, False)
        case BatchNorm():
            block.add("use_global_stats", Word("false" if layer.batch_stats else "true"))
            return _unless(block, "eps", layer.eps, 1e-5)
        case Sigmoid() | TanH() | Slice():
            return block
        case _:
            assert_never(layer)


def _unless(block: Message, name: str, value: float | bool, default: float | bool) -> Message:
    if value != default:
        block.add(name, Word(str(value).lower()) if isinstance(value, bool) else value)
    return block


def _pair(block: Message, name: str, stem: str, value: Pair, default: int | None) -> None:
    if value[0] == value[1]:
        if value[0] != default:
            block.add(name, value[0])
    else:
        block.add(f"{stem}_h", value[0]).add(f"{stem}_w", value[1])


def _conv_parameters(layer: Conv) -> Message:
    block = Message().add("num_output", layer.out_channels)
    _unless(block, "bias_term", layer.bias, True)
    _pair(block, "pad", "pad", layer.pad, 0)
    _pair(block, "kernel_size", "kernel", layer.kernel, None)
    _pair(block, "stride", "stride", layer.stride, 1)
    if layer.dilation != (1, 1):
        block.add("dilation", *layer.dilation[: 1 if layer.dilation[0] == layer.dilation[1] else 2])
    return _unless(block, "group", layer.groups, 1)


def _pool_parameters(layer: Pool) -> Message:
    block = Message().add("pool", Word(layer.mode.upper()))
    if layer.global_pool:
        return block.add("global_pooling", Word("true"))
    _pair(block, "kernel_size", "kernel", layer.kernel, None)
    _pair(block, "stride", "stride", layer.stride, 1)
    _pair(block, "pad", "pad", layer.pad, 0)
    return block.add("round_mode", Word("FLOOR")) if layer.rounding == "floor" else block
