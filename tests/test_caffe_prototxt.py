"""Prototxts of every dialect in; errors that name line and layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo import reference
from zoo.errors import FileFormatError, UnsupportedError, ZooError
from zoo.frameworks.caffe import CaffeNet, parse_prototxt, read_prototxt
from zoo.layers import (
    LRN,
    BatchNorm,
    Concat,
    Constant,
    Conv,
    Dense,
    Dropout,
    Input,
    Interp,
    Pool,
    Power,
    ReLU,
    Reshape,
    Slice,
    Softmax,
    TanH,
    Unpool,
)
from zoo.shapes import activation_shapes, parameter_shapes
from zoo.wire.prototxt import Message, PrototxtError, Word, dumps, parse

INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 4 dim: 12 dim: 12 } } }\n'


def read(text: str) -> CaffeNet:
    return parse_prototxt(text, Path("net.prototxt"))


def layers(*texts: str) -> CaffeNet:
    return read(INPUT + "".join(f"layer {{ {text} }}\n" for text in texts))


def test_text_format_in_all_its_forms() -> None:
    message = parse("""
        # a comment
        a: 1, b: -2.5e1; c: "x\\n\\"y\\"" 'z' d: WORD e: [1, 2, 0x10] e: 010
        f { g: true } f < g: f >  h: { i: .5f } j: - 3 k: [] l: "\\101\\x42"
    """)
    assert message.integer("a", 0) == 1
    assert message.number("b", 0) == -25.0
    assert message.string("c") == 'x\n"y"z'
    assert message.fields["d"] == [Word("WORD")]
    assert message.integers("e") == [1, 2, 16, 8]
    assert [block.flag("g", False) for block in message.messages("f")] == [True, False]
    assert message.message("h").number("i", 0) == 0.5
    assert message.integer("j", 0) == -3
    assert message.integers("k") == []
    assert message.string("l") == "AB"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a: 1\nb 2", "line 2: expected ':' or '{' after b, got 2"),
        ("a {\n b: 1\n", "line 3: expected a field name, got the end of the file"),
        ("a: \n\n}", "line 3: expected a value, got }"),
        ('a: "b\n"', "line 1: cannot read '\"b\\n\"'"),
        ("a: [1 2]", "line 1: expected ',' or ']', got 2"),
        ("}", "line 1: expected a field name, got }"),
        ("a { > }", "line 1: expected a field name, got >"),
        ("a{" * 100, "line 1: blocks are nested deeper than 32"),
        (r'a: "\8"', r'line 1: unknown escape \8 in "\8"'),
        (f"a: {'9' * 5000}", "line 1: a number of more than 64 digits"),
    ],
)
def test_malformed_text_is_refused_with_its_line(text: str, error: str) -> None:
    with pytest.raises(PrototxtError) as caught:
        parse(text)
    assert str(caught.value) == error


@given(st.text(alphabet='ab: {}<>[],;"\\#0.9e-\n', max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        again = parse(dumps(parse(text)))
    except PrototxtError as error:
        assert str(error).startswith("line ")
    else:
        assert dumps(again) == dumps(parse(text))


def test_printing_is_the_inverse_of_parsing() -> None:
    message = Message().add("name", 'a "b" \\ c\n').add("x", 0.1, 2, 1e-5, -3.0).add("e", Word("MAX"))
    message.add("long", Message().add("value", *range(60))).add("empty", Message())
    again = parse(dumps(message))
    assert dumps(again) == dumps(message)
    assert again.string("name") == 'a "b" \\ c\n' and again.numbers("x") == [0.1, 2, 1e-5, -3]


def test_layers_in_place_have_activations_of_their_own() -> None:
    net = layers(
        'name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 2 kernel_size: 3 }',
        'name: "r" type: "ReLU" bottom: "c" top: "c" relu_param { negative_slope: 0.1 }',
        'name: "d" type: "Dropout" bottom: "c" top: "c"',
        'name: "s" type: "Split" bottom: "c" top: "c_0" top: "c_1"',
        'name: "j" type: "Concat" bottom: "c_0" bottom: "c_1" top: "j" concat_param { concat_dim: 2 }',
    )
    assert net.spec.layers == (
        Conv(name="c", out_channels=2, kernel=(3, 3)),
        ReLU(name="r", negative_slope=0.1),
        Dropout(name="d"),
        Concat(name="j", inputs=("d", "d"), axis=2),
    )


def test_every_way_to_write_a_window() -> None:
    net = layers(
        'name: "a" type: "Convolution" bottom: "data" top: "a"'
        " convolution_param { num_output: 4 kernel_h: 3 kernel_w: 1 stride_h: 1 stride_w: 2 pad_h: 1 group: 2"
        " dilation: 2 dilation: 1 bias_term: false weight_filler { type: 'xavier' } engine: CAFFE }",
        'name: "b" type: "Convolution" bottom: "a" top: "b"'
        " convolution_param { num_output: 4 kernel_size: 3 kernel_size: 1 stride: 1 pad: 1 pad: 0 }",
        'name: "p" type: "Pooling" bottom: "b" top: "p" pooling_param { pool: AVE kernel_size: 2 round_mode: FLOOR }',
        'name: "g" type: "Pooling" bottom: "p" top: "g" pooling_param { pool: MAX global_pooling: true }',
    )
    assert net.spec.layers == (
        Conv(name="a", out_channels=4, kernel=(3, 1), stride=(1, 2), pad=(1, 0), dilation=(2, 1), groups=2, bias=False),
        Conv(name="b", out_channels=4, kernel=(3, 1), pad=(1, 0)),
        Pool(name="p", mode="ave", kernel=(2, 2), rounding="floor"),
        Pool(name="g", mode="max", global_pool=True),
    )


def test_slices_are_named_after_their_tops_and_silence_drops_them() -> None:
    net = layers(
        'name: "s" type: "Slice" bottom: "data" top: "x" top: "y" top: "z"'
        " slice_param { slice_point: 1 slice_point: 3 }",
        'name: "quiet" type: "Silence" bottom: "x"',
        'name: "n" type: "LRN" bottom: "y" top: "n" lrn_param { norm_region: WITHIN_CHANNEL k: 5 local_size: 3 }',
        'name: "b" type: "BatchNorm" bottom: "z" top: "b" batch_norm_param { use_global_stats: false eps: 0.1 }',
    )
    assert net.spec.layers == (
        Slice(name="y", start=1, stop=3),
        Slice(name="z", inputs=("data",), start=3, stop=4),
        LRN(name="n", inputs=("y",), size=3, alpha=1.0, beta=0.75, k=1.0, region="within"),
        BatchNorm(name="b", inputs=("z",), eps=0.1, batch_stats=True),
    )
    assert net.omitted == ()


V1 = """
name: "old"
input: "a" input: "b"
input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8
input_dim: 1 input_dim: 2 input_dim: 8 input_dim: 8
layers { name: "join" type: CONCAT bottom: "a" bottom: "b" top: "join" concat_param { concat_dim: 1 } }
layers { name: "ip" type: INNER_PRODUCT bottom: "join" top: "ip" blobs_lr: 1 inner_product_param { num_output: 5 } }
layers { name: "prob" type: SOFTMAX bottom: "ip" top: "prob" include { phase: TEST } }
layers { name: "loss" type: SOFTMAX_LOSS bottom: "ip" bottom: "label" include { phase: TRAIN } }
"""
V0 = """
name: "older"
layers { layer { name: "data" type: "data" source: "x" batchsize: 5 cropsize: 20 mirror: true }
  top: "data" top: "label" }
