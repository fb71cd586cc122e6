"""Layers that take many operators: found by writing them, and comparing what is written with what is there.

The writer (`zoo.frameworks.onnx.table`) is so the one place that says how such a layer looks. A layer of each form is
written; where a graph has the same operators, its numbers say which layer it may be, and that one, written in its turn,
must be the same to the last number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from itertools import product

import numpy as np

from zoo import layers
from zoo.arrays import Array
from zoo.errors import SpecError, UnsupportedError
from zoo.frameworks.onnx.builder import Builder
from zoo.frameworks.onnx.reading.op import short
from zoo.frameworks.onnx.reading.walk import View, Walk
from zoo.frameworks.onnx.table import add_layer
from zoo.layers import LOWEST, Code, Layer, Shape
from zoo.shapes import layer_parameters, output_shape
from zoo.wire.onnx import Node

# What a layer is called whose nodes are compared; no step, parameter or input of it has the name of another.
_NAME = "layer"
_IMAGE, _REGION = (4, 6, 6), (5,)
_CODES: tuple[Code, ...] = ("corner", "center_size", "corner_size")
# A layer of every form, and shapes that it can read. Which numbers it has is nothing yet.
_FORMS: tuple[tuple[Layer, tuple[Shape, ...]], ...] = (
    *((layers.ArgMax(name=_NAME, axis=axis), (_IMAGE,)) for axis in (None, 0, 1)),
    *((layers.ArgMax(name=_NAME, axis=axis, out_max_val=True), (_IMAGE,)) for axis in (None, 1)),
    (layers.Axpy(name=_NAME), ((4, 1, 1), _IMAGE, _IMAGE)),
    (layers.BatchNorm(name=_NAME, batch_stats=True), (_IMAGE,)),
    (layers.Bias(name=_NAME, axis=0), (_IMAGE, (4,))),
    (layers.Crop(name=_NAME, axis=0), (_IMAGE, _IMAGE)),
    *(
        (
            layers.DetectionOutput(
                name=_NAME, classes=2, share_location=shared, code=code, variance_encoded=as_are, top_k=top_k, keep=keep
            ),
            ((8 if shared else 16,), (4,), (2, 8)),
        )
        for shared, as_are in product((True, False), repeat=2)
        for code in _CODES
        for top_k, keep in product((-1, 1), repeat=2)
    ),
    *((layers.Embed(name=_NAME, rows=2, out_features=2, bias=bias), (_REGION,)) for bias in (True, False)),
    (layers.Interp(name=_NAME, size=(3, 3), pad_beg=-1), (_IMAGE,)),
    *((layers.MVN(name=_NAME, normalize_variance=whole), (_IMAGE,)) for whole in (True, False)),
    *((layers.Normalize(name=_NAME, shared=shared), (_IMAGE,)) for shared in (True, False)),
    (layers.Pool(name=_NAME, mode="ave", kernel=(3, 3), stride=(2, 2), pad=(1, 1)), (_IMAGE,)),
    (layers.Pool(name=_NAME, mode="ave", stride=(2, 2)), (_IMAGE,)),
    (layers.PoolMask(name=_NAME), (_IMAGE,)),
    (layers.PSROIPool(name=_NAME, channels=1, group=2, scale=1.0), (_IMAGE, _REGION)),
    *((layers.Reduction(name=_NAME, axis=1, operation=operation), (_IMAGE,)) for operation in ("sum", "asum", "sumsq")),
    (layers.ROIPool(name=_NAME, size=(2, 2), scale=1.0), (_IMAGE, _REGION)),
    *((layers.Scale(name=_NAME, axis=0, bias=bias), (_IMAGE, (4,))) for bias in (True, False)),
    (layers.Unary(name=_NAME, function="clip", numbers=(0.0, 1.0)), (_IMAGE,)),
    *((layers.Unary(name=_NAME, function="swish", numbers=(beta,)), (_IMAGE,)) for beta in (1.0, 2.0)),
    (layers.Unpool(name=_NAME), (_IMAGE, _IMAGE)),
)


@dataclass(frozen=True, kw_only=True)
class _Pattern:
    """What is written for a layer that reads ``0``, ``1``, ...: tensor -> its node, or its numbers."""

    made: Mapping[str, Node]
    constants: Mapping[str, Array]


@dataclass(kw_only=True)
class _Found:
    """A pattern laid over a graph.

    Attributes:
        tensors: of the pattern -> of the graph.
        said: constant (``/<step>``) or attribute (``/<step>.<name>``) -> what the pattern and the graph have there.
        parameters: role -> numbers of the graph.
    """

    tensors: dict[str, str] = field(default_factory=dict[str, str])
    said: dict[str, tuple[object, object]] = field(default_factory=dict[str, tuple[object, object]])
    parameters: dict[str, Array] = field(default_factory=dict[str, Array])

    @property
    def is_exact(self) -> bool:
        """Whether all numbers are those of the pattern."""
        return all(_same(*pair) for pair in self.said.values())

    def reads(self, count: int) -> tuple[str, ...]:
        """What a layer of so many inputs reads in the graph."""
        return tuple(self.tensors[str(i)] for i in range(count))

    def numbers(self, what: str) -> tuple[int, ...]:
        """Whole numbers of the graph."""
        return tuple(int(item) for item in np.asarray(self.said[what][1]).reshape(-1))

    def number(self, what: str) -> float:
        """A number of the graph."""
        return short(np.asarray(self.said[what][1], np.float32))

    def listed(self, step: str, what: str) -> tuple[int, ...]:
        """Whole numbers that newer operator sets take as an input, older ones as an attribute."""
        return self.numbers(f"{step}_{what}" if f"{step}_{what}" in self.said else f"{step}.{what}")


def closes(walk: Walk, made: Mapping[str, Node], node: Node) -> tuple[str, ...] | None:
    """Take a node in as the last of such a layer; returns what all its nodes read, or None where it is none."""
    for form, shapes in _forms(walk.opset).get(node.op, ()):
        found = _laid(_written(form, shapes, walk.opset), walk.constants, made, node)
        reads = found.reads(len(shapes)) if found else ()
        if not found or not all(_is_activation(walk, tensor) for tensor in reads):
            continue
        sizes = tuple(walk.sizes(tensor)[1:] for tensor in reads)
        for layer in _layers(form, found, sizes[0]):
            again = _laid(_written(layer, sizes, walk.opset), walk.constants, made, node)
            if again and again.is_exact and again.reads(len(reads)) == reads and _take(walk, node, layer, reads, again):
                return (*reads, *(theirs for theirs in again.tensors.values() if theirs in walk.constants))
    return None


def _is_activation(walk: Walk, tensor: str) -> bool:
    """Whether a layer can read a tensor; a constant, where one wants it, is made one."""
    array = None if tensor in walk.values else walk.constants.get(tensor)
    if array is not None and array.dtype == np.float32 and array.ndim > 1:
        walk.put(tensor, layers.Constant(name=tensor, shape=array.shape), weight=array)
    return isinstance(walk.values.get(tensor), View)


def _take(walk: Walk, node: Node, layer: Layer, reads: tuple[str, ...], found: _Found) -> bool:
    """Put a layer; what it has and does not compute with is what it is before training."""
    name = node.outputs[0]
    if isinstance(layer, layers.Unary):
        view = walk.pointwise(reads[0])
        walk.put(name, replace(layer, name=name, inputs=(view.activation,)), view)
        return True
    inputs = tuple(walk.plains(reads))
    rows = layer_parameters(layer, [walk.shapes[source] for source in inputs])
    unread = {row.role: np.full(row.shape, row.start, np.float32) for row in rows if row.role not in found.parameters}
    parameters = unread | found.parameters
    if any(parameters[row.role].shape != row.shape for row in rows):
        return False
    walk.add(replace(layer, name=name, inputs=inputs), **parameters)
    walk.values[name] = walk.whole(name)
    return True


def _layers(form: Layer, found: _Found, shape: Shape) -> Iterator[Layer]:
    """The layers of a form that the numbers of a graph, and the shape of what is read, may mean."""
    match form:
        case layers.ArgMax():
            (top_k,), axis = found.numbers("/k"), None if form.axis is None else found.numbers("/axis")[0]
            yield replace(form, top_k=top_k, axis=axis)
        case layers.Axpy() | layers.Bias() | layers.Scale():
            yield form
        case layers.BatchNorm():
            yield replace(form, eps=found.number("/eps"))
        case layers.Crop():
            yield replace(form, offsets=(*found.numbers("/first"), *found.numbers("/cut_starts")))
        case layers.DetectionOutput():
            labels, classes = found.numbers("/classes"), found.numbers("/scores_shape")[-1]
            least, others = found.number("/confidence"), {*range(classes)} - {*labels}
            yield replace(
                form,
                classes=classes,
                background=others.pop() if others else -1,
                overlap=found.number("/overlap"),
                confidence=None if least <= LOWEST else least,
                top_k=found.numbers("/k")[0] if form.top_k > 0 else -1,
                keep=found.numbers("/keep")[0] if form.keep > 0 else -1,
            )
        case layers.Embed():
            rows, outs = found.parameters["weight"].shape
            yield replace(form, rows=rows, out_features=outs)
        case layers.Interp():
            size, start, end = (
                found.numbers("/size")[1:],
                found.listed("/cut", "starts")[0],
                found.listed("/cut", "ends")[0],
            )
            yield replace(form, size=size, pad_beg=-start, pad_end=end - shape[1])
        case layers.MVN():
            eps = found.number("/eps") if form.normalize_variance else form.eps
            yield from (replace(form, across_channels=across, eps=eps) for across in (False, True))
        case layers.Normalize():
            for across, shared in product((True, False), repeat=2):
                yield replace(form, across_spatial=across, shared=shared, eps=found.number("/eps"))
        case layers.Pool():
            kernel, stride, pads = (found.numbers(f"/whole.{name}") for name in ("kernel_shape", "strides", "pads"))
            padded = next((found.numbers(what)[2:] for what in ("/edges", "/padded.pads") if what in found.said), pads)
            yield from _rounded(replace(form, kernel=kernel, stride=stride, pad=padded[:2]))
        case layers.PoolMask():
            kernel, stride = found.numbers("/best.kernel_shape"), found.numbers("/best.strides")
            yield replace(form, global_pool=True)
            yield from _rounded(replace(form, kernel=kernel, stride=stride, pad=found.numbers("/edges")[2:4]))
        case layers.PSROIPool():
            channels, group = found.numbers("/bin_maps_shape")[1:3]
            yield replace(form, channels=channels, group=group, scale=found.number("/scale"))
        case layers.Reduction():
            (axis,), coeff = found.listed("/total", "axes"), found.number("/coeff")
            if form.operation == "sum":
                yield replace(form, operation="mean", axis=axis)
            yield replace(form, axis=axis, coeff=coeff)
        case layers.ROIPool():
            yield replace(form, size=found.numbers(".pooled_shape"), scale=found.number(".spatial_scale"))
        case layers.Unary(function="clip"):
            yield replace(form, numbers=(found.number("/min"), found.number("/max")))
        case layers.Unary(numbers=(beta,)):
            yield replace(form, numbers=(beta if beta == 1 else found.number("/beta"),))
        case layers.Unpool():
            yield replace(form, size=found.numbers("/shape")[-2:])
        case _:
            raise AssertionError(form)


def _rounded(layer: layers.Pool | layers.PoolMask) -> Iterator[Layer]:
    yield from (replace(layer, rounding=rounding) for rounding in ("ceil", "floor"))


@cache
def _forms(opset: int) -> dict[str, list[tuple[Layer, tuple[Shape, ...]]]]:
    """The operator that a form ends in -> the forms."""
    found = dict[str, list[tuple[Layer, tuple[Shape, ...]]]]()
    for form, shapes in _FORMS:
        pattern = _written(form, shapes, opset)
        if pattern:
            found.setdefault(pattern.made[_NAME].op, []).append((form, shapes))
    return found


@lru_cache(256)
def _written(layer: Layer, shapes: tuple[Shape, ...], opset: int) -> _Pattern | None:
    """A layer as the writer writes it; None where there can be none."""
    inputs = tuple(map(str, range(len(shapes))))
    g = Builder(opset=opset, fast_lrn=False, taken={_NAME, *inputs})
    try:
        add_layer(g, layer, inputs, list(shapes), output_shape(layer, list(shapes)))
    except (SpecError, UnsupportedError):
        return None
    stored = {node.outputs[0]: np.asarray(node.attributes["value"]) for node in g.nodes if node.op == "Constant"}
    made = {tensor: node for node in g.nodes for tensor in node.outputs}
    return _Pattern(made=made, constants=g.stored | stored)


def _laid(
    pattern: _Pattern | None, constants: Mapping[str, Array], made: Mapping[str, Node], last: Node
) -> _Found | None:
    """Lay a pattern over what makes the first output of a node; None where operators differ."""
    found, todo = _Found(), [(_NAME, last.outputs[0])] if pattern else []
    while pattern and todo:
        ours, theirs = todo.pop()
        if ours in found.tensors:
            if found.tensors[ours] != theirs:
                return None
            continue
        found.tensors[ours] = theirs
        if ours in pattern.constants:
            if theirs not in constants:
                return None
            found.said[ours.removeprefix(_NAME)] = pattern.constants[ours], constants[theirs]
        elif ours in pattern.made:
            a, b = pattern.made[ours], made.get(theirs)
            if b is None or not _alike(a, b) or a.outputs.index(ours) != b.outputs.index(theirs):
                return None
            step = ours.removeprefix(_NAME)
            found.said |= {f"{step}.{name}": (value, b.attributes[name]) for name, value in a.attributes.items()}
            todo += zip(a.inputs, b.inputs, strict=True)
        elif ours.startswith(f"{_NAME}."):
            if theirs not in constants:
                return None
            found.parameters[ours.removeprefix(f"{_NAME}.")] = constants[theirs]
        elif bool(ours) != bool(theirs):
            return None
    return found if pattern else None


def _alike(a: Node, b: Node) -> bool:
    return (a.op, a.domain, len(a.inputs)) == (b.op, b.domain, len(b.inputs)) and {*a.attributes} == {*b.attributes}


def _same(ours: object, theirs: object) -> bool:
    a, b = (np.asarray(x, np.float32 if isinstance(x, float) else None) for x in (ours, theirs))
    return a.dtype == b.dtype and np.array_equal(a, b)
