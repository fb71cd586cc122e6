"""The process that a command runs in: a program that calls `converters.cli.main` gets its own back as it was."""

from __future__ import annotations

import _thread
import ctypes
import gc
import logging
import math
import os
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from textwrap import fill
from typing import Any

from zoo.errors import EndedError, Signalled, one_line
from zoo.wire.folders import remove_all
from zoo.wire.watched import shrunken

# Frameworks that talk of themselves while they load.
NOISY = ("PIL", "matplotlib", "torch", "onnxscript", "onnx_ir", "tensorflow", "tf2onnx", "h5py", "absl")


@contextmanager
def as_it_was() -> Generator[None]:
    """Restore log levels, the root's handlers, warning filters and the collection of garbage."""
    root, collecting = logging.getLogger(), gc.isenabled()
    levels = {logger: logger.level for logger in (root, *map(logging.getLogger, NOISY))}
    handlers = list(root.handlers)
    with warnings.catch_warnings():
        try:
            yield
        finally:
            root.handlers[:] = handlers
            for logger, level in levels.items():
                logger.setLevel(level)
            if collecting:
                gc.enable()


# Windows has no SIGHUP; a console that is closed there sends SIGBREAK.
_ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
_UNTOUCHED = (signal.SIG_DFL, signal.default_int_handler)
# `timeout` and terminals that close send their signal twice at once: the second must not break into the cleaning up.
_SAME = 2.0
# Seconds until a signal is raised again that nobody heard.
_AGAIN = 0.05


@contextmanager
def interruptible() -> Generator[None]:
    """A signal that asks for the end is a `Signalled`, whatever a framework's import that it breaks into makes of it.

    A program that has said what is to happen on a signal, or to pass one over (`nohup`), is left its way.
    """
    came: list[tuple[int, float]] = []

    def note(number: int, _: object) -> None:
        now = time.monotonic()
        if not came or now - came[-1][1] > _SAME:
            came.append((number, now))
            raise Signalled(number)

    def passed_over(ignored: sys.UnraisableHookArgs) -> None:
        """It broke into a destructor or the collector of garbage, where Python drops what is raised: once more."""
        if isinstance(ignored.exc_value, Signalled):
            came.append((ignored.exc_value.number, -math.inf))
            later = threading.Timer(_AGAIN, _thread.interrupt_main, (ignored.exc_value.number,))
            later.daemon = True
            later.start()
        else:
            hook(ignored)

    hook, is_main = sys.unraisablehook, threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in _ENDING} if is_main else {}
    own = [number for number, handler in before.items() if handler in _UNTOUCHED]
    for number in own:
        signal.signal(number, note)
    if own:
        sys.unraisablehook = passed_over
    try:
        yield
    except EndedError:  # which says more of it
        raise
    except Exception:
        if not came:
            raise
    finally:
        sys.unraisablehook = hook
        for number in own:
            signal.signal(number, before[number])
    if came:  # it may also have been taken for a framework that cannot be imported
        raise Signalled(came[0][0])


@contextmanager
def shrinking_is_told() -> Generator[None]:
    """SIGBUS, by which a file that becomes shorter while it is mapped ends a process, is one line that names the file.

    It comes in the middle of an instruction that cannot be gone on from, so that Python's own handlers, which wait for
    the next one, never run: this handler is called by the C library itself, and never returns.
    """
    if not hasattr(signal, "SIGBUS"):  # Windows lets nobody shorten a file that is mapped
        yield
        return
    kind = ctypes.CFUNCTYPE(None, ctypes.c_int)
    set_handler = ctypes.CDLL(None).signal
    set_handler.restype, set_handler.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p)

    def end(number: int) -> None:
        told = shrunken()
        if told is None:  # no file of ours
            set_handler(number, None)
            return
        remove_all()
        os.write(2, f"zoo: {one_line(told)}\n".encode())
        os._exit(2)

    called = kind(end)
    before = set_handler(signal.SIGBUS, ctypes.cast(called, ctypes.c_void_p))
    try:
        yield
    finally:
        set_handler(signal.SIGBUS, before)


# What glibc's `mallopt` calls the free memory that it keeps, and the size from which on an array has pages of its own
# (malloc.h); what they are set to here, and what they are where nobody sets them.
_THRESHOLDS = (-1, -3)
_KEPT, _USUAL = 2**30, 2**17


@contextmanager
def memory_kept() -> Generator[None]:
    """Arrays that are let go leave their memory to the next ones: new pages cost as much as what is computed on them.

    Where the C library is not glibc, nothing is changed.
    """
    library: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(library, "mallopt"):
        yield
        return
    for threshold in _THRESHOLDS:
        library.mallopt(threshold, _KEPT)
    try:
        yield
    finally:
        for threshold in _THRESHOLDS:
            library.mallopt(threshold, _USUAL)
        library.malloc_trim(0)


def columns() -> int | None:
    """How wide the terminal is that a result is read on; None where there is none, and nothing says it."""
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and int(told) > 0:
        return int(told)
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def fitted(text: str, hang: int = 0) -> str:
    """Each line of a text in as many as the terminal takes, those after its first one `hang` letters in."""
    width = columns()
    if width is None or width < hang + 20:
        return text
    lines = (fill(line, width, subsequent_indent=" " * hang) for line in text.split("\n"))
    return "\n".join(lines)


def colours() -> bool:
    """Whether a result is printed in colours: on a terminal that has them, unless NO_COLOR (no-color.org) is set."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
