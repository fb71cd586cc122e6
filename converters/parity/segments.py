"""A network in pieces that can be run by themselves, each from the nearest activations that a subject shows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import lcm

import numpy as np

from converters.weights import Array
from zoo.layers import BatchNorm, Input, Layer, ModelSpec, Names, Shape
from zoo.parameters import parameters_of


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A layer, after the hidden ones that lead to it.

    Attributes:
        layers: in the network's order, inputs written out; the last is the target.
        reads: the shown activations or inputs of the network that it starts from.
    """

    layers: tuple[Layer, ...]
    reads: tuple[str, ...]

    @property
    def target(self) -> str:
        """The layer whose activation the segment ends in."""
        return self.layers[-1].name


def segments(spec: ModelSpec, shown: Collection[str]) -> Iterator[Segment]:
    """One segment for every layer of `shown`, in the network's order."""
    wiring, by_name = spec.wiring(), {layer.name: layer for layer in spec.layers}
    for target in (layer.name for layer in spec.layers if layer.name in shown):
        inside, reads, stack = {target}, dict[str, None](), [target]
        while stack:
            for source in wiring[stack.pop()]:
                if source in by_name and source not in shown and source not in inside:
                    inside.add(source)
                    stack.append(source)
                elif source not in inside:
                    reads[source] = None
        layers = tuple(replace(layer, inputs=wiring[layer.name]) for layer in spec.layers if layer.name in inside)
        yield Segment(layers=layers, reads=tuple(reads))


def alone(segment: Segment, spec: ModelSpec, shapes: Mapping[str, Shape]) -> ModelSpec:
    """A segment as a network; its inputs are what it reads."""
    return replace(
        spec, inputs=tuple(Input(name=name, shape=shapes[name]) for name in segment.reads), layers=segment.layers
    )


def loud(shape: Shape) -> Array:
    """What an input of a network is fed with where a piece reads it and ours does not: its size may matter alone."""
    return np.resize(np.array([1e6, -3e6, 2e5], np.float32), shape)


@dataclass(frozen=True, kw_only=True)
class Apart:
    """Segments side by side in one network that is no longer connected.

    Attributes:
        spec: the network.
        weights: its parameters.
        inputs: input -> batch.
        targets: target layer -> its name in `spec`.
    """

    spec: ModelSpec
    weights: Mapping[str, Array]
    inputs: Mapping[str, Array]
    targets: Mapping[str, str]


def _mixes(segment: Segment) -> bool:
    return any(isinstance(layer, BatchNorm) and layer.batch_stats for layer in segment.layers)


def apart(
    spec: ModelSpec,
    weights: Mapping[str, Array],
    fed: Sequence[tuple[Segment, Mapping[str, Array]]],
) -> Apart:
    """Put segments side by side; layers that several segments hold are there several times.

    All batches are repeated to the size of the largest: it is one network, and its inputs have one batch size. Where a
    normalisation takes its statistics from the batch, that is repeated whole.
    """
    longest = max((len(batch) for _, batches in fed for batch in batches.values()), default=0)
    whole = lcm(*(len(batch) for segment, batches in fed if _mixes(segment) for batch in batches.values()))
    rows = -(-longest // whole) * whole
    inputs, layers, tensors = dict[str, Array](), list[Layer](), dict[str, Array]()
    free, targets = Names(()), dict[str, str]()
    for segment, batches in fed:
        names = dict[str, str]()
        for layer in segment.layers:
            own = names[layer.name] = free.fresh(layer.name)
            tensors |= {f"{own}.{role}": tensor for role, tensor in parameters_of(weights, layer.name).items()}
        for name, batch in batches.items():
            names[name] = free.fresh(f"{segment.target}_reads_{name}")
            inputs[names[name]] = np.resize(batch, (rows, *batch.shape[1:]))
        layers += [
            replace(layer, name=names[layer.name], inputs=tuple(names[name] for name in layer.inputs))
            for layer in segment.layers
        ]
        targets[segment.target] = names[segment.target]
    holders = tuple(Input(name=name, shape=batch.shape[1:]) for name, batch in inputs.items())
    network = replace(spec, inputs=holders, layers=tuple(layers), preprocessing=None)
    return Apart(spec=network, weights=tensors, inputs=inputs, targets=targets)
