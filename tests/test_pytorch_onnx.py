"""torch.onnx.export of our models, run in ONNX Runtime; and the models through torch.hub."""

import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from converters.convert import save
from converters.exporters.pytorch import export_onnx
from converters.weights import Weights
from zoo import reference
from zoo.errors import UnsupportedError, ZooError
from zoo.frameworks import pytorch
from zoo.layers import Concat, Conv, Input, ModelSpec, Normalize, ReLU
from zoo.registry import model, models
from zoo.shapes import parameter_shapes

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

MINI = model("alexnet_mini")


def weights_of(spec: ModelSpec) -> Weights:
    rng = np.random.default_rng(0)
    tensors = {
        name: (rng.normal(size=shape) * (2 / np.prod(shape[1:])) ** 0.5).astype(np.float32)
        for name, shape in parameter_shapes(spec).items()
    }
    return Weights(spec=spec, tensors=tensors, source="made here")


def run(path: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return dict(zip((o.name for o in session.get_outputs()), session.run(None, inputs), strict=True))


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_every_activation_comes_out_of_the_export_under_its_name(
    exporter: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    weights, path = weights_of(MINI), tmp_path / "a.onnx"
    export_onnx(weights, path, every_activation=True, exporter=exporter)
    x = np.random.default_rng(1).normal(0, 60, (5, 3, 67, 67)).astype(np.float32)
    got, expected = run(path, {"data": x}), pytorch.forward(MINI, weights.tensors, {"data": x})
    assert list(got) == list(expected)
    for name, y in expected.items():
        assert abs(got[name] - y).max() <= 1e-5 * abs(y).max(), name

    assert [file.name for file in tmp_path.iterdir()] == ["a.onnx"]
    found = onnx.load(path)
    onnx.checker.check_model(found)
    assert found.opset_import[0].version == 18
    assert found.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in found.graph.initializer}
    np.testing.assert_array_equal(stored["conv1.weight"], weights.tensors["conv1.weight"])
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_the_spec_s_outputs_alone_several_inputs_and_names(tmp_path: Path) -> None:
    spec = ModelSpec(
        name="two",
        title="",
        inputs=(Input(name="left", shape=(2, 4, 4)), Input(name="right", shape=(3, 4, 4))),
        layers=(
            Concat(name="both", inputs=("left", "right")),
            Conv(name="conv/1", out_channels=2, kernel=(3, 3)),
            Conv(name="conv/2", out_channels=4, kernel=(3, 3), inputs=("both",)),
        ),
    )
    weights, path = weights_of(spec), tmp_path / "a.onnx"
    export_onnx(weights, path, every_activation=False)
    rng = np.random.default_rng(1)
    inputs = {i.name: rng.normal(size=(3, *i.shape)).astype(np.float32) for i in spec.inputs}
    got, expected = run(path, inputs), pytorch.forward(spec, weights.tensors, inputs)
    assert list(got) == ["conv/1", "conv/2"]
    for name, y in got.items():
        np.testing.assert_allclose(y, expected[name], atol=1e-5)


def test_an_opset_is_written_or_refused(tmp_path: Path) -> None:
    spec = replace(MINI, layers=MINI.layers[:4])
    export_onnx(weights_of(spec), tmp_path / "a.onnx", every_activation=False, opset=21)
    assert onnx.load(tmp_path / "a.onnx").opset_import[0].version == 21
    export_onnx(weights_of(spec), tmp_path / "a.onnx", every_activation=False, opset=11, exporter="torchscript")
    assert onnx.load(tmp_path / "a.onnx").opset_import[0].version == 11
    with pytest.raises(UnsupportedError, match="writes opsets 18 to 24, not 13"):
        export_onnx(weights_of(spec), tmp_path / "b.onnx", every_activation=False, opset=13)
    assert not (tmp_path / "b.onnx").exists()


REPOSITORY = str(Path(__file__).parents[1])


def test_torch_hub_gives_every_family_member() -> None:
    hubconf = runpy.run_path(f"{REPOSITORY}/hubconf.py")
    for name in models():
        assert callable(hubconf[name])
        assert model(name).title in hubconf[name].__doc__
    fresh: Any = torch.hub.load(REPOSITORY, "alexnet_mini", source="local")
    assert fresh.training
    assert fresh(torch.zeros(2, 3, 67, 67)).shape == (2, 10)


def test_torch_hub_loads_weights(tmp_path: Path) -> None:
    weights = weights_of(MINI.with_num_classes(7))
    for name in ("a.safetensors", "a.pt"):
        save(weights, tmp_path / name)
        network: Any = torch.hub.load(REPOSITORY, "alexnet_mini", source="local", weights=str(tmp_path / name))
        assert not network.training
        assert network(torch.zeros(1, 3, 67, 67)).shape == (1, 7)
        assert network.conv1.weight.detach().numpy().tobytes() == weights.tensors["conv1.weight"].tobytes()
    with pytest.raises(ZooError, match="no such file"):
        torch.hub.load(REPOSITORY, "alexnet_mini", source="local", weights=str(tmp_path / "none.safetensors"))


def test_a_vector_of_zeros_stays_zero_when_it_is_normalised(tmp_path: Path) -> None:
    spec = ModelSpec(
        name="norm",
        title="as in SSD, behind a ReLU",
        inputs=(Input(name="data", shape=(8, 3, 3)),),
        layers=(ReLU(name="relu"), Normalize(name="norm", across_spatial=False, shared=False)),
    )
    export_onnx(weights_of(spec), tmp_path / "norm.onnx", every_activation=False)
    data = np.random.default_rng(0).normal(size=(2, 8, 3, 3)).astype(np.float32)
    data[0, :, 1, 1], data[1, :, 0, 0] = -1.0, 1e-6
    (found,) = run(tmp_path / "norm.onnx", {"data": data}).values()
    right = reference.forward(spec, weights_of(spec).tensors, {"data": data})["norm"]
    assert not right[0, :, 1, 1].any()
    np.testing.assert_allclose(found, right, rtol=1e-5)
