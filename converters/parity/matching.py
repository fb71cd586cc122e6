"""Which tensor of somebody else's network is which layer of ours: by name, or else by graph order, kind and shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import TypeVar

import numpy as np

from converters.metric import is_saturated, judge, log_error
from converters.parity.views import canonical_view
from converters.verdicts import DEFAULT_BUDGET
from converters.weights import Array
from zoo.layers import Dropout, Flatten, Layer, ModelSpec, Pool, Reshape, Shape, Softmax
from zoo.shapes import activation_shapes
from zoo.wire.cores import map_on_cores

Ours = TypeVar("Ours")
Theirs = TypeVar("Theirs")


def align(
    ours: Sequence[Ours], theirs: Sequence[Theirs], alike: Callable[[Ours, Theirs], bool]
) -> list[tuple[int, int]]:
    """The longest matching of two sequences that keeps the order of both (their longest common subsequence)."""
    best = np.zeros((len(ours) + 1, len(theirs) + 1), np.int64)
    same = [[alike(a, b) for b in theirs] for a in ours]
    for i in reversed(range(len(ours))):
        for j in reversed(range(len(theirs))):
            skipped = max(best[i + 1, j], best[i, j + 1])
            best[i, j] = max(skipped, best[i + 1, j + 1] + 1) if same[i][j] else skipped
    pairs, i, j = list[tuple[int, int]](), 0, 0
    while i < len(ours) and j < len(theirs):
        if same[i][j] and best[i, j] == best[i + 1, j + 1] + 1:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif best[i + 1, j] >= best[i, j + 1]:
            i += 1
        else:
            j += 1
    return pairs


def match_layers(ours: ModelSpec, theirs: ModelSpec) -> dict[str, str]:
    """Our layer -> the layer of another spec that stands for it; what has no counterpart is left out.

    Layers of one name are one layer, where at least half of the names are shared (two strangers may both say
    ``prob``). The others are matched by order, kind and shape.
    """
    names = {layer.name for layer in theirs.layers}
    shared = {layer.name: layer.name for layer in ours.layers if layer.name in names}
    if 2 * len(shared) < min(len(ours.layers), len(theirs.layers)):
        shared = {}
    our_shapes, their_shapes = activation_shapes(ours), activation_shapes(theirs)

    def alike(a: Layer, b: Layer) -> bool:
        return type(a) is type(b) and our_shapes[a.name] == their_shapes[b.name]

    left = [layer for layer in ours.layers if layer.name not in shared]
    others = [layer for layer in theirs.layers if layer.name not in shared]
    return shared | {left[i].name: others[j].name for i, j in align(left, others, alike)}


# ONNX operator -> the layer kinds whose result it is. Whatever is made of several operators (an LRN often is) is found
# by what the next layer reads.
_OPERATORS = {
    "Conv": ("Conv", "Dense"),
    "ConvTranspose": ("Deconv",),
    "Gemm": ("Dense",),
    "MatMul": ("Dense",),
    "Relu": ("ReLU",),
    "LeakyRelu": ("ReLU",),
    "PRelu": ("ReLU", "PReLU"),
    "Elu": ("Unary",),
    "Abs": ("Unary",),
    "Softplus": ("Unary",),
    "Clip": ("Unary",),
    "MaxPool": ("Pool",),
    "AveragePool": ("Pool",),
    "GlobalMaxPool": ("Pool",),
    "GlobalAveragePool": ("Pool",),
    "LRN": ("LRN",),
    "Dropout": ("Dropout",),
    "Softmax": ("Softmax",),
    "BatchNormalization": ("BatchNorm",),
    "Sigmoid": ("Sigmoid",),
    "Tanh": ("TanH",),
    "Resize": ("Interp",),
    "Flatten": ("Flatten", "Reshape"),
    "Reshape": ("Reshape",),
    "Transpose": ("Permute",),
    "Tile": ("Tile",),
}

# Operators whose bias may be added by a node of its own.
_BIASED = {"MatMul", "Conv", "Gemm"}

# Operators that hand numbers on, moved about: a layer's input is looked for behind them.
CARRIERS = {"Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout"}

# Operators behind which it is found as well, though they add to it or round it.
_PADDERS = {"Pad", "Cast"}


@dataclass(frozen=True, kw_only=True)
class NodeResult:
    """One node of somebody's ONNX graph.

    Attributes:
        name: of its first result.
        operator: what it does.
        reads: the names of what it reads.
        value: what it gave; None for what is no float tensor.
    """

    name: str
    operator: str
    reads: tuple[str, ...]
    value: Array | None


@dataclass(frozen=True, kw_only=True)
class Matched:
    """Which tensors of a graph are layers of ours.

    Attributes:
        tensors: our layer -> the tensor.
        activations: our layer -> what it holds, canonical layout.
        strange: its tensors have other names than our layers.
        hidden: layers without a tensor of their own that are right all the same, since everything that reads them is.
    """

    tensors: Mapping[str, str]
    activations: Mapping[str, Array]
    strange: bool
    hidden: frozenset[str]


def match_tensors(
    ours: ModelSpec, nodes: Sequence[NodeResult], right: Mapping[str, Array], budget: float = DEFAULT_BUDGET
) -> Matched:
    """Find our layers among the tensors of an ONNX graph.

    By name, where most names are shared; else nodes that are a layer by themselves are matched by order, kind and
    shape, and any other layer is what the node of the next one reads. Either way numbers have the last word: a tensor
    that is not what its name or place says, but exactly another layer further on, is that one (a BatchNorm that was
    folded away leaves its numbers to the convolution before it).

    Args:
        ours: the network looked for.
        nodes: in graph order.
        right: layer -> its activation by the reference; layers may be missing.
        budget: the error up to which a tensor is a layer.
    """
    values = {node.name: node.value for node in nodes if node.value is not None}
    shapes = {name: y.shape for name, y in right.items()}
    named = {name: name for name in shapes if name in values}
    counted, theirs = [layer for layer in ours.layers if not isinstance(layer, Dropout)], {node.name for node in nodes}
    strange = 2 * sum(layer.name in theirs for layer in counted) < len(counted)

    softmaxes = {layer.name: layer.axis for layer in ours.layers if isinstance(layer, Softmax)}

    def fits(layer: str, tensor: str) -> bool:
        view = canonical_view(values[tensor], shapes[layer])
        if view is None or not _equal(view, right[layer], budget):
            return False
        return layer not in softmaxes or log_error(view, right[layer]) <= budget

    tensors = {} if strange else named
    fitting = map_on_cores(lambda item: fits(*item), [*tensors.items()])
    good = {layer for layer, is_right in zip(tensors, fitting, strict=True) if is_right}
    good |= _by_numbers(ours, tensors, good, [node for node in nodes if node.value is not None], fits)
    tensors |= _by_what_they_read(ours, nodes, shapes, tensors)
    # Where one class has it all on every probe, that says nothing of what comes before.
    mute = {name for name, axis in softmaxes.items() if name in right and is_saturated(right[name], axis)}
    hidden = _hidden(ours, good - mute, {*tensors})
    if strange:
        tensors |= _by_order(ours, nodes, {n: shape for n, shape in shapes.items() if n not in hidden}, tensors)
        _fill(ours, nodes, tensors, shapes, hidden)
    _move_on(ours, nodes, tensors, fits)
    found = dict[str, Array]()
    for layer in (layer.name for layer in ours.layers if layer.name in tensors):
        view = canonical_view(values[tensors[layer]], shapes[layer])
        found[layer] = values[tensors[layer]] if view is None else view
    return Matched(tensors=tensors, activations=found, strange=strange, hidden=hidden)


def _move_on(
    ours: ModelSpec, nodes: Sequence[NodeResult], tensors: dict[str, str], fits: Callable[[str, str], bool]
) -> None:
    """Give a layer what its only reader makes of its tensor, where that is the same numbers to the bit.

    Of a layer, that is, that only layers without a tensor read: a bound that nothing reaches on these inputs is then
    asked with the layer that it bounds, on loud inputs, and not with what comes next, which may add up and bend them.
    """
    wiring, by_name = ours.wiring(), {node.name: node for node in nodes}
    readers = dict[str, list[NodeResult]]()
    for node in nodes:
        for name in {*node.reads}:
            readers.setdefault(name, []).append(node)
    for layer in [name for name in tensors if name not in ours.outputs]:
        nexts = [name for name, sources in wiring.items() if layer in sources]
        if not {*nexts}.isdisjoint(tensors):
            continue
        while len(found := readers.get(tensors[layer], [])) == 1:
            (node,), value = found, by_name[tensors[layer]].value
            same = node.value is not None and value is not None and np.array_equal(node.value, value)
            taken = node.operator in CARRIERS or node.name in tensors.values()
            if not same or taken or any(fits(name, node.name) for name in nexts):
                break
            tensors[layer] = node.name


def _equal(value: Array, right: Array, budget: float) -> bool:
    return judge("", value, right, budget, [right]).ok


def _by_numbers(
    ours: ModelSpec,
    tensors: dict[str, str],
    good: set[str],
    nodes: Sequence[NodeResult],
    fits: Callable[[str, str], bool],
) -> set[str]:
    """Give tensors to the layers that they are exactly; returns these layers.

    A named tensor that is not its layer, but is exactly one further on, is that one; where it becomes exactly its layer
    further on, the layer is what it becomes (a BatchNorm that is folded into our convolution, and not into theirs).
    """
    wiring, found = ours.wiring(), set[str]()
    reads = {node.name: node.reads for node in nodes}
    for wrong in [name for name in tensors if name not in good]:
        free = (name for name in _after(wiring, wrong) if name not in tensors)
        later = next((name for name in free if fits(name, tensors[wrong])), None)
        if later:
            tensors[later] = tensors.pop(wrong)
            found.add(later)
            continue
        made = takewhile(lambda name: name not in tensors.values(), _after(reads, tensors[wrong]))
        becomes = next((name for name in made if fits(wrong, name)), None)
        if becomes:
            tensors[wrong] = becomes
            found.add(wrong)
    for layer in (layer for layer in ours.layers if layer.name not in tensors):
        taken = {*tensors.values()}
        fitting = [node for node in nodes if node.name not in taken and fits(layer.name, node.name)]
        fitting.sort(key=lambda node: not _one_kind(layer, node))
        if fitting:
            tensors[layer.name] = fitting[0].name
            found.add(layer.name)
    return _last_in_a_row(ours, tensors, found, fits)


def _last_in_a_row(
    ours: ModelSpec, tensors: dict[str, str], found: set[str], fits: Callable[[str, str], bool]
) -> set[str]:
    """A tensor that is several layers in a row, as far as these inputs show, is the last of them that has no other."""
    wiring = ours.wiring()
    same_by_kind = {layer.name for layer in ours.layers if isinstance(layer, Dropout | Flatten | Reshape)}
    for name in [layer.name for layer in ours.layers if layer.name in found]:
        last = name
        for later in _after(wiring, name):
            if later in tensors or not fits(later, tensors[name]):
                break
            last = last if later in same_by_kind else later
        tensors[last] = tensors.pop(name)
        found.add(last)
    return found & {*tensors}


def _after(wiring: Mapping[str, Sequence[str]], layer: str) -> Iterator[str]:
    """The layers that follow one, as long as each has a single reader."""
    while len(readers := [name for name, sources in wiring.items() if layer in sources]) == 1:
        layer = readers[0]
        yield layer


def _hidden(ours: ModelSpec, good: set[str], found: set[str]) -> frozenset[str]:
    """Layers without a tensor, all of whose readers are right or hidden themselves."""
    wiring, hidden = ours.wiring(), set[str]()
    for layer in reversed(ours.layers):
        readers = [name for name, sources in wiring.items() if layer.name in sources]
        if layer.name not in found and readers and all(name in good or name in hidden for name in readers):
            hidden.add(layer.name)
    return frozenset(hidden)


def _by_what_they_read(
    ours: ModelSpec, nodes: Sequence[NodeResult], shapes: Mapping[str, Shape], settled: Mapping[str, str]
) -> dict[str, str]:
    """Our layer -> the one node of its kind and shape that reads what the layer reads, whatever its numbers are.

    What comes after a layer may be right on these inputs, and the layer be another one: it is not hidden, then.
    """
    roots = roots_of((node.name, node.operator, node.reads) for node in nodes)
    found, wiring = dict[str, str](), ours.wiring()
    for layer in (layer for layer in ours.layers if layer.name in shapes and layer.name not in settled):
        known, taken = {**settled, **found}, {*settled.values(), *found.values()}
        source = known.get(next(iter(wiring[layer.name]), ""))
        alike = [
            node.name
            for node in nodes
            if source is not None
            and node.name not in taken
            and node.value is not None
            and _one_kind(layer, node)
            and roots.get(node.reads[0], node.reads[0]) == roots.get(source, source)
            and canonical_view(node.value, shapes[layer.name]) is not None
        ]
        if len(alike) == 1:
            found[layer.name] = alike[0]
    return _with_bias(nodes, found)


def roots_of(nodes: Iterable[tuple[str, str, Sequence[str]]]) -> dict[str, str]:
    """Tensor -> the one whose numbers it holds, moved about by nodes (name, operator, reads) that do nothing else."""
    roots = dict[str, str]()
    for name, operator, reads in nodes:
        if operator in CARRIERS and reads:
            roots[name] = roots.get(reads[0], reads[0])
    return roots


def _by_order(
    ours: ModelSpec, nodes: Sequence[NodeResult], shapes: Mapping[str, Shape], settled: Mapping[str, str]
) -> dict[str, str]:
    """Our layer -> the tensor of a node of its kind, in graph order; of those that are not settled yet."""
    free = [node for node in nodes if node.name not in settled.values()]
    strong = [node for node in free if node.operator in _OPERATORS and node.value is not None]
    layers = [layer for layer in ours.layers if layer.name in shapes and layer.name not in settled]

    def fits(layer: Layer, node: NodeResult) -> bool:
        shaped = node.value is not None and canonical_view(node.value, shapes[layer.name]) is not None
        return shaped and _one_kind(layer, node)

    def resized(layer: Layer, node: NodeResult) -> bool:
        value, wanted = node.value, shapes[layer.name]
        channels = value is not None and value.ndim == len(wanted) and value.shape[1] == wanted[1]
        return channels and _one_kind(layer, node)

    pairs = align(layers, strong, fits)
    matched = {layers[i].name: strong[j].name for i, j in pairs}
    # Between two matches, a layer and a node of one kind and as many channels are one, whatever height and width: a
    # size rounded otherwise is a fault to be found there. (One of two towers, split by hand, has fewer channels.)
    bounds = [(-1, -1), *pairs, (len(layers), len(strong))]
    for (i, j), (end_i, end_j) in pairwise(bounds):
        between, others = layers[i + 1 : end_i], strong[j + 1 : end_j]
        matched |= {between[m].name: others[n].name for m, n in align(between, others, resized)}
    return _with_bias(nodes, matched)


def _one_kind(layer: Layer, node: NodeResult) -> bool:
    if isinstance(layer, Pool) and (layer.mode == "ave") != node.operator.endswith("AveragePool"):
        return False
    return type(layer).__name__ in _OPERATORS.get(node.operator, ())


def _with_bias(nodes: Sequence[NodeResult], tensors: dict[str, str]) -> dict[str, str]:
    """A bias that is added by a node of its own belongs to the layer: its result is the layer's."""
    produced = {node.name for node in nodes}
    moved = dict(tensors)
    by_tensor = {tensor: name for name, tensor in tensors.items()}
    operators = {node.name: node.operator for node in nodes}
    for node in nodes:
        inner = [name for name in node.reads if name in produced]
        biased = node.operator == "Add" and len(node.reads) == 2 and len(inner) == 1 and inner[0] in by_tensor
        if biased and operators[inner[0]] in _BIASED:
            moved[by_tensor[inner[0]]] = node.name
    return moved


