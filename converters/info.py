"""What a weights file is, and what can be done with it; its numbers stay where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from converters.convert import Reading, open_file
from converters.formats import suffixes
from converters.widen import type_name
from zoo.axes import shape_text


def info(path: Path, how: Reading) -> dict[str, Any]:
    """What a file holds, for people and programs.

    Returns:
        ``path``, ``format``; ``tensors``: name, shape and type of each; ``averages``: whether averages lie beside
        them; ``network``: the name of the one the file describes, or its graph is, or None; ``unread``: why a graph
        could not be read as one; ``fits``: the members of the family whose
        parameters the tensors can be; ``misfits``: the others, each with the first reason; ``becomes``: suffixes of
        what it can be converted into, where its network is known.

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
        "tensors": [
            {"name": name, "shape": list(tensor.shape), "type": type_name(tensor)}
            for name, tensor in file.native.tensors.items()
        ],
        "averages": file.native.averages is not None,
        "network": network.name if network else None,
        "fits": fits,
        "unread": graph.refusal if graph else "",
        "misfits": {name: reason for name, reason in reasons.items() if reason is not None},
        "becomes": list(suffixes()),
    }


def info_text(told: dict[str, Any]) -> str:
    """The same for people."""
    lines = [f"{told['path']}: {told['format']}, {len(told['tensors'])} tensors"]
    width = max((len(tensor["name"]) for tensor in told["tensors"]), default=0)
    for tensor in told["tensors"]:
        lines.append(f"  {tensor['name']:{width}}  {tensor['type']}  {shape_text(tensor['shape'])}")
    if told["averages"]:
        lines.append("moving averages lie beside them (--ema)")
    lines.append(f"describes: {told['network'] or told['unread'] or 'no network'}")
    lines.append(f"fits: {', '.join(told['fits']) or 'no network of the family; give its --prototxt'}")
    lines += [f"  not {name}: {reason}" for name, reason in told["misfits"].items()]
    known = told["network"] or len(told["fits"]) == 1
    lines.append(f"becomes: {' '.join(told['becomes'])}{'' if known else ', with --model or --prototxt'}")
    return "\n".join(lines)
