"""Where each parameter sits among the variables that TensorFlow and those after it keep, whoever built the graph."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

from converters.tensormap import Entry
from converters.torchvision_names import counted
from converters.weights import Array
from zoo.frameworks.tf_slim import Variable, identifier, variables
from zoo.layers import Conv, Deconv, Dense, ModelSpec, Shape
from zoo.shapes import parameter_shapes

# The last part of a slot's name, under the variable it belongs to: what tf.train's optimizers keep.
_SLOTS = re.compile(
    r"[^/]/(Momentum|RMSProp|Adam|Adagrad|AdagradDA|Adadelta|Ftrl|ProximalAdagrad|LARSOptimizer"
    r"|biased)(_\d+)?$"
)
_COUNTERS = re.compile(
    r"(^|/)(global_step|local_step|save_counter|learning_rate|beta[12]_power|_CHECKPOINTABLE_OBJECT_GRAPH)(_\d+)?$"
)
# What Keras, slim and TFLearn call layers that have no name, and an object checkpoint those of a model;
_AUTOMATIC = re.compile(r"(?:^|/)(conv2d|conv|dense|fully_?connected|layer_with_weights)(?:[-_](\d+))?$", re.IGNORECASE)
# the kind, by how such a name begins.
_KINDS = {"conv": "conv2d", "full": "dense"}
# What tells names apart that were counted: ``Variable``, ``Variable_1``.
_NUMBER = re.compile(r"[-_]?\d+")
# slim's names, and those of tf.layers, of TFLearn and of other people for the same variables.
_ALIASES = {"weights": ("kernel", "W", "weight", "w"), "biases": ("bias", "b")}


def entries(spec: ModelSpec, tensors: Mapping[str, Array] | None) -> list[Entry]:
    """Where each canonical parameter sits.

    In a file to be written: the variables of the slim model, in a scope of the network's name. Among the tensors of a
    file: in whatever scope most of them are found, under slim's names or those of tf.layers, dense layers as
    convolutions or as matrices (whose rows then run over H, W, C).
    """
    ours = variables(spec)
    shapes = parameter_shapes(spec)
    if tensors is None:
        return [_entry(variable, f"{identifier(spec.name)}/{variable.name}", variable.layout) for variable in ours]
    scope = _scope(identifier(spec.name), ours, tensors)
    known = [next((scope + name for name in _names(variable) if scope + name in tensors), None) for variable in ours]
    if not all(known):
        in_order = _counted(spec, ours, tensors) or _by_shape(spec, ours, tensors)
        if in_order and all(name in (None, entry.native) for name, entry in zip(known, in_order, strict=True)):
            return in_order
    found, places = list[Entry](), Counter[int]()  # of the names that a variable may have, which the file uses
    for variable in ours:
        places.update(i for i, name in enumerate(_names(variable)) if scope + name in tensors)
    usual = max(places, key=places.__getitem__, default=0)
    for variable in ours:
        names = [scope + name for name in _names(variable)]
        native = next((name for name in names if name in tensors), names[min(usual, len(names) - 1)])
        found.append(_fitted(variable, native, shapes[variable.parameter], tensors))
    return found


def _names(variable: Variable) -> Iterator[str]:
    yield variable.name
    layer, _, kind = variable.name.rpartition("/")
    for alias in _ALIASES.get(kind, ()):
        yield f"{layer}/{alias}"


def _counted(spec: ModelSpec, ours: list[Variable], tensors: Mapping[str, Array]) -> list[Entry]:
    """By the numbers that layers without names are given, where it has counted as many of each kind; else nothing."""
    numbered = list[tuple[str, int, str]]()
    for stem in dict.fromkeys(name.rpartition("/")[0] for name in tensors if not ignored(name)):
        found = _AUTOMATIC.search(stem)
        if not found:
            return []
        kind = found[1].lower()
        numbered.append((_KINDS.get(kind[:4], kind), int(found[2] or 0), stem))
    stems = [(kind, stem) for kind, _, stem in sorted(numbered)]
    layers = list(dict.fromkeys(variable.parameter.rpartition(".")[0] for variable in ours))
    if stems and stems[0][0] == "layer_with_weights":
        kinds = dict.fromkeys(layers, "layer_with_weights")
    else:
        by_name = spec.by_name
        kinds = {layer: "conv2d" if isinstance(by_name[layer], Conv) else "dense" for layer in layers}
    named = dict[str, str]()
    for kind in dict.fromkeys(kinds.values()):
        mine, theirs = [layer for layer in layers if kinds[layer] == kind], [stem for k, stem in stems if k == kind]
        if len(mine) != len(theirs):
            return []
        named |= dict(zip(mine, theirs, strict=True))
    if len(named) != len(stems):
        return []
    table, shapes = list[Entry](), parameter_shapes(spec)
    for variable in ours:
        layer, kind = named[variable.parameter.rpartition(".")[0]], variable.name.rpartition("/")[2]
        names = [f"{layer}/{name}" for name in (*_ALIASES.get(kind, ()), kind)]
        native = next((name for name in names if name in tensors), names[0])
        table.append(replace(_fitted(variable, native, shapes[variable.parameter], tensors), by_order=True))
    return table


def _by_shape(spec: ModelSpec, ours: list[Variable], tensors: Mapping[str, Array]) -> list[Entry]:
    """By shapes, and where these are alike by names that are one but for their numbers; nothing where a choice is left.

    So are the ``Variable``, ``Variable_1``, ... of who named none, and layers of anybody's names. Statistics and scales
    are as long as each other and made in any order: with them, there is a choice.
    """
    by_name = spec.by_name
    if any(not isinstance(by_name[v.parameter.rpartition(".")[0]], Conv | Deconv | Dense) for v in ours):
        return []
    shapes = parameter_shapes(spec)
    theirs = {name: tensor.shape for name, tensor in tensors.items() if tensor.ndim and not ignored(name)}
    groups = dict[frozenset[Shape], list[Variable]]()
    for variable in ours:
        shape = shapes[variable.parameter]
        depthwise = (*shape[2:], shape[0], 1)
        layouts = {layout_of(variable.layout, shape, kept) for kept in ((0, 0), (0, 0, 0, 0), depthwise, ())}
        found = (_entry(variable, "", layout).native_shape(shape) for layout in layouts)
        groups.setdefault(frozenset(found), []).append(variable)
    named = dict[str, str]()
    for possible, mine in groups.items():
        alike = sorted((name for name, shape in theirs.items() if shape in possible), key=counted)
        if len(alike) != len(mine) or len({_NUMBER.sub("", name) for name in alike}) > 1:
            return []
        named |= {variable.parameter: name for variable, name in zip(mine, alike, strict=True)}
    stems = {(name.rpartition(".")[0], native.rpartition("/")[0]) for name, native in named.items()}
    if {*named.values()} != theirs.keys() or len(stems) != len({layer for layer, _ in stems}):
        return []  # left over, or of one of our layers and two of theirs
    return [
        replace(_fitted(variable, native, shapes[variable.parameter], tensors), by_order=True)
        for variable in ours
        for native in (named[variable.parameter],)
    ]


def _scope(name: str, ours: list[Variable], tensors: Mapping[str, Array]) -> str:
    """What precedes the layers' names, slash included: what most variables share, the network's name in doubt."""
    endings = {ending for variable in ours for ending in _names(variable)}
    votes = Counter[str]()
    for tensor in tensors:
        parts = tensor.split("/")
        for i in range(len(parts)):
            if "/".join(parts[i:]) in endings:
                votes["".join(f"{part}/" for part in parts[:i])] += 1
    return min(votes, key=lambda scope: (-votes[scope], scope != f"{name}/", scope), default=f"{name}/")


def layout_of(layout: str, shape: Shape, found: Shape) -> str:
    """The layout of a tensor in somebody's file.

    Args:
        layout: of the parameter in files that are written here.
        shape: of the parameter, canonical.
        found: of the tensor.
    """
    match layout, len(found):
        case "HWCO", 2:
            return "(HWC)O"
        case "11IO", 2:
            return "IO"
        case "IO", 4:
            return "11IO"
        case "HWIO", 4 if shape[1] == 1 and found == (*shape[2:], shape[0], 1):
            return "HWOI"  # a kernel a channel, as tf.nn.depthwise_conv2d wants them
        case _:
            return layout


def _fitted(variable: Variable, native: str, shape: Shape, tensors: Mapping[str, Array]) -> Entry:
    """The entry of a tensor that may not be there, laid out as it is."""
    found = tensors[native].shape if native in tensors else ()
    return _entry(variable, native, layout_of(variable.layout, shape, found))


def _entry(variable: Variable, native: str, layout: str) -> Entry:
    return Entry(
        canonical=variable.parameter, native=native, axes=variable.axes, native_axes=layout, sizes=variable.sizes
    )


def ignored(name: str) -> bool:
    """Optimizer slots and counters."""
    return bool(_SLOTS.search(name) or _COUNTERS.search(name))
