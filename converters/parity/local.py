"""Every layer by itself: dense inputs at several scales, so that no unit is silent, saturated or out of reach.

Along the network a ReLU hides half of what comes after it, and noise stays below every clip. Here each layer gets noise
of its own, and each number of its result a bound of its own: the sum of |w| |x| that made it, or its channel's peak, so
that no loud neighbour hides a quiet one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod

import numpy as np

from converters.metric import defect, logarithms, peak_of
from converters.parity.noise import Range, dense_inputs
from converters.parity.segments import Segment
from converters.verdicts import DEFAULT_BUDGET
from converters.weights import Array
from zoo import reference as oracle
from zoo.batches import kept_from, mixes_items
from zoo.layers import (
    LRN,
    Axpy,
    BatchNorm,
    Bias,
    Concat,
    Constant,
    Conv,
    Crop,
    Deconv,
    Dense,
    Dropout,
    Eltwise,
    Flatten,
    Interp,
    Layer,
    Permute,
    Pool,
    PReLU,
    PriorBox,
    Reduction,
    ReLU,
    Reshape,
    Scale,
    Shape,
    Shuffle,
    Sigmoid,
    Slice,
    Softmax,
    TanH,
    Tile,
    Unary,
)
from zoo.parameters import parameters_of
from zoo.reference.weighted import weighted_sums
from zoo.wire.cores import in_cache

# Runtimes make a TanH or a Sigmoid of fractions of polynomials, off by up to 3e-7 of one (TensorFlow's). The budget's
# share of this is three times as much.
_APPROXIMATED = 0.1

# A sum of squares in float32 that is larger has lost no digit to terms too small for it.
_FAINT = 1e-30


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A segment on its bench.

    Attributes:
        inputs: activation read -> batch, float32, one sample a scale.
        right: what the reference gives, float64.
        bound: what each number's error is relative to; broadcast to the shape of `right`, and its sign means nothing.
        exercised: layer of the segment -> the share of its inputs and parameters that took part.
    """

    inputs: Mapping[str, Array]
    right: Array
    bound: Array
    exercised: Mapping[str, float]


@np.errstate(all="ignore")  # what is not finite is no bench
def bench(
    weights: Mapping[str, Array],
    segment: Segment,
    shapes: Mapping[str, Shape],
    ranges: Mapping[str, Range],
    peak: float,
    seed: int,
) -> Bench | None:
    """Dense inputs for a segment and the reference's answer; None where it has no finite one on any of them, or
    where samples are not its own.

    Args:
        weights: of the right network.
        segment: of it.
        shapes: activation or input -> its shape.
        ranges: activation -> what it can be (`ranges_of`): a layer need not be right on what it can never read.
        peak: the largest number that it reads along the network.
        seed: of the noise.
    """
    if not segment.reads or not all(_keeps_items(layer, shapes) for layer in segment.layers):
        return None  # a sample more or less changes the others
    for positive in (False, True):  # a root or a logarithm wants positive numbers
        inputs = dense_inputs(segment, shapes, ranges, peak, seed, positive=positive)
        known: dict[str, Array] = {name: np.asarray(batch, np.float64) for name, batch in inputs.items()}
        bounds, shares = dict[str, Array](), dict[str, float]()
        for layer in segment.layers:
            reads, parameters = [known[name] for name in layer.inputs], parameters_of(weights, layer.name)
            sizes = [
                np.broadcast_to(np.asarray(bounds[name], np.float64), read.shape) if name in bounds else read
                for name, read in zip(layer.inputs, reads, strict=True)
            ]
            y = known[layer.name] = oracle.apply(layer, reads, parameters)
            bound = _bound(layer, y, reads, sizes, parameters)
            if _hands_on(layer) and shares:
                bound = np.maximum(bound, sizes[0])  # the rounding of what the segment made before it
            bounds[layer.name] = bound
            shares[layer.name] = exercised(layer, reads, parameters)
        right = known[segment.target]
        if np.isfinite(peak_of(right)):
            return Bench(inputs=inputs, right=right, bound=bounds[segment.target], exercised=shares)
    return None


