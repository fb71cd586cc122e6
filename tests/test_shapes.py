"""Shapes by hand, by Caffe's own rules, and impossible networks refused by the name of the layer."""

from collections.abc import Sequence
from math import prod

import pytest

from zoo.errors import SpecError
from zoo.layers import (
    LRN,
    MVN,
    ArgMax,
    Axpy,
    BatchNorm,
    Bias,
    Concat,
    Conv,
    Crop,
    Deconv,
    Dense,
    Dropout,
    Eltwise,
    Flatten,
    Input,
    Interp,
    Layer,
    ModelSpec,
    Permute,
    Pool,
    Reduction,
    ReLU,
    Reshape,
    Scale,
    Shape,
    Shuffle,
    Slice,
    Softmax,
    Tile,
    Unary,
)
from zoo.registry import model
from zoo.shapes import activation_shapes, multiply_adds, parameter_count, parameter_shapes, window


def _spec(*layers: Layer, shape: Shape = (4, 8, 8), more: Sequence[Input] = ()) -> ModelSpec:
    return ModelSpec(name="net", title="", inputs=(Input(name="data", shape=shape), *more), layers=layers)


def _out(layer: Layer, shape: Shape = (4, 8, 8)) -> Shape:
    return activation_shapes(_spec(layer, shape=shape))[layer.name]


def test_the_published_sizes_of_alexnet() -> None:
    shapes = activation_shapes(model("alexnet"))
    assert shapes["conv1"] == (96, 55, 55)
    assert [shapes[f"pool{i}"] for i in (1, 2, 5)] == [(96, 27, 27), (256, 13, 13), (256, 6, 6)]
    assert shapes["conv4"] == (384, 13, 13) and shapes["fc7"] == (4096,) and shapes["prob"] == (1000,)


def test_a_row_of_numbers_is_normalised_each_by_itself() -> None:
    """mvn_layer.cpp reads num, channels, height and width, which are 1 where there is no such axis."""
    assert _out(MVN(name="m"), shape=()) == (1, 1, 1)


def test_the_published_parameters_of_alexnet() -> None:
    counts = dict[str, int]()
    for name, shape in parameter_shapes(model("alexnet")).items():
        layer = name.partition(".")[0]
        counts[layer] = counts.get(layer, 0) + prod(shape)
    assert counts == {
        "conv1": 34_944,
        "conv2": 307_456,
        "conv3": 885_120,
        "conv4": 663_936,
        "conv5": 442_624,
        "fc6": 37_752_832,
        "fc7": 16_781_312,
        "fc8": 4_097_000,
    }
    assert parameter_count(model("alexnet")) == 60_965_224
    assert multiply_adds(model("alexnet"))["conv1"] == 96 * 55 * 55 * 3 * 11 * 11


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (Conv(name="x", out_channels=6, kernel=(3, 1), stride=(2, 1), pad=(1, 0), groups=2), (4, 8, 9), (6, 4, 9)),
        (Conv(name="x", out_channels=6, kernel=(3, 3), dilation=(2, 2)), (4, 8, 9), (6, 4, 5)),
        (Conv(name="x", out_channels=6, kernel=(11, 11), stride=(4, 4)), (3, 224, 224), (6, 54, 54)),
        (Conv(name="x", out_channels=6, kernel=(11, 11), stride=(4, 4), rounding="ceil"), (3, 224, 224), (6, 55, 55)),
        (Pool(name="x", mode="max", kernel=(3, 3), stride=(2, 2)), (4, 8, 8), (4, 4, 4)),
        (Pool(name="x", mode="max", kernel=(3, 3), stride=(2, 2), rounding="floor"), (4, 8, 8), (4, 3, 3)),
        # Caffe: a window that would start at size + pad is dropped, if either pad is not zero, on both axes.
        (Pool(name="x", mode="max", kernel=(2, 2), stride=(2, 2), pad=(1, 1)), (1, 7, 7), (1, 4, 4)),
        (Pool(name="x", mode="max", kernel=(2, 1), stride=(2, 2), pad=(1, 0)), (1, 7, 8), (1, 4, 4)),
        (Pool(name="x", mode="max", kernel=(2, 1), stride=(2, 2)), (1, 8, 8), (1, 4, 5)),
        (Pool(name="x", mode="ave", global_pool=True), (4, 8, 9), (4, 1, 1)),
        (Dense(name="x", out_features=5), (4, 8, 9), (5,)),
        (Dense(name="x", out_features=5, axis=2), (4, 8, 9), (4, 5)),
        (Dense(name="x", out_features=5, axis=-1), (4, 8, 9), (4, 8, 5)),
        (Flatten(name="x"), (4, 8, 9), (288,)),
        (Flatten(name="x", axis=2), (4, 8, 9), (4, 72)),
        (Flatten(name="x", end_axis=2), (4, 8, 9), (32, 9)),
        (Conv(name="x", out_channels=4, kernel=(9, 3), stride=(2, 1), dilation=(1, 3)), (4, 8, 9), (4, 1, 3)),
        (Slice(name="x", start=1, stop=3), (4, 8, 9), (2, 8, 9)),
        (Slice(name="x", start=1, stop=3, axis=-1), (4, 8, 9), (4, 8, 2)),
        (LRN(name="x", size=5, alpha=1.0, beta=1.0, towers=2), (4, 8, 9), (4, 8, 9)),
        (Softmax(name="x", axis=-2), (4, 8, 9), (4, 8, 9)),
    ],
)
def test_output_shapes(layer: Layer, shape: Shape, expected: Shape) -> None:
    assert _out(layer, shape) == expected


