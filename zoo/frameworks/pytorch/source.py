"""The Python source of a network, which imports torch alone."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import wrap
from types import FunctionType

from torch import nn

from zoo import registry
from zoo.axes import shape_text
from zoo.frameworks.pytorch.calls import Call
from zoo.frameworks.pytorch.initial import starts
from zoo.frameworks.pytorch.table import network_calls
from zoo.layers import ModelSpec, Softmax
from zoo.layers.network import as_file_name
from zoo.shapes import activation_shapes
from zoo.show import images_text
from zoo.torch_names import attribute_names, identifier, parameter_names, tied_keys
from zoo.wire.python import in_docstring, write_source


class _Word(str):
    """A word of the source, printed as it is."""

    __slots__ = ()
    __repr__ = str.__str__


def _imports(body: str) -> list[str]:
    lines = ["import math\n"] * ("math." in body) + ["import torch"] * ("torch." in body)
    return [*lines, "from torch import Tensor, nn", *["from torch.nn import functional"] * ("functional." in body)]


def source_text(spec: ModelSpec) -> str:
    """The Python source of the network.

    ``forward`` gives the network's outputs, but the logits where the one output is their softmax: what torch's losses
    take, and torchvision's classifiers give. ``probabilities`` gives that output then.
    """
    calls, attributes, shapes = network_calls(spec), attribute_names(spec), activation_shapes(spec)
    head = spec.free_head
    helpers = sorted({made.make for made in calls.values() if made.own}, key=_place)
    body = "".join(f"\n\n{inspect.getsource(helper)}" for helper in [*helpers, *_functions(helpers)])
    classes = ""
    if head:
        made = calls[head.name]
        classes = f", num_classes: int = {made.args[1]}"
        calls[head.name] = replace(made, args=(made.args[0], _Word("num_classes"), *made.args[2:]))
    lines = [
        f'"""{in_docstring(spec.name)}: {in_docstring(spec.title)}."""\n',
        "from __future__ import annotations\n",
        *_imports(body),
        f"{body}\n",
        f"class {_class_name(spec.name, {helper.__name__ for helper in helpers})}(nn.Module):",
        '    """Comments give the output of each layer, without the batch axis.\n',
        *(f"    {line}" for line in wrap(in_docstring(images_text(spec)), 116)),
        '    """\n',
        f"    def __init__(self{classes}) -> None:",
        "        super().__init__()",
        *(
            f"        self.{attributes[name]} = {made.text()}  # {shape_text(shapes[name])}"
            for name, made in calls.items()
        ),
        *(f"        self.{twin} = self.{owner}  # one tensor" for twin, owner in tied_keys(spec)),
        *_initial_lines(spec),
        *_method_lines(spec, calls, attributes),
    ]
    return "\n".join(lines) + "\n"


def _closing_softmax(spec: ModelSpec) -> Softmax | None:
    last = spec.layers[-1]
    return last if isinstance(last, Softmax) and spec.outputs == (last.name,) and len(spec.layers) > 1 else None


def _functions(helpers: Sequence[type[nn.Module]]) -> list[FunctionType]:
    """The functions beside our modules that these call."""
    found = dict[str, FunctionType]()
    for helper in helpers:
        beside, text = inspect.getmodule(helper), inspect.getsource(helper)
        for name, function in inspect.getmembers(beside, inspect.isfunction):
            if function.__module__ == helper.__module__ and re.search(rf"\b{name}\(", text):
                found[name] = function
    return [found[name] for name in sorted(found)]


def _initial_lines(spec: ModelSpec) -> list[str]:
    recipe, names, made = registry.recipe(spec), parameter_names(spec), starts(spec)
    said = f"        # Initial values: the recipe {recipe.name} ({in_docstring(recipe.source)})"
    if not made:
        return [f"{said}, which are torch's own."]
    return [f"{said}.", *(f"        {start.text(f'self.{names[name]}')}" for name, start in made.items())]


def _method_lines(spec: ModelSpec, calls: Mapping[str, Call], attributes: Mapping[str, str]) -> list[str]:
    softmax, wiring = _closing_softmax(spec), spec.wiring()
    answers = wiring[softmax.name] if softmax else spec.outputs
    # A chain is written with one variable, anything else with one an activation.
    before = [*(source.name for source in spec.inputs[:1]), *calls]
    chain = all(names == (name,) for name, names in zip(before, wiring.values(), strict=False))
    variables = {name: "x" if chain and name in calls else python for name, python in attributes.items()}
    signature = ", ".join(f"{attributes[source.name]}: Tensor" for source in spec.inputs)
    kind = "Tensor" if len(answers) == 1 else f"tuple[{', '.join(['Tensor'] * len(answers))}]"
    inputs = ", ".join(f"{source.name} (N x {shape_text(source.shape)})" for source in spec.inputs)
    what = f"{answers[0]}, the logits, which torch's losses take" if softmax else ", ".join(answers)
    lines = [
        f"\n    def forward(self, {signature}) -> {kind}:",
        f'        """{in_docstring(f"{what}, from {inputs}")}."""',
    ]
    for name, made in calls.items():
        if softmax is None or name != softmax.name:
            applied = made.apply_text(f"self.{attributes[name]}", [variables[i] for i in wiring[name]])
            lines.append(f"        {variables[name]} = {applied}")
    lines.append(f"        return {', '.join(variables[name] for name in answers)}")
    if softmax:
        given = ", ".join(attributes[source.name] for source in spec.inputs)
        lines += [
            f"\n    def probabilities(self, {signature}) -> Tensor:",
            f'        """{in_docstring(softmax.name)}, the softmax of what `forward` gives."""',
            f"        return {calls[softmax.name].apply_text(f'self.{attributes[softmax.name]}', [f'self({given})'])}",
        ]
    return lines


def _class_name(name: str, taken: set[str]) -> str:
    words = "".join(word[:1].upper() + word[1:] for word in identifier(name).split("_"))
    own = identifier(words.replace("Alexnet", "AlexNet"))
    return f"{own}Network" if own in {"Tensor", *taken} else own


def _place(helper: type[nn.Module]) -> tuple[str, int]:
    return helper.__module__, inspect.getsourcelines(helper)[1]


def generate(spec: ModelSpec, directory: Path) -> list[Path]:
    """Write ``<name>.py``, a module that imports torch alone; see `zoo.registry.Framework.generate`."""
    path = directory / f"{as_file_name(identifier(spec.name))}.py"
    write_source(path, source_text(spec))
    return [path]
