"""One-layer networks of every kind, on images, vectors and sequences, with probe weights and the proof's budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from converters.weights import Array
from zoo.layers import (
    LRN,
    MVN,
    ArgMax,
    Axpy,
    BatchNorm,
    Bias,
    Concat,
    Constant,
    Conv,
    Crop,
    Deconv,
    Dense,
    DetectionOutput,
    Dropout,
    Eltwise,
    Embed,
    Flatten,
    Input,
    Interp,
    Layer,
    ModelSpec,
    Normalize,
    Permute,
    Pool,
    PoolMask,
    Power,
    PReLU,
    PriorBox,
    PSROIPool,
    Reduction,
    ReLU,
    Reshape,
    ROIPool,
    Scale,
    Shape,
    Shuffle,
    Sigmoid,
    Slice,
    Softmax,
    TanH,
    Tie,
    Tile,
    Unary,
    Unpool,
)
from zoo.shapes import parameter_shapes, tied

# The float32 floor of a layer against the float64 oracle is 0.3e-6 to 2e-6; the budget of the proof is 1e-5.
BUDGET = 1e-5

IMAGE, VECTOR, SEQUENCE, PIXELS = (8, 7, 6), (8,), (4, 5), (3, 9, 9)


def net(
    *layers: Layer, shapes: Sequence[Shape] = (IMAGE,), name: str = "net", names: Sequence[str] = ("in0", "in1", "in2")
) -> ModelSpec:
    inputs = tuple(Input(name=name, shape=shape) for name, shape in zip(names, shapes, strict=False))
    return ModelSpec(name=name, title=name, inputs=inputs, layers=layers)


def two(layer: Layer, first: Shape = IMAGE, second: Shape = IMAGE) -> ModelSpec:
    return net(replace(layer, inputs=("in0", "in1")), shapes=(first, second))


KINDS = {
    "conv same": net(Conv(name="op", out_channels=4, kernel=(3, 3), pad=(1, 1))),
    "conv wide": net(Conv(name="op", out_channels=6, kernel=(3, 3), pad=(1, 1))),
    "conv hw": net(Conv(name="op", out_channels=4, kernel=(3, 2), stride=(2, 1), pad=(1, 0))),
    "conv groups": net(Conv(name="op", out_channels=6, kernel=(3, 3), stride=(2, 2), pad=(2, 2), groups=2)),
    "conv no bias": net(Conv(name="op", out_channels=6, kernel=(1, 1), groups=2, bias=False)),
    "conv dilated": net(Conv(name="op", out_channels=4, kernel=(3, 3), pad=(2, 2), dilation=(2, 2))),
    "conv dilated stride": net(Conv(name="op", out_channels=4, kernel=(3, 3), stride=(2, 2), dilation=(2, 2))),
    "conv ceil": net(Conv(name="op", out_channels=4, kernel=(3, 3), stride=(3, 3), rounding="ceil")),
    "conv overhang": net(Conv(name="op", out_channels=4, kernel=(10, 2), stride=(4, 3), pad=(1, 0))),
    "deconv": net(Deconv(name="op", out_channels=4, kernel=(4, 4), stride=(2, 2), pad=(1, 1))),
    "deconv groups": net(Deconv(name="op", out_channels=4, kernel=(3, 2), stride=(1, 2), groups=2, bias=False)),
    "deconv gaps": net(Deconv(name="op", out_channels=3, kernel=(2, 2), stride=(3, 3), pad=(2, 0), dilation=(2, 1))),
    "dense image": net(Dense(name="op", out_features=5)),
    "dense vector": net(Dense(name="op", out_features=5, bias=False), shapes=(VECTOR,)),
    "dense axis 2": net(Dense(name="op", out_features=5, axis=2)),
    "dense axis 3": net(Dense(name="op", out_features=5, axis=-1)),
    "dense sequence": net(Dense(name="op", out_features=5), shapes=(SEQUENCE,)),
    "embed": net(Embed(name="op", rows=5, out_features=3), shapes=(SEQUENCE,)),
    "embed words": net(Embed(name="op", rows=5, out_features=3, bias=False), shapes=((),)),
    "max ceil": net(Pool(name="op", mode="max", kernel=(3, 3), stride=(2, 2))),
    "max floor": net(Pool(name="op", mode="max", kernel=(2, 3), stride=(2, 1), rounding="floor")),
    "max pad": net(Pool(name="op", mode="max", kernel=(3, 3), stride=(2, 2), pad=(1, 1))),
    "max pad clip": net(Pool(name="op", mode="max", kernel=(3, 2), stride=(3, 2), pad=(1, 0)), shapes=(PIXELS,)),
    "max empty": net(Pool(name="op", mode="max", kernel=(1, 1), stride=(2, 2))),
    "ave ceil": net(Pool(name="op", mode="ave", kernel=(3, 3), stride=(2, 2))),
    "ave pad": net(Pool(name="op", mode="ave", kernel=(3, 3), stride=(2, 2), pad=(1, 1))),
    "ave pad clip": net(Pool(name="op", mode="ave", kernel=(3, 3), stride=(3, 3), pad=(1, 2)), shapes=(PIXELS,)),
    "ave empty": net(Pool(name="op", mode="ave", kernel=(1, 1), stride=(2, 2))),
    "ave global": net(Pool(name="op", mode="ave", global_pool=True)),
    "max global": net(Pool(name="op", mode="max", global_pool=True)),
    "pool mask": net(PoolMask(name="op", kernel=(3, 2), stride=(2, 2), pad=(1, 0))),
    "pool mask global": net(PoolMask(name="op", global_pool=True)),
    "unpool": net(
        Pool(name="pool", mode="max", kernel=(2, 2), stride=(2, 2)),
        PoolMask(name="mask", inputs=("in0",), kernel=(2, 2), stride=(2, 2)),
        Unpool(name="op", inputs=("pool", "mask"), pad_out=(1, 0)),
    ),
    "unpool where places meet": net(
        Pool(name="pool", mode="max", kernel=(3, 3)),
        PoolMask(name="mask", inputs=("in0",), kernel=(3, 3)),
        Unpool(name="op", inputs=("pool", "mask"), size=(7, 6)),
    ),
    "interp": net(Interp(name="op", size=(11, 4))),
    "interp zoom": net(Interp(name="op", zoom=3, pad_beg=-1, pad_end=-2)),
    "interp shrink": net(Interp(name="op", shrink=2)),
    "interp to 1": net(Interp(name="op", size=(1, 1))),
    "sum of channels": net(Reduction(name="op", axis=1, coeff=0.5)),
    "mean of rows": net(Reduction(name="op", operation="mean", axis=-1)),
    "sum of squares": net(Reduction(name="op", operation="sumsq", axis=2)),
    "sum of sizes": net(Reduction(name="op", operation="asum", axis=1), shapes=(VECTOR,)),
    "argmax": net(ArgMax(name="op")),
    "argmax values": net(ArgMax(name="op", top_k=3, out_max_val=True)),
    "argmax channels": net(ArgMax(name="op", top_k=2, axis=1)),
    "argmax values of rows": net(ArgMax(name="op", top_k=2, axis=-2, out_max_val=True)),
    "argmax vector": net(ArgMax(name="op", top_k=2), shapes=(VECTOR,)),
    "lrn": net(LRN(name="op", size=5, alpha=0.5, beta=0.75, k=2.0)),
    "lrn towers": net(LRN(name="op", size=3, alpha=0.5, beta=0.75, k=2.0, towers=2)),
    "lrn wider than the image": net(LRN(name="op", size=9, alpha=1.0, beta=0.5), shapes=((3, 2, 2),)),
    "lrn within": net(LRN(name="op", size=3, alpha=0.5, beta=0.75, region="within")),
    "lrn vector": net(LRN(name="op", size=3, alpha=0.5, beta=0.75, towers=2), shapes=(VECTOR,)),
    "lrn sequence": net(LRN(name="op", size=3, alpha=0.5, beta=0.75), shapes=(SEQUENCE,)),
    "normalize": net(Normalize(name="op")),
    "normalize pixels": net(Normalize(name="op", across_spatial=False, shared=False)),
    "normalize vector": net(Normalize(name="op", shared=False), shapes=(VECTOR,)),
    "mvn": net(MVN(name="op", eps=0.1)),
    "mvn across": net(MVN(name="op", across_channels=True)),
    "reduction of five axes": net(Reduction(name="op", axis=-1), shapes=((2, 3, 4, 3),)),
    "mvn mean": net(MVN(name="op", normalize_variance=False), shapes=(SEQUENCE,)),
    "relu": net(ReLU(name="op")),
    "relu slope": net(ReLU(name="op", negative_slope=0.1)),
    "relu steep": net(ReLU(name="op", negative_slope=1.5)),
    "prelu": net(PReLU(name="op")),
    "prelu shared": net(PReLU(name="op", shared=True)),
    "prelu vector": net(PReLU(name="op"), shapes=(VECTOR,)),
    "prelu sequence": net(PReLU(name="op"), shapes=(SEQUENCE,)),
    "abs": net(Unary(name="op", function="abs")),
    "bnll": net(Unary(name="op", function="bnll")),
    "clip": net(Unary(name="op", function="clip", numbers=(-1.0, 2.5))),
    "clip to min": net(Unary(name="op", function="clip", numbers=(2.0, -1.0))),
    "elu": net(Unary(name="op", function="elu", numbers=(0.7,)), shapes=(VECTOR,)),
    "exp": net(Unary(name="op", function="exp", numbers=(2.0, 0.5, 1.0))),
    "log": net(ReLU(name="positive"), Unary(name="op", function="log", numbers=(10.0, 0.5, 1.0))),
    "swish": net(Unary(name="op", function="swish", numbers=(1.5,))),
    "threshold": net(Unary(name="op", function="threshold", numbers=(0.1,))),
    "sigmoid": net(Sigmoid(name="op")),
    "tanh": net(TanH(name="op")),
    "power": net(Power(name="op", power=2.0, scale=0.5, shift=1.0)),
    "power 1": net(Power(name="op")),
    "dropout": net(Dropout(name="op", ratio=0.3)),
    "softmax": net(Softmax(name="op")),
    "softmax axis 2": net(Softmax(name="op", axis=2)),
    "softmax vector": net(Softmax(name="op"), shapes=(VECTOR,)),
    "flatten": net(Flatten(name="op")),
    "flatten some": net(Flatten(name="op", axis=2)),
    "flatten nothing": net(Flatten(name="op", axis=1, end_axis=1)),
    "reshape": net(Reshape(name="op", dims=(0, 4, 2, -1))),
    "reshape part": net(Reshape(name="op", dims=(2, 4), axis=1, num_axes=1)),
    "reshape to image": net(Reshape(name="op", dims=(2, 2, 2), axis=1), shapes=(VECTOR,)),
    "permute": net(Permute(name="op", order=(0, 2, 3, 1))),
    "permute sequence": net(Permute(name="op", order=(0, 2)), shapes=(SEQUENCE,)),
    "constant": net(
        Constant(name="c", inputs=("in0",), shape=IMAGE, value=-0.75), Eltwise(name="op", inputs=("in0", "c"))
    ),
    "constant alone": net(Constant(name="c", shape=(2, 3, 4), value=1.5), Tile(name="op", tiles=2)),
    "parameter": net(Constant(name="p", shape=(8,)), Scale(name="op", inputs=("in0", "p"), bias=True)),
    "tile batch": net(Tile(name="op", tiles=2, axis=0)),
    "slice batch": net(Slice(name="op", start=1, stop=2, axis=0)),
    "flatten batch": net(Flatten(name="op", axis=0, end_axis=1)),
    "reshape batch": net(Reshape(name="op", dims=(-1, 7, 6))),
    "argmax batch": net(ArgMax(name="op", axis=0, top_k=2)),
    "crop batch": two(Crop(name="op", axis=0), second=(3, 4, 3)),
    "prior boxes": two(
        PriorBox(name="op", min_sizes=(3.5, 5.0), max_sizes=(6.0, 9.0), ratios=(2.0, 3.0), clip=True),
        second=(3, 30, 40),
    ),
    "detections": net(
        PriorBox(
            name="priors", inputs=("map", "image"), min_sizes=(8.0,), ratios=(2.0,), variances=(0.1, 0.1, 0.2, 0.2)
        ),
        DetectionOutput(
            name="op", inputs=("in0", "in1", "priors"), classes=3, code="center_size", overlap=0.4, top_k=20, keep=9
        ),
        shapes=((144,), (108,), (4, 3, 4), (3, 24, 32)),
        names=("in0", "in1", "map", "image"),
    ),
    "regions": two(ROIPool(name="op", size=(3, 2), scale=0.5), second=(5,)),
    "regions by place": two(PSROIPool(name="op", channels=2, group=2, scale=0.5), second=(5,)),
    "crop": two(Crop(name="op", offsets=(1, 2)), second=(3, 4, 3)),
    "crop channels": two(Crop(name="op", axis=1, offsets=(1,)), second=(5, 6, 5)),
    "shuffle": net(Shuffle(name="op", groups=2)),
    "axpy": net(Axpy(name="op", inputs=("in0", "in1", "in2")), shapes=((8, 1, 1), IMAGE, IMAGE)),
    "axpy vector": net(Axpy(name="op", inputs=("in0", "in1", "in2")), shapes=(VECTOR, IMAGE, IMAGE)),
    "tile": net(Tile(name="op", tiles=3)),
    "tile columns": net(Tile(name="op", tiles=2, axis=-1)),
    "concat": two(Concat(name="op"), second=(3, 7, 6)),
    "concat rows": two(Concat(name="op", axis=-2), second=(8, 2, 6)),
    "concat batch": two(Concat(name="op", axis=0)),
    "slice": net(Slice(name="op", start=2, stop=5)),
    "slice columns": net(Slice(name="op", start=1, stop=4, axis=3)),
    "sum": two(Eltwise(name="op")),
    "weighted sum": two(Eltwise(name="op", coeffs=(1.0, -0.5))),
    "product": two(Eltwise(name="op", operation="prod")),
    "maximum": two(Eltwise(name="op", operation="max")),
    "scale": net(Scale(name="op", bias=True)),
    "scale rows": net(Scale(name="op", axis=2, num_axes=2)),
    "scale all": net(Scale(name="op", axis=1, num_axes=-1, bias=True)),
    "scale vector": net(Scale(name="op", bias=True), shapes=(VECTOR,)),
    "scale by image": two(Scale(name="op", axis=0)),
    "scale by vector": two(Scale(name="op", axis=0, bias=True), second=VECTOR),
    "scale by sequence": two(Scale(name="op", axis=0), second=(8, 7)),
    "bias": net(Bias(name="op", axis=2)),
    "bias by vector": two(Bias(name="op", axis=0), second=VECTOR),
    "batch norm": net(BatchNorm(name="op", eps=1e-6)),
    "batch norm vector": net(BatchNorm(name="op"), shapes=(VECTOR,)),
    "batch norm sequence": net(BatchNorm(name="op"), shapes=(SEQUENCE,)),
    "batch statistics": net(BatchNorm(name="op", batch_stats=True)),
}


def merged(cases: Mapping[str, ModelSpec]) -> ModelSpec:
    """Many networks side by side in one, since each costs a model to build; names begin with those of the cases."""
    inputs, layers, ties = list[Input](), list[Layer](), list[Tie]()
    for case, spec in cases.items():
        inputs += [replace(source, name=f"{case}/{source.name}") for source in spec.inputs]
        for layer in spec.layers:
            read = tuple(f"{case}/{name}" for name in spec.wiring()[layer.name])
            layers.append(replace(layer, name=f"{case}/{layer.name}", inputs=read))
        for tie in spec.ties:
            ties.append(Tie(name=f"{case}/{tie.name}", parameters=tuple(f"{case}/{name}" for name in tie.parameters)))
    return ModelSpec(name="merged", title="merged", inputs=tuple(inputs), layers=tuple(layers), ties=tuple(ties))


def twins(spec: ModelSpec, *roles: str) -> ModelSpec:
    """A network of one layer with that layer twice, its parameters of these roles tied, or all of them."""
    (layer,) = spec.layers
    twin = replace(layer, name="twin", inputs=spec.wiring()[layer.name])
    shared = roles or [name.rpartition(".")[2] for name in parameter_shapes(spec)]
    ties = tuple(Tie(name=role, parameters=(f"{layer.name}.{role}", f"twin.{role}")) for role in shared)
    return replace(spec, layers=(layer, twin), ties=ties)


# Every kind that has parameters, twice with the same ones; and with some.
TWINS = {
    f"twins {name}": twins(spec) for name, spec in KINDS.items() if len(spec.layers) == 1 and parameter_shapes(spec)
} | {
    "twins of a kernel": twins(KINDS["conv groups"], "weight"),
    "twins of an offset": twins(KINDS["dense image"], "bias"),
}


def probe(spec: ModelSpec, seed: int = 0) -> tuple[dict[str, Array], dict[str, Array]]:
    rng = np.random.default_rng(seed)
    weights = {
        name: (np.abs(rng.normal(size=shape)) + 0.5 if name.endswith("variance") else rng.normal(size=shape)).astype(
            "f"
        )
        for name, shape in parameter_shapes(spec).items()
    }
    weights |= {twin: weights[owner] for twin, owner in tied(spec).items()}
    return weights, {i.name: rng.normal(scale=3, size=(2, *i.shape)).astype("f") for i in spec.inputs}


def assert_same(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Layer by layer; a softmax after other layers shows their errors magnified, up to 10 times here."""
    assert list(found) == list(expected)
    for name, wanted in expected.items():
        assert found[name].shape == wanted.shape, name
        peak = np.nanmax(np.abs(wanted))
        np.testing.assert_allclose(
            found[name], wanted, rtol=0, atol=(10 * BUDGET if name == "prob" else BUDGET) * peak, err_msg=name
        )
