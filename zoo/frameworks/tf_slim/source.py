"""The source of a network in slim's own conventions; TensorFlow is not needed to write it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import wrap
from typing import Any

from zoo import registry
from zoo.axes import shape_text
from zoo.frameworks.tf_slim.calls import Activation, functions, render, statement
from zoo.frameworks.tf_slim.naming import identifier, shared
from zoo.frameworks.tf_slim.table import Table
from zoo.layers import ModelSpec
from zoo.layers.network import as_file_name
from zoo.show import images_text
from zoo.wire.python import definitions_of, quoted, write_source

_OPS = Path(__file__).with_name("ops")


def generate(spec: ModelSpec, directory: Path) -> list[Path]:
    """Write `source_text` as ``<name>.py`` into `directory`; returns the file."""
    path = directory / f"{as_file_name(identifier(spec.name))}.py"
    write_source(path, source_text(spec))
    return [path]


def source_text(spec: ModelSpec) -> str:
    """Standalone Python source of the network: an arg_scope, the network function, its default image size."""
    table, name = Table(spec), identifier(spec.name)
    calls = {layer.name: table.expression(layer) for layer in spec.layers}
    used = {"shared_variables"} if spec.ties else set[str]()
    used = used.union(*map(functions, calls.values()))
    layers = [f'"""{_plain(spec.title)}\n\nTensorFlow-slim, N x H x W x C.\n\n{_images(spec)}\n"""']
    layers.append("import tensorflow.compat.v1 as tf\nimport tf_slim as slim")
    layers += definitions_of(_OPS, used)
    own = ("grouped_conv2d", "transposed_conv2d", "embed")
    grouped = "".join(f", {name}" for name in own if name in used)
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


def _function(spec: ModelSpec, table: Table, calls: Mapping[str, Any], name: str) -> str:
    head = spec.head
    classes = 1000 if head is None else getattr(head, "out_channels", getattr(head, "out_features", 1000))
    twins = ", ".join(f"{quoted(twin)}: {quoted(owner)}" for twin, owner in shared(spec).items())
    getter = f", custom_getter=shared_variables({{{twins}}})" if twins else ""
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
        f"    with tf.variable_scope(scope, {quoted(name)}{getter}):",
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


def _images(spec: ModelSpec) -> str:
    return "\n".join(wrap(_plain(images_text(spec)), 116))


def _image_size(spec: ModelSpec) -> str:
    sides = [*spec.inputs[0].shape[-2:]] if spec.inputs else []
    return str(sides[0]) if len(set(sides)) == 1 else repr(tuple(sides))


def _inputs_text(spec: ModelSpec) -> str:
    first, *others = spec.inputs
    if others:
        return "a dictionary of tensors, images N x H x W x C: " + ", ".join(_plain(i.name) for i in spec.inputs)
    shape = first.shape
    sizes = (*shape[1:], *shape[:1]) if len(shape) == 3 else shape
    return f"a tensor of N x {shape_text(sizes)}"
