"""What there is, one row each with its name and a summary: models, frameworks, public weights."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from importlib import metadata
from typing import Any

from zoo import registry
from zoo.errors import UnknownNameError
from zoo.shapes import parameter_count


def models() -> list[dict[str, Any]]:
    """The family: name, title, parameters, input."""
    specs = [registry.model(name) for name in registry.models()]
    return [
        {"name": spec.name, "summary": f"{parameter_count(spec):>11,} parameters  {spec.title}", "title": spec.title}
        | {"parameters": parameter_count(spec), "input": list(spec.inputs[0].shape)}
        for spec in specs
    ]


def frameworks() -> list[dict[str, Any]]:
    """The frameworks, each with the version that is installed, if it is."""
    rows = list[dict[str, Any]]()
    for name in registry.frameworks():
        distribution = registry.distribution(name)
        try:
            version = metadata.version(distribution)
            summary = f"{distribution} {version}"
        except metadata.PackageNotFoundError:
            version, summary = None, f"not installed; run: pip install {registry.wanted(name)}"
        rows.append({"name": name, "summary": summary, "version": version})
    return rows


def weights() -> list[dict[str, Any]]:
    """The public weights of the manifest."""
    from converters import manifest  # what reads it is an extra

    return [
        {
            "name": entry.id,
            "summary": f"{entry.model or '-':18} {entry.format:14} {entry.size / 1e6:>6.1f} MB  "
            f"{'cached' if manifest.is_cached(entry) else '-':6}  {entry.licence}",
            "model": entry.model,
            "format": entry.format,
            "size": entry.size,
            "cached": manifest.is_cached(entry),
        }
        for entry in manifest.entries()
    ]


_LISTS: dict[str, Callable[[], list[dict[str, Any]]]] = {"models": models, "frameworks": frameworks, "weights": weights}


def rows(kind: str, pattern: str | None) -> list[dict[str, Any]]:
    """A list's rows: all, or those whose names hold the pattern or, with a wildcard in it, are like it.

    Args:
        kind: ``models``, ``frameworks`` or ``weights``.
        pattern: as the user has typed it.

    Raises:
        UnknownNameError: no name is like it.
    """
    found = _LISTS[kind]()
    if pattern is None:
        return found
    wanted = pattern.lower() if set("*?[") & set(pattern) else f"*{pattern.lower()}*"
    like = [row for row in found if fnmatchcase(row["name"].lower(), wanted)]
    if not like:
        raise UnknownNameError(f"name among {kind}", pattern, [row["name"] for row in found])
    return like
