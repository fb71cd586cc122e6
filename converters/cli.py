"""The command line: parse, call, exit code. What the commands do stands in `converters.commands`."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from converters.helping import Parser, explain
from converters.host import NOISY, as_it_was, interruptible
from zoo import __version__
from zoo.environment import environment
from zoo.errors import ZooError, how_ended, one_line
from zoo.limits import DEFAULT_GIGABYTES, memory_limit
from zoo.registry import frameworks, missing, runtimes
from zoo.training import SETTINGS

# Command -> what its libraries read from the environment as they are loaded.
_ENVIRONMENT = {
    "convert": {"OPENBLAS_NUM_THREADS": "1"},  # it multiplies nothing: BLAS's threads would only be in its way
    "train": SETTINGS,
    "eval": SETTINGS,
    "demo": SETTINGS,
}


class _Completion(argparse.Action):
    """Prints the completion script of a shell, and ends."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        # Imported here: shtab is an extra, and only this flag needs it.
        from converters.completion import script

        sys.stdout.write(script(parser, values))
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = Parser(prog="zoo", description="AlexNet is one network: specs, models, weights, and the proof.")
    parser.add_argument("-v", "--verbose", action="store_true", help="say more, and show tracebacks")
    parser.add_argument("--version", action="version", version=f"zoo {__version__}")
    parser.add_argument(
        "--print-completion",
        action=_Completion,
        choices=("bash", "zsh", "fish"),
        metavar="SHELL",
        help="bash, zsh or fish",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)

    add = commands.add_parser("list", help="the models, frameworks or public weights there are")
    add.add_argument(
        "kind", nargs="?", choices=("models", "frameworks", "weights"), default="models", help="what to list"
    )
    add.add_argument("pattern", nargs="?", metavar="PATTERN", help="only names with this in them, or like 'caffe*'")
    _json(add)

    add = commands.add_parser("info", help="what a weights file is, by its bytes, and what it can become")
    add.add_argument("source", metavar="FILE", help="any file of weights")
    add.add_argument("--from", dest="from_format", metavar="F", help="its format, if neither bytes nor suffix tell")
    add.add_argument("--ema", action="store_true", help="the moving averages in the place of the weights")
    _json(add)

    add = commands.add_parser("show", help="a network, layer by layer")
    add.add_argument("source", metavar="MODEL|SRC", help="a family member, a weights file, or a prototxt")
    _network(add)
    _reading(add)
    _json(add)
    add.add_argument("--svg", type=Path, metavar="FILE", help="draw it, as in the paper's figure")
    add.add_argument("--recipe", action="store_true", help="how it is trained, as a file for zoo train --recipe")
    _force(add)

    add = commands.add_parser("diff", help="what tells two networks apart")
    add.add_argument("source", metavar="MODEL|SRC", help="a family member, a weights file, or a prototxt")
    add.add_argument("other", metavar="MODEL|SRC", help="the one it is held against")
    _network(add)
    _reading(add)

    add = commands.add_parser("run", help="the classes that a network sees in pictures, and its activations")
    _source(add)
    add.add_argument("images", metavar="IMAGE", nargs="+", type=Path, help="pictures, or folders of them")
    add.add_argument("--top", type=_positive, default=5, metavar="N", help="so many classes of each")
    add.add_argument("--layers", default="", metavar="a,b", help="whose activations are saved; left out, the outputs'")
    add.add_argument("--save", type=Path, metavar="FILE.npz", help="save activations, a layer an array")
    add.add_argument(
        "--framework", choices=frameworks(), metavar="F", help="what runs it; left out, PyTorch if it is installed"
    )
    add.add_argument("--batch-size", type=_positive, default=16, metavar="N", help="pictures at once")
    _json(add)
    _force(add)

    add = commands.add_parser("generate", help="write a network as standalone source of a framework")
    add.add_argument("source", metavar="MODEL|SRC", nargs="?", help="a family member, or a file that is a network")
    _network(add)
    _reading(add)
    add.add_argument("--framework", required=True, choices=frameworks(), metavar="F", help=", ".join(frameworks()))
    add.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="the folder it is written to")
    add.add_argument("--num-classes", type=_positive, metavar="N", help="with another number of outputs")
    _force(add)

    add = commands.add_parser("fetch", help="download public weights, checked by their hash")
    add.add_argument("weights_id", metavar="WEIGHTS_ID", help="of zoo list weights; or hf:OWNER/REPO/FILE[@REVISION]")
    add.add_argument("-o", "--output", type=Path, metavar="DIR", help="where to; left out, the cache")

    add = commands.add_parser("convert", help="carry weights into another format")
    _source(add)
    add.add_argument("-o", "--output", type=Path, required=True, metavar="DST", help="its suffix says the format")
    add.add_argument("--to", dest="to_format", metavar="F", help="the target's format, if its suffix does not tell")
    add.add_argument("--num-classes", type=_positive, metavar="N", help="a new head for so many classes")
    _force(add)

    add = commands.add_parser("export", help="write a network with its weights for deployment, and verify it")
    _source(add)
    add.add_argument("-o", "--output", required=True, metavar="TARGET", help="FILE.onnx, .tflite, .pb or FOLDER/")
    add.add_argument("--opset", type=_positive, metavar="N", help="ONNX's operator set; left out, the usual one")
    add.add_argument("--fast-lrn", action="store_true", help="LRN in the form that ONNX Runtime runs fastest")
    add.add_argument("--fold-preprocessing", action="store_true", help="a network that takes RGB 0..1")
    add.add_argument("--precision", choices=("fp32", "fp16", "int8"), default="fp32", help="of an ONNX file (fp32)")
    add.add_argument("--calibrate", type=Path, metavar="DIR", help="pictures that int8 is calibrated and judged on")
    add.add_argument("--no-verify", action="store_true", help="do not run the result against the reference")
    _force(add)

    add = commands.add_parser("verify", help="prove that networks compute the same function, layer by layer")
    add.add_argument(
        "subjects",
        metavar="SUBJECT",
        nargs="+",
        help="a family member or one weights file, in every framework; or several files, against each other",
    )
    _network(add)
    _reading(add)
    add.add_argument("--weights", metavar="FILE", help="real weights instead of probe weights, for a family member")
    add.add_argument("--frameworks", metavar="a,b", help="these ways to run it only: pytorch, pytorch-onnx, ...")
    add.add_argument("--runtimes", metavar="a,b", help=f"in what it is deployed on: {', '.join(runtimes())}")
    add.add_argument(
        "--image",
        dest="images",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="a picture to feed as well",
    )
    add.add_argument("--data", type=Path, metavar="DIR", help="a folder of images: top-1 and top-5 agreement")
    add.add_argument("--seed", type=_natural, default=0, metavar="N", help="of the probes")
    add.add_argument(
        "--budget", type=float, metavar="X", help="largest error, relative to a layer's peak; left out, 1e-5"
    )
    _json(add)
    add.add_argument("--report", type=Path, metavar="FILE", help="write the report: .html, .md or .json")
    add.add_argument(
        "--report-format",
        choices=("html", "md", "json"),
        help="of a --report with any other name; or of what is printed",
    )
    _force(add)

    add = commands.add_parser("card", help="a model card of weights, for the Hugging Face Hub, with its proof")
    _source(add)
    add.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="usually README.md")
    add.add_argument("--licence", metavar="ID", help="as the Hub calls it: mit, apache-2.0, other, ...")
    add.add_argument("--frameworks", metavar="a,b", help="these ways to run it only; see zoo verify")
    _force(add)

    _add_train(commands.add_parser("train", help="train a network, or fine-tune one, on one device or several"))
    _add_eval(commands.add_parser("eval", help="top-1 and top-5 of weights on a folder of images"))

    add = commands.add_parser("pack", help="a folder of images as a few large files, made smaller once")
    add.add_argument("data", type=Path, metavar="DIR", help="DIR/{train,val}/<class>/*.jpg|png, or DIR/<class>/*")
    add.add_argument("-o", "--output", type=Path, required=True, metavar="SHARDS", help="the folder of shards")
    add.add_argument("--side", type=_positive, default=256, metavar="N", help="the shorter one, of what is larger")
    _on_broken(add)
    _force(add)

    add = commands.add_parser("demo", help="the main job: train, convert, export, verify")
    add.add_argument("-o", "--output", type=Path, default=Path("demo"), metavar="DIR", help="the folder for everything")
    add.add_argument("--full", action="store_true", help="the full-size network with probe weights instead")
    for name in ("run", "generate", "convert", "export", "verify", "card", "train", "eval"):
        _memory(commands.choices[name])
    for told in commands._choices_actions:  # pyright: ignore[reportPrivateUsage]  # the sentences that --help lists
        explain(told.dest, commands.choices[told.dest], told.help or "")
    return parser


