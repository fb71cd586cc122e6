"""Small networks of the structures that people hold as Caffe files, written from the papers; a few channels each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from zoo.frameworks.caffe.vocabulary import BY_TYPE


def net(size: str, *rows: str, fed: Mapping[str, str] = MappingProxyType({})) -> str:
    """A prototxt: inputs, ``data`` first, and a row a layer, ``name Type bottom,bottom > top,top | parameters``."""
    layers = [
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {_dims(sides)} }} }} }}'
        for name, sides in {"data": size, **fed}.items()
    ]
    for row in rows:
        head, _, block = row.partition("|")
        ends, _, tops = head.partition(">")
        name, kind, bottoms = ends.split()
        wires = [f'bottom: "{bottom}"' for bottom in bottoms.split(",")]
        wires += [f'top: "{top}"' for top in (tops.strip() or name).split(",")]
        inner = f"{BY_TYPE[kind].block} {{ {block.strip()} }}" if block.strip() else ""
        layers.append(f'layer {{ name: "{name}" type: "{kind}" {" ".join(wires)} {inner} }}')
    return "\n".join(layers) + "\n"


def _dims(size: str) -> str:
    return " ".join(f"dim: {side}" for side in ("1", *size.split()))


def _conv(name: str, bottom: str, outputs: int, more: str = "kernel_size: 3 pad: 1") -> str:
    return f"{name} Convolution {bottom} | num_output: {outputs} {more}"


def _normed(name: str, bottom: str, outputs: int, more: str = "kernel_size: 3 pad: 1 bias_term: false") -> list[str]:
    """A convolution, BatchNorm and Scale, in place."""
    return [
        _conv(name, bottom, outputs, more),
        f"{name}_bn BatchNorm {name} > {name}",
        f"{name}_scale Scale {name} > {name} | bias_term: true",
    ]


def _head(feature: str, least: int, most: int) -> list[str]:
    """SSD's two heads over a feature map (4 boxes a pixel, 3 classes), flattened pixel by pixel, and its priors."""
    rows = list[str]()
    for what, outputs in (("loc", 16), ("conf", 12)):
        name = f"{feature}_{what}"
        rows += [_conv(name, feature, outputs), f"{name}_perm Permute {name} | order: 0 order: 2 order: 3 order: 1"]
        rows.append(f"{name}_flat Flatten {name}_perm")
    sizes = f"min_size: {least} max_size: {most} aspect_ratio: 2 flip: true clip: false"
    return [
        *rows,
        f"{feature}_prior PriorBox {feature},data | {sizes} {_VARIANCES}",
    ]


_VARIANCES = "variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2"
SSD = net(
    "3 32 40",
    _conv("conv1", "data", 6, "kernel_size: 3 pad: 1 stride: 4"),
    "relu1 ReLU conv1 > conv1",
    "norm Normalize conv1 | across_spatial: false channel_shared: false",
    _conv("conv2", "conv1", 6, "kernel_size: 3 pad: 2 stride: 2 dilation: 2"),
    "relu2 ReLU conv2 > conv2",
    *_head("norm", 6, 12),
    *_head("conv2", 14, 24),
    "loc Concat norm_loc_flat,conv2_loc_flat",
    "conf Concat norm_conf_flat,conv2_conf_flat",
    "prior Concat norm_prior,conv2_prior | axis: 2",
    "conf_rows Reshape conf | shape { dim: 0 dim: -1 dim: 3 }",
    "conf_softmax Softmax conf_rows | axis: 2",
    "conf_flat Flatten conf_softmax",
    "found DetectionOutput loc,conf_flat,prior | num_classes: 3 nms_param { nms_threshold: 0.45 top_k: 50 }"
    " code_type: CENTER_SIZE keep_top_k: 20 confidence_threshold: 0.3",
)