def reads_sizes_alone(segment: Segment) -> bool:
    """Whether what it reads has no numbers that count: there is nothing to feed it with."""
    return all(isinstance(layer, Constant | PriorBox) for layer in segment.layers)


def _hands_on(layer: Layer) -> bool:
    """Whether it is a function of single numbers, nowhere steeper than the identity, that may end in a narrow range."""
    return isinstance(layer, Unary) and layer.function in ("abs", "bnll", "clip", "elu")


def _keeps_items(layer: Layer, shapes: Mapping[str, Shape]) -> bool:
    reads = [shapes[name] for name in layer.inputs]
    # A batch that is repeated whole has the same statistics.
    alone = isinstance(layer, BatchNorm) or not mixes_items(layer, reads)
    return alone and kept_from(layer, reads, shapes[layer.name]) == 0


# What is smaller than float32's smallest normal number (1.2e-38) is zero to runtimes that flush it, and a few digits to
# others. All that a layer makes of such numbers, a dead channel's say, is smaller than this, and no error.
_FLUSHED = 1e-30


def off_by(y: Array, right: Array) -> Array:
    """How far numbers are from the right ones, float64."""
    errors = np.subtract(y, right, dtype=np.float64)
    np.abs(errors, out=errors)
    errors[errors < _FLUSHED] = 0.0
    return errors


def error_alone(y: Array | None, bench: Bench, segment: Segment) -> tuple[float | None, str | None]:
    """The largest error of a segment's answer, each number against its own bound; or why there is none."""
    right, bound = bench.right, bench.bound
    if y is None or y.shape != right.shape:
        return None, f"by itself: {defect(y, right)}"
    if isinstance(segment.layers[-1], Softmax) and not defect(y, right):
        # A small probability says as much as a large one, by its logarithm. That is as exact as the logits, where the
        # segment makes them; where it is fed with them, they are exact.
        y, right = logarithms(y, right)
        peak = _layer_peak(right)
        bound = np.maximum(bound if segment.layers[:-1] else 0.0, np.where(peak > 0, peak, 1.0))
    bound = np.broadcast_to(bound, right.shape)
    shares = [_largest_share(off_by(y[part], right[part]), bound[part]) for part in in_cache(right.shape)]
    worst = float(np.max(shares, initial=0.0))
    if np.isfinite(worst):
        return worst, None
    told = defect(y, right)
    return None, f"by itself: {told}" if told else "by itself, on dense inputs: not zero, where it should be"


def _largest_share(errors: Array, bound: Array) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = errors / bound
    worst = peak_of(shares)
    # No error of a number that is 0 by all that made it.
    return peak_of(shares[(bound != 0) | (errors != 0)]) if np.isnan(worst) else worst


def exercised(layer: Layer, reads: Sequence[Array], parameters: Mapping[str, Array]) -> float:
    """The share of a layer's inputs, or of its weights if fewer, that met something other than zero in some sample.

    A number of a kernel is met where its input channel is; a column of a dense layer, where its input is.
    """
    if isinstance(layer, PriorBox):
        return 1.0  # it reads sizes
    if isinstance(layer, Conv) and "weight" in parameters:
        # The kernel slides: a channel that is anything anywhere meets all of its numbers.
        return float(np.mean((reads[0] != 0).any(axis=(0, *range(2, reads[0].ndim)))))
    shares = [float(np.mean((read != 0).any(axis=0))) if read.size else 1.0 for read in reads]
    return min(shares, default=1.0)


