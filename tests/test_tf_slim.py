"""The TF-slim model against the oracle, kind by kind and as a whole; what is printed against what runs."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow.compat.v1")
slims_own = pytest.importorskip("tf_slim.nets.alexnet")

from tests.kinds import KINDS, assert_same, net, probe  # noqa: E402
from tests.small import shrink  # noqa: E402
from zoo import reference  # noqa: E402
from zoo.channels_last import to_canonical, to_native  # noqa: E402
from zoo.frameworks import tf_slim  # noqa: E402
from zoo.frameworks.tf_slim import runtime  # noqa: E402
from zoo.frameworks.tf_slim.naming import keeps_map, scopes, variables  # noqa: E402
from zoo.layers import Concat, Conv, Dense, ModelSpec, ReLU, Softmax  # noqa: E402
from zoo.registry import model  # noqa: E402
from zoo.shapes import activation_shapes  # noqa: E402


@pytest.mark.parametrize("spec", KINDS.values(), ids=KINDS.keys())
def test_every_kind_agrees_with_the_oracle(spec: ModelSpec) -> None:
    weights, inputs = probe(spec)
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = reference.forward(spec, weights, inputs)
    assert_same(tf_slim.forward(spec, weights, inputs), expected)


def run_source(
    spec: ModelSpec, weights: Mapping[str, Any], inputs: Mapping[str, Any], folder: Path, **options: Any
) -> dict[str, Any]:
    """The generated file, imported and run by itself: canonical activations."""
    (path,) = tf_slim.generate(spec, folder)
    loader = importlib.util.spec_from_file_location(path.stem, path)
    assert loader and loader.loader
    module = importlib.util.module_from_spec(loader)
    loader.loader.exec_module(module)
    function, shapes = getattr(module, path.stem), activation_shapes(spec)
    with tf.Graph().as_default(), runtime.session() as session:
        holders = runtime.placeholders(spec)
        with module.slim.arg_scope(getattr(module, f"{path.stem}_arg_scope")()):
            given = holders if len(holders) > 1 else next(iter(holders.values()))
            _, end_points = function(given, is_training=False, **options)
        tf_slim.assign(session, spec, weights, options.get("scope"))
        feed = {holders[name]: to_native(inputs[name], shapes[name]) for name in holders}
        found = session.run(end_points, feed)
    return {name: to_canonical(found[name], shapes[name]) for name in found}


@pytest.mark.parametrize("name", ["alexnet", "caffenet", "alexnet_v2", "alexnet_2012_code"])
def test_the_printed_source_is_what_runs(name: str, tmp_path: Path) -> None:
    spec = shrink(name)
    weights, inputs = probe(spec)
    live = tf_slim.forward(spec, weights, inputs)
    printed = run_source(spec, weights, inputs, tmp_path)
    assert list(live) == list(printed)
    for layer in live:
        np.testing.assert_array_equal(live[layer], printed[layer], err_msg=layer)
    assert_same(live, reference.forward(spec, weights, inputs))


@pytest.mark.parametrize("kind", ["conv groups", "ave pad clip", "lrn within", "scale by vector", "batch norm"])
def test_helpers_and_several_inputs_are_printed(kind: str, tmp_path: Path) -> None:
    weights, inputs = probe(KINDS[kind])
    printed = run_source(KINDS[kind], weights, inputs, tmp_path)
    np.testing.assert_array_equal(printed["op"], tf_slim.forward(KINDS[kind], weights, inputs)["op"])


def test_the_source_stands_alone_and_follows_slim(tmp_path: Path) -> None:
    text = tf_slim.source_text(model("alexnet"))
    assert "zoo" not in text
    assert "import converters" not in text
    assert "alexnet.default_image_size = 227" in text
    assert "def alexnet_arg_scope(weight_decay=0.0005):" in text
    assert 'slim.conv2d(net, 4096, [6, 6], padding="VALID", scope="fc6")' in text
    assert 'name="fc8/squeezed"' in text
    assert tf_slim.source_text(model("alexnet")) == text


def test_variables_are_named_as_slim_names_them():
    with tf.Graph().as_default():
        runtime.build_for_inference(model("alexnet_v2"), {"data": tf.placeholder(tf.float32, [1, 224, 224, 3])})
        ours = {v.op.name: tuple(v.shape) for v in tf.global_variables()}
    with tf.Graph().as_default():
        with runtime.slim.arg_scope(slims_own.alexnet_v2_arg_scope()):
            slims_own.alexnet_v2(tf.placeholder(tf.float32, [1, 224, 224, 3]), is_training=False)
        assert ours == {v.op.name: tuple(v.shape) for v in tf.global_variables()}


def test_num_classes_training_and_scope(tmp_path: Path) -> None:
    spec = shrink("alexnet")
    with tf.Graph().as_default() as graph, tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, 227, 227, 3])
        with runtime.slim.arg_scope(tf_slim.arg_scope(spec)):
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
    spec = shrink("alexnet")
    weights, _ = probe(spec)
    with tf.Graph().as_default() as graph, tf.Session() as session:
        runtime.build_for_inference(spec, runtime.placeholders(spec))
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


def test_hostile_and_odd_names(tmp_path: Path) -> None:
    names = (
        'x"]); raise SystemExit("injected")\n#',
        "conv/1x1",
        "a b",
        "a_b",
        "_hidden",
        "größe",
        "data'",
        "Conv",
        "conv",
        "CONV_2",
    )
    layers = [ReLU(name=names[0])]
    layers += [Conv(name=name, out_channels=8, kernel=(1, 1)) for name in names[1:]]
    spec = net(*layers, name='my "net"-1')
    assert len({scope.lower() for scope in scopes(spec).values()}) == len(names)  # as TensorFlow tells them apart
    weights, inputs = probe(spec)
    printed = run_source(spec, weights, inputs, tmp_path)
    assert_same(printed, reference.forward(spec, weights, inputs))