layers { layer { name: "pad1" type: "padding" pad: 2 } bottom: "data" top: "pad1" }
layers { layer { name: "conv1" type: "conv" num_output: 4 kernelsize: 5 stride: 2 group: 1 biasterm: false
  weight_filler { type: "gaussian" std: 0.01 } blobs_lr: 1. weight_decay: 1. } bottom: "pad1" top: "conv1" }
layers { layer { name: "relu1" type: "relu" } bottom: "conv1" top: "conv1" }
layers { layer { name: "norm1" type: "lrn" local_size: 3 alpha: 0.0001 beta: 0.75 } bottom: "conv1" top: "norm1" }
layers { layer { name: "pool1" type: "pool" pool: MAX kernelsize: 3 stride: 2 } bottom: "norm1" top: "pool1" }
layers { layer { name: "fc" type: "innerproduct" num_output: 7 } bottom: "pool1" top: "fc" }
layers { layer { name: "drop" type: "dropout" dropout_ratio: 0.3 } bottom: "fc" top: "fc" }
layers { layer { name: "loss" type: "softmax_loss" } bottom: "fc" bottom: "label" }
"""


def test_the_dialect_of_2014() -> None:
    net = read(V1)
    assert net.spec.name == "old"
    assert net.spec.inputs == (Input(name="a", shape=(3, 8, 8)), Input(name="b", shape=(2, 8, 8)))
    assert net.spec.layers == (
        Concat(name="join", inputs=("a", "b")),
        Dense(name="ip", out_features=5),
        Softmax(name="prob"),
    )


def test_the_dialect_of_2013() -> None:
    net = read(V0)
    assert net.spec.inputs == (Input(name="data", shape=(3, 20, 20)),)
    assert net.spec.layers == (
        Conv(name="conv1", out_channels=4, kernel=(5, 5), stride=(2, 2), pad=(2, 2), bias=False),
        ReLU(name="relu1"),
        LRN(name="norm1", size=3, alpha=1e-4, beta=0.75),
        Pool(name="pool1", mode="max", kernel=(3, 3), stride=(2, 2)),
        Dense(name="fc", out_features=7),
        Dropout(name="drop", ratio=0.3),
    )
    assert net.omitted == ("loss (SoftmaxWithLoss)",)
    assert "3 assumed" in net.notes[0]


def test_phases_stages_and_levels() -> None:
    def relu(name: str, rule: str) -> str:
        return f'name: "{name}" type: "ReLU" bottom: "data" top: "{name}" {rule}'

    kept = layers(
        relu("a", "include { phase: TEST }"),
        relu("b", "include { phase: TRAIN }"),
        relu("c", "exclude { phase: TRAIN }"),
        relu("d", "exclude { phase: TEST }"),
        relu("e", "include { phase: TRAIN } include { min_level: 0 not_stage: 'x' }"),
        relu("f", "include { stage: 'x' }"),
        relu("g", "include { min_level: 1 }"),
    )
    assert [layer.name for layer in kept.spec.layers] == ["a", "c", "e"]
    staged = relu("f", "include { stage: 'x' }")
    with_state = read(f"state {{ level: 1 stage: 'x' }} {INPUT} layer {{ {staged} }}")
    assert [layer.name for layer in with_state.spec.layers] == ["f"]


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        ('type: "MemoryData" memory_data_param { batch_size: 5 channels: 2 height: 9 width: 8 }', (2, 9, 8)),
        ('type: "DummyData" dummy_data_param { shape { dim: 5 dim: 2 dim: 9 dim: 8 } }', (2, 9, 8)),
        ('type: "DummyData" dummy_data_param { num: 5 channels: 2 height: 9 width: 8 }', (2, 9, 8)),
        ('type: "Data" data_param { source: "x" } transform_param { crop_size: 9 }', (3, 9, 9)),
        ('type: "Data" data_param { crop_size: 9 }', (3, 9, 9)),
        ('type: "ImageData" image_data_param { is_color: false } transform_param { crop_size: 9 }', (1, 9, 9)),
    ],
)
def test_data_layers_become_inputs(data: str, shape: tuple[int, ...]) -> None:
    relu = 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" }'
    net = read(f'layer {{ name: "d" {data} top: "data" top: "label" }} {relu}')
    assert net.spec.inputs == (Input(name="data", shape=shape),)
    assert "became the input 'data'" in net.notes[0]


def test_everything_outside_the_vocabulary_is_named_at_once() -> None:
    with pytest.raises(UnsupportedError) as caught:
        layers(
            'name: "a" type: "LSTM" bottom: "data" top: "a"',
            'name: "b" type: "Pooling" bottom: "a" top: "b" pooling_param { pool: STOCHASTIC kernel_size: 2 }',
            'name: "c" type: "Python" bottom: "b" top: "c"',
        )
    for words in (
        "net.prototxt: outside the layer vocabulary: layer 'a' (LSTM)",
        "layer 'b' (Pooling): STOCHASTIC",
        "layer 'c' (Python)",
    ):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            'name: "c" type: "Convolution" bottom: "data" top: "c"\nconvolution_param { num_output: 4 kernal_size: 3 }',
            "layer 'c' (Convolution): line 3: unknown field kernal_size in convolution_param",
        ),
        (
            'name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 4 }',
            "kernel_size is missing",
        ),
        (
            'name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 4 kernel_h: 3 }',
            "kernel_h and kernel_w belong together",
        ),
        (
            'name: "p" type: "Pooling" bottom: "data" top: "p"'
            " pooling_param { kernel_size: 2 kernel_h: 3 kernel_w: 3 }",
            "either kernel_size or kernel_h and kernel_w, not both",
        ),
        (
            'name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param { pool: MIN kernel_size: 2 }',
            "one of MAX, AVE",
        ),
        (
            'name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param { global_pooling: true pad: 1 }',
            "no kernel",
        ),
        ('name: "r" type: "ReLU" bottom: "dada" top: "r"', "reads 'dada', which nothing before it makes"),
        ('name: "r" type: "ReLU" bottom: "data" top: "r" colour: 3', "unknown field colour"),
        (
            'name: "i" type: "InnerProduct" bottom: "data" top: "i" inner_product_param { num_output: 2.5 }',
            "whole number",
        ),
        ('name: "d" type: "HDF5Data" top: "d"', "does not say the size of its images"),
        ('name: "s" type: "Slice" bottom: "data" top: "x" top: "y" slice_param { axis: 7 }', "cannot slice axis 7"),
        (
            'name: "e" type: "Eltwise" bottom: "data" bottom: "data" top: "e" eltwise_param { coeff: 1 }',
            "coeff belongs to SUM",
        ),
        ('name: "r" type: "ReLU" bottom: "data" top: "r" include { phase: TEST } exclude { phase: TRAIN }', "not both"),
        ('name: "n" type: "LRN" bottom: "data" top: "data"', "layer 'n' (LRN): line 2: cannot work in place on 'data'"),
    ],
)
def test_a_malformed_layer_is_refused_by_line_or_name(text: str, error: str) -> None:
    with pytest.raises(FileFormatError) as caught:
        layers(text)
    assert error in str(caught.value) and "\n" not in str(caught.value)


SHARED = """
layer {{ name: "a" type: "Power" bottom: "data" top: "a" }}
layer {{ name: "b" type: "{}" bottom: "a" top: "b" }}
layer {{ name: "r" type: "ReLU" bottom: "b" top: "b" }}
"""


@pytest.mark.parametrize("kind", ["Flatten", "Split", "Concat", "Slice"])
def test_what_a_layer_in_place_has_overwritten_cannot_be_read(kind: str) -> None:
    """Caffe's `ShareData`: the ReLU changes `a` as well; nobody may want it afterwards."""
    assert read(INPUT + SHARED.format(kind)).spec.outputs == ("r",)
    with pytest.raises(FileFormatError, match=r"layer 'c' \(TanH\): line \d+: reads 'a' after layer 'r' has worked in"):
        read(INPUT + SHARED.format(kind) + 'layer { name: "c" type: "TanH" bottom: "a" top: "c" }')