def _add_train(add: argparse.ArgumentParser) -> None:
    add.add_argument("source", metavar="MODEL|SRC", help="a family member, or a network with weights to fine-tune")
    _network(add)
    _reading(add)
    add.add_argument("--weights", metavar="SRC", help="begin with these weights (of the MODEL that was named)")
    add.add_argument("--data", required=True, metavar="DIR", help="DIR/{train,val}/<class>/*.jpg|png, or: digits")
    add.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="the folder of the run")
    add.add_argument("--framework", choices=("pytorch", "tf_slim"), default="pytorch", help="what trains")
    add.add_argument("--devices", type=_positive, default=1, metavar="N", help="processes, each on a device")
    add.add_argument("--parallel", choices=("towers", "data", "hybrid"), help="how several devices share the work")
    _hardware(add)
    add.add_argument("--deterministic", action="store_true", help="the same bits every time, as far as torch can")
    length = add.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=_positive, metavar="N", help="times over the images; left out, the recipe's")
    length.add_argument("--steps", type=_positive, metavar="N", help="steps, instead of epochs")
    add.add_argument("--batch-size", type=_positive, metavar="N", help="images a step, over all devices")
    add.add_argument(
        "--recipe", type=Path, metavar="FILE", help="instead of the network's own; zoo show MODEL --recipe"
    )
    add.add_argument("--lr", type=float, metavar="X", help="the rate at the start, instead of the recipe's")
    add.add_argument("--weight-decay", type=float, metavar="X", help="instead of the recipe's")
    add.add_argument("--freeze", metavar="a,b*", default="", help="layers, or patterns of layers, that do not learn")
    add.add_argument("--head-rate", type=float, metavar="X", help="the multiple of the rate at which the head learns")
    add.add_argument("--new-head", action="store_true", help="draw the head anew even where the old one would fit")
    add.add_argument("--seed", type=_natural, default=0, metavar="N", help="of all that is random")
    add.add_argument("--profile", type=_positive, default=0, metavar="N", help="record N steps in DIR/profile")
    add.add_argument("--checkpoint-every", type=_positive, default=500, metavar="N", help="steps between checkpoints")
    add.add_argument(
        "--workers", type=_natural, metavar="N", help="processes a device that decode images; left out, 2, for digits 0"
    )
    _on_broken(add)
    add.add_argument(
        "--resume",
        nargs="?",
        const=True,
        choices=("auto",),
        metavar="auto",
        help="go on from the last checkpoint in the output folder; auto: if there is one",
    )


