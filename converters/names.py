"""A user's own table of names, ``theirs: ours``: applied to the tensors of a file, or written from them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from converters.sniff import refuse_others
from converters.tensormap import Entry
from converters.weights import Array
from zoo.errors import FileFormatError, UnknownNameError
from zoo.layers import ModelSpec, Shape
from zoo.registry import optional
from zoo.shapes import parameter_shapes
from zoo.wire.atomic import write_text

_MAX_BYTES = 1 << 20

Names = Mapping[str, str | None]


def read_map(path: Path) -> dict[str, str | None]:
    """Their tensor -> our parameter (``conv1.weight``), or None for one that is left out.

    Raises:
        FileFormatError: it is missing, no YAML, or no such table.
    """
    refuse_others(path)
    with optional():
        from zoo.wire.yaml_loader import read_yaml
    table = read_yaml(path, _MAX_BYTES)
    if not isinstance(table, dict) or not all(
        isinstance(theirs, str) and isinstance(ours, str | None) for theirs, ours in table.items()
    ):
        raise FileFormatError(path, "expected lines of theirs: ours (or theirs: null, to leave a tensor out)")
    return table


def renamed(names: Names, tensors: Mapping[str, Array], own: Iterable[Entry], spec: ModelSpec) -> dict[str, Array]:
    """`tensors` with those of a user's table under the names the format itself would give them.

    Args:
        names: as `read_map` gives them.
        tensors: of the file.
        own: the format's table for a file to be written.
        spec: the network.

    Raises:
        UnknownNameError: the file has no such tensor, or the network no such parameter.
        FileFormatError: two tensors are called one parameter.
    """
    natives = {entry.canonical: entry.native for entry in own}
    found = {name: tensor for name, tensor in tensors.items() if name not in names}
    for theirs, ours in names.items():
        if theirs not in tensors:
            raise UnknownNameError("tensor of the file", theirs, tensors)
        if ours is None:
            continue
        if ours not in natives:
            raise UnknownNameError(f"parameter of {spec.name}", ours, natives)
        if natives[ours] in found:
            raise FileFormatError("--map", f"{theirs} is called {ours}, and so is another tensor")
        found[natives[ours]] = tensors[theirs]
    return found


def write_map(path: Path, table: Iterable[Entry], tensors: Mapping[str, Array], spec: ModelSpec) -> None:
    """Write the table of names a file is read by; what is open stands in it as remarks, with what would fit.

    Raises:
        ZooError: the target exists.
    """
    entries, shapes = {entry.canonical: entry for entry in table}, parameter_shapes(spec)
    used = {entry.native for entry in entries.values() if entry.native in tensors}
    left = {name: tensor.shape for name, tensor in tensors.items() if name not in used}
    lines = [f"# theirs: ours, for {spec.name}"]
    for name, entry in entries.items():
        if entry.native in used:
            lines.append(f"{json.dumps(entry.native)}: {name}")
        else:
            lines.append(_open(name, entry.native_shape(shapes[name]), left))
    lines += [f"# {json.dumps(name)}: null  # left out, {shape}" for name, shape in left.items()]
    write_text(path, "\n".join(lines) + "\n", force=False)


def _open(name: str, shape: Shape, left: Mapping[str, Shape]) -> str:
    fitting = [json.dumps(theirs) for theirs, found in left.items() if found == shape]
    return f"# {' or '.join(fitting) or 'none of its shape'}: {name}  # {shape}"
