"""One file a framework: its own exporter, to ONNX and whatever else it writes, as people run it."""

from __future__ import annotations

from typing import Any

from zoo import registry
from zoo.errors import UnknownNameError, UnsupportedError


def names() -> list[str]:
    """The frameworks that have one."""
    return registry.names(__name__)


def exporter(framework: str) -> Any:
    """A framework's exporter.

    Raises:
        UnknownNameError: there is none; the nearest names are offered.
        MissingDependencyError: what it needs is not installed; says what brings it.
    """
    if framework not in names():
        raise UnknownNameError("exporter", framework, names())
    return registry.imported(f"{__name__}.{framework}", registry.facts(__name__, framework).get("EXTRA"))


def checked_opset(writer: str, opset: int | None, usual: int, known: range) -> int:
    """The ONNX operator set that is written; the usual one where none is asked for.

    Raises:
        UnsupportedError: the exporter, here under its own name, cannot write that one.
    """
    if (opset or usual) not in known:
        raise UnsupportedError(f"{writer} writes opsets {known[0]} to {known[-1]}, not {opset}")
    return opset or usual
