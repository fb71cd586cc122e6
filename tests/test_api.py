"""What the packages declare: every name resolves, has its words and types, and takes paths as text."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import converters
import zoo
from converters.cli import main
from converters.convert import same_bits
from tests.small import shrink, small_weights
from zoo.errors import UnknownNameError, UnsupportedError, WeightsError

ROOT = Path(__file__).parent.parent
NAMES = [(package, name) for package in (zoo, converters) for name in package.__all__]


@pytest.mark.parametrize(("package", "name"), NAMES, ids=[f"{package.__name__}.{name}" for package, name in NAMES])
def test_a_declared_name_resolves_and_is_described(package: ModuleType, name: str) -> None:
    found = getattr(package, name)
    assert name in dir(package)
    if name == "__version__":
        assert isinstance(found, str)
        return
    assert found.__doc__ and not found.__doc__.startswith(f"{name}(")  # what a dataclass without one is given
    if inspect.isfunction(found):
        signature = inspect.signature(found)
        assert signature.return_annotation is not signature.empty
        for parameter in signature.parameters.values():
            taken = str(parameter.annotation)
            assert parameter.annotation is not parameter.empty, parameter.name
            assert not re.search(r"\bPath\b", taken), f"{parameter.name}: a path may be text, too"
            assert "PathLike" not in taken or "str | PathLike[str]" in taken, parameter.name


def test_the_packages_import_in_a_moment_and_load_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "import zoo, converters\n"
        "modules = len(set(sys.modules) - before)\n"
        "heavy = {'torch', 'tensorflow', 'onnx', 'onnxruntime', 'cv2', 'numpy', 'safetensors'} & set(sys.modules)\n"
        "print(modules, zoo.models()[0], zoo.model('alexnet').name)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    modules, *names = done.stdout.split()
    assert int(modules) < 30 and names == ["alexnet", "alexnet"]


def test_a_name_nobody_has_is_an_attribute_error_and_modules_are_still_found() -> None:
    for package in (zoo, converters):
        with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'nonsense'"):
            _ = package.nonsense  # pyright: ignore[reportAttributeAccessIssue]
    assert inspect.ismodule(zoo.layers) and zoo.layers.ModelSpec is zoo.ModelSpec


def test_the_version_is_the_distributions(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"zoo {zoo.__version__}\n"
    assert converters.__version__ == zoo.__version__


# The main job, with paths as text.


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> converters.Weights:
    monkeypatch.chdir(tmp_path)
    weights = small_weights()
    assert converters.save(weights, "a.safetensors") == [Path("a.safetensors")]
    return weights


def assert_same(a: converters.Weights, b: converters.Weights) -> None:
    assert a.spec == b.spec
    assert all(same_bits(tensor, b.tensors[name]) for name, tensor in a.tensors.items())


def test_files_by_their_names_as_text(desk: converters.Weights) -> None:
    assert_same(converters.load("a.safetensors"), desk)
    written = converters.convert_file("a.safetensors", "b.caffemodel")
    assert Path("b.caffemodel") in written and all(path.is_file() for path in written)
    assert_same(converters.load("b.caffemodel"), desk)
    assert converters.read_network("b.prototxt").spec.layers == desk.spec.layers
    assert converters.export_file("b.caffemodel", "c.onnx") == [Path("c.onnx")]
    assert converters.verify_files(["a.safetensors", "b.caffemodel", "c.onnx"]).passed
    assert converters.verify_file("c.onnx", frameworks=["onnx"]).passed
    assert converters.assert_parity("a.safetensors", "c.onnx").passed
    with pytest.raises(zoo.ZooError, match=r"c\.onnx"):
        converters.export_file("a.safetensors", "c.onnx", converters.ExportOptions(verify=False))


def test_a_new_head_on_the_way(desk: converters.Weights) -> None:
    converters.convert_file("a.safetensors", "five.npz", num_classes=5)
    assert converters.load("five.npz").spec == desk.spec.with_num_classes(5)


def test_a_network_in_every_framework() -> None:
    weights = small_weights()
    rng = np.random.default_rng(0)
    inputs = {each.name: rng.normal(0, 50, (2, *each.shape)).astype(np.float32) for each in weights.spec.inputs}
    right = zoo.forward(weights.spec, weights.tensors, inputs)
    assert next(iter(right.values())).dtype == np.float64
    for name in ("onnx", "pytorch"):
        found = zoo.forward(weights.spec, weights.tensors, inputs, name)
        assert found.keys() == right.keys()
        assert all(np.abs(found[layer] - y).max() <= 1e-4 * np.abs(y).max() for layer, y in right.items())


def test_live_networks(tmp_path: Path) -> None:
    weights = small_weights()
    module = zoo.build(weights.spec, "pytorch", weights.tensors)
    assert isinstance(module, torch.nn.Module) and module.training
    assert sum(parameter.numel() for parameter in module.parameters()) == sum(t.size for t in weights.tensors.values())
    with pytest.raises(WeightsError):
        zoo.build(weights.spec, weights={})
    with pytest.raises(UnsupportedError, match=r"caffe has no live networks, only files: zoo\.generate writes them"):
        zoo.build("alexnet", "caffe")  # pyright: ignore[reportCallIssue, reportArgumentType]
    with pytest.raises(UnknownNameError, match="did you mean pytorch"):
        zoo.build("alexnet", "pytroch")  # pyright: ignore[reportCallIssue, reportArgumentType]
    (source,) = zoo.generate(shrink("alexnet_owt"), "pytorch", str(tmp_path / "new" / "folder"))
    assert source.parent == tmp_path / "new" / "folder" and "nn.Module" in source.read_text()


@pytest.mark.slow
def test_slim_s_live_network_is_a_function() -> None:
    assert callable(zoo.build("alexnet_mini", "tf_slim"))
    with pytest.raises(UnsupportedError, match="in a session"):
        zoo.build("alexnet_mini", "tf_slim", {})  # pyright: ignore[reportCallIssue, reportArgumentType]


def test_frameworks_by_name() -> None:
    assert {"caffe", "onnx", "pytorch", "tf_slim"} <= set(zoo.framework_names())
