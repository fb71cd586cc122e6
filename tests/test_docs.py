"""Every command and every Python block of the pages is run, in a folder with small files of the names they use."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants
from PIL import Image

import converters
import zoo
from converters.cli import main
from converters.convert import save
from tests.hub_server import Hub
from tests.small import shrink, small_weights
from tests.test_networks import spec_of, weights_of
from zoo import registry
from zoo.svg import svg

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

# Commands that set things up, which the tests of `make` and of the wheel do, or which only a shell can run.
NOT_RUN = re.compile(r"make |pip install |python -m benchmarks|eval \"\$\(zoo --print-completion")

# What would take minutes: the same command with a smaller amount of the same work.
SHORTER = {"--steps 20": "--steps 2"}

# The files of the user's folder that belong to a family member.
FILES = {
    "owt.pth": "alexnet_owt",
    "model.ckpt": "alexnet_v2",
    "bvlc.caffemodel": "bvlc_alexnet",
    "weights.safetensors": "alexnet",
    "export.onnx": "alexnet",
}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    text = "\n".join(blocks(page, "sh")).replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


@pytest.fixture
def desk(tmp_path: Path, mini_alexnet: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder; the big members of the family are shrunk, but for their names."""
    shutil.copy(mini_alexnet / "mini_alexnet.caffemodel", tmp_path / "mine.caffemodel")
    shutil.copy(mini_alexnet / "deploy.prototxt", tmp_path)
    for name, model in FILES.items():
        save(small_weights(model), tmp_path / name)
    save(weights_of(spec_of("ssd")), tmp_path / "face.caffemodel")
    pixels = np.random.default_rng(0).integers(0, 255, (300, 280, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "cat.jpg")
    (tmp_path / "synset_words.txt").write_text("".join(f"n{i} class {i}\n" for i in range(10)))
    for part, name in itertools.product(("train", "val"), ("cat", "dog")):
        (tmp_path / "photos" / part / name).mkdir(parents=True)
        for i in range(2):  # eight in all, as many as int8 asks for
            shutil.copy(tmp_path / "cat.jpg", tmp_path / "photos" / part / name / f"{i}.jpg")
    (tmp_path / "REPOSITORY").symlink_to(ROOT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.chdir(tmp_path)
    original: Callable[[str], Any] = registry.model
    small = {name: shrink(name) for name in registry.models() if name != "alexnet_mini"}
    monkeypatch.setattr(registry, "model", lambda name: small.get(name) or original(name))
    return tmp_path


@pytest.fixture
def someone(desk: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The Hub's repository that the pages speak of."""
    server = Hub({"weights/model.safetensors": (desk / "weights.safetensors").read_bytes()})
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    yield
    server.stop()


@pytest.mark.slow
@pytest.mark.usefixtures("someone")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page(page: Path, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in commands(page):
        if NOT_RUN.match(command):
            continue
        for long, short in SHORTER.items():
            command = command.replace(long, short)
        program, *arguments = shlex.split(command, comments=True)
        assert program == "zoo", f"{page.name}: {command}"
        status = main(arguments)
        said = capsys.readouterr()
        assert status == 0, f"{page.name}: {command}\n{said.err}\n{said.out}"
        assert said.out, command


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_every_python_block_of_a_page(page: Path, desk: Path) -> None:
    for code in blocks(page, "python"):
        names = dict[str, Any]()
        exec(compile(code, page.name, "exec"), names)
        for name, function in list(names.items()):  # a warning adds a name of its own
            if name.startswith("test_"):
                function()


def writer(name: str) -> Any:
    """The program that writes a page."""
    spec = spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_api_page_is_what_the_sources_say() -> None:
    api = writer("api")
    assert api.PAGE.read_text() == api.page(), "renew it: python docs/api.py"
    for package in (zoo, converters):
        assert {*api.declared(package.__name__), "__version__"} == {*package.__all__}


@pytest.mark.slow
def test_the_page_of_kinds_is_what_the_frameworks_take() -> None:
    kinds = writer("kinds")
    assert kinds.PAGE.read_text() == kinds.page(), "renew it: python docs/kinds.py"


@pytest.mark.parametrize("name", ["cli", "fields"])
def test_a_page_of_reference_is_what_its_program_writes(name: str) -> None:
    module = writer(name)
    assert module.PAGE.read_text() == module.page(), f"renew it: make pages, or python docs/{name}.py"


def test_the_pictures_are_what_the_command_draws() -> None:
    drawn = {path.stem for path in (ROOT / "docs").glob("*.svg")}
    assert drawn == set(re.findall(r"for model in (.*?);", (ROOT / "Makefile").read_text())[0].split())
    for name in drawn:
        assert (ROOT / "docs" / f"{name}.svg").read_text() == svg(registry.model(name)), "renew it: make pages"


def test_the_page_of_extras_has_all_of_them() -> None:
    text = (ROOT / "docs" / "install.md").read_text()
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert sorted(re.findall(r"`(.*?)`", " ".join(rows))) == sorted(project["optional-dependencies"])
    assert not [name for name in project["optional-dependencies"] if "_" in name], "pip before 23.3 would not find it"


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    named = re.findall(r"^ +- .*?: (\S+\.md)$", text[text.index("\nnav:") :], re.MULTILINE)
    assert sorted(named) == [page.name for page in PAGES[1:]]


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path / "site")]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=False
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert (tmp_path / "site" / "schemas" / "verify.json").is_file()
    assert not list((tmp_path / "site").glob("*.py"))


def test_the_notebook_runs(desk: Path) -> None:
    book = json.loads((ROOT / "docs" / "notebook.ipynb").read_text())
    names = dict[str, Any]()
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            exec(compile("".join(cell["source"]), "notebook.ipynb", "exec"), names)
    assert names["report"].passed and names["activations"]["conv5"].shape[0] == 1


def test_every_page_is_linked_and_every_link_leads_somewhere() -> None:
    linked = set[Path]()
    for page in (*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
            linked.add((page.parent / target).resolve())
    assert set(PAGES[1:]) <= linked | {ROOT / "docs" / "index.md"}


def test_the_readme_is_short_and_holds_no_tables_of_numbers() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    assert "<!-- table" not in text


def test_commands_are_all_in_blocks_that_are_run() -> None:
    """A command that stands in another kind of block would not be noticed when it breaks."""
    for page in PAGES:
        for text in blocks(page, "text"):
            assert not re.search(r"^(\$ )?zoo ", text, re.MULTILINE), page.name
