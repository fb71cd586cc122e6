"""The parser's manners: errors in one line, and ``--help`` with the defaults and examples of every command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from zoo.errors import UnknownNameError, ZooError

# Command -> lines to copy; the tests parse each of them.
EXAMPLES: dict[str, tuple[str, ...]] = {
    "list": ("zoo list", "zoo list frameworks", "zoo list weights caffenet"),
    "info": ("zoo info mine.caffemodel", "zoo info checkpoint.pth.tar --ema"),
    "show": ("zoo show alexnet", "zoo show deploy.prototxt --svg mine.svg", "zoo show bvlc_alexnet --recipe"),
    "diff": ("zoo diff alexnet caffenet", "zoo diff bvlc_alexnet mine.onnx"),
    "run": (
        "zoo run mine.safetensors cat.jpg --images-like caffenet",
        "zoo run mine.safetensors photos/ --layers conv5,fc6 --save activations.npz",
    ),
    "generate": (
        "zoo generate alexnet --framework pytorch -o src",
        "zoo generate --prototxt deploy.prototxt --framework tf_slim -o src",
    ),
    "fetch": (
        "zoo fetch bvlc_reference_caffenet",
        "zoo fetch hf:someone/alexnet/model.safetensors@main -o weights",
    ),
    "convert": (
        "zoo convert mine.caffemodel --prototxt deploy.prototxt -o mine.safetensors",
        "zoo convert model.ckpt --model alexnet_v2 -o model.pt",
        "zoo convert mine.safetensors --labels synset_words.txt -o named.safetensors",
    ),
    "export": (
        "zoo export mine.safetensors -o mine.onnx",
        "zoo export mine.safetensors -o rgb.onnx --fold-preprocessing",
        "zoo export model.ckpt --model alexnet_v2 -o saved_model/",
    ),
    "verify": (
        "zoo verify alexnet",
        "zoo verify mine.caffemodel --prototxt deploy.prototxt --frameworks caffe",
        "zoo verify mine.safetensors mine.onnx --report proof.html",
    ),
    "card": ("zoo card mine.safetensors -o README.md", "zoo card mine.safetensors -o README.md --licence mit"),
    "train": (
        "zoo train alexnet_mini --data digits -o run --steps 200",
        "zoo train mine.safetensors --data photos -o run --freeze 'conv[12]'",
        "zoo train alexnet --data photos -o run --devices 2 --parallel towers",
    ),
    "eval": ("zoo eval run/model.safetensors --data digits", "zoo eval mine.onnx --data photos --ten-crop --per-class"),
    "pack": ("zoo pack photos -o shards",),
    "demo": ("zoo demo", "zoo demo --full -o somewhere"),
}


class Parser(argparse.ArgumentParser):
    """Errors in one line, only whole flags, and the nearest name for an unknown one."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **options})  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Refuse what was typed, in one line."""
        raise ZooError(f"{message}; see: {self.prog} --help")

    def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride]  # its overloads, in one
        self, args: Any = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Options, and nothing that is left over: that is refused."""
        options, unknown = super().parse_known_args(args, namespace)
        for argument in unknown:
            if argument.startswith("-"):
                raise UnknownNameError("flag", argument.partition("=")[0], self._option_string_actions)
            self.error(f"unexpected argument {argument!r}")
        return options, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise UnknownNameError(
                action.option_strings[-1] if action.option_strings else action.dest, value, action.choices
            )


class _Form(argparse.RawDescriptionHelpFormatter):
    """Help that tells each default, where it is more than "not given"."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        told = action.help or ""
        is_told = action.nargs != 0 and action.default is not None and action.default not in ("", argparse.SUPPRESS)
        return f"{told} (default: %(default)s)" if is_told and action.default != [] else told


def explain(parser: argparse.ArgumentParser, told: str, examples: Sequence[str]) -> None:
    """Give a help its sentence, its examples and its defaults."""
    parser.formatter_class = _Form
    parser.description = f"{told[:1].upper()}{told[1:]}."
    parser.epilog = "\n  ".join(("examples:", *examples))
