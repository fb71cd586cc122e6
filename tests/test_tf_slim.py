"""The TF-slim model against the oracle, kind by kind and as a whole; what is printed against what runs."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow.compat.v1")
slims_own = pytest.importorskip("tf_slim.nets.alexnet")

from zoo.frameworks import _slim_runtime, reference, tf_slim  # noqa: E402
from zoo.frameworks._slim_variables import keeps_map, scopes, variables  # noqa: E402
from zoo.layers import (  # noqa: E402
    LRN,
    BatchNorm,
    Bias,
    Concat,
    Conv,
    Dense,
    Dropout,
    Eltwise,
    Flatten,
    Input,
    ModelSpec,
    Pool,
    Power,
    ReLU,
    Scale,
    Sigmoid,
    Slice,
    Softmax,
    TanH,
)
from zoo.registry import model  # noqa: E402
from zoo.shapes import activation_shapes, parameter_shapes  # noqa: E402

# The float32 floor of a layer against the float64 oracle is 0.3e-6 to 2e-6; the budget of the proof is 1e-5.
BUDGET = 1e-5

IMAGE, VECTOR, SEQUENCE, PIXELS = (8, 7, 6), (8,), (4, 5), (3, 9, 9)


def net(*layers, shapes=(IMAGE,), name="net"):
    inputs = tuple(Input(name=f"in{i}", shape=shape) for i, shape in enumerate(shapes))
    return ModelSpec(name=name, title=name, inputs=inputs, layers=layers)


def two(layer, first=IMAGE, second=IMAGE):
    return net(replace(layer, inputs=("in0", "in1")), shapes=(first, second))


KINDS = {
    "conv same": net(Conv(name="op", out_channels=4, kernel=(3, 3), pad=(1, 1))),
    "conv hw": net(Conv(name="op", out_channels=4, kernel=(3, 2), stride=(2, 1), pad=(1, 0))),
    "conv groups": net(Conv(name="op", out_channels=6, kernel=(3, 3), stride=(2, 2), pad=(2, 2), groups=2)),
    "conv no bias": net(Conv(name="op", out_channels=6, kernel=(1, 1), groups=2, bias=False)),
    "conv dilated": net(Conv(name="op", out_channels=4, kernel=(3, 3), pad=(2, 2), dilation=(2, 2))),
    "conv dilated stride": net(Conv(name="op", out_channels=4, kernel=(3, 3), stride=(2, 2), dilation=(2, 2))),
    "conv ceil": net(Conv(name="op", out_channels=4, kernel=(3, 3), stride=(3, 3), rounding="ceil")),
    "dense image": net(Dense(name="op", out_features=5)),
    "dense vector": net(Dense(name="op", out_features=5, bias=False), shapes=(VECTOR,)),
    "dense axis 2": net(Dense(name="op", out_features=5, axis=2)),
    "dense axis 3": net(Dense(name="op", out_features=5, axis=-1)),
    "dense sequence": net(Dense(name="op", out_features=5), shapes=(SEQUENCE,)),
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
    "lrn": net(LRN(name="op", size=5, alpha=0.5, beta=0.75, k=2.0)),
    "lrn towers": net(LRN(name="op", size=3, alpha=0.5, beta=0.75, k=2.0, towers=2)),
    "lrn wider than the image": net(LRN(name="op", size=9, alpha=1.0, beta=0.5), shapes=((3, 2, 2),)),
    "lrn within": net(LRN(name="op", size=3, alpha=0.5, beta=0.75, region="within")),
    "lrn vector": net(LRN(name="op", size=3, alpha=0.5, beta=0.75, towers=2), shapes=(VECTOR,)),
    "lrn sequence": net(LRN(name="op", size=3, alpha=0.5, beta=0.75), shapes=(SEQUENCE,)),
    "relu": net(ReLU(name="op")),
    "relu slope": net(ReLU(name="op", negative_slope=0.1)),
    "relu steep": net(ReLU(name="op", negative_slope=1.5)),
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


def probe(spec, seed=0):
    rng = np.random.default_rng(seed)
    weights = {
        name: (np.abs(rng.normal(size=shape)) + 0.5 if name.endswith("variance") else rng.normal(size=shape)).astype(
            "f"
        )
        for name, shape in parameter_shapes(spec).items()
    }
    return weights, {i.name: rng.normal(scale=3, size=(2, *i.shape)).astype("f") for i in spec.inputs}


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, wanted in expected.items():
        assert found[name].shape == wanted.shape, name
        peak = np.nanmax(np.abs(wanted))
        np.testing.assert_allclose(found[name], wanted, rtol=0, atol=BUDGET * peak, err_msg=name)


@pytest.mark.parametrize("spec", KINDS.values(), ids=KINDS.keys())
def test_every_kind_agrees_with_the_oracle(spec):
    weights, inputs = probe(spec)
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = reference.forward(spec, weights, inputs)
    assert_same(tf_slim.forward(spec, weights, inputs), expected)


def shrunk(spec):
    """The same network with a sixteenth of the channels."""
    layers = []
    for layer in spec.layers:
        if isinstance(layer, Conv):
            layer = replace(layer, out_channels=layer.out_channels // 16)
        if isinstance(layer, Dense):
            layer = replace(layer, out_features=20)
        layers.append(layer)
    return replace(spec, layers=tuple(layers))


def run_source(spec, weights, inputs, folder: Path, **options):
    """The generated file, imported and run by itself: canonical activations."""
    (path,) = tf_slim.generate(spec, folder)
    loader = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(loader)
    loader.loader.exec_module(module)
    function, shapes = getattr(module, path.stem), activation_shapes(spec)
    with tf.Graph().as_default(), tf.Session() as session:
        holders = _slim_runtime.placeholders(spec)
        with module.slim.arg_scope(getattr(module, f"{path.stem}_arg_scope")()):
            given = holders if len(holders) > 1 else next(iter(holders.values()))
            _, end_points = function(given, is_training=False, **options)
        tf_slim.assign(session, spec, weights, options.get("scope"))
        feed = {holders[name]: _slim_runtime.to_native(inputs[name], shapes[name]) for name in holders}
        found = session.run(end_points, feed)
    return {name: _slim_runtime.to_canonical(found[name], shapes[name]) for name in found}


@pytest.mark.parametrize("name", ["alexnet", "caffenet", "alexnet_v2", "alexnet_2012_code"])
def test_the_printed_source_is_what_runs(name, tmp_path):
    spec = shrunk(model(name))
    weights, inputs = probe(spec)
    live = tf_slim.forward(spec, weights, inputs)
    printed = run_source(spec, weights, inputs, tmp_path)
    assert list(live) == list(printed)
    for layer in live:
        np.testing.assert_array_equal(live[layer], printed[layer], err_msg=layer)
    assert_same(live, reference.forward(spec, weights, inputs))


@pytest.mark.parametrize("kind", ["conv groups", "ave pad clip", "lrn within", "scale by vector", "batch norm"])
def test_helpers_and_several_inputs_are_printed(kind, tmp_path):
    weights, inputs = probe(KINDS[kind])
    printed = run_source(KINDS[kind], weights, inputs, tmp_path)
    np.testing.assert_array_equal(printed["op"], tf_slim.forward(KINDS[kind], weights, inputs)["op"])


def test_the_source_stands_alone_and_follows_slim(tmp_path):
    text = tf_slim.source(model("alexnet"))
    assert "zoo" not in text
    assert "import converters" not in text
    assert "alexnet.default_image_size = 227" in text
    assert "def alexnet_arg_scope(weight_decay=0.0005):" in text
    assert 'slim.conv2d(net, 4096, [6, 6], padding="VALID", scope="fc6")' in text
    assert 'name="fc8/squeezed"' in text
    assert tf_slim.source(model("alexnet")) == text


def test_variables_are_named_as_slim_names_them():
    with tf.Graph().as_default():
        _slim_runtime.build_for_inference(model("alexnet_v2"), {"data": tf.placeholder(tf.float32, [1, 224, 224, 3])})
        ours = {v.op.name: tuple(v.shape) for v in tf.global_variables()}
    with tf.Graph().as_default():
        with _slim_runtime.slim.arg_scope(slims_own.alexnet_v2_arg_scope()):
            slims_own.alexnet_v2(tf.placeholder(tf.float32, [1, 224, 224, 3]), is_training=False)
        assert ours == {v.op.name: tuple(v.shape) for v in tf.global_variables()}


def test_num_classes_training_and_scope(tmp_path):
    spec = shrunk(model("alexnet"))
    with tf.Graph().as_default() as graph, tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, 227, 227, 3])
        with _slim_runtime.slim.arg_scope(tf_slim.arg_scope()):
            logits, _ = tf_slim.network(spec)(x, num_classes=7, is_training=True, scope="tower/net")
        loss = tf.reduce_sum(logits)
        gradients = tf.gradients(loss, tf.trainable_variables())
        assert None not in gradients
        assert len(tf.losses.get_regularization_losses()) == 8
        session.run(tf.global_variables_initializer())
        image = np.random.default_rng(0).normal(size=(1, 227, 227, 3))
        first, second = (session.run(logits, {x: image}) for _ in range(2))
        assert first.shape == (1, 7)
        assert not np.array_equal(first, second), "dropout must be on in training"
        assert np.isfinite(session.run(gradients[0], {x: image})).all()
        assert all(v.op.name.startswith("tower/net/") for v in tf.global_variables())
        operations = [operation.name for operation in graph.get_operations()]
    for tower in ("conv2/tower_0", "conv2/tower_1", "norm1/tower_1"):
        assert any(name.startswith(f"tower/net/{tower}/") for name in operations), tower


def test_weights_stay_out_of_the_graph_and_come_back_bit_for_bit():
    spec = shrunk(model("alexnet"))
    weights, _ = probe(spec)
    with tf.Graph().as_default() as graph, tf.Session() as session:
        _slim_runtime.build_for_inference(spec, _slim_runtime.placeholders(spec))
        tf_slim.assign(session, spec, weights)
        assert graph.as_graph_def().ByteSize() < 200_000
        back = tf_slim.fetch(session, spec)
    assert list(back) == list(weights)
    for name in weights:
        np.testing.assert_array_equal(back[name].view(np.uint32), weights[name].view(np.uint32))


def test_dense_layers_between_convolutions_and_matrices():
    spec = net(
        Dense(name="a", out_features=4),
        ReLU(name="b"),
        Dense(name="c", out_features=4),
        Concat(name="d", inputs=("a", "c")),
        Dense(name="e", out_features=3),
    )
    assert keeps_map(spec) == set(), "a is read by a Concat too"
    assert [v.layout for v in variables(spec)] == ["HWCO", "", "IO", "", "IO", ""]
    chain = net(Dense(name="a", out_features=4), ReLU(name="b"), Dense(name="c", out_features=4), Softmax(name="d"))
    assert keeps_map(chain) == {"a", "b"}
    assert [v.layout for v in variables(chain)] == ["HWCO", "", "11IO", ""]
    for each in (spec, chain):
        weights, inputs = probe(each)
        assert_same(tf_slim.forward(each, weights, inputs), reference.forward(each, weights, inputs))


def test_hostile_and_odd_names(tmp_path):
    names = ('x"]); raise SystemExit("injected")\n#', "conv/1x1", "a b", "a_b", "_hidden", "größe", "data'")
    layers = [ReLU(name=names[0])]
    layers += [Conv(name=name, out_channels=8, kernel=(1, 1)) for name in names[1:]]
    spec = net(*layers, name='my "net"-1')
    assert len(set(scopes(spec).values())) == len(names)
    weights, inputs = probe(spec)
    printed = run_source(spec, weights, inputs, tmp_path)
    assert_same(printed, reference.forward(spec, weights, inputs))
