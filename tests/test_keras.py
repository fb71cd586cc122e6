"""Keras: what is generated, run on every backend and either layout, and what it cannot have."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from converters.parity import verify_model
from tests.kinds import KINDS, TWINS, assert_same, merged, net, probe
from tests.small import shrink
from zoo import reference, registry
from zoo.errors import MissingDependencyError, UnsupportedError, ZooError
from zoo.frameworks import keras
from zoo.frameworks.keras import live
from zoo.frameworks.keras.naming import layer_names
from zoo.layers import Dense, Flatten, Input, ModelSpec, ReLU, Tie
from zoo.training.job import TrainOptions
from zoo.training.launch import train

BACKENDS = [backend for framework, backend in registry.ways().values() if framework == "keras"]
CASES = KINDS | TWINS


def assert_runs(cases: Mapping[str, ModelSpec], backend: str | None = None, data_format: str = "channels_last") -> None:
    spec = merged(cases)
    weights, inputs = probe(spec)
    found = keras.forward(spec, weights, inputs, backend, data_format)
    assert_same(found, reference.forward(spec, weights, inputs))


@pytest.mark.slow
def test_some_kinds_in_either_layout() -> None:
    some = ("conv same", "conv wide", "dense image", "max pad", "ave ceil", "lrn towers", "softmax axis 2", "flatten")
    some += ("concat rows", "detections", "twins conv groups", "twins of a kernel", "twins prelu")
    for data_format in ("channels_last", "channels_first"):
        assert_runs({name: CASES[name] for name in some}, data_format=data_format)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_kind_and_member_on_a_backend(backend: str) -> None:
    assert_runs(CASES, backend)
    for name in registry.models():
        report = verify_model(shrink(name), frameworks=[f"keras-{backend}"])
        (subject,) = report.subjects
        assert (subject.status, subject.reason) == ("passed", None), name
        assert (subject.max_error or 1) <= 1e-5
        assert all(layer.local is not None for layer in subject.layers), name
    if backend == BACKENDS[0]:
        assert_runs(CASES, backend, "channels_first")


@pytest.mark.parametrize("name", registry.models())
def test_every_member_is_written_as_source_that_reads_well(name: str, tmp_path: Path) -> None:
    (path,) = keras.generate(registry.model(name), tmp_path)
    text = path.read_text()
    assert max(map(len, text.splitlines())) <= 120
    assert "import keras\n" in text and "zoo." not in text.replace("alexnet_zoo.", "")
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "--isolated", "-q", path], check=False)
    assert done.returncode == 0
    assert keras.source_text(registry.model(name)) == text


def test_names_that_keras_forbids_and_inputs_by_the_score() -> None:
    layers = (ReLU(name="a/b", inputs=("x y",)), ReLU(name="a_b", inputs=("lambda",)), ReLU(name="_", inputs=("a_b",)))
    inputs = (Input(name="x y", shape=(2, 3, 3)), Input(name="lambda", shape=(2, 3, 3)))
    spec = ModelSpec(name="1st", title='say "so" \\', inputs=inputs, layers=layers)
    weights, batch = probe(spec)
    assert_same(keras.forward(spec, weights, batch), reference.forward(spec, weights, batch))
    assert layer_names(net(ReLU(name="conv.0"), ReLU(name="conv_0")))["conv.0"] == "conv_0"  # PyTorch takes no dots


def test_what_keras_cannot_have_is_refused_by_layer(tmp_path: Path) -> None:
    of_image, rows = Dense(name="a", out_features=3), Flatten(name="rows", inputs=("in0",))
    ties = (Tie(name="t", parameters=("a.weight", "b.weight")),)
    spec = replace(net(of_image, rows, Dense(name="b", out_features=3, inputs=("rows",))), ties=ties)
    with pytest.raises(UnsupportedError, match=r"b\.weight and a\.weight are tied, but lie differently in Keras"):
        keras.generate(spec, tmp_path)
    assert not [*tmp_path.iterdir()]


def test_a_backend_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_running", {})
    monkeypatch.setattr("zoo.frameworks.keras.live.find_spec", lambda name: None if name == "jax" else name)
    (subject,) = verify_model(shrink("alexnet_mini"), frameworks=["keras-jax"]).subjects
    assert subject.status == "unavailable" and "alexnet-zoo[jax]" in (subject.reason or "")
    monkeypatch.setattr("zoo.frameworks.keras.live.find_spec", lambda name: None)
    spec = net(Flatten(name="op"))
    with pytest.raises(
        MissingDependencyError, match=r"keras is not installed; run: pip install 'alexnet-zoo\[keras\]'"
    ):
        keras.forward(spec, *probe(spec))


ECHO = """import pickle, sys
while True:
    pickle.dump((True, pickle.load(sys.stdin.buffer)), sys.stdout.buffer)
    sys.stdout.flush()
"""


def test_an_answer_that_nobody_waited_for_is_not_the_next_job_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: Any) -> None:
        raise KeyboardInterrupt

    (tmp_path / "echo.py").write_text(ECHO)
    monkeypatch.setattr(live, "_PROCESS", tmp_path / "echo.py")
    monkeypatch.setattr(live, "_running", {})
    backend = str(BACKENDS[0])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(live.pickle, "load", interrupted)
        live._process(backend).ask("run", {"number": 1}, "net")
    assert live._process(backend).ask("run", {"number": 2}, "net") == ("run", {"number": 2})
    live.close()


def test_training_by_keras_is_refused_with_the_reason(tmp_path: Path) -> None:
    for framework, told in (("keras", "keras does not train here: .* one rate for all"), ("kers", "unknown framework")):
        how: dict[str, Any] = {"framework": framework}
        with pytest.raises(ZooError, match=told):
            train(TrainOptions(model=shrink("alexnet_mini"), data="digits", out=tmp_path / "run", **how))
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_a_process_that_ends_is_told_in_one_line_and_the_next_is_fresh() -> None:
    spec = CASES["relu"]
    weights, inputs = probe(spec)
    keras.close()
    keras.forward(spec, weights, inputs)
    (running, *_) = live._running.values()
    running._process.kill()
    with pytest.raises(UnsupportedError, match="its process ended with status -9"):
        keras.forward(spec, weights, inputs)
    assert_same(keras.forward(spec, weights, inputs), reference.forward(spec, weights, inputs))
