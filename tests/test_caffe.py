"""Caffe from the spec: prototxts out and back, exactly equal networks, runtimes, caffe2onnx."""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.exporters.caffe import export_onnx
from converters.parity import probe_weights
from converters.weights import Weights
from tests.small import normalises_vectors, shrink, small_weights
from zoo import reference, registry
from zoo.errors import UnsupportedError, ZooError
from zoo.frameworks import caffe
from zoo.frameworks.caffe import deploy_text, opencv, parse_prototxt, read_prototxt
from zoo.frameworks.caffe.lower import as_scales, for_caffe, slice_groups
from zoo.frameworks.caffe.training import solver_text, train_val_text
from zoo.frameworks.onnx import run
from zoo.layers import (
    LRN,
    BatchNorm,
    Bias,
    Concat,
    Constant,
    Conv,
    Deconv,
    Dense,
    DetectionOutput,
    Dropout,
    Eltwise,
    Flatten,
    Input,
    Layer,
    ModelSpec,
    Normalize,
    Pool,
    Power,
    PriorBox,
    ReLU,
    Scale,
    Slice,
    Softmax,
    TanH,
)
from zoo.shapes import lengths
from zoo.wire.prototxt import parse

BUDGET = 1e-5
ADAPTER = "zoo.frameworks.caffe.pycaffe"


def network(*layers: Layer, shape: tuple[int, ...] = (4, 9, 10)) -> ModelSpec:
    return ModelSpec(name="net", title="a test", inputs=(Input(shape=shape),), layers=layers)


