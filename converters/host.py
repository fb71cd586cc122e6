"""The process that a command runs in: a program that calls `converters.cli.main` gets its own back as it was."""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager

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
