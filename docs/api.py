"""Writes api.md, the declared interface of the packages: ``python docs/api.py``. The sources are read, not imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "api.md"

HEAD = """# The API

What `zoo` and `converters` declare in their `__all__`, with signatures, types, what is returned and what is raised.
Other names may change. Importing the two packages loads no framework: a name is imported when it is first used. Every
path is a `str` or a `PathLike`. The page is written by `python docs/api.py`.

```python
import numpy as np

import converters
import zoo

weights = converters.load("weights.safetensors")  # a spec, and canonical arrays by name
converters.save(weights, "weights.caffemodel")
report = converters.verify_files(["weights.safetensors", "weights.caffemodel"])
assert report.passed

images_NCHW = np.zeros((1, *weights.spec.inputs[0].shape), np.float32)
activations = zoo.forward(weights.spec, weights.tensors, {"data": images_NCHW}, "onnx")
print(activations["conv1"].shape)

module = zoo.build(weights.spec, "pytorch", weights.tensors)  # a torch.nn.Module
zoo.generate("alexnet", "pytorch", "src")  # its source, standalone
converters.convert_file("weights.safetensors", "weights.npz")
converters.export_file("weights.safetensors", "weights.onnx")
```
"""

Definition = ast.FunctionDef | ast.ClassDef


def page() -> str:
    """The text of the page."""
    parts = [HEAD]
    for package in ("zoo", "converters"):
        parts.append(f"\n## `{package}`\n\n{_doc(_tree(package), package)}\n")
        for name, home in declared(package).items():
            if home == f"{package}.{name}":
                parts.append(f"\n### `{home}`\n\n{_doc(_tree(home), home)}\n")
                parts += [_entry(item, home, "####") for item in _offered(home)]
            elif found := _named(home, name):
                parts.append(_entry(found, package, "###"))
            else:
                raise SystemExit(f"{home} has no {name}")
    return "".join(parts)


def declared(package: str) -> dict[str, str]:
    """Every name a package offers -> the module that defines it, or that it is; functions first."""
    checked = next(node for node in _tree(package).body if isinstance(node, ast.If))
    homes = dict[str, str]()
    for node in checked.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                homes[alias.name] = f"{package}.{alias.name}" if node.module == package else node.module
    return dict(sorted(homes.items(), key=lambda item: (item[0][0].isupper(), item[0])))


def _public(body: list[ast.stmt]) -> Iterator[Definition]:
    return (node for node in body if isinstance(node, Definition) and not node.name.startswith("_"))


def _named(module: str, name: str) -> Definition | None:
    """The definition of a name, in a module or where that imports it from; the last, after those that overload it."""
    body = _tree(module).body
    for node in body:
        if isinstance(node, ast.ImportFrom) and node.module and name in _imported(node):
            return _named(node.module, name)
    found = [node for node in body if isinstance(node, Definition) and node.name == name]
    return found[-1] if found else None  # a constant, or another name of a type


def _imported(node: ast.ImportFrom) -> list[str]:
    """The names that a statement imports."""
    if node.module and node.names[0].name == "*":
        return _declared_in(node.module)
    return [alias.name for alias in node.names]


def _declared_in(module: str) -> list[str]:
    """A module's ``__all__``."""
    assigned = (node for node in _tree(module).body if isinstance(node, ast.Assign))
    return next(ast.literal_eval(node.value) for node in assigned if ast.unparse(node.targets[0]) == "__all__")


def _offered(module: str) -> list[Definition]:
    """The classes and functions of a module that is declared as a whole, with those of the modules it is made of."""
    body = _tree(module).body
    parts = [node.module for node in body if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"]
    names = [name for part in parts if part for name in _declared_in(part)] or _declared_in(module)
    return [found for name in names if (found := _named(module, name))]


def _tree(module: str) -> ast.Module:
    path = ROOT / module.replace(".", "/")
    return ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8"))


def _entry(node: Definition, package: str, heading: str) -> str:
    """A function or class: its signature and its docstring; of a class, what it inherits is left out."""
    name = f"{package}.{node.name}"
    if isinstance(node, ast.FunctionDef):
        return f"\n{heading} `{name}`\n\n```text\n{_signature(node)}\n```\n\n{_doc(node, name)}\n"
    lines = [f"\n{heading} `{name}`\n\n"]
    fields = [item for item in node.body if isinstance(item, ast.AnnAssign) and not _is_private(item.target)]
    if fields:
        shown = "\n".join(f"{node.name}.{ast.unparse(item)}" for item in fields)
        lines.append(f"```text\n{shown}\n```\n\n")
    lines.append(f"{_doc(node, name)}\n")
    methods = [_method(item, name) for item in _public(node.body) if isinstance(item, ast.FunctionDef)]
    return "".join([*lines, *(["\n"] if methods else []), *methods])


def _method(node: ast.FunctionDef, owner: str) -> str:
    said = " ".join(_doc(node, f"{owner}.{node.name}").partition("\n\n")[0].split())
    is_property = any(ast.unparse(decorator) == "property" for decorator in node.decorator_list)
    shown = f"{node.name}: {ast.unparse(node.returns)}" if is_property and node.returns else _signature(node)
    return f"- `{shown}`: {said}\n"


def _is_private(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and target.id.startswith("_")


def _signature(node: ast.FunctionDef) -> str:
    """In one line, or a line an argument where that would be too long."""
    node.args.args = [argument for argument in node.args.args if argument.arg != "self"]
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    line = f"{node.name}({ast.unparse(node.args)}){returns}"
    if len(line) <= 110:
        return line
    arguments = re.split(r", (?=\*(?:,|$)|\*{0,2}\w+(?::|=|,|$))", ast.unparse(node.args))
    return f"{node.name}(\n" + "".join(f"    {argument},\n" for argument in arguments) + f"){returns}"


def _doc(node: Definition | ast.Module, name: str) -> str:
    """A docstring in Markdown: its sections are lists."""
    text = ast.get_docstring(node)
    if not text:
        raise SystemExit(f"{name} has no docstring")
    lines, listed = list[str](), False
    for line in text.replace("``", "`").splitlines():
        if heading := re.fullmatch(r"(Args|Returns|Raises|Attributes):", line):
            listed = heading[1] != "Returns"
            lines += [f"**{heading[1]}**", ""]
        elif listed and (item := re.fullmatch(r"    (\S.*?): (.*)", line)):
            lines.append(f"- `{item[1]}`: {item[2]}")
        else:
            lines.append(f"  {line.strip()}" if listed and line else line.strip())
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
