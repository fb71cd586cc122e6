"""`ModelSpec` -> prototxt: the deployed network, the network to train, and its solver."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from zoo import layers, spec_json
from zoo.arrays import Array
from zoo.errors import one_line
from zoo.frameworks.caffe import pooling, shaping
from zoo.frameworks.caffe.lower import SliceGroup, for_caffe, slice_groups
from zoo.frameworks.caffe.vocabulary import row_of
from zoo.layers import Layer, ModelSpec, Names, Shape
from zoo.parameters import parameters_of
from zoo.shapes import lengths, parameter_shapes
from zoo.show import images_text
from zoo.wire.prototxt import Message, dumps

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
    net.add("layer", *(item.message for item in whole_net(lowered)))
    if not described:
        return dumps(net)
    about = f"# {one_line(spec.title)}\n# {images_text(spec)}\n"
    return f"{about}{dumps(net)}{SPEC_COMMENT}{spec_json.dumps(spec)}\n"


def input_layer(name: str, shape: Shape, batch: int) -> Message:
    """An Input layer."""
    dims = Message().add("shape", Message().add("dim", batch, *shape))
    return Message().add("name", name).add("type", "Input").add("top", name).add("input_param", dims)


def whole_net(spec: ModelSpec) -> list[NetLayer]:
    """The Caffe layers of a network that `for_caffe` made, inputs of the smallest batches that Caffe takes first."""
    batches = lengths(spec)
    inputs = [NetLayer(input_layer(source.name, source.shape, batches[source.name])) for source in spec.inputs]
    return inputs + net_layers(spec, batches, in_place=True)


def net_layers(spec: ModelSpec, batches: Mapping[str, int] | None = None, *, in_place: bool) -> list[NetLayer]:
    """The Caffe layers of a network that `for_caffe` made, inputs excepted.

    Args:
        spec: the network.
        batches: of its inputs; left out, the smallest that Caffe takes.
        in_place: whether ReLU and Dropout overwrite their input where nobody else reads it, as Caffe's own networks do
            to save memory; every activation can be read back only without.
    """
    wiring, sizes, result = spec.wiring(), lengths(spec, batches), list[NetLayer]()
    groups = slice_groups(spec, sizes)
    readers = Counter(name for names in wiring.values() for name in names)
    inputs = {source.name for source in spec.inputs}
    # Whatever works in place on these, works on another blob as well: Caffe gives both the same memory.
    kept = inputs | {
        layer.name for layer in spec.layers if isinstance(layer, layers.Flatten | layers.Reshape | layers.Slice)
    }
    kept |= {layer.name for layer in spec.layers if isinstance(layer, layers.Concat) and len(wiring[layer.name]) == 1}
    blobs, params = {name: name for name in inputs}, _shared_params(spec)
    masks, free = _masks(spec), Names([*inputs, *wiring])
    for layer in spec.layers:
        sources = wiring[layer.name]
        if isinstance(layer, layers.Slice):
            blobs[layer.name] = layer.name
            if layer.name in groups:
                result += _slice_layers(groups[layer.name], blobs)
            continue
        over = (
            in_place
            and isinstance(layer, layers.ReLU | layers.Dropout)
            and sources[0] not in kept
            and readers[sources[0]] == 1
        )
        blobs[layer.name] = blobs[sources[0]] if over else layer.name
        if isinstance(layer, layers.PoolMask):
            result += [NetLayer(message) for message in _mask_layers(layer, blobs[sources[0]], masks, free)]
            blobs[layer.name] = layer.name
            continue
        bottoms = [] if isinstance(layer, layers.Constant) else [blobs[name] for name in sources]
        message = _message(layer, bottoms, [blobs[layer.name], *masks.get(layer.name, [])], params.get(layer.name, []))
        if isinstance(layer, layers.Constant) and sources:
            message.message(row_of(layer).block).message("shape").fields["dim"][0] = sizes[layer.name]
        result.append(NetLayer(message, layer))
    return result


def _message(layer: Layer, bottoms: Sequence[str], tops: Sequence[str], params: Sequence[Message]) -> Message:
    row = row_of(layer)
    message = Message().add("name", layer.name).add("type", row.type)
    message.add("bottom", *bottoms).add("top", *tops).add("param", *params)
    block = row.write(layer) if row.write else Message()
    return message.add(row.block, block) if block.fields else message


def _masks(spec: ModelSpec) -> dict[str, list[str]]:
    """Pool -> the layers that are its mask, Caffe's second top: the first with its window over the same activation."""
    wiring, masks, pools = spec.wiring(), dict[str, list[str]](), dict[tuple[str, str], str]()
    for layer in spec.layers:
        if isinstance(layer, layers.Pool) and layer.mode == "max":
            pools.setdefault((wiring[layer.name][0], dumps(pooling.write_pool(layer))), layer.name)
        elif isinstance(layer, layers.PoolMask):
            pool = pools.pop((wiring[layer.name][0], dumps(pooling.write_pool(layer))), None)
            if pool is not None:
                masks[pool] = [layer.name]
    return masks


def _mask_layers(layer: layers.PoolMask, source: str, masks: Mapping[str, list[str]], free: Names) -> list[Message]:
    """A mask whose Pooling layer is none of the network's: one of its own, of whose maxima nobody knows."""
    if any(layer.name in names for names in masks.values()):
        return []
    row, unused = row_of(layer), free.fresh(f"{layer.name}_maxima")
    message = Message().add("name", layer.name).add("type", row.type).add("bottom", source)
    message.add("top", unused, layer.name).add(row.block, pooling.write_pool(layer))
    silence = Message().add("name", f"{layer.name}_silence").add("type", "Silence").add("bottom", unused)
    return [message, silence]


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
        if isinstance(layer, layers.BatchNorm) and f"{layer.name}.mean" in names:
            # The third blob, the factor of the other two, is shared with them; Caffe insists that none is learned.
            params[layer.name].append(Message().add("name", f"{names[f'{layer.name}.mean']}_factor"))
            for param in params[layer.name]:
                param.add("lr_mult", 0)
    return {layer: blocks for layer, blocks in params.items() if any("name" in block for block in blocks)}


def _slice_layers(group: SliceGroup, blobs: dict[str, str]) -> list[NetLayer]:
    message = Message().add("name", group.name).add("type", shaping.SLICE.type)
    message.add("bottom", blobs[group.source])
    message.add("top", *group.pieces)
    block = shaping.write_slice(group.axis, group.points)
    if block.fields:
        message.add(shaping.SLICE.block, block)
    if not group.unused:
        return [NetLayer(message)]
    # Silence says that nobody misses these pieces; Caffe would list them as outputs of the network.
    silence = Message().add("name", f"{group.name}_silence").add("type", "Silence").add("bottom", *group.unused)
    return [NetLayer(message), NetLayer(silence)]


def layer_blobs(layer: Layer, weights: Mapping[str, Array]) -> list[Array]:
    """A layer's parameters in Caffe's order; BatchNorm's third blob is the factor both others are divided by, 1."""
    blobs = list(parameters_of(weights, layer.name).values())
    return [*blobs, np.ones(1, np.float32)] if isinstance(layer, layers.BatchNorm) else blobs
