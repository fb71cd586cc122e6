"""Training by PyTorch, on one device or as one of several."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from zoo.preprocess import FloatArray
from zoo.training.data import Batch
from zoo.training.evaluate import Scores, evaluate
from zoo.training.loop import Job, check_broken, take_up
from zoo.training.optimiser import Momentum
from zoo.training.placed import Draw, PlacedNetwork, own_row, summing
from zoo.training.towers import share


class PyTorchLearner:
    """One device of however many, in a process of its own; see `zoo.training.loop.Learner`."""

    def __init__(self, job: Job, place: torch.device) -> None:
        self.job, self.place = job, place
        self.row = own_row(job.arrangement, place.type)
        network = PlacedNetwork(job.spec, job.arrangement, self.row.group)
        self.start, weights, velocities = take_up(job)
        network.load({name: torch.from_numpy(value) for name, value in weights.items()})
        # Channels last: pooling, the first convolution and ReLUs are much faster so, the rest as fast.
        self.network: PlacedNetwork = cast(Any, network).to(place, memory_format=torch.channels_last)
        self.momentum = Momentum(self.network.canonical_parameters(), job.recipe)
        for name, velocity in velocities.items():
            self.momentum.velocities()[name].copy_(self.network.own_part(name, torch.from_numpy(velocity)))
        self.runner = summing(self.network, self.row)
        self.is_first = not dist.is_initialized() or dist.get_rank() == 0
        self.speaks = self.network.rank == 0 or self._deals_images

    def images_of(self, step: int) -> range:
        """The places in the stream of the images that this device reads for a step."""
        row = share(range(step * self.job.batch_size, (step + 1) * self.job.batch_size), self.row.number, self._rows)
        return share(row, self.network.rank, self.network.parts) if self._deals_images else row

    @property
    def _rows(self) -> int:
        return self.job.arrangement.replicas

    @property
    def _deals_images(self) -> bool:
        return self.job.arrangement.source == "batch" and self.network.group is not None

    def _to_place(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Images, channels last, and the labels of the whole row."""
        x = batch.x.to(self.place).contiguous(memory_format=torch.channels_last)
        labels = batch.labels.to(self.place)
        if self._deals_images:
            pieces = [torch.empty_like(labels) for _ in range(self.network.parts)]
            dist.all_gather(pieces, labels, group=self.network.group)
            labels = torch.cat(pieces)
        return x, labels

    def train_step(self, batch: Batch, step: int, drops: int) -> float:
        """One step on a row's images; returns the mean loss over the global batch."""
        x, labels = self._to_place(batch)
        images = share(range(self.job.batch_size), self.row.number, self._rows)
        logits = self.runner(x, Draw(seed=self.job.options.seed, step=step, images=images))
        loss = functional.cross_entropy(logits.float(), labels, reduction="sum") / self.job.batch_size
        loss.backward()
        self.momentum.step(self.job.rates(step, drops))
        total = loss.detach()
        if self.row.replicas is not None:
            dist.all_reduce(total, group=self.row.replicas)
        return total.item()

    def logits(self, x_NCHW: FloatArray) -> FloatArray:
        """The network at inference; called with the same images by all devices of a row."""
        x = torch.from_numpy(x_NCHW).to(self.place)
        if self._deals_images:
            # Dealt out evenly: the last batch is filled up with black images.
            x = torch.cat([x, x.new_zeros(-len(x) % self.network.parts, *x.shape[1:])])
            own = share(range(len(x)), self.network.rank, self.network.parts)
            x = x[own.start : own.stop]
        with torch.no_grad():
            outputs = self.network(x.contiguous(memory_format=torch.channels_last))
        return outputs[: len(x_NCHW)].float().cpu().numpy()

    def validate(self) -> Scores:
        """Scores on all validation images, dealt out over the rows; the same on every device."""
        val, size = self.job.val, max(1, self.job.batch_size // self._rows)
        places = [range(i, min(i + size, len(val))) for i in range(0, len(val), size)][self.row.number :: self._rows]
        scores = Scores()
        if places:
            scores = evaluate(self.logits, val, self.job.spec, workers=self.job.options.workers, places=places)
        check_broken(self.job, scores.broken)
        if self.row.replicas is not None:
            sums = torch.tensor([scores.images, scores.top1, scores.top5, scores.loss], dtype=torch.float64)
            sums = sums.to(self.place)
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
