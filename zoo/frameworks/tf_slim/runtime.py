"""The half of `zoo.frameworks.tf_slim` that runs: needs TensorFlow and tf_slim."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.channels_last import native_shape, to_canonical, to_native
from zoo.environment import environment, quiet_libraries
from zoo.frameworks.tf_slim.calls import Activation, Name, evaluate
from zoo.frameworks.tf_slim.naming import Variable, identifier, shared, variables
from zoo.frameworks.tf_slim.table import Table
from zoo.layers import ModelSpec
from zoo.shapes import activation_shapes, parameter_shapes
from zoo.wire.layout import contiguous, rearrange

with quiet_libraries(), environment({"TF_CPP_MIN_LOG_LEVEL": "3"}):
    import tensorflow.compat.v1 as tf  # pyright: ignore[reportMissingImports]
    import tf_slim as slim

    from zoo.frameworks.tf_slim import ops

tf.get_logger().setLevel("ERROR")


def arg_scope(spec: ModelSpec, weight_decay: float) -> Any:
    """What `zoo.frameworks.tf_slim.source_text` prints as ``<name>_arg_scope``."""
    initializers = Table(spec).initializers
    with (
        slim.arg_scope(
            [slim.conv2d, slim.fully_connected, ops.grouped_conv2d, ops.transposed_conv2d, ops.embed],
            weights_initializer=evaluate(initializers["weight"], _lookup),
            weights_regularizer=slim.l2_regularizer(weight_decay),
            biases_initializer=evaluate(initializers["bias"], _lookup),
        ),
        slim.arg_scope([slim.conv2d, slim.fully_connected], activation_fn=None) as scope,
    ):
        return scope


def _lookup(wanted: Name | Activation) -> Any:
    """What a name of the generated file stands for, that is the same in all of them."""
    assert isinstance(wanted, Name)
    package, _, path = wanted.text.partition(".")
    roots = {"tf": tf, "slim": slim}
    return reduce(getattr, path.split("."), roots[package]) if package in roots else getattr(ops, wanted.text)


def network(spec: ModelSpec) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """See `zoo.frameworks.tf_slim.network`."""
    table, name, head = Table(spec), identifier(spec.name), spec.head
    classes = parameter_shapes(spec)[f"{head.name}.weight"][0] if head else 0

    def build(
        inputs: Any,
        num_classes: int = classes,
        is_training: bool = True,
        dropout_keep_prob: float = table.keep_prob,
        scope: str = name,
    ) -> tuple[Any, dict[str, Any]]:
        end_points = dict[str, Any]()
        given = inputs if isinstance(inputs, Mapping) else {spec.inputs[0].name: inputs}
        names = {"num_classes": num_classes, "is_training": is_training, "dropout_keep_prob": dropout_keep_prob}

        def lookup(wanted: Name | Activation) -> Any:
            if isinstance(wanted, Activation):
                return end_points[wanted.name] if wanted.name in end_points else given[wanted.name]
            return names[wanted.text] if wanted.text in names else _lookup(wanted)

        getter = ops.shared_variables(shared(spec)) if spec.ties else None
        with tf.variable_scope(scope, name, custom_getter=getter):
            for layer in spec.layers:
                end_points[layer.name] = evaluate(table.expression(layer), lookup)
        return end_points[table.logits], end_points

    return build


def placeholders(spec: ModelSpec) -> dict[str, Any]:
    """A placeholder for every input, N x H x W x C with a free N."""
    return {
        source.name: tf.placeholder(tf.float32, [None, *native_shape(source.shape)], name="input")
        for source in spec.inputs
    }


def build_for_inference(spec: ModelSpec, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The network over input tensors by name, at inference; its `end_points`."""
    with slim.arg_scope(arg_scope(spec, 0.0)), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # slim calls what TensorFlow calls deprecated
        return network(spec)(inputs, is_training=False)[1]


def session() -> Any:
    """A session on the CPU, which runs a graph as it is: folding constants costs more than one run gives back."""
    config = tf.ConfigProto(device_count={"GPU": 0})
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    config.graph_options.optimizer_options.opt_level = tf.OptimizerOptions.L0
    return tf.Session(config=config)


def forward(
    spec: ModelSpec, weights: Mapping[str, NDArray[Any]], inputs: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """See `zoo.registry.Framework.forward`."""
    shapes = activation_shapes(spec)
    with tf.Graph().as_default(), session() as running:
        holders = placeholders(spec)
        end_points = build_for_inference(spec, holders)
        assign(running, spec, weights, None)
        feed = {holders[name]: to_native(np.asarray(inputs[name], np.float32), shapes[name]) for name in holders}
        found = running.run(end_points, feed)
    return {layer.name: to_canonical(found[layer.name], shapes[layer.name]) for layer in spec.layers}


def assign(running: Any, spec: ModelSpec, weights: Mapping[str, NDArray[Any]], scope: str | None) -> None:
    """See `zoo.frameworks.tf_slim.assign`."""
    found, prefix = _by_name(running), scope or identifier(spec.name)
    for variable in variables(spec):
        target = found[f"{prefix}/{variable.name}"]
        value = variable_value(weights[variable.parameter], variable)
        # Fed in place of the initial value: a constant would put a copy of the weights into the graph.
        running.run(target.initializer, {target.initializer.inputs[1]: value})


def fetch(running: Any, spec: ModelSpec, scope: str | None) -> dict[str, NDArray[Any]]:
    """See `zoo.frameworks.tf_slim.fetch`."""
    found, prefix = _by_name(running), scope or identifier(spec.name)
    return {
        variable.parameter: _parameter_value(running.run(found[f"{prefix}/{variable.name}"]), variable)
        for variable in variables(spec)
    }


def _by_name(running: Any) -> dict[str, Any]:
    with running.graph.as_default():
        return {variable.op.name: variable for variable in tf.global_variables()}


def variable_value(parameter: NDArray[Any], variable: Variable) -> NDArray[Any]:
    """A canonical parameter, laid out as its variable; a view where no axes are merged."""
    return rearrange(parameter, variable.axes, variable.layout, variable.sizes) if variable.axes else parameter


def _parameter_value(value: NDArray[Any], variable: Variable) -> NDArray[Any]:
    """The inverse of `variable_value`, in C order."""
    if not variable.axes:
        return value
    return contiguous(rearrange(value, variable.layout, variable.axes, variable.sizes))
