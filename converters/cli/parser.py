"""The parser of the command line, a function a command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from converters import exporters
from converters.cli.helping import EXAMPLES, Parser, explain
from converters.cli.options import (
    add_force,
    add_hardware,
    add_json,
    add_limits,
    add_network,
    add_on_broken,
    add_reading,
    add_source,
    amount,
    devices,
    licence,
    named,
    natural,
    path,
    patterns,
    positive,
    trainer,
)
from zoo import __version__
from zoo.registry import frameworks, runtimes
from zoo.training import TRAINERS


class _Completion(argparse.Action):
    """Prints the completion script of a shell, and ends."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        # Imported here: shtab is an extra, and only this flag needs it.
        from converters.completion import script

        sys.stdout.write(script(parser, values))
        parser.exit()


def _list(add: argparse.ArgumentParser) -> None:
    add.add_argument(
        "kind", nargs="?", choices=("models", "frameworks", "weights"), default="models", help="what to list"
    )
    add.add_argument("pattern", nargs="?", metavar="PATTERN", help="only names with this in them, or like 'caffe*'")
    add_json(add)


def _info(add: argparse.ArgumentParser) -> None:
    add.add_argument("source", type=named, metavar="FILE", help="any file of weights")
    add.add_argument(
        "--from",
        dest="from_format",
        metavar="F",
        help="its format (caffe, pytorch, ...), if neither bytes nor suffix tell",
    )
    add.add_argument("--ema", action="store_true", help="the moving averages in the place of the weights")
    add_limits(add)
    add_json(add)


def _show(add: argparse.ArgumentParser) -> None:
    add.add_argument("source", type=named, metavar="MODEL|SRC", help="a family member, a weights file, or a prototxt")
    add_network(add)
    add_reading(add)
    add_json(add)
    add.add_argument("--svg", type=path, metavar="FILE.svg", help="draw it, as in the paper's figure")
    add.add_argument("--recipe", action="store_true", help="how it is trained, as a file for zoo train --recipe")
    add_force(add)


def _diff(add: argparse.ArgumentParser) -> None:
    add.add_argument("source", type=named, metavar="MODEL|SRC", help="a family member, a weights file, or a prototxt")
    add.add_argument("other", type=named, metavar="MODEL|SRC", help="the one it is held against")
    add_network(add)
    add_reading(add)


def _run(add: argparse.ArgumentParser) -> None:
    add_source(add)
    add.add_argument("images", metavar="IMAGE", nargs="+", type=path, help="pictures, or folders of them")
    add.add_argument("--top", type=positive, default=5, metavar="N", help="so many classes of each")
    add.add_argument("--layers", metavar="a,b", help="whose activations are saved; left out, the outputs'")
    add.add_argument("--save", type=path, metavar="FILE.npz", help="save activations, a layer an array")
    add.add_argument(
        "--framework", choices=frameworks(), metavar="F", help="what runs it; left out, PyTorch if it is installed"
    )
    add.add_argument("--batch-size", type=positive, default=16, metavar="N", help="pictures at once")
    add_json(add)
    add_force(add)


def _generate(add: argparse.ArgumentParser) -> None:
    add.add_argument(
        "source", type=named, metavar="MODEL|SRC", nargs="?", help="a family member, or a file that is a network"
    )
    add_network(add)
    add_reading(add)
    add.add_argument("--framework", required=True, choices=frameworks(), metavar="F", help=", ".join(frameworks()))
    add.add_argument("-o", "--output", type=path, required=True, metavar="DIR", help="the folder it is written to")
    add.add_argument("--num-classes", type=positive, metavar="N", help="with another number of outputs")
    add_force(add)


def _fetch(add: argparse.ArgumentParser) -> None:
    add.add_argument(
        "weights_id", type=named, metavar="WEIGHTS_ID", help="of zoo list weights; or hf:OWNER/REPO/FILE[@REVISION]"
    )
    add.add_argument("-o", "--output", type=path, metavar="DIR", help="where to; left out, the cache")


def _convert(add: argparse.ArgumentParser) -> None:
    add_source(add)
    add.add_argument("-o", "--output", type=path, required=True, metavar="DST", help="its suffix says the format")
    add.add_argument(
        "--to",
        dest="to_format",
        metavar="F",
        help="the target's format (caffe, pytorch, ...), if its suffix does not tell",
    )
    add.add_argument("--num-classes", type=positive, metavar="N", help="a new head for so many classes")
    add_force(add)


