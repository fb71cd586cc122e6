"""Work shared by the cores: in order, over when the call is over, and possible in a forked process, too."""

import multiprocessing
import os
import time

import pytest

from zoo.wire.cores import map_on_cores


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})


def test_results_come_in_the_order_of_the_items() -> None:
    assert map_on_cores(lambda i: time.sleep(0.001 * (10 - i)) or i, range(10)) == list(range(10))
    assert map_on_cores(str, []) == []


def test_nobody_works_on_after_an_error() -> None:
    done = list[int]()

    def work(i: int) -> None:
        if i == 0:
            raise OSError("no space left")
        time.sleep(0.05)
        done.append(i)

    with pytest.raises(OSError, match="no space"):
        map_on_cores(work, range(20))
    at_the_end = list(done)
    time.sleep(0.15)
    assert done == at_the_end
    assert len(done) < 10, "what had not begun was called off"


def test_a_forked_process_has_threads_of_its_own() -> None:
    assert map_on_cores(str, range(4)) == list("0123")
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(map_on_cores, (str, range(4))).get(timeout=30) == list("0123")
