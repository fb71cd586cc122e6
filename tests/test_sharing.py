"""Tied parameters, Caffe's ``param { name }``: one tensor wherever they go."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from converters.convert import load, save
from converters.parity import probe_weights
from converters.weights import Weights
from zoo import reference, registry, spec_json
from zoo.errors import FileFormatError, SpecError, UnsupportedError, WeightsError
from zoo.frameworks import pytorch, tf_slim
from zoo.frameworks.caffe import CaffeNet, generate, parse_prototxt, read_prototxt
from zoo.initial import initial_weights
from zoo.layers import ModelSpec, Tie
from zoo.shapes import parameter_count, parameter_shapes, tied
from zoo.training.optimiser import Momentum
from zoo.training.placed import PlacedNetwork
from zoo.training.towers import Arrangement
from zoo.wire.protobuf import message, text, varint

KERNEL = Tie(name="kernel", parameters=("left.weight", "right.weight"))
OFFSET = Tie(name="offset", parameters=("left.bias", "right.bias"))


def net(left: str, right: str, *, outputs: tuple[int, int] = (5, 5)) -> CaffeNet:
    """Two convolutions over one input, joined; `left` and `right` are their ``param`` blocks."""
    branches = "".join(
        f'layer {{ name: "{name}" type: "Convolution" bottom: "data" top: "{name}" {params}'
        f" convolution_param {{ num_output: {count} kernel_size: 3 }} }}\n"
        for name, params, count in (("left", left, outputs[0]), ("right", right, outputs[1]))
    )
    return parse_prototxt(
        'name: "twins" layer { name: "data" type: "Input" top: "data"'
        " input_param { shape { dim: 1 dim: 3 dim: 7 dim: 7 } } }\n"
        f'{branches}layer {{ name: "j" type: "Concat" bottom: "left" bottom: "right" top: "j" }}'
        'layer { name: "f" type: "InnerProduct" bottom: "j" top: "f" inner_product_param { num_output: 4 } }',
        Path("twins.prototxt"),
    )


def twins() -> ModelSpec:
    both = 'param { name: "kernel" } param { name: "offset" }'
    return net(both, both).spec


def tied_weights(spec: ModelSpec, seed: int = 0) -> dict[str, np.ndarray]:
    return dict(probe_weights(spec, seed).tensors)


def layer_bytes(name: str, *arrays: np.ndarray) -> bytes:
    blobs = [
        message(7, message(1, b"".join(varint(size) for size in array.shape))) + message(5, array.tobytes())
        for array in arrays
    ]
    return message(100, text(1, name) + text(2, "Convolution") + b"".join(message(7, blob) for blob in blobs))


def caffemodel(path: Path, spec: ModelSpec, *layers: tuple[str, dict[str, np.ndarray]]) -> Weights:
    """A caffemodel of these layers, in this order, loaded as `spec`."""
    path.write_bytes(b"".join(layer_bytes(name, w[f"{name}.weight"], w[f"{name}.bias"]) for name, w in layers))
    return load(path, spec=spec)


def test_blobs_of_one_name_are_tied() -> None:
    assert twins().ties == (KERNEL, OFFSET)
    assert net('param { name: "kernel" }', 'param { name: "kernel" lr_mult: 2 }').spec.ties == (KERNEL,)
    assert net('param { } param { name: "offset" }', 'param { } param { name: "offset" }').spec.ties == (OFFSET,)
    assert net('param { name: "a" }', 'param { name: "b" }').spec.ties == ()
    assert parameter_count(twins()) == parameter_count(net("", "").spec) - 5 * 28


@pytest.mark.parametrize(
    ("left", "right", "outputs", "error"),
    [
        ('param { name: "k" }', 'param { name: "k" }', (5, 6), "share the name 'k', but not the shape: 6 x 3 x 3 x 3"),
        (
            'param { name: "k" lr_mult: 1 }',
            'param { name: "k" lr_mult: 2 }',
            (5, 5),
            "right.weight and left.weight share the name 'k', but lr_mult is 2 and 1",
        ),
        ('param { name: "k" decay_mult: 1 }', 'param { name: "k" decay_mult: 0 }', (5, 5), "decay_mult is 0 and 1"),
        ("param { } param { } param { }", "", (5, 5), "has 3 param blocks, but 2 blobs"),
    ],
)
def test_what_caffe_cannot_share_is_refused(left: str, right: str, outputs: tuple[int, int], error: str) -> None:
    with pytest.raises(FileFormatError, match=error):
        net(left, right, outputs=outputs)


def batch_norms(first: str, second: str) -> CaffeNet:
    return parse_prototxt(
        'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 dim: 3 dim: 2 dim: 2 } } }'
        f'layer {{ name: "a" type: "BatchNorm" bottom: "d" top: "a" {first} }}'
        f'layer {{ name: "b" type: "BatchNorm" bottom: "a" top: "b" {second} }}',
        Path("n.prototxt"),
    )


def test_a_batch_norm_shares_all_three_blobs_or_none() -> None:
    names = [f'param {{ name: "{name}" lr_mult: 0 }}' for name in ("m", "v", "f")]
    ties = batch_norms("".join(names), "".join(names)).spec.ties
    assert [tie.parameters for tie in ties] == [("a.mean", "b.mean"), ("a.variance", "b.variance")]
    with pytest.raises(FileFormatError, match="layer 'b' shares the blob 'm', but not all three"):
        batch_norms("".join(names[:2]), "".join(names[:2]))
    with pytest.raises(FileFormatError, match="lr_mult other than 0"):
        batch_norms('param { name: "m" }', "")
    assert not batch_norms("param { lr_mult: 1 } " * 3, "").spec.ties  # its first definition, which Caffe upgrades


def test_the_dialect_of_2014_names_blobs_in_a_list() -> None:
    layers = "".join(
        f'layers {{ name: "{name}" type: CONVOLUTION bottom: "data" top: "{name}" param: "kernel" param: "offset"'
        " blobs_lr: 1 blobs_lr: 2 convolution_param { num_output: 5 kernel_size: 3 } }"
        for name in ("left", "right")
    )
    text = f'input: "data" input_dim: 1 input_dim: 3 input_dim: 7 input_dim: 7 {layers}'
    assert parse_prototxt(text, Path("old.prototxt")).spec.ties == (KERNEL, OFFSET)


def test_one_copy_serves_all(tmp_path: Path) -> None:
    spec, weights = twins(), tied_weights(twins())
    head = ("f", weights)
    for name in ("left", "right"):
        loaded = caffemodel(tmp_path / "w.caffemodel", spec, (name, {**weights}), head)
        assert all(np.array_equal(loaded.tensors[key], weights[key]) for key in weights)


def test_the_last_of_unequal_copies_counts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spec, weights, other = twins(), tied_weights(twins()), tied_weights(twins(), seed=1)
    with caplog.at_level(logging.WARNING):
        loaded = caffemodel(tmp_path / "w.caffemodel", spec, ("right", weights), ("left", other), ("f", weights))
    assert np.array_equal(loaded.tensors["right.weight"], other["left.weight"])
    assert np.array_equal(loaded.tensors["left.bias"], other["left.bias"])
    assert "right.0 and left.0 share the blob 'kernel', but differ; left.0, the last, serves all" in caplog.text


def test_a_copy_that_does_not_fit_is_refused_wherever_it_stands(tmp_path: Path) -> None:
    spec, weights = twins(), tied_weights(twins())
    misshapen = weights | {"left.weight": np.ones((5, 3, 3, 2), np.float32)}
    with pytest.raises(WeightsError, match=r"left\.0 has shape"):
        caffemodel(tmp_path / "w.caffemodel", spec, ("left", misshapen), ("right", weights), ("f", weights))


def test_only_the_named_blob_is_shared(tmp_path: Path) -> None:
    spec = net('param { name: "kernel" }', 'param { name: "kernel" }').spec
    one, two = tied_weights(spec), tied_weights(spec, seed=1)
    loaded = caffemodel(tmp_path / "w.caffemodel", spec, ("left", one), ("right", two), ("f", one))
    assert np.array_equal(loaded.tensors["left.weight"], two["right.weight"])
    assert np.array_equal(loaded.tensors["left.bias"], one["left.bias"])
    with pytest.raises(WeightsError, match=r"right.1 is missing"):
        caffemodel(tmp_path / "w.caffemodel", spec, ("left", one), ("f", one))


def test_unequal_twins_of_another_format_are_refused(tmp_path: Path) -> None:
    spec = twins()
    weights = tied_weights(spec) | {"right.bias": np.ones(5, np.float32)}
    save(Weights(spec=net("", "").spec, tensors=weights, source="test"), tmp_path / "w.npz")
    with pytest.raises(WeightsError, match=r"right.bias and left.bias are one tied parameter, but differ"):
        load(tmp_path / "w.npz", spec=spec)


@pytest.mark.parametrize("suffix", [".safetensors", ".caffemodel", ".onnx", ".pt", ".npz", ".ckpt"])
def test_every_format_carries_twins(suffix: str, tmp_path: Path) -> None:
    spec = twins()
    weights = Weights(spec=spec, tensors=tied_weights(spec), source="test")
    save(weights, tmp_path / f"w{suffix}")
    again = load(tmp_path / f"w{suffix}", spec=spec)
    assert all(np.array_equal(again.tensors[name], weights.tensors[name]) for name in weights.tensors)
    if suffix in (".safetensors", ".caffemodel", ".onnx"):
        assert load(tmp_path / f"w{suffix}").spec.ties == spec.ties


def test_json_keeps_ties() -> None:
    assert spec_json.loads(spec_json.dumps(twins())) == twins()


def test_a_false_tie_is_refused() -> None:
    for parameters, error in (
        (("left.weight", "gone.weight"), "gone.weight, tied as 't', is not a parameter"),
        (("left.weight", "f.weight"), "tied as 't' differ in shape: left.weight 5 x 3 x 3 x 3, f.weight 4 x 250"),
        (("left.weight", "left.weight"), "left.weight is tied twice"),
    ):
        spec = ModelSpec(
            name="n",
            title="n",
            inputs=twins().inputs,
            layers=twins().layers,
            ties=(Tie(name="t", parameters=parameters),),
        )
        with pytest.raises(SpecError, match=error):
            tied(spec)


def test_files_for_training_keep_the_names(tmp_path: Path) -> None:
    generate(twins(), tmp_path)
    for name in ("deploy.prototxt", "train_val.prototxt"):
        written = (tmp_path / name).read_text(encoding="utf-8").rpartition("\n#")[0]
        (tmp_path / name).write_text(written, encoding="utf-8")  # without the description of the network at the end
    assert read_prototxt(tmp_path / "deploy.prototxt").spec.ties == (KERNEL, OFFSET)
    text = (tmp_path / "train_val.prototxt").read_text(encoding="utf-8")
    assert text.count('name: "kernel" lr_mult: 1 decay_mult: 1') == 2
    assert text.count('name: "offset" lr_mult: 2 decay_mult: 0') == 2


def test_a_written_batch_norm_shares_its_factor(tmp_path: Path) -> None:
    names = "".join(f'param {{ name: "{name}" lr_mult: 0 }}' for name in ("m", "v", "f"))
    spec = batch_norms(names, names).spec
    weights = Weights(spec=spec, tensors=tied_weights(spec), source="test")
    save(weights, tmp_path / "w.caffemodel")
    text = (tmp_path / "w.prototxt").read_text(encoding="utf-8").rpartition("\n#")[0]
    assert parse_prototxt(text, Path("w.prototxt")).spec.ties == spec.ties


def test_pytorch_has_one_tensor() -> None:
    spec, weights = twins(), tied_weights(twins())
    network: Any = pytorch.build(spec, weights)
    assert network.left.weight is network.right.weight and network.left.bias is network.right.bias
    assert sum(p.numel() for p in network.parameters()) == parameter_count(spec)
    scope: dict[str, object] = {}
    exec(pytorch.source_text(spec), scope)
    generated = scope["Twins"]()  # pyright: ignore[reportCallIssue]
    assert generated.left.weight is generated.right.weight and generated.left.bias is generated.right.bias
    generated.load_state_dict(network.state_dict())
    x = np.random.default_rng(0).normal(size=(2, 3, 7, 7)).astype(np.float32)
    want = reference.forward(spec, weights, {"data": x})["f"]
    np.testing.assert_allclose(generated(torch.from_numpy(x)).detach().numpy(), want, rtol=1e-4, atol=1e-4)


def test_training_updates_one_tensor() -> None:
    spec = twins()
    recipe = registry.recipe(spec)
    start = initial_weights(spec, recipe, 0)
    assert np.array_equal(start["left.weight"], start["right.weight"])
    network = PlacedNetwork(spec, Arrangement())
    network.load({name: torch.from_numpy(array) for name, array in start.items()})
    momentum = Momentum(network.canonical_parameters(), recipe)
    network(torch.ones(2, 3, 7, 7)).square().sum().backward()
    momentum.sgd.step()
    after = network.collect(network.canonical_parameters())
    assert set(after) == set(parameter_shapes(spec))
    assert torch.equal(after["left.weight"], after["right.weight"])
    with pytest.raises(UnsupportedError, match=r"kernel, offset.*--parallel data"):
        PlacedNetwork(spec, Arrangement(parts=2))


def test_tf_slim_has_one_variable() -> None:
    tf = pytest.importorskip("tensorflow.compat.v1")
    spec, weights = twins(), tied_weights(twins())
    x = np.random.default_rng(0).normal(size=(2, 3, 7, 7)).astype(np.float32)
    want = reference.forward(spec, weights, {"data": x})
    got = tf_slim.forward(spec, weights, {"data": x})
    for name in ("left", "right", "f"):
        assert abs(got[name] - want[name]).max() < 1e-5 * abs(want[name]).max()
    scope: dict[str, object] = {}
    exec(tf_slim.source_text(spec), scope)
    with tf.Graph().as_default():
        scope["twins"](tf.zeros([1, 7, 7, 3]))  # pyright: ignore[reportCallIssue]
        names = [variable.op.name for variable in tf.global_variables()]
    assert names == ["twins/left/weights", "twins/left/biases", "twins/f/weights", "twins/f/biases"]
