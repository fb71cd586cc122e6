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
    return copied(tmp_path_factory.mktemp("tree"))


def copied(folder: Path) -> Path:
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


def zoo(tree: Path, command: str, status: int = 0) -> str:
    """A command of the copy."""
    return python(tree, "converters", *command.split(), status=status)


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
    for framework in framework_names():
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


# A new kind of layer, with a parameter, is ten files: the type checker names those that have a row for it.

BEFORE = "        case _:\n            assert_never(layer)\n"
IMPORTS = "from __future__ import annotations\n"

KIND = {
    "zoo/layers/pointwise.py": {
        "__all__ = [": "__all__ = [\n    'Novelty',",
        "@dataclass": """@dataclass(frozen=True, kw_only=True, slots=True)
class Novelty(Named):
    \"\"\"``x + slope * |x - bend|``; parameter ``slope``, one a channel (C,).\"\"\"

    bend: float = 0.5


@dataclass""",
        "TypeAlias = ReLU": "TypeAlias = Novelty | ReLU",
    },
    "zoo/reference/pointwise.py": {
        BEFORE: """        case layers.Novelty():
            return x + along(x, 1, parameters["slope"]) * np.abs(x - layer.bend)
"""
    },
    "zoo/shapes/pointwise.py": {
        BEFORE: """        case layers.Novelty():
            return one_input(layer, inputs)
""",
        "        case Scale() if len(inputs) == 2:": """        case layers.Novelty():
            return (slope(shape[:1]),)
        case Scale() if len(inputs) == 2:""",
    },
    "zoo/frameworks/caffe/pointwise.py": {
        "_SIGMOID = ": """_NOVELTY = plain_row(
    layers.Novelty, "Novelty", "novelty_param", Setting("bend", 0.5), fields={"bend": ("number", False)}
)
_SIGMOID = """,
        "ROWS: tuple[Row[Any], ...] = (": "ROWS: tuple[Row[Any], ...] = (\n    _NOVELTY,",
        BEFORE: """        case layers.Novelty():
            return _NOVELTY
""",
    },
    "zoo/frameworks/keras/pointwise.py": {
        BEFORE: """        case layers.Novelty():
            return canonical("Novelty", bend=layer.bend)
"""
    },
    "zoo/frameworks/keras/ops/pointwise.py": {
        "@keras.saving.register_keras_serializable": """@keras.saving.register_keras_serializable("alexnet_zoo")
class Novelty(Canonical):
    \"\"\"``x + alpha * |x - bend|``, an alpha a channel.\"\"\"

    def __init__(self, bend, **kwargs):
        super().__init__(**kwargs)
        self.bend = bend

    def build(self, input_shape):
        \"\"\"One number a channel.\"\"\"
        shape = (self.canonical_shape(input_shape)[1],)
        self.alpha = self.add_weight(shape=shape, initializer=keras.initializers.Constant(0.25), name="alpha")

    def compute(self, x):
        \"\"\"Any shape, kept.\"\"\"
        return x + ops.reshape(self.alpha, (-1, *[1] * (len(x.shape) - 2))) * ops.abs(x - self.bend)


@keras.saving.register_keras_serializable""",
    },
    "zoo/frameworks/onnx/pointwise.py": {
        BEFORE: """        case layers.Novelty():
            ones = [1] * (len(shapes[0]) - 1)
            slope = g.reshape(layer, "slope_spread", f"{layer.name}.slope", -1, *ones)
            far = g.step(layer, "far", "Abs", g.step(layer, "moved", "Sub", x, g.floats(layer, "bend", layer.bend)))
            g.last(layer, "Add", x, g.step(layer, "sloped", "Mul", slope, far))
"""
    },
    "zoo/frameworks/pytorch/pointwise.py": {
        BEFORE: """        case layers.Novelty():
            return Call(make=Novelty, args=(shape[0], layer.bend, len(shape) - 1))
""",
        "class Abs": """class Novelty(nn.Module):
    \"\"\"``x + weight * |x - bend|``, a weight a channel.\"\"\"

    def __init__(self, channels: int, bend: float, trailing: int) -> None:
        super().__init__()
        self.bend, self.trailing = bend, (1,) * trailing
        self.weight = nn.Parameter(torch.full((channels,), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        \"\"\"Any shape, kept.\"\"\"
        return x + self.weight.reshape(self.weight.shape + self.trailing) * (x - self.bend).abs()


class Abs""",
    },
    "zoo/frameworks/tf_slim/pointwise.py": {
        BEFORE: """        case layers.Novelty():
            (row,) = layer_parameters(layer, at.shapes)
            slope = parameter(f"{scope}/{row.slim}", row, 1, at.shapes[0])
            far = call("tf.abs", call("tf.subtract", x, layer.bend))
            return call("tf.add", x, call("tf.multiply", slope, far), name=scope)
"""
    },
    "tests/kinds.py": {
        '    "relu": net(': '    "novelty": net(layers.Novelty(name="op", bend=0.3)),\n    "relu": net(',
    },
}

