"""The process that a command runs in: a program that calls `converters.cli.main` gets its own back as it was."""

from __future__ import annotations

import _thread
import gc
import logging
import math
import signal
import sys
import threading
import time
import warnings
from collections.abc import Generator
from contextlib import contextmanager

from zoo.errors import EndedError, Signalled

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
