"""Training by PyTorch, on one device or as one of several."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from zoo.errors import ZooError
from zoo.preprocess import FloatArray
from zoo.training.data import Batch
from zoo.training.devices import arithmetic
from zoo.training.evaluate import Scores, evaluate
from zoo.training.loop import Job, check_broken, take_up
from zoo.training.optimiser import Momentum, Progress
from zoo.training.placed import Draw, PlacedNetwork, own_row, summing
from zoo.training.towers import share

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
        self.pins = device.type == "cuda"
        self.row = own_row(job.arrangement)
        network = PlacedNetwork(job.spec, job.arrangement, self.row.group)
        self.start, weights, velocities = take_up(job)
        self._check_alike()
        network.load({name: torch.from_numpy(value) for name, value in weights.items()})
        # Channels last: pooling, the first convolution and ReLUs are much faster so, the rest as fast.
        self.network: PlacedNetwork = network.to(  # pyright: ignore[reportCallIssue]  # documented, but not declared
            device, memory_format=torch.channels_last
        )
        self._freeze()
        self.momentum = Momentum(self.network.canonical_parameters(), job.recipe)
        for name, velocity in velocities.items():
            self.momentum.velocities()[name].copy_(self.network.own_part(name, torch.from_numpy(velocity)))
        self._halves = job.options.precision == "fp16"
        self.loss_scale = _FIRST_SCALE if self._halves and not self.start.step else self.start.loss_scale
        if job.options.compiled:
            self.network.compile_steps()
        self.runner = summing(self.network, self.row)
        self.is_first = not dist.is_initialized() or dist.get_rank() == 0
        self.speaks = self.network.rank == 0 or self._reads_shares

    def _check_alike(self) -> None:
        """All processes must go on from the same step; they may not see the same folder."""
        step = self.start.step
        if self.any_of_all(step != _of_first(step)):
            raise ZooError(
                f"{self.job.options.out}: not all devices see the same checkpoints (this one that of step {step}); "
                "the folder must be one that all machines read"
            )

    def _freeze(self) -> None:
        frozen, parameters = self.job.frozen(), self.network.canonical_parameters()
        still = {name for name in parameters if name.rpartition(".")[0] in frozen}
        if len(still) == len(parameters):
            raise ZooError("every layer is frozen: nothing is left to train")
        for name in still:
            parameters[name].requires_grad_(False)

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
        if not self._reads_shares:
            return own
        pieces = [torch.empty_like(own) for _ in range(self.network.parts)]
        dist.all_gather(pieces, own.contiguous(), group=self.network.group)
        return torch.cat(pieces)

    def _to_device(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Images (the own share where they are dealt out, else the row's), and the labels of the whole row."""
        assert self.job.spec.preprocessing is not None
        labels = self._of_row(batch.labels.to(self.device, non_blocking=True))
        if not self._deals_images:
            colour = None if batch.colour is None else self._of_row(batch.colour.to(self.device, non_blocking=True))
            pixels = self._of_row(batch.pixels.to(self.device, non_blocking=True))
            batch = Batch(pixels=pixels, colour=colour, labels=labels, broken=batch.broken)
        return batch.inputs(self.job.spec.preprocessing, self.device), labels

    def train_step(self, batch: Batch, step: int, progress: Progress) -> float:
        """One step on a row's images; returns the mean loss over the global batch."""
        x, labels = self._to_device(batch)
        images = share(range(self.job.batch_size), self.row.number, self._rows)
        with arithmetic(self.job.options.precision, self.device):
            logits = self.runner(x, Draw(seed=self.job.options.seed, step=step, images=images))
        smoothing = self.job.recipe.label_smoothing
        loss = functional.cross_entropy(logits.float(), labels, reduction="sum", label_smoothing=smoothing)
        loss = loss / self.job.batch_size
        (loss * self.loss_scale if self._halves else loss).backward()
        if not self._halves or self._unscale(step):
            self.momentum.step(self.job.rates(step, progress.drops))
        total = loss.detach()
        if self.row.replicas is not None:
            dist.all_reduce(total, group=self.row.replicas)
        return total.item()

    def _unscale(self, step: int) -> bool:
        """Take the scale off the gradients; False, and no gradients, where one of them has overflown."""
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        for gradient in gradients:
            gradient /= self.loss_scale
        whole = not self.any_of_all(not all(bool(torch.isfinite(gradient).all()) for gradient in gradients))
        if not whole:
            self.network.zero_grad(set_to_none=True)
            self.loss_scale = max(1.0, self.loss_scale / 2)
        elif (step + 1) % _SCALE_STEPS == 0:
            self.loss_scale *= 2
        return whole

    def logits(self, x_NCHW: Tensor) -> Tensor:
        """The network at inference; called with the same images by all devices of a row."""
        x = x_NCHW
        if self._deals_images:
            # Dealt out evenly: the last batch is filled up with black images.
            x = torch.cat([x, x.new_zeros(-len(x) % self.network.parts, *x.shape[1:])])
            own = share(range(len(x)), self.network.rank, self.network.parts)
            x = x[own.start : own.stop]
        with torch.no_grad(), arithmetic(self.job.options.precision, self.device):
            outputs = self.network(x.contiguous(memory_format=torch.channels_last))
        return outputs[: len(x_NCHW)]

    def validate(self) -> Scores:
        """Scores on all validation images, dealt out over the rows; the same on every device."""
        val, size = self.job.val, max(1, self.job.batch_size // self._rows)
        places = [range(i, min(i + size, len(val))) for i in range(0, len(val), size)][self.row.number :: self._rows]
        scores = Scores()
        if places:
            workers = self.job.options.workers
            scores = evaluate(self.logits, val, self.job.spec, workers=workers, places=places, device=self.device)
        check_broken(self.job, scores.broken)
        if self.row.replicas is not None:
            sums = torch.tensor([scores.images, scores.top1, scores.top5, scores.loss], dtype=torch.float64)
            sums = sums.to(self.device)
            dist.all_reduce(sums, group=self.row.replicas)
            images, top1, top5, loss = sums.tolist()
            scores = Scores(images=int(images), top1=int(top1), top5=int(top5), loss=loss, broken=scores.broken)
        return scores

    def whole_state(self) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
        """Canonical weights and velocities, on the first device; collected from the first row, by all its devices."""
        if self.row.number:
            return {}, {}
        weights = self.network.collect(self.network.canonical_parameters())
        velocities = self.network.collect(self.momentum.velocities())
        return ({name: t.numpy() for name, t in weights.items()}, {name: t.numpy() for name, t in velocities.items()})


def _of_first(number: int) -> int:
    """The first process's number, in all of them."""
    if not dist.is_initialized():
        return number
    told = torch.tensor(number, dtype=torch.int64)
    dist.broadcast(told, src=0)
    return int(told)
