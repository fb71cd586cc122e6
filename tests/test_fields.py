"""Every field that a network file may have is honoured, refused by name, or of no effect on inference by definition.

The tables below hold a row for each field of Caffe's schema; a field added there without a row here fails.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.errors import ZooError
from zoo.frameworks.caffe import CaffeNet, parse_prototxt
from zoo.frameworks.caffe.schema import MESSAGES
from zoo.frameworks.caffe.vocabulary import ROWS

SPATIAL = "kernel_size: 3"
CONV = f"num_output: 2 {SPATIAL}"

VOCABULARY = {row.type: row.block for row in ROWS if row.block}
# All convolutions have one block; of a depthwise one, which says these by its input, two fields are not looked at.
CONVOLUTIONS = ("Convolution", "Deconvolution", "DepthwiseConvolution")
DEPTHWISE = ("num_output", "group")
CONVOLUTION = {
    "num_output": (CONV, f"num_output: 4 {SPATIAL}"),
    "kernel_size": (CONV, "num_output: 2 kernel_size: 2"),
    "kernel_h": ("num_output: 2 kernel_h: 3 kernel_w: 3", "num_output: 2 kernel_h: 2 kernel_w: 3"),
    "kernel_w": ("num_output: 2 kernel_h: 3 kernel_w: 3", "num_output: 2 kernel_h: 3 kernel_w: 2"),
    "pad": (CONV, f"{CONV} pad: 1"),
    "pad_h": (CONV, f"{CONV} pad_h: 1"),
    "pad_w": (CONV, f"{CONV} pad_w: 1"),
    "stride": (CONV, f"{CONV} stride: 2"),
    "stride_h": (f"{CONV} stride_h: 1 stride_w: 1", f"{CONV} stride_h: 2 stride_w: 1"),
    "stride_w": (f"{CONV} stride_h: 1 stride_w: 1", f"{CONV} stride_h: 1 stride_w: 2"),
    "dilation": (CONV, f"{CONV} dilation: 2"),
    "group": (CONV, f"{CONV} group: 2"),
    "bias_term": (CONV, f"{CONV} bias_term: false"),
}
# (type, field) -> the block without it, and the block with another value than the default.
HONOURED = {
    **{(kind, field): blocks for kind in CONVOLUTIONS for field, blocks in CONVOLUTION.items()},
    **{("ConvolutionDepthwise", field): blocks for field, blocks in CONVOLUTION.items() if field not in DEPTHWISE},
    ("InnerProduct", "num_output"): ("num_output: 2", "num_output: 3"),
    ("InnerProduct", "bias_term"): ("num_output: 2", "num_output: 2 bias_term: false"),
    ("InnerProduct", "axis"): ("num_output: 2", "num_output: 2 axis: 2"),
    ("InnerProduct", "transpose"): ("num_output: 2", "num_output: 2 transpose: true"),
    ("Pooling", "pool"): (SPATIAL, f"{SPATIAL} pool: AVE"),
    ("Pooling", "kernel_size"): (SPATIAL, "kernel_size: 2"),
    ("Pooling", "kernel_h"): ("kernel_h: 3 kernel_w: 3", "kernel_h: 2 kernel_w: 3"),
    ("Pooling", "kernel_w"): ("kernel_h: 3 kernel_w: 3", "kernel_h: 3 kernel_w: 2"),
    ("Pooling", "pad"): (SPATIAL, f"{SPATIAL} pad: 1"),
    ("Pooling", "pad_h"): (f"{SPATIAL} pad_h: 0 pad_w: 0", f"{SPATIAL} pad_h: 1 pad_w: 0"),
    ("Pooling", "pad_w"): (f"{SPATIAL} pad_h: 0 pad_w: 0", f"{SPATIAL} pad_h: 0 pad_w: 1"),
    ("Pooling", "stride"): (SPATIAL, f"{SPATIAL} stride: 2"),
    ("Pooling", "stride_h"): (f"{SPATIAL} stride_h: 1 stride_w: 1", f"{SPATIAL} stride_h: 2 stride_w: 1"),
    ("Pooling", "stride_w"): (f"{SPATIAL} stride_h: 1 stride_w: 1", f"{SPATIAL} stride_h: 1 stride_w: 2"),
    ("Pooling", "global_pooling"): (SPATIAL, "global_pooling: true"),
    ("Pooling", "round_mode"): (SPATIAL, f"{SPATIAL} round_mode: FLOOR"),
    ("Pooling", "ceil_mode"): (SPATIAL, f"{SPATIAL} ceil_mode: false"),
    ("LRN", "local_size"): ("", "local_size: 3"),
    ("LRN", "alpha"): ("", "alpha: 0.5"),
    ("LRN", "beta"): ("", "beta: 0.5"),
    ("LRN", "k"): ("", "k: 2"),
    ("LRN", "norm_region"): ("", "norm_region: WITHIN_CHANNEL"),
    ("ReLU", "negative_slope"): ("", "negative_slope: 0.1"),
    ("MVN", "normalize_variance"): ("", "normalize_variance: false"),
    ("MVN", "across_channels"): ("", "across_channels: true"),
    ("MVN", "eps"): ("", "eps: 0.1"),
    ("Reshape", "shape"): ("shape { dim: 0 dim: 0 dim: -1 }", "shape { dim: 0 dim: -1 }"),
    ("Reshape", "axis"): ("shape { dim: 0 dim: 0 dim: -1 }", "shape { dim: 4 dim: -1 } axis: 1"),
    ("Reshape", "num_axes"): ("shape { dim: 0 dim: 0 dim: -1 }", "shape { dim: 0 dim: 2 dim: 2 } num_axes: 2"),
    ("Permute", "order"): ("order: 0", "order: 0 order: 2"),
    ("Tile", "tiles"): ("tiles: 2", "tiles: 3"),
    ("Tile", "axis"): ("tiles: 2", "tiles: 2 axis: 2"),
    ("Interp", "height"): ("height: 9 width: 9", "height: 8 width: 9"),
    ("Interp", "width"): ("height: 9 width: 9", "height: 9 width: 8"),
    ("Interp", "zoom_factor"): ("zoom_factor: 2", "zoom_factor: 3"),
    ("Interp", "shrink_factor"): ("zoom_factor: 2", "zoom_factor: 2 shrink_factor: 2"),
    ("Interp", "pad_beg"): ("zoom_factor: 2", "zoom_factor: 2 pad_beg: -1"),
    ("Interp", "pad_end"): ("zoom_factor: 2", "zoom_factor: 2 pad_end: -1"),
    ("Reduction", "operation"): ("axis: 1", "axis: 1 operation: MEAN"),
    ("Reduction", "axis"): ("axis: 1", "axis: 2"),
    ("Reduction", "coeff"): ("axis: 1", "axis: 1 coeff: 2"),
    ("ArgMax", "out_max_val"): ("", "out_max_val: true"),
    ("ArgMax", "top_k"): ("", "top_k: 2"),
    ("ArgMax", "axis"): ("", "axis: 1"),
    ("Normalize", "across_spatial"): ("", "across_spatial: false"),
    ("Normalize", "channel_shared"): ("", "channel_shared: false"),
    ("Normalize", "eps"): ("", "eps: 0.1"),
    ("Crop", "axis"): ("", "axis: 3"),
    ("Crop", "offset"): ("", "offset: 0"),
    ("ShuffleChannel", "group"): ("", "group: 2"),
    ("PReLU", "channel_shared"): ("", "channel_shared: true"),
    ("Clip", "min"): ("min: 0 max: 1", "min: -1 max: 1"),
    ("Clip", "max"): ("min: 0 max: 1", "min: 0 max: 2"),
    ("ELU", "alpha"): ("", "alpha: 2"),
    ("Exp", "base"): ("", "base: 2"),
    ("Exp", "scale"): ("", "scale: 2"),
    ("Exp", "shift"): ("", "shift: 2"),
    ("Log", "base"): ("", "base: 2"),
    ("Log", "scale"): ("", "scale: 2"),
    ("Log", "shift"): ("", "shift: 2"),
    ("Swish", "beta"): ("", "beta: 2"),
    ("Threshold", "threshold"): ("", "threshold: 2"),
    ("Power", "power"): ("", "power: 2"),
    ("Power", "scale"): ("", "scale: 2"),
    ("Power", "shift"): ("", "shift: 2"),
    ("Dropout", "dropout_ratio"): ("", "dropout_ratio: 0.4"),
    ("Dropout", "scale_train"): ("", "scale_train: false"),
    ("Softmax", "axis"): ("", "axis: 2"),
    ("Flatten", "axis"): ("", "axis: 2"),
    ("Flatten", "end_axis"): ("", "end_axis: 2"),
    ("Concat", "axis"): ("", "axis: 2"),
    ("Concat", "concat_dim"): ("", "concat_dim: 2"),
    ("Slice", "axis"): ("", "axis: 2"),
    ("Slice", "slice_dim"): ("", "slice_dim: 2"),
    ("Slice", "slice_point"): ("", "slice_point: 1"),
    ("Eltwise", "operation"): ("", "operation: MAX"),
    ("Eltwise", "coeff"): ("", "coeff: 1 coeff: -1"),
    ("Scale", "axis"): ("", "axis: 2"),
    ("Scale", "num_axes"): ("", "num_axes: 2"),
    ("Scale", "bias_term"): ("", "bias_term: true"),
    ("Bias", "axis"): ("", "axis: 2"),
    ("Bias", "num_axes"): ("", "num_axes: 2"),
    ("BatchNorm", "use_global_stats"): ("", "use_global_stats: false"),
    ("BatchNorm", "eps"): ("", "eps: 0.1"),
}
# (type, field) -> a block that is refused, and the word of the refusal.
REFUSED = {(kind, "axis"): (f"{CONV} axis: 2", "axis 1") for kind in (*CONVOLUTIONS, "ConvolutionDepthwise")}

FILLER = 'type: "gaussian" std: 0.5'
# Fields that change nothing at inference, by Caffe's own definition -> why, and a value other than the default.
WITHOUT_EFFECT = {
    "num_output": ("its channels are the input's", "num_output: 7"),
    "group": ("its groups are the input's channels", "group: 7"),
    "engine": ("which library computes it", "engine: CAFFE"),
    "force_nd_im2col": ("which routine computes it", "force_nd_im2col: true"),
    "weight_filler": ("initial values, overwritten by the weights", f"weight_filler {{ {FILLER} }}"),
    "bias_filler": ("initial values, overwritten by the weights", f"bias_filler {{ {FILLER} }}"),
    "scale_filler": ("initial values, overwritten by the weights", f"scale_filler {{ {FILLER} }}"),
    "filler": ("initial values, overwritten by the weights", f"filler {{ {FILLER} }}"),
    "moving_average_fraction": ("how training averages statistics", "moving_average_fraction: 0.5"),
    "stable_prod_grad": ("how the gradient is computed", "stable_prod_grad: false"),
}


def read(layers: str, head: str = "") -> CaffeNet:
    shape = "input_param { shape { dim: 1 dim: 4 dim: 6 dim: 6 } }"
    inputs = "".join(f'layer {{ name: "{x}" type: "Input" top: "{x}" {shape} }}\n' for x in ("data", "more"))
    return parse_prototxt(
        f'{head}\n{inputs}{layers}layer {{ name: "end" type: "TanH" bottom: "more" top: "end" }}', PATH
    )


PATH = Path("net.prototxt")


def one(kind: str, block: str, more: str = "", tops: str = "") -> CaffeNet:
    """A network of one layer of a kind with this parameter block, and `more` beside the block."""
    bottoms = 'bottom: "data" bottom: "more"' if kind in ("Concat", "Crop", "Eltwise") else 'bottom: "data"'
    tops = tops or ('top: "x" top: "y"' if kind == "Slice" else 'top: "x"')
    return read(f'layer {{ name: "x" type: "{kind}" {bottoms} {tops} {more} {VOCABULARY[kind]} {{ {block} }} }}\n')


def base(kind: str) -> str:
    return {
        "Convolution": CONV,
        "InnerProduct": "num_output: 2",
        "Pooling": SPATIAL,
        "Deconvolution": CONV,
        "DepthwiseConvolution": CONV,
        "ConvolutionDepthwise": SPATIAL,
        "Tile": "tiles: 2",
        "Interp": "zoom_factor: 2",
        "Reduction": "axis: 1",
    }.get(kind, "")


FIELDS = [
    (kind, field) for kind, block in VOCABULARY.items() for field in MESSAGES[MESSAGES["LayerParameter"][block][0]]
]


@pytest.mark.parametrize(("kind", "field"), FIELDS)
def test_every_field_of_a_block(kind: str, field: str) -> None:
    if (kind, field) in REFUSED:
        block, word = REFUSED[kind, field]
        with pytest.raises(ZooError, match=word):
            one(kind, block)
    elif (kind, field) in HONOURED:
        plain, changed = (one(kind, block) for block in HONOURED[kind, field])
        assert (plain.spec, plain.transposed) != (changed.spec, changed.transposed)
    else:
        _, text = WITHOUT_EFFECT[field]
        assert one(kind, f"{base(kind)} {text}") == one(kind, base(kind))


def test_the_tables_know_no_field_that_caffe_does_not() -> None:
    assert {*HONOURED, *REFUSED} <= set(FIELDS)
    assert not set(HONOURED) & set(REFUSED)
    assert set(WITHOUT_EFFECT) <= {field for _, field in FIELDS}


@pytest.mark.parametrize("kind", VOCABULARY)
def test_an_unknown_field_of_any_block_is_refused(kind: str) -> None:
    with pytest.raises(ZooError, match=f"unknown field nmae in {VOCABULARY[kind]}"):
        one(kind, f"{base(kind)} nmae: 1")


# What a layer says beside its block: a layer with it, and what of the network it changes or how it is refused.
LAYER_HONOURED = {
    "name": ('name: "x" type: "ReLU" bottom: "data" top: "x"', 'name: "y" type: "ReLU" bottom: "data" top: "x"'),
    "type": ('name: "x" type: "ReLU" bottom: "data" top: "x"', 'name: "x" type: "TanH" bottom: "data" top: "x"'),
    "bottom": ('name: "x" type: "ReLU" bottom: "data" top: "x"', 'name: "x" type: "ReLU" bottom: "more" top: "x"'),
    "top": (
        'name: "x" type: "Slice" bottom: "data" top: "x"',
        'name: "x" type: "Slice" bottom: "data" top: "x" top: "y"',
    ),
    "include": (
        'name: "x" type: "ReLU" bottom: "data" top: "x"',
        'name: "x" type: "ReLU" bottom: "data" top: "x" include { stage: "s" }',
    ),
    "exclude": (
        'name: "x" type: "ReLU" bottom: "data" top: "x"',
        'name: "x" type: "ReLU" bottom: "data" top: "x" exclude { phase: TEST }',
    ),
}
LAYER_REFUSED = {
    "phase": 'name: "x" type: "Dropout" bottom: "data" top: "x" phase: TRAIN',
    "propagate_down": 'name: "x" type: "ReLU" bottom: "data" top: "x" propagate_down: true propagate_down: true',
    "param": 'name: "x" type: "ReLU" bottom: "data" top: "x" param { lr_mult: 1 }',
    "blobs": 'name: "x" type: "ReLU" bottom: "data" top: "x" blobs { data: 1 }',
}
# A weight of the loss says how much training minds it.
LAYER_WITHOUT_EFFECT = {"loss_weight": 'name: "x" type: "ReLU" bottom: "data" top: "x" loss_weight: 2'}


def test_every_field_of_a_layer() -> None:
    blocks = {name for name in MESSAGES["LayerParameter"] if name.endswith("_param")}
    assert {*LAYER_HONOURED, *LAYER_REFUSED, *LAYER_WITHOUT_EFFECT} == set(MESSAGES["LayerParameter"]) - blocks
    for one_way, another in LAYER_HONOURED.values():
        assert read(f"layer {{ {one_way} }}").spec != read(f"layer {{ {another} }}").spec
    for field, text in LAYER_REFUSED.items():
        with pytest.raises(ZooError, match=field):
            read(f"layer {{ {text} }}")
    for field, text in LAYER_WITHOUT_EFFECT.items():
        assert read(f"layer {{ {text} }}") == read(f"layer {{ {text.partition(field)[0]} }}")


def test_every_field_of_a_rule() -> None:
    layer = 'layer { name: "x" type: "ReLU" bottom: "data" top: "x" include { %s } }'
    kept, left_out = read(layer % "").spec, read("").spec
    rules = {
        "phase": ("phase: TEST", "phase: TRAIN"),
        "min_level": ("min_level: 0", "min_level: 1"),
        "max_level": ("max_level: 0", "max_level: -1"),
        "stage": ("", 'stage: "s"'),
        "not_stage": ('not_stage: "s"', ""),
    }
    assert set(rules) == set(MESSAGES["NetStateRule"])
    for field, (met, unmet) in rules.items():
        assert read(layer % met).spec == kept
        if field != "not_stage":
            assert read(layer % unmet).spec == left_out
    state = 'state { stage: "s" level: 3 phase: TRAIN }'  # level and phase are set by whoever loads the network
    assert set(MESSAGES["NetState"]) == {"stage", "level", "phase"}
    assert read(layer % 'stage: "s"', state).spec == kept
    assert read(layer % 'not_stage: "s"', state).spec == left_out
    assert read(layer % "min_level: 3", state).spec == left_out


def test_every_field_of_the_network() -> None:
    """The inputs of the older style and both dialects of layers are tested in test_caffe_prototxt."""
    fields = {"name", "input", "input_dim", "input_shape", "layer", "layers", "state", "force_backward", "debug_info"}
    assert set(MESSAGES["NetParameter"]) == fields
    assert read("", 'name: "one"').spec != read("", 'name: "two"').spec
    # How training runs, and what it prints.
    assert read("", "force_backward: true debug_info: true") == read("")
    for text in ("nmae: 3", "layr { }", "layer { } nmae: 3"):
        with pytest.raises(ZooError, match="unknown field"):
            read("", text)


def test_every_field_of_a_blobs_settings() -> None:
    """``name`` ties blobs (test_sharing); multipliers are of training, but Caffe refuses twins that differ in them."""
    assert set(MESSAGES["ParamSpec"]) == {"name", "share_mode", "lr_mult", "decay_mult"}
    plain, trained = one("Convolution", CONV), one("Convolution", CONV, "param { lr_mult: 3 decay_mult: 0 }")
    assert plain == trained
    assert one("Convolution", CONV, "param { share_mode: PERMISSIVE }") == plain
