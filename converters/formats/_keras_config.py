"""The layers that a Keras file describes, in order: ``config.json``, or the ``model_config`` of an older file.

Nothing of it is run, and no class is looked up. Format: keras ``src/layers``, each class's ``get_config``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any, TypeAlias, cast

import numpy as np

from converters.formats._described import Fact, Kind, Step, activation
from converters.images import SAID_NOTHING, SaidOfImages
from zoo.layers import Pair

# Layers that join branches, which have no order.
_JOINS = {"Concatenate", "Add", "Subtract", "Multiply", "Maximum", "Minimum", "Average"}
# Layers that compute nothing in use, or only lay numbers out or join them.
_SILENT = {
    *("InputLayer", "Dropout", "SpatialDropout2D", "Flatten", "Reshape", "ActivityRegularization", "Permute"),
    *_JOINS,
    *("AlphaDropout", "GaussianDropout", "GaussianNoise", "RandomBrightness", "RandomContrast", "RandomFlip"),
    *("RandomRotation", "RandomTranslation", "RandomZoom"),
}
# Layers of Keras' own that have weights and are compared with nothing; of any other's, its code alone tells the use.
_UNCOMPARED = {"Conv2DTranspose", "PReLU", "Embedding", "LayerNormalization"}
# Layers that prepare images, where they stand before all others; Keras' own `load_img` gives RGB.
_PREPARING = ("Rescaling", "Normalization")
# Settings that Keras 2 calls otherwise.
_KERAS_1 = {"nb_filter", "border_mode"}
_NESTED = {"Sequential", "Functional", "Model"}
# Keras divides by no less (`keras.config.epsilon`).
_LEAST = 1e-7
# Settings of a layer that go without saying; of any other, None and False do.
_DEFAULTS: dict[str, Any] = {
    **{"activation": "linear", "padding": "valid", "data_format": "channels_last"},
    **{"strides": 1, "dilation_rate": 1, "groups": 1, "depth_multiplier": 1, "towers": 1},
    **{"use_bias": True, "center": True, "scale": True},
    **{"axis": -1, "epsilon": 1e-3, "negative_slope": 0.0, "threshold": 0.0},
}
# What says nothing of what a layer computes in use.
_IDLE = {
    *("name", "module", "shared_object_id", "build_config"),
    *("trainable", "momentum", "renorm_momentum", "seed", "noise_shape", "autocast"),
}
_LAYER = "layer "
# Before the classes of generated source, whose arguments are known here (`zoo.frameworks.keras.ops`).
_OURS = "alexnet_zoo>"
# The class of a layer, and what makes it.
_Generated: TypeAlias = tuple[str, dict[str, Any]]


def described(config: str, holders: Collection[str]) -> tuple[list[Step], SaidOfImages] | None:
    """The layers of a network as far as they are of a kind that is known, and how those before them prepare images.

    None where nothing is described, as of a class derived from Keras' Model.

    Args:
        config: the description.
        holders: the layers that have weights.

    Raises:
        ValueError: it is no description of a network, or what it does with weights is known to its code alone.
    """
    if not config.strip():
        return None
    try:
        model = json.loads(config)
        if model["class_name"] not in _NESTED and "layers" not in model["config"]:
            return None  # a class of somebody's own, which alone knows its layers
        layers = [*_flat(_layers(model))]
        front = [*takewhile(lambda layer: layer["class_name"] in _SILENT | {*_PREPARING}, layers)]
        preparing = [layer for layer in front if layer["class_name"] in _PREPARING]
        steps = [*_steps([layer for layer in layers if layer not in preparing], holders)]
        return steps, _images(preparing) if preparing else SAID_NOTHING
    except (TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ValueError("its description of the network is laid out otherwise than Keras 2 and 3 do it") from error
    except ValueError as error:
        raise ValueError(f"its description of the network cannot be read ({error})") from error


def other_layer(config: str, ours: Mapping[str, Any]) -> str | None:
    """The first layer that is not as in a model of ours, in words; empty where none is.

    Keras may have saved it again, and then says more of each layer. None where it is none of ours at all: its layers
    have other names, or are of other classes.
    """
    try:
        wanted, found = _graph(ours), _graph(json.loads(config))
        kinds = [
            {name: said[0] for name, said in graph.items() if name.startswith(_LAYER)} for graph in (wanted, found)
        ]
    except (TypeError, LookupError, AttributeError, RecursionError):
        return None
    if kinds[0] != kinds[1]:
        return None
    others = (name for name in wanted if not _same(wanted[name], found[name]))
    return next((f"its {name} is not what is written here" for name in others), "")


def _graph(model: Mapping[str, Any]) -> dict[str, Any]:
    """The layers by name, with what each reads, and what the model reads and gives."""
    found: dict[str, Any] = {key: [*_words(model["config"][f"{key}_layers"])] for key in ("input", "output")}
    for layer in _layers(model):
        found[f"{_LAYER}{layer['name']}"] = [_registered(layer), ", ".join(_reads(layer)), layer["config"]]
    return found


def branch(config: str) -> str | None:
    """Where layers do not stand in one line, each reading the one before it and the last the answer; None if nowhere.

    Of such a line, the layers in their order are all that there is to compare.
    """
    try:
        return _branch(json.loads(config))
    except (TypeError, LookupError, AttributeError, RecursionError):
        return "its layers are joined in a way that is not known"


def _branch(model: Mapping[str, Any]) -> str | None:
    layers, alone = _layers(model), ", and branches are compared only in what is written here"
    if model["class_name"] != "Sequential":
        for before, layer in zip([None, *layers], layers, strict=False):
            if _reads(layer) != ([before["name"]] if before else []):
                return f"{layer['name']} reads {', '.join(_reads(layer)) or 'nothing'}{alone}"
        answer = [*_words(model["config"]["output_layers"])]
        if answer != [layers[-1]["name"]]:
            return f"its answer is {', '.join(answer)}{alone}"
    return next((told for layer in layers if layer["class_name"] in _NESTED and (told := _branch(layer))), None)


def _reads(layer: Mapping[str, Any]) -> list[str]:
    """The layers that one reads, as Keras 3 says it or as Keras 2 does."""
    nodes = layer["inbound_nodes"]
    return [*_read(nodes)] or [*_words(nodes)]


def _words(ends: Any) -> Iterator[str]:
    """The names among names and numbers, lists of lists."""
    for end in ends if isinstance(ends, list) else []:
        yield from [end] if isinstance(end, str) else _words(end)


def _read(nodes: Any) -> Iterator[str]:
    """The layers that nodes read."""
    for item in nodes.values() if isinstance(nodes, dict) else nodes if isinstance(nodes, list) else []:
        yield from _read(item)
    if isinstance(nodes, dict) and "keras_history" in nodes:
        yield str(nodes["keras_history"][0])


def _same(ours: Any, theirs: Any) -> bool:
    """Whether theirs says what ours does and else what goes without saying.

    A number may stand for several alike, and starts do not count.
    """
    if isinstance(ours, dict) and isinstance(theirs, dict):
        wanted = {key for key in ours if not _is_start(key) and key != "module"}
        more = theirs.keys() - ours.keys()
        return (
            wanted <= theirs.keys()
            and all(_same(ours[key], theirs[key]) for key in wanted)
            and all(_goes_without_saying(key, theirs[key]) for key in more)
        )
    ours, theirs = _short(ours), _short(theirs)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_same, ours, theirs))
    return type(ours) is type(theirs) and ours == theirs


def _is_start(key: str) -> bool:
    return key.endswith("initializer")


def _goes_without_saying(key: str, value: Any) -> bool:
    """Whether a setting is as if it were not said, or says nothing of what is computed in use."""
    if key in _IDLE or _is_start(key) or key.endswith(("_regularizer", "_constraint")):
        return True
    if key == "dtype":
        return "float32" in str(value)
    return _short(value) == _DEFAULTS[key] if key in _DEFAULTS else value is None or value is False


def _short(value: Any) -> Any:
    """What all items of a list are, where they are alike."""
    while isinstance(value, list) and value and all(item == value[0] for item in value):
        value = value[0]
    return value


def unlike_ours(theirs: Iterable[_Generated], ours: Sequence[_Generated]) -> str | None:
    """The first of their layers that is none of ours, in words; None where there is none. Names count for nothing."""
    for name, settings in theirs:
        wanted = [other for kind, other in ours if kind == name]
        if not any(_same(other, settings) for other in wanted):
            return f"it has {name} {settings}, not {wanted[0] if wanted else 'any'}"
    return None


def generated(model: Mapping[str, Any]) -> list[_Generated]:
    """The layers of generated source in a description that could be read, and those that join branches of it.

    Their classes, and what makes them; none where there is no layer of generated source.
    """
    found = [
        (
            _registered(layer).removeprefix(_OURS),
            {key: value for key, value in layer["config"].items() if key not in ("name", "trainable", "dtype")},
        )
        for layer in _flat(_layers(model))
        if _registered(layer).startswith(_OURS) or layer["class_name"] in _JOINS
    ]
    return [] if all(name in _JOINS for name, _ in found) else found


def _registered(layer: Mapping[str, Any]) -> str:
    return str(layer.get("registered_name") or layer["class_name"])


def _layers(model: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    inner = model["config"]
    return cast("list[Mapping[str, Any]]", inner if isinstance(inner, list) else inner["layers"])


def _flat(layers: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Layers, and in the place of models among them theirs; of one of ours that shares weights, what it is."""
    for layer in layers:
        if layer["class_name"] in _NESTED:
            yield from _flat(_layers(layer))
        elif _registered(layer) == f"{_OURS}Sharing":
            yield layer["config"]["layer"]
        else:
            yield layer


