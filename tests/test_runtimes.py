"""What networks are deployed on: each runtime agrees with the reference, and tells a wrong graph."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import onnx
import pytest

from converters.cli import main
from converters.convert import save
from converters.export import ExportOptions, export
from converters.faults import plant
from converters.parity import file_subjects, verify_file, verify_files, verify_model
from converters.parity.structure import structure_of_graph
from converters.testing import assert_parity
from converters.weights import Weights
from tests.small import small_weights
from zoo import registry, runtimes
from zoo.errors import UnknownNameError
from zoo.frameworks import onnx as onnx_network
from zoo.layers import Input, ModelSpec, Normalize
from zoo.runtimes import openvino

# LiteRT's conversions take seconds; it has tests of its own.
OF_ONNX = [name for name in registry.runtimes() if name != "litert"]

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def weights() -> Weights:
    return small_weights("alexnet_cifar10")


def stranger(weights: Weights, path: Path) -> Path:
    """The network's graph with names that mean nothing."""
    save(weights, path)
    model = onnx.load(path)
    del model.metadata_props[:]
    names = {name: f"t{i}" for i, name in enumerate(weights.tensors)}
    names |= {name: f"x{i}" for i, node in enumerate(model.graph.node) for name in node.output}
    for node in model.graph.node:
        node.name = ""
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    for item in (*model.graph.initializer, *model.graph.output):
        item.name = names[item.name]
    onnx.save(model, path)
    return path


def test_every_runtime_is_what_its_file_says() -> None:
    assert {"litert", "onnxruntime", "opencv", "openvino"} <= {*registry.runtimes()}
    for name in registry.runtimes():
        facts = registry.facts("zoo.runtimes", name)
        assert facts["DISTRIBUTION"] and all(package in registry.extras() for package in facts["PACKAGES"])
        assert isinstance(registry.runtime(name), registry.RunsOnnx | registry.RunsTflite)


@pytest.mark.parametrize("fast_lrn", [False, True], ids=["plain", "fast LRN"])
def test_every_layer_is_judged_along_the_network_and_by_itself(fast_lrn: bool, tmp_path: Path) -> None:
    weights = small_weights("alexnet")
    export(weights, str(tmp_path / "a.onnx"), ExportOptions(fast_lrn=fast_lrn, verify=False))
    report = verify_file(tmp_path / "a.onnx", runtimes=OF_ONNX)
    assert report.passed
    assert [subject.name for subject in report.subjects] == [f"{tmp_path / 'a.onnx'} in {name}" for name in OF_ONNX]
    for subject in report.subjects:
        assert not subject.notes
        assert all(layer.error is not None and layer.local is not None for layer in subject.layers)


