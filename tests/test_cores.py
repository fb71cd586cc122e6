"""Work shared by the cores: in order, over when the call is over, and possible in a forked process, too."""

import multiprocessing
import os
import threading
import time
from concurrent.futures import wait
from contextlib import suppress

import numpy as np
import pytest

from zoo.wire import cores
from zoo.wire.cores import in_cache, map_on_cores, multiply_on_cores


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})


def test_results_come_in_the_order_of_the_items() -> None:
    assert map_on_cores(lambda i: time.sleep(0.001 * (10 - i)) or i, range(10)) == list(range(10))
    assert map_on_cores(str, []) == []


def test_nobody_works_on_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    done, called_off = list[int](), threading.Event()

    def work(i: int) -> None:
        if i == 0:
            raise OSError("no space left")
        called_off.wait(60)
        done.append(i)

    monkeypatch.setattr(cores, "wait", lambda futures: (called_off.set(), wait(futures)))
    with pytest.raises(OSError, match="no space"):
        map_on_cores(work, range(20))
    at_the_end = list(done)
    map_on_cores(str, range(20))  # by the same threads, after anything that was left
    assert done == at_the_end
    assert len(done) <= 2, "what had not begun was called off"


def test_a_thread_that_a_signal_meets_as_it_is_begun_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows of it, and a process would wait for it at its end."""
    cores._pool.cache_clear()
    begun, start = list[threading.Thread](), threading.Thread.start

    def broken_into(thread: threading.Thread) -> None:
        start(thread)
        begun.append(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", broken_into)
    with suppress(KeyboardInterrupt):
        map_on_cores(str, range(4))
    begun[0].join(timeout=60)
    assert len(begun) == 1 and not begun[0].is_alive()


def test_a_forked_process_has_threads_of_its_own() -> None:
    assert map_on_cores(str, range(4)) == list("0123")
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(map_on_cores, (str, range(4))).get(timeout=20) == list("0123")


def test_work_within_work_is_done_where_it_is() -> None:
    inner = map_on_cores(lambda i: map_on_cores(lambda j: (i, j), range(3)), range(8))
    assert inner == [[(i, j) for j in range(3)] for i in range(8)]


def test_a_thread_with_nothing_to_do_takes_over_what_work_spreads_within_itself() -> None:
    meet = threading.Barrier(2, timeout=60)
    assert map_on_cores(lambda i: i and map_on_cores(lambda _: meet.wait() >= 0, range(2)), range(2)) == [0, [True] * 2]


def test_products_stay_on_one_core_until_the_last_is_done() -> None:
    cores._pools.cache_clear()  # another test may have loaded a library with threads of its own since
    pools = pytest.importorskip("threadpoolctl").ThreadpoolController().select(user_api="blas")

    def threads(_: int) -> list[int]:
        return [pool["num_threads"] for pool in pools.info()]

    before = threads(0)
    seen = multiply_on_cores(lambda _: multiply_on_cores(threads, range(3)), range(4))
    assert {count for row in seen for counts in row for count in counts} == {1}
    assert threads(0) == before


@pytest.mark.parametrize(
    "shape", [(), (0,), (5,), (70_000,), (2, 3), (3, 2, 200, 200), (2, 0, 3), (40_000, 2, 2), (2, 1, 300, 300)]
)
def test_parts_in_cache_make_up_an_array(shape: tuple[int, ...]) -> None:
    met = np.zeros(shape, int)
    for part in in_cache(shape):
        assert met[part].size <= max(2**16, met.shape[-1] if shape else 1)
        met[part] += 1
    assert (met == 1).all()
