"""Options that several commands share, and the types of what they take."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

from zoo.limits import DEFAULT, Limits
from zoo.training import NO_TRAINERS


def add_hardware(add: argparse.ArgumentParser) -> None:
    """What trains or judges, and in what arithmetic."""
    kinds = ("auto", "cpu", "cuda", "mps")
    add.add_argument("--device", choices=kinds, default="auto", help="what to work on; what is not there is refused")
    add.add_argument("--precision", choices=("fp32", "tf32", "bf16", "fp16"), default="fp32", help="of the arithmetic")
    add.add_argument("--compile", action="store_true", help="by torch.compile: slow to begin, then faster")
    add.add_argument(
        "--workers", type=workers, metavar="N", help="processes a device that decode images; left out, 2, for digits 0"
    )


def add_on_broken(parser: argparse.ArgumentParser) -> None:
    """What to do with an image that cannot be read."""
    parser.add_argument(
        "--on-broken-image", choices=("skip", "stop"), default="stop", help="name it and go on; or stop"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """The result as JSON."""
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def add_limits(parser: argparse.ArgumentParser) -> None:
    """The limits of what is computed."""
    for flag, most, letter, told in (
        ("--max-memory", DEFAULT.gigabytes, "GB", "that computing may take; a layer alone, an eighth of it"),
        ("--max-operations", DEFAULT.operations, "N", "that computing may take for an item"),
    ):
        parser.add_argument(flag, type=amount, default=f"{most:g}", metavar=letter, help=told)


def limits(options: argparse.Namespace) -> Limits:
    """What was asked for; the defaults for a command that has no limits."""
    return Limits(
        gigabytes=getattr(options, "max_memory", DEFAULT.gigabytes),
        operations=getattr(options, "max_operations", DEFAULT.operations),
    )


def amount(text: str) -> float:
    """A number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not number > 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return number


def trainer(text: str) -> str:
    """A framework that trains, as far as nobody knows why it does not."""
    if text in NO_TRAINERS:
        raise argparse.ArgumentTypeError(f"{text} does not train here: {NO_TRAINERS[text]}")
    return text


def add_force(parser: argparse.ArgumentParser) -> None:
    """Leave to replace what is there."""
    parser.add_argument("--force", action="store_true", help="replace what is there")


def add_network(parser: argparse.ArgumentParser) -> None:
    """The network that a file is read as."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--model",
        type=named,
        metavar="MODEL",
        help="the family member, where the file fits several; or a file that describes a network, as an ONNX graph",
    )
    group.add_argument("--prototxt", type=path, metavar="FILE", help="any Caffe network of the layer vocabulary")
    parser.add_argument(
        "--stage", action="append", default=[], metavar="NAME", help="of a prototxt: keep the layers of this stage"
    )
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        type=sized,
        metavar="NAME=CxHxW",
        help="the size of an input that a prototxt (a data layer) or an ONNX graph leaves open",
    )


def sized(text: str) -> tuple[str, tuple[int, ...]]:
    """``data=3x227x227`` as a name and sizes."""
    name, _, sizes = text.rpartition("=")
    sides = sizes.split("x")
    if not name or not all(side.isdecimal() and 0 < int(side) < 1 << 31 for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=CxHxW, as in data=3x227x227")
    return name, tuple(map(int, sides))


def add_source(parser: argparse.ArgumentParser) -> None:
    """A SRC, the network that it is read as, and how."""
    parser.add_argument(
        "source",
        type=named,
        metavar="SRC",
        help="a weights file, an id of zoo list weights, or hf:OWNER/REPO/FILE[@REVISION]",
    )
    add_network(parser)
    add_reading(parser)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """How a SRC is read, of several files the first; and the limits of what it asks for."""
    parser.add_argument(
        "--from",
        dest="from_format",
        metavar="F",
        help="the source's format (caffe, pytorch, ...), if neither its bytes nor its suffix tell",
    )
    parser.add_argument("--map", dest="names", type=path, metavar="FILE", help="YAML, their tensor: our parameter")
    parser.add_argument("--map-out", type=path, metavar="FILE", help="write that table, with what is open in it")
    parser.add_argument("--ema", action="store_true", help="the moving averages in the place of the weights")
    parser.add_argument("--narrow", action="store_true", help="round float64 that does not fit float32")
    add_limits(parser)
    group = parser.add_argument_group("images", "how they are prepared, and their classes, where SRC does not say")
    group.add_argument("--images-like", type=named, metavar="MODEL", help="as for this member of the family")
    group.add_argument("--channels", choices=("RGB", "BGR"), help="the order in which the network reads them")
    group.add_argument("--scale", metavar="X", help="what pixels of 0..255 are multiplied with first (1/255)")
    group.add_argument(
        "--mean", type=named, metavar="A,B,C|FILE", help="of the scaled pixels; or a .binaryproto, .npy or .mat"
    )
    group.add_argument("--std", metavar="A,B,C", help="of the scaled pixels")
    group.add_argument("--labels", type=path, metavar="FILE", help="a class a line, as synset_words.txt; or a folder")


def named(text: str) -> str:
    """What names a file, a folder or a network.

    An empty name, as of a variable that is not set, would be the folder one stands in; a dash, a file of that name.
    """
    if text in ("", "-"):
        raise argparse.ArgumentTypeError(f"expected a name, got {text!r}; stdin and stdout are none")
    if "://" in text:
        raise argparse.ArgumentTypeError(f"expected a file here, got the address {text}; download it first")
    return text


def path(text: str) -> Path:
    """A file or a folder."""
    return Path(named(text))


def patterns(text: str) -> tuple[str, ...]:
    """Names or patterns between commas; an empty one, as of a variable that is not set, is a slip."""
    found = tuple(text.split(","))
    if not all(found):
        raise argparse.ArgumentTypeError(f"expected names or patterns between commas, got {text!r}")
    return found


def licence(text: str) -> str:
    """An identifier of the Hub's list of licences (its docs, "Licenses"): ``apache-2.0``, ``openrail++``."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]{0,63}", text):
        raise argparse.ArgumentTypeError(f"expected an identifier of the Hub's list, as apache-2.0, got {text!r}")
    return text


def whole(least: int, most: int = 10**18) -> Callable[[str], int]:
    """What reads a whole number from `least` to `most`."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text[:_DIGITS]) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text!r}")
        if len(text) >= _DIGITS or int(text) > most:
            raise argparse.ArgumentTypeError(f"expected a whole number of at most {most:,}, got {text!r}")
        return int(text)

    return number


_DIGITS = 20  # more than any number that is asked for
positive, natural = whole(1), whole(0)
# A slip of the hand must not start more processes than a machine bears.
devices, workers = whole(1, 64), whole(0, 256)
