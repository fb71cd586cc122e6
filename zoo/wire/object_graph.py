"""What TensorFlow 2's object-based checkpoints call their variables.

Their keys are paths through a program's objects (``model/layer_with_weights-0/kernel/.ATTRIBUTES/VARIABLE_VALUE``); the
graph of the objects, itself a tensor of the checkpoint, knows the variables' own names. Format: TensorFlow
``core/protobuf/trackable_object_graph.proto``; strings as in ``core/util/tensor_bundle/tensor_bundle.cc``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from zoo.wire.protobuf import fields, read_varint

OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
# What belongs to training, and what Keras keeps of a model beside its layers' weights, or says twice (`Model.export`).
# The shortest path to a weight may lead through the optimizer that trains it.
_NO_WEIGHTS = re.compile(
    r"(^|/)(save_counter|keras_api|_all_variables|_?metrics|loss_tracker|seed_generator(_\d+)?)(/|$)|OPTIMIZER_SLOT"
    r"|(^|/)_?optimizer/(?!_trainable_variables/)"
)
_CRC = 4


def variable_names(graph: memoryview, keys: Iterable[str]) -> dict[str, str]:
    """Key -> the variable's own name, or the key's path where names are missing or shared; of weights alone.

    Args:
        graph: the content of the tensor `OBJECT_GRAPH`.
        keys: of the checkpoint.

    Raises:
        ValueError: the graph is damaged.
    """
    named = _full_names(graph)
    weights = [key for key in keys if key.endswith(_VALUE)]
    weights = [key for key in weights if not any(map(_NO_WEIGHTS.search, (key, named.get(key, ""))))]
    names = [named.get(key, "") for key in weights]
    if all(names) and max(Counter(names).values(), default=1) == 1:
        return dict(zip(weights, names, strict=True))
    return {key: key.removesuffix(_VALUE) for key in weights}


def _full_names(graph: memoryview) -> dict[str, str]:
    size, start = read_varint(graph, 0)
    content = graph[start + _CRC : start + _CRC + size]
    if len(content) != size:
        raise ValueError("its graph of objects is cut short")
    found = dict[str, str]()
    for _, _, node in fields(content):
        for number, _, attribute in fields(node) if not isinstance(node, int) else ():
            if number == 2 and not isinstance(attribute, int):
                texts = {kind: bytes(text).decode() for kind, _, text in fields(attribute) if not isinstance(text, int)}
                found[texts.get(3, "")] = texts.get(2, "").partition(":")[0]
    return found
