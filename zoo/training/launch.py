"""One process a device: started here, or by torchrun.

`zoo train --devices 2` starts the processes of one machine itself. For several machines, torchrun starts them, each
with the same command after its own arguments::

    torchrun --nnodes 2 --nproc-per-node 2 --rdzv-backend c10d --rdzv-endpoint HOST:29500 \\
        --no-python zoo train alexnet --data DIR -o DIR --parallel towers

A pair of towers is made of devices next to each other in torchrun's order, so that it stays within a machine. The
output folder must be one that the first machine can write and, for ``--resume``, all can read.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Generator
from dataclasses import replace
from datetime import timedelta
from multiprocessing.connection import wait
from pathlib import Path
from types import FrameType
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from zoo import registry
from zoo.environment import environment
from zoo.errors import ZooError
from zoo.training import SETTINGS
from zoo.training.checkpoint import checkpoints
from zoo.training.loop import Job, TrainOptions, prepare, run
from zoo.training.pytorch import PyTorchLearner

# What is waited for at most: a partner that died is noticed at once, by its broken connection or by the parent. Nobody
# is late by this much, but for a machine that vanished from the network.
_PATIENCE = timedelta(minutes=10)
_GRACE_SECONDS = 5.0


def train(options: TrainOptions) -> Path:
    """Train; returns ``model.safetensors``, the best by validation accuracy.

    Raises:
        ZooError: options, data or output folder do not fit; a device died; the disk is full; an interrupt. One line,
            which says how to go on.
    """
    started = options.framework == "pytorch" and "RANK" in os.environ and "WORLD_SIZE" in os.environ
    if started:
        options = replace(options, devices=int(os.environ["WORLD_SIZE"]))
    job = prepare(options)
    with _interruptible(options):
        if options.framework == "tf_slim":
            # Its devices belong to one process. TensorFlow is loaded where it is used.
            run(job, cast(Any, registry.imported("zoo.training.tf_slim")).TFSlimLearner(job))
        elif started or options.devices == 1:
            _as_one_of(job, int(os.environ.get("LOCAL_WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0")))
        else:
            _start_all(options)
    return options.out / "model.safetensors"


@contextlib.contextmanager
def _interruptible(options: TrainOptions) -> Generator[None]:
    """Ctrl-C, and the SIGTERM of job managers and of torchrun, end a run in one line."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _interrupt) if main else None
    try:
        yield
    except KeyboardInterrupt as error:
        raise ZooError(f"interrupted; {_how_to_go_on(options)}") from error
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _how_to_go_on(options: TrainOptions) -> str:
    found = checkpoints(options.out)
    if not found:
        return "no checkpoint was written yet: begin again"
    return f"go on from {found[-1].name} with the same command and --resume"


def _as_one_of(job: Job, local_size: int, local_rank: int) -> None:
    """Run a job as one of torchrun's processes, or alone."""
    place = _place(local_size, local_rank)
    torch.set_num_threads(max(1, _cores() // local_size))
    if job.arrangement.devices > 1:
        dist.init_process_group(_backend(place), timeout=_PATIENCE)
    try:
        _run(job, place)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _place(local_size: int, local_rank: int) -> torch.device:
    if torch.cuda.is_available() and torch.cuda.device_count() >= local_size:
        torch.cuda.set_device(local_rank)
        return torch.device("cuda", local_rank)
    return torch.device("cpu")


def _cores() -> int:
    # The cores this process may use; not every system says.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _backend(place: torch.device) -> str:
    return "nccl" if place.type == "cuda" else "gloo"


def _run(job: Job, place: torch.device) -> None:
    try:
        run(job, PyTorchLearner(job, place))
    except RuntimeError as error:
        # Gloo and NCCL have no exception of their own for a partner that is gone.
        text = " ".join(str(error).split())
        if not any(word in text.lower() for word in ("connection", "gloo", "nccl", "timed out", "peer")):
            raise
        raise ZooError(f"another device is gone ({text[:160]}); {_how_to_go_on(job.options)}") from error


def _start_all(options: TrainOptions) -> None:
    """One process a device, watched: if one dies, the others are ended."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    reports: Any = mp.get_context("spawn").SimpleQueue()
    arguments = (options, store.port, reports)
    with environment(SETTINGS):
        context: Any = mp.start_processes(
            _device_process, arguments, nprocs=options.devices, join=False, start_method="spawn"
        )
    processes = context.processes
    try:
        waiting = list(processes)
        while waiting and all(process.exitcode in (None, 0) for process in processes):
            wait([process.sentinel for process in waiting])
            waiting = [process for process in waiting if process.exitcode is None]
        if any(process.exitcode for process in processes):
            _let_the_others_end(processes)
            raise ZooError(_cause(processes, reports, options))
    finally:
        for process in processes:
            if process.exitcode is None:
                process.kill()
            process.join()


def _let_the_others_end(processes: list[Any]) -> None:
    """Wait a little for processes that notice by themselves, so that the first cause can be told from its echoes."""
    for process in processes:
        process.join(_GRACE_SECONDS / len(processes))


def _cause(processes: list[Any], reports: Any, options: TrainOptions) -> str:
    for rank, process in enumerate(processes):
        if process.exitcode is not None and process.exitcode < 0:
            name = signal.Signals(-process.exitcode).name
            return f"device {rank} was ended by {name}; {_how_to_go_on(options)}"
    told = list[tuple[bool, str]]()
    while not reports.empty():
        told.append(reports.get())
    # Those that only lost a partner speak last.
    told.sort(key=lambda report: report[0])
    if not told:
        codes = ", ".join(str(process.exitcode) for process in processes)
        return f"a device ended without a word (exit codes {codes}); {_how_to_go_on(options)}"
    return told[0][1]


def _device_process(rank: int, options: TrainOptions, port: int, reports: Any) -> None:
    """The main function of one device's process."""
    parent = os.getppid()

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        # Ctrl-C reaches parent and children: the parent decides. Only if it is gone, end as well.
        if os.getppid() != parent:
            os._exit(1)

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        job = prepare(options)
        place = _place(options.devices, rank)
        torch.set_num_threads(max(1, _cores() // options.devices))
        store = dist.TCPStore("127.0.0.1", port, is_master=False)
        dist.init_process_group(_backend(place), store=store, rank=rank, world_size=options.devices, timeout=_PATIENCE)
        _run(job, place)
        dist.destroy_process_group()
    except ZooError as error:
        reports.put(("another device is gone" in str(error), str(error)))
        sys.stderr.flush()
        os._exit(1)