def _add_eval(add: argparse.ArgumentParser) -> None:
    _source(add)
    add.add_argument(
        "--data", required=True, metavar="DIR", help="DIR/val/<class>/*.jpg|png, DIR/<class>/*, or: digits"
    )
    add.add_argument("--ten-crop", action="store_true", help="the mean over ten views of each image, as in 2012")
    add.add_argument("--per-class", action="store_true", help="the numbers of every class as well")
    add.add_argument("--confusion", type=Path, metavar="FILE.csv", help="how often each class was taken for which")
    _force(add)
    add.add_argument("--devices", type=_positive, default=1, metavar="N", help="each judges a part of the images")
    _hardware(add)
    add.add_argument("--batch-size", type=_positive, default=50, metavar="N", help="views in one batch")
    add.add_argument(
        "--workers", type=_natural, metavar="N", help="processes a device that decode images; left out, 2, for digits 0"
    )
    _json(add)


def _hardware(add: argparse.ArgumentParser) -> None:
    kinds = ("auto", "cpu", "cuda", "mps")
    add.add_argument("--device", choices=kinds, default="auto", help="what to work on; what is not there is refused")
    add.add_argument("--precision", choices=("fp32", "tf32", "bf16", "fp16"), default="fp32", help="of the arithmetic")
    add.add_argument("--compile", action="store_true", help="by torch.compile: slow to begin, then faster")


def _on_broken(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--on-broken-image", choices=("skip", "stop"), default="stop", help="name it and go on; or stop"
    )


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _memory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-memory", type=_gigabytes, default=DEFAULT_GIGABYTES, metavar="GB", help="that computing may take"
    )


def _gigabytes(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not number > 0:
        raise argparse.ArgumentTypeError(f"expected a number of gigabytes above 0, got {text!r}")
    return number


def _force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="replace what is there")


def _network(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--model", metavar="MODEL", help="the family member, where the file fits several")
    group.add_argument("--prototxt", type=Path, metavar="FILE", help="any Caffe network of the layer vocabulary")
    parser.add_argument(
        "--stage", action="append", default=[], metavar="NAME", help="of a prototxt: keep the layers of this stage"
    )
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        type=_sized,
        metavar="NAME=CxHxW",
        help="of a prototxt: what a data layer feeds that does not say it",
    )


