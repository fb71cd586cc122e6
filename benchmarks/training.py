"""How fast training is: one process, data parallel, towers and hybrid, at full size, in one run.

    python -m benchmarks training [--model alexnet] [--batches 32 128] [--steps 3] [--rounds 3]
                                  [--modes "one process" towers] [--precision bf16] [--device cuda]

"compiled" is `zoo train --compile`; "plain torch" the layers as torch.nn has them, with torch's SGD, on one device.
Everything a step of `zoo train` does but reading images: forward with dropout, backward, sums over devices, momentum.
Each process has its share of the machine's cores. Rounds alternate between the modes, so that a busy neighbour hits all
of them; the best step of all rounds counts. "of gemm" is the arithmetic of convolutions and dense layers over what the
device multiplies square matrices at (`GEMM`), on all cores: the best of several times in the same run. "least" is the
analytic minimum of bytes that a device must send in a step, "sent" what it handed over, "on the wire" what left it
through the loopback interface, headers and all.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import benchmarks.torch_settings  # noqa: F401  # pyright: ignore[reportUnusedImport]  # isort: skip - before torch

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn import functional

from benchmarks.measure import table
from zoo import registry
from zoo.frameworks.pytorch import build
from zoo.initial import initial_weights
from zoo.layers import LRN, ModelSpec
from zoo.recipe import Rates
from zoo.shapes import activation_shapes, multiply_adds
from zoo.training import devices
from zoo.training.collectives import sent
from zoo.training.lrn import LocalResponseNorm
from zoo.training.optimiser import Momentum
from zoo.training.placed import Draw, PlacedNetwork, own_row, summing
from zoo.training.towers import Arrangement, least_bytes, share, trunk

MODES = {
    "one process": Arrangement(),
    "data (DDP)": Arrangement(replicas=2),
    "towers": Arrangement(parts=2),
    "hybrid": Arrangement(parts=2, source="batch"),
    "compiled": Arrangement(),
    "plain torch": Arrangement(),
}
# On the CPU, where compiling takes minutes; a GPU is measured in all modes.
USUAL = ("one process", "data (DDP)", "towers", "hybrid", "plain torch")
# The side of the matrices that a device's rate is measured at.
GEMM = {"cpu": 2048, "cuda": 8192}
CORES = len(os.sched_getaffinity(0))
# How far gradients in bfloat16 may lie from those in float32, as a multiple of the floor (see `check_gradients`), and
# those of two devices from those of one in float32.
TIMES_FLOOR, FP32_BUDGET = 5.0, 1e-5


def best_time(function: Callable[[], object], times: int) -> float:
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best


def loopback_bytes() -> int:
    path = Path("/proc/net/dev")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split(":")[1].split()[8]) for line in lines if line.strip().startswith("lo:")), 0)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one process is to do.

    Attributes:
        model: the network.
        mode: one of `MODES`.
        batch: images a step, over all devices.
        steps: how many are timed, after one that is not.
        device: ``cpu``, or ``cuda``: the ranks take the accelerators in turn and may share one.
        precision: ``fp32``, or ``bf16``: convolutions and dense layers in bfloat16, by `torch.autocast`.
        rounded: begin with weights that bfloat16 can hold.
    """

    model: str
    mode: str
    batch: int
    steps: int = 1
    device: str = "cpu"
    precision: str = "fp32"
    rounded: bool = False

    @property
    def arrangement(self) -> Arrangement:
        return MODES[self.mode]

    @property
    def place(self) -> torch.device:
        rank = dist.get_rank() if dist.is_initialized() else 0
        return torch.device("cuda", rank % torch.cuda.device_count()) if self.device == "cuda" else torch.device("cpu")


@cache
def start(model: str) -> dict[str, torch.Tensor]:
    """What a network begins with; drawn once a process."""
    spec = registry.model(model)
    weights = initial_weights(spec, registry.recipe(spec), 0)
    return {name: torch.from_numpy(value) for name, value in weights.items()}


def images_of(run: Run) -> torch.Tensor:
    """The images of a step, alike in all modes."""
    shape = registry.model(run.model).inputs[0].shape
    return torch.randn(run.batch, *shape, generator=torch.Generator().manual_seed(0)).mul_(60)


