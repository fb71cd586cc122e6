"""Shell completion: the command line as a script that bash, zsh or fish read once at their start."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, cast

import shtab

from zoo import registry

# What a metavar stands for.
_FILES = ("FILE", "SRC", "DST", "TARGET", "SUBJECT")
_FOLDERS = ("DIR",)
_MODELS = ("MODEL", "MODEL|SRC")


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The completion script of a command line.

    Args:
        parser: the whole command line; models and files are completed by what its arguments' metavars say.
        shell: ``bash``, ``zsh`` or ``fish``.
    """
    for action in _actions(parser):
        if action.metavar in _MODELS:
            action.choices = registry.models()
        elif action.metavar in (*_FILES, *_FOLDERS):  # shtab looks for an attribute that argparse does not know
            cast(Any, action).complete = shtab.FILE if action.metavar in _FILES else shtab.DIRECTORY
    return shtab.complete(parser, shell)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # pyright: ignore[reportPrivateUsage]  # argparse offers no other way to them
        yield action
        if isinstance(action, argparse._SubParsersAction):  # pyright: ignore[reportPrivateUsage]
            for command in cast("dict[str, argparse.ArgumentParser]", action.choices).values():
                yield from _actions(command)
