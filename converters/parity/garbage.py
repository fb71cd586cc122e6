"""Memory of frameworks, whose objects point at each other: it goes when a subject was judged."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def swept() -> Generator[None]:
    """What is made inside goes at its end, rings of objects too.

    What was there before is not looked through: of a loaded framework that would take a third of a second each time.
    """
    own = not gc.get_freeze_count()  # or else a program keeps its objects apart, or this is inside another one
    if own:
        gc.freeze()
    try:
        yield
    finally:
        gc.collect()
        if own:
            gc.unfreeze()