NETWORK = """
name: "net" input: "data" input_shape { dim: 1 dim: 3 dim: 9 dim: 9 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 6 kernel_size: 3 } }
layer { name: "new" type: "Novelty" bottom: "conv" top: "new" novelty_param { bend: 0.3 } }
layer { name: "fc" type: "InnerProduct" bottom: "new" top: "fc" inner_product_param { num_output: 5 } }
"""


def learn(tree: Path, file: str) -> None:
    """Edit one file of the copy."""
    path = tree / file
    text = path.read_text()
    for mark, new in KIND[file].items():
        assert mark in text, f"{file} has no {mark!r}"
        text = text.replace(mark, new + mark if mark == BEFORE else new, 1)
    lacks = "layers.N" in text and "\nfrom zoo import layers\n" not in text
    path.write_text(text.replace(IMPORTS, f"{IMPORTS}\nfrom zoo import layers\n", 1) if lacks else text)


@pytest.fixture(scope="module")
def kind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy in which the new kind stands in its family, and nowhere else."""
    folder = copied(tmp_path_factory.mktemp("kind"))
    learn(folder, "zoo/layers/pointwise.py")
    return folder


def test_a_new_kind_is_a_list_of_places_that_must_learn_it(kind: Path) -> None:
    assert len(KIND) == 10
    first, *told, last = KIND
    assert places(kind) == {file for file in told if BEFORE in KIND[file]}
    assert "tests/kinds.py has no network of Novelty" in python(kind, "pytest", "tests/test_kinds.py", status=1)
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    assert all(
        file.replace("/pytorch/", "/*/") in contributing
        for file in (first, last, "zoo/frameworks/pytorch/pointwise.py")
    )


def test_a_new_kind_is_carried_and_verified_once_they_have_and_is_not_written_before(kind: Path) -> None:
    for file in KIND:
        if file != "zoo/layers/pointwise.py":
            learn(kind, file)
    (kind / "net.prototxt").write_text(NETWORK)
    python(
        kind,
        "pytest",
        "-p",
        "no:cacheprovider",
        "tests/test_tables.py",
        "tests/test_kinds.py",
        "-k",
        "Novelty or every",
    )
    zoo(kind, "generate --prototxt net.prototxt --framework onnx -o made")
    chain = ["made/net.onnx", "a.caffemodel", "a.ckpt", "a.pt", "a.safetensors"]
    for source, target in pairwise(chain):
        zoo(kind, f"convert {source} --prototxt net.prototxt -o {target}")
    zoo(kind, "export a.safetensors --prototxt net.prototxt -o a.onnx")  # verified
    assert "PASSED" in zoo(
        kind, "verify a.safetensors --prototxt net.prototxt --frameworks pytorch,tf_slim,onnx,keras-tensorflow"
    )
    for name in framework_names():
        family = kind / "zoo" / "frameworks" / name / "pointwise.py"
        learnt = family.read_text()
        shutil.copy(ROOT / "zoo" / "frameworks" / name / "pointwise.py", family)
        zoo(kind, f"generate --prototxt net.prototxt --framework {name} -o {name}", status=2)
        assert not [path for path in (kind / name).rglob("*") if path.is_file()]
        family.write_text(learnt)


def places(tree: Path) -> set[str]:
    """The files of which the type checker says that they do not handle the new kind; it is asked of those that can."""
    sources = (tree / "zoo").rglob("*.py")
    exhaustive = [str(path.relative_to(tree)) for path in sources if "assert_never" in path.read_text()]
    text = (tree / "pyproject.toml").read_text().replace('venvPath = "."', f'venvPath = "{Path(sys.prefix).parent}"')
    (tree / "pyproject.toml").write_text(re.sub(r"(?m)^include = .*zoo.*hubconf.*$", f"include = {exhaustive}", text))
    told = json.loads(python(tree, "basedpyright", "--outputjson", status=1))
    found = {
        item["file"] for item in told["generalDiagnostics"] if '"Novelty" cannot be assigned to' in item["message"]
    }
    return {str(Path(file).relative_to(tree)) for file in found}