def test_weights_in_a_file_beside_reach_every_runtime(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.frameworks.onnx.write", partial(onnx_network.write, most=1000))
    export(weights, str(tmp_path / "a.onnx"), ExportOptions())
    assert {path.name for path in tmp_path.iterdir()} == {"a.onnx", "a.onnx.data"}
    report = verify_file(tmp_path / "a.onnx", runtimes=OF_ONNX)
    assert report.passed and [Path(fact.path).name for fact in report.files] == ["a.onnx", "a.onnx.data"]


def test_a_stranger_s_graph_is_run_as_it_is_and_read_once(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = list[Path]()
    monkeypatch.setattr(
        file_subjects, "structure_of_graph", lambda path, right: reads.append(path) or structure_of_graph(path, right)
    )
    save(weights, tmp_path / "a.safetensors")
    graph = stranger(weights, tmp_path / "b.onnx")
    report = verify_files([tmp_path / "a.safetensors", graph], runtimes=OF_ONNX)
    assert report.passed and len(report.subjects) == 2 + len(OF_ONNX)
    assert all("other names" in subject.notes[0] for subject in report.subjects[1:])
    assert all(subject.structure and subject.structure.verdict == "identical" for subject in report.subjects[1:])
    # The file was read; the runtimes are what is judged.
    assert all(layer.local is not None for subject in report.subjects[2:] for layer in subject.layers)
    assert reads == [graph]


@pytest.mark.parametrize("name", OF_ONNX)
def test_a_wrong_graph_is_told_in_every_runtime(name: str, weights: Weights, tmp_path: Path) -> None:
    save(plant("kernel_flipped", weights, "conv3").weights(), tmp_path / "b.onnx")
    save(weights, tmp_path / "a.safetensors")
    report = verify_files([tmp_path / "a.safetensors", tmp_path / "b.onnx"], runtimes=[name])
    told = report.subjects[-1].diagnosis
    assert report.exit_status == 1 and told and (told.fault, told.layer) == ("kernel_flipped", "conv3")


def test_lower_precision_than_float32_is_no_pass(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    if "BF16" not in openvino.ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bfloat16, so that OpenVINO cannot take it")
    monkeypatch.setattr(openvino, "_SETTINGS", {"INFERENCE_PRECISION_HINT": "bf16"})
    report = verify_model(weights.spec, weights, runtimes=["openvino"])
    assert report.exit_status == 1


@pytest.mark.slow
def test_litert_runs_what_the_converter_writes(weights: Weights, tmp_path: Path) -> None:
    save(weights, tmp_path / "a.onnx")
    report = verify_file(tmp_path / "a.onnx", runtimes=["litert"])
    (subject,) = report.subjects
    assert report.passed and all(layer.error is not None and layer.local is not None for layer in subject.layers)
    assert subject.notes == ("what was read from it was written as .tflite",)
    save(weights, tmp_path / "a.safetensors")
    save(plant("bias_lost", weights, "conv2").weights(), tmp_path / "b.onnx")
    report = verify_files([tmp_path / "a.safetensors", tmp_path / "b.onnx"], runtimes=["litert"])
    assert [subject.first_failure for subject in report.subjects] == [None, "conv2", "conv2"]


def test_a_file_in_the_folder_is_a_runtime(weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "novel.py").write_text(
        "from zoo.frameworks.onnx import opened as open_onnx\nDISTRIBUTION = 'x'\nPACKAGES = ()\n"
    )
    (tmp_path / "absent.py").write_text("import not_there\nDISTRIBUTION = 'x'\nPACKAGES = ('not_there',)\n")
    monkeypatch.setattr(runtimes, "__path__", [*runtimes.__path__, str(tmp_path)])
    report = verify_model(weights.spec, weights, runtimes=["novel", "absent"])
    assert [subject.status for subject in report.subjects] == ["passed", "unavailable"]
    assert report.subjects[1].reason == "not_there is not installed; run: pip install 'alexnet-zoo[absent]'"
    assert report.exit_status == 2


def test_in_the_tests_of_others(weights: Weights, tmp_path: Path) -> None:
    save(weights, tmp_path / "a.safetensors")
    save(plant("bias_lost", weights, "conv2").weights(), tmp_path / "b.onnx")
    report = assert_parity(tmp_path / "a.safetensors", weights, runtimes=["openvino"])
    assert [subject.name for subject in report.subjects][-1] == "openvino"
    with pytest.raises(AssertionError, match=r"b\.onnx in opencv"):
        assert_parity(tmp_path / "a.safetensors", tmp_path / "b.onnx", runtimes=["opencv"])
    with pytest.raises(UnknownNameError, match="did you mean openvino"):
        assert_parity(weights, weights, runtimes=["open-vino"])
    with pytest.raises(TypeError, match="leave them out"):
        assert_parity({"a": 1}, {"a": 1}, runtimes=["openvino"])


def test_the_command(weights: Weights, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(weights, tmp_path / "a.safetensors")
    assert main(["verify", str(tmp_path / "a.safetensors"), "--runtimes", "openvino,opencv", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [subject["name"] for subject in told["subjects"]] == ["openvino", "opencv"]
    assert told["versions"]["openvino"]
    assert main(["verify", str(tmp_path / "a.safetensors"), "--runtimes", "opnvino"]) == 2
    assert "zoo: unknown runtime 'opnvino'; did you mean openvino" in capsys.readouterr().err


def test_what_is_next_to_nothing_is_normalised_in_litert_as_elsewhere() -> None:
    """Its own operator has an epsilon of its own, which counts where all channels are small."""
    layers = (Normalize(name="norm", across_spatial=False),)
    spec = ModelSpec(name="norm", title="", inputs=(Input(shape=(4, 3, 3)),), layers=layers)
    report = verify_model(spec, runtimes=["litert"])
    assert report.passed, report.to_dict()


def test_onnx_runtime_tells_nobody_what_is_run(tmp_path: Path) -> None:
    """Since 1.29 it would, and would keep a number of the machine's at home; it makes up its mind as it is loaded."""
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    code = "from zoo.frameworks.onnx import runtime; import sys; assert 'onnxruntime' in sys.modules"
    subprocess.run([sys.executable, "-c", code], env={**kept, "HOME": str(tmp_path)}, check=True)
    assert not list(tmp_path.iterdir())


def test_onnx_runtime_is_loaded_nowhere_without_that() -> None:
    for path in (path for folder in ("zoo", "converters") for path in (ROOT / folder).rglob("*.py")):
        nodes = [*ast.walk(ast.parse(path.read_text("utf-8")))]
        quiet = [node for node in nodes if isinstance(node, ast.With) and "UNTOLD" in ast.unparse(node.items[-1])]
        told = {inner for node in quiet for inner in ast.walk(node)}
        loading = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not [node for node in loading if "onnxruntime" in ast.unparse(node).split()[1] and node not in told], (
            path
        )
