"""How far float32 itself is off along a network: each layer's rounding is small, and a deep network may magnify it.

The network is run once in float32, whose sums are off as any runtime's are. A layer that is further off the float64
reference than the budget, and no further than this arithmetic is, shows no fault, where nothing is wrong by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from converters.metric import error
from converters.weights import Array, Weights
from zoo import reference as oracle
from zoo.layers import Conv, Dense
from zoo.parameters import parameters_of
from zoo.reference.weighted import weighted_sums

# Two runs in float32 that add up in different orders are off by different numbers, the larger by so many times at most.
_SCATTER = 4.0

# What float32's own error may make of a layer; of one that it leaves nothing of, the subject gives no answer.
OWN_NOISE = 1e-3


@dataclass(frozen=True)
class Depth:
    """A network, its parameters and inputs, and its activations by the reference."""

    weights: Weights
    inputs: Mapping[str, Array]
    reference: Mapping[str, Array]
    progress: Callable[[str], None]

    def excuses(self, trusted: Collection[str], layer: str, off: float) -> bool:
        """Whether float32 alone may put a layer off by so much; a softmax shows what its logits are off by."""
        if layer not in trusted or off > OWN_NOISE:
            return False
        names = (layer, *(name for name in self.weights.spec.wiring()[layer] if name in self.errors))
        return off <= _SCATTER * max(self.errors[name] for name in names)

    @cached_property
    def errors(self) -> Mapping[str, float]:
        """Layer -> the error of a run in which sums and activations are float32."""
        self.progress("the network in float32")
        return dict(self._run())

    def _run(self) -> Iterator[tuple[str, float]]:
        known = {name: np.asarray(x, np.float32) for name, x in self.inputs.items()}
        wiring = self.weights.spec.wiring()
        for layer in self.weights.spec.layers:
            reads = [known[name] for name in wiring[layer.name]]
            parameters = parameters_of(self.weights.tensors, layer.name)
            if isinstance(layer, Conv | Dense):
                y = weighted_sums(layer, reads[0], parameters, partial(np.asarray, dtype=np.float32))
            else:
                y = oracle.apply(layer, [read.astype(np.float64) for read in reads], parameters)
            known[layer.name] = y = np.asarray(y, np.float32)
            yield layer.name, error(y, self.reference[layer.name])[0]

    def trusted(self, right: Collection[str]) -> frozenset[str]:
        """The layers that are right by themselves, as are all that lead to them."""
        found, wiring = set[str](self.inputs), self.weights.spec.wiring()
        for name in (layer.name for layer in self.weights.spec.layers if layer.name in right):
            if found.issuperset(wiring[name]):
                found.add(name)
        return frozenset(found)
