"""How a command answers: text or JSON on stdout, a file put in place; and the networks that its words stand for."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converters.said import check_network, is_member, says_images
from zoo import registry
from zoo.errors import shown
from zoo.layers import ModelSpec
from zoo.wire.atomic import check_target, publish, staging


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


def write_text(path: Path, text: str, *, force: bool) -> None:
    """A text file, put in place as a whole.

    Raises:
        ZooError: something is there, without `force`; or it cannot be written.
    """
    check_target(path, force=force)
    with staging(path) as folder:
        # A file's name need not be UTF-8; Python has what is not as halves of letters, which no file can hold.
        (folder / path.name).write_text(text, encoding="utf-8", errors="replace")
        publish(folder, path, force=force)
