"""How far a float32 sum may honestly be off: as its partial sums are large, not as its terms.

A runtime may add the terms of a convolution one after the other. What each addition rounds off is in proportion to the
sum so far, which now and then wanders to several times the root of the sum of squares that bounds it elsewhere, and
comes back. Of thousands of numbers a few are off by that. TensorFlow's convolutions are such sums, over H, W, C.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from converters.parity.local import Bench, off_by
from converters.parity.segments import Segment
from converters.weights import Array
from zoo.layers import Conv, Dense, Layer, ReLU

# More numbers than these do not happen to wander: something else is wrong.
_FEW = 64


def widened(segment: Segment, bench: Bench, y: Array, weights: Mapping[str, Array], budget: float) -> Bench | None:
    """A bench on which the few numbers that are out of bounds are held to their largest partial sum.

    Args:
        segment: a convolution or a dense layer, and ReLUs behind it.
        bench: its own.
        y: what it gave.
        weights: of the network, by canonical name.
        budget: the largest error of a right number.

    Returns:
        None for other segments, and where the numbers are not few.
    """
    first, *others = segment.layers
    is_sum = isinstance(first, Conv) or (isinstance(first, Dense) and first.axis == 1)
    if not is_sum or not all(isinstance(layer, ReLU) for layer in others):
        return None
    bound = np.array(np.broadcast_to(bench.bound, bench.right.shape), np.float64)
    over = np.argwhere(off_by(y, bench.right) > budget * bound)
    if len(over) > _FEW:
        return None
    read, weight = bench.inputs[first.inputs[0]], weights[f"{first.name}.weight"]
    for place in map(tuple, over):
        farthest = max(float(np.abs(np.cumsum(terms)).max()) for terms in _terms(first, read, weight, place))
        bound[place] = max(bound[place], farthest)
    return replace(bench, bound=bound)


def _terms(layer: Layer, read: Array, weight: Array, place: tuple[int, ...]) -> Iterator[Array]:
    """What is added up for one number, in the orders in which it may be added."""
    sample, unit, *at = place
    kernel = np.asarray(weight[unit], np.float64)
    if not isinstance(layer, Conv):
        yield kernel * read[sample].reshape(-1)[: kernel.size]
        return
    ends = [(pad, pad + layer.stride[i] + layer.dilation[i] * layer.kernel[i]) for i, pad in enumerate(layer.pad)]
    group = unit // (len(weight) // layer.groups) * kernel.shape[0]
    image = np.pad(read[sample, group : group + kernel.shape[0]], [(0, 0), *ends])
    rows, columns = (
        at[i] * layer.stride[i] + layer.dilation[i] * np.arange(layer.kernel[i]) for i in range(len(layer.kernel))
    )
    products = kernel * image[:, rows[:, None], columns]
    yield products.ravel()
    yield products.transpose(1, 2, 0).ravel()