def _images(layers: list[Mapping[str, Any]]) -> SaidOfImages:
    """What a Rescaling, a Normalization or the one and then the other do to pixels of 0..255."""
    if [layer["class_name"] for layer in layers] not in (["Rescaling"], ["Normalization"], [*_PREPARING]):
        told = ", ".join(f"{layer['config']['name']} ({layer['class_name']})" for layer in layers)
        raise ValueError(f"it prepares images by {told}; a Rescaling and a Normalization after it are read")
    scale, offset, mean, std = 1.0, 0.0, (0.0,), (1.0,)
    for layer in layers:
        config = cast("Mapping[str, Any]", layer["config"])
        told = f"{config['name']} is a {layer['class_name']}"
        if layer["class_name"] == "Rescaling":
            numbers = config["scale"], config.get("offset", 0.0)
            if not all(isinstance(number, int | float) for number in numbers) or numbers[0] == 0:
                raise ValueError(f"{told} of other than one scale and one offset")
            scale, offset = map(float, numbers)
        else:
            mean, std = _normalised(told, config)
    return SaidOfImages(channels="RGB", scale=scale, mean=tuple(number - offset for number in mean), std=std)


def _normalised(told: str, config: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of a Normalization, one number or one a channel."""
    axis, given = config.get("axis", -1), [config.get("mean"), config.get("variance")]
    if None in given:
        raise ValueError(f"{told} that was adapted, not given its mean and variance; give them")
    if config.get("invert") or axis not in (-1, 3, [-1], [3], None):
        raise ValueError(f"{told} that is inverted, or of other axes than the channels")
    mean, variance = (np.asarray(_plain(value), np.float64) for value in given)
    if mean.ndim > 1 or variance.ndim > 1 or (variance < 0).any():
        raise ValueError(f"{told} of other than one mean and one variance a channel")
    std = np.maximum(np.sqrt(variance), _LEAST)
    return tuple(mean.reshape(-1).tolist()), tuple(std.reshape(-1).tolist())


def _plain(value: Any) -> Any:
    """Numbers, as Keras 3 writes them of a list or of an array."""
    return value["config"]["value"] if isinstance(value, dict) else value


def _steps(layers: list[Mapping[str, Any]], holders: Collection[str]) -> Iterator[Step]:
    border: Pair | None = (0, 0)  # what a layer before has padded; None: not the same on both sides
    for layer in layers:
        name, config = str(layer["class_name"]), cast("Mapping[str, Any]", layer["config"])
        if _KERAS_1 & config.keys():
            raise ValueError("it was described by Keras 1, in other words; load it in Keras 2, and save it again")
        if name == "ZeroPadding2D":
            rows, columns = _both(config["padding"])
            (top, bottom), (left, right) = _both(rows), _both(columns)
            border = (int(top), int(left)) if (top, left) == (bottom, right) else None
            continue
        elif _registered(layer) == f"{_OURS}WideConv2D":
            yield from _one("Conv2D", config, border)
        elif _registered(layer).startswith(_OURS):
            yield from _ours(name.removeprefix(_OURS), config)
        elif name in _PREPARING:
            raise ValueError(f"{config['name']} is a {name}, which is read before all other layers alone")
        elif name == "Lambda":
            raise ValueError(f"{config['name']} is a Lambda, which is Python code that nothing here runs")
        elif name not in _SILENT:
            step = [*_one(name, config, border)]
            # Told by no case of its own, it is taken for a function; which has no weights.
            if step[:1] == [activation(name)] and config.get("name") in holders and name not in _UNCOMPARED:
                raise ValueError(
                    f"{config['name']} is a {name}, and what that does with its weights only its code tells"
                )
            yield from step
        border = (0, 0)


def _one(name: str, config: Mapping[str, Any], border: Pair | None) -> Iterator[Step]:
    match name:
        case "Conv2D" | "DepthwiseConv2D":
            dilation = _pair(config.get("dilation_rate", 1))
            facts = _window({"strides": 1, **config}, "kernel_size", border) | {"dilation": dilation}
            if dilation != (1, 1):
                del facts["stride"]  # Keras takes not both; a stride comes after it
            yield Step(kind="weighted", facts=facts | ({"groups": config.get("groups", 1)} if name == "Conv2D" else {}))
        case "SeparableConv2D":
            yield from _one("DepthwiseConv2D", {**config, "activation": "linear"}, border)
            yield Step(kind="weighted", facts={"kernel": (1, 1), "stride": (1, 1), "pad": (0, 0)})
        case "Dense":
            yield Step(kind="weighted")
        case "MaxPooling2D" | "AveragePooling2D":
            mode: dict[str, Fact] = {"mode": "max" if name.startswith("Max") else "ave"}
            yield Step(kind="pooling", facts=mode | _window(config, "pool_size", border))
        case "GlobalMaxPooling2D" | "GlobalAveragePooling2D":
            yield Step(kind="pooling", facts={"mode": "max" if "Max" in name else "ave"})
        case "BatchNormalization":
            yield Step(kind="batch normalisation", facts={"eps": float(config.get("epsilon", 1e-3))})
        case "ReLU":
            ceiling = config.get("max_value")
            slope = float(config.get("negative_slope", 0.0) or 0.0)
            yield activation("relu", slope) if ceiling is None else activation(f"relu up to {ceiling}")
        case "LeakyReLU":
            yield activation("relu", float(config.get("negative_slope", config.get("alpha", 0.3))))
        case "Softmax":
            yield Step(kind="softmax")
        case "ELU":
            yield activation("elu")
        case "Activation":
            pass
        case _:
            # A normalisation of responses is nobody's own layer in Keras; any other class is a function of its own.
            yield Step(kind="normalisation") if _is_norm(name) else activation(name)
    if name in {"Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Dense", "Activation"}:
        yield from _activation(config)


def _activation(config: Mapping[str, Any]) -> Iterator[Step]:
    function = config.get("activation", "linear")
    if function != "linear":
        text = function if isinstance(function, str) else str(function.get("class_name", function))
        kind: Kind = "softmax" if text == "softmax" else "activation"
        yield Step(kind=kind) if kind == "softmax" else activation("bnll" if text == "softplus" else text)


def _ours(name: str, config: Mapping[str, Any]) -> Iterator[Step]:
    match name:
        case "PaddedMaxPooling2D" | "PaddedAveragePooling2D":
            (top, _), (left, _) = config["pads"]
            mode: dict[str, Fact] = {"mode": "max" if name == "PaddedMaxPooling2D" else "ave"}
            yield Step(kind="pooling", facts=mode | _window(config, "pool_size", (int(top), int(left))))
        case "LocalResponseNormalization" | "SpatialResponseNormalization":
            numbers = ("size", "alpha", "beta", "k")
            yield Step(kind="normalisation", facts={key: config[key] for key in numbers if key in config})
        case "BatchStatisticsNormalization":
            yield Step(kind="batch normalisation", facts={"eps": float(config["epsilon"])})
        case "SlopedReLU":
            yield activation("relu", float(config["slope"]))
        case "Abs" | "Clip" | "Exp" | "Log" | "Swish" | "Threshold":
            yield activation(name.lower())
        case _:
            pass  # of a kind that is compared with nothing


def _is_norm(name: str) -> bool:
    low = name.lower()
    return "lrn" in low or "localresponse" in low or "local_response" in low


def _window(config: Mapping[str, Any], size: str, border: Pair | None) -> dict[str, Fact]:
    kernel, steps = _pair(config[size]), config.get("strides")
    stride = kernel if steps is None else _pair(steps)
    facts: dict[str, Fact] = {"kernel": kernel, "stride": stride}
    if config.get("padding", "valid") == "valid":
        return facts | ({} if border is None else {"pad": border})
    # What "same" adds depends on the image, but for a stride of 1 and an odd reach.
    rows, columns = (d * (k - 1) for d, k in zip(_pair(config.get("dilation_rate", 1)), kernel, strict=True))
    if border != (0, 0):
        return facts
    odd = stride == (1, 1) and not rows % 2 and not columns % 2
    return facts | ({"pad": (rows // 2, columns // 2)} if odd else {"padding": "same"})


def _both(value: Any) -> tuple[Any, Any]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _pair(value: int | list[int]) -> Pair:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))
