"""Every ``--json`` is as its published schema says, without a field that is not in it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from converters.cli import main
from converters.report import json_text
from converters.verdicts import (
    Agreement,
    Diagnosis,
    FileFact,
    LayerVerdict,
    OutputVerdict,
    Report,
    Structure,
    SubjectVerdict,
)
from tests.environments import ROOT
from tests.json_schema import problems

SCHEMAS = {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "converters" / "schemas").glob("*.json"))}
LIKE = ("--images-like", "alexnet_mini")


@pytest.fixture
def desk(tmp_path: Path, mini_alexnet: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(mini_alexnet / "mini_alexnet.caffemodel", tmp_path / "mine.caffemodel")
    shutil.copy(mini_alexnet / "deploy.prototxt", tmp_path)
    pixels = np.random.default_rng(0).integers(0, 255, (90, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "cat.png")
    monkeypatch.chdir(tmp_path)
    assert main(["convert", "mine.caffemodel", "--prototxt", "deploy.prototxt", *LIKE, "-o", "mine.npz"]) == 0
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        "list models",
        "list frameworks",
        "list weights",
        "show alexnet",
        "show deploy.prototxt",
        "info mine.npz",
        "info mine.caffemodel",
        "run mine.npz cat.png --framework onnx",
        pytest.param("eval mine.npz --data digits --per-class", marks=pytest.mark.slow),
        "verify mine.npz mine.npz",
    ],
)
def test_what_a_command_prints(command: str, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main([*command.split(), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert not list(problems(told, SCHEMAS[command.split()[0]]))
    assert told["schema"] == 1 and len(told) > 1


def report(**changed: Any) -> Report:
    """A report in which everything that may be left out is there."""
    wrong = Diagnosis(fault="lrn_beta", layer="norm1", message="m", remedy="r", error=0.1, rivals=("unknown",))
    subject = SubjectVerdict(
        name="onnx",
        status="failed",
        outputs=(OutputVerdict(name="prob", declared=None, error=None, peak=1.0, ok=False, reason="r"),),
        layers=(LayerVerdict(name="norm1", error=None, peak=1.0, ok=False, gated=False, reason="r", local=1.0),),
        diagnosis=wrong,
        further=(wrong,),
        top1=0.5,
        agreement=Agreement(images=3, top1=1.0, top5=1.0),
        notes=("n",),
        structure=Structure(verdict="differs", differences=("d",), reason="r"),
    )
    absent = SubjectVerdict(name="caffe", status="unavailable", reason="not installed")
    whole = Report(model="m", budget=1e-5, noise=(1e-7, 1e-6), subjects=(subject, absent))
    return replace(whole, files=(FileFact(path="a", sha256="0"),), versions={"numpy": "2"}, **changed)


def test_every_field_of_a_report_is_in_the_schema() -> None:
    told = json.loads(json_text(report(unproved=("u",), limits=("l",))))
    assert not list(problems(told, SCHEMAS["verify"]))


def test_another_field_a_missing_one_and_a_wrong_type_are_noticed() -> None:
    told = json.loads(json_text(report()))
    told["subjects"][0]["layers"][0] |= {"new": 1, "peak": "high"}
    del told["seed"]
    told["schema"], told["passed"] = 2, 1
    told["subjects"][1]["status"] = "lost"
    assert sorted(problems(told, SCHEMAS["verify"])) == [
        "$.passed: 1 is no boolean",
        "$.schema: 2 is not 1",
        "$.subjects[0].layers[0].peak: 'high' is no number",
        "$.subjects[0].layers[0]: new is not in the schema",
        "$.subjects[1].status: 'lost' is none of ['passed', 'failed', 'unavailable']",
        "$: seed is missing",
    ]


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_field_says_what_it_means(name: str) -> None:
    def walk(schema: dict[str, Any], where: str) -> None:
        for field, inner in schema.get("properties", {}).items():
            assert inner.get("description"), f"{where}.{field}"
            walk(inner.get("items", inner), f"{where}.{field}")

    walk(SCHEMAS[name], name)
    assert SCHEMAS[name]["$schema"].endswith("2020-12/schema") and SCHEMAS[name]["title"].startswith(f"zoo {name}")