def test_enum_values_may_be_numbers() -> None:
    spec = layers(
        'name: "train" type: "ReLU" bottom: "data" top: "data" include { phase: 0 }',
        'name: "test" type: "TanH" bottom: "data" top: "o" include { phase: 1 }',
    ).spec
    assert [layer.name for layer in spec.layers] == ["test"]
    with pytest.raises(UnsupportedError, match="STOCHASTIC"):
        layers('name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param { pool: 2 kernel_size: 2 }')
    with pytest.raises(FileFormatError, match="round_mode must be one of CEIL, FLOOR"):
        layers('name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param { kernel_size: 2 round_mode: 2 }')


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "no network here"),
        ('net: "train_val.prototxt" base_lr: 0.01', "no network here"),
        (INPUT, "no network here"),
        (INPUT + "layers { name: 'r' type: RELU bottom: 'data' top: 'r' }", "'layer' and 'layers' in one file"),
        ('input: "data" input_dim: 1 layer { name: "r" type: "ReLU" bottom: "data" top: "r" }', "4 input_dim each"),
        (INPUT + 'layer { bottom: "data" }', "a layer needs a name and a type"),
        (INPUT + 'layer { name: "r" type: "ReLU" bottom: "data" top: "data" } layer: 3', "must be a { } block"),
    ],
)
def test_what_is_no_network_is_refused(text: str, error: str) -> None:
    with pytest.raises(FileFormatError, match=error.replace("{ }", "..*")):
        read(text)


