"""Training by PyTorch, on one device or as one of several."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from zoo.errors import ZooError
from zoo.preprocess import FloatArray
from zoo.training.augment import Augment
from zoo.training.data import Batch, Batches, ValidationImages
from zoo.training.devices import arithmetic, settle
from zoo.training.evaluate import Scores, score
from zoo.training.images import check_broken
from zoo.training.job import Job, resume
from zoo.training.loop import Loss
from zoo.training.optimiser import Momentum, Progress
from zoo.training.placed import Draw, PlacedNetwork, own_row, summing
from zoo.training.towers import share
from zoo.wire.atomic import new_file

# Gradients in half precision: losses are multiplied by this at first, by half of it after a step whose gradients
# overflow (which is left out), and by twice as much every so many steps.
_FIRST_SCALE, _SCALE_STEPS = 65536.0, 2000


class PyTorchLearner:
    """One device of however many, in a process of its own; see `zoo.training.loop.Learner`.

    Args:
        job: what is to be done.
        device: where this process works.
        device_said: where all of them work, in words.
    """

    def __init__(self, job: Job, device: torch.device, device_said: str) -> None:
        self.job, self.device, self.device_said = job, device, device_said
        self.pins, self.lag = device.type == "cuda", 1 if device.type == "cuda" else 0
        settle(job.options.precision, device, deterministic=job.options.deterministic)
        self.row = own_row(job.arrangement)
        network = PlacedNetwork(job.spec, job.arrangement, self.row)
        self.start, weights, velocities = resume(job)
        self._check_alike()
        network.load({name: torch.from_numpy(value) for name, value in weights.items()})
        # Channels last: pooling, the first convolution and ReLUs are much faster so, the rest as fast.
        self.network: PlacedNetwork = network.to(  # pyright: ignore[reportCallIssue]  # documented, but not declared
            device, memory_format=torch.channels_last
        )
        self.network.freeze(job.frozen())
        self.momentum = Momentum(self.network.canonical_parameters(), job.recipe)
        for name, velocity in velocities.items():
            self.momentum.velocities()[name].copy_(self.network.own_part(name, torch.from_numpy(velocity)))
        self._halves = job.options.precision == "fp16"
        scale = _FIRST_SCALE if self._halves and not self.start.step else self.start.loss_scale
        self._scale = torch.tensor(scale, device=device)
        if job.options.compiled:
            self.network.compile_steps()
        self.runner = summing(self.network, self.row)
        self.augment = Augment(job.train, job.spec, job.recipe, job.options.seed, device)
        self.is_first = not dist.is_initialized() or dist.get_rank() == 0
        self.speaks = self.network.rank == 0 or self._reads_shares
        self._validation = self._validation_batches()

    @property
    def loss_scale(self) -> float:
        """What losses are multiplied by; read back from the device."""
        return self._scale.item()

    @property
    def memory(self) -> Callable[[], int] | None:
        """The most bytes of this GPU's memory that were in use at once; None without one."""
        return partial(torch.cuda.max_memory_allocated, self.device) if self.device.type == "cuda" else None

    @contextmanager
    def profile(self, folder: Path) -> Generator[None]:
        """Record steps by torch's profiler: ``trace.json`` for chrome://tracing or Perfetto, ``operators.txt``."""
        with torch.profiler.profile(record_shapes=True) as recorded:
            yield
        folder.mkdir(parents=True, exist_ok=True)
        with new_file(folder / "trace.json") as fresh:
            recorded.export_chrome_trace(str(fresh))
        order = "self_cuda_time_total" if self.device.type == "cuda" else "self_cpu_time_total"
        table = recorded.key_averages().table(sort_by=order, row_limit=50)
        with new_file(folder / "operators.txt") as fresh:
            fresh.write_text(table, encoding="utf-8")

    def _check_alike(self) -> None:
        """All processes must go on from the same step; they may not see the same folder."""
        step = self.start.step
        if self.any_of_all(step != _of_first(step)):
            raise ZooError(
                f"{self.job.options.out}: not all devices see the same checkpoints (this one that of step {step}); "
                "the folder must be one that all machines read"
            )

    def any_of_all(self, said: bool) -> bool:
        """Whether any process says so; called by all of them."""
        if not dist.is_initialized():
            return said
        flag = torch.tensor(int(said), dtype=torch.int32)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag)

    def images_of(self, step: int) -> range:
        """The places in the stream of the images that this device reads for a step."""
        row = share(range(step * self.job.batch_size, (step + 1) * self.job.batch_size), self.row.number, self._rows)
        return share(row, self.network.rank, self.network.parts) if self._reads_shares else row

    @property
    def _rows(self) -> int:
        return self.job.arrangement.replicas

    @property
    def _deals_images(self) -> bool:
        return self.job.arrangement.source == "batch" and self.network.group is not None

    @property
    def _reads_shares(self) -> bool:
        """Whether each device of a row decodes an equal share of its images (and the others get the pixels from it)."""
        return self.network.group is not None and self.job.batch_size // self._rows % self.network.parts == 0

    def _of_row(self, own: Tensor) -> Tensor:
        """What the devices of a row have read, in the order of the images."""
        pieces = [torch.empty_like(own) for _ in range(self.network.parts)]
        dist.all_gather(pieces, own.contiguous(), group=self.network.group)
        return torch.cat(pieces)

    def _to_device(self, batch: Batch, *, shares: bool) -> tuple[Tensor, Tensor]:
        """Images (the own share where they are dealt out, else the row's), and the labels of the whole row.

        `shares`: each device of the row has read its share of them.
        """
        assert self.job.spec.preprocessing is not None
        batch = batch.to(self.device)
        labels = self._of_row(batch.labels) if shares else batch.labels
        if shares and not self._deals_images:
            colour = None if batch.colour is None else self._of_row(batch.colour)
            batch = replace(batch, pixels=self._of_row(batch.pixels), colour=colour)
        return batch.inputs(self.job.spec.preprocessing, self.device), labels

    def train_step(self, batch: Batch, step: int, progress: Progress) -> Loss:
        """One step on a row's images; gives the mean loss over the global batch."""
        seen = self.augment(batch.to(self.device), self.images_of(step))
        x, labels = self._to_device(seen, shares=self._reads_shares)
        images = share(range(self.job.batch_size), self.row.number, self._rows)
        rates = self.job.rates(step, progress.drops)
        draw = Draw(seed=self.job.options.seed, step=step, images=images, statistics=rates.statistics)
        with arithmetic(self.job.options.precision, self.device):
            logits = self.runner(x, draw)
        smoothing = self.job.recipe.label_smoothing
        loss = functional.cross_entropy(logits.float(), labels, reduction="sum", label_smoothing=smoothing)
        loss = loss / self.job.batch_size
        (loss * self._scale if self._halves else loss).backward()
        overflown = self._unscale(step) if self._halves else None
        self.momentum.step(rates, overflown)
        total = loss.detach()
        if self.row.replicas is not None:
            dist.all_reduce(total, group=self.row.replicas)
        return self._read_later(total)

    def _read_later(self, number: Tensor) -> Loss:
        """A number on its way to the CPU: who asks for it waits for this step alone, not for those after it."""
        if self.device.type != "cuda":
            return number.item
        copy, done = number.to("cpu", non_blocking=True), torch.cuda.Event()
        done.record()

        def read() -> float:
            done.synchronize()
            return copy.item()

        return read

    def _unscale(self, step: int) -> Tensor:
        """Take the scale off the gradients, and adapt it; 1 where a gradient has overflown, on any device, else 0."""
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        for gradient in gradients:
            gradient /= self._scale
        overflown = 1 - torch.stack([torch.isfinite(gradient).all() for gradient in gradients]).all().float()
        if dist.is_initialized():
            dist.all_reduce(overflown, op=dist.ReduceOp.MAX)
        longer = 2.0 if (step + 1) % _SCALE_STEPS == 0 else 1.0
        self._scale = torch.where(overflown > 0, (self._scale / 2).clamp(min=1.0), self._scale * longer)
        return overflown

    def _validation_batches(self) -> Batches:
        """The validation images of the own row, of each batch the own share; the last one is filled up."""
        val, parts = self.job.val, self.network.parts
        size = -(-max(1, self.job.batch_size // self._rows) // parts) * parts
        rows = [range(i, i + size) for i in range(0, len(val), size)][self.row.number :: self._rows]
        places = [share(row, self.network.rank, parts) for row in rows]
        return Batches(ValidationImages(val, self.job.spec), places, self.job.options.workers, pinned=self.pins)

    def _judge(self, batch: Batch) -> Scores:
        """Scores of the images of a row, of which this device has read its share; the same on all its devices."""
        x, labels = self._to_device(batch, shares=self.network.group is not None)
        with torch.no_grad(), arithmetic(self.job.options.precision, self.device):
            logits = self.network(x.contiguous(memory_format=torch.channels_last))
        return score(labels, logits, batch.broken)

    def validate(self) -> Scores:
        """Scores on all validation images, dealt out over the rows; `broken` holds what was met here."""
        scores = Scores.join(map(self._judge, self._validation))
        check_broken(scores.broken, self.job.options.on_broken_image)
        if self.row.replicas is None:
            return scores
        every: list[Any] = [None] * self._rows
        dist.all_gather_object(every, scores, group=self.row.replicas)
        return replace(Scores.join(every), broken=scores.broken)

    def whole_state(self) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
        """Canonical weights and velocities, on the first device; collected from the first row, by all its devices."""
        if self.row.number:
            return {}, {}
        weights = self.network.collect(self.network.canonical_tensors())
        velocities = self.network.collect(self.momentum.velocities())
        return ({name: t.numpy() for name, t in weights.items()}, {name: t.numpy() for name, t in velocities.items()})


def _of_first(number: int) -> int:
    """The first process's number, in all of them."""
    if not dist.is_initialized():
        return number
    told = torch.tensor(number, dtype=torch.int64)
    dist.broadcast(told, src=0)
    return int(told)