def test_a_window_tells_what_it_reads_outside() -> None:
    code = Conv(name="x", out_channels=1, kernel=(11, 11), stride=(4, 4), rounding="ceil")
    assert window(code, (3, 224, 224)).after == (3, 3)  # the 2012 code reads three rows of zeros
    unread = Conv(name="x", out_channels=1, kernel=(2, 2), stride=(4, 4))
    assert window(unread, (1, 8, 8)).after == (-2, -2)


def test_parameters_of_every_kind() -> None:
    spec = _spec(
        Conv(name="conv", out_channels=6, kernel=(3, 2), groups=2, bias=False),
        BatchNorm(name="bn"),
        Scale(name="scale", bias=True),
        Scale(name="wide", axis=1, num_axes=-1),
        Bias(name="bias", axis=2, num_axes=1),
        Dense(name="fc", out_features=3),
    )
    assert parameter_shapes(spec) == {
        "conv.weight": (6, 2, 3, 2),
        "bn.mean": (6,),
        "bn.variance": (6,),
        "scale.weight": (6,),
        "scale.bias": (6,),
        "wide.weight": (6, 6, 7),
        "bias.bias": (6,),
        "fc.weight": (3, 252),
        "fc.bias": (3,),
    }


def test_several_inputs() -> None:
    spec = _spec(
        ReLU(name="a", inputs=("data",)),
        ReLU(name="b", inputs=("data",)),
        Concat(name="all", inputs=("a", "b")),
        Concat(name="batch", inputs=("a", "b"), axis=0),
        Eltwise(name="sum", inputs=("a", "batch"), coeffs=(1.0, 2.0)),
    )
    shapes = activation_shapes(spec)
    assert shapes["all"] == (8, 8, 8) and shapes["batch"] == (4, 8, 8) and shapes["sum"] == (4, 8, 8)
    two = _spec(Scale(name="x", inputs=("data", "factor"), axis=0), more=[Input(name="factor", shape=(4,))])
    assert activation_shapes(two)["x"] == (4, 8, 8) and parameter_shapes(two) == {}


