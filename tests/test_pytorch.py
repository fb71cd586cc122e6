"""The PyTorch models against the oracle, and against the source that is printed for them."""

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from tests import kinds
from tests.networks import NETWORKS
from zoo import reference
from zoo.errors import UnsupportedError, WeightsError, ZooError
from zoo.frameworks import pytorch
from zoo.frameworks.caffe import parse_prototxt
from zoo.layers import (
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
    Layer,
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
from zoo.registry import model, models
from zoo.shapes import activation_shapes, parameter_shapes
from zoo.torch_names import attribute_names, parameter_names

# A measured floor of 4e-7 for one layer; ten times that is still far below any real fault.
BUDGET = 5e-6
IMAGE = (6, 9, 7)


def one(layer: Layer, *shapes: tuple[int, ...]) -> ModelSpec:
    inputs = tuple(Input(name=f"in{i}", shape=shape) for i, shape in enumerate(shapes or (IMAGE,)))
    return ModelSpec(
        name="one", title="a layer", inputs=inputs, layers=(replace(layer, inputs=tuple(i.name for i in inputs)),)
    )


CASES = {
    "conv": one(Conv(name="op", out_channels=4, kernel=(3, 2), stride=(2, 1), pad=(1, 0), dilation=(1, 2), groups=2)),
    "conv_nobias": one(Conv(name="op", out_channels=4, kernel=(3, 3), bias=False)),
    "conv_ceil": one(Conv(name="op", out_channels=4, kernel=(4, 4), stride=(3, 2), pad=(1, 0), rounding="ceil")),
    "dense": one(Dense(name="op", out_features=5)),
    "dense_axis2": one(Dense(name="op", out_features=5, axis=2)),
    "dense_last": one(Dense(name="op", out_features=5, axis=-1, bias=False)),
    "dense_vector": one(Dense(name="op", out_features=5), (8,)),
    **{
        f"pool_{mode}_{name}": one(Pool(name="op", mode=mode, **cast("dict[str, Any]", options)))
        for mode in ("max", "ave")
        for name, options in {
            "ceil": {"kernel": (2, 3), "stride": (2, 2)},
            "floor": {"kernel": (2, 3), "stride": (2, 2), "rounding": "floor"},
            "pad": {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1)},
            "pad_one_axis": {"kernel": (2, 2), "stride": (2, 2), "pad": (1, 0)},
            "pad_over_half": {"kernel": (3, 3), "stride": (3, 2), "pad": (2, 2)},
            "empty_window": {"kernel": (1, 1), "stride": (2, 4)},
            "far_empty_window": {"kernel": (1, 2), "stride": (5, 4)},
            "global": {"global_pool": True},
        }.items()
    },
    "lrn": one(LRN(name="op", size=5, alpha=1e-2, beta=0.75, k=2.0)),
    "lrn_towers": one(LRN(name="op", size=3, alpha=1e-2, beta=0.75, k=2.0, towers=2)),
    "lrn_wider_than_the_tower": one(LRN(name="op", size=7, alpha=1e-2, beta=0.5, towers=3)),
    "lrn_vector": one(LRN(name="op", size=5, alpha=1e-2, beta=0.75), (8,)),
    "lrn_within": one(LRN(name="op", size=3, alpha=1e-2, beta=0.75, k=2.0, region="within")),
    "relu": one(ReLU(name="op")),
    "relu_slope": one(ReLU(name="op", negative_slope=0.1)),
    "sigmoid": one(Sigmoid(name="op")),
    "tanh": one(TanH(name="op")),
    "power": one(Power(name="op", power=2.0, scale=0.5, shift=-1.0)),
    "dropout": one(Dropout(name="op", ratio=0.9)),
    "softmax": one(Softmax(name="op"), (8,)),
    "softmax_last": one(Softmax(name="op", axis=-1)),
    "flatten": one(Flatten(name="op")),
    "flatten_some": one(Flatten(name="op", axis=-3, end_axis=-2)),
    "concat": one(Concat(name="op"), (2, 3), (5, 3)),
    "concat_last": one(Concat(name="op", axis=-1), (2, 3), (2, 4)),
    "concat_batch": one(Concat(name="op", axis=0), (2, 3), (2, 3)),
    "slice": one(Slice(name="op", start=2, stop=5)),
    "slice_last": one(Slice(name="op", start=2, stop=5, axis=-1)),
    "sum": one(Eltwise(name="op"), IMAGE, IMAGE, IMAGE),
    "sum_coeffs": one(Eltwise(name="op", coeffs=(2.0, -0.5)), IMAGE, IMAGE),
    "prod": one(Eltwise(name="op", operation="prod"), IMAGE, IMAGE),
    "max": one(Eltwise(name="op", operation="max"), IMAGE, IMAGE),
    "scale": one(Scale(name="op", bias=True)),
    "scale_two_axes": one(Scale(name="op", axis=2, num_axes=-1)),
    "scale_by_one_number": one(Scale(name="op", num_axes=0, bias=True)),
    "scale_by_input": one(Scale(name="op", axis=0, bias=True), IMAGE, (6,)),
    "bias": one(Bias(name="op", axis=-1)),
    "bias_by_input": one(Bias(name="op", axis=0), IMAGE, (6, 9)),
    "batchnorm": one(BatchNorm(name="op", eps=1e-3)),
    "batchnorm_vector": one(BatchNorm(name="op"), (8,)),
    "batchnorm_of_the_batch": one(BatchNorm(name="op", batch_stats=True)),
}


