"""Which fields each message of a network file has: a slip of the pen must not become a default.

Names, kinds and numbers are those of BVLC caffe's ``caffe.proto``, with what forks added (`_FORKS`).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

from zoo.wire.caffemodel import V1_TYPES
from zoo.wire.prototxt import Message, PrototxtError, Radix, Value, Word, shown

_ENGINES = ("DEFAULT", "CAFFE", "CUDNN")
_POOLS = ("MAX", "AVE", "STOCHASTIC")

# Enum -> its values, by name.
_ENUMS: dict[str, Mapping[str, int]] = {
    **{
        kind: {name: number for number, name in enumerate(names)}
        for kind, names in {
            "Phase": ("TRAIN", "TEST"),
            "DimCheckMode": ("STRICT", "PERMISSIVE"),
            "VarianceNorm": ("FAN_IN", "FAN_OUT", "AVERAGE"),
            "NormalizationMode": ("FULL", "VALID", "BATCH_SIZE", "NONE"),
            "Engine": _ENGINES,
            "BNMode": ("LEARN", "INFERENCE"),
            "DB": ("LEVELDB", "LMDB"),
            "EltwiseOp": ("PROD", "SUM", "MAX"),
            "NormRegion": ("ACROSS_CHANNELS", "WITHIN_CHANNEL"),
            "PoolMethod": _POOLS,
            "RoundMode": ("CEIL", "FLOOR"),
        }.items()
    },
    "BoxCode": {"CORNER": 1, "CENTER_SIZE": 2, "CORNER_SIZE": 3},
    "Norm": {"L1": 1, "L2": 2},
    "ReductionOp": {"SUM": 1, "ASUM": 2, "SUMSQ": 3, "MEAN": 4},
    "LayerType": {"NONE": 0, **{name: number for name, (number, _) in V1_TYPES.items()}},
}


def _fields(**names: str) -> dict[str, tuple[str, bool]]:
    """Field -> its kind, and whether it is repeated (written with a star), from the names of each kind."""
    return {name.rstrip("*"): (kind, name.endswith("*")) for kind, listed in names.items() for name in listed.split()}


# Blocks that layers of the current and of the V1 dialect have alike.
_BLOCKS = {
    "AccuracyParameter": "accuracy_param",
    "ArgMaxParameter": "argmax_param",
    "ConcatParameter": "concat_param",
    "ContrastiveLossParameter": "contrastive_loss_param",
    "ConvolutionParameter": "convolution_param",
    "DataParameter": "data_param",
    "DropoutParameter": "dropout_param",
    "DummyDataParameter": "dummy_data_param",
    "EltwiseParameter": "eltwise_param",
    "ExpParameter": "exp_param",
    "HDF5DataParameter": "hdf5_data_param",
    "HDF5OutputParameter": "hdf5_output_param",
    "HingeLossParameter": "hinge_loss_param",
    "ImageDataParameter": "image_data_param",
    "InfogainLossParameter": "infogain_loss_param",
    "InnerProductParameter": "inner_product_param",
    "LossParameter": "loss_param",
    "LRNParameter": "lrn_param",
    "MVNParameter": "mvn_param",
    "MemoryDataParameter": "memory_data_param",
    "PoolingParameter": "pooling_param",
    "PowerParameter": "power_param",
    "ReLUParameter": "relu_param",
    "SigmoidParameter": "sigmoid_param",
    "SliceParameter": "slice_param",
    "SoftmaxParameter": "softmax_param",
    "TanHParameter": "tanh_param",
    "ThresholdParameter": "threshold_param",
    "TransformationParameter": "transform_param",
    "WindowDataParameter": "window_data_param",
}
_STORED = {"text": "source mean_file", "number": "scale", "count": "batch_size crop_size", "flag": "mirror"}


def _stored(**more: str) -> dict[str, tuple[str, bool]]:
    """The fields of a block that says where images are stored, and these."""
    return _fields(**{kind: f"{_STORED.get(kind, '')} {more.get(kind, '')}" for kind in {**_STORED, **more}})


# Message -> its fields.
MESSAGES: dict[str, dict[str, tuple[str, bool]]] = {
    "NetParameter": _fields(
        text="name input*",
        whole="input_dim*",
        flag="force_backward debug_info",
        BlobShape="input_shape*",
        NetState="state",
        LayerParameter="layer*",
        V1LayerParameter="layers*",
    ),
    "NetState": _fields(Phase="phase", whole="level", text="stage*"),
    "NetStateRule": _fields(Phase="phase", whole="min_level max_level", text="stage* not_stage*"),
    "ParamSpec": _fields(text="name", DimCheckMode="share_mode", number="lr_mult decay_mult"),
    "LayerParameter": _fields(
        text="name type bottom* top*",
        Phase="phase",
        number="loss_weight*",
        flag="propagate_down*",
        ParamSpec="param*",
        BlobProto="blobs*",
        NetStateRule="include* exclude*",
        **_BLOCKS,
        BatchNormParameter="batch_norm_param",
        BiasParameter="bias_param",
        ClipParameter="clip_param",
        CropParameter="crop_param",
        ELUParameter="elu_param",
        EmbedParameter="embed_param",
        FlattenParameter="flatten_param",
        InputParameter="input_param",
        LogParameter="log_param",
        PReLUParameter="prelu_param",
        ParameterParameter="parameter_param",
        PythonParameter="python_param",
        RecurrentParameter="recurrent_param",
        ReductionParameter="reduction_param",
        ReshapeParameter="reshape_param",
        SPPParameter="spp_param",
        ScaleParameter="scale_param",
        SwishParameter="swish_param",
        TileParameter="tile_param",
    ),
    "V1LayerParameter": _fields(
        text="name bottom* top* param*",
        LayerType="type",
        number="blobs_lr* weight_decay* loss_weight*",
        BlobProto="blobs*",
        DimCheckMode="blob_share_mode*",
        NetStateRule="include* exclude*",
        V0LayerParameter="layer",
        **_BLOCKS,
    ),
    "V0LayerParameter": _fields(
        text="name type source meanfile det_crop_mode",
        count="num_output pad kernelsize group stride local_size batchsize cropsize rand_skip det_context_pad"
        " concat_dim",
        whole="new_num new_channels new_height new_width",
        number="dropout_ratio alpha beta k scale blobs_lr* weight_decay* det_fg_threshold det_bg_threshold"
        " det_fg_fraction",
        flag="biasterm mirror shuffle_images",
        PoolMethod="pool",
        FillerParameter="weight_filler bias_filler",
        BlobProto="blobs*",
        HDF5OutputParameter="hdf5_output_param",
    ),
    "BlobShape": _fields(whole="dim*"),
    "BlobProto": _fields(
        BlobShape="shape",
        number="data* diff* double_data* double_diff*",
        whole="num channels height width",
    ),
    "FillerParameter": _fields(
        text="type", number="value min max mean std", whole="sparse", VarianceNorm="variance_norm"
    ),
    "AccuracyParameter": _fields(count="top_k", whole="axis ignore_label"),
    "ArgMaxParameter": _fields(flag="out_max_val", count="top_k", whole="axis"),
    "BatchNormParameter": _fields(flag="use_global_stats", number="moving_average_fraction eps"),
    "BiasParameter": _fields(whole="axis num_axes", FillerParameter="filler"),
    "ClipParameter": _fields(number="min max"),
    "ConcatParameter": _fields(whole="axis", count="concat_dim"),
    "ContrastiveLossParameter": _fields(number="margin", flag="legacy_version"),
    "ConvolutionParameter": _fields(
        count="num_output pad* kernel_size* stride* dilation* pad_h pad_w kernel_h kernel_w stride_h stride_w group",
        flag="bias_term force_nd_im2col",
        whole="axis",
        Engine="engine",
        FillerParameter="weight_filler bias_filler",
    ),
    "CropParameter": _fields(whole="axis", count="offset*"),
    "DataParameter": _stored(count="rand_skip prefetch", DB="backend", flag="force_encoded_color"),
    "DropoutParameter": _fields(number="dropout_ratio"),
    "DummyDataParameter": _fields(
        FillerParameter="data_filler*", BlobShape="shape*", count="num* channels* height* width*"
    ),
    "ELUParameter": _fields(number="alpha"),
    "EltwiseParameter": _fields(EltwiseOp="operation", number="coeff*", flag="stable_prod_grad"),
    "EmbedParameter": _fields(
        count="num_output input_dim", flag="bias_term", FillerParameter="weight_filler bias_filler"
    ),
    "ExpParameter": _fields(number="base scale shift"),
    "FlattenParameter": _fields(whole="axis end_axis"),
    "HDF5DataParameter": _fields(text="source", count="batch_size", flag="shuffle"),
    "HDF5OutputParameter": _fields(text="file_name"),
    "HingeLossParameter": _fields(Norm="norm"),
    "ImageDataParameter": _stored(text="root_folder", count="rand_skip new_height new_width", flag="shuffle is_color"),
    "InfogainLossParameter": _fields(text="source", whole="axis"),
    "InnerProductParameter": _fields(
        count="num_output", flag="bias_term transpose", whole="axis", FillerParameter="weight_filler bias_filler"
    ),
    "InputParameter": _fields(BlobShape="shape*"),
    "LRNParameter": _fields(count="local_size", number="alpha beta k", NormRegion="norm_region", Engine="engine"),
    "LogParameter": _fields(number="base scale shift"),
    "LossParameter": _fields(whole="ignore_label", NormalizationMode="normalization", flag="normalize"),
    "MVNParameter": _fields(flag="normalize_variance across_channels", number="eps"),
    "MemoryDataParameter": _fields(count="batch_size channels height width"),
    "PReLUParameter": _fields(FillerParameter="filler", flag="channel_shared"),
    "ParameterParameter": _fields(BlobShape="shape"),
    "PoolingParameter": _fields(
        PoolMethod="pool",
        count="pad pad_h pad_w kernel_size kernel_h kernel_w stride stride_h stride_w",
        flag="global_pooling",
        RoundMode="round_mode",
        Engine="engine",
    ),
    "PowerParameter": _fields(number="power scale shift"),
    "PythonParameter": _fields(text="module layer param_str", flag="share_in_parallel"),
    "ReLUParameter": _fields(number="negative_slope", Engine="engine"),
    "RecurrentParameter": _fields(
        count="num_output", FillerParameter="weight_filler bias_filler", flag="debug_info expose_hidden"
    ),
    "ReductionParameter": _fields(ReductionOp="operation", whole="axis", number="coeff"),
    "ReshapeParameter": _fields(BlobShape="shape", whole="axis num_axes"),
    "SPPParameter": _fields(count="pyramid_height", PoolMethod="pool", Engine="engine"),
    "ScaleParameter": _fields(whole="axis num_axes", flag="bias_term", FillerParameter="filler bias_filler"),
    "SigmoidParameter": _fields(Engine="engine"),
    "SliceParameter": _fields(whole="axis", count="slice_point* slice_dim"),
    "SoftmaxParameter": _fields(Engine="engine", whole="axis"),
    "SwishParameter": _fields(number="beta"),
    "TanHParameter": _fields(Engine="engine"),
    "ThresholdParameter": _fields(number="threshold"),
    "TileParameter": _fields(whole="axis tiles"),
    "TransformationParameter": _fields(
        number="scale mean_value*", flag="mirror force_color force_gray", count="crop_size", text="mean_file"
    ),
    "WindowDataParameter": _stored(
        number="fg_threshold bg_threshold fg_fraction",
        count="context_pad",
        text="crop_mode root_folder",
        flag="cache_images",
    ),
}

# caffe-fast-rcnn's dropout_layer.cpp, and the pooling of many forks (as OpenCV's importer reads it).
# Permute, Normalize, PriorBox, DetectionOutput: weiliu89/caffe, branch ssd. Interp, BN: hszhao/PSPNet. BN, Upsample:
# alexgkendall/caffe-segnet. BatchNorm: NVIDIA's Caffe. ShuffleChannel: farmingyard/ShuffleNet. ROIPooling:
# rbgirshick/caffe-fast-rcnn. PSROIPooling: daijifeng001/caffe-rfcn.
_FORKS = {
    "DropoutParameter": _fields(flag="scale_train"),
    "PoolingParameter": _fields(flag="ceil_mode"),
    "LayerParameter": _fields(
        BNParameter="bn_param",
        DetectionOutputParameter="detection_output_param",
        InterpParameter="interp_param",
        NormalizeParameter="norm_param",
        PSROIPoolingParameter="psroi_pooling_param",
        PermuteParameter="permute_param",
        PriorBoxParameter="prior_box_param",
        ROIPoolingParameter="roi_pooling_param",
        ShuffleChannelParameter="shuffle_channel_param",
        UpsampleParameter="upsample_param",
    ),
    "BNParameter": _fields(
        FillerParameter="slope_filler bias_filler scale_filler shift_filler",
        number="momentum eps",
        flag="frozen",
        BNMode="bn_mode",
        Engine="engine",
    ),
    "BatchNormParameter": _fields(flag="scale_bias", FillerParameter="scale_filler bias_filler"),
    "UpsampleParameter": _fields(count="scale scale_h scale_w upsample_h upsample_w", flag="pad_out_h pad_out_w"),
    "PriorBoxParameter": _fields(
        number="min_size* max_size* aspect_ratio* variance* step step_h step_w offset",
        flag="flip clip",
        count="img_size img_h img_w",
    ),
    "DetectionOutputParameter": _fields(
        count="num_classes",
        flag="share_location variance_encoded_in_target visualize",
        whole="background_label_id keep_top_k",
        NonMaximumSuppressionParameter="nms_param",
        SaveOutputParameter="save_output_param",
        BoxCode="code_type",
        number="confidence_threshold visualize_threshold",
        text="save_file",
    ),
    "NonMaximumSuppressionParameter": _fields(number="nms_threshold eta", whole="top_k"),
    "SaveOutputParameter": _fields(
        text="output_directory output_name_prefix output_format label_map_file name_size_file",
        count="num_test_image",
    ),
    "ROIPoolingParameter": _fields(count="pooled_h pooled_w", number="spatial_scale"),
    "PSROIPoolingParameter": _fields(number="spatial_scale", whole="output_dim group_size"),
    "InterpParameter": _fields(whole="height width zoom_factor shrink_factor pad_beg pad_end"),
    "NormalizeParameter": _fields(flag="across_spatial channel_shared", number="eps", FillerParameter="scale_filler"),
    "ShuffleChannelParameter": _fields(count="group"),
    "PermuteParameter": _fields(count="order*"),
}
for _name, _more in _FORKS.items():
    MESSAGES[_name] = MESSAGES.get(_name, {}) | _more


def check(message: Message, kind: str, where: str = "") -> None:
    """Refuse whatever protobuf would not take for a message of that kind; raises `PrototxtError` with the line.

    Args:
        message: what was written.
        kind: its name in caffe.proto.
        where: the field it is the value of, for the error.
    """
    check_own(message, kind, where)
    for name, values in message.fields.items():
        for value in values:
            if isinstance(value, Message):
                check(value, MESSAGES[kind][name][0], name)


def check_own(message: Message, kind: str, where: str = "") -> None:
    """`check` of a message's own fields; of what is in its blocks, nothing is looked at."""
    unknown = sorted(set(message.fields) - set(MESSAGES[kind]))
    if unknown:
        blocks = [value for name in unknown for value in message.fields[name] if isinstance(value, Message)]
        line = blocks[0].line if blocks else message.line
        raise PrototxtError(line, f"unknown field {', '.join(unknown)}{f' in {where}' if where else ''}")
    for name, values in message.fields.items():
        expected, is_repeated = MESSAGES[kind][name]
        if len(values) > 1 and not is_repeated:
            raise PrototxtError(message.line, f"{name} is given {len(values)} times")
        for value in values:
            problem = _problem(value, expected)
            if problem:
                raise PrototxtError(message.line, f"{name} must be {problem}")


