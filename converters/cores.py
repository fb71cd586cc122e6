"""Work on large arrays in blocks, on every core at hand: NumPy lets go of the interpreter while it computes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def spread(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """`work` of every item, in their order, on as many threads as this process may use cores."""
    threads = min(len(os.sched_getaffinity(0)), len(items))
    if threads < 2:
        return [work(item) for item in items]
    return list(_pool(len(os.sched_getaffinity(0))).map(work, items))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Kept: it is asked for hundreds of times, and starting threads would take longer than some of the work."""
    return ThreadPoolExecutor(threads, thread_name_prefix="cores")
