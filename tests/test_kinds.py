"""Every kind of layer has a network of its own among the cases that go through every framework."""

from __future__ import annotations

from typing import get_args

from tests.kinds import KINDS
from zoo.layers import Layer


def test_every_kind_has_a_case() -> None:
    tried = {type(layer) for spec in KINDS.values() for layer in spec.layers}
    missing = [kind.__name__ for kind in get_args(Layer) if kind not in tried]
    assert not missing, f"tests/kinds.py has no network of {', '.join(missing)}"
