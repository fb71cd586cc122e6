"""One process a device: started here, or by torchrun.

`zoo train --devices 2` starts the processes of one machine itself. For several machines, torchrun starts them, each
with the same command after its own arguments::

    torchrun --nnodes 2 --nproc-per-node 2 --rdzv-backend c10d --rdzv-endpoint HOST:29500 \\
        --no-python zoo train alexnet --data DIR -o DIR --parallel towers

A pair of towers is made of devices next to each other in torchrun's order, so that it stays within a machine. The
output folder must be one that the first machine can write and, for ``--resume``, all can read. With ``--resume auto``
the same command goes on after a restart, be it torchrun's own (``--max-restarts``) or a job manager's.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Generator
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from zoo import registry
from zoo.environment import environment
from zoo.errors import EndedError, UnknownNameError, UnsupportedError, ZooError, how_ended, said
from zoo.training import NO_TRAINERS, SETTINGS, TRAINERS
from zoo.training.checkpoint import checkpoints
from zoo.training.datasets import fingerprint
from zoo.training.devices import View, alone, decide, local_rank, own_view
from zoo.training.job import Job, TrainOptions, prepare
from zoo.training.listing import read, remove, write
from zoo.training.loop import how_to_go_on, run, stop
from zoo.training.placed import PATIENCE
from zoo.training.pytorch import PyTorchLearner
from zoo.training.trouble import LostPartnerError, lost, translated
from zoo.wire.cores import cores

_GRACE_SECONDS = 5.0


def train(options: TrainOptions) -> Path:
    """Train; returns ``model.safetensors``, the best by validation accuracy.

    Raises:
        ZooError: options, data or output folder do not fit; a device died, or there is none such; the disk or the
            memory is full; an interrupt. One line, which says how to go on.
    """
    if options.framework not in TRAINERS:
        if options.framework in NO_TRAINERS:
            raise UnsupportedError(f"{options.framework} does not train here: {NO_TRAINERS[options.framework]}")
        raise UnknownNameError("framework to train by", options.framework, TRAINERS)
    started = options.framework == "pytorch" and "RANK" in os.environ and "WORLD_SIZE" in os.environ
    if started:
        options = replace(options, devices=int(os.environ["WORLD_SIZE"]))
    with _interruptible(options):
        if options.framework == "tf_slim":
            _by_tensorflow(prepare(options))
        elif options.devices == 1:
            _run(prepare(options), *alone(options.device))
        elif started:
            _as_one_of(options)
        else:
            _start_all(options)
    return options.out / "model.safetensors"


@contextlib.contextmanager
def _interruptible(options: TrainOptions) -> Generator[None]:
    """Ctrl-C and SIGHUP end a run at once, the SIGTERM of job managers and torchrun after a checkpoint; in one line."""
    main = threading.current_thread() is threading.main_thread()
    stop.asked = False
    before = signal.signal(signal.SIGTERM, _terminate) if main else None
    try:
        yield
    except KeyboardInterrupt as error:
        number, told = how_ended(error)
        raise EndedError(f"{told}; {how_to_go_on(options.out)}", number) from error
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    stop.asked = True
    for child in mp.active_children():
        if not child.daemon:  # a device's process; those that read images end with it
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid or 0, signal.SIGTERM)


def _by_tensorflow(job: Job) -> None:
    """Its devices belong to one process; it is loaded where it is used."""
    with registry.optional():
        from zoo.training.tf_slim import TFSlimLearner
    learner = TFSlimLearner(job)
    with _told(job, torch.device("cuda" if "GPU" in learner.device_said else "cpu")):
        run(job, learner)


def _as_one_of(options: TrainOptions) -> None:
    """Train as one of torchrun's processes."""
    here = local_rank()
    try:
        store, rank, world = next(dist.rendezvous("env://", timeout=PATIENCE))
        store = _unused(store, rank, world)
        listing = _listing(options, store, here)
    except dist.DistError as error:
        raise lost(said(error), options.out) from error
    try:
        _join(options, listing, store, rank, here)
    finally:
        if not here:
            remove(listing)


def _listed(options: TrainOptions) -> Path:
    """The list of images, in a file; with their sizes where they will be asked for at once."""
    job = prepare(options)
    if options.resume and checkpoints(options.out):
        fingerprint(job.train, job.val)
    return write((job.train, job.val))


def _listing(options: TrainOptions, store: dist.Store, here: int) -> Path:
    """Where the list of this machine's images lies, which its first process makes for the others.

    Raises:
        ZooError: what that one has found: options, data or output folder do not fit; or how it ended.
    """
    key = f"images of {socket.gethostname()} {os.environ.get('GROUP_RANK', '')}"
    if here:
        path, problem = json.loads(store.get(key))
        if problem:
            raise ZooError(problem)
        return Path(path)
    try:
        path = _listed(options)
    except BaseException as error:  # the others would wait for a list that never comes
        problem = str(error) if isinstance(error, ZooError) else f"no images were listed: {said(error)}"
        store.set(key, json.dumps([None, problem]))
        raise
    store.set(key, json.dumps([str(path), None]))
    return path


