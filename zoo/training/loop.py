"""The training loop, the same for every framework and in every process of a run.

`zoo.training.launch.train` starts one process a device, or takes its place among those that ``torchrun`` started.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

from tqdm import tqdm

from zoo import registry
from zoo.errors import UnpreparedError, WeightsError, ZooError
from zoo.initial import initial_weights
from zoo.layers import ModelSpec
from zoo.preprocess import FloatArray
from zoo.recipe import FINE_TUNING, Phases, Rates, Recipe, layer_multiples, rates_at
from zoo.recipe_file import check, dumps, to_plain
from zoo.shapes import parameter_shapes
from zoo.training.checkpoint import Checkpoint, Setting, checkpoints, newest, save_checkpoint, save_model
from zoo.training.data import Batch, TrainingStream, batches
from zoo.training.devices import DeviceType, Precision
from zoo.training.evaluate import Scores
from zoo.training.images import Images, fingerprint, open_pair
from zoo.training.journal import Journal, draw_curves
from zoo.training.optimiser import Progress
from zoo.training.towers import Arrangement, arrange


@dataclass(frozen=True, kw_only=True)
class Begin:
    """Weights to begin with, instead of drawn ones.

    Attributes:
        weights: canonical name -> float32 array, of the network that is trained but for its head.
        lineage: where they are from, as plain data.
        new_head: draw a new head even where the old one has as many outputs as there are classes.
    """

    weights: Mapping[str, FloatArray]
    lineage: Mapping[str, Any]
    new_head: bool = False


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What `zoo train` is asked for.

    Attributes:
        model: the network; its number of classes follows the data.
        data: a folder with ``{train,val}/<class>/*.jpg|png``, or the word ``digits``.
        out: the folder that receives model, metrics, curves, events and checkpoints.
        begin: weights to go on from (fine-tuning); None draws them.
        framework: ``pytorch`` or ``tf_slim``.
        devices: how many; under torchrun, its own number counts.
        parallel: ``towers``, ``data`` or ``hybrid``; None chooses by the network.
        device: which kind; ``auto`` takes GPUs where every process has one of its own.
        precision: of the arithmetic; weights, sums of gradients and losses stay in single precision.
        compiled: by ``torch.compile``.
        epochs: the length of the run in passes through the training set; None is the recipe's.
        steps: the length in steps instead.
        batch_size: images a step, over all devices; None is the recipe's.
        seed: of everything random.
        resume: go on from the last checkpoint in `out`; ``auto``: if there is one.
        checkpoint_every: steps between checkpoints; there is one at every validation and at the end as well.
        workers: processes that read images, for each learner.
        on_broken_image: name it and take the next one, or stop.
        recipe: None is the network's own; with weights to begin with, `zoo.recipe.FINE_TUNING`.
        rate: instead of the recipe's.
        weight_decay: instead of the recipe's.
        freeze: layers, or patterns of layers, that stay as they are.
        head_rate: the multiple of the rate at which the head learns; None is the recipe's.
    """

    model: ModelSpec
    data: str | Path
    out: Path
    begin: Begin | None = None
    framework: Literal["pytorch", "tf_slim"] = "pytorch"
    devices: int = 1
    parallel: str | None = None
    device: DeviceType = "auto"
    precision: Precision = "fp32"
    compiled: bool = False
    epochs: int | None = None
    steps: int | None = None
    batch_size: int | None = None
    seed: int = 0
    resume: bool | Literal["auto"] = False
    checkpoint_every: int = 500
    workers: int = 0
    on_broken_image: Literal["skip", "stop"] = "stop"
    recipe: Recipe | None = None
    rate: float | None = None
    weight_decay: float | None = None
    freeze: tuple[str, ...] = ()
    head_rate: float | None = None


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

    @cached_property
    def setting(self) -> Setting:
        """What must not change between a checkpoint and its resumption."""
        return Setting(
            seed=self.options.seed,
            batch_size=self.batch_size,
            steps=self.steps,
            framework=self.options.framework,
            precision=self.options.precision,
            recipe=to_plain(replace(self.recipe, epochs=1)),  # the length of the run is `steps`
            data=fingerprint(self.train, self.val),
            lineage=self.options.begin.lineage if self.options.begin else None,
        )

    def epoch(self, step: int) -> int:
        """The epoch that a step (from 0) belongs to: that of its first image."""
        return step * self.batch_size // len(self.train)

    def ends_epoch(self, step: int) -> bool:
        """Whether the last image of an epoch is in this step, or the run ends with it."""
        return step + 1 == self.steps or self.epoch(step + 1) > self.epoch(step)

    def rates(self, step: int, drops: int) -> Rates:
        """The rates of a step."""
        return rates_at(
            self.recipe,
            self.spec,
            step=step,
            steps=self.steps,
            epoch=self.epoch(step),
            drops=drops,
            steps_an_epoch=len(self.train) / self.batch_size,
        )

    def frozen(self) -> set[str]:
        """The layers that never learn."""
        return {layer for layer, multiple in layer_multiples(self.recipe, self.spec).items() if multiple == 0}


