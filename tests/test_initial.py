"""Initial values: what every framework draws, layer by layer, against what the sources of each member say.

The expectations are written out here from the sources, not taken from the recipes.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from converters.convert import load
from converters.torchvision_names import is_count
from tests.small import shrink
from tests.sources import imported
from zoo import registry
from zoo.initial import initial_weights
from zoo.layers import Conv, Dense, ModelSpec
from zoo.recipe import TruncatedNormal, XavierUniform
from zoo.shapes import parameter_shapes
from zoo.torch_names import parameter_names
from zoo.wire.prototxt import Message, parse

# A normal distribution cut at two deviations has this share of its own.
CUT = 0.87962566


def _normal(**stds: float) -> Callable[[str, tuple[int, ...]], float]:
    return lambda layer, weight: stds.get(layer, 0.01)


def _slim(layer: str, weight: tuple[int, ...]) -> float:
    """tf_slim/nets/alexnet.py: xavier by default, truncated_normal 0.005 for fc6, fc7 and fc8."""
    if layer.startswith("fc"):
        return 0.005 * CUT
    area = math.prod(weight[2:])
    return (2 / (weight[1] * area + weight[0] * area)) ** 0.5


def _torch(layer: str, weight: tuple[int, ...]) -> float:
    """torch/nn/modules/conv.py and linear.py: kaiming_uniform with a = sqrt(5), which is U(+-1 / sqrt(fan-in))."""
    return (1 / (3 * math.prod(weight[1:]))) ** 0.5


def _msra(layer: str, weight: tuple[int, ...]) -> float:
    """BVLC caffe, filler.hpp, MSRAFiller: sqrt(2 / fan-in) by default."""
    return (2 / math.prod(weight[1:])) ** 0.5


def _deepcluster(layer: str, weight: tuple[int, ...]) -> float:
    """facebookresearch/deepcluster, models/alexnet.py: sqrt(2 / fan-out) of its own widths, and .01 for nn.Linear."""
    return {"conv1": 0.013121, "conv2": 0.017678, "conv3": 0.024056, "conv4": 0.024056, "conv5": 0.029463}.get(
        layer, 0.01
    )


HIDDEN = ("conv2", "conv4", "conv5", "fc6", "fc7")
# Member -> the deviation of a layer's weights, and the constants of its biases (None: drawn as torch does).
SOURCES: dict[str, tuple[Callable[[str, tuple[int, ...]], float], dict[str, float] | None]] = {
    "alexnet": (_normal(), dict.fromkeys(HIDDEN, 1.0)),
    "alexnet_2012_code": (_normal(conv3=0.03, conv4=0.03, conv5=0.03), dict.fromkeys(HIDDEN, 1.0)),
    "bvlc_alexnet": (_normal(fc6=0.005, fc7=0.005), dict.fromkeys(HIDDEN, 0.1)),
    "caffenet": (_normal(fc6=0.005, fc7=0.005), dict.fromkeys(HIDDEN, 1.0)),
    "alexnet_v2": (_slim, dict.fromkeys((*HIDDEN, "conv1", "conv3"), 0.1)),
    "alexnet_owt": (_torch, None),
    "alexnet_bn": (_msra, {}),
    "alexnet_deepcluster": (_deepcluster, {}),
    "zfnet": (_normal(), {}),
}


def test_every_member_with_a_source_of_its_own_is_compared_with_it() -> None:
    recipes = {name: registry.recipe(registry.model(name)) for name in registry.models()}
    assert {name for name, recipe in recipes.items() if not recipe.source.startswith("this project")} == {*SOURCES}


def _learning(spec: ModelSpec) -> list[Conv | Dense]:
    """The layers that a recipe draws; what it freezes is not drawn, but comes with weights."""
    rates = registry.recipe(spec).layer_rates
    return [layer for layer in spec.layers if isinstance(layer, Conv | Dense) and rates.get(layer.name, 1)]


def _trainer(spec: ModelSpec, folder: Path) -> Mapping[str, Any]:
    return initial_weights(spec, registry.recipe(spec), seed=1)


def _onnx(spec: ModelSpec, folder: Path) -> Mapping[str, Any]:
    (path,) = registry.framework("onnx").generate(spec, folder)
    return load(path).tensors


def _pytorch_source(spec: ModelSpec, folder: Path) -> Mapping[str, Any]:
    torch = pytest.importorskip("torch")
    (path,) = registry.framework("pytorch").generate(spec, folder)
    torch.manual_seed(1)
    module = imported(path)
    classes = [value for value in vars(module).values() if isinstance(value, type) and value.__module__ == path.stem]
    return _by_our_names(classes[-1](), spec)  # the helpers come first


def _live_pytorch(spec: ModelSpec, folder: Path) -> Mapping[str, Any]:
    torch = pytest.importorskip("torch")
    from zoo.frameworks.pytorch import build  # noqa: PLC0415

    torch.manual_seed(1)
    return _by_our_names(build(spec), spec)


def _by_our_names(module: Any, spec: ModelSpec) -> dict[str, Any]:
    ours = {key: name for name, key in parameter_names(spec).items()}
    return {
        ours.get(str(key), str(key)): tensor.numpy() for key, tensor in module.state_dict().items() if not is_count(key)
    }


def _slim_source(spec: ModelSpec, folder: Path) -> Mapping[str, Any]:
    tf = pytest.importorskip("tensorflow.compat.v1")
    from zoo.frameworks import tf_slim  # noqa: PLC0415
    from zoo.frameworks.tf_slim import runtime  # noqa: PLC0415

    (path,) = registry.framework("tf_slim").generate(spec, folder)
    module = imported(path)
    with tf.Graph().as_default(), runtime.session() as session:
        tf.set_random_seed(1)
        with module.slim.arg_scope(getattr(module, f"{path.stem}_arg_scope")()):
            getattr(module, path.stem)(runtime.placeholders(spec)["data"])
        session.run(tf.global_variables_initializer())
        return tf_slim.fetch(session, spec)


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("drawn", [_trainer, _onnx, _pytorch_source, _live_pytorch, _slim_source])
def test_every_framework_draws_what_the_source_says(
    name: str, drawn: Callable[[ModelSpec, Path], Mapping[str, Any]], tmp_path: Path
) -> None:
    spec = shrink(name)
    weights, (deviation, biases), shapes = drawn(spec, tmp_path), SOURCES[name], parameter_shapes(spec)
    assert weights.keys() == shapes.keys()
    for layer in (layer.name for layer in _learning(spec)):
        weight, bias = weights[f"{layer}.weight"], weights[f"{layer}.bias"]
        expected = deviation(layer, shapes[f"{layer}.weight"])
        assert weight.std() == pytest.approx(expected, rel=5 / (2 * weight.size) ** 0.5), layer
        assert abs(weight.mean()) < 5 * expected / weight.size**0.5, layer
        if biases is None:
            assert np.ptp(bias) > 0 and np.abs(bias).max() <= 3**0.5 * expected * (1 + 1e-6), layer
        else:
            assert np.unique(bias).tolist() == [np.float32(biases.get(layer, 0.0))], layer


# What draws a parameter, as source code words it: the deviation, or the one value of all.
_Given = tuple[Literal["deviation", "value"], float]


def _caffe_fillers(spec: ModelSpec, folder: Path) -> Mapping[str, tuple[_Given, _Given]]:
    registry.framework("caffe").generate(spec, folder)
    net = parse((folder / "train_val.prototxt").read_text())
    layers = {layer.string("name"): layer for layer in net.messages("layer")}
    found = dict[str, tuple[_Given, _Given]]()
    for layer in _learning(spec):
        block = layers[layer.name].message("convolution_param" if isinstance(layer, Conv) else "inner_product_param")
        found[layer.name] = (_filler(block.message("weight_filler")), _filler(block.message("bias_filler")))
    return found


def _filler(filler: Message) -> _Given:
    """BVLC caffe, filler.hpp."""
    match filler.string("type"):
        case "constant":
            return "value", filler.number("value", 0)
        case "gaussian":
            assert filler.number("mean", 0) == 0
            return "deviation", filler.number("std", 1)
        case "uniform":
            assert filler.number("min", 0) == -filler.number("max", 1)
            return "deviation", filler.number("max", 1) / 3**0.5
        case other:
            raise AssertionError(other)


def _keras_initializers(spec: ModelSpec, folder: Path) -> Mapping[str, tuple[_Given, _Given]]:
    (path,) = registry.framework("keras").generate(spec, folder)
    found = dict[str, tuple[_Given, _Given]]()
    for node in ast.walk(ast.parse(path.read_text())):
        words = {word.arg: word.value for word in node.keywords} if isinstance(node, ast.Call) else {}
        if "kernel_initializer" in words:
            bias: _Given = ("value", 0.0)  # by default
            if "bias_initializer" in words:
                bias = _initializer(words["bias_initializer"])
            found[ast.literal_eval(words["name"])] = (_initializer(words["kernel_initializer"]), bias)
    return found


def _initializer(call: Any) -> _Given:
    """keras 3, src/initializers/random_initializers.py: a truncated normal is drawn again past two deviations."""
    options = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
    match call.func.attr, options:
        case "Constant", {"value": value}:
            return "value", value
        case "RandomNormal", {"stddev": std}:
            return "deviation", std
        case "TruncatedNormal", {"stddev": std}:
            return "deviation", std * CUT
        case "RandomUniform", {"minval": low, "maxval": high}:
            assert low == -high
            return "deviation", high / 3**0.5
        case other:
            raise AssertionError(other)


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("given", [_caffe_fillers, _keras_initializers])
def test_what_is_printed_draws_it(
    name: str, given: Callable[[ModelSpec, Path], Mapping[str, tuple[_Given, _Given]]], tmp_path: Path
) -> None:
    spec = shrink(name)
    (deviation, biases), shapes, found = SOURCES[name], parameter_shapes(spec), given(spec, tmp_path)
    for layer in (layer.name for layer in _learning(spec)):
        weight, bias = found[layer]
        expected = deviation(layer, shapes[f"{layer}.weight"])
        assert weight == ("deviation", pytest.approx(expected, rel=1e-4)), layer
        if biases is None:
            assert bias == ("deviation", pytest.approx(expected, rel=1e-4)), layer
        else:
            assert bias == ("value", biases.get(layer, 0.0)), layer


def test_the_generated_slim_source_starts_as_slims_own_network() -> None:
    """At full size, from the graphs alone: nothing is drawn."""
    tf = pytest.importorskip("tensorflow.compat.v1")
    own = pytest.importorskip("tf_slim.nets.alexnet")
    from zoo.frameworks import tf_slim  # noqa: PLC0415
    from zoo.frameworks.tf_slim import runtime  # noqa: PLC0415

    spec = registry.model("alexnet_v2")
    with tf.Graph().as_default() as theirs, runtime.slim.arg_scope(own.alexnet_v2_arg_scope()):
        own.alexnet_v2(tf.placeholder(tf.float32, [1, 224, 224, 3]))
    with tf.Graph().as_default() as ours, runtime.slim.arg_scope(tf_slim.arg_scope(spec)):
        tf_slim.network(spec)(tf.placeholder(tf.float32, [1, 224, 224, 3]))
    assert _initialisers(tf, ours) == _initialisers(tf, theirs)
    assert len(_initialisers(tf, ours)) > 16


def _initialisers(tf: Any, graph: Any) -> dict[str, Any]:
    """The operations that make initial values: kind, and the constants with their values."""
    return {
        node.name: (node.type, tf.make_ndarray(node.get_attr("value")).tolist() if node.type == "Const" else None)
        for node in graph.get_operations()
        if "/Initializer/" in node.name
    }


def test_the_source_of_slims_member_names_slims_own_initialisers() -> None:
    from zoo.frameworks import tf_slim  # noqa: PLC0415

    text = tf_slim.source_text(registry.model("alexnet_v2"))
    scope = text[text.index("def alexnet_v2_arg_scope") : text.index("def alexnet_v2(")]
    assert "weights_initializer=slim.xavier_initializer()" in scope
    assert "biases_initializer=tf.constant_initializer(0.1)" in scope
    assert text.count("weights_initializer=tf.truncated_normal_initializer(stddev=0.005)") == 3
    assert text.count("biases_initializer=tf.zeros_initializer()") == 1
    recipe = registry.recipe(registry.model("alexnet_v2"))
    assert recipe.initial["*.weight"] == XavierUniform()
    assert recipe.initial["fc[678].weight"] == TruncatedNormal(std=0.005)
