"""Parity in other people's tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from converters.convert import save
from converters.faults import plant
from converters.parity import probe_weights
from converters.testing import assert_parity
from converters.weights import Array, Weights
from tests.environments import build_wheel, environment
from tests.small import shrink
from zoo import reference
from zoo.errors import ZooError


@pytest.fixture
def weights() -> Weights:
    return probe_weights(shrink("alexnet_cifar10"))


def run(weights: Weights, data: Array) -> dict[str, Array]:
    return dict(reference.forward(weights.spec, weights.tensors, {"data": data}))


def test_files_and_weights(tmp_path: Path, weights: Weights) -> None:
    save(weights, tmp_path / "a.safetensors")
    save(weights, tmp_path / "b.onnx")
    report = assert_parity(tmp_path / "a.safetensors", str(tmp_path / "b.onnx"))
    assert report.passed and [fact.path for fact in report.files] == [
        str(tmp_path / n) for n in ("a.safetensors", "b.onnx")
    ]
    assert_parity(weights, tmp_path / "b.onnx")
    assert_parity(weights, weights)
    faulty = plant("kernel_flipped", weights, "conv3").weights()
    with pytest.raises(AssertionError, match="conv3: the kernel is flipped"):
        assert_parity(tmp_path / "b.onnx", faulty)


def test_a_failure_prints_the_report(weights: Weights) -> None:
    faulty = plant("bias_lost", weights, "conv2").weights()
    with pytest.raises(AssertionError) as failure:
        assert_parity(weights, faulty)
    told = str(failure.value)
    assert "FAILED" in told and "first in conv2" in told
    assert "conv2: the bias is missing" in told
    assert "budget 1e-05" in told


def test_the_budget_is_the_callers(weights: Weights) -> None:
    half = plant("weights_half_precision", weights, "conv2").weights()
    with pytest.raises(AssertionError, match="half precision"):
        assert_parity(weights, half)
    assert_parity(weights, half, budget=0.1)


def test_a_function_is_held_against_weights(weights: Weights) -> None:
    assert_parity(weights, lambda data: run(weights, data))
    own = np.random.default_rng(0).normal(0, 50, (3, 3, 32, 32)).astype(np.float32)
    report = assert_parity(weights, lambda data: run(weights, data)["fc8"], own)
    assert report.samples == ("sample 0", "sample 1", "sample 2")
    assert [v.name for v in report.subjects[0].layers if v.error is not None] == ["fc8"]
    report = assert_parity(weights, lambda data: run(weights, data)["prob"], {"data": own})
    assert [v.name for v in report.subjects[0].outputs] == ["prob"]
    with pytest.raises(AssertionError, match="fc8"):
        assert_parity(weights, lambda data: run(weights, data)["fc8"] + 1)
    with pytest.raises(AssertionError, match="no layer fc9"):
        assert_parity(weights, lambda data: {"fc9": run(weights, data)["fc8"]})


def test_a_pytorch_module_is_run_for_inference_and_left_as_it_was(weights: Weights) -> None:
    head = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 4), torch.nn.Dropout(0.9))
    head.train()
    matrix, bias = (p.detach().numpy() for p in head.parameters())
    data = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)

    def right(x: Array) -> Array:
        return x.reshape(len(x), -1).astype(np.float64) @ matrix.T.astype(np.float64) + bias

    assert_parity(right, head, data)
    assert head.training
    with pytest.raises(AssertionError, match="output"):
        assert_parity(lambda x: right(x) * 1.01, head, data)


def test_mappings_are_compared_by_name() -> None:
    right = {"a": np.arange(6.0).reshape(2, 3), "b": np.ones((2, 2))}
    assert_parity(right, {"a": torch.from_numpy(right["a"]), "b": right["b"], "c": right["b"]})
    with pytest.raises(AssertionError, match="no such activation"):
        assert_parity(right, {"a": right["a"]})
    with pytest.raises(AssertionError, match="NaN"):
        assert_parity(right, right | {"b": np.full((2, 2), np.nan)})
    with pytest.raises(AssertionError, match="shape"):
        assert_parity(right, right | {"b": np.ones((2, 3))})


@pytest.mark.parametrize(
    ("a", "b", "inputs", "told"),
    [
        ({}, {}, None, "no activation"),
        ({"a": np.ones(2)}, 3, None, "cannot compare int"),
        (lambda x: x, lambda x: x, None, "needs inputs"),
        ({"a": np.ones(2)}, "file.onnx", None, "first argument"),
    ],
)
def test_what_cannot_be_compared_is_a_type_error(a: Any, b: Any, inputs: Any, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        assert_parity(a, b, inputs)


def test_inputs_that_do_not_fit_are_refused(weights: Weights) -> None:
    with pytest.raises(ZooError, match=r"data is \(1, 3, 8, 8\), expected \(N, 3, 32, 32\)"):
        assert_parity(weights, weights, np.zeros((1, 3, 8, 8), np.float32))
    with pytest.raises(ZooError, match="image is no input"):
        assert_parity(weights, weights, {"image": np.zeros((1, 3, 32, 32), np.float32)})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, installed beside pytest and what it needs."""
    folder = tmp_path_factory.mktemp("site")
    return environment(folder, build_wheel(folder), "dev")


