"""The weights of an ONNX graph, whoever exported it: found by what the nodes do, not by what they are called."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from converters.weights import Array
from zoo.frameworks.onnx import Constants, RefusalError
from zoo.wire.onnx import Model, Node

# Marks the name of a bias that the graph does not have.
NO_BIAS = ": no bias, so zeros"
# Nodes that only rearrange what they read; and those that take it apart.
_MOVES = {"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Cast", "Dropout"}
_PARTS = {"Split", "Slice", "Gather"}
# Nodes that keep channels apart, as far back as their convolution; the first input is the data.
_KEEPS_CHANNELS = {
    *_MOVES,
    "Relu",
    "LeakyRelu",
    "Sigmoid",
    "Tanh",
    "Clip",
    "Add",
    "Mul",
    "Div",
    "Pad",
    "LRN",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "BatchNormalization",
}
# Nodes that act on every number by itself: they may stand between a convolution and its bias or the join of its groups.
_POINTWISE = {*_MOVES, "Relu", "Add"}
# No exporter puts more nodes than this between two layers.
_REACH = 100
_TO_CHANNELS_LAST = (0, 2, 3, 1)
_FOUR_AXES = (0, 1, 2, 3)


@dataclass(kw_only=True, eq=False)
class Linear:
    """A convolution or dense layer: canonical orientation, O first."""

    node: Node
    name: str
    weight: Array
    bias_name: str = ""
    bias: Array | None = None
    joined: bool = False


def tensors(model: Model, constants: Constants) -> dict[str, Array]:
    """Native name -> array, OIHW and OI, in the order of the graph: weight, its bias, the next weight.

    A layer without a bias gets one of zeros, its name marked with `NO_BIAS`: exporters leave zeros out (torch's does).
    Whatever else the graph computes with (a mean to subtract, a normalisation) follows at the end under its own name,
    to be refused by who expects weights alone.

    Args:
        model: the file, taken apart.
        constants: of the graph; those that are missing are computed.

    Raises:
        ValueError: a weight that is not known before the graph runs; a Gemm that scales; a flattening whose order
            cannot be told.
    """
    walk = _Walk(constants)
    for node in model.nodes:
        walk.visit(node)
    found = dict[str, Array]()
    for linear in walk.linears:
        if not linear.joined:
            found[_unused(linear.name, found)] = linear.weight
            if linear.bias is not None:
                found[_unused(linear.bias_name, found)] = linear.bias
            else:
                found[_unused(f"{linear.name}{NO_BIAS}", found)] = np.zeros(len(linear.weight), np.float32)
    if not found:
        raise ValueError("the graph has no Conv, Gemm or MatMul with weights")
    used = {name for node in model.nodes for name in node.inputs}
    unread = {name: array for name, array in model.initializers.items() if name not in used}
    for name, array in (walk.others | unread).items():
        if looks_like_weight(array):
            found[_unused(name, found)] = array
    return found


def looks_like_weight(array: Array) -> bool:
    """Whether a constant may be learnt numbers, which must not be dropped: no size, axis, exponent or coefficient."""
    return array.dtype.kind == "f" and array.size > 1


def _unused(name: str, found: dict[str, Array]) -> str:
    while name in found:
        name += " (again)"
    return name


class _Walk:
    """One pass over the nodes, in the order of the file, which ONNX requires to be the order of the data."""

    def __init__(self, constants: Constants) -> None:
        self.folding, self.constants = constants, constants.known
        # Constant -> the name it had in the file, before it was transposed or split.
        self.names = dict[str, str]()
        self.producers = dict[str, Node]()
        self.linears = list[Linear]()
        self.made = dict[str, Linear]()
        self.others = dict[str, Array]()

    def visit(self, node: Node) -> None:
        """Take the weights of one node, or fold it if it reads constants only."""
        if self._fold(node):
            return
        match node.op:
            case "Conv":
                self._take(node, self._constant(node), node.inputs[2:3])
            case "Gemm":
                self._take(node, self._gemm(node), node.inputs[2:3])
            case "MatMul":
                self._take(node, self._in_order(node, self._constant(node).T), ())
            case "Concat":
                self._join(node)
            case "Add" if self._takes_bias(node):
                pass
            case _:
                self.others |= {name: self.constants[name] for name in node.inputs if name in self.constants}
        for name in node.outputs:
            self.producers[name] = node

    def _fold(self, node: Node) -> bool:
        try:
            if not self.folding.take(node):
                return False
        except RefusalError as refusal:
            self.folding.unreadable |= dict.fromkeys(node.outputs, f"cannot be computed: {refusal}")
            return False
        if node.op in _MOVES | _PARTS:
            self.names |= dict.fromkeys(node.outputs, self._name(node.inputs[0]))
        return True

    def _name(self, constant: str) -> str:
        return self.names.get(constant, constant)

    def _constant(self, node: Node) -> Array:
        name = node.inputs[1] if len(node.inputs) > 1 else ""
        if name not in self.constants:
            reason = self.folding.unreadable.get(
                name, "is computed or fed, not stored (a quantised graph, or half an export?)"
            )
            raise ValueError(f"{node.op} {node.name!r}: its weight {name!r} {reason}")
        if node.op != "Conv" and self.constants[name].ndim != 2:
            raise ValueError(
                f"{node.op} {node.name!r}: its weight {name!r} has {self.constants[name].ndim} axes, not 2"
            )
        return self.constants[name]

    def _gemm(self, node: Node) -> Array:
        wanted = {"alpha": 1.0, "beta": 1.0, "transA": 0}
        for name, value in wanted.items():
            if node.attributes.get(name, value) != value:
                raise ValueError(f"Gemm {node.name!r}: {name} is {node.attributes[name]}, expected {value}")
        weight = self._constant(node)
        return self._in_order(node, weight if node.attributes.get("transB", 0) else weight.T)

    def _take(self, node: Node, weight: Array, bias: tuple[str, ...]) -> None:
        linear = Linear(node=node, name=self._name(node.inputs[1]), weight=weight)
        if weight.ndim < 2:
            raise ValueError(f"{node.op} {node.name!r}: its weight {linear.name!r} has {weight.ndim} axes")
        if any(bias):
            if bias[0] not in self.constants:
                raise ValueError(f"{node.op} {node.name!r}: its bias {bias[0]!r} is computed, not stored")
            linear.bias_name, linear.bias = self._name(bias[0]), self.constants[bias[0]].reshape(-1)
        self.linears.append(linear)
        self.made[node.outputs[0]] = linear

    def _takes_bias(self, node: Node) -> bool:
        stored = [name for name in node.inputs if name in self.constants]
        linear = self.made.get(self._back(self._data(node), _MOVES))
        if len(stored) != 1 or linear is None or linear.bias is not None:
            return False
        array = self.constants[stored[0]]
        if array.size != len(linear.weight) or array.size != max(array.shape, default=1):
            return False
        linear.bias_name, linear.bias = self._name(stored[0]), array.reshape(-1)
        return True

    def _join(self, node: Node) -> None:
        """Convolutions of the slices of one input, joined: the groups of one convolution, written out."""
        parts = [self.made.get(self._back(name, _POINTWISE)) for name in node.inputs]
        groups = [part for part in parts if part is not None and part.node.op == "Conv" and not part.joined]
        if len(groups) < 2 or len(groups) != len(parts) or not self._slices_in_order(groups):
            return
        biases = [part.bias for part in groups if part.bias is not None]
        if len({part.weight.shape[1:] for part in groups}) != 1 or len(biases) not in (0, len(groups)):
            return
        whole = Linear(
            node=node,
            name=" + ".join(dict.fromkeys(part.name for part in groups)),
            weight=np.concatenate([part.weight for part in groups]),
            bias_name=" + ".join(part.bias_name for part in groups),
            bias=np.concatenate(biases) if biases else None,
        )
        self.folding.spend(whole.weight.nbytes)
        self.linears.insert(self.linears.index(groups[0]), whole)
        self.made[node.outputs[0]] = whole
        for part in groups:
            part.joined = True

    def _slices_in_order(self, groups: list[Linear]) -> bool:
        names = [self._back(part.node.inputs[0], _MOVES) for part in groups]
        slicers = [self.producers.get(name) for name in names]
        if any(slicer is None or slicer.inputs[0] != slicers[0].inputs[0] for slicer in slicers if slicers[0]):
            return False
        found = [slicer for slicer in slicers if slicer is not None]
        if len(found) != len(groups) or len({slicer.op for slicer in found}) != 1:
            return False
        if found[0].op == "Split":
            return names == list(found[0].outputs)
        starts = [
            self.constants.get(slicer.inputs[1]) for slicer in found if slicer.op == "Slice" and slicer.inputs[1:]
        ]
        firsts = [int(start.reshape(-1)[0]) for start in starts if start is not None and start.size]
        return len(firsts) == len(groups) and firsts == sorted(set(firsts))

    def _data(self, node: Node) -> str:
        return next((name for name in node.inputs if name not in self.constants), "")

    def _back(self, name: str, through: set[str]) -> str:
        """Where an activation comes from: back through some kinds of nodes, to a layer or to another kind."""
        for _ in range(_REACH):
            node = self.producers.get(name)
            if name in self.made or node is None or node.op not in through:
                break
            name = self._data(node)
        return name

    def _in_order(self, node: Node, weight: Array) -> Array:
        """A dense weight whose columns run over C, H, W, even where the graph flattens H, W, C as TensorFlow does."""
        name, order = node.inputs[0], _FOUR_AXES
        for _ in range(_REACH):
            source = self.producers.get(name)
            if name in self.made or source is None or source.op not in _KEEPS_CHANNELS:
                break
            permutation = source.attributes.get("perm") if source.op == "Transpose" else None
            if isinstance(permutation, tuple) and len(permutation) == len(order):
                order = tuple(permutation[i] for i in order)
            name = self._data(source)
        layer = self.made.get(name)
        if order == _FOUR_AXES or (layer is not None and layer.weight.ndim == 2):
            return weight
        channels = 0 if layer is None else len(layer.weight)
        if order != _TO_CHANNELS_LAST or not channels or weight.shape[1] % channels:
            raise ValueError(f"{node.op} {node.name!r}: cannot tell in which order its input was flattened")
        self.folding.spend(weight.nbytes)
        return weight.reshape(len(weight), -1, channels).transpose(0, 2, 1).reshape(weight.shape)
