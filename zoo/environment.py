"""What a library reads and says as it is loaded: environment variables, and remarks that no log level counts for."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager

# ONNX Runtime tells its maker which models are run, since 1.29, and keeps a number of the machine's in the user's home.
# It reads this as it is loaded, and creates the file then.
UNTOLD = {"ORT_DISABLE_TELEMETRY": "1"}


@contextmanager
def environment(variables: Mapping[str, str]) -> Generator[None]:
    """Set `variables`, for this process and those it starts, where the user has not; afterwards all is as before."""
    missing = [name for name in variables if name not in os.environ]
    os.environ.update((name, variables[name]) for name in missing)
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)


@contextmanager
def quiet_libraries() -> Generator[None]:
    """Drop what C++ libraries print of drivers and settings as they load or convert."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def quiet_loggers(*names: str) -> Generator[None]:
    """Drop Python's warnings, and all that is no error of some loggers."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