def their_tests(site: Path, project: Path, source: str, *packages: str) -> tuple[int, str]:
    """``python -m pytest`` in somebody else's project, which has packages of its own; its status and what it said."""
    for name in packages:
        (project / name).mkdir()
        (project / name / "__init__.py").write_text("theirs = True\n")
    (project / "test_theirs.py").write_text(source)
    code = f"import sys; sys.path[:0] = ['', {str(site)!r}]; import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    command = [sys.executable, "-I", "-S", "-c", code, "-q", "-p", "no:cacheprovider", "--import-mode=importlib"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert not done.stderr
    return done.returncode, done.stdout


@pytest.mark.slow
def test_it_works_as_a_fixture_in_somebody_elses_project(tmp_path: Path, weights: Weights, site: Path) -> None:
    save(weights, tmp_path / "a.safetensors")
    save(plant("kernel_transposed", weights, "conv1").weights(), tmp_path / "b.safetensors")
    source = (
        "def test_same(assert_parity):\n    assert_parity('a.safetensors', 'a.safetensors')\n\n"
        "def test_other(assert_parity):\n    assert_parity('a.safetensors', 'b.safetensors')\n"
    )
    status, said = their_tests(site, tmp_path, source)
    assert status == 1 and "1 failed, 1 passed" in said
    assert "conv1: the kernel's height and width are swapped" in said


@pytest.mark.slow
@pytest.mark.parametrize("packages", [("converters",), ("zoo",), ("converters", "zoo")])
def test_a_project_with_packages_of_these_names_runs_its_own_tests(
    packages: tuple[str, ...], tmp_path: Path, site: Path
) -> None:
    source = (
        "import sys, alexnet_zoo_pytest\n\ndef test_theirs():\n"
        f"    assert alexnet_zoo_pytest.__file__.startswith({str(site)!r})\n"
        "    assert not {'numpy', 'torch', 'tensorflow', 'onnx'} & {*sys.modules}\n"
        + "".join(f"    import {name}\n    assert {name}.theirs\n" for name in packages)
        + "\ndef test_with_the_fixture(assert_parity):\n    pass\n"
    )
    status, said = their_tests(site, tmp_path, source, *packages)
    assert status == 1 and "1 passed, 1 error" in said, said
    hidden = tmp_path / packages[-1] / "__init__.py"
    told = f"assert_parity: the package {packages[-1]!r} of alexnet-zoo is hidden by {hidden};"
    assert [line for line in said.splitlines() if line.startswith(told)], said
