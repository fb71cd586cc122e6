"""The workflows, the one to copy, and the container file: sound YAML, and nothing in them that does not exist."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from converters.cli import build_parser
from tests.environments import ROOT

PAGE = ROOT / "docs" / "workflow.md"
OWN = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MAKE = (ROOT / "Makefile").read_text()


def workflows() -> dict[str, Any]:
    """Every workflow by its file's name."""
    (copied,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return {path.name: yaml.safe_load(path.read_text()) for path in OWN} | {PAGE.name: yaml.safe_load(copied)}


def steps(name: str) -> list[dict[str, Any]]:
    return [step for job in workflows()[name]["jobs"].values() for step in job["steps"]]


def commands(name: str) -> list[list[str]]:
    """What its steps run, a list of words each, without where the output goes."""
    return [shlex.split(step["run"].partition(" >> ")[0]) for step in steps(name) if "run" in step]


@pytest.mark.parametrize("name", workflows())
def test_a_workflow_is_one(name: str) -> None:
    flow = workflows()[name]
    assert flow["permissions"] == {"contents": "read"} and flow[True]  # YAML reads the key "on" as a truth
    for job in flow["jobs"].values():
        assert job["timeout-minutes"] and job["runs-on"]
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            assert "uses" not in step or re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"])
    assert steps(name)[0]["uses"].startswith("actions/checkout@")


@pytest.mark.parametrize("name", workflows())
def test_what_a_workflow_runs_exists(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKE, re.MULTILINE))
    extras = set(PROJECT["optional-dependencies"])
    for words in commands(name):
        match words:
            case ["make", target, *settings]:
                assert target in targets
                assert all(f"{setting.partition('=')[0]} " in MAKE for setting in settings)
            case ["zoo", *arguments]:
                build_parser().parse_args(arguments)
            case ["python", "-m", "pip", *_] | ["pip", *_]:
                named = re.findall(r"\[(.*?)\]", " ".join(words))
                assert {extra for group in named for extra in group.split(",")} <= extras
            case ["python", "-m", "pytest", *arguments]:
                assert arguments == ["-n", "2", "-m", "not slow"] or all((ROOT / path).is_file() for path in arguments)
            case _:
                raise AssertionError(f"{name}: {words} is not checked by anything")


def test_the_projects_own_run_on_every_python_and_three_systems() -> None:
    jobs = workflows()["checks.yml"]["jobs"]
    said = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r"Python :: 3\.", line)]
    runs = [jobs[name]["strategy"]["matrix"] for name in ("tests", "tests-elsewhere")]
    assert all(matrix["python"] == said for matrix in runs)
    systems = {system.partition("-")[0] for matrix in runs for system in matrix["os"]}
    assert systems == {"ubuntu", "macos", "windows"}


def test_the_oldest_versions_that_are_run_are_the_lower_bounds() -> None:
    asked = [*PROJECT["dependencies"], *itertools.chain(*PROJECT["optional-dependencies"].values())]
    bounds = {match[1]: match[2] for text in asked if (match := re.match(r"([\w-]+)>=([\d.]+)", text))}
    for line in (ROOT / "tests" / "oldest.txt").read_text().splitlines():
        name, _, pinned = line.partition("==")
        assert pinned.startswith(bounds[name]), line


@pytest.mark.slow  # make is not everywhere
def test_tools_that_are_missing_alone_are_installed() -> None:
    """Ubuntu has no package of Chromium's name, and asking for it as well would leave the shells out."""
    told = subprocess.run(
        ["make", "-nB", "setup", "TOOLS=make no-such-tool"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "apt-get install -y -qq no-such-tool >" in told.stdout


def test_git_changes_no_ends_of_lines() -> None:
    assert "* -text" in (ROOT / ".gitattributes").read_text().splitlines()


def test_a_wheel_has_its_provenance() -> None:
    (job,) = workflows()["release.yml"]["jobs"].values()
    assert job["permissions"] == {"contents": "read", "id-token": "write", "attestations": "write"}
    (attest,) = (step for step in job["steps"] if "attest-build-provenance" in step.get("uses", ""))
    assert attest["with"]["subject-path"] == "dist/*.whl"


def test_the_container_file_names_targets_that_there_are() -> None:
    text = (ROOT / "Containerfile").read_text()
    assert re.findall(r"make (\w+) TOOLS=", text.replace('", "', " ")) == ["setup", "demo"]
    assert "setup:" in MAKE and "demo:" in MAKE and "TOOLS :=" in MAKE
    assert ".venv" in (ROOT / ".containerignore").read_text().split()
    assert Path(re.findall(r"WORKDIR (\S+)", text)[0]) == Path("/alexnet-zoo")