def shrunk(name: str, size: int) -> ModelSpec:
    """A family member with a quarter of the channels, for images of another size where its own are larger."""
    spec = model(name)
    layers = list[Layer]()
    for layer in spec.layers:
        if isinstance(layer, Conv):
            layers.append(replace(layer, out_channels=max(2, layer.out_channels // 4)))
        elif isinstance(layer, Dense):
            layers.append(replace(layer, out_features=max(10, layer.out_features // 50)))
        else:
            layers.append(layer)
    return replace(spec, layers=tuple(layers)).with_input_size(min(size, spec.inputs[0].shape[-1]))


def probe(spec: ModelSpec, batch: int = 3) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """He-scaled weights with non-zero biases and positive variances, and inputs of deviation 10."""
    rng = np.random.default_rng(7)
    weights = {
        name: rng.uniform(0.5, 2, shape).astype(np.float32)
        if name.endswith(("variance", "mean"))
        else (rng.normal(size=shape) * (2 / max(1, np.prod(shape[1:]))) ** 0.5).astype(np.float32)
        for name, shape in parameter_shapes(spec).items()
    }
    inputs = {i.name: (10 * rng.normal(size=(batch, *i.shape))).astype(np.float32) for i in spec.inputs}
    return weights, inputs


def error(y: np.ndarray, expected: np.ndarray) -> float:
    assert y.shape == expected.shape
    assert y.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    return float(np.nanmax(abs(y - expected)) / np.nanmax(abs(expected)))


def printed(spec: ModelSpec, weights: dict[str, np.ndarray], folder: Path) -> Any:
    """The generated source, imported, with the weights in it."""
    (path,) = pytorch.generate(spec, folder)
    found = importlib.util.spec_from_file_location("printed", path)
    assert found and found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    (made,) = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and str(value.__doc__).startswith("Comments give the output")
    ]
    network = made()
    network.load_state_dict(pytorch.build(spec, weights).state_dict())
    return network.eval()


def assert_printed_is_live(spec: ModelSpec, folder: Path) -> None:
    weights, inputs = probe(spec)
    network, live = printed(spec, weights, folder), pytorch.forward(spec, weights, inputs)
    seen = dict[str, np.ndarray]()
    for layer, attribute in attribute_names(spec).items():
        if layer in live:
            network.get_submodule(attribute).register_forward_hook(
                lambda _module, _inputs, y, layer=layer: seen.__setitem__(layer, y.detach().numpy().copy())
            )
    answer = getattr(network, "probabilities", network)
    outputs = answer(*(torch.from_numpy(inputs[source.name]) for source in spec.inputs))
    assert list(seen) == list(live)
    for layer, y in live.items():
        np.testing.assert_array_equal(seen[layer], y, err_msg=layer)
    assert isinstance(outputs, tuple) == (len(spec.outputs) > 1)


@pytest.mark.parametrize("case", CASES)
def test_every_layer_kind_is_the_oracle_s_live_and_printed(case: str, tmp_path: Path) -> None:
    spec = CASES[case]
    weights, inputs = probe(spec)
    y = pytorch.forward(spec, weights, inputs)["op"]
    with np.errstate(invalid="ignore"):
        expected = reference.forward(spec, weights, inputs)["op"]
    assert y.shape[1:] == activation_shapes(spec)["op"]
    assert error(y, expected) < BUDGET
    assert_printed_is_live(spec, tmp_path)


def test_a_pool_or_lrn_kept_by_torch_is_written_as_a_person_would() -> None:
    assert "self.op = nn.MaxPool2d((2, 3), 2, ceil_mode=True)" in pytorch.source_text(CASES["pool_max_ceil"])
    assert "nn.AvgPool2d(3, 2, padding=1, ceil_mode=True)" in pytorch.source_text(CASES["pool_ave_pad"])
    assert "nn.LocalResponseNorm(5, alpha=0.01, beta=0.75, k=2.0)" in pytorch.source_text(CASES["lrn"])
    assert "PaddedMaxPool2d(1, (2, 4), (0, 2, 0, 0))" in pytorch.source_text(CASES["pool_max_empty_window"])


@pytest.mark.parametrize("name", models())
@pytest.mark.parametrize("size", [91, 96])  # at one of them the last windows of conv1 and the pools hang over
def test_the_family_is_the_oracle_s_live_and_printed(name: str, size: int, tmp_path: Path) -> None:
    spec = shrunk(name, size)
    weights, inputs = probe(spec)
    live = pytorch.forward(spec, weights, inputs)
    expected = reference.forward(spec, weights, inputs)
    assert list(live) == [layer.name for layer in spec.layers]
    for layer, y in live.items():
        # A softmax multiplies the error of large logits: it is never gated.
        assert layer == "prob" or error(y, expected[layer]) < BUDGET, layer
    assert_printed_is_live(spec, tmp_path)


@pytest.mark.parametrize("name", models())
def test_what_is_printed_can_be_scripted_traced_exported_and_fed_with_nothing(name: str, tmp_path: Path) -> None:
    spec = shrunk(name, 96)
    weights, inputs = probe(spec)
    network, x = printed(spec, weights, tmp_path), torch.from_numpy(inputs["data"])
    with torch.no_grad():
        logits = network(x)
        for other in (torch.jit.script(network), torch.fx.symbolic_trace(network)):
            torch.testing.assert_close(other(x), logits)
        if name == "alexnet":  # takes seconds
            torch.testing.assert_close(torch.export.export(network, (x,)).module()(x), logits)
        assert network(x[:0]).shape == (0, *logits.shape[1:])
        expected = reference.forward(spec, weights, inputs)
        assert spec.head is not None and error(logits.numpy(), expected[spec.head.name].reshape(logits.shape)) < BUDGET
        torch.testing.assert_close(network.probabilities(x), logits.softmax(1))


@pytest.mark.parametrize("name", ["pnet", "fcn", "shufflenet", "rfcn"])
def test_networks_of_others_can_be_scripted_traced_and_fed_with_nothing(name: str, tmp_path: Path) -> None:
    spec = parse_prototxt(NETWORKS[name], Path(f"{name}.prototxt")).spec
    weights, inputs = probe(spec)
    network, given = printed(spec, weights, tmp_path), [torch.from_numpy(x) for x in inputs.values()]
    with torch.no_grad():
        answer = network(*given)
        for other in (torch.jit.script(network), torch.fx.symbolic_trace(network)):
            torch.testing.assert_close(other(*given), answer)
        nothing = network(*(x[:0] for x in given))
    for one, of_none in zip(*((y if isinstance(y, tuple) else (y,)) for y in (answer, nothing)), strict=True):
        assert of_none.shape == (0, *one.shape[1:])


def test_detections_of_no_image_are_none(tmp_path: Path) -> None:
    spec = kinds.KINDS["detections"]
    weights, inputs = kinds.probe(spec)
    found = printed(spec, weights, tmp_path)(*(torch.from_numpy(x[:0]) for x in inputs.values()))
    assert found.shape == (1, 1, 0, 7)


def test_a_printed_class_takes_the_number_of_classes(tmp_path: Path) -> None:
    spec = shrunk("alexnet", 67)
    weights, inputs = probe(spec)
    made = type(printed(spec, weights, tmp_path))
    assert made(num_classes=3)(torch.from_numpy(inputs["data"])).shape[1:] == (3,)
    assert "images: channel order RGB" in str(made.__doc__)
    chained = spec.insert(Dense(name="fc9", out_features=2), after="fc8").without("prob")
    assert "def __init__(self, num_classes: int = 2)" in pytorch.source_text(chained)
    normed = spec.insert(BatchNorm(name="bn"), after="fc8")  # which has a mean for each class
    assert "num_classes" not in pytorch.source_text(normed)
    assert "def probabilities" not in pytorch.source_text(chained)


def test_alexnet_reads_as_a_person_would_have_written_it() -> None:
    text = pytorch.source_text(model("alexnet"))
    for line in (
        "class AlexNet(nn.Module):",
        "self.conv1 = nn.Conv2d(3, 96, 11, stride=4)  # 96 x 55 x 55",
        "self.conv2 = nn.Conv2d(96, 256, 5, padding=2, groups=2)  # 256 x 27 x 27",
        "self.norm1 = TowerLocalResponseNorm(5, alpha=0.0001, beta=0.75, k=2.0, towers=2)",
        "self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)  # 96 x 27 x 27",
        "self.fc6 = nn.Linear(9216, 4096)  # 4096",
        "x = self.fc6(x.flatten(1))",
        "x = self.fc7(x)",
    ):
        assert line in text
    assert "zoo" not in text


def test_printed_source_needs_torch_alone(tmp_path: Path) -> None:
    (path,) = pytorch.generate(shrunk("alexnet", 67), tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(path.parent)!r}); import alexnet, torch;"
        "print(tuple(alexnet.AlexNet().eval()(torch.zeros(2, 3, 67, 67)).shape),"
        "any(n.split('.')[0] in ('zoo', 'converters') for n in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.split("\n")[0] == "(2, 20) False"


def test_parameters_carry_the_canonical_names() -> None:
    spec = shrunk("alexnet", 67)
    assert list(pytorch.build(spec).state_dict()) == list(parameter_shapes(spec))
    assert parameter_names(CASES["batchnorm"]) == {
        "op.mean": "op.running_mean",
        "op.variance": "op.running_var",
    }


def dag(*names: str) -> ModelSpec:
    """A branching network over hostile names."""
    a, b, c, d = names
    return ModelSpec(
        name='../x"""; raise\\',
        title='"""\nraise SystemExit(1)\n"""',
        inputs=(Input(name="x", shape=(4,)), Input(name="self", shape=(4,))),
        layers=(
            Dense(name=a, out_features=4, inputs=("x",)),
            ReLU(name=b),
            Eltwise(name=c, inputs=(a, b, "self")),
            TanH(name=d, inputs=(b,)),
        ),
    )


@pytest.mark.parametrize(
    "names",
    [
        ("conv1/7x7", "conv1_7x7", "1", "lambda"),
        ("train", "forward", "eval", "_spec"),
        ("a.b", "a_b", "a b", "a-b"),
        ('"', "#", "\\", "\n"),
        ("torch", "nn", "Eltwise", "functional"),
        ("weight", "training", "activations", "x_2"),
    ],
)
def test_any_layer_name_is_kept_and_runs_nothing(names: tuple[str, ...], tmp_path: Path) -> None:
    spec = dag(*names)
    weights, inputs = probe(spec)
    live = pytorch.forward(spec, weights, inputs)
    expected = reference.forward(spec, weights, inputs)
    assert list(live) == list(names)
    assert max(error(live[name], expected[name]) for name in names) < BUDGET
    assert_printed_is_live(spec, tmp_path)
    assert [path.parent for path in pytorch.generate(spec, tmp_path)] == [tmp_path]


def test_nothing_is_done_in_place() -> None:
    spec = ModelSpec(
        name="m",
        title="",
        inputs=(Input(shape=(4,)),),
        layers=(Dense(name="a", out_features=4), ReLU(name="b"), Power(name="c", scale=2.0), Dropout(name="d")),
    )
    weights, inputs = probe(spec)
    before = inputs["data"].copy()
    y = pytorch.forward(spec, weights, inputs)
    assert y["a"].min() < 0
    assert y["b"].min() == 0
    np.testing.assert_array_equal(y["c"], 2 * y["b"])
    np.testing.assert_array_equal(inputs["data"], before)


def test_dropout_works_in_training_alone() -> None:
    network = pytorch.build(CASES["dropout"])
    ones = torch.ones(64, *IMAGE)
    assert network.training
    torch.manual_seed(0)
    kept = network(ones)
    assert kept.unique().tolist() == pytest.approx([0, 10])
    assert kept.mean().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(network.eval()(ones), ones)


def test_inputs_of_different_batches_join_along_the_batch() -> None:
    spec = CASES["concat_batch"]
    inputs = {"in0": np.ones((2, 2, 3), np.float32), "in1": np.zeros((5, 2, 3), np.float32)}
    assert pytorch.forward(spec, {}, inputs)["op"].shape == (7, 2, 3)


def test_read_only_arrays_are_bound_without_a_copy_and_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    spec = CASES["dense_vector"]
    weights, _ = probe(spec)
    for array in weights.values():
        array.flags.writeable = False
    network = pytorch.bind(spec, weights)
    assert network.get_parameter("op.weight").data_ptr() == weights["op.weight"].ctypes.data
    assert not network.training
    built = pytorch.build(spec, weights)
    assert built.get_parameter("op.weight").data_ptr() != weights["op.weight"].ctypes.data
    assert built.get_parameter("op.weight").requires_grad
    assert not recwarn.list


def test_weights_of_another_network_are_refused_in_one_line() -> None:
    weights, _ = probe(CASES["dense_vector"])
    weights["op.weight"], weights["extra.bias"] = weights.pop("op.bias"), np.zeros(3, np.float32)
    with pytest.raises(WeightsError) as caught:
        pytorch.build(CASES["dense_vector"], weights)
    assert caught.value.problems == (
        "op.bias is missing",
        "extra.bias is not a parameter of this network",
        "op.weight has shape (5,), expected (5, 8)",
    )


def test_what_torch_cannot_do_is_said() -> None:
    with pytest.raises(UnsupportedError, match=r"'op'.*2 to 5 axes"):
        pytorch.build(one(BatchNorm(name="op"), (2, 2, 2, 2, 2)))
    with pytest.raises(ZooError, match=r"reads 2 inputs \(in0, in1\), got 1"):
        pytorch.build(CASES["sum_coeffs"])(torch.zeros(1, *IMAGE))


def test_no_layer_is_called_as_something_that_a_module_has() -> None:
    own = {*dir(torch.nn.Module()), *dir(pytorch.Network)}
    named = [name for name in own if not name.startswith("__")]
    relus = tuple(ReLU(name=name) for name in named)
    spec = ModelSpec(name="x", title="x", inputs=(Input(name="x", shape=(4,)),), layers=relus)
    assert len(named) > 80 and not own & {*attribute_names(spec).values()}


# Kinds that torch.jit.script does not take -> the word of its own answer.
_NOT_SCRIPTED = {
    **dict.fromkeys(
        ["max empty", "pool mask", "pool mask global", "unpool", "unpool where places meet"], "aten::finfo"
    ),
    **{"regions": "aten::finfo", "prior boxes": "new_tensor", "detections": "new_tensor"},
}


@pytest.mark.parametrize("case", kinds.KINDS)
def test_the_source_of_a_kind_is_scripted(case: str, tmp_path: Path) -> None:
    spec = kinds.KINDS[case]
    weights, inputs = kinds.probe(spec)
    network = printed(spec, weights, tmp_path)
    if case in _NOT_SCRIPTED:
        with pytest.raises(RuntimeError, match=_NOT_SCRIPTED[case]):
            torch.jit.script(network)
        return
    given = [torch.from_numpy(array) for array in inputs.values()]
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(*given), network(*given), rtol=0, atol=0, equal_nan=True)
