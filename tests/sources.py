"""Generated source, imported and run by itself: the canonical activations it gives, layer by layer."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from converters.weights import Array
from zoo import registry
from zoo.channels_last import to_canonical, to_native
from zoo.layers import ModelSpec
from zoo.shapes import activation_shapes
from zoo.torch_names import attribute_names


def imported(path: Path) -> Any:
    """A Python file as a module."""
    found = importlib.util.spec_from_file_location(path.stem, path)
    assert found
    assert found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def run_pytorch_source(
    spec: ModelSpec, weights: Mapping[str, Array], inputs: Mapping[str, Array], folder: Path
) -> dict[str, Array]:
    """The class that is printed for a network."""
    import torch  # noqa: PLC0415

    pytorch = cast(Any, registry.framework("pytorch"))
    (path,) = pytorch.generate(spec, folder)
    module = imported(path)
    classes = [value for value in vars(module).values() if isinstance(value, type) and value.__module__ == path.stem]
    network = classes[-1]()  # the helpers stand before it
    network.load_state_dict(pytorch.state_dict(spec, weights))
    network.eval()
    seen = dict[str, Array]()

    def keep(layer: str) -> Any:
        return lambda _module, _inputs, y: seen.__setitem__(layer, y.numpy().copy())

    attributes = attribute_names(spec)  # of inputs, too
    for layer, attribute in ((layer.name, attributes[layer.name]) for layer in spec.layers):
        network.get_submodule(attribute).register_forward_hook(keep(layer))
    answer = getattr(network, "probabilities", network)  # which goes through every layer
    with torch.no_grad():
        answer(*(torch.from_numpy(inputs[source.name]) for source in spec.inputs))
    return seen


def run_slim_source(
    spec: ModelSpec, weights: Mapping[str, Array], inputs: Mapping[str, Array], folder: Path
) -> dict[str, Array]:
    """The function that is printed for a network."""
    tf_slim, runtime = cast(Any, registry.framework("tf_slim")), registry.imported("zoo.frameworks.tf_slim.runtime")
    tf, shapes = runtime.tf, activation_shapes(spec)
    (path,) = tf_slim.generate(spec, folder)
    module = imported(path)
    with tf.Graph().as_default(), runtime.session() as session:
        holders = runtime.placeholders(spec)
        with module.slim.arg_scope(getattr(module, f"{path.stem}_arg_scope")()):
            given = holders if len(holders) > 1 else next(iter(holders.values()))
            _, end_points = getattr(module, path.stem)(given, is_training=False)
        tf_slim.assign(session, spec, weights)
        feed = {holders[name]: to_native(inputs[name], shapes[name]) for name in holders}
        found = session.run(end_points, feed)
    return {name: to_canonical(found[name], shapes[name]) for name in found}