def _bound(
    layer: Layer, y: Array, reads: Sequence[Array], sizes: Sequence[Array], parameters: Mapping[str, Array]
) -> Array:
    """What the error of each number of `y` is relative to: the sizes of all that was added up to make it.

    Args:
        layer: the layer.
        y: what it gives.
        reads: what it reads.
        sizes: the same for what it reads; at the start of a segment that itself, of either sign.
        parameters: of the layer.
    """
    if isinstance(layer, Conv | Deconv | Dense | Scale | Bias):
        # Rounding errors of a sum add up as its terms do, by chance: sum |w| |x| is sqrt(N) too loose for N terms,
        # a hundred times for AlexNet's fc6, and would hide a weight that is wrong by a thousandth.
        bound = _squares(layer, sizes, parameters)
        for part in in_cache(bound.shape):
            np.sqrt(bound[part], out=bound[part])
            bound[part] += np.abs(y[part])
        return bound
    sizes = [np.abs(size) for size in sizes]
    match layer:
        case BatchNorm(batch_stats=False):
            return oracle.apply(layer, sizes, {**parameters, "mean": -np.abs(parameters["mean"])})
        case Eltwise():
            return oracle.apply(replace(layer, coeffs=tuple(abs(c) for c in layer.coeffs)), sizes, {})
        case Pool(mode="ave"):  # a sum as well, of as many terms as there are places in the window
            count = prod(sizes[0].shape[2:] if layer.global_pool else layer.kernel)
            return np.sqrt(oracle.apply(layer, [np.square(sizes[0])], {}) / count) + np.abs(y)
        case Pool() | Dropout() | Flatten() | Reshape() | Permute() | Tile() | Concat() | Slice():
            return oracle.apply(layer, sizes, {})
        case ReLU():
            return sizes[0] if abs(layer.negative_slope) <= 1 else sizes[0] * abs(layer.negative_slope)
        case PReLU():
            return sizes[0] * np.maximum(1.0, np.abs(oracle.apply(layer, [-np.ones_like(y)], parameters)))
        case LRN():
            factors = np.abs(np.divide(y, reads[0], out=np.zeros_like(y), where=reads[0] != 0))
            return sizes[0] * _channel_peak(factors)
        case Reduction():
            return oracle.apply(replace(layer, coeff=abs(layer.coeff)), sizes, {})
        case Interp() | Crop() | Shuffle() | Axpy():
            return oracle.apply(layer, sizes, {})
        case Softmax():
            return sizes[0].max(axis=layer.axis, keepdims=True, initial=0.0)
        case Sigmoid() | TanH():
            # What it reads is off by, where it is steepest within that; and what rounding leaves of one.
            bent = oracle.apply(layer, [np.maximum(np.abs(reads[0]) - DEFAULT_BUDGET * sizes[0], 0.0)], {})
            slope = bent * (1 - bent) if isinstance(layer, Sigmoid) else 1 - bent**2
            return sizes[0] * slope + _APPROXIMATED
        case _:
            return _layer_peak(y)


def _squares(layer: Layer, sizes: Sequence[Array], parameters: Mapping[str, Array]) -> Array:
    """What a layer with weights makes of numbers and weights that are all squared.

    Of sums of many terms float32 makes as good a yardstick, at half the cost; but for one that is past it, or so small
    that terms of it may be lost.
    """
    if isinstance(layer, Conv | Dense):
        y = weighted_sums(
            layer, np.square(sizes[0], dtype=np.float32), parameters, partial(np.square, dtype=np.float32)
        )
        if y.min(initial=1.0) > _FAINT and y.max(initial=1.0) < np.inf:
            return y
        return weighted_sums(layer, np.square(sizes[0]), parameters, partial(np.square, dtype=np.float64))
    squares = {name: np.square(x, dtype=np.float64) for name, x in parameters.items()}
    return oracle.apply(layer, [np.square(size) for size in sizes], squares)


def _channel_peak(y: Array) -> Array:
    """The largest of each map of each sample; of a vector, of all of it."""
    return np.abs(y).max(axis=tuple(range(2 if y.ndim > 2 else 1, y.ndim)), keepdims=True, initial=0.0)


def _layer_peak(y: Array) -> Array:
    return np.abs(y).max(axis=tuple(range(1, y.ndim)), keepdims=True, initial=0.0)