def _export(add: argparse.ArgumentParser) -> None:
    add_source(add)
    add.add_argument(
        "-o", "--output", type=named, required=True, metavar="TARGET", help="FILE.onnx, .tflite, .pb or FOLDER/"
    )
    own = exporters.names()
    add.add_argument("--framework", choices=own, metavar="F", help=f"written by its own exporter: {', '.join(own)}")
    add.add_argument("--opset", type=positive, metavar="N", help="ONNX's operator set, 7 to 28; left out, 17")
    add.add_argument("--fast-lrn", action="store_true", help="LRN in the form that ONNX Runtime runs fastest")
    add.add_argument("--fold-preprocessing", action="store_true", help="a network that takes RGB 0..1")
    add.add_argument("--precision", choices=("fp32", "fp16", "int8"), default="fp32", help="of an ONNX file")
    add.add_argument("--calibrate", type=path, metavar="DIR", help="pictures that int8 is calibrated and judged on")
    add.add_argument("--no-verify", action="store_true", help="do not run the result against the reference")
    add_force(add)


def _verify(add: argparse.ArgumentParser) -> None:
    add.add_argument(
        "subjects",
        type=named,
        metavar="SUBJECT",
        nargs="+",
        help="a family member or one weights file, in every framework; or several files, against each other",
    )
    add_network(add)
    add_reading(add)
    add.add_argument(
        "--weights", type=named, metavar="FILE", help="real weights instead of probe weights, for a family member"
    )
    add.add_argument("--frameworks", metavar="a,b", help="these ways to run it only: pytorch, pytorch-onnx, ...")
    add.add_argument("--runtimes", metavar="a,b", help=f"in what it is deployed on: {', '.join(runtimes())}")
    add.add_argument(
        "--image",
        dest="images",
        action="append",
        default=[],
        type=path,
        metavar="FILE",
        help="a picture to feed as well",
    )
    add.add_argument("--data", type=path, metavar="DIR", help="a folder of images: top-1 and top-5 agreement")
    add.add_argument("--seed", type=natural, default=0, metavar="N", help="of the probes")
    add.add_argument(
        "--budget", type=amount, metavar="X", help="largest error, relative to a layer's peak; left out, 1e-5"
    )
    add_json(add)
    add.add_argument("--report", type=path, metavar="FILE", help="write the report: .html, .md or .json")
    add.add_argument(
        "--report-format",
        choices=("html", "md", "json"),
        help="of a --report with any other name; or of what is printed",
    )
    add_force(add)


def _card(add: argparse.ArgumentParser) -> None:
    add_source(add)
    add.add_argument("-o", "--output", type=path, required=True, metavar="FILE", help="usually README.md")
    add.add_argument("--licence", type=licence, metavar="ID", help="as the Hub calls it: mit, apache-2.0, other, ...")
    add.add_argument("--frameworks", metavar="a,b", help="these ways to run it only; see zoo verify")
    add_force(add)


def _train(add: argparse.ArgumentParser) -> None:
    add.add_argument(
        "source", type=named, metavar="MODEL|SRC", help="a family member, a prototxt, or weights to fine-tune"
    )
    add_network(add)
    add_reading(add)
    add.add_argument(
        "--weights", type=named, metavar="SRC", help="begin with these weights, of the MODEL or prototxt that was named"
    )
    add.add_argument(
        "--data", type=named, required=True, metavar="DIR", help="DIR/{train,val}/<class>/*.jpg|png, or: digits"
    )
    add.add_argument("-o", "--output", type=path, required=True, metavar="DIR", help="the folder of the run")
    add.add_argument("--framework", type=trainer, choices=TRAINERS, default="pytorch", help="what trains")
    add.add_argument("--devices", type=devices, default=1, metavar="N", help="processes, each on a device")
    add.add_argument(
        "--parallel",
        choices=("towers", "data", "hybrid"),
        help="how several devices share the work; left out, towers where there are two and N is even, else data",
    )
    add_hardware(add)
    add.add_argument("--deterministic", action="store_true", help="the same bits every time, as far as torch can")
    length = add.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=positive, metavar="N", help="times over the images; left out, the recipe's")
    length.add_argument("--steps", type=positive, metavar="N", help="steps, instead of epochs")
    add.add_argument(
        "--batch-size", type=positive, metavar="N", help="images a step, over all devices; left out, the recipe's"
    )
    add.add_argument(
        "--recipe", type=path, metavar="FILE", help="instead of the network's own; zoo show MODEL --recipe"
    )
    add.add_argument("--lr", type=float, metavar="X", help="the rate at the start, instead of the recipe's")
    add.add_argument("--weight-decay", type=float, metavar="X", help="instead of the recipe's")
    add.add_argument(
        "--freeze", type=patterns, metavar="a,b*", default=[], help="layers, or patterns of layers, that do not learn"
    )
    add.add_argument(
        "--head-rate",
        type=float,
        metavar="X",
        help="the multiple of the rate at which the head learns; left out, the recipe's",
    )
    add.add_argument("--new-head", action="store_true", help="draw the head anew even where the old one would fit")
    add.add_argument("--seed", type=natural, default=0, metavar="N", help="of all that is random")
    add.add_argument("--profile", type=positive, default=0, metavar="N", help="record N steps in DIR/profile")
    add.add_argument("--checkpoint-every", type=positive, default=500, metavar="N", help="steps between checkpoints")
    add_on_broken(add)
    add.add_argument(
        "--resume",
        nargs="?",
        const=True,
        choices=("auto",),
        metavar="auto",
        help="go on from the last checkpoint in the output folder; auto: if there is one",
    )


