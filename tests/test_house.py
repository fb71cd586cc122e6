"""What CONTRIBUTING promises, tried: a scratch copy of the tree is given something new, and nothing else is edited."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.environments import ROOT

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
    assert "newcomer" in python(member, "converters", "list", "models")
    shown = python(member, "converters", "show", "newcomer")
    assert "alexnet_mini with other widths" in shown
    assert "conv1" in python(member, "converters", "diff", "newcomer", "alexnet_mini")


def test_a_new_member_is_generated_converted_and_verified(member: Path) -> None:
    for framework in ("onnx", "caffe", "tf_slim", "pytorch"):
        written = python(member, "converters", "generate", "newcomer", "--framework", framework, "-o", framework)
        assert all((member / line).is_file() for line in written.splitlines()) and written
    chain = ["onnx/newcomer.onnx", "a.caffemodel", "a.npz", "a.ckpt", "a.safetensors"]
    for source, target in pairwise(chain):
        python(member, "converters", "convert", source, "--model", "newcomer", "-o", target)
    assert "PASSED" in python(member, "converters", "verify", chain[0], chain[-1])
    assert "PASSED" in python(member, "converters", "verify", "newcomer", "--frameworks", "onnx,caffe")


@pytest.mark.slow
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