def test_an_impossible_network_is_refused_by_layer() -> None:
    with pytest.raises(FileFormatError, match=r"net\.prototxt: layer 'c'"):
        layers(
            'name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 4 kernel_size: 99 }'
        )


def test_files_that_are_no_prototxt(tmp_path: Path) -> None:
    for name, content in {"binary": b"\xff\xfe\x00", "large": b" " * (5 << 20)}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FileFormatError, match="is it the caffemodel"):
            read_prototxt(tmp_path / name)
    with pytest.raises(ZooError, match="No such file"):
        read_prototxt(tmp_path / "missing")


def branch(second: str) -> CaffeNet:
    """A convolution, and what reads it."""
    conv = 'name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 4 kernel_size: 3 }'
    return layers(conv, *second.splitlines())


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('name: "r" type: ReLU bottom: "data" top: "r"', "type: ReLU is a word of the old dialect"),
        ('name: "r" type: RELU bottom: "data" top: "r"', "in a 'layer' block it is \"ReLU\""),
        ('name: r type: "ReLU" bottom: "data" top: "r"', "name must be text in quotes, got r"),
        ('name: "p" type: "Power" bottom: "c" top: "p" power_param { shift: inf }', "shift must be a decimal number"),
        ('name: "p" type: "Power" bottom: "c" top: "p" power_param { shift: -1e39 }', "and finite, got -1e+39"),
        ('name: "p" type: "Power" bottom: "c" top: "p" power_param { shift: 0x10 }', "and finite, got 0x10"),
        ('name: "p" type: "Power" bottom: "c" top: "p" power_param { shift: 010 }', "and finite, got 010"),
        ('name: "p" type: "Power" bottom: "c" top: "p" power_param { scale:2shift:1 }', "cannot read '2shift:1 } }"),
        ('name: "l" type: "EuclideanLoss" bottom: "c" bottom: "target" top: "l"', "reads 'target', which nothing"),
        (
            'name: "s" type: "Sigmoid" bottom: "c" top: "s"\nname: "r" type: "ReLU" bottom: "c" top: "c"',
            "layer 'r' (ReLU): line 4: works in place on 'c', which layer 's' reads as well",
        ),
        (
            'name: "a" type: "HDF5Output" bottom: "c" bottom: "data"\nname: "r" type: "ReLU" bottom: "c" top: "c"',
            "works in place on 'c', which layer 'a' reads as well",
        ),
        ('name: "e" type: "Eltwise" bottom: "c" top: "e"', "has one bottom"),
        (
            'name: "b" type: "Bias" bottom: "c" bottom: "c" top: "c" bias_param { axis: 0 }',
            "works in place on 'c', which it reads twice",
        ),
        ('name: "r" type: "ReLU" bottom: "c" top: "r" propagate_down: true propagate_down: false', "2 propagate_down"),
        (
            'name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { kernel_size: 2 pad_h: 1 }',
            "pad_h and pad_w belong together",
        ),
        (
            'name: "s" type: "Slice" bottom: "c" top: "s" slice_param { axis: 1 slice_dim: 1 }',
            "either axis or slice_dim",
        ),
        (
            'name: "f" type: "Flatten" bottom: "c" top: "f"\nname: "n" type: "LRN" bottom: "f" top: "n"',
            "layer 'n' (LRN): line 4: normalises N x C x H x W only",
        ),
        (
            'name: "s" type: "Scale" bottom: "data" bottom: "c" top: "c" scale_param { axis: 0 }',
            "makes 'c', which is made already",
        ),
        (
            'name: "i" type: "Input" top: "i" input_param { shape { dim: 0 dim: 3 } }',
            "the input 'i' must have at most 32 positive sizes, got 0 x 3",
        ),
        (
            'name: "c2" type: "Convolution" bottom: "c" top: "c2"'
            " convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: 'xavier' sdt: 1 } }",
            "unknown field sdt in weight_filler",
        ),
        (
            'name: "c2" type: "Convolution" bottom: "c" top: "c2"'
            ' convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "gausian" } }',
            "weight_filler must be one of constant, gaussian, ",
        ),
        (
            'name: "p" type: "Power" bottom: "c" top: "p" power_param { scale: [2] }',
            "scale is written as a list, and has one value at most",
        ),
        ('name: "d" type: "Dropout" bottom: "c" top: "d" phase: TRAIN', "has phase: TRAIN of its own"),
        ('name: "b" type: "BatchNorm" bottom: "c" top: "b" phase: TRAIN', "has phase: TRAIN of its own"),
        (
            'name: "p" type: "Pooling" bottom: "c" top: "p"'
            " pooling_param { kernel_size: 2 ceil_mode: true round_mode: 0 }",
            "both round_mode and ceil_mode",
        ),
    ],
)
def test_what_caffe_refuses_is_refused(text: str, error: str) -> None:
    with pytest.raises(FileFormatError) as caught:
        branch(text)
    assert error in str(caught.value)


