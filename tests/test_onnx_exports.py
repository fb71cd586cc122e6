"""Graphs of every exporter, small networks through names and stripped of them: read as what was exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
import torch

from converters.cli import main
from converters.convert import load
from converters.parity import probe_weights, verify_files
from converters.weights import Array
from tests.onnx_graphs import held_against_runtime, read, stripped
from zoo.frameworks.onnx import OnnxNet
from zoo.layers import (
    LRN,
    BatchNorm,
    Concat,
    Conv,
    Dense,
    Eltwise,
    Input,
    ModelSpec,
    Pool,
    ReLU,
    Scale,
    Shuffle,
    Softmax,
)
from zoo.likeness import unlike
from zoo.wire.onnx import IR_VERSIONS


class Mixed(torch.nn.Module):
    """What the exporters write in several nodes: LRN, SE gates, shuffles, flattening, pools that round up."""

    def __init__(self) -> None:
        super().__init__()
        nn = torch.nn
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0)),
            *(nn.MaxPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(3, 1, 1), nn.Dropout(), nn.Hardswish(), nn.PReLU(8)),
            *(nn.InstanceNorm2d(8, affine=True), nn.ConvTranspose2d(8, 6, 3, 2, 1, output_padding=1)),
            *(nn.Upsample(scale_factor=2), nn.AvgPool2d(3, 2, 1, count_include_pad=False), nn.ELU()),
        )
        self.gate = nn.Linear(6, 6)
        self.scores = nn.Linear(6 * 8 * 8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.features(x)
        x = x * torch.sigmoid(self.gate(x.mean((2, 3))))[:, :, None, None]
        first, second = torch.split(x, [2, 4], 1)
        x = torch.cat([second, first.clamp(-1, 2)], 1)
        n, c, h, w = x.shape
        x = x.view(n, 2, 3, h, w).transpose(1, 2).reshape(n, c, h, w)
        x = torch.nn.functional.max_pool2d(torch.nn.functional.pad(torch.relu(x), (0, 1, 0, 1)), 2, 1)
        return torch.log_softmax(self.scores(torch.flatten(x, 1)) / 2 + 1, 1)


def mixed() -> Mixed:
    torch.manual_seed(0)
    network = Mixed().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            cast(Any, module.running_mean).normal_()
            cast(Any, module.running_var).uniform_(0.5, 2)
    return network


NEWEST = min(onnx.defs.onnx_opset_version(), max(IR_VERSIONS))


def assert_same_without_names(path: Path, net: OnnxNet) -> None:
    bare = read(stripped(path))
    assert not unlike(net.spec, bare.spec)
    assert [a.tobytes() for a in net.parameters.values()] == [a.tobytes() for a in bare.parameters.values()]


# How torch.onnx.export is called: by TorchScript in old and new operator sets, of one batch size or any; and by dynamo.
EXPORTS: dict[str, dict[str, Any]] = {
    "torchscript 9": {"dynamo": False, "opset_version": 9},
    "torchscript 11": {"dynamo": False, "opset_version": 11},
    "torchscript 13": {"dynamo": False, "opset_version": 13, "dynamic_axes": {"x": {0: "n"}}},
    "torchscript 20": {"dynamo": False, "opset_version": 20},
    "dynamo": {"dynamo": True, "dynamic_shapes": ({0: torch.export.Dim("n")},), "verbose": False},
    "dynamo, newest": {"dynamo": True, "opset_version": NEWEST, "verbose": False},
}


@pytest.mark.parametrize("how", EXPORTS)
def test_what_torch_exports_is_read(tmp_path: Path, how: str) -> None:
    path = tmp_path / "t.onnx"
    torch.onnx.export(mixed(), (torch.randn(2, 3, 8, 8),), path, input_names=["x"], **EXPORTS[how])
    net = read(path)
    held_against_runtime(path, net)
    (norm,) = (layer for layer in net.spec.layers if isinstance(layer, LRN))
    assert (norm.size, norm.alpha, norm.beta, norm.k, norm.towers) == (5, 1e-4, 0.75, 2.0, 1)
    assert sum(isinstance(layer, Shuffle) for layer in net.spec.layers) == 1
    assert_same_without_names(path, net)


def test_a_graph_of_tensorflow_loses_its_transposes(tmp_path: Path) -> None:
    tf, tf2onnx, rng = pytest.importorskip("tensorflow"), pytest.importorskip("tf2onnx"), np.random.default_rng(0)

    def draw(*shape: int) -> Array:
        return (rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))).astype("f")

    def function(x: Any) -> Any:
        x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, draw(3, 3, 3, 8), 2, "SAME"), draw(8)))
        x = tf.nn.max_pool2d(tf.nn.lrn(x, 2, 2.0, 2e-5, 0.75), 3, 2, "SAME")
        parts = [tf.nn.conv2d(part, draw(1, 1, 4, 3), 1, "VALID") for part in tf.split(x, 2, 3)]
        x = tf.nn.avg_pool2d(tf.concat([x, tf.nn.relu(tf.concat(parts, 3))], 3), 2, 1, "SAME")
        x = tf.nn.batch_normalization(x, draw(14), abs(draw(14)) + 1, draw(14), draw(14), 1e-3)
        x = tf.nn.relu(tf.reshape(x, [-1, 4 * 4 * 14]) @ draw(224, 7) + draw(7))
        return tf.nn.softmax(x @ draw(7, 5))

    signature = [tf.TensorSpec([None, 16, 16, 3], tf.float32, name="x")]
    path = tmp_path / "t.onnx"
    made = tf.function(function, input_signature=signature)
    tf2onnx.convert.from_function(made, input_signature=signature, opset=15, output_path=str(path))
    net = read(path)
    held_against_runtime(path, net, turned=True)
    assert net.spec.inputs == (Input(name="x", shape=(3, 16, 16)),) and "N x H x W x C" in net.notes[0]
    assert "Permute" not in {type(layer).__name__ for layer in net.spec.layers}
    assert [layer.groups for layer in net.spec.layers if isinstance(layer, Conv)] == [1, 2]
    held_against_runtime(stripped(path), read(stripped(path)), turned=True)


def keras_network(keras: Any) -> Any:
    """What Keras has and tf2onnx writes in its own way, with every number drawn."""
    layers = keras.layers
    x = image = keras.Input((16, 16, 3), name="x")
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU(max_value=6.0)(layers.DepthwiseConv2D(3, padding="same")(x))
    x = layers.LeakyReLU(0.2)(layers.Add()([x, layers.Conv2D(8, 1)(x)]))
    x = layers.SeparableConv2D(10, 3)(layers.ZeroPadding2D(1)(x))
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    gate = layers.Dense(10, activation="sigmoid")(layers.GlobalAveragePooling2D()(x))
    x = layers.Multiply()([x, layers.Reshape((1, 1, 10))(gate)])
    x = layers.Concatenate()([x, layers.AveragePooling2D(2, 1, padding="same")(x)])
    x = layers.Conv2DTranspose(6, 3, strides=2, padding="same")(layers.UpSampling2D(2)(x))
    x = layers.Dropout(0.5)(layers.Flatten()(layers.PReLU(shared_axes=[1, 2])(x)))
    scores = layers.Dense(5, activation="softmax")(layers.Dense(7, activation="elu")(x))
    rng, model = np.random.default_rng(0), keras.Model(image, scores)
    for variable in model.weights:
        fan_in = np.prod(variable.shape[:-1]) if len(variable.shape) > 1 else 1
        numbers = rng.normal(size=variable.shape) / np.sqrt(fan_in)
        variable.assign(abs(numbers) + 0.5 if "variance" in variable.path else numbers)
    model(np.zeros((1, 16, 16, 3), np.float32))  # it is not exported before it was called
    return model


def test_what_keras_exports_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tf2onnx")
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    keras = pytest.importorskip("keras")
    path = tmp_path / "k.onnx"
    keras_network(keras).export(path, format="onnx", verbose=False)
    net = read(path)
    held_against_runtime(path, net, turned=True)
    kinds = [type(layer).__name__ for layer in net.spec.layers]
    assert kinds.count("Conv") == 5 and kinds.count("Deconv") == 1 and "BatchNorm" not in kinds
    assert_same_without_names(path, net)


def test_what_caffe2onnx_exports_is_read(tmp_path: Path) -> None:
    caffe = pytest.importorskip("converters.exporters.caffe", exc_type=ImportError)
    layers = (
        *(Conv(name="a", out_channels=8, kernel=(3, 3), stride=(2, 2), pad=(1, 1)), BatchNorm(name="b")),
        *(Scale(name="s", bias=True), ReLU(name="r"), LRN(name="n", size=5, alpha=1e-4, beta=0.75, k=1.0)),
        *(
            Pool(name="p", mode="max", kernel=(3, 3), stride=(2, 2)),
            Conv(name="g", out_channels=8, kernel=(1, 1), groups=2),
        ),
        *(Eltwise(name="e", inputs=("p", "g")), Concat(name="c", inputs=("e", "p"))),
        *(Pool(name="q", mode="ave", kernel=(3, 3), stride=(2, 2)), Dense(name="f", out_features=5)),
        Softmax(name="prob"),
    )
    weights = probe_weights(
        ModelSpec(name="net", title="", inputs=(Input(name="x", shape=(3, 17, 17)),), layers=layers)
    )
    path = tmp_path / "c.onnx"
    caffe.export_onnx(weights, path, every_activation=False)
    net = read(path)
    held_against_runtime(path, net)
    # Its BatchNorm is a Scale by its statistics; all else is what it was.
    assert [type(layer) for layer in net.spec.layers] == [Scale if x.name == "b" else type(x) for x in layers]
    for name in ("a", "s", "g", "f"):
        for key in (f"{name}.weight", f"{name}.bias"):
            assert net.parameters[key].tobytes() == np.ascontiguousarray(weights.tensors[key]).tobytes(), key
    assert_same_without_names(path, net)


class Heads(torch.nn.Module):
    """Two heads of one size, in another order than they are used in, beside numbers that no state dict has."""

    def __init__(self) -> None:
        super().__init__()
        self.second, self.first = torch.nn.Conv2d(4, 6, 1), torch.nn.Conv2d(4, 6, 1)
        self.body = torch.nn.Conv2d(3, 4, 3)
        self.register_buffer("priors", torch.rand(1, 6, 6, 6), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.body(x))
        return (torch.relu(self.first(x)) + self.second(x)) * self.priors


def test_a_graph_and_the_state_dict_that_it_was_exported_from_share_names(tmp_path: Path) -> None:
    model, files = Heads().eval(), [tmp_path / "heads.onnx", tmp_path / "heads.pth"]
    torch.onnx.export(model, (torch.zeros(1, 3, 8, 8),), files[0], dynamo=False)
    torch.save(model.state_dict(), files[1])
    pair = verify_files(files).subjects[1]
    assert pair.status == "passed" and pair.structure is not None and pair.structure.verdict == "identical"
    assert main(["convert", str(files[1]), "--model", str(files[0]), "-o", str(tmp_path / "a.npz")]) == 0
    wanted = [*model.parameters(), *model.buffers()]
    found = {array.tobytes() for array in load(tmp_path / "a.npz").tensors.values()}
    assert found == {tensor.detach().numpy().tobytes() for tensor in wanted}
    weight = model.state_dict()["first.weight"]
    torch.save(model.state_dict() | {"first.weight": weight * 1.001}, files[1])
    changed = verify_files(files).subjects[1]
    assert changed.status == "failed" and changed.structure is not None and changed.structure.verdict == "differs"
