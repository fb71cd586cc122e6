"""Training on one device of however many: the loop that every process runs.

`zoo.training.launch.train` starts one process a device, or takes its place among those that ``torchrun`` started.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from zoo.errors import UnsupportedError, ZooError
from zoo.layers import ModelSpec
from zoo.recipe import Rates, Recipe, rates_at, recipe_for
from zoo.training.checkpoint import Checkpoint, Setting, checkpoints, newest, save_checkpoint, save_model
from zoo.training.data import Batch, Images, TrainingStream, batches, open_pair
from zoo.training.evaluate import Scores, evaluate
from zoo.training.journal import Journal, draw_curves
from zoo.training.optimiser import Momentum, Progress, initial_weights
from zoo.training.placed import Draw, PlacedNetwork, own_row, summing
from zoo.training.towers import Arrangement, arrange, share


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What `zoo train` is asked for.

    Attributes:
        model: the network; its number of classes follows the data.
        data: a folder with ``{train,val}/<class>/*.jpg|png``, or the word ``digits``.
        out: the folder that receives model, metrics, curves, events and checkpoints.
        framework: ``pytorch`` or ``tf_slim``.
        devices: how many; under torchrun, its own number counts.
        parallel: ``towers``, ``data`` or ``hybrid``; None chooses by the network.
        epochs: the length of the run in passes through the training set; None is the recipe's.
        steps: the length in steps instead.
        batch_size: images a step, over all devices; None is the recipe's.
        seed: of everything random.
        resume: go on from the last checkpoint in `out`.
        checkpoint_every: steps between checkpoints; there is one at every validation and at the end as well.
        workers: processes that read images, for each device.
        on_broken_image: name it and take the next one, or stop.
        recipe: None is the network's own.
    """

    model: ModelSpec
    data: str | Path
    out: Path
    framework: Literal["pytorch", "tf_slim"] = "pytorch"
    devices: int = 1
    parallel: str | None = None
    epochs: int | None = None
    steps: int | None = None
    batch_size: int | None = None
    seed: int = 0
    resume: bool = False
    checkpoint_every: int = 500
    workers: int = 0
    on_broken_image: Literal["skip", "stop"] = "stop"
    recipe: Recipe | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """Options made definite, and checked against each other before any process starts."""

    options: TrainOptions
    spec: ModelSpec
    recipe: Recipe
    arrangement: Arrangement
    train: Images
    val: Images
    batch_size: int
    steps: int

    @property
    def setting(self) -> Setting:
        """What must not change between a checkpoint and its resumption."""
        return Setting(
            seed=self.options.seed,
            batch_size=self.batch_size,
            steps=self.steps,
            recipe=self.recipe.name,
            images=len(self.train),
            framework=self.options.framework,
        )

    def epoch(self, step: int) -> int:
        """The epoch that a step (from 0) belongs to: that of its first image."""
        return step * self.batch_size // len(self.train)

    def ends_epoch(self, step: int) -> bool:
        """Whether the last image of an epoch is in this step, or the run ends with it."""
        return step + 1 == self.steps or self.epoch(step + 1) > self.epoch(step)

    def rates(self, step: int, drops: int) -> Rates:
        """The rates of a step."""
        return rates_at(self.recipe, self.spec, step=step, steps=self.steps, epoch=self.epoch(step), drops=drops)


def prepare(options: TrainOptions) -> Job:
    """Check the options and open the data; raises `ZooError` for whatever does not fit."""
    train, val = open_pair(options.data)
    spec = options.model.with_num_classes(len(train.classes))
    if spec.preprocessing is None:
        raise UnsupportedError(f"{spec.name} does not say how its images are prepared (it has no preprocessing)")
    recipe = options.recipe or recipe_for(spec)
    batch_size, devices = options.batch_size or recipe.batch_size, options.devices
    arrangement = arrange(spec, devices, options.parallel)
    dealt = arrangement.replicas * (arrangement.parts if arrangement.source == "batch" else 1)
    if batch_size < devices:
        raise ZooError(f"a batch of {batch_size} images is smaller than {devices} devices; use a larger --batch-size")
    if batch_size % dealt:
        raise ZooError(f"a batch of {batch_size} images cannot be dealt out evenly over {dealt} devices")
    found = checkpoints(options.out)
    if found and not options.resume:
        raise ZooError(f"{options.out}: holds a run already ({found[-1].name}); give --resume, or another -o")
    epochs = options.epochs or recipe.epochs
    return Job(
        options=options,
        spec=spec,
        recipe=recipe,
        arrangement=arrangement,
        train=train,
        val=val,
        batch_size=batch_size,
        steps=options.steps or math.ceil(epochs * len(train) / batch_size),
    )


