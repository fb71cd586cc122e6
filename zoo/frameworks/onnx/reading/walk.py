"""The state of reading a graph: which tensor is which activation, as it lies in the graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import prod
from typing import TypeAlias

import numpy as np

from zoo.arrays import Array
from zoo.batches import first_axis
from zoo.frameworks.onnx.reading.folding import OPEN_BATCH
from zoo.frameworks.onnx.reading.op import Op, RefusalError
from zoo.layers import Conv, Flatten, Input, Layer, Names, Pair, Permute, Reshape, Shape, Slice
from zoo.limits import in_float32
from zoo.parameters import ROLES
from zoo.shapes import output_shape
from zoo.wire.onnx import Node


@dataclass(frozen=True, kw_only=True)
class View:
    """A tensor that is an activation, its axes in another order and then in another shape.

    Attributes:
        activation: of the network that is made.
        order: axis i of the tensor was axis order[i] of the activation, the batch included; a graph that computes in
            N, H, W, C has (0, 2, 3, 1).
        shape: of the tensor, the batch included.
    """

    activation: str
    order: tuple[int, ...]
    shape: Shape

    @property
    def in_order(self) -> bool:
        """Whether no axis has moved."""
        return self.order == tuple(range(len(self.order)))


@dataclass(frozen=True, kw_only=True)
class Padded:
    """An image with a border that a convolution or a pooling layer may take in."""

    view: View
    before: Pair
    after: Pair
    fill: float


@dataclass(frozen=True, kw_only=True)
class Above:
    """Where a tensor is greater than a number."""

    view: View
    limit: float


@dataclass(frozen=True, kw_only=True)
class Response:
    """On the way to a local response normalisation: ``(shift + scale * mean of a window of squares) ^ power``.

    Attributes:
        view: what is squared.
        shape: of the tensor at this point.
        node: what made it; where no normalisation comes of it, it is read as what it says by itself.
        steps: how many nodes so far.
        border: what was padded, an axis each, before and after.
        size: of the window, 0 before there is one.
        towers, region: as in `zoo.layers.LRN`.
        computed: whether `scale` is a product that may be rounded.
    """

    view: View
    shape: Shape
    node: Node | None = None
    steps: int = 0
    border: tuple[tuple[int, int], ...] = ()
    size: int = 0
    towers: int = 1
    region: str = "across"
    scale: float | None = None
    shift: float | None = None
    power: float | None = None
    computed: bool = False


@dataclass(frozen=True, kw_only=True)
class Whole:
    """Numbers cut to whole ones, or fed as such, by which rows of a table may be taken."""

    view: View


@dataclass(frozen=True, kw_only=True)
class Counted:
    """0, ``step``, 2 ``step``, ... in the order of a tensor of that shape."""

    step: int
    shape: Shape


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where the maxima of a pool stand: ``row * W + column`` in each map, or counted through all maps before it too.

    Attributes:
        view: the `PoolMask`.
        shape: of the tensor at this point.
        maps: height and width of the maps.
        through: whether all maps before it count.
    """

    view: View
    shape: Shape
    maps: Pair
    through: bool


Value: TypeAlias = View | Padded | Above | Response | Whole | Counted | Places


