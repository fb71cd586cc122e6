"""An ONNX graph, whoever wrote it, as a network: its layers under the names of the tensors that they make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from zoo.arrays import Array
from zoo.axes import shape_text
from zoo.errors import SpecError, UnsupportedError
from zoo.frameworks.onnx.reading import patterns, places, response
from zoo.frameworks.onnx.reading.folding import ARITHMETIC, COMPUTED, OPEN_BATCH, Constants, shape_of
from zoo.frameworks.onnx.reading.op import RefusalError
from zoo.frameworks.onnx.reading.table import READERS
from zoo.frameworks.onnx.reading.walk import View, Walk, Whole
from zoo.layers import Input, Layer, ModelSpec, Names, Shape, chained
from zoo.shapes import parameter_shapes
from zoo.wire.onnx import IR_VERSIONS, Model, Node, Subgraph, TensorType, parse_subgraph

_FLOAT, _WHOLE = 1, (6, 7)  # TensorProto.DataType: float32, and int32 and int64
_MAX_DEPTH = 8
_CHANNELS_FIRST = (0, 3, 1, 2)
# Nodes that a graph in N, H, W, C may put between its input and the transposition of it.
_PREPARING = {"Add", "Sub", "Mul", "Div", "Identity", "Cast"}


@dataclass(frozen=True, kw_only=True)
class OnnxNet:
    """A graph, understood.

    Attributes:
        spec: the network. A layer has the name of the tensor that it makes.
        parameters: canonical name -> float32 array; views of the file where they lie there in that order.
        outputs: the outputs that the graph declares, in its order -> the activations that they are.
        stored: initializer -> the parameter that it is, as it stands or transposed.
        unread: inputs that nothing reads.
        inexact: where the network is the graph but for a rounding or for ties, one phrase each.
        notes: what the reader must know, one sentence each.
    """

    spec: ModelSpec
    parameters: Mapping[str, Array]
    outputs: Mapping[str, str]
    stored: Mapping[str, str]
    unread: tuple[str, ...] = ()
    inexact: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_graph(
    model: Model, name: str, title: str, constants: Constants | None = None, sizes: Mapping[str, Shape] | None = None
) -> OnnxNet:
    """The network of a graph.

    Args:
        model: the file, taken apart.
        name: of the network.
        title: of the spec.
        constants: of the graph, for who needs them as well.
        sizes: input -> C x H x W, for those that the graph leaves open; of the others they must be the graph's own.

    Raises:
        UnsupportedError: lists every node outside the layer vocabulary, by name and operator.
        ValueError: no graph of one float32 network; a trap.
    """
    if not 1 <= model.opset <= max(IR_VERSIONS):
        raise UnsupportedError(f"operator set {model.opset}; those known here are 1 to {max(IR_VERSIONS)}")
    nodes, constants = _needed(model), constants or Constants(model)
    walk = _walk(model, nodes, constants)
    made = {tensor: node for node in model.nodes for tensor in node.outputs}
    reading = _Reading(walk=walk, constants=constants, made=made)
    refused = _inputs(walk, model, nodes, sizes or {})
    reading.lost |= {name for name in model.inputs if name not in walk.values and name not in constants.known}
    reading.nodes(nodes)
    needed = {id(node) for node in _needed(model, reading.closed)}
    within = {tensor for node in nodes if id(node) not in needed for tensor in node.outputs}
    refused += [why for node, why in reading.refused if within.isdisjoint(node.outputs)]
    walk.inexact = {tensor: how for tensor, how in walk.inexact.items() if tensor not in within}
    refused += [f"output {name!r}: nothing makes it" for name in model.outputs if name not in {*made, *model.inputs}]
    if refused:
        raise UnsupportedError(f"outside the layer vocabulary: {'; '.join(refused)}")
    return _network(walk, model, name, title)


def _walk(model: Model, nodes: list[Node], constants: Constants) -> Walk:
    return Walk(
        batch=OPEN_BATCH,
        opset=model.opset,
        constants=constants.known,
        readers=Counter([*model.outputs, *(tensor for node in nodes for tensor in _reads(node))]),
        names=Names([*model.inputs, *model.initializers, *(tensor for node in nodes for tensor in node.outputs)]),
        plainly=_read_plainly,
    )


def open_inputs(model: Model) -> list[str]:
    """The inputs of a graph that leave more than their batch open."""
    fed = {name: kind.dimensions or () for name, kind in model.inputs.items() if name not in model.initializers}
    return [name for name, sizes in fed.items() if not all(isinstance(size, int) and size > 0 for size in sizes[1:])]


def turned_inputs(model: Model) -> set[str]:
    """The inputs of a graph that it takes in N, H, W, C, whatever sizes it declares."""
    nodes = _needed(model)
    return {name for name in model.inputs if _is_turned(name, nodes)}


def _needed(model: Model, closed: Mapping[str, tuple[str, ...]] | None = None) -> list[Node]:
    """The nodes that the outputs of the graph depend on, in its order; not those within layers of many nodes."""
    wanted, kept, reads = set(model.outputs), list[Node](), closed or {}
    for node in reversed(model.nodes):
        if any(tensor in wanted for tensor in node.outputs):
            wanted.update(reads.get(node.outputs[0]) or _reads(node))
            kept.append(node)
    return kept[::-1]


def _reads(node: Node, depth: int = 0) -> list[str]:
    """Tensors that a node reads, in graphs inside it as well."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"graphs inside graphs, more than {_MAX_DEPTH} deep")
    inner = [parse_subgraph(value) for value in node.attributes.values() if isinstance(value, Subgraph)]
    within = [name for graph in inner for item in graph.nodes for name in _reads(item, depth + 1)]
    return [*node.inputs, *within, *(name for graph in inner for name in graph.outputs)]


