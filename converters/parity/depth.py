"""How far float32 itself is off along a network: each layer's rounding is small, and a deep network may magnify it.

The network is run once in float32, whose sums are off as any runtime's are. A layer that is further off the float64
reference than the budget, and no further than this arithmetic is, shows no fault, where nothing is wrong by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from converters.metric import error
from converters.verdicts import LayerVerdict
from converters.weights import Array, Weights
from zoo import reference as oracle
from zoo.layers import Conv, Dense
from zoo.parameters import parameters_of
from zoo.reference.weighted import weighted_sums

# Two runs in float32 that add up in different orders are off by different numbers, the larger by so many times at most.
_SCATTER = 4.0


def float32_errors(
    weights: Weights, inputs: Mapping[str, Array], reference: Mapping[str, Array]
) -> Iterator[tuple[str, float]]:
    """Layer -> the error of a run in which sums and activations are float32."""
    known, wiring = {name: np.asarray(x, np.float32) for name, x in inputs.items()}, weights.spec.wiring()
    for layer in weights.spec.layers:
        reads, parameters = [known[name] for name in wiring[layer.name]], parameters_of(weights.tensors, layer.name)
        if isinstance(layer, Conv | Dense):
            y = weighted_sums(layer, reads[0], parameters, partial(np.asarray, dtype=np.float32))
        else:
            y = oracle.apply(layer, reads, parameters)
        known[layer.name] = y = np.asarray(y, np.float32)
        yield layer.name, error(y, reference[layer.name])[0]


def off_by_depth(
    along: Sequence[LayerVerdict], trusted: Collection[str], wiring: Mapping[str, Sequence[str]], most: float
) -> Iterator[LayerVerdict]:
    """The layers that only depth may have put past the budget: off by `most` at most, and trusted with all before them.

    Args:
        along: the layers along the network.
        trusted: layers that are right by themselves.
        wiring: layer -> what it reads.
        most: what float32 leaves something of.
    """
    doubted = set[str]()
    for layer in along:
        if layer.name not in trusted or doubted.intersection(wiring[layer.name]):
            doubted.add(layer.name)
        elif not layer.ok and layer.error is not None and layer.error <= most:
            yield layer


def is_own(layer: LayerVerdict, own: float) -> bool:
    """Whether a layer is off no further than float32 itself is."""
    return layer.error is not None and layer.error <= _SCATTER * own
