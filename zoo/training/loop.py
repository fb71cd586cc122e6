"""The training loop, the same for every framework and in every process of a run.

`zoo.training.launch.train` starts one process a device, or takes its place among those that ``torchrun`` started.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from tqdm import tqdm

from zoo import registry
from zoo.errors import UnsupportedError, ZooError
from zoo.initial import initial_weights
from zoo.layers import ModelSpec
from zoo.preprocess import FloatArray
from zoo.recipe import Rates, Recipe, check_patterns, rates_at
from zoo.training.checkpoint import Checkpoint, Setting, checkpoints, newest, save_checkpoint, save_model
from zoo.training.data import Batch, Images, TrainingStream, batches, open_pair
from zoo.training.evaluate import Scores
from zoo.training.journal import Journal, draw_curves
from zoo.training.optimiser import Progress
from zoo.training.towers import Arrangement, arrange


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
        workers: processes that read images, for each learner.
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
    recipe = options.recipe or registry.recipe(spec)
    check_patterns(recipe, spec)
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


class Learner(Protocol):
    """One process's share of a run: a network of some framework, its images, its place among the others."""

    @property
    def start(self) -> Progress:
        """How far the run was when this process took it up."""
        ...

    @property
    def is_first(self) -> bool:
        """Whether this process writes the run's files."""
        ...

    @property
    def speaks(self) -> bool:
        """Whether this process names the broken images it meets (one of those that read the same does)."""
        ...

    def images_of(self, step: int) -> range:
        """The places in the stream of the images that this process reads for a step."""
        ...

    def train_step(self, batch: Batch, step: int, drops: int) -> float:
        """One step on those images; returns the mean loss over the global batch."""
        ...

    def validate(self) -> Scores:
        """Scores on all validation images, the same in every process."""
        ...

    def whole_state(self) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
        """Canonical weights and velocities, in the first process; called in all of them."""
        ...


def take_up(job: Job) -> tuple[Progress, Mapping[str, FloatArray], Mapping[str, FloatArray]]:
    """Where a run begins: how far it is, its canonical weights, and its velocities (none: all zero)."""
    if not job.options.resume:
        return Progress(), initial_weights(job.spec, job.recipe, job.options.seed), {}
    checkpoint = newest(job.options.out, job.spec, job.setting)
    return checkpoint.progress, checkpoint.weights, checkpoint.velocities


def check_broken(job: Job, messages: tuple[str, ...]) -> None:
    """Stop at a broken image, where that was asked for."""
    if messages and job.options.on_broken_image == "stop":
        raise ZooError(f"{messages[0]} (--on-broken-image skip goes on without it)")


def run(job: Job, learner: Learner) -> None:
    """Train to the end, in step with the other processes, if there are any."""
    journal, progress, named = _journal(job, learner), learner.start, set[str]()
    try:
        for step, batch in _stream(job, learner):
            _check_images(job, batch)
            loss = learner.train_step(batch, step, progress.drops)
            if not math.isfinite(loss):
                raise ZooError(f"the loss is {loss} at step {step + 1}: the rate is too high for this network or data")
            rate = job.rates(step, progress.drops).weight
            scores = learner.validate() if job.ends_epoch(step) else None
            means, before = scores.means() if scores else None, progress
            progress = replace(progress, step=step + 1)
            if means:
                progress = progress.after_validation(job.recipe, means["top1"], means["loss"])
            if learner.speaks:
                _name_broken({*batch.broken, *(scores.broken if scores else ())} - named)
                named.update(batch.broken, scores.broken if scores else ())
            if journal is not None:
                journal.step(step + 1, (step + 1) * job.batch_size / len(job.train), loss, rate, means)
            if means or (step + 1) % job.options.checkpoint_every == 0:
                _save(job, learner, journal, progress, is_best=progress.best != before.best)
        if journal is not None:
            journal.flush()
            draw_curves(job.options.out)
    finally:
        if journal is not None:
            journal.close()


def _check_images(job: Job, batch: Batch) -> None:
    check_broken(job, batch.broken)
    if bool((batch.labels < 0).any()):
        raise ZooError(f"{batch.broken[-1]}; and so were the images before it: too many broken in a row")


def _name_broken(messages: set[str]) -> None:
    for message in sorted(messages):
        tqdm.write(f"warning: {message}; skipped", file=sys.stderr)


def _journal(job: Job, learner: Learner) -> Journal | None:
    if not learner.is_first:
        return None
    title = f"{job.spec.name} x {job.arrangement.devices}"
    return Journal(job.options.out, done=learner.start.step, steps=job.steps, batch_size=job.batch_size, title=title)


def _stream(job: Job, learner: Learner) -> Iterator[tuple[int, Batch]]:
    steps = range(learner.start.step, job.steps)
    stream = TrainingStream(job.train, job.spec, job.recipe, job.options.seed)
    return zip(steps, batches(stream, [learner.images_of(step) for step in steps], job.options.workers), strict=True)


def _save(job: Job, learner: Learner, journal: Journal | None, progress: Progress, *, is_best: bool) -> None:
    weights, velocities = learner.whole_state()
    if journal is None:
        return
    journal.flush()
    if is_best:
        save_model(job.options.out, job.spec, weights)
    checkpoint = Checkpoint(weights=weights, velocities=velocities, progress=progress, setting=job.setting)
    save_checkpoint(job.options.out, job.spec, checkpoint)
