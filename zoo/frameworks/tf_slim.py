"""TensorFlow-slim: the source of a network in slim's own conventions, and the same calls run in a TensorFlow session.

Source is written where TensorFlow is not installed; what needs it lies in `zoo.frameworks._slim_runtime`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from zoo import registry
from zoo.frameworks._slim_calls import Activation, functions, quoted, render, statement
from zoo.frameworks._slim_table import Table
from zoo.frameworks._slim_variables import identifier
from zoo.layers import ModelSpec

_OPS = Path(__file__).with_name("_slim_ops.py")


def generate(spec: ModelSpec, directory: Path) -> list[Path]:
    """Write `source` as ``<name>.py`` into `directory`; returns the file."""
    path = directory / f"{identifier(spec.name)}.py"
    path.write_text(source(spec), encoding="utf-8")
    return [path]


def forward(
    spec: ModelSpec, weights: Mapping[str, NDArray[Any]], inputs: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Run the slim model in a TensorFlow session on the CPU; see `zoo.registry.Framework.forward`."""
    return _runtime().forward(spec, weights, inputs)


def network(spec: ModelSpec) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """The live network function: ``(inputs, num_classes, is_training, dropout_keep_prob, scope) -> (net, end_points)``.

    It makes the calls that `source` prints, with the same variable names. `inputs` is an N x H x W x C tensor, or a
    dictionary of tensors by name where the network has several inputs. ``end_points`` holds every layer under its own
    name, images N x H x W x C, and ``net`` is what the closing softmax reads (or the last layer).
    """
    return _runtime().network(spec)


def arg_scope(spec: ModelSpec, weight_decay: float | None = None) -> Any:
    """The live form of the generated ``<name>_arg_scope``; without a `weight_decay`, it has that of the recipe."""
    return _runtime().arg_scope(spec, registry.recipe(spec).weight_decay if weight_decay is None else weight_decay)


def assign(session: Any, spec: ModelSpec, weights: Mapping[str, NDArray[Any]], scope: str | None = None) -> None:
    """Give the variables of a network in `session` the values of canonical `weights`, outside the graph.

    Args:
        session: a `tf.Session` whose graph holds the variables.
        spec: the network.
        weights: canonical name -> float32 array.
        scope: the variable scope the network was built in; the network's name if left out.
    """
    _runtime().assign(session, spec, weights, scope)


def fetch(session: Any, spec: ModelSpec, scope: str | None = None) -> dict[str, NDArray[np.float32]]:
    """The inverse of `assign`: canonical arrays from the variables of a session."""
    return _runtime().fetch(session, spec, scope)


def _runtime() -> Any:
    return cast(Any, registry.imported("zoo.frameworks._slim_runtime"))


def source(spec: ModelSpec) -> str:
    """Standalone Python source of the network: an arg_scope, the network function, its default image size."""
    table, name = Table(spec), identifier(spec.name)
    calls = {layer.name: table.expression(layer) for layer in spec.layers}
    used = set[str]().union(*map(functions, calls.values()))
    layers = [f'"""{_plain(spec.title)}\n\nTensorFlow-slim, N x H x W x C.{_input_text(spec)}\n"""']
    layers.append("import tensorflow.compat.v1 as tf\nimport tf_slim as slim")
    helpers = {node: text for node, text in _helpers().items() if node in used}
    layers += helpers.values()
    grouped = ", grouped_conv2d" if "grouped_conv2d" in used else ""
    layers.append(_arg_scope(spec, table, grouped))
    layers.append(_function(spec, table, calls, name))
    layers.append(f"{name}.default_image_size = {_image_size(spec)}")
    return f"{layers[0]}\n\n{layers[1]}\n\n\n" + "\n\n\n".join(layers[2:-1]) + f"\n\n\n{layers[-1]}\n"


