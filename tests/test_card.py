"""A model card: its metadata is what the Hub reads, its commands and code run, and what fails gets none."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from huggingface_hub import ModelCard

from converters.card import Card, card_text
from converters.cli import main
from converters.convert import load, save
from converters.formats.caffe import read_network
from converters.parity.provenance import sha256
from converters.verdicts import Report
from tests.small import small_weights
from tests.test_networks import spec_of
from zoo.wire.safetensors import write_safetensors

READING = ("--prototxt", "deploy.prototxt", "--channels", "BGR", "--mean", "104,117,123", "--labels", "words.txt")


@pytest.fixture
def desk(tmp_path: Path, mini_alexnet: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(mini_alexnet / "mini_alexnet.caffemodel", tmp_path / "mine.caffemodel")
    shutil.copy(mini_alexnet / "deploy.prototxt", tmp_path)
    (tmp_path / "words.txt").write_text("".join(f"n{i} a | b{i}\n" for i in range(10)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def of(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_a_card_of_a_caffemodel(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--licence", "mit", "--frameworks", "onnx", "--map-out", "names.yaml", "-o", "README.md"]
    assert main(["card", "mine.caffemodel", *READING, *arguments]) == 0
    assert Path("names.yaml").exists()
    assert capsys.readouterr().out == "README.md\n"
    text = Path("README.md").read_text()
    data: dict[str, Any] = ModelCard(text).data.to_dict()
    assert data["license"] == "mit" and data["pipeline_tag"] == "image-classification" and "caffe" in data["tags"]
    assert "| conv1 | Conv | data | 24 x 21 x 21 | kernel 7 x 7, stride 3 x 3, pad 0 x 0, groups 1 |" in text
    assert "10 classes, in the order of the outputs: n0 a \\| b0," in text
    assert "channel order BGR" in text and "mean 104 117 123" in text
    assert f"| `mine.caffemodel` | `{sha256(Path('mine.caffemodel'))}` |" in text
    assert "PASSED" in text and "| fc8 |" in text
    commands = [line for block in of(text, "sh") for line in block.splitlines()]
    assert commands[0].startswith("zoo convert mine.caffemodel --prototxt deploy.prototxt --channels BGR")
    for command in commands:
        assert main(shlex.split(command, comments=True)[1:]) == 0, command
    found = dict[str, Any]()
    for code in of(text, "python"):
        exec(compile(code, "README.md", "exec"), found)
    assert found["weights"].spec.classes[0] == "n0 a | b0"
    assert found["outputs"][0].shape == (1, 10) and found["session"] and not found["network"].empty()


def test_what_training_said_is_told(desk: Path) -> None:
    weights = load("mine.caffemodel", spec=load_spec())
    run = {"step": 20, "seed": 3, "framework": "pytorch", "from": {"file": "a|b.onnx", "sha256": "ab", "lineage": None}}
    text = card_text(
        Card(
            spec=weights.spec,
            file="mine one.safetensors",
            reading="",
            licence="",
            lineage={"sha256": "cd", "lineage": run},
            files={"mine one.safetensors": "ef"},
            report=Report(model="m", budget=1e-5, noise=(0, 1), subjects=()),
        )
    )
    assert "Trained: step 20, seed 3, framework pytorch." in text
    assert "It began with `a\\|b.onnx`, numbers `ab`." in text
    assert "zoo export 'mine one.safetensors' -o 'mine one'.onnx" in text
    front = yaml.safe_load(text.split("---")[1])
    assert "license" not in front and front["pipeline_tag"] == "image-classification"


def load_spec() -> Any:
    return read_network(Path("deploy.prototxt")).spec


def test_a_detector_is_called_one() -> None:
    spec = spec_of("ssd")
    report = Report(model="m", budget=1e-5, noise=(0, 1), subjects=())
    card = Card(
        spec=spec, file="f.safetensors", reading="", licence="", lineage={"sha256": ""}, files={}, report=report
    )
    assert yaml.safe_load(card_text(card).split("---")[1])["pipeline_tag"] == "object-detection"


def test_what_fails_gets_no_card(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A graph whose weights are other than those that its metadata's network has."""
    assert main(["export", "mine.caffemodel", "--prototxt", "deploy.prototxt", "-o", "a.onnx", "--no-verify"]) == 0
    spoil(Path("a.onnx"))
    capsys.readouterr()
    status = main(["card", "a.onnx", "--frameworks", "onnx", "-o", "README.md"])
    err = capsys.readouterr().err.splitlines()
    assert status == 1 and err[-1].startswith("zoo: mini_alexnet: FAILED") and "no card is written" in err[-1]
    assert not Path("README.md").exists()


def spoil(path: Path) -> None:
    """Drop a ReLU from the graph, and leave the description in the metadata."""
    model = onnx.load(path)
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    relu.op_type = "Identity"
    onnx.save(model, path)


def test_a_lineage_that_is_none_is_refused(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = small_weights("alexnet_owt")
    save(weights, "w.safetensors")
    for said in ("{", "[1]"):
        tensors = {name: np.asarray(array) for name, array in weights.tensors.items()}
        shapes = {name: array.shape for name, array in tensors.items()}
        about = metadata(Path("w.safetensors")) | {"lineage": said}
        write_safetensors(Path("v.safetensors"), shapes, lambda name, held=tensors: held[name], about)
        assert main(["card", "v.safetensors", "--frameworks", "onnx", "-o", "README.md"]) == 2
        assert "its metadata 'lineage' is no JSON" in capsys.readouterr().err
        assert not Path("README.md").exists()


def metadata(path: Path) -> dict[str, str]:
    data = path.read_bytes()
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]


def test_a_card_says_what_could_not_be_run(
    desk: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.frameworks.keras.live.find_spec", lambda name: None if name == "jax" else name)
    monkeypatch.setattr("zoo.frameworks.keras.live._running", {})
    command = ["card", "mine.caffemodel", "--prototxt", "deploy.prototxt", "--frameworks", "onnx,keras-jax"]
    assert main([*command, "-o", "R.md"]) == 2
    assert "R.md: mini_alexnet: NOT PROVED BY ALL" in caplog.text
    assert "alexnet-zoo[jax]" in (desk / "R.md").read_text()