def images(spec: ModelSpec, batch: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {source.name: rng.normal(size=(batch, *source.shape)).astype(np.float32) * 10 for source in spec.inputs}


def assert_close(got: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> None:
    assert list(got) == list(want)
    for name, expected in want.items():
        assert got[name].shape == expected.shape, name
        assert np.abs(got[name] - expected).max() <= BUDGET * np.abs(expected).max(), name


# Networks that Caffe, OpenCV or caffe2onnx can only run after a rewrite.
AWKWARD = {
    "conv rounded up": network(
        Conv(name="c", out_channels=2, kernel=(3, 2), stride=(4, 3), pad=(1, 0), rounding="ceil")
    ),
    "conv overhang": network(Conv(name="c", out_channels=2, kernel=(12, 14), stride=(4, 3), pad=(0, 1))),
    "towers and k": network(LRN(name="n", size=3, alpha=0.1, beta=0.6, k=3.0, towers=2), ReLU(name="r")),
    "k within": network(LRN(name="n", size=3, alpha=0.1, beta=0.6, k=2.0, region="within")),
    "slices with gaps and overlaps": network(
        Slice(name="a", inputs=("data",), start=1, stop=3),
        Slice(name="b", inputs=("data",), start=3, stop=4),
        Slice(name="c", inputs=("data",), start=0, stop=2),
        Slice(name="d", inputs=("c",), start=0, stop=9, axis=2),
        Eltwise(name="e", inputs=("a", "d"), coeffs=(2.0, -0.5)),
        Concat(name="f", inputs=("b", "e")),
    ),
    "affine": network(
        BatchNorm(name="bn", eps=0.01),
        Bias(name="b"),
        Scale(name="s", axis=-3, bias=True),
        Eltwise(name="square", inputs=("s", "s", "b"), operation="prod"),
    ),
    "one input read twice first": network(Concat(name="c", inputs=("data", "data")), TanH(name="t")),
    "dense": network(Pool(name="g", mode="ave", global_pool=True), Dense(name="f", out_features=5), Softmax(name="p")),
}  # fmt: skip


@pytest.mark.parametrize("name", AWKWARD)
def test_rewritten_networks_are_exactly_equal(name: str) -> None:
    spec = AWKWARD[name]
    weights, inputs = probe_weights(spec).tensors, images(spec)
    want = reference.forward(spec, weights, inputs)
    lowered = for_caffe(spec)
    got = reference.forward(lowered.spec, weights, inputs)
    for layer, made in lowered.names.items():
        np.testing.assert_allclose(got[made], want[layer], rtol=1e-12, err_msg=layer)
    written = parse_prototxt(deploy_text(spec, described=False), Path("deploy.prototxt")).spec
    again = reference.forward(written, weights, inputs)
    assert all(np.array_equal(again[made], got[made]) for made in lowered.names.values())
    assert set(written.outputs) == {lowered.names[output] for output in spec.outputs}


@pytest.mark.parametrize(
    "shared",
    [Flatten(name="b"), Concat(name="b", inputs=("a",)), Slice(name="b", start=0, stop=4)],
    ids=lambda layer: type(layer).__name__,
)
def test_nothing_works_in_place_on_memory_that_is_read_again(shared: Layer) -> None:
    last = Power(name="c", inputs=("a",), scale=2.0)
    text = deploy_text(network(Power(name="a", scale=3.0), shared, ReLU(name="r"), last), described=False)
    assert parse_prototxt(text, Path("deploy.prototxt")).spec.outputs == ("r", "c")
    assert 'bottom: "b" top: "r"' in text


@pytest.mark.parametrize("name", AWKWARD)
def test_the_runtime_and_caffe2onnx_run_them(name: str, tmp_path: Path) -> None:
    weights = probe_weights(AWKWARD[name])
    spec, inputs = weights.spec, images(weights.spec)
    want = reference.forward(spec, weights.tensors, inputs)
    assert_close(caffe.forward(spec, weights.tensors, inputs), want)
    export_onnx(weights, tmp_path / "a.onnx", every_activation=True)
    assert_close(run(tmp_path / "a.onnx", inputs, None), want)


@pytest.mark.parametrize("model", registry.models())
def test_every_member_runs_in_caffe_and_through_caffe2onnx(model: str, tmp_path: Path) -> None:
    weights = small_weights(model)
    inputs = images(weights.spec, batch=2)
    want = reference.forward(weights.spec, weights.tensors, inputs)
    assert_close(caffe.forward(weights.spec, weights.tensors, inputs), want)
    if normalises_vectors(weights.spec):
        with pytest.raises(UnsupportedError, match=r"caffe2onnx cannot express layer .* one number a channel"):
            export_onnx(weights, tmp_path / "a.onnx", every_activation=True)
        return
    export_onnx(weights, tmp_path / "a.onnx", every_activation=True)
    assert_close(run(tmp_path / "a.onnx", inputs, None), want)


def test_two_inputs_and_a_second_operand(tmp_path: Path) -> None:
    spec = ModelSpec(
        name="two",
        title="two inputs",
        inputs=(Input(name="x", shape=(3, 4, 5)), Input(name="y", shape=(3, 4, 5)), Input(name="z", shape=(3,))),
        layers=(
            ReLU(name="r", inputs=("y",)),
            Eltwise(name="e", inputs=("x", "r"), operation="sum"),
            Bias(name="b", inputs=("e", "z"), axis=0),
        ),
    )
    inputs = images(spec)
    want = reference.forward(spec, {}, inputs)
    assert_close(caffe.forward(spec, {}, inputs), want)
    with pytest.raises(UnsupportedError, match="layer 'b'"):
        export_onnx(Weights(spec=spec, tensors={}, source="none"), tmp_path / "a.onnx", every_activation=False)


def test_adjacent_slices_become_one_caffe_layer() -> None:
    spec = AWKWARD["slices with gaps and overlaps"]
    groups = slice_groups(spec, lengths(spec))
    assert {name: (group.pieces, group.points, group.unused) for name, group in groups.items()} == {
        "a": (("a_unused1", "a", "b"), (1, 3), ("a_unused1",)),
        "c": (("c", "c_unused1"), (2,), ("c_unused1",)),
        "d": (("d",), (), ()),
    }


def test_what_caffe_has_no_equal_for_is_refused_by_layer() -> None:
    flat = network(Flatten(name="f"), LRN(name="n", size=3, alpha=1.0, beta=0.75))
    with pytest.raises(UnsupportedError, match="layer 'n'"):
        deploy_text(flat)
    with pytest.raises(UnsupportedError, match="layer 'n'"):
        for_caffe(network(LRN(name="n", size=3, alpha=1.0, beta=0.75, k=0.0, region="within")))


@pytest.mark.parametrize("model", registry.models())
def test_generated_files_are_read_back_as_the_very_spec(model: str, tmp_path: Path) -> None:
    spec = shrink(model)
    paths = caffe.generate(spec, tmp_path)
    assert [path.name for path in paths] == ["deploy.prototxt", "train_val.prototxt", "solver.prototxt"]
    deploy, training = read_prototxt(paths[0]), read_prototxt(paths[1])
    assert deploy.spec == spec
    assert (deploy.omitted, deploy.notes) == ((), ())
    # Under the comment that carries the spec stands a network of its own that says the same.
    bare = parse_prototxt(deploy_text(spec, described=False), paths[0]).spec
    kept = bare.layers[:-1] if isinstance(bare.layers[-1], Softmax) else bare.layers
    assert training.spec.layers == kept
    assert "loss (SoftmaxWithLoss)" in training.omitted
    assert all(path.read_bytes().endswith(b"\n") for path in paths)


def test_the_networks_people_know_are_written_as_they_know_them() -> None:
    net = parse(deploy_text(registry.model("bvlc_alexnet")))
    layers = {layer.string("name"): layer for layer in net.messages("layer")}
    assert list(layers) == [
        *("data", "conv1", "relu1", "norm1", "pool1", "conv2", "relu2", "norm2", "pool2", "conv3", "relu3", "conv4"),
        *("relu4", "conv5", "relu5", "pool5", "fc6", "relu6", "drop6", "fc7", "relu7", "drop7", "fc8", "prob"),
    ]
    assert layers["relu1"].strings("bottom") == layers["relu1"].strings("top") == ["conv1"]
    assert layers["norm1"].strings("bottom") == ["conv1"]
    assert layers["conv2"].message("convolution_param").integer("group", 1) == 2


def test_the_solver_has_the_recipe_of_its_network() -> None:
    solver = parse(solver_text(registry.model("alexnet")))
    assert solver.number("base_lr", 0) == 0.01 and solver.number("momentum", 0) == 0.9
    assert solver.number("weight_decay", 0) == 5e-4
    assert len(solver.integers("stepvalue")) == 3 and solver.string("lr_policy") == "multistep"
    assert parse(solver_text(registry.model("bvlc_alexnet"))).integer("stepsize", 0) == 100_000
    assert "needs solver_mode: CPU" in solver_text(registry.model("alexnet"))


def test_training_values_are_those_of_the_paper() -> None:
    net = parse(train_val_text(registry.model("alexnet")))
    found = {layer.string("name"): layer for layer in net.messages("layer") if "param" in layer}
    assert list(found) == ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
    biases = dict[str, float]()
    for name, layer in found.items():
        assert [rate.number("lr_mult", 0) for rate in layer.messages("param")] == [1, 2]
        assert [rate.number("decay_mult", 9) for rate in layer.messages("param")] == [1, 0]
        block = layer.message("convolution_param" if name.startswith("conv") else "inner_product_param")
        assert block.message("weight_filler").number("std", 0) == 0.01
        biases[name] = block.message("bias_filler").number("value", -1)
    assert [name for name, value in biases.items() if value == 1] == ["conv2", "conv4", "conv5", "fc6", "fc7"]
    data = net.messages("layer")[0]
    assert data.message("data_param").integer("batch_size", 0) == 128
    assert "EDIT/ME" in data.message("data_param").string("source")


def test_networks_without_images_train_from_hdf5() -> None:
    spec = network(Dense(name="f", out_features=3), Dropout(name="d"), shape=(7,))
    net = parse(train_val_text(spec))
    assert net.messages("layer")[0].string("type") == "HDF5Data"
    assert net.messages("layer")[-1].strings("bottom") == ["f", "label"]  # dropped out in place
    with pytest.raises(UnsupportedError, match="nothing to train"):
        train_val_text(network(ReLU(name="r")))


def test_batch_norm_measures_its_statistics_in_training() -> None:
    net = parse(train_val_text(network(Conv(name="c", out_channels=2, kernel=(1, 1)), BatchNorm(name="b"))))
    layer = next(layer for layer in net.messages("layer") if layer.string("name") == "b")
    assert "use_global_stats" not in layer.message("batch_norm_param")
    assert layer.message("batch_norm_param").number("moving_average_fraction", 0) == 0.9
    assert [rate.number("lr_mult", 9) for rate in layer.messages("param")] == [0, 0, 0]


def test_scales_that_replace_other_layers() -> None:
    weights = probe_weights(network(BatchNorm(name="bn"), Bias(name="b", num_axes=0), Scale(name="s", axis=-1)))
    spec, tensors = as_scales(weights.spec, weights.tensors, batch_norms=True)
    assert {(type(layer), layer.axis) for layer in spec.layers if isinstance(layer, Scale)} == {(Scale, 1), (Scale, 3)}
    x = images(spec)
    assert_close(reference.forward(spec, tensors, x), reference.forward(weights.spec, weights.tensors, x))


def test_the_runtime_says_what_it_is() -> None:
    assert caffe.runtime().startswith(("OpenCV 4.", "Caffe "))


def test_what_the_runtime_cannot_do_is_refused_with_its_reason() -> None:
    spec = network(LRN(name="n", size=3, alpha=1.0, beta=0.75, k=0.0))  # Caffe can; OpenCV needs k to divide by
    with pytest.raises(UnsupportedError, match=r"layer 'n' \(LRN\): k must be positive"):
        opencv.forward(spec, {}, images(spec))


BOXES: dict[str, dict[str, Any]] = {
    "all": {},
    "by_corner": {"code": "corner"},
    "one_box_a_class": {"share_location": False},
    "best_of_each_class": {"top_k": 3},
    "best_of_all": {"keep": 4},
    "another_background": {"background": 2},
    "nothing": {"confidence": 2.0},
}


@pytest.mark.parametrize("kind", BOXES)
def test_opencv_finds_the_boxes_that_caffe_finds_in_its_order(kind: str) -> None:
    numbers: dict[str, Any] = {"code": "center_size", "confidence": 0.2} | BOXES[kind]
    found = DetectionOutput(name="d", inputs=("places", "scores", "priors"), classes=3, **numbers)
    shapes = {"places": (48 if found.share_location else 144,), "scores": (36,), "priors": (2, 48)}
    spec = ModelSpec(
        name="boxes", title="", inputs=tuple(Input(name=n, shape=s) for n, s in shapes.items()), layers=(found,)
    )
    draws, centres = np.random.default_rng(3), np.random.default_rng(4).uniform(0.2, 0.8, (12, 2))
    priors = np.stack([np.concatenate([centres - 0.1, centres + 0.1], 1).ravel(), np.tile([0.1, 0.1, 0.2, 0.2], 12)])
    x = {
        "places": draws.normal(0, 1, (2, *shapes["places"])).astype(np.float32),
        "scores": draws.uniform(0, 1, (2, 36)).astype(np.float32),
        "priors": priors[None].astype(np.float32),
    }
    assert_close(opencv.forward(spec, {}, x), reference.forward(spec, {}, x))


@pytest.mark.parametrize("sizes", [{}, {"max_sizes": (60.7,), "ratios": (2.0,)}, {"clip": True, "step": (8.0, 16.0)}])
def test_opencv_lays_prior_boxes_as_caffe_does(sizes: dict[str, Any]) -> None:
    prior = PriorBox(name="p", inputs=("map", "image"), min_sizes=(30.5,), **sizes)
    inputs = Input(name="map", shape=(4, 5, 6)), Input(name="image", shape=(3, 60, 90))
    spec = ModelSpec(name="priors", title="", inputs=inputs, layers=(prior,))
    assert "clip: " in deploy_text(spec)  # left out, OpenCV clips
    x = images(spec)
    assert_close(opencv.forward(spec, {}, x), reference.forward(spec, {}, x))


@pytest.mark.parametrize(("across", "shared"), [(True, True), (False, True), (False, False)])
def test_opencv_normalises_by_length_as_caffe_does(across: bool, shared: bool) -> None:
    weights = probe_weights(network(Normalize(name="n", across_spatial=across, shared=shared)))
    x = images(weights.spec)
    assert_close(opencv.forward(weights.spec, weights.tensors, x), reference.forward(weights.spec, weights.tensors, x))


def test_a_form_that_opencv_has_not_is_refused_by_name() -> None:
    spec = network(Normalize(name="n", across_spatial=True, shared=False))
    with pytest.raises(UnsupportedError, match=r"layer 'n' \(Normalize\): OpenCV .* scales all of an image by one"):
        opencv.forward(spec, probe_weights(spec).tensors, images(spec))


# What pycaffe offers to us, computed by the reference.
FAKE_CAFFE = """
import numpy as np
from pathlib import Path
from types import SimpleNamespace
from zoo import reference
from zoo.wire.prototxt import parse
from zoo.frameworks.caffe import read_prototxt
from converters.convert import open_file

__version__, TEST, set_mode_cpu = "1.0.0", 1, lambda: None


class Net:
    def __init__(self, path, phase):
        self.spec = read_prototxt(Path(path)).spec
        batch = parse(Path(path).read_text()).messages("layer")[0].message("input_param").message("shape")
        self.inputs = {source.name: np.zeros(batch.integers("dim")) for source in self.spec.inputs}
        self.blobs = {name: SimpleNamespace(data=data) for name, data in self.inputs.items()}

    def copy_from(self, path):
        self.weights = open_file(Path(path)).as_network(self.spec).tensors

    def forward(self):
        outputs = reference.forward(self.spec, self.weights, self.inputs)
        self.blobs |= {name: SimpleNamespace(data=output) for name, output in outputs.items()}
"""


@pytest.fixture
def pycaffe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Path]:
    """A file that ``import caffe`` finds, to be written; what was imported for it is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, ADAPTER, raising=False)
    yield tmp_path / "caffe.py"
    sys.modules.pop(ADAPTER, None)


def test_caffe_itself_is_used_where_it_imports(pycaffe: Path) -> None:
    pycaffe.write_text(FAKE_CAFFE)
    weights = small_weights("alexnet_2012_code")
    inputs = images(weights.spec, batch=2)
    assert caffe.runtime() == "Caffe 1.0.0"
    got = caffe.forward(weights.spec, weights.tensors, inputs)
    assert_close(got, reference.forward(weights.spec, weights.tensors, inputs))


def test_a_check_of_caffes_that_ends_its_process_is_one_line_here(pycaffe: Path) -> None:
    log = "F1124 22:28:27.8 42 lrn_layer.cpp:13] Check failed: size_ % 2 == 1 (0 vs. 1) odd values only"
    dies = f"import os, sys\n\ndef Net(path, phase):\n    print({log!r}, file=sys.stderr, flush=True)\n    os.abort()\n"
    pycaffe.write_text(f"TEST, set_mode_cpu = 1, lambda: None\n{dies}")
    spec = network(TanH(name="t"))
    with pytest.raises(
        UnsupportedError, match=r"^net: Caffe of unknown version cannot run this network: Check failed: size_ % 2"
    ):
        caffe.forward(spec, {}, images(spec))


@pytest.mark.parametrize("text", ["raise ImportError('libcaffe.so is not there')", "no_net = 1"])
def test_a_caffe_that_does_not_import_is_said_and_opencv_used(
    text: str, pycaffe: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pycaffe.write_text(text)
    assert caffe.runtime().startswith("OpenCV 4.")
    (message,) = caplog.messages
    assert "Caffe is installed but does not import" in message
    assert "libcaffe.so is not there" in message or "has no attribute 'Net'" in message


def test_caffe2onnx_leaves_stdout_alone_and_writes_one_operator_set(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    export_onnx(small_weights(), tmp_path / "a.onnx", every_activation=False)
    assert capfd.readouterr().out == ""
    (output,) = run(tmp_path / "a.onnx", images(shrink("alexnet"), batch=1), None)
    assert output == "prob"
    with pytest.raises(ZooError, match="operator set 11 only"):
        export_onnx(small_weights(), tmp_path / "b.onnx", every_activation=False, opset=18)
    assert not (tmp_path / "b.onnx").exists()


def test_everything_caffe2onnx_cannot_do_is_named_at_once(tmp_path: Path) -> None:
    spec = network(
        Pool(name="p", mode="max", kernel=(2, 2), stride=(2, 2), pad=(1, 0)),
        Power(name="q"),
        Softmax(name="s", axis=1),
    )
    with pytest.raises(UnsupportedError, match=r"layer 'p' \(Pool.*layer 's' \(Softmax"):
        export_onnx(Weights(spec=spec, tensors={}, source="none"), tmp_path / "a.onnx", every_activation=True)


BATCHED = {
    "slices": ("x: 6 2", 'type: "Slice" bottom: "x" top: "y" top: "z" slice_param { axis: 0 slice_point: 4 }', (6,)),
    "slices of one axis": (
        "x: 5",
        'type: "Slice" bottom: "x" top: "y" top: "z" slice_param { axis: 0 slice_point: 1 }',
        (5,),
    ),
    "largest": ("x: 4 3", 'type: "ArgMax" bottom: "x" top: "y" argmax_param { axis: 0 top_k: 3 }', (3,)),
    "factors": (
        "x: 1 3 2|z: 3 2",
        'type: "Scale" bottom: "x" bottom: "z" top: "y" scale_param { bias_term: true }',
        (1, 3),
    ),
    "factors of items": (
        "x: 2 3|z: 2",
        'type: "Scale" bottom: "x" bottom: "z" top: "y" scale_param { axis: 0 }',
        (1, 1),
    ),
    "constants": (
        "x: 2 3",
        'type: "Parameter" top: "p" parameter_param { shape { dim: 2 dim: 3 } } }'
        ' layer { name: "e" type: "Eltwise" bottom: "x" bottom: "p" top: "y"',
        (2,),
    ),
}


@pytest.mark.parametrize("name", BATCHED)
def test_a_network_is_written_for_a_batch_that_caffe_takes(name: str) -> None:
    feeds, layer, batches = BATCHED[name]
    text = f'layer {{ name: "l" {layer} }}'
    for feed in reversed(feeds.split("|")):
        top, _, sizes = feed.partition(":")
        dims = " ".join(f"dim: {size}" for size in sizes.split())
        text = f'layer {{ name: "{top}" type: "Input" top: "{top}" input_param {{ shape {{ {dims} }} }} }} {text}'
    spec = parse_prototxt(text, Path("net.prototxt")).spec
    written = deploy_text(spec, described=False)
    assert parse_prototxt(written, Path("net.prototxt")).spec.layers == spec.layers
    inputs = [layer for layer in parse(written).messages("layer") if layer.string("type") == "Input"]
    found = [layer.message("input_param").message("shape").integers("dim")[0] for layer in inputs]
    assert tuple(found) == batches


def test_what_no_batch_suits_is_not_written() -> None:
    halves = [Slice(name=f"s{i}", inputs=("data",), start=i, stop=i + 1, axis=0) for i in (0, 80)]
    spec = ModelSpec(name="n", title="n", inputs=(Input(name="data", shape=(2,)),), layers=tuple(halves))
    with pytest.raises(
        UnsupportedError, match=r"layer 's80': .* no batches of up to 64 items suit this layer in Caffe"
    ):
        deploy_text(spec)


def test_constants_have_no_bottom() -> None:
    """dummy_data_layer.hpp: ExactNumBottomBlobs is 0."""
    layers = (Constant(name="c", inputs=("data",), shape=(2,), value=3.0), Eltwise(name="e", inputs=("data", "c")))
    spec = ModelSpec(name="n", title="n", inputs=(Input(name="data", shape=(2,)),), layers=layers)
    written = deploy_text(spec, described=False)
    assert "bottom" not in parse(written).messages("layer")[1]
    assert parse_prototxt(written, Path("net.prototxt")).spec.layers == layers


@pytest.mark.parametrize(
    "layer",
    [
        Deconv(name="op", out_channels=2, kernel=(1, 1), pad=(1, 2)),
        Deconv(name="op", out_channels=4, kernel=(1, 1), pad=(0, 1), groups=2),
        Conv(name="op", out_channels=4, kernel=(3, 3), pad=(0, 1), dilation=(1, 2), groups=4),
        Conv(name="op", out_channels=4, kernel=(3, 3), pad=(1, 1), dilation=(3, 3), groups=4),
    ],
)
def test_what_opencv_misplaces_is_given_to_it_otherwise(layer: Conv | Deconv) -> None:
    spec = ModelSpec(name="n", title="n", inputs=(Input(name="data", shape=(4, 9, 8)),), layers=(layer,))
    weights = probe_weights(spec).tensors
    inputs = {"data": np.random.default_rng(0).normal(size=(2, 4, 9, 8)).astype(np.float32)}
    assert_close(opencv.forward(spec, weights, inputs), reference.forward(spec, weights, inputs))