@pytest.mark.parametrize("text", ["nmae: 'x'", "layr { }", "layr: []", "name: x", "name: ['x']", "name: []"])
def test_a_slip_at_the_top_is_refused(text: str) -> None:
    with pytest.raises(FileFormatError, match=r"unknown field (nmae|layr)|name (must be text in quotes|is written as)"):
        read(text + "\n" + INPUT)


def test_what_caffe_runs_is_read() -> None:
    plain = branch('name: "r" type: "ReLU" bottom: "c" top: "r"').spec
    assert branch('name: "r" type: "ReLU" bottom: "c" top: "r" phase: TRAIN').spec == plain
    assert branch('name: "r" type: "ReLU" bottom: "c" top: "r" relu_param { negative_slope: - 0 }').spec == plain
    conv = (
        '{ name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 4 kernel_size: 3 } }'
    )
    relu = '{ name: "r" type: "ReLU" bottom: "c" top: "r" }'
    assert read(f"{INPUT} layer [ {conv}, {relu} ]").spec.layers == plain.layers
    assert read(f'input: "data" {INPUT} layer {conv} layer {relu}').spec == plain
    old = conv.replace('"Convolution"', "4"), relu.replace('"ReLU"', "18")
    head = 'input: "data" input_dim: 1 input_dim: 4 input_dim: 12 input_dim: 12'
    assert read(f"{head} layers {old[0]} layers {old[1]}").spec == plain
    name = layers('name: "\\345\\215\\267\\xc3\\xa9\\u00e9" type: "ReLU" bottom: "data" top: "r"').spec.layers[0].name
    assert name == "\u5377\u00e9\u00e9"
    use_global_stats = "phase: TRAIN batch_norm_param { use_global_stats: true }"
    net = branch(f'name: "b" type: "BatchNorm" bottom: "c" top: "b" {use_global_stats}')
    assert net.spec.layers[-1] == BatchNorm(name="b")


@pytest.mark.parametrize("layer", ['type: "Eltwise"', 'type: "Concat" concat_param { axis: 1 }'])
@pytest.mark.parametrize("second", ["dim: 3 dim: 5", "dim: 4 dim: 5"])
def test_what_is_joined_has_as_many_items(layer: str, second: str) -> None:
    """eltwise_layer.cpp and concat_layer.cpp compare all axes, the batch too."""
    feeds = [
        f'layer {{ name: "{top}" type: "Input" top: "{top}" input_param {{ shape {{ {dims} }} }} }}'
        for top, dims in (("x", "dim: 4 dim: 5"), ("y", second))
    ]
    text = "\n".join([*feeds, f'layer {{ name: "e" {layer} bottom: "x" bottom: "y" top: "e" }}'])
    if second.startswith("dim: 4"):
        assert read(text).spec.layers
    else:
        with pytest.raises(FileFormatError, match="its inputs have 4 and 3 items, expected as many in each"):
            read(text)


@pytest.mark.parametrize(
    ("reshape", "dims"),
    [
        ("shape { dim: 3 dim: -1 }", (3, 4)),
        ("shape { dim: 2 dim: -1 }", (0, -1)),
        ("shape { dim: 1 } num_axes: 0", (1, 2, 6)),
        ("shape { } num_axes: 0", (0, 6)),
        ("shape { dim: -1 dim: 4 }", (-1, 4)),
    ],
)
def test_a_reshape_may_move_the_batch(reshape: str, dims: tuple[int, ...]) -> None:
    """reshape_layer.cpp knows the batch of 2 as a number."""
    feed = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 6 } } }'
    net = read(f'{feed} layer {{ name: "r" type: "Reshape" bottom: "x" top: "r" reshape_param {{ {reshape} }} }}')
    assert net.spec.layers[0] == Reshape(name="r", dims=dims)


