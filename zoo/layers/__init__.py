"""The closed union of layer kinds, and `ModelSpec`, a network as inert data.

Standard library only: a spec can be read, compared and printed where no framework is installed.

Conventions, for every kind:

* Every layer has exactly one output, named after the layer. Shapes leave the batch axis out: an image is
  ``(C, H, W)``, a vector ``(C,)``. An ``axis`` counts the batch as axis 0 and may be negative, as in Caffe.
* ``inputs`` names the activations read; left empty it means "the layer listed before" (a chain).
* Pairs are (height, width).
* The *meaning* of each kind is its float64 function in ``zoo.reference``; the docstrings state it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from zoo.errors import UnknownNameError

Shape: TypeAlias = tuple[int, ...]
Pair: TypeAlias = tuple[int, int]
Rounding: TypeAlias = Literal["floor", "ceil"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Named:
    name: str
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Conv(_Named):
    """2-D cross-correlation, zero padded; parameters ``weight`` (O, I/groups, H, W) and ``bias`` (O,).

    ``rounding="ceil"`` rounds the output size up and reads zeros past the bottom and right edge, as
    cuda-convnet did in 2012; every other framework rounds down.
    """

    out_channels: int
    kernel: Pair
    stride: Pair = (1, 1)
    pad: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    bias: bool = True
    rounding: Rounding = "floor"


@dataclass(frozen=True, kw_only=True, slots=True)
class Dense(_Named):
    """``y = W x + b`` over the axes from ``axis`` on, flattened C, H, W; ``weight`` (O, I), ``bias`` (O,)."""

    out_features: int
    bias: bool = True
    axis: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool(_Named):
    """Pooling with Caffe's window rules (BVLC caffe, ``pooling_layer.cpp``).

    Padding never wins a ``max``; an ``ave`` divides by the window clipped to the *padded* image. With any pad, a last
    window that would start at or past ``size + pad`` is dropped. ``global_pool`` takes the whole image as the window.
    """

    mode: Literal["max", "ave"]
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    pad: Pair = (0, 0)
    rounding: Rounding = "ceil"
    global_pool: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class LRN(_Named):
    """Local response normalisation, ``x * (k + alpha/n * sum(x^2))^-beta``.

    ``region="across"``: the window is ``size`` channels (odd), n = size; ``towers`` equal blocks of channels are
    normalised apart, so that a window stops at the tower boundary (2012 paper, section 3.3 and the two-GPU code).
    ``region="within"``: the window is size x size pixels of the same map, zero padded, n = size^2.
    """

    size: int
    alpha: float
    beta: float
    k: float = 1.0
    towers: int = 1
    region: Literal["across", "within"] = "across"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReLU(_Named):
    """``max(x, 0) + negative_slope * min(x, 0)``."""

    negative_slope: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Sigmoid(_Named):
    """``1 / (1 + exp(-x))``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TanH(_Named):
    """``tanh(x)``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Power(_Named):
    """``(shift + scale * x) ^ power``."""

    power: float = 1.0
    scale: float = 1.0
    shift: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Dropout(_Named):
    """The identity at inference; in training drops a share ``ratio`` and scales the rest by ``1 / (1 - ratio)``."""

    ratio: float = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Softmax(_Named):
    """``exp(x) / sum(exp(x))`` along ``axis``."""

    axis: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Flatten(_Named):
    """Axes ``axis`` to ``end_axis`` (inclusive) become one, in C, H, W order."""

    axis: int = 1
    end_axis: int = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class Concat(_Named):
    """Inputs joined along ``axis``."""

    axis: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice(_Named):
    """``x[start:stop]`` along ``axis``. A Caffe Slice with several tops is several of these."""

    start: int
    stop: int
    axis: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Eltwise(_Named):
    """Inputs of one shape combined: ``sum`` (weighted by ``coeffs``, default all 1), ``prod`` or ``max``."""

    operation: Literal["sum", "prod", "max"] = "sum"
    coeffs: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale(_Named):
    """``x * weight (+ bias)``, broadcast from ``axis`` on over ``num_axes`` axes (-1: all the rest).

    With two inputs the second one, batch axis included, is the multiplier (``axis`` must then be 0) and there is no
    ``weight``.
    """

    axis: int = 1
    num_axes: int = 1
    bias: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Bias(_Named):
    """``x + bias``, broadcast from ``axis`` on over ``num_axes`` axes; two inputs as in `Scale`."""

    axis: int = 1
    num_axes: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchNorm(_Named):
    """``(x - mean) / sqrt(variance + eps)`` a channel; parameters ``mean`` and ``variance`` (C,), no affine part.

    ``batch_stats`` takes both (biased variance) from the batch at hand, as Caffe's ``use_global_stats: false``.
    """

    eps: float = 1e-5
    batch_stats: bool = False


Layer: TypeAlias = (
    Conv
    | Dense
    | Pool
    | LRN
    | ReLU
    | Sigmoid
    | TanH
    | Power
    | Dropout
    | Softmax
    | Flatten
    | Concat
    | Slice
    | Eltwise
    | Scale
    | Bias
    | BatchNorm
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Input:
    """A named input of the network; ``shape`` without the batch axis."""

    name: str = "data"
    shape: Shape


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocessing:
    """How an RGB image becomes the network's input: resize the short side, centre crop, order, scale, (x - mean) / std.

    ``scale`` multiplies the 0..255 pixels first (1 keeps them, 1/255 gives 0..1); ``mean`` and ``std`` are in that
    range and in ``channels`` order.
    """

    channels: Literal["RGB", "BGR"] = "RGB"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    resize: int = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """A network: a DAG of layers, listed in the order they run."""

    name: str
    title: str
    inputs: tuple[Input, ...]
    layers: tuple[Layer, ...]
    preprocessing: Preprocessing | None = None

    def layer(self, name: str) -> Layer:
        """The layer of that name; raises `UnknownNameError`."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise UnknownNameError("layer", name, (layer.name for layer in self.layers))

    def wiring(self) -> dict[str, tuple[str, ...]]:
        """Layer name -> the activations it reads, chains written out."""
        previous, wires = self.inputs[0].name, dict[str, tuple[str, ...]]()
        for layer in self.layers:
            wires[layer.name] = layer.inputs or (previous,)
            previous = layer.name
        return wires

    @property
    def file_name(self) -> str:
        """The name as a file's, without a suffix: a stranger's network may be called ``../../x``."""
        return re.sub(r"[^0-9A-Za-z._-]+", "_", self.name).lstrip(".")[:100] or "network"

    @property
    def outputs(self) -> tuple[str, ...]:
        """The activations no layer reads."""
        read = {name for names in self.wiring().values() for name in names}
        return tuple(layer.name for layer in self.layers if layer.name not in read)

    @property
    def head(self) -> Conv | Dense | None:
        """The last layer with an ordinary weight: the classifier, whose output are the logits."""
        return next((layer for layer in reversed(self.layers) if isinstance(layer, Conv | Dense)), None)

    def replace_layer(self, layer: Layer) -> ModelSpec:
        """This network with the layer of the same name exchanged."""
        self.layer(layer.name)
        return replace(self, layers=tuple(layer if old.name == layer.name else old for old in self.layers))

    def change(self, name: str, **fields: Any) -> ModelSpec:
        """This network with some fields of one layer changed: ``spec.change("norm1", k=1.0)``."""
        return self.replace_layer(replace(self.layer(name), **fields))

    def without(self, *names: str) -> ModelSpec:
        """This chain with layers left out."""
        for name in names:
            self.layer(name)
        return replace(self, layers=tuple(layer for layer in self.layers if layer.name not in names))

    def insert(self, layer: Layer, *, after: str) -> ModelSpec:
        """This chain with one more layer."""
        at = self.layers.index(self.layer(after)) + 1
        return replace(self, layers=(*self.layers[:at], layer, *self.layers[at:]))

    def move(self, name: str, *, after: str) -> ModelSpec:
        """This chain with a layer at another place."""
        return self.without(name).insert(self.layer(name), after=after)

    def with_num_classes(self, num_classes: int) -> ModelSpec:
        """This network with another number of outputs in its `head`."""
        match self.head:
            case Dense() as head:
                return self.replace_layer(replace(head, out_features=num_classes))
            case Conv() as head:
                return self.replace_layer(replace(head, out_channels=num_classes))
            case None:
                return self

    def with_input_size(self, size: int) -> ModelSpec:
        """This network for square images of another size."""
        return replace(self, inputs=tuple(replace(i, shape=(*i.shape[:-2], size, size)) for i in self.inputs))
