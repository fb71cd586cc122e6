"""What Keras writes of a model beside its numbers, so that ``keras.saving.load_model`` makes the same one.

Format: keras ``src/saving/saving_lib.py``, ``src/legacy/saving/legacy_h5_format.py``, ``src/models/functional.py``.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from zoo.channels_last import native_shape
from zoo.frameworks.keras.calls import Call
from zoo.frameworks.keras.source import identifier
from zoo.frameworks.keras.table import Step, Table, table
from zoo.layers import ModelSpec, Shape

# The version whose files these are.
KERAS_VERSION = "3.15.1"


def model_config(spec: ModelSpec, *, legacy: bool = False) -> dict[str, Any]:
    """The description of the model that the generated source builds, with channels last.

    Args:
        spec: the network.
        legacy: as ``.h5`` has it, not ``.keras``.
    """
    made = table(spec)
    layers = [_input(name, shape, legacy) for name, shape in made.inputs.items()]
    layers += [_layer(step, made, legacy) for step in made.steps]
    config = {
        "name": identifier(spec.name),
        "trainable": True,
        "layers": layers,
        "input_layers": _ends(list(made.inputs)),
        "output_layers": _ends(list(made.outputs)),
    }
    if legacy:
        return {"class_name": "Functional", "config": config}
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "config": config,
        "registered_name": "Functional",
        "build_config": {"input_shape": None},
    }


def groups(spec: ModelSpec) -> dict[str, str]:
    """Keras layer -> its group in a file of weights: its class, counted. In the order that Keras gives its layers."""
    made, counts, found = table(spec), Counter[str](), dict[str, str]()
    classes = {step.name: step.call.make for step in made.steps}
    for name in _in_order(made):
        word = snake_case(classes[name])
        found[name] = f"layers/{word}_{counts[word]}" if counts[word] else f"layers/{word}"
        counts[word] += 1
    return found


def _in_order(made: Table) -> list[str]:
    """The layers but for the inputs: the farthest from an output first, equals as they are met on the way up."""
    reads = {step.name: step.reads for step in made.steps}
    depth = dict.fromkeys(reads, 0)
    for step in reversed(made.steps):
        for name in step.reads:
            if name in depth:
                depth[name] = max(depth[name], depth[step.name] + 1)
    met, ahead = dict[str, int](), [*reversed(made.outputs)]
    while ahead:
        name = ahead.pop()
        if name not in met:
            met[name] = len(met)
            ahead += reversed(reads.get(name, ()))
    return sorted(reads, key=lambda name: (-depth[name], met[name]))


def snake_case(name: str) -> str:
    """A class as Keras spells it (``src/utils/naming.py``): ``Conv2DTranspose`` -> ``conv2d_transpose``."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _input(name: str, shape: Shape, legacy: bool) -> dict[str, Any]:
    options = {"batch_shape": [None, *native_shape(shape)], "dtype": "float32", "sparse": False}
    return _described(Call(make="InputLayer", options=options), name, [], legacy=legacy)


def _layer(step: Step, made: Table, legacy: bool) -> dict[str, Any]:
    tensors = [
        {
            "class_name": "__keras_tensor__",
            # Keras goes by the history; of a step that no layer ends with, the shape is left open.
            "config": {
                "shape": [None, *native_shape(made.shapes[name])] if name in made.shapes else [None],
                "dtype": "float32",
                "keras_history": [name, 0, 0],
            },
        }
        for name in step.reads
    ]
    node = {"args": tensors if len(tensors) == 1 else [tensors], "kwargs": {}}
    return _described(step.call, step.name, [node], legacy=legacy)


def _described(call: Call, name: str, nodes: list[dict[str, Any]], *, legacy: bool) -> dict[str, Any]:
    told = call.described()
    told = {**told, "config": {"name": name, **told["config"]}, "name": name, "inbound_nodes": nodes}
    if not legacy:
        return told
    registered = told.pop("registered_name")
    del told["module"]
    return told | {"class_name": registered or call.make}


def _ends(names: list[str]) -> list[Any]:
    ends = [[name, 0, 0] for name in names]
    return ends[0] if len(ends) == 1 else ends
