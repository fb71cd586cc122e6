"""Work on large arrays in blocks, on every core at hand: NumPy lets go of the interpreter while it computes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from functools import cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_on_cores(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """`work` of every item, in their order, on as many threads as the process may use cores; `work` spreads nothing.

    The threads see the caller's context: what NumPy is told to make of errors.
    """
    threads = len(os.sched_getaffinity(0))
    if min(threads, len(items)) < 2:
        return [work(item) for item in items]
    futures = [_pool(threads).submit(copy_context().run, work, item) for item in items]
    try:
        return [future.result() for future in futures]
    finally:  # after an error or Ctrl-C nobody may work on, on arrays and files that are not held any more
        for future in futures:
            future.cancel()
        wait(futures)


def multiply_on_cores(work: Callable[[Item], None], items: Sequence[Item]) -> None:
    """`map_on_cores` of work that multiplies matrices, each product on one core.

    Without threadpoolctl, NumPy's own threads share every product, one after another.
    """
    limits = _blas()
    if limits is None or len(items) < 2:
        for item in items:
            work(item)
        return
    with limits.limit(limits=1, user_api="blas"):
        map_on_cores(work, items)


@cache
def _blas() -> ThreadpoolController | None:
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Kept: it is asked for hundreds of times, and starting threads would take longer than some of the work."""
    return ThreadPoolExecutor(threads, thread_name_prefix="cores")


# A forked process, such as a worker that loads images, has none of its parent's threads.
os.register_at_fork(after_in_child=_pool.cache_clear)
