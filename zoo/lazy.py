"""A package that declares what it offers, and imports each name's module when the name is first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module


def lazy(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """The ``__getattr__`` of `package` (PEP 562).

    Args:
        package: its name.
        homes: what it offers -> the module that defines it; a module offered as itself is its own home.
    """

    def find(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(homes[name])
        return module if homes[name] == f"{package}.{name}" else getattr(module, name)

    return find
