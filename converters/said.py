"""What stands on the command line: a family member or a file, and options that only a file has a use for."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from zoo import registry
from zoo.errors import ZooError

# The attribute of each -> the option.
_NETWORK = {"model": "--model", "prototxt": "--prototxt"}
_PROTOTXT = {"stage": "--stage", "input": "--input"}
_FILE = {"from_format": "--from", "names": "--map", "map_out": "--map-out", "ema": "--ema", "narrow": "--narrow"}
_IMAGES = ("images_like", "channels", "scale", "mean", "std", "labels")

# How a SRC begins that is a file of the Hugging Face Hub.
HUB = "hf:"


def is_member(word: str) -> bool:
    """Whether a word is a family member's name, and names neither a file nor a folder with a checkpoint in it."""
    if word not in registry.models() or not Path(word).exists():
        return word in registry.models()
    # Imported here: `zoo show alexnet` must not wait for numpy.
    from converters.sniff import sniffed

    return Path(word).is_dir() and sniffed(Path(word)) is None


def check_network(options: argparse.Namespace, name: str, *, has_weights: bool = False) -> None:
    """Refuse options that a family member, or a prototxt, has no use for.

    Args:
        options: with those of `converters.source`.
        name: which it is.
        has_weights: there is a file of weights beside it, which the options can be meant for.

    Raises:
        ZooError: one of them is given.
    """
    member = is_member(name)
    _leave_out(options, {**_NETWORK, **(_PROTOTXT if member else {})}, f"{name} says itself which network it is")
    if not has_weights:
        _leave_out(options, _FILE, f"{name} is {'a family member' if member else 'a network'}, no file of weights")


def _leave_out(options: argparse.Namespace, names: Mapping[str, str], why: str) -> None:
    told = [option for attribute, option in names.items() if getattr(options, attribute)]
    if told:
        raise ZooError(f"{why}; leave {' and '.join(told)} out")


def says_images(options: argparse.Namespace) -> bool:
    """Whether anything is said of how images are prepared, or of what their classes are called."""
    return any(getattr(options, name) is not None for name in _IMAGES)


def retold(options: argparse.Namespace) -> list[str]:
    """The options that say how a SRC is read, as they would be typed again; a table that was written is none."""
    names = {**_NETWORK, **_PROTOTXT, **_FILE, **{name: f"--{name.replace('_', '-')}" for name in _IMAGES}}
    words = list[str]()
    for attribute, option in names.items():
        value = getattr(options, attribute)
        if attribute == "map_out" or value is None or value is False:
            continue
        if attribute == "input":
            value = [f"{name}={'x'.join(map(str, sizes))}" for name, sizes in value]
        for word in value if isinstance(value, list) else [value]:
            words += [option] if word is True else [option, str(word)]
    return words


def listed(option: str, text: str) -> list[str]:
    """Names between commas, each once; raises `ZooError` where one is missing."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise ZooError(f"{option}: expected names between commas, got {text!r}")
    return list(dict.fromkeys(names))
