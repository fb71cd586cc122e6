"""What the float64 reference costs, a kind a row: beside the machine's gemm, or beside copying what the layer reads."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from benchmarks.measure import table
from converters.parity import probe_weights
from zoo import layers, reference
from zoo.layers import Input, Layer, ModelSpec, Shape
from zoo.reference.arrays import Float64
from zoo.shapes import multiply_adds

_MAP: Shape = (64, 112, 112)
_REGION: Shape = (5,)
_ROWS = 2
_RUNS = 9

# Name -> layer and the shapes that it reads.
_WEIGHTED: dict[str, tuple[Layer, Shape]] = {
    "Conv 11 x 11, stride 4": (layers.Conv(name="op", out_channels=96, kernel=(11, 11), stride=(4, 4)), (3, 227, 227)),
    "Conv 7 x 7, stride 2": (
        layers.Conv(name="op", out_channels=64, kernel=(7, 7), stride=(2, 2), pad=(3, 3)),
        (3, 224, 224),
    ),
    "Conv 3 x 3": (layers.Conv(name="op", out_channels=64, kernel=(3, 3), pad=(1, 1)), (64, 112, 112)),
    "Conv 3 x 3, deep": (layers.Conv(name="op", out_channels=512, kernel=(3, 3), pad=(1, 1)), (512, 14, 14)),
    "Conv 5 x 5, 2 groups": (
        layers.Conv(name="op", out_channels=256, kernel=(5, 5), pad=(2, 2), groups=2),
        (96, 27, 27),
    ),
    "Conv 1 x 1": (layers.Conv(name="op", out_channels=256, kernel=(1, 1)), (256, 28, 28)),
    "Deconv 4 x 4, stride 2": (
        layers.Deconv(name="op", out_channels=64, kernel=(4, 4), stride=(2, 2), pad=(1, 1)),
        (64, 56, 56),
    ),
    "Dense, 64 rows": (layers.Dense(name="op", axis=2, out_features=4096), (32, 9216)),
}

_OTHERS: dict[str, tuple[Layer, tuple[Shape, ...]]] = {
    "Conv 3 x 3, depthwise": (
        layers.Conv(name="op", out_channels=64, kernel=(3, 3), pad=(1, 1), groups=64),
        (_MAP,),
    ),
    "Deconv 4 x 4, a group a channel": (
        layers.Deconv(name="op", out_channels=64, kernel=(4, 4), stride=(2, 2), pad=(1, 1), groups=64),
        (_MAP,),
    ),
    "Embed": (layers.Embed(name="op", rows=1000, out_features=16), ((64, 56),)),
    "Pool max 3 / 2": (layers.Pool(name="op", mode="max", kernel=(3, 3), stride=(2, 2)), (_MAP,)),
    "Pool max 3 / 1": (layers.Pool(name="op", mode="max", kernel=(3, 3), pad=(1, 1)), (_MAP,)),
    "Pool ave 3 / 2": (layers.Pool(name="op", mode="ave", kernel=(3, 3), stride=(2, 2)), (_MAP,)),
    "Pool ave, all": (layers.Pool(name="op", mode="ave", global_pool=True), (_MAP,)),
    "PoolMask 2 / 2": (layers.PoolMask(name="op", kernel=(2, 2), stride=(2, 2)), (_MAP,)),
    "Unpool": (layers.Unpool(name="op"), (_MAP, _MAP)),
    "Interp x 2": (layers.Interp(name="op", zoom=2), (_MAP,)),
    "Reduction": (layers.Reduction(name="op", operation="asum", axis=1), (_MAP,)),
    "ArgMax, an axis": (layers.ArgMax(name="op", axis=1), (_MAP,)),
    "ArgMax": (layers.ArgMax(name="op"), (_MAP,)),
    "LRN across": (layers.LRN(name="op", size=5, alpha=1e-4, beta=0.75), (_MAP,)),
    "LRN within": (layers.LRN(name="op", size=3, alpha=1e-4, beta=0.75, region="within"), (_MAP,)),
    "BatchNorm": (layers.BatchNorm(name="op"), (_MAP,)),
    "MVN": (layers.MVN(name="op"), (_MAP,)),
    "Normalize": (layers.Normalize(name="op", across_spatial=False, shared=False), (_MAP,)),
    "Softmax": (layers.Softmax(name="op"), (_MAP,)),
    "ReLU": (layers.ReLU(name="op"), (_MAP,)),
    "PReLU": (layers.PReLU(name="op"), (_MAP,)),
    "Sigmoid": (layers.Sigmoid(name="op"), (_MAP,)),
    "TanH": (layers.TanH(name="op"), (_MAP,)),
    "Power": (layers.Power(name="op", power=2, shift=1), (_MAP,)),
    "Dropout": (layers.Dropout(name="op"), (_MAP,)),
    **{
        f"Unary {function}": (layers.Unary(name="op", function=function, numbers=tuple(numbers.values())), (_MAP,))
        for function, numbers in layers.FUNCTIONS.items()
    },
    "Eltwise sum": (layers.Eltwise(name="op"), (_MAP, _MAP)),
    "Eltwise prod": (layers.Eltwise(name="op", operation="prod"), (_MAP, _MAP)),
    "Eltwise max": (layers.Eltwise(name="op", operation="max"), (_MAP, _MAP)),
    "Scale": (layers.Scale(name="op", bias=True), (_MAP,)),
    "Bias": (layers.Bias(name="op"), (_MAP,)),
    "Axpy": (layers.Axpy(name="op"), ((64, 1, 1), _MAP, _MAP)),
    "Flatten": (layers.Flatten(name="op"), (_MAP,)),
    "Concat": (layers.Concat(name="op"), (_MAP, _MAP)),
    "Slice": (layers.Slice(name="op", start=8, stop=56), (_MAP,)),
    "Reshape": (layers.Reshape(name="op", dims=(0, 8, 8, -1)), (_MAP,)),
    "Permute": (layers.Permute(name="op", order=(0, 2, 3, 1)), (_MAP,)),
    "Tile": (layers.Tile(name="op", tiles=2), (_MAP,)),
    "Crop": (layers.Crop(name="op", offsets=(4,)), (_MAP, (64, 96, 96))),
    "Shuffle": (layers.Shuffle(name="op", groups=4), (_MAP,)),
    "PSROIPool": (layers.PSROIPool(name="op", channels=4, group=4, scale=0.25), (_MAP, _REGION)),
    "ROIPool": (layers.ROIPool(name="op", size=(7, 7), scale=0.25), (_MAP, _REGION)),
    "PriorBox": (layers.PriorBox(name="op", min_sizes=(30,), max_sizes=(60,), ratios=(2,)), (_MAP, (3, 300, 300))),
    "DetectionOutput": (
        layers.DetectionOutput(name="op", classes=3, code="center_size", top_k=100, keep=50, confidence=0.3),
        ((8000,), (6000,), (2, 8000)),
    ),
}


def _seconds(work: Callable[[], object]) -> float:
    """By the clock, on the cores that there are: the least of the runs of half a second, and of nine at the least."""
    taken, end = list[float](), time.perf_counter() + 0.5
    while len(taken) < _RUNS or time.perf_counter() < end:
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return min(taken)


def _alone(layer: Layer, shapes: tuple[Shape, ...]) -> ModelSpec:
    inputs = tuple(Input(name=f"in{i}", shape=shape) for i, shape in enumerate(shapes))
    named = replace(layer, inputs=tuple(source.name for source in inputs))
    return ModelSpec(name="op", title="op", inputs=inputs, layers=(named,))


def _noise(shape: Shape) -> Float64:
    drawn = np.random.default_rng(0).uniform(0.01, 1, (_ROWS, *shape))
    return drawn * (1, 100, 100, 200, 200) if shape == _REGION else drawn


def _timed(spec: ModelSpec) -> tuple[float, list[Float64]]:
    """The seconds of its one layer on noise, and the noise."""
    inputs = [_noise(source.shape) for source in spec.inputs]
    tensors = {name.removeprefix("op."): tensor for name, tensor in probe_weights(spec).tensors.items()}
    return _seconds(lambda: reference.apply(spec.layers[0], inputs, tensors)), inputs


def main() -> str:
    square = np.random.default_rng(0).normal(size=(2048, 2048))
    gemm = 2 * 2048**3 / _seconds(lambda: square @ square)
    rows = list[list[str]]()
    for name, (layer, shape) in _WEIGHTED.items():
        spec = _alone(layer, (shape,))
        seconds, _ = _timed(spec)
        rows.append([name, f"{2 * _ROWS * multiply_adds(spec)['op'] / seconds / gemm:.0%} of gemm", "60 %"])
    for name, (layer, shapes) in _OTHERS.items():
        seconds, inputs = _timed(_alone(layer, shapes))
        copied = _seconds(lambda inputs=inputs: [np.copy(x) for x in inputs])
        rows.append([name, f"{seconds / copied:.1f} x copying", "10 x"])
    return table(["kind", f"gemm: {gemm / 1e9:.0f} GFLOP/s, float64", "goal"], rows)


if __name__ == "__main__":
    print(main())