def _inputs(walk: Walk, model: Model, nodes: list[Node], sizes: Mapping[str, Shape]) -> list[str]:
    """Take in what feeds the graph; returns what cannot be."""
    fed = {name: kind for name, kind in model.inputs.items() if name not in model.initializers}
    read = {tensor for node in nodes for tensor in _reads(node)} | {*model.outputs}
    batches = {kind.dimensions[0] for name, kind in fed.items() if name in read and kind.dimensions}
    if len(batches) == 1 and isinstance(size := batches.pop(), int) and size > 0:
        walk.batch = size
    refused = [f"input {name!r}, whose size is given: there is none of this name" for name in sizes if name not in fed]
    for name, kind in fed.items():
        given = laid = sizes.get(name, ())
        if len(given) == 3 and _is_turned(name, nodes):
            laid = (*given[1:], given[0])
        item = _item(kind, laid)
        why = _unreadable(kind, item, given if laid != item else ()) if name in read else ""
        if name not in read:
            walk.unread.append(name)
            walk.notes.append(f"nothing reads the input {name!r}: left out")
        elif why:
            refused.append(f"input {name!r}: {why}")
        else:
            _take_input(walk, name, item, nodes)
            if kind.kind in _WHOLE:
                walk.values[name] = Whole(view=walk.whole(name))
    return refused


def _item(kind: TensorType, given: Shape) -> Shape:
    """The sizes of an input without its batch, those that the graph leaves open as given; 0 where one stays open."""
    said = tuple(max(size, 0) if isinstance(size, int) else 0 for size in (kind.dimensions or ())[1:])
    return tuple(size or more for size, more in zip(said, given, strict=True)) if len(given) == len(said) else said


def _unreadable(kind: TensorType, item: Shape, denied: Shape) -> str:
    """Why an input cannot be read, if so; `denied` are sizes that were given, and that it has not."""
    if kind.kind not in (_FLOAT, *_WHOLE):
        return f"holds ONNX's type {kind.kind}, expected 1 (float32), or 6 or 7 (whole numbers) for rows of a table"
    sizes = kind.dimensions
    if not sizes or (len(sizes) == 1 and isinstance(sizes[0], int)):
        return "does not say its sizes, or has no batch; expected N x C x H x W"
    told = " x ".join(str(size) or "?" for size in sizes)
    if not all(size > 0 for size in item):
        return f"leaves sizes open ({told}); say them: --input NAME=CxHxW"
    if denied:
        return f"is {told}, not {shape_text(denied)} an item"
    return ""


def _take_input(walk: Walk, name: str, item: Shape, nodes: list[Node]) -> None:
    order = (0, 1, 2, 3)
    if len(item) == 3 and _is_turned(name, nodes):
        item, order = (item[2], *item[:2]), (0, 2, 3, 1)
        walk.notes.append(f"the input {name!r} is N x H x W x C in the file; here it is N x C x H x W")
    walk.inputs.append(Input(name=name, shape=item))
    walk.shapes[name], walk.firsts[name] = item, walk.batch
    whole = walk.whole(name)
    if order != (0, 1, 2, 3):
        whole = View(activation=name, order=order, shape=tuple(whole.shape[i] for i in order))
    walk.values[name] = whole
    walk.input_orders.add(whole.order)


