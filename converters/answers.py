"""How a command answers: text or JSON on stdout, a file put in place; and the networks that its words stand for."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

from converters.said import check_network, is_member, says_images
from zoo import registry
from zoo.errors import shown
from zoo.layers import ModelSpec


def print_text(text: str) -> None:
    """Text on stdout, with one end of line at its end; strangers' names in it steer no terminal."""
    print_as_it_is(shown(text, lines=True))


def print_as_it_is(text: str) -> None:
    """Text of which every name has been made harmless, and every colour is ours."""
    sys.stdout.write(text.rstrip("\n") + "\n")


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object of schema 1 on stdout; docs/json.md has its fields."""
    print_text(json.dumps({"schema": 1, **value}, indent=2, sort_keys=False))


def networks(options: argparse.Namespace, *sources: str) -> list[ModelSpec]:
    """What each of them stands for: a family member, or the network of a file."""
    if all(map(is_member, sources)):
        check_network(options, sources[0])
        if not says_images(options):
            return [registry.model(name) for name in sources]
    # Imported here: `zoo show alexnet` must not wait for numpy.
    from converters.source import network

    return [network(options, source) for source in sources]
