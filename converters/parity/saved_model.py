"""A SavedModel by its own graph, whose answer is its own whatever its variables are.

A graph is a program, and may write files. Of this one, what its signature asks for is cut out, and run only where that
does nothing but compute; TensorFlow's loader, which runs what the file wants to be run first, is not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from converters.parity.subjects import Declared
from converters.weights import Array
from zoo.channels_last import native_shape, to_native
from zoo.environment import quiet_loggers
from zoo.errors import FileFormatError, UnsupportedError, one_line, said
from zoo.frameworks.tf_slim.runtime import session, tf
from zoo.layers import ModelSpec, Shape
from zoo.wire.checkpoint_files import SAVED_GRAPH
from zoo.wire.layout import contiguous

# After TensorFlow, which is quiet only if its runtime loads it.
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel  # isort: skip
from tensorflow.python.framework import op_def_registry  # isort: skip

_SERVED, _SIGNATURE = "serve", "serving_default"
# Of a signature that is none: what is run when the file is loaded.
_INTERNAL = "__saved_model"
_VARIABLES = ("Variable", "VariableV2", "VarHandleOp")
# What only reaches for something outside the graph has: names of files, tables, variables.
_OUTSIDE = {tf.string.as_datatype_enum, tf.resource.as_datatype_enum, tf.variant.as_datatype_enum}


class SavedGraph:
    """The graph behind a SavedModel's signature.

    Args:
        folder: the SavedModel.
        variables: name of a variable -> its value, as stored.

    Raises:
        FileFormatError: it is damaged.
        UnsupportedError: it has no single signature to be run, or does more than compute.
    """

    def __init__(self, folder: Path, variables: Mapping[str, Array]) -> None:
        self._folder, self._variables = folder, variables
        meta = self._meta_graph()
        self._signature = self._signed(meta.signature_def)
        self._fed = dict[str, Array]()
        self._definition = self._cut(meta.graph_def)

    def declared(self, spec: ModelSpec, inputs: Mapping[str, Array]) -> tuple[Declared, ...]:
        """What it answers; a signature has no order, so first what is called as the network's outputs are.

        Args:
            spec: the network that it is held against.
            inputs: that one's input name -> batch in canonical layout.

        Raises:
            UnsupportedError: it reads something else, or cannot be run.
        """
        given, channels_last = self._given(spec), False
        feeds = dict(self._fed)
        for source in spec.inputs:
            array = np.asarray(inputs[source.name], np.float32)
            turned = self._is_channels_last(given[source.name], source.shape)
            feeds[given[source.name].name] = contiguous(to_native(array, source.shape)) if turned else array
            channels_last |= turned
        asked = {name: info.name for name, info in self._signature.outputs.items()}
        try:
            with tf.Graph().as_default(), session() as running, quiet_loggers("tensorflow"):
                tf.import_graph_def(self._definition, name="")
                found = running.run(asked, feeds)
        except (KeyError, ValueError, TypeError, tf.errors.OpError) as error:
            raise self._refusal(f"cannot be run ({said(error, 200)})") from error
        layers = {layer.name for layer in spec.layers}
        names = [*(name for name in spec.outputs if name in found), *sorted(found.keys() - {*spec.outputs})]
        return tuple(
            Declared(name=name, value=found[name], layer=name if name in layers else None, channels_last=channels_last)
            for name in names
        )

    def _refusal(self, why: str) -> UnsupportedError:
        alone = self._folder / "variables" / "variables"
        return UnsupportedError(f"{self._folder}: its graph {why}; to hold its weights alone, give {alone}")

    def _meta_graph(self) -> Any:
        saved: Any = SavedModel()
        path = self._folder / SAVED_GRAPH
        try:
            saved.ParseFromString(path.read_bytes())
        except (OSError, DecodeError) as error:
            raise FileFormatError(path, f"no SavedModel: {said(error, 200)}") from error
        graphs = [graph for graph in saved.meta_graphs if _SERVED in graph.meta_info_def.tags] or saved.meta_graphs
        if len(graphs) != 1:
            raise self._refusal(f"is one of {len(graphs)}, expected a single one to be served")
        return graphs[0]

    def _signed(self, signatures: Mapping[str, Any]) -> Any:
        names = sorted(name for name in signatures if not name.startswith(_INTERNAL))
        if _SIGNATURE not in names and len(names) != 1:
            raise self._refusal(f"has the signatures {one_line(', '.join(names))}, expected {_SIGNATURE}")
        return signatures[_SIGNATURE if _SIGNATURE in names else names[0]]

    def _cut(self, definition: Any) -> Any:
        """What leads to the outputs, with placeholders where it reads a variable."""
        wanted = [info.name.partition(":")[0] for info in self._signature.outputs.values()]
        try:
            with quiet_loggers("tensorflow"):
                found = tf.graph_util.extract_sub_graph(definition, wanted)
        except (AssertionError, ValueError, KeyError) as error:
            raise self._refusal(f"does not lead to its outputs ({said(error, 200)})") from error
        reading = {*_VARIABLES, "ReadVariableOp"}
        trouble = next((told for node in found.node if node.op not in reading and (told := _does_more(node))), "")
        if trouble:
            raise self._refusal(f"{trouble}, and is not run here")
        handles = {node.name: node for node in found.node if node.op == "VarHandleOp"}
        cut: Any = tf.GraphDef(versions=definition.versions)
        for node in found.node:
            if node.op in reading and node.name not in handles:
                node = self._placeholder(node, handles.get(node.input[0]) if node.input else node)
            if node.name not in handles:
                cut.node.append(node)
        return cut

    def _placeholder(self, node: Any, variable: Any | None) -> Any:
        if variable is None:
            raise self._refusal(f"reads {one_line(node.name)}, which is no variable of its own")
        name = variable.attr["shared_name"].s.decode(errors="replace")
        value = self._variables.get(name, self._variables.get(variable.name))
        if value is None:
            raise self._refusal(f"reads {one_line(variable.name)}, which is not among its variables")
        self._fed[f"{node.name}:0"] = value
        placeholder: Any = tf.NodeDef(name=node.name, op="Placeholder")
        placeholder.attr["dtype"].type = variable.attr["dtype"].type
        return placeholder

    def _given(self, spec: ModelSpec) -> dict[str, Any]:
        """The network's inputs -> what the signature says of its own."""
        own, names = dict(self._signature.inputs), [source.name for source in spec.inputs]
        if len(own) == len(names) == 1:
            own = {names[0]: next(iter(own.values()))}
        if own.keys() != {*names}:
            raise self._refusal(f"reads {one_line(', '.join(sorted(own)))}, expected {', '.join(sorted(names))}")
        wrong = [name for name in names if own[name].dtype != tf.float32.as_datatype_enum]
        if wrong:
            raise self._refusal(f"reads {wrong[0]} as {tf.as_dtype(own[wrong[0]].dtype).name}, expected float32")
        return own

    def _is_channels_last(self, given: Any, shape: Shape) -> bool:
        if len(shape) != 3:
            return False
        stated = given.tensor_shape
        sizes = [-1] * 3 if stated.unknown_rank else [axis.size for axis in stated.dim][1:]
        for wanted, last in ((native_shape(shape), True), (shape, False)):
            if len(sizes) == 3 and all(size in (-1, side) for size, side in zip(sizes, wanted, strict=True)):
                return last
        raise self._refusal(f"reads images of {' x '.join(map(str, sizes))}, expected {' x '.join(map(str, shape))}")


def _does_more(node: Any) -> str:
    """What a node does besides computing, if anything."""
    known, named = op_def_registry.get(node.op), f"{one_line(node.name)}, of the kind {one_line(node.op)}"
    if known is None:
        return f"has a node that TensorFlow does not know ({named})"
    if any(value.HasField("func") or value.list.func for value in node.attr.values()):
        return f"calls functions, as TensorFlow 2 writes it ({named})"
    if known.is_stateful:
        return f"has a state ({named})"
    types = {arg.type for arg in (*known.input_arg, *known.output_arg)} | {value.type for value in node.attr.values()}
    return f"reaches outside ({named})" if types & _OUTSIDE else ""