NETWORKS = {
    # K. Zhang et al., 2016, arXiv:1604.02878 (MTCNN, the first stage)
    "pnet": net(
        "3 14 18",
        _conv("conv1", "data", 4, "kernel_size: 3"),
        "prelu1 PReLU conv1 > conv1",
        "pool1 Pooling conv1 | pool: MAX kernel_size: 2 stride: 2",
        _conv("conv2", "pool1", 6, "kernel_size: 3"),
        "prelu2 PReLU conv2 > conv2",
        _conv("box", "conv2", 4, "kernel_size: 1"),
        _conv("face", "conv2", 2, "kernel_size: 1"),
        "prob Softmax face",
    ),
    # The same, the third stage: boxes and landmarks from dense layers
    "onet": net(
        "3 12 12",
        _conv("conv1", "data", 4, "kernel_size: 3"),
        "prelu1 PReLU conv1 > conv1",
        "pool1 Pooling conv1 | pool: MAX kernel_size: 3 stride: 2",
        "dense InnerProduct pool1 | num_output: 8",
        "drop Dropout dense > dense | dropout_ratio: 0.25",
        "prelu2 PReLU dense > dense",
        "face InnerProduct dense | num_output: 2",
        "box InnerProduct dense | num_output: 4",
        "marks InnerProduct dense | num_output: 10",
        "prob Softmax face",
    ),
    # J. Long et al., 2015, arXiv:1411.4038 (FCN-8s: two skips)
    "fcn": net(
        "3 16 20",
        _conv("conv1", "data", 4, "kernel_size: 3 pad: 10"),
        "pool1 Pooling conv1 | pool: MAX kernel_size: 2 stride: 2",
        _conv("conv2", "pool1", 5),
        "pool2 Pooling conv2 | pool: MAX kernel_size: 2 stride: 2",
        _conv("score2", "pool2", 3, "kernel_size: 1"),
        "up2 Deconvolution score2 | num_output: 3 kernel_size: 4 stride: 2 bias_term: false",
        _conv("score1", "pool1", 3, "kernel_size: 1"),
        "up2c Crop up2,score1 | axis: 2 offset: 1",
        "fuse Eltwise up2c,score1 | operation: SUM",
        "up Deconvolution fuse | num_output: 3 group: 3 kernel_size: 4 stride: 2 bias_term: false",
        "score Crop up,data | axis: 2 offset: 5",
    ),
    # W. Liu et al., 2016, arXiv:1512.02325
    "ssd": SSD,
    # Z. Cao et al., 2017, arXiv:1611.08050 (OpenPose: two branches, joined with the features, and a second stage)
    "pose": net(
        "3 12 10",
        _conv("features", "data", 4),
        "relu PReLU features > features",
        _conv("paf1", "features", 4),
        _conv("heat1", "features", 3),
        "stage1 Concat paf1,heat1,features | axis: 1",
        _conv("paf2", "stage1", 4, "kernel_size: 7 pad: 3"),
        _conv("heat2", "stage1", 3, "kernel_size: 7 pad: 3"),
        "out Concat heat2,paf2",
    ),
    # K. He et al., 2015, arXiv:1512.03385
    "resnet": net(
        "3 17 17",
        *_normed("conv1", "data", 4, "kernel_size: 7 pad: 3 stride: 2 bias_term: false"),
        "relu1 ReLU conv1 > conv1",
        "pool1 Pooling conv1 | pool: MAX kernel_size: 3 stride: 2",
        *_normed("branch1", "pool1", 6, "kernel_size: 1 bias_term: false"),
        *_normed("branch2a", "pool1", 4),
        "relu2 ReLU branch2a > branch2a",
        *_normed("branch2b", "branch2a", 6, "kernel_size: 1 bias_term: false"),
        "sum Eltwise branch1,branch2b",
        "relu3 ReLU sum > sum",
        "pool5 Pooling sum | pool: AVE kernel_size: 4",
        "fc InnerProduct pool5 | num_output: 5",
        "prob Softmax fc",
    ),
    # G. Huang et al., 2017, arXiv:1608.06993 (the layers before the convolution)
    "densenet": net(
        "3 13 13",
        _conv("conv1", "data", 4),
        "bn1 BatchNorm conv1",
        "scale1 Scale bn1 > bn1 | bias_term: true",
        "relu1 ReLU bn1 > bn1",
        _conv("growth", "bn1", 3, "kernel_size: 3 pad: 1 bias_term: false"),
        "concat Concat conv1,growth",
        "pool Pooling concat | pool: AVE kernel_size: 2 stride: 2 ceil_mode: false",
    ),
    # J. Hu et al., 2018, arXiv:1709.01507
    "senet": net(
        "3 9 9",
        _conv("conv", "data", 6),
        "squeeze Pooling conv | pool: AVE global_pooling: true",
        _conv("down", "squeeze", 2, "kernel_size: 1"),
        "relu ReLU down > down",
        _conv("up", "down", 6, "kernel_size: 1"),
        "gate Sigmoid up > up",
        _conv("short", "data", 6, "kernel_size: 1"),
        "sum Axpy up,conv,short",
    ),
    # X. Zhang et al., 2018, arXiv:1707.01083; the depthwise convolution of MobileNet, arXiv:1704.04861
    "shufflenet": net(
        "6 9 9",
        _conv("conv1", "data", 6, "kernel_size: 1 group: 3 bias_term: false"),
        "shuffle ShuffleChannel conv1 | group: 3",
        "depth ConvolutionDepthwise shuffle | kernel_size: 3 stride: 2 pad: 1 bias_term: false",
        "depth_bn BatchNorm depth > depth",
        "relu6 ReLU6 depth > depth",
        "short Pooling data | pool: AVE kernel_size: 3 stride: 2",
        "join Crop depth,short | axis: 2 offset: 0",
        "out Concat join,short",
    ),
    # V. Badrinarayanan et al., 2017, arXiv:1511.00561
    "segnet": net(
        "3 11 14",
        _conv("conv1", "data", 4),
        "bn1 BN conv1 > conv1 | bn_mode: INFERENCE scale_filler { } shift_filler { }",
        "relu1 ReLU conv1 > conv1",
        "pool1 Pooling conv1 > pool1,pool1_mask | pool: MAX kernel_size: 2 stride: 2",
        _conv("conv2", "pool1", 4),
        "up1 Upsample conv2,pool1_mask | upsample_h: 11 upsample_w: 14",
        _conv("score", "up1", 3),
        "prob Softmax score",
    ),
    # H. Zhao et al., 2017, arXiv:1612.01105 (the pyramid over the last features)
    "psp": net(
        "3 12 12",
        _conv("conv", "data", 4, "kernel_size: 3 pad: 2 dilation: 2 bias_term: false"),
        "bn BN conv > conv | slope_filler { } bias_filler { } frozen: true",
        "relu ReLU conv > conv",
        "pool1 Pooling conv | pool: AVE kernel_size: 12 stride: 12",
        "pool2 Pooling conv | pool: AVE kernel_size: 6 stride: 6",
        "up1 Interp pool1 | height: 12 width: 12",
        "up2 Interp pool2 | height: 12 width: 12",
        "all Concat conv,up1,up2",
        _conv("score", "all", 3, "kernel_size: 1"),
        "zoom Interp score | zoom_factor: 3",
    ),
    # J. Dai et al., 2016, arXiv:1605.06409 (R-FCN: votes in place-sensitive maps)
    "rfcn": net(
        "3 16 20",
        _conv("maps", "data", 12, "kernel_size: 3 stride: 2 pad: 1"),
        "votes PSROIPooling maps,rois | spatial_scale: 0.5 output_dim: 3 group_size: 2",
        "mean Pooling votes | pool: AVE kernel_size: 2 stride: 2",
        "prob Softmax mean",
        "rows Reshape prob | shape { dim: -1 dim: 3 }",
        fed={"rois": "5"},
    ),
    # M. Lin et al., 2014, arXiv:1312.4400
    "nin": net(
        "3 15 15",
        _conv("conv1", "data", 4, "kernel_size: 5 stride: 2"),
        "relu1 ReLU conv1 > conv1",
        _conv("cccp1", "conv1", 4, "kernel_size: 1"),
        "relu2 ReLU cccp1 > cccp1",
        "drop Dropout cccp1 > cccp1",
        _conv("cccp2", "cccp1", 5, "kernel_size: 1"),
        "pool Pooling cccp2 | pool: AVE global_pooling: true",
        "prob Softmax pool",
    ),
    # C. Szegedy et al., 2015, arXiv:1409.4842
    "googlenet": net(
        "3 13 13",
        "norm LRN data | local_size: 5 alpha: 0.0001 beta: 0.75",
        _conv("a/1x1", "norm", 3, "kernel_size: 1"),
        _conv("a/3x3_reduce", "norm", 2, "kernel_size: 1"),
        _conv("a/3x3", "a/3x3_reduce", 3),
        _conv("a/5x5", "norm", 2, "kernel_size: 5 pad: 2"),
        "a/pool Pooling norm | pool: MAX kernel_size: 3 stride: 1 pad: 1",
        _conv("a/proj", "a/pool", 2, "kernel_size: 1"),
        "a/output Concat a/1x1,a/3x3,a/5x5,a/proj",
        "pool5 Pooling a/output | pool: AVE kernel_size: 13",
        "classifier InnerProduct pool5 | num_output: 4",
        "prob Softmax classifier",
    ),
}