def _join(options: TrainOptions, listing: Path, store: dist.Store, rank: int, here: int) -> None:
    """Train as one of several processes, each of which runs this."""
    job = prepare(options, read(listing))
    try:
        with _told(job, torch.device("cpu")):
            device, device_said = _meet(options, store, rank, here)
        if not here:  # all have read it, since all have met
            remove(listing)
        _run(job, device, device_said)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _unused(store: dist.Store, rank: int, world: int) -> dist.Store:
    """A corner of a store in which nothing lies from an earlier start of these processes.

    torchrun keeps its store over its restarts, and with it the addresses of processes that are dead. The first process
    gives the corner a new name; who reads the name that a dead one gave gets no echo, and reads again.
    """
    own, answered = uuid.uuid4().hex, ""
    if rank == 0:
        store.set("start", own)
        for other in range(1, world):
            store.set(f"{own}/echo {other}", store.get(f"{own}/here {other}").decode())
        return dist.PrefixStore(own, store)
    end = time.monotonic() + PATIENCE.total_seconds()
    while time.monotonic() < end:
        name = store.get("start").decode()
        if name != answered:
            store.set(f"{name}/here {rank}", own)
            answered = name
        if store.check([f"{name}/echo {rank}"]) and store.get(f"{name}/echo {rank}").decode() == own:
            return dist.PrefixStore(name, store)
        time.sleep(0.01)
    raise ZooError(f"device {rank} waited {PATIENCE.total_seconds():.0f} s for the first one, in vain")


def _meet(options: TrainOptions, store: dist.Store, rank: int, here: int) -> tuple[torch.device, str]:
    """Join the other processes, and agree on a device for each; `here` is the own number on this machine."""
    view = (
        own_view(here)
        if options.device in ("auto", "cuda")
        else View(host=socket.gethostname(), gpus=(), local_rank=here)
    )
    # GPUs speak by NCCL; what processes have to say to each other goes by gloo in any case.
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if view.gpus else "gloo",
        timeout=PATIENCE,
        store=store,
        rank=rank,
        world_size=options.devices,
    )
    views: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(views, view)
    devices, device_said = decide(options.device, views)
    device = devices[dist.get_rank()]
    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.set_num_threads(max(1, cores() // sum(other.host == view.host for other in views)))
    return device, device_said


def _run(job: Job, device: torch.device, device_said: str) -> None:
    with _told(job, device):
        run(job, PyTorchLearner(job, device, device_said))


@contextlib.contextmanager
def _told(job: Job, device: torch.device) -> Generator[None]:
    """A framework's errors, and the system's, are told in one line, by their type."""
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        told = translated(error, job, device)
        if told is None:
            raise
        raise told from error


def _start_all(options: TrainOptions) -> None:
    """One process a device, of one list of images."""
    listing = _listed(options)
    try:
        _watch(options, listing)
    finally:
        remove(listing)


def _watch(options: TrainOptions, listing: Path) -> None:
    """Start the processes; if one dies, the others are ended."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    reports: Any = mp.get_context("spawn").SimpleQueue()
    arguments = (options, listing, store.port, reports)
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
            raise _cause(processes, reports, options)
    finally:
        for process in processes:
            if process.exitcode is None:
                process.kill()
            process.join()


def _let_the_others_end(processes: list[Any]) -> None:
    """Wait a little for processes that notice by themselves, so that the first cause can be told from its echoes."""
    for process in processes:
        process.join(_GRACE_SECONDS / len(processes))


def _cause(processes: list[Any], reports: Any, options: TrainOptions) -> ZooError:
    for rank, process in enumerate(processes):
        if process.exitcode is not None and process.exitcode < 0:
            if stop.asked:  # and this one was not yet far enough to write a checkpoint
                return EndedError(f"terminated; {how_to_go_on(options.out)}", signal.SIGTERM)
            name = signal.Signals(-process.exitcode).name
            return ZooError(f"device {rank} was ended by {name}; {how_to_go_on(options.out)}")
    told = list[tuple[bool, str, int]]()
    while not reports.empty():
        told.append(reports.get())
    # Those that only lost a partner speak last.
    told.sort(key=lambda report: report[0])
    if not told:
        codes = ", ".join(str(process.exitcode) for process in processes)
        return ZooError(f"a device ended without a word (exit codes {codes}); {how_to_go_on(options.out)}")
    _, message, status = told[0]
    cause = ZooError(message)
    cause.exit_status = status
    return cause


def _device_process(rank: int, options: TrainOptions, listing: Path, port: int, reports: Any) -> None:
    """The main function of one device's process."""
    parent = os.getppid()

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        # Ctrl-C reaches parent and children: the parent decides. Only if it is gone, end as well.
        if os.getppid() != parent:
            os._exit(1)

    signal.signal(signal.SIGINT, on_interrupt)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        store = dist.TCPStore("127.0.0.1", port, is_master=False)
        _join(options, listing, store, rank, rank)
    except ZooError as error:
        reports.put((isinstance(error, LostPartnerError), str(error), error.exit_status))
        sys.stderr.flush()
        os._exit(1)
