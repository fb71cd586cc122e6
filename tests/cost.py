"""What work costs, told apart from what else the machine does meanwhile."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from typing import Any


def seconds(work: Callable[[], Any]) -> float:
    """Of this process's own computing; the garbage of earlier tests is left alone."""
    gc.disable()
    try:
        begun = time.process_time()
        work()
        return time.process_time() - begun
    finally:
        gc.enable()


def assert_in_proportion(work: Callable[[int], Any], few: int, many: int) -> None:
    """So many times the input in at most one and a half times as many times the time, each at its best of ten."""
    work(few)  # what a process pays once
    least = {few: math.inf, many: math.inf}
    for _ in range(10):
        for size in least:
            least[size] = min(least[size], seconds(lambda size=size: work(size)))
        if least[many] <= 1.5 * many / few * least[few] + 0.02:
            return
    raise AssertionError(f"{least[few]:.3f} s and {least[many]:.3f} s for {many / few:.0f} times as much")