@dataclass(kw_only=True)
class Walk:
    """The state of reading a graph from its inputs to its outputs.

    Attributes:
        batch: the number that stands for the batch in shapes.
        shapes, firsts: activation -> its shape without the first axis; and how long that is.
        opset: the operator set.
        constants: tensor -> its numbers, where they are known.
        readers: tensor -> how many nodes and outputs of the graph read it.
        names: hands out names for layers that the file has none for.
        input_orders: in which orders the graph has the axes of its inputs.
        plainly: reads a node as what it says by itself, whatever pattern it might be part of.
        unread: as in `OnnxNet`.
        inexact: tensor -> how it differs from what the graph has there.
    """

    batch: int
    opset: int
    constants: dict[str, Array]
    readers: Counter[str]
    names: Names
    plainly: Callable[[Walk, Node], None]
    input_orders: set[tuple[int, ...]] = field(default_factory=set[tuple[int, ...]])
    inputs: list[Input] = field(default_factory=list[Input])
    layers: list[Layer] = field(default_factory=list[Layer])
    parameters: dict[str, Array] = field(default_factory=dict[str, Array])
    shapes: dict[str, Shape] = field(default_factory=dict[str, Shape])
    firsts: dict[str, int] = field(default_factory=dict[str, int])
    values: dict[str, Value] = field(default_factory=dict[str, Value])
    unread: list[str] = field(default_factory=list[str])
    inexact: dict[str, str] = field(default_factory=dict[str, str])
    notes: list[str] = field(default_factory=list[str])

    def op(self, node: Node) -> Op:
        """A node for its reader."""
        return Op(node, self.opset, self.constants)

    # What a node reads

    def view(self, tensor: str) -> View:
        """A tensor that is an activation."""
        value = self._value(tensor)
        if isinstance(value, Response) and value.node:
            self.plainly(self, value.node)
            value = self._value(tensor)
        match value:
            case View():
                return value
            case Padded(fill=0):
                return self._bordered(tensor, value)
            case Padded():
                told = f"{tensor!r}, which is padded with {value.fill:g}"
                raise RefusalError(f"reads {told}; only a convolution or a pooling layer that pads alike can")
            case _:
                raise RefusalError(f"reads {tensor!r}, which is no float32 tensor")

    def _value(self, tensor: str) -> Value:
        if tensor in self.values:
            return self.values[tensor]
        if tensor in self.constants:
            raise RefusalError(f"reads the constant {tensor!r} where an activation is expected")
        raise RefusalError("an input is missing")

    def _bordered(self, tensor: str, padded: Padded) -> View:
        """An image with its border of zeros, which a convolution with a single 1 a channel gives it."""
        before, after, source = padded.before, padded.after, padded.view.activation
        channels, height, width = self.shapes[source]
        pad = max(before[0], after[0]), max(before[1], after[1])
        starts = pad[0] - before[0], pad[1] - before[1]
        cuts = {2 + i: (starts[i], starts[i] + before[i] + n + after[i]) for i, n in enumerate((height, width))}
        layer = Conv(
            name=tensor if before == after else self.step(tensor, "border"),
            inputs=(source,),
            out_channels=channels,
            kernel=(1, 1),
            pad=pad,
            groups=channels,
            bias=False,
        )
        self.cut(tensor, self.add(layer, weight=np.ones((channels, 1, 1, 1), np.float32)), cuts)
        made = replace(self.view(tensor), order=padded.view.order)
        self.values[tensor] = replace(made, shape=self.moved(made))
        return self.view(tensor)

    def sizes(self, tensor: str) -> Shape:
        """The sizes of a tensor, whatever is made of it later."""
        value = self._value(tensor)
        if isinstance(value, Counted | Places):
            return value.shape
        if isinstance(value, Whole):
            return value.view.shape
        if isinstance(value, Padded):
            grown = (0, 0, *(sum(ends) for ends in zip(value.before, value.after, strict=True)))
            return tuple(size + grown[axis] for size, axis in zip(value.view.shape, value.view.order, strict=True))
        if not isinstance(value, Response):
            return self.view(tensor).shape
        border = value.border or ((0, 0),) * len(value.shape)
        return tuple(size + sum(ends) for size, ends in zip(value.shape, border, strict=True))

    def plain(self, tensor: str) -> str:
        """The activation that is a tensor exactly: where axes were moved or merged, layers do so now."""
        view = self.view(tensor)
        moved = self.moved(view)
        if view.in_order and moved == view.shape:
            return view.activation
        self._check_batch(view.shape, moved)
        name = self._unused(tensor)
        source = self.view(tensor).activation
        if not view.in_order:
            last = name if moved == view.shape else self.step(tensor, "order")
            source = self.add(Permute(name=last, inputs=(source,), order=view.order))
        if moved != view.shape:
            first, *item = (0 if view.shape[0] == moved[0] else -1), *view.shape[1:]
            flat = Flatten(name=name, inputs=(source,))
            is_flat = first == 0 and len(item) == 1 and len(moved) > 1
            source = self.add(flat if is_flat else Reshape(name=name, inputs=(source,), dims=(first, *item)))
        self.values[tensor] = self.whole(source)
        return source

    def plains(self, tensors: Sequence[str]) -> list[str]:
        """`plain` of several; making one plain may give a layer of another a new name."""
        for tensor in tensors:
            self.plain(tensor)
        return [self.plain(tensor) for tensor in tensors]

    def _check_batch(self, shape: Shape, moved: Shape) -> None:
        """Refuse a shape that is no batch of items; a batch of any size may become one of more or fewer items."""
        moves = (
            self.batch == OPEN_BATCH and shape and not shape[0] % OPEN_BATCH and max(shape[1:], default=0) < OPEN_BATCH
        )
        if not shape or (shape[0] != moved[0] and not moves) or prod(shape) != prod(moved):
            raise RefusalError(f"makes {self.told(shape)} of a batch: its items are no longer apart")

    def moved(self, view: View) -> Shape:
        """The sizes of the activation of a view, its axes in the order of the view."""
        whole = self.whole(view.activation).shape
        return tuple(whole[i] for i in view.order)

    def told(self, shape: Shape) -> str:
        """A shape in words."""
        return " x ".join(map(_told, shape))

    def pointwise(self, tensor: str) -> View:
        """A tensor for a layer that does not ask where a number stands: moved axes stay moved."""
        view = self.view(tensor)
        return view if not view.in_order else self.whole(self.plain(tensor))

    def whole(self, activation: str) -> View:
        """An activation as it is."""
        shape = (self.firsts[activation], *self.shapes[activation])
        return View(activation=activation, order=tuple(range(len(shape))), shape=shape)

    def layer(self, activation: str) -> Layer | None:
        """The layer that makes an activation; None for an input."""
        return next((layer for layer in reversed(self.layers) if layer.name == activation), None)

    def needed(self, outputs: set[str]) -> list[Layer]:
        """The layers that activations depend on."""
        wanted, kept = set(outputs), list[Layer]()
        for layer in reversed(self.layers):
            if layer.name in wanted:
                wanted.update(layer.inputs)
                kept.append(layer)
        return kept[::-1]

    # What a node makes

    def add(self, layer: Layer, **parameters: Array) -> str:
        """A layer with its parameters by role; returns its name. An impossible one raises `SpecError`."""
        for item in fields(layer):
            value = getattr(layer, item.name)
            if any(
                isinstance(x, float) and not in_float32(x) for x in (value if isinstance(value, tuple) else (value,))
            ):
                raise RefusalError(f"its {item.name} is {value}, expected finite numbers")
        read = [self.shapes[name] for name in layer.inputs]
        self.shapes[layer.name] = shape = output_shape(layer, read)
        self.firsts[layer.name] = first_axis(layer, [self.firsts[name] for name in layer.inputs], read, shape)
        self.layers.append(layer)
        for role, array in parameters.items():
            if array.dtype != np.float32:
                raise RefusalError(f"its {role} is {array.dtype.name}, expected float32")
            self.parameters[f"{layer.name}.{role}"] = array
        return layer.name

    def put(self, tensor: str, layer: Layer, like: View | None = None, **parameters: Array) -> None:
        """A layer that makes a tensor; its axes lie as those of `like`, which it has the shape of."""
        name = self.add(layer, **parameters)
        self.values[tensor] = replace(like, activation=name) if like else self.whole(name)

    def step(self, tensor: str, what: str) -> str:
        """A name for a layer on the way to a tensor."""
        return self.names.fresh(f"{tensor}/{what}")

    def _unused(self, wanted: str) -> str:
        """A tensor's name for the layer that makes it; one on the way to it that has the name gets another."""
        if wanted not in self.shapes:
            return wanted
        made, aside = self.layer(wanted), self.step(wanted, "inner")
        if made is None:
            return self.names.fresh(wanted)
        self.rename(wanted, replace(made, name=aside))
        self.layers = [
            replace(layer, inputs=tuple(aside if name == wanted else name for name in layer.inputs))
            for layer in self.layers
        ]
        for tensor, value in self.values.items():
            if isinstance(value, Counted):
                continue
            view = value if isinstance(value, View) else value.view
            if view.activation == wanted:
                view = replace(view, activation=aside)
                self.values[tensor] = view if isinstance(value, View) else replace(value, view=view)
        return wanted

    def cut(self, tensor: str, source: str, ranges: Mapping[int, Pair]) -> None:
        """A tensor that is part of an activation; axis -> from, to."""
        shape = self.whole(source).shape
        needed = [(axis, cut) for axis, cut in ranges.items() if cut != (0, shape[axis])]
        for i, (axis, (start, stop)) in enumerate(needed):
            name = tensor if i == len(needed) - 1 else self.step(tensor, f"cut{axis}")
            source = self.add(Slice(name=name, inputs=(source,), start=start, stop=stop, axis=axis))
        self.values[tensor] = self.whole(source)

    def rename(self, old: str, layer: Layer, **parameters: Array) -> None:
        """Exchange a layer that no layer reads yet by one of another name, that may have more parameters."""
        at = next(i for i, item in enumerate(self.layers) if item.name == old)
        del self.layers[at], self.shapes[old]
        own = {role: self.parameters.pop(f"{old}.{role}") for role in ROLES if f"{old}.{role}" in self.parameters}
        self.add(layer, **own, **parameters)
        self.layers.insert(at, self.layers.pop())


def _told(size: int) -> str:
    items, rest = divmod(size, OPEN_BATCH)
    return str(size) if rest or not items else "N" if items == 1 else f"{items}N"
