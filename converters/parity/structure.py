"""The proof by reading: whether a subject is the reference's very network, before a number of it is run.

Both are brought into one form (`zoo.canonical`), in which equal networks are equal however they are spelt. Where all of
it is the same, parameters to the bit, the subject is the same function of every input. Statistics that were folded into
weights are compared as far as float32 rounds them, and that is no identity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from converters.convert import same_bits
from converters.verdicts import Structure
from converters.weights import Array, Weights
from zoo.axes import shape_text
from zoo.canonical import Form, Numbering, Step, canonical, differing, folded
from zoo.canonical.folding import ROUNDINGS, nearness
from zoo.canonical.numbering import same_parameters
from zoo.errors import ZooError
from zoo.frameworks.onnx import open_inputs, read_graph
from zoo.layers import Constant, Conv, Crop, Dense, Dropout, Layer, ModelSpec, PriorBox, Shape, Unary
from zoo.show import ABSENT, Difference
from zoo.wire.mapped import mapped
from zoo.wire.onnx import Model, parse

# So many differences are told.
_MOST = 8

_SAME = same_parameters(same_bits)


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network as a subject declares it.

    Attributes:
        spec: the network.
        tensors: its parameters by canonical name.
        declared: its outputs by its own names -> the activations that they are, in its order.
        graph: it is a graph, in which some of our kinds are several nodes.
        strange: its activations have other names than the layers of the reference.
        idle: inputs that must be fed and that nothing reads.
        inexact: where it is the subject but for a rounding or for ties, one phrase each.
    """

    spec: ModelSpec
    tensors: Mapping[str, Array]
    declared: Mapping[str, str]
    graph: bool = False
    strange: bool = False
    idle: tuple[str, ...] = ()
    inexact: tuple[str, ...] = ()


def structure_of_graph(path: Path, right: Weights) -> Structure:
    """Whether an ONNX file is the very network; ``unread`` where its graph cannot be read as one."""
    try:
        model = parse(mapped(path), path.parent)
        net = read_graph(model, path.stem, path.name, sizes=_sizes(model, right.spec))
    except (ValueError, IndexError, OverflowError, ZooError) as refusal:
        return Structure(verdict="unread", reason=str(refusal))
    network = Network(
        spec=net.spec,
        tensors=net.parameters,
        declared=net.outputs,
        graph=True,
        strange=_strange(right.spec, model),
        idle=net.unread,
        inexact=net.inexact,
    )
    return structure(network, right)


def _sizes(model: Model, ours: ModelSpec) -> dict[str, Shape]:
    """What the network reads, for the inputs that a graph leaves open: by name, else by place."""
    names = {source.name: source.shape for source in ours.inputs}
    placed = zip((name for name in model.inputs if name not in model.initializers), names.values(), strict=False)
    sizes = {**dict(placed), **names}
    return {name: sizes[name] for name in open_inputs(model) if name in sizes}


def _strange(ours: ModelSpec, model: Model) -> bool:
    made = {tensor for node in model.nodes for tensor in node.outputs}
    layers = [layer.name for layer in ours.layers if not isinstance(layer, Dropout)]
    return 2 * sum(name in made for name in layers) < len(layers)


def structure_of_weights(mine: Weights, right: Weights) -> Structure:
    """Whether weights are the very network that they belong to."""
    declared = {name: name for name in mine.spec.outputs}
    return structure(Network(spec=mine.spec, tensors=mine.tensors, declared=declared, strange=True), right)


def structure(network: Network, right: Weights) -> Structure:
    """Whether a network is the very one."""
    inputs, wrong = _inputs(network, right.spec)
    declared, odd = _outputs(network, right.spec)
    wrong += odd
    ours = canonical(right.spec, right.tensors)
    theirs = canonical(network.spec, network.tensors, tuple(declared.values()))
    wrong += [
        f"{name}: shape {shape_text(b)}, not {shape_text(a)}"
        for name, a, b in zip(declared, ours.shapes, theirs.shapes, strict=False)
        if a != b
    ]
    if inputs is None:
        return Structure(verdict="differs", differences=tuple(wrong))
    if wrong or not _equal(ours, theirs, inputs, _SAME):
        near = None if wrong else _rounded(ours, theirs, inputs)
        if near:
            return near
        pieces = _in_pieces(right.spec) if network.graph else []
        if pieces and not wrong:
            reason = f"{', '.join(pieces)}: written there in several nodes, which are not put together again"
            return Structure(verdict="unread", reason=reason)
        wrong += _told(ours, theirs, inputs) or ([] if wrong else ["it is put together otherwise"])
        return Structure(verdict="differs", differences=tuple(wrong))
    if network.inexact:
        return Structure(verdict="rounded", reason=", ".join(network.inexact))
    return Structure(verdict="identical")


