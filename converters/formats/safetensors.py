"""safetensors: the canonical file, under canonical names; the network stands in the metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from converters.formats import NativeFile
from converters.formats._state_dict import split
from converters.tensormap import Entry
from converters.torchvision_names import is_count, state_entries
from converters.weights import Array, Weights
from zoo.errors import FileFormatError, ZooError
from zoo.layers import ModelSpec
from zoo.shapes import parameter_shapes
from zoo.spec_json import METADATA_KEY, dumps, loads
from zoo.torch_names import parameter_names
from zoo.wire.mapped import mapped
from zoo.wire.safetensors import read_safetensors, write_safetensors

SUFFIXES = (".safetensors",)


def read(path: Path) -> NativeFile:
    """Every tensor as a view of the memory-mapped file, and the network the metadata describes, if it does.

    Raises:
        FileFormatError: the file is missing, cut short or damaged, or holds numbers of a type NumPy does not have.
    """
    data = mapped(path)
    try:
        tensors, metadata = read_safetensors(data)
        text = metadata.get(METADATA_KEY)
        if text is not None:
            return NativeFile(tensors=tensors, spec=loads(text))
        weights, averages = split(path, tensors)
        return NativeFile(tensors=weights, averages=averages)
    except (ValueError, RecursionError, ZooError) as error:
        raise FileFormatError(path, f"no sound safetensors file: {error}") from error


def entries(spec: ModelSpec, tensors: Mapping[str, Array] | None) -> list[Entry]:
    """Canonical names as they are; somebody's state dict (torchvision's, say) through PyTorch's table."""
    names = parameter_shapes(spec)
    if tensors is None or all(name in tensors for name in names):
        return [Entry(canonical=name, native=name) for name in names]
    return state_entries(spec, parameter_names(spec), tensors)


def ignored(name: str) -> bool:
    """A counter that PyTorch keeps among the weights."""
    return is_count(name)


def write(path: Path, weights: Weights) -> None:
    """Write the canonical tensors in the network's order, and the network itself into the metadata."""
    metadata = {METADATA_KEY: dumps(weights.spec), "format": "pt", "model": weights.spec.name}
    write_safetensors(path, parameter_shapes(weights.spec), weights.numbers, metadata)


def main_file(path: Path) -> Path:
    """The file itself."""
    return path
