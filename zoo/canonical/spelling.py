"""What a layer computes, whatever it is called: a chain of parts, each with a key in which equal ones are equal."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import prod
from typing import Any, TypeAlias

import numpy as np

from zoo import layers
from zoo.arrays import Array
from zoo.axes import affine_shape, axis_index
from zoo.layers import LOWEST, Conv, Dense, Layer, Pool, Shape
from zoo.shapes import permutation, power_constant, window

Key: TypeAlias = tuple[Hashable, ...]

# What does nothing more a second time; and what takes itself back.
BOUNDS, NEGATION = ("least", "most"), ("times", -1.0)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One thing that a layer does.

    Attributes:
        key: all that it does, its numbers and the sizes of what it reads included; its parameters not.
        parameters: role -> its numbers.
        commutes: whether the order of what it reads says nothing.
        factors: what each activation that it reads is multiplied by first; empty where by nothing.
    """

    key: Key
    parameters: Mapping[str, Array] = field(default_factory=dict[str, Array])
    commutes: bool = False
    factors: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where a layer stands.

    Attributes:
        sources: the shapes of what it reads, without the batch axis.
        shape: of what it makes.
        parameters: role -> its numbers.
    """

    sources: Sequence[Shape]
    shape: Shape
    parameters: Mapping[str, Array]

    @property
    def source(self) -> Shape:
        """The first of its sources."""
        return self.sources[0]


def parts(layer: Layer, site: Site) -> list[Part]:
    """What a layer does to the first activation that it reads, one after the other; nothing where it hands that on."""
    made = _SPELT.get(type(layer))
    try:
        found = made(layer, site) if made else None
    except _AlongTheBatchError:
        found = None
    return [_plainly(layer, site)] if found is None else found


def single(value: float) -> float:
    """A number as every framework holds it, in float32."""
    return float(np.float32(value))


def _plainly(layer: Layer, site: Site) -> Part:
    """A layer by its kind, its fields and the sizes of what it reads; whether it has a bias, its parameters say."""
    told = [getattr(layer, item.name) for item in fields(layer) if item.name not in ("name", "inputs", "bias")]
    return Part(key=(type(layer).__name__, *site.sources, *map(_number, told)), parameters=site.parameters)


def _number(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_number, value))
    return single(value) if isinstance(value, float) else value


class _AlongTheBatchError(Exception):
    """A layer works along the batch itself, so it does nothing that can be said of an item."""


def _around(layer: Layer, axis: int, shape: Shape) -> tuple[int, int, int]:
    """How many numbers stand before an axis, along it and behind it in an item."""
    at = axis_index(layer.name, axis, shape)
    if not at:
        raise _AlongTheBatchError
    return prod(shape[: at - 1]), shape[at - 1], prod(shape[at:])


def _gone(layer: Any, site: Site) -> list[Part]:
    return []


def _reshaped(layer: Any, site: Site) -> list[Part]:
    if prod(site.shape) == prod(site.source):
        return []
    return [Part(key=("more or fewer items", *site.sources, site.shape))]


def bias(parameters: Mapping[str, Array], *around: int) -> list[Part]:
    """The adding of a bias, which is nothing where all of it is zero or nobody says it."""
    numbers = parameters.get("bias")
    if numbers is None or not numbers.any():
        return []
    return [Part(key=("bias", *around), parameters={"bias": numbers.reshape(-1)})]


def _kernel(parameters: Mapping[str, Array]) -> dict[str, Array]:
    return {role: array for role, array in parameters.items() if role == "weight"}


def _conv(layer: Conv, site: Site) -> list[Part]:
    channels, height, width = site.source
    at, weight = window(layer, site.source), _kernel(site.parameters)
    added = bias(site.parameters, 1, site.shape[0], prod(site.shape[1:]))
    if layer.kernel == (height, width) and layer.groups == 1 and at.out == (1, 1) and layer.pad == (0, 0):
        merged = {role: array.reshape(len(array), -1) for role, array in weight.items()}
        return [Part(key=("dense", 1, channels * height * width, layer.out_channels), parameters=merged), *added]
    dilation = tuple(gap if side > 1 else 1 for gap, side in zip(layer.dilation, layer.kernel, strict=True))
    stride = tuple(step if out > 1 else 1 for step, out in zip(at.stride, at.out, strict=True))
    where = (at.kernel, stride, dilation, at.before, at.out)
    return [Part(key=("conv", site.source, layer.out_channels, layer.groups, *where), parameters=weight), *added]


def _dense(layer: Dense, site: Site) -> list[Part]:
    rows, size, behind = _around(layer, layer.axis, site.source)
    outputs = layer.out_features
    key = ("dense", rows, size * behind, outputs)
    return [Part(key=key, parameters=_kernel(site.parameters)), *bias(site.parameters, rows, outputs, 1)]


def _scale(layer: layers.Scale, site: Site) -> list[Part] | None:
    around = _along(layer, site)
    if around is None:
        return _of_two(layer, site, "prod")
    weight = site.parameters.get("weight")
    if weight is None:
        return [Part(key=("scale", *around))]
    factor = [] if (weight == 1).all() else [Part(key=("scale", *around), parameters={"weight": weight.reshape(-1)})]
    return [*factor, *bias(site.parameters, *around)]


def _bias(layer: layers.Bias, site: Site) -> list[Part] | None:
    around = _along(layer, site)
    if around is None:
        return _of_two(layer, site, "sum")
    return bias(site.parameters, *around) if site.parameters else [Part(key=("bias", *around))]


def _of_two(layer: layers.Scale | layers.Bias, site: Site, operation: str) -> list[Part] | None:
    """A Scale or Bias by an activation of the same shape."""
    is_plain = site.source == site.sources[1] and not (isinstance(layer, layers.Scale) and layer.bias)
    return [Part(key=("eltwise", operation), commutes=True)] if is_plain else None


def _along(layer: layers.Scale | layers.Bias, site: Site) -> tuple[int, int, int] | None:
    """Where the numbers of a one-input Scale or Bias go."""
    if len(site.sources) != 1:
        return None
    count, at = prod(affine_shape(layer, site.source)), axis_index(layer.name, layer.axis, site.source)
    before = prod(site.source[: at - 1])
    return before, count, prod(site.source) // (before * count)


def _norm(layer: layers.BatchNorm, site: Site) -> list[Part] | None:
    around = _around(layer, 1, site.source)
    if layer.batch_stats:  # its own statistics do not count
        return [Part(key=("norm by the batch", *around, single(layer.eps)))]
    return [Part(key=("norm", *around, single(layer.eps)), parameters=site.parameters)]


def _relu(layer: layers.ReLU, site: Site) -> list[Part]:
    slope = single(layer.negative_slope)
    return [Part(key=("leaky", slope) if slope else ("least", 0.0))]


def _prelu(layer: layers.PReLU, site: Site) -> list[Part]:
    around = (1, 1, prod(site.shape)) if layer.shared else _around(layer, 1, site.shape)
    told = {role: array.reshape(-1) for role, array in site.parameters.items()}
    return [Part(key=("prelu", around), parameters=told)]


def _power(layer: layers.Power, site: Site) -> list[Part] | None:
    if power_constant(layer) is not None:
        return None  # a constant, which does not read its input
    power, shift = single(layer.power), single(layer.shift)
    return [
        *times(layer.scale),
        *([Part(key=("plus", shift))] if shift else []),
        *([Part(key=("power", power))] if power != 1 else []),
    ]


def times(factor: float) -> list[Part]:
    """A product with one number."""
    return [] if single(factor) == 1 else [Part(key=("times", single(factor)))]


def _unary(layer: layers.Unary, site: Site) -> list[Part]:
    numbers = tuple(map(single, layer.numbers))
    if layer.function != "clip" or numbers[0] > numbers[1]:
        return [Part(key=(layer.function, *numbers))]
    limits = (("most", numbers[1]), -LOWEST), (("least", numbers[0]), LOWEST)
    return [Part(key=key) for key, idle in limits if key[1] != single(idle)]


def _called(name: str) -> Callable[..., list[Part]]:
    """A function of single numbers that has no numbers of its own."""
    return lambda *_: [Part(key=(name,))]


def _softmax(layer: layers.Softmax, site: Site) -> list[Part]:
    return [Part(key=("softmax", *_around(layer, layer.axis, site.source)))]


def _lrn(layer: layers.LRN, site: Site) -> list[Part]:
    numbers = (single(layer.alpha), single(layer.beta), single(layer.k))
    across = layer.region == "across"
    where = (site.shape[0], prod(site.shape[1:]), layer.towers) if across else (site.shape, layer.towers)
    return [Part(key=("lrn", layer.region, *where, layer.size, *numbers))]


def _pool(layer: Pool, site: Site) -> list[Part]:
    at = window(layer, site.source)
    stride = tuple(step if out > 1 else 1 for step, out in zip(at.stride, at.out, strict=True))
    return [Part(key=("pool", layer.mode, site.source, at.kernel, stride, at.before, at.out))]


def _concat(layer: layers.Concat, site: Site) -> list[Part]:
    if len(site.sources) == 1:
        return []
    around = [_around(layer, layer.axis, source) for source in site.sources]
    return [Part(key=("concat", around[0][0], *(size * behind for _, size, behind in around)))]


def _slice(layer: layers.Slice, site: Site) -> list[Part]:
    before, size, behind = _around(layer, layer.axis, site.source)
    start, stop = layer.start * behind, layer.stop * behind
    return [] if (start, stop) == (0, size * behind) else [Part(key=("slice", before, start, stop, size * behind))]


def _permute(layer: layers.Permute, site: Site) -> list[Part]:
    sizes = (0, *site.source)
    kept = [axis for axis in permutation(layer, site.source) if axis and sizes[axis] != 1]
    if kept == sorted(kept):
        return []
    places = sorted(kept)
    return [Part(key=("permute", tuple(sizes[axis] for axis in places), tuple(map(places.index, kept))))]


def _tile(layer: layers.Tile, site: Site) -> list[Part]:
    if layer.tiles == 1:
        return []
    before, size, behind = _around(layer, layer.axis, site.source)
    return [Part(key=("tile", before, size * behind, layer.tiles))]


def _shuffle(layer: layers.Shuffle, site: Site) -> list[Part]:
    key = ("shuffle", layer.groups, site.shape[0] // layer.groups, prod(site.shape[1:]))
    return [] if layer.groups in (1, site.shape[0]) else [Part(key=key)]


def _eltwise(layer: layers.Eltwise, site: Site) -> list[Part]:
    if len(site.sources) == 1:
        return times(*layer.coeffs or (1.0,))
    return [Part(key=("eltwise", layer.operation), commutes=True, factors=layer.coeffs)]


def _reduction(layer: layers.Reduction, site: Site) -> list[Part]:
    before, size, behind = _around(layer, layer.axis, site.source)
    return [Part(key=("reduction", layer.operation, before, size * behind)), *times(layer.coeff)]


def _interp(layer: layers.Interp, site: Site) -> list[Part]:
    return [Part(key=("interp", site.source, layer.pad_beg, layer.pad_end, site.shape))]


def _unpool(layer: layers.Unpool, site: Site) -> list[Part]:
    return [Part(key=("unpool", site.source, site.shape))]


def _arg_max(layer: layers.ArgMax, site: Site) -> list[Part]:
    where = None if layer.axis is None else axis_index(layer.name, layer.axis, site.source)
    return [Part(key=("argmax", site.source, where, layer.top_k, layer.out_max_val))]


# Kinds that have another spelling, their own or another kind's. All others are what their fields say.
_SPELT: dict[type, Callable[..., list[Part] | None]] = {
    layers.ArgMax: _arg_max,
    layers.BatchNorm: _norm,
    layers.Bias: _bias,
    layers.Concat: _concat,
    layers.Conv: _conv,
    layers.Dense: _dense,
    layers.Dropout: _gone,
    layers.Eltwise: _eltwise,
    layers.Flatten: _reshaped,
    layers.Interp: _interp,
    layers.LRN: _lrn,
    layers.PReLU: _prelu,
    layers.Permute: _permute,
    layers.Pool: _pool,
    layers.Power: _power,
    layers.ReLU: _relu,
    layers.Reduction: _reduction,
    layers.Reshape: _reshaped,
    layers.Scale: _scale,
    layers.Shuffle: _shuffle,
    layers.Sigmoid: _called("sigmoid"),
    layers.Slice: _slice,
    layers.Softmax: _softmax,
    layers.TanH: _called("tanh"),
    layers.Tile: _tile,
    layers.Unary: _unary,
    layers.Unpool: _unpool,
}