def _told(ours: Form, theirs: Form, inputs: Sequence[int]) -> list[str]:
    found = islice(differing(ours, theirs, _SAME, inputs), _MOST + 1)
    told = list(dict.fromkeys(map(_sentence, found)))
    return told[:_MOST] + (["and more"] if len(told) > _MOST else [])


def _in_pieces(spec: ModelSpec) -> list[str]:
    """Layers that a graph has no operator for, and what is written in their place is not read back as one."""
    return [layer.name for layer in spec.layers if _is_in_pieces(layer)]


def _is_in_pieces(layer: Layer) -> bool:
    if isinstance(layer, Unary):
        return layer.function in ("exp", "log")
    return isinstance(layer, Constant | Crop | PriorBox)


def _sentence(item: Difference) -> str:
    if item.what == "layer" and item.left == ABSENT:
        return f"{item.layer}: a {item.right} too many"
    if item.what == "layer" and item.right == ABSENT:
        return f"{item.layer}: no {item.left}"
    return f"{item.layer}: {item.what} {item.right}, not {item.left}"


def _equal(ours: Form, theirs: Form, inputs: Sequence[int], same: object) -> bool:
    numbering = Numbering(same)  # pyright: ignore[reportArgumentType]
    mine, other = numbering.of(ours), numbering.of(theirs, inputs)
    return [mine[at] for at in ours.outputs] == [other[at] for at in theirs.outputs]


def _rounded(ours: Form, theirs: Form, inputs: Sequence[int]) -> Structure | None:
    """What there is to say where all is the same with statistics folded; None where that is no matter of rounding."""
    if not any(step.part.key[0] in ("norm", "scale") for form in (ours, theirs) for step in form.steps):
        return None
    far, terms = list[float](), dict[str, tuple[float, ...]]()

    def same(one: Step, other: Step) -> bool:
        a, b = one.part.parameters, other.part.parameters
        if one.part.key[0] != "folded":
            return _SAME(one, other)
        if all(bool((side["factor"] == 1).all()) for side in (a, b)):
            return same_bits(a["weight"], b["weight"]) and np.array_equal(a["term"], b["term"])
        apart = nearness(a, b)
        if apart > ROUNDINGS:  # a step like it, and another one
            return False
        far.append(apart)
        layer = other.layer  # ours, which is numbered first
        by_channel = isinstance(layer, Conv) or (isinstance(layer, Dense) and layer.axis == 1)
        if by_channel and bool((b["factor"] == 1).all()):
            terms[layer.name] = tuple(a["size"].tolist())
        return True

    if not _equal(folded(ours), folded(theirs), inputs, same) or not far:
        return None
    return Structure(verdict="rounded", reason=f"folded weights agree within {max(far):.1e}", terms=terms)


def _inputs(network: Network, ours: ModelSpec) -> tuple[list[int] | None, list[str]]:
    """Which of our inputs each of theirs is, None where nobody can say; and what is wrong with them."""
    names, others = [source.name for source in ours.inputs], [source.name for source in network.spec.inputs]
    wrong = [f"{name}: an input that nothing reads" for name in network.idle]
    order = [names.index(name) for name in others] if {*names} == {*others} else list(range(len(others)))
    if len(order) != len(names):
        return None, [*wrong, f"inputs: {len(others)}, not {len(names)}"]
    for at, source in zip(order, network.spec.inputs, strict=True):
        mine = ours.inputs[at].shape
        if source.shape != mine:
            return None, [*wrong, f"{source.name}: size {shape_text(source.shape)}, not {shape_text(mine)}"]
    return order, wrong


def _outputs(network: Network, ours: ModelSpec) -> tuple[Mapping[str, str], list[str]]:
    """What it declares, in our order where it is ours in another; and what is wrong with that."""
    declared, names, wanted = network.declared, tuple(network.declared), ours.outputs
    told = f"{', '.join(names)}, not {', '.join(wanted)}"
    if len(names) != len(wanted):
        return declared, [f"outputs: {told}"]
    if names != wanted and {*names} == {*wanted}:
        return {name: declared[name] for name in wanted}, [f"outputs in another order: {told}"]
    if names != wanted and not (network.strange and (len(names) == 1 or {*names}.isdisjoint(wanted))):
        return declared, [f"outputs: called {told}"]
    return declared, []
