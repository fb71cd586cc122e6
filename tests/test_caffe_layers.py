"""A layer each: what LayerSetUp and Reshape of Caffe and its forks make of its fields and of the axes it reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from converters.export import ExportOptions, export
from converters.weights import Weights
from zoo import reference, registry
from zoo.errors import FileFormatError
from zoo.frameworks.caffe import CaffeNet, parse_prototxt
from zoo.layers import BatchNorm, Input, ReLU, Shape
from zoo.shapes import activation_shapes, parameter_shapes


def one_layer(layer: str, *shapes: Shape) -> CaffeNet:
    """Inputs ``in0``, ``in1``, ... of these sizes, the batch included, and a layer ``op`` that reads them all."""
    inputs = [
        f'layer {{ name: "in{i}" type: "Input" top: "in{i}" input_param {{ shape {{'
        f" {' '.join(f'dim: {size}' for size in shape)} }} }} }}\n"
        for i, shape in enumerate(shapes)
    ]
    bottoms = " ".join(f'bottom: "in{i}"' for i in range(len(shapes)))
    return parse_prototxt(f'{"".join(inputs)}layer {{ name: "op" {bottoms} {layer} }}', Path("net.prototxt"))


def made(layer: str, *shapes: Shape) -> Shape:
    """The shape of ``op`` without the batch, as described, and as the oracle has it of weights of 0."""
    spec = one_layer(layer, *shapes).spec
    described = activation_shapes(spec)["op"]
    weights = {name: np.zeros(shape) for name, shape in parameter_shapes(spec).items()}
    inputs = {source.name: np.zeros(shape) for source, shape in zip(spec.inputs, shapes, strict=True)}
    assert reference.forward(spec, weights, inputs)["op"].shape[1:] == described
    return described


@pytest.mark.parametrize(
    ("size", "got"),
    [
        ("height: 9 width: 8", (9, 8)),
        ("height: 9 width: 8 zoom_factor: 1", (4, 5)),
        ("height: 9 width: 8 shrink_factor: 1 pad_beg: -1", (3, 4)),
        ("height: 9 width: 8 zoom_factor: 2", (7, 9)),
        ("height: 9 width: 8 shrink_factor: 3 zoom_factor: 1", (9, 8)),
        ("height: 9 shrink_factor: 3 zoom_factor: 2", (3, 3)),
    ],
)
def test_one_factor_alone_goes_before_a_size_though_it_be_1(size: str, got: Shape) -> None:
    assert made(f'type: "Interp" top: "op" interp_param {{ {size} }}', (1, 2, 4, 5)) == (2, *got)


@pytest.mark.parametrize(
    ("layer", "shapes", "got"),
    [
        ('type: "Interp" top: "op" interp_param { zoom_factor: 2 }', [(2, 3, 4)], (3, 7, 1)),
        ('type: "Interp" top: "op" interp_param { height: 2 width: 3 }', [(2,)], (1, 2, 3)),
        ('type: "ShuffleChannel" top: "op" shuffle_channel_param { group: 2 }', [(1, 4)], (4, 1, 1)),
        ('type: "BN" top: "op" bn_param { bn_mode: INFERENCE }', [(1, 4)], (4, 1, 1)),
        ('type: "BN" top: "op" bn_param { eps: 0.1 }', [(1, 4)], (4,)),
        ('type: "PriorBox" top: "op" prior_box_param { min_size: 4 }', [(1, 3, 4), (1, 3, 8)], (2, 16)),
        (
            'type: "ROIPooling" top: "op" roi_pooling_param { pooled_h: 2 pooled_w: 1 }',
            [(1, 3, 4), (6, 5, 1, 1)],
            (3, 2, 1),
        ),
        (
            'type: "PSROIPooling" top: "op" psroi_pooling_param { output_dim: 3 group_size: 1 spatial_scale: 1 }',
            [(1, 3), (6, 5)],
            (3, 1, 1),
        ),
    ],
)
def test_axes_that_are_not_there_count_as_1_where_caffe_asks_for_four(
    layer: str, shapes: list[Shape], got: Shape
) -> None:
    assert made(layer, *shapes) == got


@pytest.mark.parametrize(
    ("layer", "got"),
    [
        ('"Reshape" reshape_param { axis: 0 num_axes: 0 shape { dim: 1 } }', (1,)),
        ('"Reshape" reshape_param { axis: -1 shape { dim: 1 dim: -1 } }', (1, 1)),
        ('"Reshape" reshape_param { shape { dim: 0 } }', None),
        ('"Reshape" reshape_param { axis: 1 shape { dim: 1 } }', None),
        ('"Scale" scale_param { axis: -1 }', None),
        ('"Bias" bias_param { axis: 0 num_axes: 0 }', None),
    ],
)
def test_a_blob_without_axes_has_none_to_name(layer: str, got: Shape | None) -> None:
    if got is None:
        with pytest.raises(FileFormatError, match="a number without axes"):
            one_layer(f'type: {layer} top: "op"', ())
    else:
        spec = one_layer(f'type: {layer} top: "op"', ()).spec
        assert reference.forward(spec, {}, {"in0": np.ones(1)})["op"].shape == got


def test_regions_are_read_as_they_are() -> None:
    net = one_layer('type: "ROIPooling" top: "op" roi_pooling_param { pooled_h: 1 pooled_w: 1 }', (1, 3, 4, 4), (2, 5))
    assert [layer.name for layer in net.spec.layers] == ["op"]


def test_a_convolution_over_axes_of_items_ends_with_its_tops() -> None:
    tops = 'top: "a" top: "b" convolution_param { axis: 2 num_output: 4 kernel_size: 2 }'
    spec = one_layer(f'type: "Convolution" {tops}', (2, 3, 5, 6, 7), (2, 3, 5, 6, 7)).spec
    shapes = activation_shapes(spec)
    assert [shapes[layer.name] for layer in spec.layers[-2:]] == [(3, 4, 5, 6)] * 2
    assert spec.outputs == tuple(layer.name for layer in spec.layers[-2:])


@pytest.mark.parametrize(
    ("sizes", "got"),
    [
        ("num: 2 channels: 3 height: 4 height: 5 width: 6", [(2, 3, 4, 6), (2, 3, 5, 6)]),
        ("num: 1 num: 2 channels: 3 channels: 1 height: 1 width: 1", [(1, 3, 1, 1), (2, 1, 1, 1)]),
    ],
)
def test_each_old_size_of_dummy_data_is_given_once_or_once_a_top(sizes: str, got: list[Shape]) -> None:
    spec = one_layer(f'type: "DummyData" top: "a" top: "b" dummy_data_param {{ {sizes} }}').spec
    assert [array.shape for array in reference.forward(spec, {}, {}).values()] == got


BOXES = 'type: "DetectionOutput" top: "op" detection_output_param { num_classes: 2 }'


def test_a_detection_takes_priors_of_four_axes_and_a_picture_to_draw_on() -> None:
    spec = one_layer(BOXES, (1, 12, 1, 1), (1, 6), (1, 2, 12, 1)).spec
    offsets, scores, priors = np.zeros((1, 12, 1, 1)), np.ones((1, 6)), np.tile([0, 0, 1.0, 1], 6).reshape(1, 2, 12, 1)
    rows = reference.forward(spec, {}, {"in0": offsets, "in1": scores, "in2": priors})["op"]
    np.testing.assert_array_equal(rows, [[[[0, 1, 1, 0, 0, 1, 1]]]])
    spec = one_layer(BOXES, (1, 12), (1, 6), (1, 2, 12), (1, 3, 8, 8)).spec
    assert spec.wiring()["op"] == ("in0", "in1", "in2")


CLIP = 'type: "Clip" top: "op" clip_param { '
RESHAPE = 'type: "Reshape" top: "op" reshape_param { axis: -4 num_axes: 1 shape { dim: -1 dim: 0 dim: 1 } }'


@pytest.mark.parametrize(
    ("layer", "shapes", "error"),
    [
        (f"{CLIP} }}", [(1, 2)], "min and max is missing in clip_param"),
        (f"{CLIP} max: 1 }}", [(1, 2)], "min is missing in clip_param"),
        (
            'type: "PSROIPooling" top: "op" psroi_pooling_param { output_dim: 3 group_size: 1 }',
            [(1, 3), (6, 5)],
            "spatial_scale is missing in psroi_pooling_param",
        ),
        (RESHAPE, [(1, 2, 1)], "cannot reshape 1 x 2 x 1 to -1 x 2 x 1 x 2 x 1"),
        ('type: "Slice" top: "op" param { lr_mult: 1 }', [(1, 2)], "has 1 param blocks, but 0 blobs"),
        ('type: "BN" top: "op"' + " param { }" * 5, [(1, 2)], "has 5 param blocks, but 4 blobs"),
        ('type: "BN" top: "op"', [(1, 2, 1, 1, 1)], "takes N x C x H x W or fewer axes"),
        ('type: "Upsample" top: "op" upsample_param { scale: 1 }', [(1, 2, 3, 3)] * 2, "must be above 1, got 1 and 1"),
        (
            'type: "Upsample" top: "op" upsample_param { upsample_h: 4 upsample_w: 1 }',
            [(1, 2, 3, 1)] * 2,
            "must be above 1, got 4 and 1",
        ),
        ('type: "DummyData" top: "op" dummy_data_param { num: 1 channels: 2 height: 3 }', [], "one width or as many"),
        ('type: "DummyData" top: "op" dummy_data_param { num: 1 shape { dim: 1 } }', [], "has shape and num"),
        (BOXES, [(1, 3, 4), (1, 6), (1, 2, 12)], "needs offsets and scores of N x C"),
        (BOXES, [(1, 12), (1, 6)], "has 2 bottoms"),
        (BOXES.replace("2", "1"), [(1, 12), (1, 3), (1, 2, 12)], "its one class is the background"),
        (
            BOXES.replace("}", "nms_param { top_k: 0 } }"),
            [(1, 12), (1, 6), (1, 2, 12)],
            "looks for nothing: top_k is 0",
        ),
    ],
)
def test_what_caffe_refuses_is_refused(layer: str, shapes: list[Shape], error: str) -> None:
    with pytest.raises(FileFormatError, match=r"layer 'op'") as caught:
        one_layer(layer, *shapes)
    assert error in str(caught.value)


@pytest.mark.parametrize("framework", ["reference", "pytorch", "onnx", "tf_slim"])
@pytest.mark.parametrize("shapes", [[(2, 3, 1, 1), (2, 3), (2, 3)], [(2, 3, 1), (2, 3, 4, 5), (2, 3, 4, 5)]])
def test_axpy_asks_its_factors_for_the_first_two_axes_alone(shapes: list[Shape], framework: str) -> None:
    inputs = {f"in{i}": np.arange(np.prod(shape), dtype=np.float32).reshape(shape) for i, shape in enumerate(shapes)}
    spec = one_layer('type: "Axpy" top: "op"', *shapes).spec
    subject = reference if framework == "reference" else registry.framework(framework)
    a, x, y = (inputs[f"in{i}"] for i in range(3))
    want = a.reshape(2, 3, *[1] * (x.ndim - 2)) * x + y
    np.testing.assert_allclose(subject.forward(spec, {}, inputs)["op"], want, rtol=1e-6)


def test_nvidias_batch_norm_takes_what_is_stored_and_an_eps_of_at_least_1e_5() -> None:
    words = "scale_bias: true use_global_stats: false eps: 1e-7"
    net = one_layer(f'type: "BatchNorm" top: "op" batch_norm_param {{ {words} }}', (1, 2, 3, 3))
    norm = net.spec.layers[0]
    assert isinstance(norm, BatchNorm)
    assert not norm.batch_stats
    assert norm.eps == 1e-5


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        ('type: "Reduction" top: "op"', [(3, 5)]),
        ('type: "Softmax" top: "op" softmax_param { axis: 0 }', [(3, 4)]),
        ('type: "Slice" top: "a" top: "b" slice_param { axis: 0 }', [(4, 2)]),
        ('type: "Scale" top: "op"', [(2, 3, 4), (3, 4)]),
        ('type: "Crop" top: "op" crop_param { axis: 0 offset: 1 offset: 0 }', [(3, 4), (2, 4)]),
        ('type: "DummyData" top: "op" dummy_data_param { shape { dim: 2 dim: 3 } }', []),
        (BOXES, [(2, 48), (2, 24), (1, 2, 48)]),
        (BOXES, [(1, 48), (1, 24), (2, 2, 48)]),
    ],
)
def test_what_is_described_for_one_batch_is_proved_on_that(layer: str, shapes: list[Shape], tmp_path: Path) -> None:
    spec = one_layer(layer, *shapes).spec
    export(Weights(spec=spec, tensors={}, source="none"), str(tmp_path / "op.onnx"), ExportOptions())
    assert (tmp_path / "op.onnx").exists()


def test_a_constant_that_nothing_reads_is_proved_as_other_outputs(tmp_path: Path) -> None:
    spec = one_layer('type: "DummyData" top: "a" top: "b" dummy_data_param { shape { dim: 2 dim: 3 } }').spec
    spec = replace(
        spec, inputs=(Input(name="in0", shape=(3,)),), layers=(*spec.layers, ReLU(name="r", inputs=("in0",)))
    )
    export(Weights(spec=spec, tensors={}, source="none"), str(tmp_path / "op.onnx"), ExportOptions())


def test_the_rates_of_the_dialect_of_2013_are_those_of_blobs() -> None:
    conv = "layer { name: 'op' type: 'conv' num_output: 2 kernelsize: 1 biasterm: false blobs_lr: 1 blobs_lr: 2 }"
    text = f"input: 'in0' input_dim: [1, 2, 3, 3] layers {{ {conv} bottom: 'in0' top: 'op' }}"
    with pytest.raises(FileFormatError, match="2 param blocks, but 1 blobs"):
        parse_prototxt(text, Path("net.prototxt"))
    (layer,) = parse_prototxt(text.replace("biasterm: false", ""), Path("net.prototxt")).spec.layers
    assert layer.name == "op"
