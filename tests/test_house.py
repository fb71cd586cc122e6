"""What CONTRIBUTING promises, tried: a scratch copy of the tree is given something new, and nothing else is edited."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.environments import ROOT
from zoo import framework_names

pytestmark = pytest.mark.slow

_COPIED = ("zoo", "converters", "tests", "alexnet_zoo_pytest.py", "weights_manifest.yaml", "pyproject.toml")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scratch copy of the tree; each test that adds to it adds a name of its own."""
    folder = tmp_path_factory.mktemp("tree")
    ignore = shutil.ignore_patterns("__pycache__", "vectors")
    for name in _COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignore)
        else:
            shutil.copy(ROOT / name, folder)
    (folder / "tests" / "vectors").symlink_to(ROOT / "tests" / "vectors")
    return folder


def python(tree: Path, *arguments: str, status: int = 0) -> str:
    """Run ``python -m`` on the copy; returns stdout."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, f"{arguments}: {done.stdout}\n{done.stderr}"
    return done.stdout


def zoo(tree: Path, command: str) -> str:
    """A command of the copy."""
    return python(tree, "converters", *command.split())


# A new model is one file.

MEMBER = '''"""A network nobody knows: alexnet_mini with other widths and 7 classes."""

from dataclasses import replace

from zoo.specs import alexnet_mini

SPEC = replace(
    alexnet_mini.SPEC.change("conv1", out_channels=8).change("conv2", out_channels=16).with_num_classes(7),
    name="newcomer",
    title="alexnet_mini with other widths",
)
'''


@pytest.fixture(scope="module")
def member(tree: Path) -> Path:
    (tree / "zoo" / "specs" / "newcomer.py").write_text(MEMBER)
    return tree


def test_a_new_member_is_listed_and_shown(member: Path) -> None:
    assert "newcomer" in zoo(member, "list models")
    shown = zoo(member, "show newcomer")
    assert "alexnet_mini with other widths" in shown
    assert "conv1" in zoo(member, "diff newcomer alexnet_mini")


def test_a_new_member_is_generated_converted_and_verified(member: Path) -> None:
    for framework in ("onnx", "caffe", "tf_slim", "pytorch"):
        written = zoo(member, f"generate newcomer --framework {framework} -o {framework}")
        assert all((member / line).is_file() for line in written.splitlines()) and written
    chain = ["onnx/newcomer.onnx", "a.caffemodel", "a.npz", "a.ckpt", "a.safetensors"]
    for source, target in pairwise(chain):
        zoo(member, f"convert {source} --model newcomer -o {target}")
    assert "PASSED" in zoo(member, f"verify {chain[0]} {chain[-1]}")
    assert "PASSED" in zoo(member, "verify newcomer --frameworks onnx,caffe")


def test_the_family_s_tests_take_a_new_member_in(member: Path) -> None:
    tests, quick = ["tests/test_specs.py", "tests/test_registry.py"], ["-p", "no:cacheprovider"]
    python(member, "pytest", *quick, *tests)
    # Its second size, its training, and the proof in every subject, would take a minute.
    own = "newcomer-67 and not verifies and not curve and not training"
    said = python(member, "pytest", *quick, "tests/test_family.py", "-vv", "-k", own)
    assert set(re.findall(r"test_(\w+)\[newcomer-67\] PASSED", said)) == {
        *(f"generated_{framework}" for framework in ("caffe", "onnx", "pytorch", "tf_slim")),
        *("converts_through_every_format", "caffe_is_given_the_recipe"),
    }


# A new framework is two places.

FRAMEWORK = '''"""A framework that computes as the reference does, and whose source is the spec."""

import numpy as np

from zoo import reference, spec_json


def generate(spec, directory):
    path = directory / f"{spec.file_name}.novel"
    path.write_text(spec_json.dumps(spec))
    return [path]


def forward(spec, weights, inputs):
    return {name: y.astype(np.float32) for name, y in reference.forward(spec, weights, inputs).items()}
'''

FORMAT = '''"""Its files are safetensors by another name."""

from converters.formats.safetensors import entries, ignored, main_file, read, write
'''


@pytest.fixture(scope="module")
def framework(tree: Path) -> Path:
    (tree / "zoo" / "frameworks" / "novel").mkdir()
    (tree / "zoo" / "frameworks" / "novel" / "__init__.py").write_text(FRAMEWORK)
    (tree / "converters" / "formats" / "novel.py").write_text(FORMAT)
    return tree


def test_a_new_framework_is_listed_generated_for_converted_to_and_verified(framework: Path) -> None:
    assert re.search(
        r"(?m)^novel +not installed; run: pip install 'alexnet-zoo\[novel\]'$", zoo(framework, "list frameworks")
    )
    assert zoo(framework, "generate alexnet_mini --framework novel -o novel") == "novel/alexnet_mini.novel\n"
    zoo(framework, "generate alexnet_mini --framework onnx -o novel")
    zoo(framework, "convert novel/alexnet_mini.onnx -o a.novel --to novel")
    zoo(framework, "convert a.novel --from novel -o back.onnx")
    assert (framework / "back.onnx").is_file()
    assert "PASSED" in zoo(framework, "verify alexnet_mini --frameworks novel,onnx")
    assert "novel" in zoo(framework, "verify alexnet_mini --frameworks novel --json")


# A new kind of layer is a list of type errors, and what they do not see, tests name.

KIND = '''@dataclass(frozen=True, kw_only=True, slots=True)
class Novelty(Named):
    """``max(x, 0) + slope * min(x, 0)``, a learnt ``slope`` a channel."""


'''

# What a kind must say for itself, and every framework for it.
_PLACES = ("zoo/parameters.py", "zoo/reference/", "zoo/shapes/", "zoo/training/towers.py")


def test_a_new_kind_is_a_list_of_places_that_must_learn_it(tree: Path, tmp_path: Path) -> None:
    shutil.copytree(tree, tmp_path / "tree", symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    tree = tmp_path / "tree"
    family = tree / "zoo" / "layers" / "pointwise.py"
    before, mark, rest = family.read_text().partition("@dataclass")
    family.write_text(before + KIND + mark + rest.replace("TypeAlias = ReLU", "TypeAlias = Novelty | ReLU"))
    front = tree / "zoo" / "layers" / "__init__.py"
    front.write_text(front.read_text().replace("import Bias, Dropout", "import Bias, Dropout, Novelty"))
    told = places(tree)
    for wanted in (*_PLACES, *(f"zoo/frameworks/_?{name}" for name in framework_names())):
        assert any(re.match(wanted, place) for place in told), f"{wanted} is not told; {sorted(told)}"
    assert "tests/kinds.py has no network of Novelty" in python(tree, "pytest", "tests/test_kinds.py", status=1)


def places(tree: Path) -> set[str]:
    """The files of which the type checker says that they do not handle the new kind."""
    text = (tree / "pyproject.toml").read_text().replace('venvPath = "."', f'venvPath = "{Path(sys.prefix).parent}"')
    (tree / "pyproject.toml").write_text(re.sub(r"(?m)^include = .*zoo.*hubconf.*$", "include = ['zoo']", text))
    told = json.loads(python(tree, "basedpyright", "--outputjson", status=1))
    found = {
        item["file"] for item in told["generalDiagnostics"] if '"Novelty" cannot be assigned to' in item["message"]
    }
    return {str(Path(file).relative_to(tree)) for file in found}