def _problem(value: Value, kind: str) -> str:
    """What a value of that kind must be, where it is not."""
    if kind in MESSAGES:
        return "" if isinstance(value, Message) else f"a {{ }} block, got {shown(value)}"
    if kind in _ENUMS:
        fits = value in _ENUMS[kind] if isinstance(value, Word) else value in _ENUMS[kind].values()
        return "" if fits else f"one of {', '.join(_ENUMS[kind])}, a word without quotes, got {shown(value)}"
    match kind:
        case "text":
            return (
                "" if isinstance(value, str) and not isinstance(value, Word) else f"text in quotes, got {shown(value)}"
            )
        case "flag":
            is_word = isinstance(value, Word) and value in ("true", "True", "t", "false", "False", "f")
            return (
                "" if is_word or (isinstance(value, int) and value in (0, 1)) else f"true or false, got {shown(value)}"
            )
        case "number":
            fits = isinstance(value, int | float) and not isinstance(value, Radix) and isfinite(value)
            return "" if fits else f"a decimal number, and finite, got {shown(value)}"
        case _:
            least = 0 if kind == "count" else -(1 << 31)
            fits = isinstance(value, int) and least <= value < 1 << 31
            return "" if fits else f"a whole number{' from 0 on' if kind == 'count' else ''}, got {shown(value)}"
