"""The nodes of a graph as they are added, and what the families share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from zoo.arrays import Array
from zoo.errors import UnsupportedError
from zoo.layers import Layer, Shape
from zoo.parameters import Role
from zoo.shapes import Window
from zoo.wire.onnx import Attribute, Node

# Operators that ONNX got after the first operator set that is written, and the one that they came with.
_SINCE = {"Expand": 8, "Where": 9}


@dataclass(kw_only=True)
class Builder:
    """Collects nodes; the last one of a layer takes the layer's name, those before it get names of their own.

    Attributes:
        opset: the operator set to write.
        fast_lrn: write LRN in the form that ONNX Runtime runs fastest, instead of as one ``LRN`` node.
        taken: names in use: inputs, layers, parameters.
    """

    opset: int
    fast_lrn: bool
    taken: set[str]
    nodes: list[Node] = field(default_factory=list[Node])
    stored: dict[str, Array] = field(default_factory=dict[str, Array])

    def last(self, layer: Layer, op: str, *inputs: str, **attributes: Attribute) -> None:
        """Add the node whose output is the layer's activation."""
        self.needs(layer, _SINCE.get(op, 0), op)
        self.nodes.append(Node(op=op, name=layer.name, inputs=inputs, outputs=(layer.name,), attributes=attributes))

    def step(self, layer: Layer, what: str, op: str, *inputs: str, **attributes: Attribute) -> str:
        """Add a node on the way; returns the name of its output."""
        return self.steps(layer, (what,), op, *inputs, **attributes)[0]

    def steps(
        self, layer: Layer, whats: tuple[str, ...], op: str, *inputs: str, **attributes: Attribute
    ) -> tuple[str, ...]:
        """Add a node of several outputs on the way; returns their names."""
        self.needs(layer, _SINCE.get(op, 0), op)
        names = tuple(self._fresh(f"{layer.name}/{what}") for what in whats)
        self.nodes.append(Node(op=op, name=names[0], inputs=inputs, outputs=names, attributes=attributes))
        return names

    def _fresh(self, name: str) -> str:
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def floats(self, layer: Layer, what: str, value: Array | float | Sequence[float]) -> str:
        """Add a float32 constant. Constants are nodes, so that the initializers are the weights and nothing else."""
        return self.step(layer, what, "Constant", value=np.asarray(value, np.float32))

    def kernel(self, layer: Layer, what: str, value: Array) -> str:
        """Add the numbers of a convolution that are no parameters: an initializer, as those of any other."""
        name = self._fresh(f"{layer.name}/{what}")
        self.stored[name] = np.asarray(value, np.float32)
        return name

    def integers(self, layer: Layer, what: str, *values: int) -> str:
        """Add a list of integers, as sizes and axes are given; an initializer where no Constant holds integers yet."""
        if self.opset < 9:
            name = self._fresh(f"{layer.name}/{what}")
            self.stored[name] = np.asarray(values, np.int64)
            return name
        return self.step(layer, what, "Constant", value=np.asarray(values, np.int64))

    def needs(self, layer: Layer, opset: int, what: str) -> None:
        """Refuse an operator set that has no such thing yet."""
        if self.opset < opset:
            told = f"layer {layer.name!r} needs {what}, which ONNX has from operator set {opset} on"
            raise UnsupportedError(f"{told}; this one is {self.opset}")

    def slice(
        self, layer: Layer, what: str, source: str, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int]
    ) -> str:
        """Add a Slice on the way; with `what` empty, as the layer itself. What it takes was in attributes once."""
        sizes: dict[str, Attribute] = {"starts": tuple(starts), "ends": tuple(ends), "axes": tuple(axes)}
        inputs = [source]
        if self.opset >= 10:
            inputs += [self.integers(layer, f"{what}_{name}".lstrip("_"), *values) for name, values in _lists(sizes)]
            sizes = {}
        if what:
            return self.step(layer, what, "Slice", *inputs, **sizes)
        self.last(layer, "Slice", *inputs, **sizes)
        return layer.name

    def pad(self, layer: Layer, what: str, source: str, pads: Sequence[int], fill: float) -> str:
        """Add a Pad on the way."""
        if self.opset < 11:
            return self.step(layer, what, "Pad", source, pads=tuple(pads), value=float(fill))
        edges, number = self.integers(layer, "edges", *pads), self.floats(layer, "fill", fill)
        return self.step(layer, what, "Pad", source, edges, number)

    def reduce(self, layer: Layer, what: str, op: str, source: str, axes: Sequence[int], *, keepdims: bool) -> str:
        """Add a ReduceSum or ReduceMean on the way, whose axes became an input in operator sets 13 and 18."""
        if self.opset < (13 if op == "ReduceSum" else 18):
            return self.step(layer, what, op, source, axes=tuple(axes), keepdims=int(keepdims))
        listed = self.integers(layer, f"{what}_axes", *axes)
        return self.step(layer, what, op, source, listed, keepdims=int(keepdims))

    def reshape(self, layer: Layer, what: str, source: str, *sizes: int) -> str:
        """Add a reshape on the way."""
        return self.step(layer, what, "Reshape", source, self.integers(layer, f"{what}_shape", *sizes))


def _lists(sizes: Mapping[str, Attribute]) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, values) for name, values in sizes.items() if isinstance(values, tuple)]


def parameters(layer: Layer, *roles: Role) -> list[str]:
    """The initializers of a layer."""
    return [f"{layer.name}.{role}" for role in roles]


def pads_of(at: Window) -> tuple[int, ...]:
    """Padding as ONNX lists it, beginnings before ends.

    A size that is rounded up is written as extra padding at the end, which every runtime reads alike; what
    ``ceil_mode`` means for the last window has changed between versions of ONNX Runtime.
    """
    return (*at.before, *(max(after, before) for after, before in zip(at.after, at.before, strict=True)))


def reshape_last(g: Builder, layer: Layer, source: str, shape: Shape) -> None:
    """Add the node that gives a layer its shape."""
    if len(shape) == 1:
        g.last(layer, "Flatten", source, axis=1)
    else:
        g.last(layer, "Reshape", source, g.integers(layer, "shape", -1, *shape))
