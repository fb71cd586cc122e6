"""A pytest plugin: parity in the tests of any project.

def test_the_export_is_still_our_network(assert_parity):
    assert_parity("weights.safetensors", "export.onnx")

Every pytest run of every project in an environment loads it, so it has a name that nobody else's module has, and
imports the packages only where the fixture is used: a project may have a ``zoo`` or ``converters`` of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

_HOME = Path(__file__).resolve().parent


@pytest.fixture(name="assert_parity")
def _assert_parity() -> Callable[..., Any]:
    """`converters.testing.assert_parity`, for projects that do not want to import it."""
    for name in ("zoo", "converters"):
        spec = find_spec(name)
        found = Path(spec.origin).resolve() if spec and spec.origin else None
        if found != _HOME / name / "__init__.py":
            pytest.fail(
                f"assert_parity: the package {name!r} of alexnet-zoo is hidden by {found or 'a folder of that name'}; "
                f"run pytest where that is not importable as {name!r}, or give it another name",
                pytrace=False,
            )
    from converters.testing import assert_parity  # only now is it known to be ours

    return assert_parity
