"""Work on large arrays in blocks, on every core at hand: NumPy lets go of the interpreter while it computes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import ContextVar, copy_context
from functools import cache
from itertools import product
from math import prod
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")


# So many numbers stay in a core's cache with what is made of them on the way.
_IN_CACHE = 2**16


def in_cache(shape: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Places that make up an array of this shape, in its order, each of as many numbers as stay in a core's cache.

    What is made of an array a part at a time waits for no memory on the way.
    """
    inner = [prod(shape[axis + 1 :]) for axis in range(len(shape))]
    axis = next((axis for axis, size in enumerate(inner) if size <= _IN_CACHE), 0)
    steps = [1] * axis + [max(1, _IN_CACHE // max(1, size)) for size in inner[axis : axis + 1]]
    starts = (range(0, size, step) for size, step in zip(shape, steps, strict=False))
    for at in product(*starts):
        yield tuple(slice(i, i + step) for i, step in zip(at, steps, strict=True))


def cores() -> int:
    """How many the process may use; where the system does not say that (macOS, Windows), how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_on_cores(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """`work` of every item, in their order, on as many threads as the process may use cores.

    The threads see the caller's context: what NumPy is told to make of errors. What spreads its work within one of them
    does it there, but for what a thread takes over that has nothing else to do.
    """
    threads, within = cores(), _spread.get()
    if min(threads, len(items)) < 2:
        return [work(item) for item in items]
    futures = list[Future[Result]]()
    try:
        futures.extend(_pool(threads).submit(copy_context().run, _within, work, item) for item in items)
        if not within:
            return [future.result() for future in futures]
        pairs = zip(futures, items, strict=True)
        return [work(item) if future.cancel() else future.result() for future, item in pairs]
    except KeyboardInterrupt:  # a thread that it met as it was begun is known to nobody, and would be waited for
        _pool.cache_clear()
        raise
    finally:  # after an error or Ctrl-C nobody may work on, on arrays and files that are not held any more
        wait([future for future in futures if not future.cancel()])


def _within(work: Callable[[Item], Result], item: Item) -> Result:
    _spread.set(True)
    return work(item)


# Whether this is one of the threads.
_spread = ContextVar("_spread", default=False)


def multiply_on_cores(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """`map_on_cores` of work that multiplies matrices, each product on one core.

    Without threadpoolctl, NumPy's own threads share every product, one after another.
    """
    pools = _pools()
    if pools is None:
        return [work(item) for item in items]
    if len(items) < 2 or _spread.get():
        return map_on_cores(work, items)
    with pools.limit(limits=1, user_api="blas"):
        return map_on_cores(work, items)


@cache
def _pools() -> ThreadpoolController | None:
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Kept: it is asked for hundreds of times, and starting threads would take longer than some of the work."""
    return ThreadPoolExecutor(threads, thread_name_prefix="cores")


# A forked process, such as a worker that loads images, has none of its parent's threads; Windows forks none.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)