def _fill(
    ours: ModelSpec,
    nodes: Sequence[NodeResult],
    tensors: dict[str, str],
    shapes: Mapping[str, Shape],
    hidden: frozenset[str],
) -> None:
    """Layers that have no node of their own and are not right: what the node of their only reader reads."""
    by_name, wiring = {node.name: node for node in nodes}, ours.wiring()
    for layer in reversed(ours.layers):
        readers = [name for name, sources in wiring.items() if layer.name in sources]
        if layer.name in tensors or layer.name in hidden or len(readers) != 1 or readers[0] not in tensors:
            continue
        reader = _maker(ours.layer(readers[0]), by_name[tensors[readers[0]]], by_name)
        if not reader.reads or layer.name not in shapes:
            continue
        place = wiring[readers[0]].index(layer.name)
        source = by_name.get(reader.reads[min(place, len(reader.reads) - 1)])
        while source is not None and source.operator in CARRIERS | _PADDERS and source.name not in tensors.values():
            if source.value is not None and source.value.shape == shapes[layer.name]:
                break
            source = by_name.get(source.reads[0]) if source.reads else None
        if source is None or source.value is None or source.name in tensors.values():
            continue
        if canonical_view(source.value, shapes[layer.name]) is not None:
            tensors[layer.name] = source.name


def _maker(layer: Layer, node: NodeResult, by_name: Mapping[str, NodeResult]) -> NodeResult:
    """The node that makes a layer's numbers, before they were moved about or a bias was added."""
    while node.operator in CARRIERS and not _one_kind(layer, node) and node.reads and node.reads[0] in by_name:
        node = by_name[node.reads[0]]
    inner = [by_name[name] for name in node.reads if name in by_name] if node.operator == "Add" else []
    return inner[0] if len(inner) == 1 and inner[0].operator in _BIASED else node