def prepare(options: TrainOptions) -> Job:
    """Check the options and open the data; raises `ZooError` for whatever does not fit."""
    train, val = open_pair(options.data)
    spec = replace(options.model.with_num_classes(len(train.classes)), classes=())  # the data's; see `save_model`
    if spec.preprocessing is None:
        raise UnpreparedError(spec.name)
    recipe = _recipe(options, spec)
    batch_size, devices = recipe.batch_size, options.devices
    arrangement = arrange(spec, devices, options.parallel)
    dealt = arrangement.replicas * (arrangement.parts if arrangement.source == "batch" else 1)
    if batch_size < devices:
        raise ZooError(f"a batch of {batch_size} images is smaller than {devices} devices; use a larger --batch-size")
    if batch_size % dealt:
        raise ZooError(f"a batch of {batch_size} images cannot be dealt out evenly over {dealt} devices")
    found = checkpoints(options.out)
    if found and not options.resume:
        raise ZooError(f"{options.out}: holds a run already ({found[-1].name}); give --resume, or another -o")
    return Job(
        options=options,
        spec=spec,
        recipe=recipe,
        arrangement=arrangement,
        train=train,
        val=val,
        batch_size=batch_size,
        steps=options.steps or math.ceil(recipe.epochs * len(train) / batch_size),
    )


def _recipe(options: TrainOptions, spec: ModelSpec) -> Recipe:
    """The recipe, with everything that was asked for otherwise; raises `ZooError` where it cannot train."""
    recipe = options.recipe or (FINE_TUNING if options.begin else registry.recipe(spec))
    if options.rate is not None and isinstance(recipe.schedule, Phases):
        raise ZooError(
            f"the recipe {recipe.name!r} sets its rates by hand, so --lr changes nothing; give --recipe FILE"
        )
    rates = dict.fromkeys(options.freeze, 0.0)
    if options.head_rate is not None:
        rates["head"] = options.head_rate
    recipe = replace(
        recipe,
        batch_size=recipe.batch_size if options.batch_size is None else options.batch_size,
        epochs=recipe.epochs if options.epochs is None else options.epochs,
        rate=recipe.rate if options.rate is None else options.rate,
        weight_decay=recipe.weight_decay if options.weight_decay is None else options.weight_decay,
        layer_rates={**recipe.layer_rates, **rates},
    )
    check(recipe, spec)
    return recipe


class Learner(Protocol):
    """One process's share of a run: a network of some framework, its images, its place among the others."""

    @property
    def device_said(self) -> str:
        """Which devices the run is on, in words."""
        ...

    @property
    def pins(self) -> bool:
        """Whether images are to lie in memory from which a GPU copies by itself."""
        ...

    @property
    def loss_scale(self) -> float:
        """What losses are multiplied by, for gradients in half precision."""
        ...

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

    def any_of_all(self, said: bool) -> bool:
        """Whether any process says so; called by all of them."""
        ...

    def train_step(self, batch: Batch, step: int, progress: Progress) -> float:
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
    options = job.options
    if options.resume is True or (options.resume and checkpoints(options.out)):
        checkpoint = newest(options.out, job.spec, job.setting)
        return checkpoint.progress, checkpoint.weights, checkpoint.velocities
    if options.begin is None:
        return Progress(), initial_weights(job.spec, job.recipe, options.seed), {}
    fresh = new_head(job)
    return Progress(), {**options.begin.weights, **initial_weights(job.spec, job.recipe, options.seed, only=fresh)}, {}


def new_head(job: Job) -> list[str]:
    """The parameters that are drawn anew although there are weights to begin with: those of a head that does not fit.

    Raises:
        WeightsError: other parameters do not fit either.
    """
    begin, head, shapes = job.options.begin, job.spec.head, parameter_shapes(job.spec)
    if begin is None:
        return []
    wrong = [n for n, shape in shapes.items() if n not in begin.weights or begin.weights[n].shape != shape]
    own = [name for name in shapes if head is not None and name.rpartition(".")[0] == head.name]
    if left := [name for name in wrong if name not in own]:
        raise WeightsError(job.spec.name, [f"{name} does not fit the weights to begin with" for name in left])
    return own if wrong or begin.new_head else []


def check_broken(job: Job, messages: tuple[str, ...]) -> None:
    """Stop at a broken image, where that was asked for."""
    if messages and job.options.on_broken_image == "stop":
        raise ZooError(f"{messages[0]} (--on-broken-image skip goes on without it)")


