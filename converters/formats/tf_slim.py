"""TF-slim checkpoints: where each parameter sits among the variables of a graph, whoever built it."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from converters.formats import NativeFile
from converters.tensormap import Entry, to_native
from converters.weights import Array, Weights
from zoo import registry
from zoo.errors import FileFormatError
from zoo.frameworks.tf_slim import Layout, Variable, identifier, variables
from zoo.layers import Conv, ModelSpec
from zoo.shapes import parameter_shapes
from zoo.wire.checkpoint import index_path, read_v1, read_v2, write_v2
from zoo.wire.object_graph import OBJECT_GRAPH, variable_names

_LOG = logging.getLogger(__name__)

# The last part of a slot's name, under the variable it belongs to: what tf.train's optimizers keep.
_SLOTS = re.compile(
    r"[^/]/(Momentum|RMSProp|Adam|Adagrad|AdagradDA|Adadelta|Ftrl|ProximalAdagrad|LARSOptimizer"
    r"|biased)(_\d+)?$"
)
# tf.train.ExponentialMovingAverage calls the average of a variable so.
_AVERAGE = "/ExponentialMovingAverage"
_COUNTERS = re.compile(
    r"(^|/)(global_step|local_step|save_counter|learning_rate|beta[12]_power|_CHECKPOINTABLE_OBJECT_GRAPH)(_\d+)?$"
)
# CheckpointState, in protobuf's text form: which checkpoint of the folder was written last.
_LAST = re.compile(r'^model_checkpoint_path: *"([^"\n]+)"', re.MULTILINE)
_MAX_STATE = 1 << 16
# What Keras calls layers that have no name, and an object checkpoint those of a model.
_AUTOMATIC = re.compile(r"(?:^|/)(conv2d|dense|layer_with_weights)(?:[-_](\d+))?$")
# slim's names, and those of tf.layers for the same variables.
_ALIASES = {"weights": "kernel", "biases": "bias"}


def read(path: Path) -> NativeFile:
    """Every tensor of a checkpoint: a prefix, its ``.index``, a V1 file, or the folder of a checkpoint or SavedModel.

    Raises:
        FileFormatError: a file is missing, cut short, damaged, or leads out of its folder.
    """
    main = main_file(path)
    tensors = read_v2(main.with_name(main.name.removesuffix(".index"))) if main.suffix == ".index" else read_v1(main)
    graph = tensors.get(OBJECT_GRAPH)
    if graph is not None:
        try:
            names = variable_names(graph.data, tensors)
        except ValueError as error:
            raise FileFormatError(main, f"no sound checkpoint: {error}") from error
        tensors = {name: tensors[key] for key, name in names.items()}
    raw = {name: tensor for name, tensor in tensors.items() if not name.endswith(_AVERAGE)}
    averages = {name.removesuffix(_AVERAGE): tensor for name, tensor in tensors.items() if name.endswith(_AVERAGE)}
    if averages and not averages.keys() & raw.keys():
        _LOG.info("%s: it holds moving averages alone (%s); taken", path, _AVERAGE)
        raw, averages = raw | averages, {}
    # A variable that has no average is itself what is evaluated (tf.train.ExponentialMovingAverage).
    return NativeFile(tensors=raw, spec=_spec(raw), averages=raw | averages if averages else None)


def _spec(tensors: Mapping[str, Array]) -> ModelSpec | None:
    """The family member that names the scope, where the file holds just the variables that this project would write."""
    scopes = {name.partition("/")[0] for name in tensors if not ignored(name)}
    if len(scopes) != 1 or not scopes <= set(registry.models()):
        return None
    spec = registry.model(scopes.pop())
    head = tensors.get(f"{spec.name}/{spec.head.name}/weights") if spec.head else None
    if head is not None and head.ndim > 0:
        spec = spec.with_num_classes(max(head.shape[-1], 1))
    shapes = parameter_shapes(spec)
    wanted = {entry.native: entry.native_shape(shapes[entry.canonical]) for entry in entries(spec, None)}
    return spec if wanted == {name: tensor.shape for name, tensor in tensors.items() if not ignored(name)} else None


def entries(spec: ModelSpec, tensors: Mapping[str, Array] | None) -> list[Entry]:
    """Where each canonical parameter sits.

    In a file to be written: the variables of the slim model, in a scope of the network's name. Among the tensors of a
    file: in whatever scope most of them are found, under slim's names or those of tf.layers, dense layers as
    convolutions or as matrices (whose rows then run over H, W, C).
    """
    ours = variables(spec)
    if tensors is None:
        return [_entry(variable, f"{identifier(spec.name)}/{variable.name}", variable.layout) for variable in ours]
    scope = _scope(identifier(spec.name), ours, tensors)
    if not any(scope + name in tensors for variable in ours for name in _names(variable)):
        counted = _counted(spec, ours, tensors)
        if counted:
            return counted
    found = list[Entry]()
    for variable in ours:
        names = [scope + name for name in _names(variable)]
        native = next((name for name in names if name in tensors), names[0])
        found.append(_entry(variable, native, _layout(variable, tensors.get(native))))
    return found


def _names(variable: Variable) -> Iterator[str]:
    yield variable.name
    layer, _, kind = variable.name.rpartition("/")
    if kind in _ALIASES:
        yield f"{layer}/{_ALIASES[kind]}"


def _counted(spec: ModelSpec, ours: list[Variable], tensors: Mapping[str, Array]) -> list[Entry]:
    """By the numbers Keras gives to layers without names, where it has counted as many of each kind; else nothing."""
    numbered = list[tuple[str, int, str]]()
    for stem in dict.fromkeys(name.rpartition("/")[0] for name in tensors if not ignored(name)):
        found = _AUTOMATIC.search(stem)
        if not found:
            return []
        numbered.append((found[1], int(found[2] or 0), stem))
    stems = [(kind, stem) for kind, _, stem in sorted(numbered)]
    layers = list(dict.fromkeys(variable.parameter.rpartition(".")[0] for variable in ours))
    if stems and stems[0][0] == "layer_with_weights":
        kinds = dict.fromkeys(layers, "layer_with_weights")
    else:
        kinds = {layer: "conv2d" if isinstance(spec.layer(layer), Conv) else "dense" for layer in layers}
    named = dict[str, str]()
    for kind in dict.fromkeys(kinds.values()):
        mine, theirs = [layer for layer in layers if kinds[layer] == kind], [stem for k, stem in stems if k == kind]
        if len(mine) != len(theirs):
            return []
        named |= dict(zip(mine, theirs, strict=True))
    if len(named) != len(stems):
        return []
    table = list[Entry]()
    for variable in ours:
        layer, kind = named[variable.parameter.rpartition(".")[0]], variable.name.rpartition("/")[2]
        native = f"{layer}/{_ALIASES.get(kind, kind)}"
        table.append(replace(_entry(variable, native, _layout(variable, tensors.get(native))), by_order=True))
    return table


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


def _layout(variable: Variable, tensor: Array | None) -> str:
    rank = None if tensor is None else tensor.ndim
    match variable.layout:
        case "HWCO" if rank == 2:
            return "(HWC)O"
        case "11IO" if rank == 2:
            return "IO"
        case "IO" if rank == 4:
            return "11IO"
        case layout:
            return layout


_CANONICAL: dict[Layout | str, str] = {"HWIO": "OIHW", "HWCO": "O(CHW)", "(HWC)O": "O(CHW)", "11IO": "OI", "IO": "OI"}


def _entry(variable: Variable, native: str, layout: str) -> Entry:
    sizes = dict(zip("CHW", variable.maps, strict=True)) if variable.maps else dict[str, int]()
    return Entry(
        canonical=variable.parameter, native=native, axes=_CANONICAL.get(layout, ""), native_axes=layout, sizes=sizes
    )


def ignored(name: str) -> bool:
    """Optimizer slots and counters."""
    return bool(_SLOTS.search(name) or _COUNTERS.search(name))


def write(path: Path, weights: Weights) -> None:
    """Write a V2 checkpoint of the prefix `path`: ``.index`` and ``.data-00000-of-00001``."""
    prefix = path.with_suffix("") if path.suffix == ".index" else path
    write_v2(prefix, to_native(weights, entries(weights.spec, None)))


def main_file(path: Path) -> Path:
    """The index of a V2 checkpoint, or the one file of V1; in a folder, of its SavedModel or its last checkpoint."""
    if path.is_dir() and not index_path(path).is_file():
        return index_path(_in_folder(path))
    if path.suffix == ".index":
        return path
    return path if path.is_file() and not index_path(path).is_file() else index_path(path)


def _in_folder(path: Path) -> Path:
    """The prefix of the checkpoint that a folder is about: a SavedModel's variables, or what ``checkpoint`` names."""
    if (path / "variables" / "variables.index").is_file() or not (path / "checkpoint").is_file():
        return path / "variables" / "variables"
    with (path / "checkpoint").open(encoding="utf-8", errors="replace") as file:
        found = _LAST.search(file.read(_MAX_STATE))
    # A file name alone: the folder may have been moved, and nothing outside it is read.
    return path / Path(found[1]).name if found else path / "checkpoint"