class Device:
    """One device's share of a run: its network, its images, its place among the others."""

    def __init__(self, job: Job, place: torch.device) -> None:
        self.job, self.place = job, place
        self.row = own_row(job.arrangement, place.type)
        network = PlacedNetwork(job.spec, job.arrangement, self.row.group)
        self.start = Progress()
        if job.options.resume:
            checkpoint = newest(job.options.out, job.spec, job.setting)
            self.start = checkpoint.progress
            weights = {name: torch.from_numpy(value) for name, value in checkpoint.weights.items()}
            velocities = {name: torch.from_numpy(value) for name, value in checkpoint.velocities.items()}
        else:
            weights, velocities = initial_weights(job.spec, job.recipe, job.options.seed), dict[str, Tensor]()
        network.load(weights)
        # Channels last: pooling, the first convolution and ReLUs are much faster so, the rest as fast.
        self.network: PlacedNetwork = cast(Any, network).to(place, memory_format=torch.channels_last)
        self.momentum = Momentum(self.network.canonical_parameters(), job.recipe)
        for name, velocity in velocities.items():
            self.momentum.velocities()[name].copy_(self.network.own_part(name, velocity))
        self.runner = summing(self.network, self.row)
        self.is_first = not dist.is_initialized() or dist.get_rank() == 0

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

    def to_place(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Images, channels last, and the labels of the whole row."""
        x = batch.x.to(self.place).contiguous(memory_format=torch.channels_last)
        labels = batch.labels.to(self.place)
        if self._deals_images:
            pieces = [torch.empty_like(labels) for _ in range(self.network.parts)]
            dist.all_gather(pieces, labels, group=self.network.group)
            labels = torch.cat(pieces)
        return x, labels

    def train_step(self, x: Tensor, labels: Tensor, step: int, drops: int) -> float:
        """One step on a row's images; returns the mean loss over the global batch."""
        images = share(range(self.job.batch_size), self.row.number, self._rows)
        logits = self.runner(x, Draw(seed=self.job.options.seed, step=step, images=images))
        loss = functional.cross_entropy(logits.float(), labels, reduction="sum") / self.job.batch_size
        loss.backward()
        self.momentum.step(self.job.rates(step, drops))
        total = loss.detach()
        if self.row.replicas is not None:
            dist.all_reduce(total, group=self.row.replicas)
        return total.item()

    def logits(self, x_NCHW: NDArray[np.float32]) -> NDArray[np.float32]:
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
        self.check_broken(scores.broken)
        if self.row.replicas is not None:
            sums = torch.tensor([scores.images, scores.top1, scores.top5, scores.loss], dtype=torch.float64)
            sums = sums.to(self.place)
            dist.all_reduce(sums, group=self.row.replicas)
            images, top1, top5, loss = sums.tolist()
            scores = Scores(images=int(images), top1=int(top1), top5=int(top5), loss=loss, broken=scores.broken)
        return scores

    def check_broken(self, messages: tuple[str, ...]) -> None:
        """Stop at a broken image, where that was asked for."""
        if messages and self.job.options.on_broken_image == "stop":
            raise ZooError(f"{messages[0]} (--on-broken-image skip goes on without it)")

    def whole_state(self) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
        """Canonical weights and velocities, on the first device; collected from the first row, by all its devices."""
        if self.row.number:
            return {}, {}
        weights = self.network.collect(self.network.canonical_parameters())
        velocities = self.network.collect(self.momentum.velocities())
        return ({name: t.numpy() for name, t in weights.items()}, {name: t.numpy() for name, t in velocities.items()})


def run(job: Job, place: torch.device) -> None:
    """Train on this device, in step with the others (if any: their process group is set up)."""
    device = Device(job, place)
    journal = _journal(job, device)
    progress = device.start
    try:
        for step, batch in _stream(job, device):
            device.check_broken(batch.broken)
            if bool((batch.labels < 0).any()):
                raise ZooError(f"{batch.broken[-1]}; and so were the images before it: too many broken in a row")
            loss = device.train_step(*device.to_place(batch), step, progress.drops)
            if not math.isfinite(loss):
                raise ZooError(f"the loss is {loss} at step {step + 1}: the rate is too high for this network or data")
            progress = replace(progress, step=step + 1)
            scores, progress, is_best = _judge(job, device, progress, step)
            if journal is not None:
                epoch = (step + 1) * job.batch_size / len(job.train)
                journal.step(step + 1, epoch, loss, job.rates(step, progress.drops).weight, scores)
                _warn(journal, batch.broken)
            if scores is not None or (step + 1) % job.options.checkpoint_every == 0:
                _save(job, device, journal, progress, is_best)
        if journal is not None:
            journal.flush()
            draw_curves(job.options.out)
    finally:
        if journal is not None:
            journal.close()


def _journal(job: Job, device: Device) -> Journal | None:
    if not device.is_first:
        return None
    title = f"{job.spec.name} x {job.arrangement.devices}"
    return Journal(job.options.out, done=device.start.step, steps=job.steps, batch_size=job.batch_size, title=title)


def _stream(job: Job, device: Device) -> Iterator[tuple[int, Batch]]:
    steps = range(device.start.step, job.steps)
    stream = TrainingStream(job.train, job.spec, job.recipe, job.options.seed)
    return zip(steps, batches(stream, [device.images_of(step) for step in steps], job.options.workers), strict=True)


def _judge(job: Job, device: Device, progress: Progress, step: int) -> tuple[dict[str, float] | None, Progress, bool]:
    """At the end of an epoch: validation scores, the progress after them, and whether they are the best so far."""
    if not job.ends_epoch(step):
        return None, progress, False
    scores = device.validate().means()
    after = progress.after_validation(job.recipe, scores["top1"], scores["loss"])
    return scores, after, after.best != progress.best


def _save(job: Job, device: Device, journal: Journal | None, progress: Progress, is_best: bool) -> None:
    weights, velocities = device.whole_state()
    if journal is None:
        return
    journal.flush()
    if is_best:
        save_model(job.options.out, job.spec, weights)
    checkpoint = Checkpoint(weights=weights, velocities=velocities, progress=progress, setting=job.setting)
    save_checkpoint(job.options.out, job.spec, checkpoint)


def _warn(journal: Journal, messages: tuple[str, ...]) -> None:
    for message in messages:
        journal.say(f"warning: {message}; skipped")
