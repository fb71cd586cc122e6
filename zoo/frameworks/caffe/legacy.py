"""The two older dialects of Caffe's network files, brought to the current one (BVLC caffe, ``upgrade_proto.cpp``).

Current: ``layer`` blocks with string types. V1 (2014): ``layers`` with enum types. V0 (2013): ``layers`` that each nest
a ``layer`` with every parameter of every type side by side.
"""

from __future__ import annotations

from zoo.frameworks.caffe import forks
from zoo.wire.caffemodel import V1_TYPES
from zoo.wire.prototxt import Message, PrototxtError

# What V1 says of each blob in lists of their own -> the field of ``param`` it became.
_V1_PARAMS = {"param": "name", "blob_share_mode": "share_mode", "blobs_lr": "lr_mult", "weight_decay": "decay_mult"}

# V0 type -> current type and the parameter block its fields move to.
_V0_TYPES = {
    "accuracy": ("Accuracy", "accuracy_param"),
    "bnll": ("BNLL", ""),
    "concat": ("Concat", "concat_param"),
    "conv": ("Convolution", "convolution_param"),
    "data": ("Data", "transform_param"),
    "dropout": ("Dropout", "dropout_param"),
    "euclidean_loss": ("EuclideanLoss", ""),
    "flatten": ("Flatten", ""),
    "hdf5_data": ("HDF5Data", "hdf5_data_param"),
    "hdf5_output": ("HDF5Output", "hdf5_output_param"),
    "hinge_loss": ("HingeLoss", ""),
    "im2col": ("Im2col", ""),
    "images": ("ImageData", "transform_param"),
    "infogain_loss": ("InfogainLoss", "infogain_loss_param"),
    "innerproduct": ("InnerProduct", "inner_product_param"),
    "lrn": ("LRN", "lrn_param"),
    "multinomial_logistic_loss": ("MultinomialLogisticLoss", ""),
    "pool": ("Pooling", "pooling_param"),
    "relu": ("ReLU", ""),
    "sigmoid": ("Sigmoid", ""),
    "softmax": ("Softmax", ""),
    "softmax_loss": ("SoftmaxWithLoss", ""),
    "split": ("Split", ""),
    "tanh": ("TanH", ""),
    "window_data": ("WindowData", "transform_param"),
}
_V0_FIELDS = {
    "biasterm": "bias_term",
    "kernelsize": "kernel_size",
    "cropsize": "crop_size",
    "meanfile": "mean_file",
}
# Fields of a V0 layer that say nothing about the deployed network; the first two do, in a data layer.
_V0_IMAGES = {"scale", "meanfile"}
_V0_TRAINING = {
    *("name", "type", "source", "batchsize", "mirror"),
    *("rand_skip", "shuffle_images", "new_height", "new_width", "hdf5_output_param", "det_fg_threshold"),
    *("det_bg_threshold", "det_fg_fraction", "det_context_pad", "det_crop_mode"),
}


def current_layers(net: Message) -> list[Message]:
    """The layers of a network in the current dialect; raises `PrototxtError` where dialects are mixed."""
    new, old = net.messages("layer"), net.messages("layers")
    if new and old:
        raise PrototxtError(old[0].line, "'layer' and 'layers' in one file; Caffe reads one dialect at a time")
    if not any("layer" in layer for layer in old):
        return new + [_from_v1(layer) for layer in old]
    return _without_padding_layers([_from_v0(layer) for layer in old])


def _from_v1(layer: Message) -> Message:
    written = layer.fields.get("type", ["NONE"])[0]
    known = (current for name, (number, current) in V1_TYPES.items() if written in (name, number))
    current = forks.V1_TYPES.get(str(written)) or next(known, "NONE")
    fields = {name: values for name, values in layer.fields.items() if name not in _V1_PARAMS}
    return Message(line=layer.line, fields={**fields, "type": [current]}).add("param", *_params(layer))


def _params(layer: Message) -> list[Message]:
    """What a layer of the older dialects says of each of its blobs."""
    given = {_V1_PARAMS[name]: values for name, values in layer.fields.items() if name in _V1_PARAMS}
    return [
        Message(line=layer.line, fields={name: values[i : i + 1] for name, values in given.items() if i < len(values)})
        for i in range(max(map(len, given.values()), default=0))
    ]


def _from_v0(connection: Message) -> Message:
    if "layer" not in connection:
        raise PrototxtError(connection.line, "a 'layers' block without its 'layer', though others have one")
    old = connection.message("layer")
    current, block = _V0_TYPES.get(old.string("type"), (old.string("type"), ""))
    layer = Message(line=connection.line).add("name", old.string("name")).add("type", current)
    layer.add("bottom", *connection.strings("bottom")).add("top", *connection.strings("top"))
    dropped = _V0_TRAINING if block == "transform_param" else _V0_TRAINING | _V0_IMAGES
    dropped = dropped | _V1_PARAMS.keys()
    moved = {_V0_FIELDS.get(name, name): values for name, values in old.fields.items() if name not in dropped}
    layer.add("blobs", *moved.pop("blobs", [])).add("param", *_params(old))
    if moved and current == "padding":
        layer.fields.update(moved)
    elif moved and block:
        layer.add(block, Message(line=old.line, fields=moved))
    elif moved:
        raise PrototxtError(old.line, f"a V0 {current} layer has no {', '.join(moved)}")
    return layer


def _without_padding_layers(layers: list[Message]) -> list[Message]:
    """V0's padding layers become the pad of the convolution or pooling that reads them."""
    padding = {layer.string("top"): layer for layer in layers if layer.string("type") == "padding"}
    kept = [layer for layer in layers if layer.string("type") != "padding"]
    for layer in kept:
        bottoms = layer.strings("bottom")
        source = padding.get(bottoms[0]) if bottoms else None
        if source is None:
            continue
        block = {"Convolution": "convolution_param", "Pooling": "pooling_param"}.get(layer.string("type"))
        if block is None:
            raise PrototxtError(
                source.line, f"a padding layer must be read by a conv or pool, not {layer.string('type')}"
            )
        layer.message(block).fields["pad"] = [source.integer("pad", 0)]
        layer.fields["bottom"] = [source.string("bottom")]
    return kept
