"""The Python source of a network, which imports Keras alone; Keras is not needed to write it."""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from textwrap import wrap

from zoo import registry
from zoo.axes import shape_text
from zoo.channels_last import native_shape
from zoo.frameworks.keras.calls import LAST, printed
from zoo.frameworks.keras.table import Step, Table, table
from zoo.layers import ModelSpec, Names, Shape
from zoo.layers.network import as_file_name
from zoo.show import images_text
from zoo.wire.python import definitions, definitions_of, in_docstring, write_source

_OPS = Path(__file__).with_name("ops")
_WIDTH = 120

_DOC = '''\
"""{about}

{images}
"""'''

_BUILD = '''\
def build({classes}data_format="channels_last"):
    """The model, with the initial values of the recipe {recipe}, whose weight decay is {decay!r}.

{source}

    Args:
{about}        data_format: "channels_last" or "channels_first": how images lie.

    Returns:
{returns}
    """'''


def generate(spec: ModelSpec, directory: Path) -> list[Path]:
    """Write ``<name>.py``, a module that imports Keras alone; see `zoo.registry.Framework.generate`."""
    path = directory / f"{as_file_name(identifier(spec.name))}.py"
    write_source(path, source_text(spec))
    return [path]


def source_text(spec: ModelSpec) -> str:
    """The Python source of the network: the layers that Keras lacks, and ``build()``.

    Raises:
        UnsupportedError: Keras cannot have one of its layers, which is named.
    """
    made = table(spec)
    own = definitions_of(_OPS, set[str]().union(*(step.call.of_ours() for step in made.steps)))
    body = "\n\n\n".join([*own, _function(spec, made)])
    imports = ["import math"] * ("math." in body) + [""] * ("math." in body) + ["import keras"]
    imports += ["import numpy as np"] * ("np." in body) + ["from keras import ops"] * ("ops." in body)
    told = (f"{spec.name}: {spec.title}", f"Keras 3, on any backend; {images_text(spec)}")
    about, images = (_wrapped(f"{_text(text)}.") for text in told)
    doc = _DOC.format(about=about, images=images)
    return f"{doc}\n\n{chr(10).join(imports)}\n\n\n{body}\n"


def _function(spec: ModelSpec, made: Table) -> str:
    recipe, head = registry.recipe(spec), spec.free_head
    classes = 0 if head is None else getattr(head, "out_channels", getattr(head, "out_features", 0))
    variables = _variables(made)
    inputs = ", ".join(f"{_text(name)} (N x {shape_text(shape)})" for name, shape in made.inputs.items())
    returns = f"A model of {inputs}; comments give each layer's output, C x H x W, without the batch."
    lines = [
        _BUILD.format(
            classes=f"num_classes={classes}, " if head else "",
            about="        num_classes: outputs of the classifier.\n" if head else "",
            recipe=_text(recipe.name),
            source=_wrapped(f"Source: {_text(recipe.source)}.", "    "),
            decay=recipe.weight_decay,
            returns=_wrapped(returns, "        "),
        )
    ]
    if any("axes[" in argument for step in made.steps for argument in step.call.arguments()):
        lines.append(f'    axes = {LAST} if data_format == "channels_last" else (0, 1, 2, 3)  # of N, C, H, W')
    for name, shape in made.inputs.items():
        lines.append(f"    {variables[name]} = keras.Input({_shape_text(shape)}, name={printed(name)})")
    lines += [_statement(step, variables, made) for step in made.steps]
    read, given = (_several([variables[name] for name in names]) for names in (made.inputs, made.outputs))
    return "\n".join([*lines, f"    return keras.Model({read}, {given}, name={printed(identifier(spec.name))})"])


def _statement(step: Step, variables: dict[str, str], made: Table) -> str:
    reads = _several([variables[name] for name in step.reads])
    start = f"    {variables[step.name]} = {step.call.function}"
    arguments = [*step.call.arguments(), f"name={printed(step.name)}"]
    told = f"  # {shape_text(made.shapes[step.name])}" if step.name in made.shapes else ""
    line = f"{start}({', '.join(arguments)})({reads}){told}"
    if len(line) <= _WIDTH:
        return line
    return "\n".join([f"{start}(", *(f"        {argument}," for argument in arguments), f"    )({reads}){told}"])


def _variables(made: Table) -> dict[str, str]:
    """Keras' name of an input or layer -> a variable: one for a chain, else one an activation."""
    names = [*made.inputs, *(step.name for step in made.steps)]
    before = [*list(made.inputs)[:1], *(step.name for step in made.steps)]
    chain = all(step.reads == (name,) for name, step in zip(before, made.steps, strict=False))
    if chain and len(made.inputs) == 1 and len(made.outputs) == 1:
        return dict.fromkeys(names, "x") | {next(iter(made.inputs)): "inputs"}
    fresh = Names({"keras", "ops", "np", "math", "axes", "num_classes", "data_format", "build", *definitions(_OPS)})
    return {name: fresh.fresh(identifier(name)) for name in names}


def _wrapped(text: str, indent: str = "") -> str:
    return "\n".join(wrap(text, _WIDTH - 4, initial_indent=indent, subsequent_indent=indent))


def _several(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"[{', '.join(names)}]"


def _shape_text(shape: Shape) -> str:
    if len(shape) != 3:
        return repr(shape)
    last = native_shape(shape)
    return repr(last) if last == shape else f'{last} if data_format == "channels_last" else {shape}'


def identifier(name: str) -> str:
    """The nearest Python identifier."""
    word = re.sub(r"\W", "_", name, flags=re.ASCII)
    return f"_{word}" if not word or word[0].isdigit() or keyword.iskeyword(word) else word


def _text(text: str) -> str:
    return in_docstring(text).rstrip(".")
