"""The table: ONNX operator -> how it is read. What it does not list is outside the layer vocabulary."""

from __future__ import annotations

from collections.abc import Callable

from zoo.frameworks.onnx.reading import composed, normalising, places, pointwise, pooling, shaping, weighted
from zoo.frameworks.onnx.reading.op import Op
from zoo.frameworks.onnx.reading.walk import Walk


def _identity(walk: Walk, op: Op) -> None:
    walk.values[op.out] = walk.view(op.reads())


READERS: dict[str, Callable[[Walk, Op], None]] = {
    **pointwise.SINGLE,
    "Add": pointwise.arithmetic,
    "ArgMax": pooling.arg_max,
    "AveragePool": composed.over_rows(pooling.average_pool),
    "BatchNormalization": normalising.batch_norm,
    "Cast": pointwise.cast,
    "Celu": composed.celu,
    "Concat": shaping.concat,
    "ConstantOfShape": shaping.repeat,
    "Conv": composed.over_rows(weighted.conv),
    "ConvTranspose": composed.over_rows(weighted.deconv),
    "DepthToSpace": shaping.depth_to_space,
    "Div": pointwise.arithmetic,
    "Dropout": pointwise.dropout,
    "Expand": shaping.repeat,
    "Flatten": shaping.reshape,
    "Gather": shaping.gather,
    "Gelu": composed.gelu,
    "Gemm": weighted.gemm,
    "GlobalAveragePool": composed.over_rows(pooling.global_pool),
    "GlobalMaxPool": composed.over_rows(pooling.global_pool),
    "Greater": pointwise.greater,
    "GroupNormalization": composed.group_norm,
    "HardSigmoid": pointwise.hard,
    "HardSwish": pointwise.hard,
    "Identity": _identity,
    "InstanceNormalization": normalising.instance_norm,
    "LRN": normalising.lrn,
    "LayerNormalization": composed.layer_norm,
    "LogSoftmax": normalising.softmax,
    "MatMul": weighted.matmul,
    "Max": pointwise.several,
    "MaxPool": composed.over_rows(pooling.max_pool),
    "Mean": pointwise.several,
    "MeanVarianceNormalization": normalising.mean_variance_norm,
    "Min": pointwise.several,
    "Mish": composed.mish,
    "Mul": pointwise.arithmetic,
    "PRelu": pointwise.prelu,
    "Pad": shaping.pad,
    "Pow": pointwise.power,
    "ReduceL1": pooling.reduce,
    "ReduceL2": pooling.reduce,
    "ReduceMax": pooling.reduce,
    "ReduceMean": pooling.reduce,
    "ReduceSum": pooling.reduce,
    "ReduceSumSquare": pooling.reduce,
    "Reshape": shaping.reshape,
    "Resize": pooling.resize,
    "Scatter": places.unpool,
    "ScatterElements": places.unpool,
    "ScatterND": places.unpool,
    "Selu": pointwise.selu,
    "Slice": shaping.slice_,
    "Softmax": normalising.softmax,
    "Split": shaping.split,
    "Squeeze": shaping.reshape,
    "Sub": pointwise.arithmetic,
    "Sum": pointwise.several,
    "Tile": shaping.tile,
    "TopK": pooling.top_k,
    "Transpose": shaping.transpose,
    "Unsqueeze": shaping.reshape,
    "Upsample": pooling.resize,
    "Where": pointwise.where,
}
