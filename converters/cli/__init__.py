"""The command line: parse, call, exit code. What the commands do stands in `converters.commands`."""

from __future__ import annotations

import gc
import io
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from converters.cli.options import limits
from converters.cli.parser import build_parser
from converters.host import NOISY, as_it_was, interruptible, shrinking_is_told
from zoo.environment import UNTOLD, environment
from zoo.errors import ZooError, how_ended, one_line, shown
from zoo.limits import allowing
from zoo.registry import missing
from zoo.training import SETTINGS

__all__ = ["build_parser", "main", "program"]

# Command -> what its libraries read from the environment as they are loaded.
_ENVIRONMENT = {
    "convert": {"OPENBLAS_NUM_THREADS": "1"},  # it multiplies nothing: BLAS's threads would only be in its way
    "train": SETTINGS,
    "eval": SETTINGS,
    "demo": SETTINGS,
}


def program() -> NoReturn:
    """The `zoo` of a shell. Its process is its own: nobody waits for a KeyboardInterrupt before or after the work.

    A Ctrl-C before it ends the process as the system does, without a traceback; after it, the work is done.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # nohup's is left
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    status = main()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(status)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status: 0 done, 1 a check failed, 2 trouble."""
    with as_it_was():
        return _answer(list(sys.argv[1:] if argv is None else argv))


def _answer(arguments: Sequence[str]) -> int:
    verbose = "-v" in arguments or "--verbose" in arguments
    try:
        _check_streams()
        with interruptible(), shrinking_is_told():
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
    except UnicodeEncodeError as error:  # of TensorFlow's, which takes every path as UTF-8
        told = "a library that is needed here takes names in UTF-8 alone; rename this, and the folders above it"
        return _fail(f"{error.object}: {told}", 2, verbose)
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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # of a locale that lacks a letter, as × in most of them
            stream.reconfigure(errors="replace")


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
    with environment({**UNTOLD, **_ENVIRONMENT.get(options.command, {})}):
        # Imported here: `zoo --help` must not wait for numpy.
        from converters.commands import COMMANDS

        with allowing(limits(options)):
            return COMMANDS[options.command](options)


class _Log(logging.Formatter):
    """Remarks in one line each, whatever names a file has; a traceback in many."""

    def format(self, record: logging.LogRecord) -> str:
        return shown(super().format(record), lines=True) if record.exc_info else one_line(record.getMessage())


def _fail(message: str, status: int, verbose: bool) -> int:
    if verbose:
        logging.exception("")
    sys.stderr.write(f"zoo: {one_line(message)}\n")
    return status