_ARG_SCOPE = '''\
def {name}_arg_scope(weight_decay={decay!r}):
    """Initial values and weight decay of the recipe {recipe}; layers have no built-in activation.

    Source: {source}.
    """
    with slim.arg_scope(
        [slim.conv2d, slim.fully_connected{grouped}],
        weights_initializer={weights},
        weights_regularizer=slim.l2_regularizer(weight_decay),
        biases_initializer={biases},
    ):
        with slim.arg_scope([slim.conv2d, slim.fully_connected], activation_fn=None) as scope:
            return scope'''


def _arg_scope(spec: ModelSpec, table: Table, grouped: str) -> str:
    recipe = registry.recipe(spec)
    weights, biases = (render(table.initializers[kind], lambda other: other.name) for kind in ("weight", "bias"))
    return _ARG_SCOPE.format(
        name=identifier(spec.name),
        decay=recipe.weight_decay,
        recipe=recipe.name,
        source=_plain(recipe.source),
        grouped=grouped,
        weights=weights,
        biases=biases,
    )


def _helpers() -> dict[str, str]:
    text = _OPS.read_text(encoding="utf-8")
    lines, found = text.splitlines(), dict[str, str]()
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            found[node.name] = "\n".join(lines[first - 1 : node.end_lineno])
    return found


def _function(spec: ModelSpec, table: Table, calls: Mapping[str, Any], name: str) -> str:
    head = spec.head
    classes = 1000 if head is None else getattr(head, "out_channels", getattr(head, "out_features", 1000))
    lines = [
        f"def {name}(\n    inputs,\n    num_classes={classes},\n    is_training=True,\n"
        f"    dropout_keep_prob={table.keep_prob!r},\n    scope={quoted(name)},\n):",
        f'    """{_plain(spec.title)}\n\n    Args:\n'
        f"        inputs: {_inputs_text(spec)}.\n"
        "        num_classes: outputs of the classifier.\n"
        "        is_training: whether dropout drops and batches are averaged.\n"
        "        dropout_keep_prob: the share of numbers a dropout keeps.\n"
        "        scope: of the variables.\n\n"
        "    Returns:\n"
        f"        What {_plain(table.logits)!r} puts out, and a dictionary of all layers by name.\n"
        '    """',
        "    end_points = {}",
        f"    with tf.variable_scope(scope, {quoted(name)}):",
    ]
    current = spec.inputs[0].name if len(spec.inputs) == 1 else None

    def spell(activation: Activation) -> str:
        if activation.name == current:
            return "inputs" if activation.name == spec.inputs[0].name else "net"
        if any(source.name == activation.name for source in spec.inputs):
            return "inputs" if len(spec.inputs) == 1 else f"inputs[{quoted(activation.name)}]"
        return f"end_points[{quoted(activation.name)}]"

    for layer in spec.layers:
        target = f"net = end_points[{quoted(layer.name)}]"
        lines.append(statement(target, calls[layer.name], spell, " " * 8))
        current = layer.name
    lines.append(f"    return end_points[{quoted(table.logits)}], end_points")
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Text that is safe within a docstring."""
    return text.encode("unicode_escape").decode("ascii").replace("\\", "/").replace('"', "'")


def _image_size(spec: ModelSpec) -> str:
    sides = spec.inputs[0].shape[-2:]
    return str(sides[0]) if len(set(sides)) == 1 else repr(sides)


def _inputs_text(spec: ModelSpec) -> str:
    first, *others = spec.inputs
    if others:
        return "a dictionary of tensors, images N x H x W x C: " + ", ".join(_plain(i.name) for i in spec.inputs)
    shape = first.shape
    sizes = (*shape[1:], *shape[:1]) if len(shape) == 3 else shape
    return "a tensor of N x " + " x ".join(map(str, sizes))


def _input_text(spec: ModelSpec) -> str:
    given = spec.preprocessing
    if given is None:
        return ""
    scaled = "0..255" if given.scale == 1 else f"0..255 times {given.scale!r}"
    return (
        f"\n\nImages: the shorter side resized to {given.resize}, centre crop, {given.channels}, {scaled},"
        f"\nminus {given.mean!r}, divided by {given.std!r}."
    )
