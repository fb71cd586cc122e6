"""Dense noise for layers by themselves: at several scales, of both signs, within what they can ever read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import prod
from typing import TypeAlias
from zlib import crc32

import numpy as np

from converters.parity.segments import Segment
from converters.weights import Array
from zoo.layers import (
    LRN,
    Concat,
    Dense,
    Dropout,
    Eltwise,
    Flatten,
    Layer,
    ModelSpec,
    Permute,
    Pool,
    PoolMask,
    Power,
    ReLU,
    Reshape,
    Shape,
    Sigmoid,
    Slice,
    Softmax,
    TanH,
    Tile,
    Unary,
)

# Deviations of the noise: as small as a normalised picture and, where a layer only scales, larger than any activation
# that a clip may have been made for.
_SMALL, _LARGE = 1.0, 1e5

# A unit of a dense layer that is not shown has one number a sample, which a ReLU behind it hides in half of them.
_ROUNDS = 6

# So many times what is read along the network is past any bound that hides there.
_BEYOND = 8.0

# So many numbers are drawn for all noise of a seed: a prime.
_PERIOD = 1_048_573

# A larger power of the largest noise is past float32, and one below 0 has a pole.
_STEEP = 4.0

# The smallest and the largest number of an activation.
Range: TypeAlias = tuple[float, float]
_ANY: Range = (-np.inf, np.inf)

# Of fewer numbers than these, chance may leave all but one on one side of a bound: half of them are given either sign.
_FEW = 64

# What a function of a narrow range is fed with: its bend, and both its ends.
_BEND = (0.3, 2.0, 6.0)

# Past this a Sigmoid is 0 or 1 in float32. A few numbers by chance would leave out most of what lies before.
_SATURATES = 16.0

# So many powers of ten below the others are the numbers beside zeros.
_FAINTER = 5.0


def ranges_of(spec: ModelSpec, shapes: Mapping[str, Shape]) -> dict[str, Range]:
    """Activation of a network -> the smallest and the largest number that it can hold, whatever is fed.

    Args:
        spec: the network.
        shapes: activation or input -> its shape.
    """
    wiring, found = spec.wiring(), dict[str, Range]()
    for layer in spec.layers:
        reads = [found.get(name, _ANY) for name in wiring[layer.name]]
        low, high = min((low for low, _ in reads), default=-np.inf), max((high for _, high in reads), default=np.inf)
        match layer:
            case ReLU(negative_slope=0.0):
                found[layer.name] = (0.0, max(high, 0.0))
            case Unary(function="clip", numbers=(least, most)):
                found[layer.name] = (least, max(least, most))
            case Unary(function="abs" | "bnll" | "exp"):
                found[layer.name] = (0.0, np.inf)
            case Sigmoid() | Softmax() | Unary(function="threshold"):
                found[layer.name] = (0.0, 1.0)
            case TanH():
                found[layer.name] = (-1.0, 1.0)
            case (
                Dropout()
                | Flatten()
                | Reshape()
                | Permute()
                | Tile()
                | Slice()
                | Concat()
                | Pool()
                | Eltwise(operation="max")
            ):
                found[layer.name] = (low, high)
            case PoolMask():
                found[layer.name] = (0.0, float(prod(shapes[wiring[layer.name][0]][1:]) - 1))
            case LRN() if low >= 0:
                found[layer.name] = (0.0, np.inf)
            case _:
                found[layer.name] = _ANY
    return found


def dense_inputs(
    segment: Segment,
    shapes: Mapping[str, Shape],
    ranges: Mapping[str, Range],
    peak: float,
    seed: int,
    *,
    positive: bool,
) -> dict[str, Array]:
    """What a segment reads -> batch, float32, one sample a scale; arguments as of `converters.parity.local.bench`."""
    large = max(_LARGE, _BEYOND * peak)
    deviations = _deviations(segment.layers, large)
    if any(isinstance(layer, Dense) for layer in segment.layers[:-1]):
        deviations *= _ROUNDS
    can_be = {name: ranges.get(name, _ANY) for name in segment.reads}
    if any(map(_is_narrow, can_be.values())):
        deviations = (*deviations, *deviations[:2])
    zeros = not positive and all(low <= 0 <= high for low, high in can_be.values())
    inputs = {
        name: _noise(f"{segment.target}/{name}", shapes[name], deviations, large, seed, of, positive, zeros)
        for name, of in can_be.items()
    }
    if all(isinstance(layer, Sigmoid | TanH) for layer in segment.layers) and set(can_be.values()) == {_ANY}:
        inputs = {name: _all_along(batch) for name, batch in inputs.items()}
    if isinstance(segment.layers[0], Softmax) and can_be[segment.reads[0]] == _ANY:
        _move_together(inputs[segment.reads[0]], large)
    return inputs


def _noise(
    name: str,
    shape: Shape,
    deviations: Sequence[float],
    large: float,
    seed: int,
    of: Range,
    positive: bool,
    zeros: bool,
) -> Array:
    """A sample a scale: normal, and uniform in size where it is large, for running sums lose the small beside it.

    With `zeros`, one more: half of its numbers are zero, and all of some places, as behind a ReLU (`_drop_some`), and
    the others of any size.
    """
    generator, size = np.random.default_rng((seed, crc32(name.encode()), 2)), prod(shape)
    normal, uniform = _drawn(seed)
    low, high = of
    deviations = (*deviations, deviations[0]) if zeros else deviations
    drawn = np.empty((len(deviations), *shape), np.float32)
    for sample, scale in enumerate(deviations):
        numbers = drawn[sample, ...].reshape(-1)
        if _is_narrow(of):  # each place has both ends, and what lies between
            shares = _some(uniform, generator, size)
            ends = (shares < 0.5, drawn[0, ...].reshape(-1) == low)
            np.multiply(ends[sample] if sample < len(ends) else shares, high - low, out=numbers)
            numbers += low
            continue
        numbers[:] = _some(normal if scale < large else uniform, generator, size)
        if scale >= large:
            _take_sides(numbers, generator)
        if positive or low >= 0:
            np.abs(numbers, out=numbers)
            numbers += np.float32(0.01)
        numbers *= scale
        if sample % 2 and low < 0 and not positive:  # each place has both signs: no ReLU silences both
            np.copysign(drawn[sample - 1, ...], -drawn[sample, ...], out=drawn[sample - 1, ...])
    if zeros:
        drawn[-1, ...] *= (10.0 ** (-_FAINTER * _some(uniform, generator, size))).reshape(shape)
        _drop_some(drawn[-1, ...], _some(normal, generator, size), low)
    return drawn


def _is_narrow(of: Range) -> bool:
    low, high = of
    return bool(np.isfinite(low) and np.isfinite(high))


def _all_along(batch: Array) -> Array:
    """A batch of a few numbers, and samples of as many more as show every part of a Sigmoid."""
    size = batch[0].size
    more = -(-_FEW // size) if size < _FEW else 0
    numbers = np.linspace(-_SATURATES, _SATURATES, more * size, dtype=np.float32)
    return np.concatenate([batch, numbers.reshape(size, more).T.reshape(more, *batch.shape[1:])])


def _take_sides(numbers: Array, generator: np.random.Generator) -> None:
    """Make numbers of 0 to 1 some of either sign, and of no size below a half."""
    numbers -= 0.5
    numbers += np.copysign(np.float32(0.5), numbers)
    if numbers.size < _FEW:
        np.copysign(numbers, generator.permutation(np.arange(numbers.size) % 2 - 0.5), out=numbers)


@lru_cache(maxsize=1)
def _drawn(seed: int) -> tuple[Array, Array]:
    """Normal and uniform numbers, for all noise of one seed: drawing them anew would take longer than to judge.

    As many as a prime: where they begin again, they fall on other places of a map.
    """
    generator = np.random.default_rng((seed, 2))
    normal, uniform = generator.standard_normal(_PERIOD, np.float32), generator.random(_PERIOD, np.float32)
    return np.tile(normal, 2), np.tile(uniform, 2)


def _some(drawn: Array, generator: np.random.Generator, size: int) -> Array:
    """So many numbers of those drawn, from a place of their own on."""
    start = int(generator.integers(_PERIOD))
    return drawn[start : start + size] if size <= _PERIOD else np.resize(drawn[start : start + _PERIOD], size)


def _move_together(batch: Array, large: float) -> None:
    """A softmax is the same of numbers that are moved together: one sample far up, one far down, past any bound."""
    batch[0] += np.float32(large)
    batch[1] -= np.float32(large)


def _drop_some(sample: Array, chances: Array, low: float) -> None:
    """Half of the numbers are zero, by as many normal ones, and every eighth channel and every eighth place.

    But every fourth channel is below zero everywhere: a zero in each window would hide from a maximum what is there.
    """
    below = np.maximum(-np.abs(sample), np.float32(low))
    sample *= chances.reshape(sample.shape) > 0
    if sample.ndim > 1:
        sample[7::8] = 0.0
        sample.reshape(len(sample), -1)[:, 7::8] = 0.0
        if low < 0:
            sample[1::4] = below[1::4]


def _deviations(layers: Sequence[Layer], large: float) -> tuple[float, ...]:
    """The scales that show what a segment does: as many samples."""
    powers = [layer.power for layer in layers if isinstance(layer, Power)]
    if any(not 0 <= power <= _STEEP for power in powers):
        return _BEND
    if any(isinstance(layer, Unary) and layer.function in {"exp", "log"} for layer in layers):
        return _BEND
    if any(isinstance(layer, Unary) for layer in layers):
        return (*_BEND, _LARGE)
    if any(isinstance(layer, Sigmoid | TanH | Softmax) for layer in layers) or any(p not in (0, 1) for p in powers):
        return (*_BEND, large)
    norms = [layer for layer in layers if isinstance(layer, LRN)]
    if norms:
        # Where alpha * x^2 is as large as k, all four numbers of the formula tell.
        even = max((abs(norm.k / norm.alpha) ** 0.5 for norm in norms if norm.alpha and norm.k), default=_SMALL)
        return (_SMALL, min(even / 2, large), min(even, large), large)
    return (_SMALL, large)
