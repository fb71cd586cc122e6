"""How fast training is: one process, data parallel, towers and hybrid, at full size, in one run.

    python -m benchmarks.training [--model alexnet] [--batches 32 128] [--steps 3] [--rounds 3]

Everything a step of `zoo train` does but reading images: forward with dropout, backward, sums over devices, momentum.
Each process has its share of the machine's cores. Rounds alternate between the modes, so that a busy neighbour hits all
of them; the best step of all rounds counts. "of sgemm" is the arithmetic of convolutions and dense layers over what the
machine multiplies 2048 x 2048 matrices at, on all cores, measured in the same run. "least" is the analytic minimum of
bytes that a device must send in a step, "sent" what it handed over, "on the wire" what left it through the loopback
interface, headers and all.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import zoo.training  # noqa: F401  # isort: skip - sets what torch reads when it is first imported

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn import functional

from benchmarks.measure import table
from zoo import registry
from zoo.layers import LRN, ModelSpec
from zoo.recipe import Rates, recipe_for
from zoo.shapes import activation_shapes, multiply_adds
from zoo.training.collectives import sent
from zoo.training.lrn import LocalResponseNorm
from zoo.training.optimiser import Momentum, initial_weights
from zoo.training.placed import Draw, PlacedNetwork, own_row, summing
from zoo.training.towers import Arrangement, least_bytes, share

MODES = {
    "one process": Arrangement(),
    "data (DDP)": Arrangement(replicas=2),
    "towers": Arrangement(parts=2),
    "hybrid": Arrangement(parts=2, source="batch"),
}
CORES = len(os.sched_getaffinity(0))


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


def train_steps(spec: ModelSpec, arrangement: Arrangement, batch: int, steps: int) -> tuple[float, int, int]:
    """Seconds of the best step, bytes sent by this device and bytes through loopback, each a step."""
    recipe, row = recipe_for(spec), own_row(arrangement, "cpu")
    network = PlacedNetwork(spec, arrangement, row.group)
    weights = initial_weights(spec, recipe, 0)
    network.load({name: torch.from_numpy(value) for name, value in weights.items()})
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    momentum, runner = Momentum(network.canonical_parameters(), recipe), summing(network, row)
    images = share(range(batch), row.number, arrangement.replicas)
    own = share(images, network.rank, network.parts) if arrangement.source == "batch" else images
    x = torch.randn(len(own), *spec.inputs[0].shape).mul_(60).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(len(images)) % 1000

    def step() -> None:
        logits = runner(x, Draw(seed=0, step=0, images=images))
        (functional.cross_entropy(logits, labels, reduction="sum") / batch).backward()
        momentum.step(Rates(weight=1e-4, bias=2e-4))
        if dist.is_initialized():
            dist.barrier()

    step()
    before, lo = sent.bytes, loopback_bytes()
    seconds = best_time(step, steps)
    return seconds, (sent.bytes - before) // steps, (loopback_bytes() - lo) // steps


def rank(number: int, port: int, model: str, batch: int, steps: int, mode: str, folder: str) -> None:
    torch.set_num_threads(max(1, CORES // 2))
    store = dist.TCPStore("127.0.0.1", port, is_master=False)
    dist.init_process_group("gloo", store=store, rank=number, world_size=2)
    result = train_steps(registry.model(model), MODES[mode], batch, steps)
    if number == 0:
        torch.save(result, Path(folder) / "result.pt")
    dist.barrier()
    dist.destroy_process_group()


def measure(model: str, mode: str, batch: int, steps: int, folder: Path) -> tuple[float, int, int]:
    if MODES[mode].devices == 1:
        torch.set_num_threads(CORES)
        return train_steps(registry.model(model), MODES[mode], batch, steps)
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    mp.start_processes(rank, (store.port, model, batch, steps, mode, str(folder)), nprocs=2, start_method="spawn")
    return torch.load(folder / "result.pt")


def sgemm_rate() -> float:
    """Multiply-adds a second of 2048 x 2048 matrices, on all cores."""
    torch.set_num_threads(CORES)
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    return 2048**3 / best_time(lambda: a @ b, 7)


def work(spec: ModelSpec) -> int:
    """Multiply-adds of forward and backward of one image; nobody needs the gradient of the image itself."""
    counts, inputs = multiply_adds(spec), {source.name for source in spec.inputs}
    wiring = spec.wiring()
    return sum(count * (2 if inputs & set(wiring[name]) else 3) for name, count in counts.items())


def lrn_seconds(spec: ModelSpec, batch: int) -> float:
    """Forward and backward of all LRN layers, on all cores."""
    torch.set_num_threads(CORES)
    shapes, wiring, total = activation_shapes(spec), spec.wiring(), 0.0
    for layer in spec.layers:
        if isinstance(layer, LRN):
            x = torch.randn(batch, *shapes[wiring[layer.name][0]]).contiguous(memory_format=torch.channels_last)
            x, module = x.requires_grad_(), LocalResponseNorm(layer)
            g = torch.ones_like(x)

            def both(module: LocalResponseNorm = module, x: torch.Tensor = x, g: torch.Tensor = g) -> None:
                torch.autograd.grad(module(x), x, g)

            total += best_time(both, 5)
    return total


def compare(spec: ModelSpec, batch: int, steps: int, rounds: int) -> tuple[list[list[str]], str]:
    """The table's rows of one batch size, and a line about the machine and the LRN."""
    best, gemm = dict[str, tuple[float, int, int]](), 0.0
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            gemm = max(gemm, sgemm_rate())
            for mode in MODES:
                best[mode] = min(
                    best.get(mode, (float("inf"), 0, 0)), measure(spec.name, mode, batch, steps, Path(folder))
                )
    alone, ddp = best["one process"][0], best["data (DDP)"][0]
    rows = list[list[str]]()
    for mode, (seconds, sent_bytes, lo) in best.items():
        least, rate = least_bytes(spec, MODES[mode], batch), batch / seconds
        traffic = [f"{number / 1e6:.2f} MB" if least else "-" for number in (sent_bytes, least, lo / 2)]
        share_of_gemm = f"{rate * work(spec) / gemm:.0%}"
        over = f"{sent_bytes / least:.3f}" if least else "-"
        rows.append([str(batch), mode, f"{rate:.1f}", f"{alone / seconds:.2f}", f"{ddp / seconds:.2f}", share_of_gemm])
        rows[-1] += [*traffic, over]
    lrn = lrn_seconds(spec, batch)
    note = f"Batch {batch}: sgemm {2 * gemm / 1e9:.0f} GFLOP/s; LRN {lrn * 1e3:.0f} ms, {lrn / alone:.1%} of a step."
    return rows, note


HEADER = [
    "batch",
    "mode",
    "images/s",
    "x one process",
    "x DDP",
    "of sgemm",
    "sent",
    "least",
    "on the wire",
    "sent / least",
]


def main(model: str = "alexnet", batches: Sequence[int] = (32, 128), steps: int = 3, rounds: int = 3) -> str:
    spec, rows, notes = registry.model(model), list[list[str]](), list[str]()
    for batch in batches:
        more, note = compare(spec, batch, steps, rounds)
        rows, notes = rows + more, [*notes, note]
    machine = f"{spec.name}, {CORES} cores, torch {torch.__version__}; two devices are two processes over gloo."
    return f"{table(HEADER, rows)}\n\n{' '.join([machine, *notes])}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="How fast training is: one process, data parallel, towers, hybrid.")
    parser.add_argument("--model", default="alexnet")
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    print(main(**vars(parser.parse_args())))