@pytest.mark.parametrize(
    ("layer", "shape", "got"),
    [
        ('type: "Flatten" flatten_param { axis: 2 end_axis: 1 }', "dim: 2 dim: 3 dim: 4", (3, 1, 4)),
        ('type: "Flatten" flatten_param { axis: -1 end_axis: -2 }', "dim: 2 dim: 3 dim: 4", (3, 1, 4)),
        ('type: "Flatten" flatten_param { axis: 1 end_axis: 0 }', "dim: 2 dim: 3", (1, 3)),
        ('type: "Reshape"', "dim: 1 dim: 1 dim: 1", ()),
        ('type: "Reshape" reshape_param { num_axes: 1 }', "dim: 1", ()),
    ],
)
def test_axes_may_be_made_of_nothing_and_none_may_be_left(layer: str, shape: str, got: tuple[int, ...]) -> None:
    """blob.hpp: count(i, i) is 1."""
    feed = f'layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ {shape} }} }} }}'
    spec = read(f'{feed} layer {{ name: "r" bottom: "x" top: "r" {layer} }}').spec
    made = activation_shapes(spec)
    assert made["r"] == got
    inputs = {"x": np.ones((1, *spec.inputs[0].shape), np.float32)}
    assert reference.forward(spec, {}, inputs)["r"].shape == (1, *got)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_scalar_scales_and_shifts_a_blob_of_one_axis(axis: int) -> None:
    """scale_layer.cpp never looks at the axis of a scalar; the bias it makes, bias_layer.cpp, does."""
    text = f"""
        layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: 3 }} }} }}
        layer {{ name: "y" type: "Input" top: "y" input_param {{ shape {{ }} }} }}
        layer {{
          name: "s" type: "Scale" bottom: "x" bottom: "y" top: "s" scale_param {{ axis: {axis} bias_term: true }}
        }}
    """
    if axis:
        with pytest.raises(FileFormatError, match=r"layer 's'.*axis 1"):
            read(text)
        return
    net = read(text)
    assert parameter_shapes(net.spec) == {"s.bias": ()}
    fed = {"x": np.array([1, 2, 3], np.float32), "y": np.full(3, 2, np.float32)}
    found = reference.forward(net.spec, {"s.bias": np.array(0.5, np.float32)}, fed)
    assert np.array_equal([*found.values()][-1], [2.5, 4.5, 6.5])


def test_a_dropout_that_scales_at_inference() -> None:
    text = 'name: "d" type: "Dropout" bottom: "c" top: "c" dropout_param { dropout_ratio: 0.6 scale_train: false }'
    net = branch(f'{text}\nname: "r" type: "ReLU" bottom: "c" top: "c"')
    assert net.spec.layers[1:] == (Dropout(name="d_mask", ratio=0.6), Power(name="d", scale=0.4), ReLU(name="r"))
    assert net.notes == ("layer 'd' (Dropout) has scale_train: false: at inference it multiplies by 0.4",)


def test_labels_are_no_inputs() -> None:
    label = 'name: "y" type: "Input" top: "y" input_param { shape { dim: 4 } }'
    column = 'name: "z" type: "Input" top: "z" input_param { shape { dim: 4 dim: 1 } }'
    losses = [f'name: "l{x}" type: "EuclideanLoss" bottom: "c" bottom: "{x}" top: "l{x}"' for x in "yz"]
    net = branch("\n".join([label, column, *losses]))
    assert [source.name for source in net.spec.inputs] == ["data"]
    assert [note.partition(",")[0] for note in net.notes] == [
        "the input 'y' is read in training alone",
        "the input 'z' is read in training alone",
    ]
    read = branch(f'{label}\nname: "r" type: "ReLU" bottom: "y" top: "r"').spec
    assert [(source.name, source.shape) for source in read.inputs] == [("data", (4, 12, 12)), ("y", ())]


def test_dummy_data_of_several_tops() -> None:
    """Constants where something else feeds the network; what is drawn at random stands for data."""
    shapes = "shape { dim: 1 dim: 3 dim: 6 dim: 8 } shape { dim: 1 dim: 2 } "
    shapes += 'data_filler { type: "gaussian" } data_filler { value: 3 }'
    net = layers(
        f'name: "both" type: "DummyData" top: "a" top: "b" dummy_data_param {{ {shapes} }}',
        'name: "r" type: "ReLU" bottom: "a" top: "r"',
        'name: "t" type: "TanH" bottom: "b" top: "t"',
    )
    assert [(source.name, source.shape) for source in net.spec.inputs[1:]] == [("a", (3, 6, 8))]
    assert net.spec.layer("b") == Constant(name="b", inputs=("data",), shape=(2,), value=3.0)


def test_a_layer_of_another_stage_is_named_where_it_is_missed() -> None:
    with pytest.raises(FileFormatError, match="reads 'x', which nothing before it makes; a layer of stage 'deploy'"):
        layers(
            'name: "x" type: "ReLU" bottom: "data" top: "x" include { stage: "deploy" }',
            'name: "r" type: "ReLU" bottom: "x" top: "r"',
        )


def test_weights_in_the_text_are_refused() -> None:
    with pytest.raises(FileFormatError, match="holds blobs, weights written as text"):
        branch('name: "b" type: "Bias" bottom: "c" top: "b" blobs { shape { dim: 4 } data: [1, 2, 3, 4] }')


