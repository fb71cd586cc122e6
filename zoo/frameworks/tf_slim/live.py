"""The live model in a TensorFlow session; TensorFlow is imported when one is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo import registry
from zoo.errors import UnsupportedError
from zoo.layers import ModelSpec


def forward(
    spec: ModelSpec, weights: Mapping[str, NDArray[Any]], inputs: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Run the slim model in a TensorFlow session on the CPU; see `zoo.registry.Framework.forward`."""
    with registry.optional():
        from zoo.frameworks.tf_slim import runtime
    return runtime.forward(spec, weights, inputs)


def network(spec: ModelSpec) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """The live network function: ``(inputs, num_classes, is_training, dropout_keep_prob, scope) -> (net, end_points)``.

    It makes the calls that `source_text` prints, with the same variable names. `inputs` is an N x H x W x C tensor, or
    a dictionary of tensors by name where the network has several inputs. ``end_points`` holds every layer under its own
    name, images N x H x W x C, and ``net`` is what the closing softmax reads (or the last layer).
    """
    with registry.optional():
        from zoo.frameworks.tf_slim import runtime
    return runtime.network(spec)


def build(
    spec: ModelSpec, weights: Mapping[str, NDArray[Any]] | None = None
) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """See `zoo.registry.Builds`; raises `UnsupportedError` where weights are given."""
    if weights is not None:
        raise UnsupportedError("tf_slim: a network takes its weights in a session: zoo.frameworks.tf_slim.assign")
    return network(spec)


def arg_scope(spec: ModelSpec, weight_decay: float | None = None) -> Any:
    """The live form of the generated ``<name>_arg_scope``; without a `weight_decay`, it has that of the recipe."""
    decay = registry.recipe(spec).weight_decay if weight_decay is None else weight_decay
    with registry.optional():
        from zoo.frameworks.tf_slim import runtime
    return runtime.arg_scope(spec, decay)


def assign(session: Any, spec: ModelSpec, weights: Mapping[str, NDArray[Any]], scope: str | None = None) -> None:
    """Give the variables of a network in `session` the values of canonical `weights`, outside the graph.

    Args:
        session: a `tf.Session` whose graph holds the variables.
        spec: the network.
        weights: canonical name -> float32 array.
        scope: the variable scope the network was built in; the network's name if left out.
    """
    with registry.optional():
        from zoo.frameworks.tf_slim import runtime
    runtime.assign(session, spec, weights, scope)


def fetch(session: Any, spec: ModelSpec, scope: str | None = None) -> dict[str, NDArray[np.float32]]:
    """The inverse of `assign`: canonical arrays from the variables of a session."""
    with registry.optional():
        from zoo.frameworks.tf_slim import runtime
    return runtime.fetch(session, spec, scope)