class Trainer:
    """The own share of a network, and images that are alike in all modes."""

    def __init__(self, run: Run) -> None:
        spec, place, arrangement = registry.model(run.model), run.place, run.arrangement
        self.run, self.row = run, own_row(arrangement)
        devices.settle("bf16" if run.precision == "bf16" else "fp32", place)
        network = PlacedNetwork(spec, arrangement, self.row)
        network.load(start(run.model))
        self.network: PlacedNetwork = network.to(place, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if run.rounded:
            self.network.load({name: p.detach().bfloat16() for name, p in network.canonical_parameters().items()})
        self.momentum = Momentum(self.network.canonical_parameters(), registry.recipe(spec))
        if run.mode == "compiled":
            self.network.compile_steps()
        self.runner = summing(self.network, self.row)
        self.images = share(range(run.batch), self.row.number, arrangement.replicas)
        own = share(self.images, network.rank, network.parts) if arrangement.source == "batch" else self.images
        self.x = images_of(run)[own.start : own.stop].to(place).contiguous(memory_format=torch.channels_last)
        self.labels = torch.tensor(self.images, device=place)

    def backward(self) -> None:
        with torch.autocast(self.x.device.type, torch.bfloat16, enabled=self.run.precision == "bf16"):
            logits = self.runner(self.x, Draw(seed=0, step=0, images=self.images))
        loss = functional.cross_entropy(logits.float(), self.labels % logits.shape[1], reduction="sum") / self.run.batch
        loss.backward()

    def step(self) -> None:
        self.backward()
        self.momentum.step(Rates(weight=1e-4, bias=2e-4))
        settle(self.x.device)

    def timed(self) -> tuple[float, int, int]:
        """Seconds of the best step, bytes sent by this device and bytes through loopback, each a step."""
        self.step()
        before, lo, steps = sent.bytes, loopback_bytes(), self.run.steps
        seconds = best_time(self.step, steps)
        return seconds, (sent.bytes - before) // steps, (loopback_bytes() - lo) // steps

    def gradients(self) -> dict[str, torch.Tensor]:
        """Canonical name -> gradient, on the first device of a row."""
        self.backward()
        settle(self.x.device)
        parameters = self.network.canonical_parameters()
        return self.network.collect({name: p.grad for name, p in parameters.items() if p.grad is not None})


class PlainTrainer(Trainer):
    """The peer: `torch.nn`'s layers with torch's dropout and SGD, at rates that learn as little as those above."""

    def __init__(self, run: Run) -> None:
        spec, place, recipe = registry.model(run.model), run.place, registry.recipe(registry.model(run.model))
        self.run, self.row = run, own_row(run.arrangement)
        devices.settle("bf16" if run.precision == "bf16" else "fp32", place)
        module: Any = build(trunk(spec), {name: tensor.numpy() for name, tensor in start(run.model).items()})
        self.module = module.to(place, memory_format=torch.channels_last)
        self.sgd: Any = torch.optim.SGD(
            self.module.parameters(), lr=1e-4, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=True
        )
        self.x = images_of(run).to(place).contiguous(memory_format=torch.channels_last)
        self.labels = torch.arange(run.batch, device=place)

    def step(self) -> None:
        with torch.autocast(self.x.device.type, torch.bfloat16, enabled=self.run.precision == "bf16"):
            logits = self.module(self.x).flatten(1)
        functional.cross_entropy(logits.float(), self.labels % logits.shape[1]).backward()
        self.sgd.step()
        self.sgd.zero_grad(set_to_none=True)
        settle(self.x.device)


def settle(place: torch.device) -> None:
    """Wait until the accelerator, and every rank, is done."""
    if place.type == "cuda":
        torch.cuda.synchronize(place)
    if dist.is_initialized():
        dist.barrier()


def rank(number: int, port: int, device: str, tasks: Sequence[Any], done: Any) -> None:
    """One of two processes that do one task after the other: a run, what is wanted of it, and the file for that."""
    torch.set_num_threads(max(1, CORES // 2))
    store = dist.TCPStore("127.0.0.1", port, is_master=False)
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"  # gloo sends and receives no CUDA tensors
    dist.init_process_group(backend, store=store, rank=number, world_size=2)
    while (task := tasks[number].get()) is not None:
        run, what, file = task
        result = getattr(Trainer(run), what)()
        dist.barrier()
        if number == 0:
            torch.save(result, file)
            done.put(True)
    dist.destroy_process_group()


class Pair:
    """Two processes that measure, begun once, as they are first needed: what they import takes longer than a step."""

    def __init__(self, device: str) -> None:
        context = mp.get_context("spawn")
        self.device, self.store = device, dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self.tasks, self.done = [context.SimpleQueue(), context.SimpleQueue()], context.SimpleQueue()

    @cached_property
    def processes(self) -> Any:
        arguments = (self.store.port, self.device, self.tasks, self.done)
        return mp.start_processes(rank, arguments, nprocs=2, join=False, start_method="spawn")

    def measure(self, run: Run, what: str) -> Any:
        """What a `Trainer` finds (``timed`` or ``gradients``), in this process or in the two."""
        if run.arrangement.devices == 1:
            torch.set_num_threads(CORES)
            return getattr((PlainTrainer if run.mode == "plain torch" else Trainer)(run), what)()
        with tempfile.TemporaryDirectory() as folder:
            for queue in self.tasks:
                queue.put((run, what, f"{folder}/result.pt"))
            processes = self.processes
            while self.done.empty():
                processes.join(0.01)  # raises where one has died
            self.done.get()
            return torch.load(f"{folder}/result.pt")

    def end(self) -> None:
        if "processes" in vars(self):
            for queue in self.tasks:
                queue.put(None)
            self.processes.join()


def can_run(device: str, mode: str) -> bool:
    """Whether every process of a mode has a device of its own: NCCL takes no two on one GPU."""
    return device == "cpu" or MODES[mode].devices <= torch.cuda.device_count()


def gemm_rate(device: str, precision: str) -> float:
    """Multiply-adds a second of square matrices, on all cores or one accelerator, which needs larger ones."""
    torch.set_num_threads(CORES)
    dtype, place = torch.bfloat16 if precision == "bf16" else torch.float32, torch.device(device)
    size = GEMM[device]
    a, b = (torch.randn(size, size, device=place).to(dtype) for _ in range(2))

    def multiply() -> None:
        torch.mm(a, b)
        settle(place)

    return size**3 / best_time(multiply, 7)


def work(spec: ModelSpec) -> int:
    """Multiply-adds of forward and backward of one image; nobody needs the gradient of the image itself."""
    counts, inputs = multiply_adds(spec), {source.name for source in spec.inputs}
    wiring = spec.wiring()
    return sum(count * (2 if inputs & set(wiring[name]) else 3) for name, count in counts.items())


def lrn_seconds(spec: ModelSpec, run: Run) -> float:
    """Forward and backward of all LRN layers, on all cores or one accelerator."""
    torch.set_num_threads(CORES)
    shapes, wiring, total = activation_shapes(spec), spec.wiring(), 0.0
    dtype = torch.bfloat16 if run.precision == "bf16" else torch.float32
    for layer in spec.layers:
        if isinstance(layer, LRN):
            x = torch.randn(run.batch, *shapes[wiring[layer.name][0]], device=run.place, dtype=dtype)
            x, module = x.contiguous(memory_format=torch.channels_last).requires_grad_(), LocalResponseNorm(layer)
            g = torch.ones_like(x)

            def both(module: LocalResponseNorm = module, x: torch.Tensor = x, g: torch.Tensor = g) -> None:
                torch.autograd.grad(module(x), x, g)
                settle(x.device)

            total += best_time(both, 5)
    return total


def compare(pair: Pair, run: Run, modes: Sequence[str], rounds: int) -> tuple[list[list[str]], str]:
    """The table's rows of one batch size, and a line about the machine and the LRN."""
    spec, best, gemm = registry.model(run.model), dict[str, tuple[float, int, int]](), 0.0
    for _ in range(rounds):
        for mode in modes:
            gemm = max(gemm, gemm_rate(run.device, run.precision))
            now = pair.measure(replace(run, mode=mode), "timed")
            best[mode] = min(best.get(mode, now), now)
    rows = list[list[str]]()
    for mode, (seconds, sent_bytes, lo) in best.items():
        least = least_bytes(spec, MODES[mode], run.batch, activation=2 if run.precision == "bf16" else 4)
        rate = run.batch / seconds
        times = [f"{best[peer][0] / seconds:.2f}" if peer in best else "-" for peer in PEERS]
        traffic = [f"{number / 1e6:.2f} MB" if least else "-" for number in (sent_bytes, least, lo / 2)]
        over = f"{sent_bytes / least:.3f}" if least else "-"
        rows.append([str(run.batch), mode, f"{rate:.1f}", *times, f"{rate * work(spec) / gemm:.0%}", *traffic, over])
    lrn = lrn_seconds(spec, run)
    of_step = f", {lrn / best['one process'][0]:.1%} of a step" if "one process" in best else ""
    return rows, f"Batch {run.batch}: gemm {2 * gemm / 1e9:.0f} GFLOP/s; LRN {lrn * 1e3:.0f} ms{of_step}."


def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], name: str) -> float:
    return float((a[name] - b[name]).norm() / b[name].norm())


def check_gradients(pair: Pair, run: Run) -> str:
    """bfloat16 against float32, and two devices against one, layer by layer; ends the program where they disagree.

    The floor is what rounding the weights alone, once, does to gradients of float32: bfloat16, which rounds every
    activation and every gradient as well, comes to a few times that.
    """
    one = replace(run, mode="one process", batch=8, precision="fp32")
    variants = (one, replace(one, rounded=True), replace(one, precision="bf16"))
    exact, floor, half = (pair.measure(variant, "gradients") for variant in variants)
    towers = [replace(one, mode="towers", precision=p) for p in ("fp32", "bf16") if can_run(run.device, "towers")]
    pairs = list(zip((exact, half), (pair.measure(variant, "gradients") for variant in towers), strict=False))
    rows, wrong = list[list[str]](), list[str]()
    for name in exact:
        least = distance(floor, exact, name)
        found = [distance(half, exact, name), *(distance(two, one, name) for one, two in pairs)]
        rows.append([name, *(f"{number:.1e}" for number in (least, *found))])
        if any(number > most for number, most in zip(found, (TIMES_FLOOR * least, FP32_BUDGET, least), strict=False)):
            wrong.append(name)
    header = ["gradient", "floor", "bf16 to fp32", "two devices to one, fp32", "two to one, bf16"][: 3 + len(pairs)]
    text = f"{table(header, rows)}\n\n|a - b| / |b|, batch 8; at most {TIMES_FLOOR} x floor, {FP32_BUDGET}, floor."
    if wrong:
        raise SystemExit(f"{text}\n\ntoo far apart: {', '.join(wrong)}")
    return text


PEERS = ("one process", "data (DDP)", "plain torch")
HEADER = [
    "batch",
    "mode",
    "images/s",
    "x one process",
    "x DDP",
    "x plain torch",
    "of gemm",
    "sent",
    "least",
    "on the wire",
    "sent / least",
]


def main(
    model: str = "alexnet",
    batches: Sequence[int] = (32, 128),
    steps: int = 3,
    rounds: int = 3,
    modes: Sequence[str] | None = None,
    device: str = "cpu",
    precision: str = "fp32",
) -> str:
    rows, notes, checked = list[list[str]](), list[str](), ""
    run = Run(model=model, mode="one process", batch=0, steps=steps, device=device, precision=precision)
    pair = Pair(device)
    if precision == "bf16":
        checked = f"\n\n{check_gradients(pair, run)}"
    modes = modes or (USUAL if device == "cpu" else tuple(MODES))
    able = [mode for mode in modes if can_run(device, mode)]
    for batch in batches:
        more, note = compare(pair, replace(run, batch=batch), able, rounds)
        rows, notes = rows + more, [*notes, note]
    pair.end()
    where = f"{CORES} cores" if device == "cpu" else torch.cuda.get_device_name()
    over = "gloo" if device == "cpu" else "NCCL"
    machine = f"{model}, {precision}, {where}, torch {torch.__version__}; two devices are two processes over {over}."
    if left_out := [mode for mode in modes if mode not in able]:
        notes.append(f"Not run, for want of a second GPU: {', '.join(left_out)}.")
    return f"{table(HEADER, rows)}\n\n{' '.join([machine, *notes])}{checked}"


def options(words: Sequence[str]) -> dict[str, Any]:
    """What `main` is asked for on the command line."""
    parser = argparse.ArgumentParser(description="How fast training is: one process, data parallel, towers, hybrid.")
    parser.add_argument("--model", default="alexnet")
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--modes", nargs="+", choices=list(MODES))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    return vars(parser.parse_args(words))