def test_stages_and_sizes_may_be_given_beside_the_text() -> None:
    text = """
        layer { name: "d" type: "Data" top: "data" top: "label" data_param { source: "x" } }
        layer { name: "r" type: "ReLU" bottom: "data" top: "r" include { stage: "deploy" } }
        layer { name: "t" type: "TanH" bottom: "data" top: "t" include { not_stage: "deploy" } }"""
    net = parse_prototxt(text, Path("net.prototxt"), stages=["deploy"], sizes={"data": (3, 6, 8)})
    assert net.spec.inputs == (Input(name="data", shape=(3, 6, 8)),)
    assert [layer.name for layer in net.spec.layers] == ["r"]
    with pytest.raises(FileFormatError, match=r"give it with --input data=CxHxW"):
        read(text)
    with pytest.raises(FileFormatError, match="nothing feeds date"):
        parse_prototxt(text, Path("net.prototxt"), sizes={"data": (3, 6, 8), "date": (1,)})
    with pytest.raises(FileFormatError, match="unknown stage 'deply'; did you mean deploy"):
        parse_prototxt(text, Path("net.prototxt"), stages=["deply"], sizes={"data": (3, 6, 8)})
    fed = f'{INPUT} layer {{ name: "r" type: "ReLU" bottom: "data" top: "r" }}'
    with pytest.raises(FileFormatError, match="the input 'data' is 4 x 12 x 12 there, not 3 x 6 x 8"):
        parse_prototxt(fed, Path("net.prototxt"), sizes={"data": (3, 6, 8)})
    cropped = text.replace('data_param { source: "x" }', "transform_param { crop_size: 7 }")
    with pytest.raises(FileFormatError, match="says 3 x 7 x 7 itself, not 3 x 6 x 8"):
        parse_prototxt(cropped, Path("net.prototxt"), sizes={"data": (3, 6, 8)})


def test_a_python_layer_is_refused_by_module_and_class() -> None:
    with pytest.raises(
        UnsupportedError, match=r"layer 'p' \(Python\): class Anchors of module rpn.layers is Python code"
    ):
        branch('name: "p" type: "Python" bottom: "c" top: "p" python_param { module: "rpn.layers" layer: "Anchors" }')


@pytest.mark.parametrize(
    ("layer", "word"),
    [
        ('type: "SPP" bottom: "c" top: "x" spp_param { pyramid_height: 5 }', "make no 8 bins a side"),
        ('type: "Tile" bottom: "c" top: "x" tile_param { tiles: 2000000000 }', "are the limit"),
        ('type: "Interp" bottom: "c" top: "x" interp_param { zoom_factor: 100000 }', "are the limit"),
        (
            'type: "Convolution" bottom: "c" bottom: "data" top: "x" convolution_param { num_output: 2 }',
            "2 bottoms and 1 tops",
        ),
        (
            'type: "Pooling" bottom: "c" top: "x" top: "m" pooling_param { pool: AVE kernel_size: 2 }',
            "an average has none",
        ),
        ('type: "BN" bottom: "c" top: "x" bn_param { eps: 0.1 bn_mode: LEARN }', "no Caffe has both"),
        ('type: "Upsample" bottom: "c" bottom: "data" top: "x"', "one shape"),
        (
            'type: "PriorBox" bottom: "c" bottom: "data" top: "x" prior_box_param { min_size: 4 max_size: 3 }',
            "max_size",
        ),
        ('type: "PriorBox" bottom: "c" bottom: "data" top: "x"', "needs min_size"),
        (
            'type: "ROIPooling" bottom: "c" bottom: "data" top: "x" roi_pooling_param { pooled_h: 2 pooled_w: 2 }',
            "regions of 5",
        ),
        ('type: "Slice" bottom: "c" top: "x" top: "y" slice_param { axis: 0 }', "does not divide into 2"),
        ('type: "Scale" bottom: "c" bottom: "data" top: "x" scale_param { axis: 0 }', "does not fit"),
    ],
)
def test_new_kinds_are_refused_where_caffe_refuses_them(layer: str, word: str) -> None:
    with pytest.raises(ZooError, match=word):
        branch(f'name: "x" {layer}')


def test_layers_of_one_name_are_told_apart_unless_they_have_weights() -> None:
    """net.cpp loads by name, into the first that has it."""
    net = branch('name: "r" type: "ReLU" bottom: "c" top: "a"\nname: "r" type: "TanH" bottom: "a" top: "b"')
    assert net.spec.layers[1:] == (ReLU(name="r"), TanH(name="r_2"))
    assert net.notes == ("the name 'r' is used twice: the later layer is 'r_2' here",)
    with pytest.raises(FileFormatError, match="layer 'c' is there twice, and Caffe loads the weights of both into"):
        branch('name: "c" type: "InnerProduct" bottom: "c" top: "i" inner_product_param { num_output: 2 }')


@pytest.mark.parametrize(
    ("layer", "is_taken"),
    [
        ('type: "Concat" bottom: "x" bottom: "y" concat_param { axis: 0 }', False),
        ('type: "Concat" bottom: "y" bottom: "y" concat_param { axis: 0 }', False),
        ('type: "Flatten" bottom: "y" flatten_param { axis: 0 }', False),
        ('type: "Slice" bottom: "y" slice_param { axis: 0 }', False),
        ('type: "Eltwise" bottom: "x" bottom: "y"', False),
        ('type: "Concat" bottom: "t" bottom: "x" concat_param { axis: 0 }', False),
        ('type: "Eltwise" bottom: "y" bottom: "t"', True),
        ('type: "Power" bottom: "t" power_param { scale: 2 }', True),
    ],
)
def test_a_blob_without_axes_goes_where_caffe_lets_it(layer: str, is_taken: bool) -> None:
    """blob.hpp: no axis of such a blob can be named, and no other blob has its shape."""
    text = f"""
        layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: 1 }} }} }}
        layer {{ name: "y" type: "Input" top: "y" input_param {{ shape {{ }} }} }}
        layer {{ name: "t" type: "TanH" bottom: "y" top: "t" }}
        layer {{ name: "z" {layer} top: "z" }}
    """
    if is_taken:
        assert read(text).spec.layers[-1].name == "z"
    else:
        with pytest.raises(FileFormatError, match=r"layer 'z'.* a number without axes; give it some with a Reshape"):
            read(text)


