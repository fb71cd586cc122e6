"""Writes api.md, the list of what the packages offer: ``python docs/api.py``. The sources are read, not imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "api.md"

# What a program that uses the packages calls; everything else is the house's own.
MODULES = {
    "Networks": (
        "zoo.registry",
        "zoo.layers",
        "zoo.shapes",
        "zoo.reference",
        "zoo.spec_json",
        "zoo.show",
        "zoo.svg",
        "zoo.errors",
    ),
    "Frameworks": tuple(f"zoo.frameworks.{name}" for name in ("pytorch", "tf_slim", "caffe", "onnx")),
    "Images and training": (
        "zoo.preprocess",
        "zoo.recipe",
        *(f"zoo.training.{name}" for name in ("launch", "loop", "data", "evaluate", "towers", "checkpoint")),
    ),
    "Weights": tuple(f"converters.{name}" for name in ("convert", "weights", "formats", "manifest", "fetch")),
    "Deployment": (
        "converters.export",
        "converters.fold",
        *(f"converters.exporters.{name}" for name in ("pytorch", "tf_slim", "caffe")),
    ),
    "The proof": tuple(f"converters.{name}" for name in ("parity", "report", "faults", "pytest_plugin")),
}

HEAD = """# The API

One line each; the docstrings (`help(converters.convert.load)`) say shapes, layouts, units and errors. Names that are
not on this page may change. The page is written by `python docs/api.py`.

```python
from pathlib import Path

import numpy as np

from converters.convert import load, save
from converters.parity import verify_files
from zoo import registry

weights = load(Path("weights.safetensors"))  # converters.weights.Weights: a spec, and canonical arrays by name
save(weights, Path("weights.caffemodel"))
report = verify_files([Path("weights.safetensors"), Path("weights.caffemodel")])
assert report.passed

images_NCHW = np.zeros((1, *weights.spec.inputs[0].shape), np.float32)
activations = registry.framework("onnx").forward(weights.spec, weights.tensors, {"data": images_NCHW})
print(activations["conv1"].shape)
```
"""

Definition = ast.FunctionDef | ast.ClassDef


def page() -> str:
    """The text of the page."""
    parts = [HEAD]
    for title, modules in MODULES.items():
        parts.append(f"\n## {title}\n")
        for module in modules:
            parts.append(f"\n### `{module}`\n\n{_first(_tree(module), module)}\n\n")
            parts += [f"- `{_shown(item)}`: {_first(item, module)}\n" for item in definitions(module)]
    return "".join(parts)


def definitions(module: str) -> Iterator[Definition]:
    """The public functions and classes of a module, in its order; those that ``__all__`` names come from elsewhere."""
    tree = _tree(module)
    exported = next((ast.literal_eval(node.value) for node in tree.body if _assigns(node, "__all__")), None)
    if exported is None:
        yield from (node for node in tree.body if isinstance(node, Definition) and not node.name.startswith("_"))
        return
    homes = {alias.name: node.module for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    for name in exported:
        body = _tree(homes.get(name) or module).body
        yield from (node for node in body if isinstance(node, Definition) and node.name == name)


def _tree(module: str) -> ast.Module:
    path = ROOT / module.replace(".", "/")
    return ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8"))


def _assigns(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name


def _first(node: Definition | ast.Module, module: str) -> str:
    """The first sentence or line of a docstring."""
    text = ast.get_docstring(node)
    if not text:
        raise SystemExit(f"{module}: {getattr(node, 'name', 'the module')} has no docstring")
    return " ".join(text.partition("\n\n")[0].split())


def _shown(node: Definition) -> str:
    """A function with its arguments' names and defaults; a class by its name."""
    if isinstance(node, ast.ClassDef):
        return node.name
    for argument in ast.walk(node.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    return f"{node.name}({ast.unparse(node.args)})"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
