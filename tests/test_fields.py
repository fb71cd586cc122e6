"""Every field that a network file may have is honoured, refused by name, or of no effect on inference by definition.

The tables below hold a row for each field of Caffe's schema; a field added there without a row here fails.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from zoo.errors import ZooError
from zoo.frameworks.caffe import CaffeNet, parse_prototxt
from zoo.frameworks.caffe.forks import PASSED_OVER
from zoo.frameworks.caffe.schema import MESSAGES
from zoo.frameworks.caffe.vocabulary import ROWS

SPATIAL = "kernel_size: 3"
CONV = f"num_output: 2 {SPATIAL}"
TABLE, PLACES = "num_output: 2 input_dim: 5", "output_dim: 1 group_size: 2 spatial_scale: 1"
FOUR = "num: 2 channels: 2 height: 2 width: 2"

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
    ("BatchNorm", "scale_bias"): ("", "scale_bias: true"),
    ("BatchNorm", "scale_filler"): ("", "scale_filler { }"),
    ("BatchNorm", "bias_filler"): ("", "bias_filler { }"),
    ("BN", "eps"): ("", "eps: 0.1"),
    ("BN", "scale_filler"): ("", "scale_filler { }"),
    ("BN", "shift_filler"): ("", "shift_filler { }"),
    ("BN", "bn_mode"): ("bn_mode: LEARN", "bn_mode: INFERENCE"),
    ("Embed", "num_output"): (TABLE, "num_output: 3 input_dim: 5"),
    ("Embed", "input_dim"): (TABLE, "num_output: 2 input_dim: 6"),
    ("Embed", "bias_term"): (TABLE, f"{TABLE} bias_term: false"),
    ("SPP", "pyramid_height"): ("pyramid_height: 2", "pyramid_height: 1"),
    ("SPP", "pool"): ("pyramid_height: 2", "pyramid_height: 2 pool: AVE"),
    ("Parameter", "shape"): ("shape { dim: 2 }", "shape { dim: 3 }"),
    ("DummyData", "data_filler"): ("shape { dim: 2 }", "shape { dim: 2 } data_filler { value: 2 }"),
    ("DummyData", "shape"): ("shape { dim: 2 }", "shape { dim: 3 }"),
    **{
        ("DummyData", field): (FOUR, FOUR.replace(f"{field}: 2", f"{field}: 3"))
        for field in ("num", "channels", "height", "width")
    },
    ("Upsample", "scale"): ("", "scale: 3"),
    ("Upsample", "scale_h"): ("scale_h: 2 scale_w: 2", "scale_h: 3 scale_w: 2"),
    ("Upsample", "scale_w"): ("scale_h: 2 scale_w: 2", "scale_h: 2 scale_w: 3"),
    ("Upsample", "upsample_h"): ("upsample_h: 9 upsample_w: 9", "upsample_h: 8 upsample_w: 9"),
    ("Upsample", "upsample_w"): ("upsample_h: 9 upsample_w: 9", "upsample_h: 9 upsample_w: 8"),
    ("Upsample", "pad_out_h"): ("", "pad_out_h: true"),
    ("Upsample", "pad_out_w"): ("", "pad_out_w: true"),
    ("PriorBox", "min_size"): ("min_size: 2", "min_size: 3"),
    ("PriorBox", "max_size"): ("min_size: 2", "min_size: 2 max_size: 3"),
    ("PriorBox", "aspect_ratio"): ("min_size: 2", "min_size: 2 aspect_ratio: 2"),
    ("PriorBox", "variance"): ("min_size: 2", "min_size: 2 variance: 0.2"),
    ("PriorBox", "step"): ("min_size: 2", "min_size: 2 step: 2"),
    ("PriorBox", "step_h"): ("min_size: 2 step_h: 2 step_w: 2", "min_size: 2 step_h: 3 step_w: 2"),
    ("PriorBox", "step_w"): ("min_size: 2 step_h: 2 step_w: 2", "min_size: 2 step_h: 2 step_w: 3"),
    ("PriorBox", "offset"): ("min_size: 2", "min_size: 2 offset: 0"),
    ("PriorBox", "flip"): ("min_size: 2", "min_size: 2 flip: false"),
    ("PriorBox", "clip"): ("min_size: 2", "min_size: 2 clip: true"),
    ("PriorBox", "img_size"): ("min_size: 2", "min_size: 2 img_size: 7"),
    ("PriorBox", "img_h"): ("min_size: 2 img_h: 7 img_w: 7", "min_size: 2 img_h: 8 img_w: 7"),
    ("PriorBox", "img_w"): ("min_size: 2 img_h: 7 img_w: 7", "min_size: 2 img_h: 7 img_w: 8"),
    ("DetectionOutput", "background_label_id"): ("num_classes: 2", "num_classes: 2 background_label_id: 1"),
    ("DetectionOutput", "variance_encoded_in_target"): (
        "num_classes: 2",
        "num_classes: 2 variance_encoded_in_target: true",
    ),
    ("DetectionOutput", "keep_top_k"): ("num_classes: 2", "num_classes: 2 keep_top_k: 1"),
    ("DetectionOutput", "nms_param"): ("num_classes: 2", "num_classes: 2 nms_param { top_k: 3 }"),
    ("DetectionOutput", "code_type"): ("num_classes: 2", "num_classes: 2 code_type: CENTER_SIZE"),
    ("DetectionOutput", "confidence_threshold"): ("num_classes: 2", "num_classes: 2 confidence_threshold: 0.1"),
    ("ROIPooling", "pooled_h"): ("pooled_h: 2 pooled_w: 2", "pooled_h: 3 pooled_w: 2"),
    ("ROIPooling", "pooled_w"): ("pooled_h: 2 pooled_w: 2", "pooled_h: 2 pooled_w: 3"),
    ("ROIPooling", "spatial_scale"): ("pooled_h: 2 pooled_w: 2", "pooled_h: 2 pooled_w: 2 spatial_scale: 2"),
    ("PSROIPooling", "spatial_scale"): (PLACES, "output_dim: 1 group_size: 2 spatial_scale: 2"),
    ("PSROIPooling", "output_dim"): (PLACES, "output_dim: 4 group_size: 1 spatial_scale: 1"),
    ("PSROIPooling", "group_size"): (PLACES, "output_dim: 4 group_size: 1 spatial_scale: 1"),
}
# (type, field) -> a block that is refused, and the word of the refusal.
REFUSED = (
    {
        ("DetectionOutput", "num_classes"): ("num_classes: 3", "do not fit"),
        ("DetectionOutput", "share_location"): ("num_classes: 2 share_location: false", "do not fit"),
    }
    | {(kind, "axis"): (f"{CONV} axis: 2", "axis 2") for kind in (*CONVOLUTIONS, "ConvolutionDepthwise")}
    | {
        ("Dropout", "sample_weights_test"): ("sample_weights_test: true", "drops at random"),
        ("Interp", "use_blob_size"): ("use_blob_size: true", "needs two bottoms"),
    }
)

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
    "slope_filler": ("initial values, overwritten by the weights", f"slope_filler {{ {FILLER} }}"),
    "frozen": ("what training learns", "frozen: true"),
    "momentum": ("how training averages statistics", "momentum: 0.5"),
    "filler": ("initial values, overwritten by the weights", f"filler {{ {FILLER} }}"),
    "moving_average_fraction": ("how training averages statistics", "moving_average_fraction: 0.5"),
    "stable_prod_grad": ("how the gradient is computed", "stable_prod_grad: false"),
}


def read(layers: str, head: str = "") -> CaffeNet:
    shapes = {name: " ".join(f"dim: {side}" for side in (1, *sides)) for name, sides in SIZES.items()}
    inputs = "".join(
        f'layer {{ name: "{x}" type: "Input" top: "{x}" input_param {{ shape {{ {shape} }} }} }}\n'
        for x, shape in shapes.items()
    )
    return parse_prototxt(
        f'{head}\n{inputs}{layers}layer {{ name: "end" type: "TanH" bottom: "more" top: "end" }}', PATH
    )


PATH = Path("net.prototxt")


SIZES = {"data": (4, 6, 6), "more": (4, 6, 6), "places": (16,), "scores": (8,), "priors": (2, 16), "regions": (5,)}
PAIR, REGIONS = ["data", "more"], ["data", "regions"]
BOTTOMS: dict[str, list[str]] = {
    **dict.fromkeys(("Concat", "Crop", "Eltwise", "PriorBox", "Upsample"), PAIR),
    **dict.fromkeys(("ROIPooling", "PSROIPooling"), REGIONS),
    **{kind: [] for kind in ("DummyData", "Parameter")},
    "DetectionOutput": ["places", "scores", "priors"],
}


def one(kind: str, block: str, more: str = "", tops: str = "") -> CaffeNet:
    """A network of one layer of a kind with this parameter block, and `more` beside the block."""
    bottoms = " ".join(f'bottom: "{name}"' for name in BOTTOMS.get(kind, ["data"]))
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
        "Embed": TABLE,
        "SPP": "pyramid_height: 2",
        "PriorBox": "min_size: 2",
        "DetectionOutput": "num_classes: 2",
        "ROIPooling": "pooled_h: 2 pooled_w: 2",
        "PSROIPooling": PLACES,
        "Parameter": "shape { dim: 2 }",
        "DummyData": "shape { dim: 2 }",
        "Tile": "tiles: 2",
        "Interp": "zoom_factor: 2",
        "Reduction": "axis: 1",
    }.get(kind, "")


def fields_of(block: str) -> set[str]:
    """The fields of a block, without what a fork has added to no effect."""
    message = MESSAGES["LayerParameter"][block][0]
    return MESSAGES[message].keys() - PASSED_OVER.get(message, {}).keys()


FIELDS = sorted((kind, field) for kind, block in VOCABULARY.items() for field in fields_of(block))


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


# A value of each kind that a fork's field may have.
SOME = {
    **dict.fromkeys(("whole", "count", "number"), ": 3"),
    **{"flag": ": true", "text": ': "x"', "block": " { any: thing }", "Engine": ": MKLDNN", "Precision": ": FLOAT16"},
    **{"FillerParameter": " { }", "SaveOutputParameter": " { }", "LabelType": ": PIXEL"},
}
AROUND = {"DataParameter", "ImageDataParameter", "LossParameter", "TransformationParameter"}


@pytest.mark.parametrize("message", sorted(PASSED_OVER.keys() - AROUND))
def test_what_forks_have_added_to_no_effect_is_passed_over_and_named(message: str) -> None:
    texts = {field: f"{field}{SOME[kind]}" for field, (kind, _) in PASSED_OVER[message].items()}
    text = " ".join(texts.values())
    kind = message.removesuffix("Parameter")
    match kind:
        case "Net":
            with_them, without = read("", text), read("")
        case "Layer":
            with_them, without = one("Power", "", text), one("Power", "")
        case _:
            with_them, without = one(kind, f"{base(kind)} {text}"), one(kind, base(kind))
    told = f"passed over, of a fork and not of the deployed network: {', '.join(sorted(texts))}"
    assert with_them == replace(without, notes=(told,))


def test_what_forks_say_of_data_and_losses_is_passed_over_and_that_of_data_named() -> None:
    data, transform, loss = (
        " ".join(f"{field}{SOME[kind]}" for field, (kind, _) in PASSED_OVER[f"{name}Parameter"].items())
        for name in ("ImageData", "Transformation", "Loss")
    )
    blocks = f"image_data_param {{ {data} }} transform_param {{ {transform} crop_size: 6 }}"
    net = read(f"""
        layer {{ name: "i" type: "ImageData" top: "i" top: "j" {blocks} }}
        layer {{ name: "h" type: "HingeLoss" bottom: "i" bottom: "j" loss_param {{ {loss} }} }}
    """)
    named = PASSED_OVER["ImageDataParameter"].keys() | PASSED_OVER["TransformationParameter"].keys()
    assert net.notes[-1].rpartition(": ")[2] == ", ".join(sorted(named))
    assert net.omitted == ("h (HingeLoss)",)


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
    others = {name for name in MESSAGES["LayerParameter"] if name.endswith("_param")} | {*PASSED_OVER["LayerParameter"]}
    assert {*LAYER_HONOURED, *LAYER_REFUSED, *LAYER_WITHOUT_EFFECT} == set(MESSAGES["LayerParameter"]) - others
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
    assert set(MESSAGES["NetParameter"]) == fields | {*PASSED_OVER["NetParameter"]}
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
