"""What a weights file is, and what can be done with it; its numbers stay where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from converters.convert import Reading, open_file
from converters.formats import suffixes
from converters.widen import type_name
from zoo.axes import shape_text
from zoo.errors import one_line, shown

# So many names of classes are shown to people.
_NAMES_SHOWN = 5
_LONGEST_WRITER = 120


def info(path: Path, how: Reading) -> dict[str, Any]:
    """What a file holds, for people and programs.

    Returns:
        ``path``, ``format``; ``writer``: what wrote it, where it says so; ``tensors``: name, shape and type of each;
        ``averages``: whether averages lie beside them; ``network``: the name of the one the file describes, or its
        graph is, or None; ``class_names``: of its outputs, as far as the file or the user says them; ``unread``: why
        what it says of one could not be read; ``fits``: the members of the family whose parameters the tensors can be;
        ``misfits``: the others, each with the first reason; ``becomes``: suffixes of what it can be converted into,
        where its network is known.

    Raises:
        ZooError: it cannot be read.
    """
    file = open_file(path, how, numbers=False)
    reasons, network, graph = file.misfits(), file.described, file.native.graph
    if graph:
        network = graph.spec
    fits = [name for name, reason in reasons.items() if reason is None]
    return {
        "path": str(path),
        "format": file.format,
        "writer": one_line(file.native.writer)[:_LONGEST_WRITER],
        "tensors": [
            {"name": name, "shape": list(tensor.shape), "type": type_name(tensor)}
            for name, tensor in file.native.tensors.items()
        ],
        "averages": file.native.averages is not None,
        "network": network.name if network else None,
        "class_names": list(how.images.classes or file.native.images.classes or (network.classes if network else ())),
        "fits": fits,
        "unread": graph.refusal if graph else file.native.refusal,
        "misfits": {name: reason for name, reason in reasons.items() if reason is not None},
        "becomes": [] if file.native.refusal else list(suffixes()),
    }


def info_text(told: dict[str, Any]) -> str:
    """The same for people."""
    writer = f", written by {told['writer']}" if told["writer"] else ""
    lines = [f"{told['path']}: {told['format']}{writer}, {len(told['tensors'])} tensors"]
    width = max((len(tensor["name"]) for tensor in told["tensors"]), default=0)
    for tensor in told["tensors"]:
        lines.append(f"  {tensor['name']:{width}}  {tensor['type']}  {shape_text(tensor['shape'])}")
    if told["averages"]:
        lines.append("moving averages lie beside them (--ema)")
    lines.append(f"describes: {told['network'] or told['unread'] or 'no network'}")
    if told["class_names"]:
        names, more = told["class_names"], ", ..." if len(told["class_names"]) > _NAMES_SHOWN else ""
        lines.append(f"classes: {len(names):,}: {one_line(', '.join(names[:_NAMES_SHOWN]))}{more}")
    can_be_read = told["becomes"] and not told["network"]
    none = "no network of the family" + ("; give its --prototxt" if can_be_read else "")
    lines.append(f"fits: {', '.join(told['fits']) or none}")
    lines += [f"  not {name}: {reason}" for name, reason in told["misfits"].items()]
    how = ", with --model or --prototxt" if can_be_read and len(told["fits"]) != 1 else ""
    lines.append(f"becomes: {' '.join(told['becomes']) or 'nothing'}{how}")
    return "\n".join(map(shown, lines))