def run(job: Job, learner: Learner) -> None:
    """Train to the end, in step with the other processes, if there are any.

    Raises:
        ZooError: the loss is no number, an image is broken, or the end was asked for (SIGTERM): a checkpoint is then
            written first.
    """
    journal, progress, named = _journal(job, learner), learner.start, set[str]()
    try:
        for step, batch in _stream(job, learner):
            _check_images(job, batch)
            loss = learner.train_step(batch, step, progress)
            if not math.isfinite(loss):
                raise ZooError(_no_number(job, loss, step))
            rate = job.rates(step, progress.drops).weight
            scores = learner.validate() if job.ends_epoch(step) else None
            means, before = scores.means() if scores else None, progress
            progress = replace(progress, step=step + 1, loss_scale=learner.loss_scale)
            if means:
                progress = progress.after_validation(job.recipe, means["top1"], means["loss"])
            if learner.speaks:
                _name_broken({*batch.broken, *(scores.broken if scores else ())} - named)
                named.update(batch.broken, scores.broken if scores else ())
            if journal is not None:
                journal.step(step + 1, (step + 1) * job.batch_size / len(job.train), loss, rate, means)
            stops = learner.any_of_all(stop.is_set()) and step + 1 < job.steps
            if means or stops or (step + 1) % job.options.checkpoint_every == 0:
                _save(job, learner, journal, progress, is_best=progress.best != before.best)
            if stops:
                learner.any_of_all(False)  # once all are here, the checkpoint is
                raise ZooError(f"terminated; {how_to_go_on(job.options.out)}")
        if journal is not None:
            journal.flush()
            draw_curves(job.options.out)
    finally:
        if journal is not None:
            journal.close()


# Set by SIGTERM: the run ends after the step that is under way, with a checkpoint.
stop = threading.Event()


def how_to_go_on(out: Path) -> str:
    """What to do after a run that broke off."""
    found = checkpoints(out)
    if not found:
        return "no checkpoint was written yet: begin again"
    return f"go on from {found[-1].name} with the same command and --resume"


def _no_number(job: Job, loss: float, step: int) -> str:
    said = f"the loss is {loss} at step {step + 1}: the rate is too high for this network or data; use a lower --lr"
    found = checkpoints(job.options.out)
    return f"{said} (the last checkpoint, {found[-1].name}, is of before)" if found else said


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
    for line in _about(job, learner):
        tqdm.write(line, file=sys.stderr)
    title = f"{job.spec.name} x {job.arrangement.devices}"
    return Journal(job.options.out, done=learner.start.step, steps=job.steps, batch_size=job.batch_size, title=title)


def _about(job: Job, learner: Learner) -> Iterator[str]:
    """What a run says of itself before its first step."""
    options, spec = job.options, job.spec
    sets = f"{len(job.train.classes)} classes, {len(job.train):,} images to learn from and {len(job.val):,} to judge by"
    yield f"{spec.name} on {options.data}: {sets}"
    kind = f"{options.framework}, {options.precision}{', compiled' * options.compiled}"
    yield f"device: {learner.device_said}; {kind}"
    if learner.start.step:
        yield f"goes on after step {learner.start.step:,} of {job.steps:,}"
    elif options.begin:
        yield f"begins with the weights of {options.begin.lineage.get('file', 'memory')}"
        if fresh := new_head(job):
            yield f"new head, drawn for {len(job.train.classes)} classes: {', '.join(fresh)}"
    if frozen := job.frozen():
        yield f"frozen: {', '.join(layer.name for layer in spec.layers if layer.name in frozen)}"
    yield f"{job.steps:,} steps by this recipe:"
    yield from (f"  {line}" for line in dumps(job.recipe).splitlines())


class _Places:
    """Which images this process reads, step by step; a run of a million steps is no list of them."""

    def __init__(self, learner: Learner, steps: range) -> None:
        self.learner, self.steps = learner, steps

    def __iter__(self) -> Iterator[range]:
        return (self.learner.images_of(step) for step in self.steps)


def _stream(job: Job, learner: Learner) -> Iterator[tuple[int, Batch]]:
    steps = range(learner.start.step, job.steps)
    stream = TrainingStream(job.train, job.spec, job.recipe, job.options.seed)
    read = batches(stream, _Places(learner, steps), job.options.workers, pinned=learner.pins)
    return zip(steps, read, strict=True)


def _save(job: Job, learner: Learner, journal: Journal | None, progress: Progress, *, is_best: bool) -> None:
    weights, velocities = learner.whole_state()
    if journal is None:
        return
    journal.flush()
    checkpoint = Checkpoint(weights=weights, velocities=velocities, progress=progress, setting=job.setting)
    if is_best:
        save_model(job.options.out, job.spec, checkpoint)
    save_checkpoint(job.options.out, job.spec, checkpoint)