def test_what_is_made_of_labels_alone_is_of_training() -> None:
    net = read("""
        layer { name: "d" type: "Data" top: "data" top: "label" transform_param { crop_size: 6 } }
        layer { name: "s" type: "Slice" bottom: "label" top: "l1" top: "l2" }
        layer { name: "i" type: "InnerProduct" bottom: "data" top: "i" inner_product_param { num_output: 2 } }
        layer { name: "m" type: "MultiBoxLoss" bottom: "i" bottom: "l2" top: "m" multibox_loss_param { } }
        layer { name: "e" type: "Eltwise" bottom: "m" bottom: "m" top: "e" }
    """)
    assert [layer.name for layer in net.spec.layers] == ["i"]
    assert net.omitted == ("s (Slice)", "m (MultiBoxLoss)", "e (Eltwise)")


def test_a_dropout_that_would_leave_nothing_drops_nothing_here() -> None:
    net = branch('name: "d" type: "Dropout" bottom: "c" top: "c" dropout_param { dropout_ratio: 1 }')
    assert net.spec.layers[1:] == (Dropout(name="d", ratio=0.0),)
    assert "here it drops nothing" in net.notes[0]


def test_a_size_may_be_that_of_a_second_blob() -> None:
    net = branch('name: "z" type: "Interp" bottom: "c" bottom: "data" top: "z" interp_param { use_blob_size: true }')
    assert net.spec.layers[-1] == Interp(name="z", size=(12, 12))
    size = "upsample_h: 20 upsample_w: 21 scale: 2"
    mask = 'name: "p" type: "Pooling" bottom: "c" top: "p" top: "m" pooling_param { kernel_size: 2 stride: 2 }'
    net = branch(f'{mask}\nname: "u" type: "Upsample" bottom: "p" bottom: "m" top: "u" upsample_param {{ {size} }}')
    unpool = net.spec.layer("u")
    assert isinstance(unpool, Unpool) and unpool.size == (20, 21)


def test_what_a_fork_called_its_layers_in_the_dialect_of_2014() -> None:
    net = read("""
        input: "x" input_dim: 1 input_dim: 2 input_dim: 6 input_dim: 6
        input: "r" input_dim: 3 input_dim: 5 input_dim: 1 input_dim: 1
        layers { name: "p" type: ROI_POOLING bottom: "x" bottom: "r" top: "p" roi_pooling_param {
          pooled_h: 2 pooled_w: 2 } }
        layers { name: "l" type: SMOOTH_L1_LOSS bottom: "p" bottom: "x" top: "l" }
    """)
    assert [type(layer).__name__ for layer in net.spec.layers] == ["ROIPool"]
    assert net.omitted == ("l (SmoothL1Loss)",)


def test_layers_of_forks_that_are_left_out_may_say_what_they_like() -> None:
    own = 'type: "LaneData" include { phase: TRAIN } lane_data_param { x: 1 }'
    assert len(branch(f'name: "l" {own} top: "l"').spec.layers) == 1
    with pytest.raises(FileFormatError, match="unknown field lane_data_param"):
        branch(f'name: "l" {own.replace("LaneData", "Data")} top: "l"')
    with pytest.raises(FileFormatError, match=r"layer 'a' \(AnnotatedData\): .* give it with --input data=CxHxW"):
        read('layer { name: "a" type: "AnnotatedData" top: "data" annotated_data_param { any: thing } }')


@pytest.mark.parametrize(
    ("layer", "error"),
    [
        ('type: "Accuracy" bottom: "c" top: "x"', "has 1 bottoms; it takes 2"),
        ('type: "Accuracy" bottom: "c" bottom: "data"', "has 0 tops; it takes 1 to 2"),
        ('type: "EuclideanLoss" bottom: "c" bottom: "c" bottom: "c"', "has 3 bottoms; it takes 2"),
        ('type: "Silence" bottom: "c" top: "x"', "has 1 tops; it takes 0"),
        ('type: "Silence" bottom: "c" loss_weight: 1', "has 0 tops and 1 loss_weight"),
        ('type: "Data" top: "x" top: "y" top: "z"', "has 3 tops; it takes 1 to 2"),
        ('type: "Data" bottom: "c" top: "x"', "has 1 bottoms; it takes 0"),
        ('type: "Accuracy" bottom: "c" bottom: "data" top: "c"', "makes 'c', which is made already"),
        ('type: "Data" top: "x" top: "x" transform_param { crop_size: 3 }', "makes 'x', which is made already"),
        ('type: "ImageData" top: "x" transform_param { crop_size: 3 }', "has 1 tops; it takes 2"),
        ('type: "Input" bottom: "c" top: "x" input_param { shape { dim: 1 } }', "has 1 bottoms; it takes 0"),
        ('type: "ReLU" bottom: "c" top: "c" loss_weight: 1 loss_weight: 1', "has 1 tops and 2 loss_weight"),
        ('type: "HingeLoss" bottom: "c" bottom: "c" loss_param { normalise: true }', "unknown field normalise"),
    ],
)
def test_layers_around_a_network_are_held_to_caffes_rules(layer: str, error: str) -> None:
    with pytest.raises(FileFormatError, match=rf"layer 'x' \(\w+\): line \d+: {error}"):
        branch(f'name: "x" {layer}')