def _sized(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, sizes = text.rpartition("=")
    sides = sizes.split("x")
    if not name or not all(side.isdecimal() and 0 < int(side) < 1 << 31 for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=CxHxW, as in data=3x227x227")
    return name, tuple(map(int, sides))


def _source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="SRC", help="a weights file, an id of zoo list weights, or hf:OWNER/REPO/FILE[@REVISION]"
    )
    _network(parser)
    _reading(parser)


def _reading(parser: argparse.ArgumentParser) -> None:
    """How a SRC is read; of several files, the first."""
    parser.add_argument(
        "--from", dest="from_format", metavar="F", help="the source's format, if neither its bytes nor its suffix tell"
    )
    parser.add_argument("--map", dest="names", type=Path, metavar="FILE", help="YAML, their tensor: our parameter")
    parser.add_argument("--map-out", type=Path, metavar="FILE", help="write that table, with what is open in it")
    parser.add_argument("--ema", action="store_true", help="the moving averages in the place of the weights")
    parser.add_argument("--narrow", action="store_true", help="round float64 that does not fit float32")
    group = parser.add_argument_group("images", "how they are prepared, and their classes, where SRC does not say")
    group.add_argument("--images-like", metavar="MODEL", help="as for this member of the family")
    group.add_argument("--channels", choices=("RGB", "BGR"), help="the order in which the network reads them")
    group.add_argument("--scale", metavar="X", help="what pixels of 0..255 are multiplied with first (1/255)")
    group.add_argument("--mean", metavar="A,B,C|FILE", help="of the scaled pixels; or a .binaryproto or .npy")
    group.add_argument("--std", metavar="A,B,C", help="of the scaled pixels")
    group.add_argument("--labels", type=Path, metavar="FILE", help="a class a line, as synset_words.txt; or a folder")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def _natural(text: str) -> int:
    return 0 if text == "0" else _positive(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status: 0 done, 1 a check failed, 2 trouble."""
    with as_it_was():
        return _answer(list(sys.argv[1:] if argv is None else argv))


def _answer(arguments: Sequence[str]) -> int:
    verbose = "-v" in arguments or "--verbose" in arguments
    try:
        _check_streams()
        with interruptible():
            status = _run(arguments, verbose)
        sys.stdout.flush()
    except ZooError as error:
        return _fail(str(error), error.exit_status, verbose)
    except ModuleNotFoundError as error:
        return _fail(str(missing(error)), 2, verbose)
    except BrokenPipeError:
        # Whoever read the result has left; the interpreter must not complain of it when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    except MemoryError as error:
        return _fail(f"not enough memory: {error or 'for what the file asks for'}", 2, verbose)
    except OSError as error:
        return _fail(f"{error.filename or 'system'}: {error.strerror or error}", 2, verbose)
    except KeyboardInterrupt as error:
        number, told = how_ended(error)
        return _fail(f"{told}; nothing half written was left", 128 + number, verbose=False)
    except Exception as error:  # noqa: BLE001 - also of what nobody foresaw, one line and exit status 2
        told = f"{type(error).__name__}: {error}"
        return _fail(f"internal error, please report it with the traceback that -v shows: {told}", 2, verbose)
    return status


def _check_streams() -> None:
    """A stream that was closed is None in Python, and the next file that is opened would take its place."""
    closed = [name for name in ("stdin", "stdout", "stderr") if getattr(sys, name) is None]
    for name in closed:
        setattr(sys, name, Path(os.devnull).open("r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115
    if "stdout" in closed:
        raise ZooError("stdout is closed, so there is no place for the result; give it one, be it /dev/null")


def _run(arguments: Sequence[str], verbose: bool) -> int:
    options = build_parser().parse_args([a for a in arguments if a not in ("-v", "--verbose")])
    options.arguments = arguments  # for reports: the command that reproduces them
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Log())
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(logging.ERROR)
    if options.command == "convert":
        gc.disable()  # it leaves no garbage
    with environment(_ENVIRONMENT.get(options.command, {})):
        # Imported here: `zoo --help` must not wait for numpy.
        from converters.commands import COMMANDS

        with memory_limit(getattr(options, "max_memory", DEFAULT_GIGABYTES)):
            return COMMANDS[options.command](options)


class _Log(logging.Formatter):
    """Remarks in one line each, whatever names a file has; a traceback in many."""

    def format(self, record: logging.LogRecord) -> str:
        lines = super().format(record).split("\n") if record.exc_info else [one_line(record.getMessage())]
        return "\n".join("".join(c if c.isprintable() else "?" for c in line) for line in lines)


def _fail(message: str, status: int, verbose: bool) -> int:
    if verbose:
        logging.exception("")
    sys.stderr.write(f"zoo: {one_line(message)}\n")
    return status