def _is_turned(name: str, nodes: list[Node]) -> bool:
    """Whether all that reads an input brings its channels to the front first."""
    carried, found = {name}, False
    for node in nodes:
        if carried.isdisjoint(node.inputs):
            continue
        if node.op == "Transpose" and node.attributes.get("perm") == _CHANNELS_FIRST:
            found = True
        elif node.op in _PREPARING:
            carried.add(node.outputs[0])
        else:
            return False
    return found


@dataclass(kw_only=True)
class _Reading:
    """Reads nodes one after the other, and gathers what is outside the vocabulary.

    Attributes:
        made: tensor -> what makes it.
        refused: node -> why.
        lost: tensors that depend on a refused node.
        closed: tensor -> what is read by the layer that takes all nodes from there to it, refused ones too.
    """

    walk: Walk
    constants: Constants
    made: dict[str, Node]
    refused: list[tuple[Node, str]] = field(default_factory=list[tuple[Node, str]])
    lost: set[str] = field(default_factory=set[str])
    closed: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])

    def nodes(self, nodes: list[Node]) -> None:
        """Read nodes; what depends on a refused one is passed over."""
        for node in nodes:
            try:
                reads = [tensor for tensor in node.inputs if tensor]
                closed = patterns.closes(self.walk, self.made, node)
                if closed:
                    self.closed[node.outputs[0]] = closed
                    continue
                _check(self, node, reads)
                if any(tensor in self.lost for tensor in reads):
                    self.lost.update(node.outputs)
                elif node.op == "If":
                    self._branch(node)
                elif not places.follows(self.walk, self.walk.op(node)) and not _fold(self.walk, self.constants, node):
                    _read(self.walk, node)
            except (SpecError, IndexError, ValueError, ArithmeticError) as error:
                self.lost.update(node.outputs)
                self.refused.append((node, f"{node.op} {node.name!r}: {_why(error)}"))

    def _branch(self, node: Node) -> None:
        """An If whose condition is known: the nodes of that branch."""
        condition = self.walk.constants.get(node.inputs[0] if node.inputs else "")
        if condition is None or condition.size != 1:
            raise RefusalError("which branch is run depends on the input")
        chosen = node.attributes.get("then_branch" if condition.reshape(()) else "else_branch")
        if not isinstance(chosen, Subgraph):
            raise RefusalError("has no such branch")
        inner = parse_subgraph(chosen)
        self.walk.constants.update(inner.initializers)
        self.constants.unreadable.update(inner.unreadable)
        self.made.update((tensor, item) for item in inner.nodes for tensor in item.outputs)
        self.nodes(inner.nodes)
        for tensor, name in zip(node.outputs, inner.outputs, strict=True):
            if name in self.lost:
                self.lost.add(tensor)
            elif name in self.walk.constants:
                self.walk.constants[tensor] = self.walk.constants[name]
            else:
                self.walk.values[tensor] = self.walk.values[name]


def _why(error: Exception) -> str:
    if isinstance(error, SpecError):
        return str(error).partition(": ")[2]
    return str(error)


def _check(reading: _Reading, node: Node, reads: list[str]) -> None:
    """Refuse what is no node of ONNX's own, and what reads what is not there."""
    walk = reading.walk
    if node.domain:
        raise RefusalError(f"is an operator of {node.domain!r}, not of ONNX itself")
    if not node.outputs or not node.outputs[0]:
        raise RefusalError("has no output")
    if node.op not in READERS and node.op not in COMPUTED:
        raise RefusalError("this operator is not supported")
    if any(tensor in walk.values or tensor in walk.constants for tensor in node.outputs):
        raise RefusalError(f"makes {node.outputs[0]!r}, which is made already")
    for tensor in reads:
        if tensor in reading.constants.unreadable:
            raise RefusalError(f"{tensor!r} {reading.constants.unreadable[tensor]}")
        if not (tensor in walk.values or tensor in walk.constants or tensor in reading.lost):
            later = "a node after it makes (a cycle)" if tensor in reading.made else "the file has not"
            raise RefusalError(f"reads {tensor!r}, which {later}")


def _fold(walk: Walk, constants: Constants, node: Node) -> bool:
    """Compute a node that reads constants only, or sizes."""
    op = walk.op(node)
    if node.op in ("Shape", "Size") and op.constant(0) is None:
        sizes = shape_of(op, walk.sizes(op.reads()))
        op.check()
        constants.known[op.out] = sizes if node.op == "Shape" else sizes.prod()
        return True
    if not constants.take(node):
        return False
    made = [constants.known[tensor] for tensor in node.outputs if tensor in constants.known]
    if node.op in ARITHMETIC and any(array.dtype.kind == "f" and array.size > 1 for array in made):
        walk.inexact[op.out] = f"{op.out!r} was computed of stored numbers"
    return True