@pytest.mark.parametrize(
    ("layers", "name", "word"),
    [
        ([Conv(name="x", out_channels=4, kernel=(9, 9))], "x", "kernel reaches over 9"),
        ([Conv(name="x", out_channels=4, kernel=(10, 8), stride=(2, 1))], "x", "kernel reaches over 10"),
        ([Conv(name="x", out_channels=4, kernel=(3, 3), dilation=(4, 4))], "x", "kernel reaches over 9"),
        ([Conv(name="x", out_channels=4, kernel=(3, 3), groups=3)], "x", "groups"),
        ([Conv(name="x", out_channels=5, kernel=(3, 3), groups=2)], "x", "groups"),
        ([Conv(name="x", out_channels=0, kernel=(3, 3))], "x", "groups"),
        ([Conv(name="x", out_channels=4, kernel=(0, 3))], "x", "at least 1"),
        ([Conv(name="x", out_channels=4, kernel=(3, 3), stride=(0, 1))], "x", "at least 1"),
        ([Conv(name="x", out_channels=4, kernel=(3, 3), pad=(-1, 0))], "x", "at least 0"),
        ([Dense(name="fc", out_features=4), Conv(name="x", out_channels=4, kernel=(1, 1))], "x", "C x H x W"),
        ([Pool(name="x", mode="max", kernel=(2, 2), pad=(2, 2))], "x", "smaller than"),
        ([Pool(name="x", mode="max", kernel=(9, 9))], "x", "kernel reaches over 9"),
        ([Dense(name="x", out_features=0)], "x", "out_features"),
        ([Dense(name="x", out_features=3, axis=5)], "x", "axis 5"),
        ([LRN(name="x", size=4, alpha=1.0, beta=1.0)], "x", "odd"),
        ([LRN(name="x", size=5, alpha=1.0, beta=1.0, towers=3)], "x", "towers"),
        ([Dropout(name="x", ratio=1.0)], "x", "ratio"),
        ([Slice(name="x", start=2, stop=5)], "x", "2:5"),
        ([Softmax(name="x", axis=4)], "x", "axis 4"),
        ([Deconv(name="x", out_channels=4, kernel=(3, 3), groups=3)], "x", "groups"),
        ([Deconv(name="x", out_channels=4, kernel=(1, 1), pad=(4, 4))], "x", "leaves nothing"),
        ([Unary(name="x", function="elu")], "x", "takes 1 numbers"),
        ([Unary(name="x", function="log", numbers=(1.0, 1.0, 0.0))], "x", "cannot be 1"),
        ([Unary(name="x", function="exp", numbers=(-2.0, 1.0, 0.0))], "x", "must be positive"),
        ([Reshape(name="x", dims=(0, 3, -1))], "x", "as many numbers"),
        ([Reshape(name="x", dims=(1, -1))], "x", "an item of the batch"),
        ([Reshape(name="x", dims=(0, -1, -1))], "x", "or once -1"),
        ([Reshape(name="x", dims=(2,), axis=2, num_axes=3)], "x", "do not exist"),
        ([Permute(name="x", order=(0, 1, 1))], "x", "twice"),
        ([Permute(name="x", order=(1, 0))], "x", "moves the batch"),
        ([Tile(name="x", tiles=0, axis=0)], "x", "at least 1"),
        ([Crop(name="x", inputs=("data", "data"), offsets=(1,))], "x", "reach past"),
        ([Shuffle(name="x", groups=3)], "x", "groups"),
        ([Interp(name="x", pad_beg=-4, pad_end=-4)], "x", "leave something"),
        ([Reduction(name="x")], "x", "batch"),
        ([ArgMax(name="x", top_k=9, axis=2)], "x", "1 to 8"),
        ([Axpy(name="x", inputs=("data", "data", "data"))], "x", "a x + y"),
        ([Axpy(name="x")], "x", "three activations"),
        ([Flatten(name="x", axis=3, end_axis=2)], "x", "flatten"),
        ([Scale(name="x", axis=0)], "x", "batch"),
        ([Scale(name="x", axis=3, num_axes=2)], "x", "num_axes"),
        ([ReLU(name="x", inputs=("nothing",))], "x", "'nothing'"),
        ([ReLU(name="x", inputs=("y",)), ReLU(name="y", inputs=("data",))], "x", "listed after"),
        ([ReLU(name="x", inputs=("z",)), ReLU(name="y"), ReLU(name="z")], "x", "cycle: x -> z -> y -> x"),
        ([ReLU(name="x"), ReLU(name="x")], "x", "twice"),
        ([ReLU(name="data")], "data", "twice"),
        ([ReLU(name="x", inputs=("data", "data"))], "x", "one activation"),
        ([Eltwise(name="x", inputs=("data", "p")), ReLU(name="p")], "x", "cycle"),
        ([Pool(name="p", mode="max", kernel=(2, 2)), Eltwise(name="x", inputs=("data", "p"))], "x", "differ"),
        ([Pool(name="p", mode="max", kernel=(2, 2)), Concat(name="x", inputs=("data", "p"))], "x", "do not join"),
        ([Eltwise(name="x", inputs=("data", "data"), coeffs=(1.0,))], "x", "coefficients"),
    ],
)
def test_an_impossible_network_is_refused_by_layer(layers: list[Layer], name: str, word: str) -> None:
    with pytest.raises(SpecError) as caught:
        activation_shapes(_spec(*layers))
    assert caught.value.layer == name
    assert word in str(caught.value) and "\n" not in str(caught.value)


def test_impossible_inputs() -> None:
    with pytest.raises(SpecError, match="positive"):
        activation_shapes(_spec(ReLU(name="x"), shape=(0, 4, 4)))
    with pytest.raises(SpecError, match="no input"):
        activation_shapes(ModelSpec(name="net", title="", inputs=(), layers=(ReLU(name="x", inputs=("data",)),)))


def test_the_first_layer_that_does_not_fit_is_named() -> None:
    with pytest.raises(SpecError, match="'pool2'"):
        activation_shapes(model("alexnet").with_input_size(20))