def _eval(add: argparse.ArgumentParser) -> None:
    add_source(add)
    add.add_argument(
        "--data", type=named, required=True, metavar="DIR", help="DIR/val/<class>/*.jpg|png, DIR/<class>/*, or: digits"
    )
    add.add_argument("--ten-crop", action="store_true", help="the mean over ten views of each image, as in 2012")
    add.add_argument("--per-class", action="store_true", help="the numbers of every class as well")
    add.add_argument("--confusion", type=path, metavar="FILE.csv", help="how often each class was taken for which")
    add_force(add)
    add.add_argument("--devices", type=devices, default=1, metavar="N", help="each judges a part of the images")
    add_hardware(add)
    add.add_argument("--batch-size", type=positive, default=50, metavar="N", help="views in one batch")
    add_json(add)


def _pack(add: argparse.ArgumentParser) -> None:
    add.add_argument("data", type=path, metavar="DIR", help="DIR/{train,val}/<class>/*.jpg|png, or DIR/<class>/*")
    add.add_argument("-o", "--output", type=path, required=True, metavar="SHARDS", help="the folder of shards")
    add.add_argument("--side", type=positive, default=256, metavar="N", help="the shorter one, of what is larger")
    add_on_broken(add)
    add_force(add)


def _demo(add: argparse.ArgumentParser) -> None:
    add.add_argument("-o", "--output", type=path, default=Path("demo"), metavar="DIR", help="the folder for everything")
    add.add_argument("--full", action="store_true", help="the full-size network with probe weights instead")


_COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "list": ("the models, frameworks or public weights there are", _list),
    "info": ("what a weights file is, by its bytes, and what it can become", _info),
    "show": ("a network, layer by layer", _show),
    "diff": ("what tells two networks apart", _diff),
    "run": ("the classes that a network sees in pictures, and its activations", _run),
    "generate": ("write a network as standalone source of a framework", _generate),
    "fetch": ("download public weights, checked by their hash", _fetch),
    "convert": ("carry weights into another format", _convert),
    "export": ("write a network with its weights for deployment, and verify it", _export),
    "verify": ("prove that networks compute the same function, layer by layer", _verify),
    "card": ("a model card of weights, for the Hugging Face Hub, with its proof", _card),
    "train": ("train a network, or fine-tune one, on one device or several", _train),
    "eval": ("top-1 and top-5 of weights on a folder of images", _eval),
    "pack": ("a folder of images as a few large files, made smaller once", _pack),
    "demo": ("the main job: train, convert, export, verify", _demo),
}


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = Parser(prog="zoo")
    told = "AlexNet is one network: specs, models, weights, and the proof"
    explain(parser, told, [EXAMPLES[name][0] for name in ("show", "convert", "export", "verify")])
    parser.add_argument("-v", "--verbose", action="store_true", help="say more, and show tracebacks")
    parser.add_argument("--version", action="version", version=f"zoo {__version__}", help="say which this is")
    parser.add_argument(
        "--print-completion",
        action=_Completion,
        choices=("bash", "zsh", "fish"),
        metavar="SHELL",
        help="bash, zsh or fish",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)

    for name, (told, options) in _COMMANDS.items():
        command = commands.add_parser(name, help=told)
        options(command)
        explain(command, told, EXAMPLES[name])
    return parser
