"""Which fields each message of a network file has: a slip of the pen must not become a default.

Names, kinds and enums are those of BVLC caffe's ``caffe.proto``; a block that a fork has added is in its kind's row. A
text has no field numbers: `zoo.wire.caffemodel` has those that are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from zoo.frameworks.caffe import detecting, forks, normalising, pointwise, pooling
from zoo.frameworks.caffe.row import Fields, fields
from zoo.frameworks.caffe.vocabulary import ROWS
from zoo.limits import in_float32
from zoo.wire.caffemodel import V1_TYPES
from zoo.wire.prototxt import Message, PrototxtError, Radix, Value, Word, shown

_ENGINES = ("DEFAULT", "CAFFE", "CUDNN", "MKL2017", "MKLDNN")  # the last two are Intel's

# Enum -> its values, by name; those of forks may have no number that is known.
ENUMS: dict[str, Mapping[str, int | None]] = {
    **{
        kind: {name: number for number, name in enumerate(names)}
        for kind, names in {
            "Phase": ("TRAIN", "TEST"),
            "DimCheckMode": ("STRICT", "PERMISSIVE"),
            "VarianceNorm": ("FAN_IN", "FAN_OUT", "AVERAGE"),
            "NormalizationMode": ("FULL", "VALID", "BATCH_SIZE", "NONE", "PRE_FIXED"),  # the last is R-FCN's
            "Engine": _ENGINES,
            "BNMode": ("LEARN", "INFERENCE"),
            "DB": ("LEVELDB", "LMDB"),
            "EltwiseOp": pointwise.OPERATIONS,
            "NormRegion": normalising.NORM_REGIONS,
            "LabelType": ("NONE", "PIXEL", "IMAGE"),
            "PoolMethod": pooling.METHODS,
            "Precision": ("DOUBLE", "FLOAT", "FLOAT16", "INT", "UINT"),
            "RoundMode": pooling.ROUND_MODES,
        }.items()
    },
    "BoxCode": {name: number for number, name in enumerate(detecting.CODES, 1)},
    "Norm": {"L1": 1, "L2": 2},
    "ReductionOp": {name: number for number, name in enumerate(pooling.REDUCTIONS, 1)},
    "LayerType": {
        "NONE": 0,
        **{name: number for name, (number, _) in V1_TYPES.items()},
        **dict.fromkeys(forks.V1_TYPES),
    },
}


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


def _stored(**more: str) -> Fields:
    """The fields of a block that says where images are stored, and these."""
    return fields(**{kind: f"{_STORED.get(kind, '')} {more.get(kind, '')}" for kind in {**_STORED, **more}})


# Message -> its fields.
MESSAGES: dict[str, Fields] = {
    "NetParameter": fields(
        text="name input*",
        whole="input_dim*",
        flag="force_backward debug_info",
        BlobShape="input_shape*",
        NetState="state",
        LayerParameter="layer*",
        V1LayerParameter="layers*",
    ),
    "NetState": fields(Phase="phase", whole="level", text="stage*"),
    "NetStateRule": fields(Phase="phase", whole="min_level max_level", text="stage* not_stage*"),
    "ParamSpec": fields(text="name", DimCheckMode="share_mode", number="lr_mult decay_mult"),
    "LayerParameter": fields(
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
    "V1LayerParameter": fields(
        text="name bottom* top* param*",
        LayerType="type",
        number="blobs_lr* weight_decay* loss_weight*",
        BlobProto="blobs*",
        DimCheckMode="blob_share_mode*",
        NetStateRule="include* exclude*",
        V0LayerParameter="layer",
        **_BLOCKS,
    ),
    "V0LayerParameter": fields(
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
    "BlobShape": fields(whole="dim*"),
    "BlobProto": fields(
        BlobShape="shape",
        number="data* diff* double_data* double_diff*",
        whole="num channels height width",
    ),
    "FillerParameter": fields(
        text="type", number="value min max mean std", whole="sparse", VarianceNorm="variance_norm"
    ),
    "AccuracyParameter": fields(count="top_k", whole="axis ignore_label"),
    "ArgMaxParameter": fields(flag="out_max_val", count="top_k", whole="axis"),
    "BatchNormParameter": fields(flag="use_global_stats", number="moving_average_fraction eps"),
    "BiasParameter": fields(whole="axis num_axes", FillerParameter="filler"),
    "ClipParameter": fields(number="min max"),
    "ConcatParameter": fields(whole="axis", count="concat_dim"),
    "ContrastiveLossParameter": fields(number="margin", flag="legacy_version"),
    "ConvolutionParameter": fields(
        count="num_output pad* kernel_size* stride* dilation* pad_h pad_w kernel_h kernel_w stride_h stride_w group",
        flag="bias_term force_nd_im2col",
        whole="axis",
        Engine="engine",
        FillerParameter="weight_filler bias_filler",
    ),
    "CropParameter": fields(whole="axis", count="offset*"),
    "DataParameter": _stored(count="rand_skip prefetch", DB="backend", flag="force_encoded_color"),
    "DropoutParameter": fields(number="dropout_ratio"),
    "DummyDataParameter": fields(
        FillerParameter="data_filler*", BlobShape="shape*", count="num* channels* height* width*"
    ),
    "ELUParameter": fields(number="alpha"),
    "EltwiseParameter": fields(EltwiseOp="operation", number="coeff*", flag="stable_prod_grad"),
    "EmbedParameter": fields(
        count="num_output input_dim", flag="bias_term", FillerParameter="weight_filler bias_filler"
    ),
    "ExpParameter": fields(number="base scale shift"),
    "FlattenParameter": fields(whole="axis end_axis"),
    "HDF5DataParameter": fields(text="source", count="batch_size", flag="shuffle"),
    "HDF5OutputParameter": fields(text="file_name"),
    "HingeLossParameter": fields(Norm="norm"),
    "ImageDataParameter": _stored(text="root_folder", count="rand_skip new_height new_width", flag="shuffle is_color"),
    "InfogainLossParameter": fields(text="source", whole="axis"),
    "InnerProductParameter": fields(
        count="num_output", flag="bias_term transpose", whole="axis", FillerParameter="weight_filler bias_filler"
    ),
    "InputParameter": fields(BlobShape="shape*"),
    "LRNParameter": fields(count="local_size", number="alpha beta k", NormRegion="norm_region", Engine="engine"),
    "LogParameter": fields(number="base scale shift"),
    "LossParameter": fields(whole="ignore_label", NormalizationMode="normalization", flag="normalize"),
    "MVNParameter": fields(flag="normalize_variance across_channels", number="eps"),
    "MemoryDataParameter": fields(count="batch_size channels height width"),
    "PReLUParameter": fields(FillerParameter="filler", flag="channel_shared"),
    "ParameterParameter": fields(BlobShape="shape"),
    "PoolingParameter": fields(
        PoolMethod="pool",
        count="pad pad_h pad_w kernel_size kernel_h kernel_w stride stride_h stride_w",
        flag="global_pooling",
        RoundMode="round_mode",
        Engine="engine",
    ),
    "PowerParameter": fields(number="power scale shift"),
    "PythonParameter": fields(text="module layer param_str", flag="share_in_parallel"),
    "ReLUParameter": fields(number="negative_slope", Engine="engine"),
    "RecurrentParameter": fields(
        count="num_output", FillerParameter="weight_filler bias_filler", flag="debug_info expose_hidden"
    ),
    "ReductionParameter": fields(ReductionOp="operation", whole="axis", number="coeff"),
    "ReshapeParameter": fields(BlobShape="shape", whole="axis num_axes"),
    "SPPParameter": fields(count="pyramid_height", PoolMethod="pool", Engine="engine"),
    "ScaleParameter": fields(whole="axis num_axes", flag="bias_term", FillerParameter="filler bias_filler"),
    "SigmoidParameter": fields(Engine="engine"),
    "SliceParameter": fields(whole="axis", count="slice_point* slice_dim"),
    "SoftmaxParameter": fields(Engine="engine", whole="axis"),
    "SwishParameter": fields(number="beta"),
    "TanHParameter": fields(Engine="engine"),
    "ThresholdParameter": fields(number="threshold"),
    "TileParameter": fields(whole="axis tiles"),
    "TransformationParameter": fields(
        number="scale mean_value*", flag="mirror force_color force_gray", count="crop_size", text="mean_file"
    ),
    "WindowDataParameter": _stored(
        number="fg_threshold bg_threshold fg_fraction",
        count="context_pad",
        text="crop_mode root_folder",
        flag="cache_images",
    ),
}

# filler.hpp, GetFiller
_FILLERS = ("constant", "gaussian", "positive_unitball", "uniform", "xavier", "msra", "bilinear")

# Message -> the fields without which protobuf takes none of its kind.
_REQUIRED = {
    "ClipParameter": ("min", "max"),
    "PSROIPoolingParameter": ("spatial_scale", "output_dim", "group_size"),
}

# The dropout_layer.cpp of caffe-fast-rcnn and of caffe-segnet, and the pooling of many forks (as OpenCV reads it).
MESSAGES["DropoutParameter"] |= fields(flag="scale_train sample_weights_test")
MESSAGES["PoolingParameter"] |= fields(flag="ceil_mode")
# NVIDIA's Caffe.
MESSAGES["BatchNormParameter"] |= fields(flag="scale_bias", FillerParameter="scale_filler bias_filler")
# Within a DetectionOutput (weiliu89/caffe, branch ssd).
MESSAGES["NonMaximumSuppressionParameter"] = fields(number="nms_threshold eta", whole="top_k")
MESSAGES["SaveOutputParameter"] = fields(
    text="output_directory output_name_prefix output_format label_map_file name_size_file",
    count="num_test_image",
    block="resize_param",
)
for _row in ROWS:
    if _row.fields is not None:
        for _dialect in ("LayerParameter", "V1LayerParameter"):
            MESSAGES[_dialect][_row.block] = (f"{_row.type}Parameter", False)
        MESSAGES[f"{_row.type}Parameter"] = _row.fields
for _kind, _fields in forks.PASSED_OVER.items():
    MESSAGES[_kind] |= _fields


def check(message: Message, kind: str, where: str = "") -> None:
    """Refuse whatever protobuf would not take for a message of that kind; raises `PrototxtError` with the line.

    Args:
        message: what was written.
        kind: its name in caffe.proto.
        where: the field it is the value of, for the error.
    """
    check_own(message, kind, where)
    for name, inner, value in _blocks(message, kind):
        check(value, inner, name)


def passed_over(message: Message, kind: str) -> set[str]:
    """The fields of a message, and of what is in it, that say nothing of a deployed network."""
    found = {name for name in message.fields if name in forks.PASSED_OVER.get(kind, ())}
    return found.union(*(passed_over(value, inner) for _, inner, value in _blocks(message, kind)))


def _blocks(message: Message, kind: str) -> Iterator[tuple[str, str, Message]]:
    """The field, the kind and the value of every block in a message whose fields are known."""
    for name, values in message.fields.items():
        inner = MESSAGES[kind][name][0]
        yield from ((name, inner, value) for value in values if isinstance(value, Message) and inner in MESSAGES)


def check_own(message: Message, kind: str, where: str = "") -> None:
    """`check` of a message's own fields; of what is in its blocks, nothing is looked at."""
    unknown = sorted({*message.fields, *message.lists} - set(MESSAGES[kind]))
    if unknown:
        blocks = [value for name in unknown for value in message.fields.get(name, []) if isinstance(value, Message)]
        line = blocks[0].line if blocks else message.line
        raise PrototxtError(line, f"unknown field {', '.join(unknown)}{f' in {where}' if where else ''}")
    missing = [name for name in _REQUIRED.get(kind, ()) if name not in message]
    if missing:
        raise PrototxtError(message.line, f"{' and '.join(missing)} is missing{f' in {where}' if where else ''}")
    for name in sorted(message.lists):
        if not MESSAGES[kind][name][1]:
            raise PrototxtError(message.line, f"{name} is written as a list, and has one value at most")
    if kind == "FillerParameter" and message.string("type", "constant") not in _FILLERS:
        raise PrototxtError(
            message.line, f"{where} must be one of {', '.join(_FILLERS)}, got {message.string('type')!r}"
        )
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
    if kind in MESSAGES or kind == "block":
        return "" if isinstance(value, Message) else f"a {{ }} block, got {shown(value)}"
    if kind in ENUMS:
        fits = value in ENUMS[kind] if isinstance(value, Word) else value in ENUMS[kind].values()
        return "" if fits else f"one of {', '.join(ENUMS[kind])}, a word without quotes, got {shown(value)}"
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
            fits = isinstance(value, int | float) and not isinstance(value, Radix) and in_float32(value)
            return "" if fits else f"a decimal number of float32, and finite, got {shown(value)}"
        case _:
            least = 0 if kind == "count" else -(1 << 31)
            fits = isinstance(value, int) and least <= value < 1 << 31
            return "" if fits else f"a whole number{' from 0 on' if kind == 'count' else ''}, got {shown(value)}"