def _read(walk: Walk, node: Node) -> None:
    op = walk.op(node)
    if node.op not in READERS:
        raise RefusalError("is supported of constants alone")
    if response.follows(walk, op):
        return
    _read_plainly(walk, node)


def _read_plainly(walk: Walk, node: Node) -> None:
    op = walk.op(node)
    READERS[node.op](walk, op)
    op.check()
    unmade = [tensor for tensor in node.outputs[1:] if tensor not in walk.values and walk.readers[tensor]]
    if unmade:
        raise RefusalError(f"its output {unmade[0]!r} is read, and not made here")


def _network(walk: Walk, model: Model, name: str, title: str) -> OnnxNet:
    for tensor in model.outputs:
        try:
            _finish(walk, tensor)
        except (RefusalError, SpecError) as error:
            raise UnsupportedError(f"output {tensor!r}: {_why(error)}") from error
    declared = {tensor: walk.view(tensor).activation for tensor in model.outputs}
    if not walk.inputs or not walk.layers:
        raise ValueError("no network here: it needs an input that is read, and at least one layer")
    layers = chained(_outputs_last(walk.needed({*declared.values()}), declared.values()), walk.inputs[0].name)
    names = _names(walk, declared, layers)
    spec = ModelSpec(
        name=name,
        title=title,
        inputs=tuple(walk.inputs),
        layers=tuple(
            replace(layer, name=names[layer.name], inputs=tuple(names.get(source, source) for source in layer.inputs))
            for layer in layers
        ),
    )
    declared = {tensor: names.get(activation, activation) for tensor, activation in declared.items()}
    inner = sorted({*declared.values()} - {*spec.outputs})
    parts = ((key.rpartition("."), array) for key, array in walk.parameters.items())
    parameters = {f"{names.get(layer, layer)}.{role}": array for (layer, _, role), array in parts}
    if inner:
        walk.notes.append(f"outputs that other nodes read as well are no outputs here: {', '.join(inner)}")
    return OnnxNet(
        spec=spec,
        parameters={name: parameters[name] for name in parameter_shapes(spec)},
        outputs=declared,
        stored=_stored(model, parameters),
        unread=tuple(walk.unread),
        inexact=tuple(walk.inexact.values()),
        notes=tuple(walk.notes),
    )


def _stored(model: Model, parameters: Mapping[str, Array]) -> dict[str, str]:
    """Which initializers are which parameters: told by where their numbers lie."""

    def place(array: Array) -> tuple[int, int]:
        return array.__array_interface__["data"][0], array.nbytes

    initializers = {place(array): name for name, array in model.initializers.items()}
    named = ((initializers.get(place(array)), name) for name, array in parameters.items())
    return {initializer: name for initializer, name in named if initializer is not None}


def _outputs_last(layers: Sequence[Layer], declared: Iterable[str]) -> list[Layer]:
    """The layers, those at the end that are outputs alone: a network's outputs are in the order of its layers."""
    read, made = {name for layer in layers for name in layer.inputs}, {layer.name: layer for layer in layers}
    last = [name for name in dict.fromkeys(declared) if name in made and name not in read]
    return [*(layer for layer in layers if layer.name not in last), *(made[name] for name in last)]


def _names(walk: Walk, declared: Mapping[str, str], layers: Sequence[Layer]) -> dict[str, str]:
    """Layer -> its name: that of an output which shows it alone, copied or laid out otherwise, else its own."""
    shown = Counter(declared.values())
    names = {layer.name: layer.name for layer in layers}
    names |= {
        activation: tensor
        for tensor, activation in declared.items()
        if shown[activation] == 1 and activation in names and tensor not in names and tensor not in walk.shapes
    }
    return names


def _finish(walk: Walk, tensor: str) -> None:
    """Make an output what the file says it is; images may keep their channels last."""
    if tensor in walk.constants:
        raise RefusalError("is a constant")
    view = walk.view(tensor)
    if view.order in walk.input_orders and not view.in_order and view.shape == walk.moved(view):
        walk.notes.append(f"the output {tensor!r} is N x H x W x C in the file; here it is N x C x H x W")
        return
    walk.plain(tensor)
