"""A graph of less than float32, held against the float64 reference by budgets of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from converters.metric import compare
from converters.parity.probes import image_inputs, probe_inputs
from converters.verdicts import LEAST_AGREEMENT, Budget, LayerVerdict
from converters.weights import Array, Weights
from zoo import reference as oracle
from zoo.frameworks import onnx as runtime
from zoo.layers import ModelSpec
from zoo.registry import optional

# Pictures a batch: every activation of them is held at once.
_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class Reduced:
    """What was found.

    Attributes:
        layers: of every layer that can be told in the graph, the worst error.
        hidden: layers that are joined with what comes after them, and so not shown.
        pictures: how many were judged.
        top1: the share of them with the reference's best class; None without pictures or logits.
        budget: what a layer's error may be.
    """

    layers: tuple[LayerVerdict, ...]
    hidden: tuple[str, ...]
    pictures: int
    top1: float | None
    budget: Budget

    @property
    def worst(self) -> LayerVerdict:
        """The gated layer with the largest error; one that has none to give before all others."""
        gated = [layer for layer in self.layers if layer.gated]
        return max(gated, key=lambda layer: float("inf") if layer.error is None else layer.error)

    @property
    def problem(self) -> str | None:
        """Why it misses its budget, if it does."""
        worst = self.worst
        if not worst.ok:
            told = worst.reason or f"error {worst.error:.1e}, budget {self.budget.limit:g}"
            return f"{worst.name}: {told}"
        if self.top1 is not None and self.top1 < LEAST_AGREEMENT:
            return f"top-1 agreement {self.top1:.1%} of {self.pictures} pictures, at least {LEAST_AGREEMENT:.0%} asked"
        return None


def judge_reduced(weights: Weights, path: Path, budget: Budget, pictures: Sequence[Path], *, probes: bool) -> Reduced:
    """Run a graph that was made from ours, whose tensors have our layers' names or none of them.

    Args:
        weights: the network and its parameters.
        path: the graph.
        budget: what a layer's error may be, relative to its peak.
        pictures: what it is judged on.
        probes: also on the two probes; noise lies outside the ranges that an int8 graph was calibrated for.
    """
    spec, judge = weights.spec, _Judge(weights, path, budget)
    if probes:
        judge.add(probe_inputs(spec)[0])
    agreed = [
        same
        for i in range(0, len(pictures), _BATCH)
        for same in judge.add(image_inputs(spec, pictures[i : i + _BATCH]))
    ]
    return Reduced(
        layers=tuple(judge.worst.values()),
        hidden=tuple(layer.name for layer in spec.layers if layer.name not in judge.worst),
        pictures=len(pictures),
        top1=float(np.mean(agreed)) if agreed else None,
        budget=budget,
    )


class _Judge:
    def __init__(self, weights: Weights, path: Path, budget: Budget) -> None:
        self.weights, self.budget, self.worst = weights, budget, dict[str, LayerVerdict]()
        shown, self._tensors = _shown(path, weights.spec)
        self._deployed, self._open = runtime.opened(path.read_bytes(), {}), runtime.opened(shown, {})

    def add(self, inputs: Mapping[str, Array]) -> list[bool]:
        """Judge a batch; of each sample, whether its best class is the reference's, where there are classes."""
        spec = self.weights.spec
        right = oracle.forward(spec, self.weights.tensors, inputs)
        inner, outputs = self._open(inputs), self._deployed(inputs)
        # What is deployed decides of its outputs; the copy that shows the layers, of these.
        shown = {layer: inner[tensor] for layer, tensor in self._tensors.items() if tensor in inner} | outputs
        hidden = [layer.name for layer in spec.layers if layer.name not in shown]
        for layer in compare(spec, shown, right, inputs, self.budget.limit, hidden):
            known = self.worst.get(layer.name)
            if layer.name not in hidden and (known is None or _beyond(layer, known)):
                self.worst[layer.name] = layer
        answer = _answer(spec)
        if answer is None:
            return []
        ours, theirs = (values[answer].reshape(len(values[answer]), -1).argmax(axis=1) for values in (outputs, right))
        return list(ours == theirs)


def _beyond(layer: LayerVerdict, known: LayerVerdict) -> bool:
    return known.error is not None and (layer.error is None or layer.error > known.error)


def _answer(spec: ModelSpec) -> str | None:
    """The output whose largest number is the class: the logits, or what reads them."""
    head, wiring = spec.head, spec.wiring()
    return next((name for name in spec.outputs if head and head.name in (name, *wiring[name])), None)


def _shown(path: Path, spec: ModelSpec) -> tuple[bytes, dict[str, str]]:
    """The graph with all that it shows of the network's layers as outputs; and layer -> tensor.

    A quantised tensor is what is read from it again: a ReLU lies in the rounding.
    """
    with optional("onnx"):
        import onnx
    model = onnx.load(path)
    made = {name for node in model.graph.node for name in node.output}
    tensors = {layer.name: f"{layer.name}_DequantizeLinear_Output" for layer in spec.layers}
    tensors = {name: tensor if tensor in made else name for name, tensor in tensors.items()}
    tensors = {name: tensor for name, tensor in tensors.items() if tensor in made}
    declared = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors.values() if name not in declared)
    return model.SerializeToString(), tensors


def reduced_lines(found: Reduced) -> list[str]:
    """What was judged and what was not, for people."""
    shown = [f"{layer.name} {layer.error:.1e}" for layer in found.layers if layer.gated and layer.error is not None]
    lines = [f"error a layer (budget {found.budget.limit:g} of its peak): {', '.join(shown)}"]
    if found.hidden:
        lines.append(f"not judged by themselves, joined with what follows them: {', '.join(found.hidden)}")
    if found.top1 is None:
        told = "no picture was shown to it" if not found.pictures else "the network has no classes"
        lines.append(f"top-1 agreement was not judged: {told}")
    else:
        asked = f"{LEAST_AGREEMENT:.0%} asked"
        lines.append(
            f"top-1 agreement with the reference {found.top1:.1%} of {found.pictures} pictures held back, {asked}"
        )
    return lines
