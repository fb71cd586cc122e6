"""TensorFlow's checkpoints and the SavedModels around them; `_slim_names` says which variable is which parameter."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path

from converters.formats import NativeFile
from converters.formats._slim_names import entries, ignored
from converters.tensormap import to_native
from converters.weights import Array, Weights
from zoo import registry
from zoo.errors import FileFormatError
from zoo.layers import ModelSpec
from zoo.shapes import parameter_shapes
from zoo.wire.checkpoint import read_v1, read_v2, write_v2
from zoo.wire.checkpoint_files import checkpoint_in, checkpoint_of, index_path
from zoo.wire.object_graph import OBJECT_GRAPH, variable_names

SUFFIXES = (".ckpt",)
# Suffixes whose files hold the network and its preprocessing, beside the tensors.
HOLDS_NETWORK = ()

_LOG = logging.getLogger(__name__)

_FROZEN = "holds no variables: its numbers are constants of its graph; give the file that it was made of"
# tf.train.ExponentialMovingAverage calls the average of a variable so, unless it is given a name.
_AVERAGE = re.compile(r"/(ExponentialMovingAverage|[^/]*(?:\b|_)ema(?:\b|_)[^/]*)$", re.IGNORECASE)


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
        if not tensors:
            return NativeFile(tensors={}, refusal=_FROZEN)
    raw = {name: tensor for name, tensor in tensors.items() if not _AVERAGE.search(name)}
    averages = {_AVERAGE.sub("", name): tensor for name, tensor in tensors.items() if _AVERAGE.search(name)}
    if averages and not averages.keys() & raw.keys():
        _LOG.info("%s: it holds moving averages alone; taken", path)
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


def write(path: Path, weights: Weights) -> None:
    """Write a V2 checkpoint of the prefix `path`: ``.index`` and ``.data-00000-of-00001``."""
    prefix = path.with_suffix("") if path.suffix == ".index" else path
    write_v2(prefix, to_native(weights, entries(weights.spec, None)))


def main_file(path: Path) -> Path:
    """The index of a V2 checkpoint, or the one file of V1; in a folder, of its SavedModel or its last checkpoint."""
    path = checkpoint_of(path)
    if path.is_dir() and not index_path(path).is_file():
        return index_path(checkpoint_in(path) or path / "variables" / "variables")
    if path.suffix == ".index":
        return path
    return path if path.is_file() and not index_path(path).is_file() else index_path(path)
