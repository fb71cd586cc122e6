"""The training loop, the same for every framework and in every process of a run.

`zoo.training.launch.train` starts one process a device, or takes its place among those that ``torchrun`` started.
"""

from __future__ import annotations

import math
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
from tqdm import tqdm

from zoo.errors import EndedError, ZooError, shown
from zoo.preprocess import FloatArray
from zoo.recipe_file import dumps
from zoo.training.checkpoint import Checkpoint, checkpoints, save_checkpoint, save_model
from zoo.training.data import Batch, Batches, TrainingStream
from zoo.training.evaluate import Scores
from zoo.training.images import check_broken
from zoo.training.job import Job, check_new, new_head
from zoo.training.optimiser import Progress
from zoo.wire.folders import alone_in

if TYPE_CHECKING:
    from zoo.training.journal import Journal

Profile: TypeAlias = AbstractContextManager[None]
# Called, it waits for a step to end.
Loss: TypeAlias = Callable[[], float]


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

    @property
    def memory(self) -> Callable[[], int] | None:
        """The most bytes of a GPU's memory that were in use at once; None without a GPU."""
        ...

    def profile(self, folder: Path) -> Profile:
        """A context in which steps are recorded, to be written into a folder at its end."""
        ...

    @property
    def lag(self) -> int:
        """How many steps late losses are best asked for: an accelerator goes on meanwhile."""
        ...

    def train_step(self, batch: Batch, step: int, progress: Progress) -> Loss:
        """One step on those images; what is returned gives the mean loss over the global batch."""
        ...

    def validate(self) -> Scores:
        """Scores on all validation images, the same in every process."""
        ...

    def whole_state(self) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
        """Canonical weights and velocities, in the first process; called in all of them."""
        ...


def run(job: Job, learner: Learner) -> None:
    """Train to the end, in step with the other processes, if there are any.

    Raises:
        ZooError: the loss is no number, an image is broken, or the end was asked for (SIGTERM): a checkpoint is then
            written first. Or another run works in the same folder.
    """
    if not learner.is_first:
        _run(job, learner)
        return
    job.options.out.mkdir(parents=True, exist_ok=True)
    with alone_in(job.options.out):
        check_new(job.options)  # another may have begun, and ended, since the options were looked at
        _run(job, learner)


def _run(job: Job, learner: Learner) -> None:
    journal, progress, named = _journal(job, learner), learner.start, set[str]()
    taken, profile = _Taken(job, journal), _Profiled(job, learner)
    try:
        for step, batch in _stream(job, learner):
            _check_images(job, batch)
            with profile.of(step):
                loss = learner.train_step(batch, step, progress)
            taken.add(step, loss, job.rates(step, progress.drops).weight)
            scores = taken.judged(learner.validate) if job.ends_epoch(step) else None
            means, before = scores.means() if scores else None, progress
            progress = replace(progress, step=step + 1)
            if means:
                progress = progress.after_validation(job.recipe, means["top1"], means["loss"])
            if learner.speaks:
                _name_broken({*batch.broken, *(scores.broken if scores else ())} - named)
                named.update(batch.broken, scores.broken if scores else ())
            taken.record(learner.lag)
            stops = learner.any_of_all(stop.asked) and step + 1 < job.steps
            if means or stops or (step + 1) % job.options.checkpoint_every == 0:
                taken.record()
                with taken.clock.stopped():
                    _save(job, learner, journal, progress, is_best=progress.best != before.best)
            if stops:
                learner.any_of_all(False)  # once all are here, the checkpoint is
                raise EndedError(f"terminated; {how_to_go_on(job.options.out)}", signal.SIGTERM)
        if named:
            tqdm.write(f"{len(named):,} broken images were passed over", file=sys.stderr)
        if journal is not None:
            journal.draw(f"{job.title} on {job.options.data}")
    finally:
        if journal is not None:
            journal.close()


class _Profiled:
    """Records some steps of a run, once it is under way."""

    def __init__(self, job: Job, learner: Learner) -> None:
        start, count = learner.start.step, min(job.options.profile, job.steps - learner.start.step)
        self.first = start + min(_WARM_STEPS, job.steps - start - count)
        self.last, self.open = self.first + count - 1, ExitStack()
        self.folder, self.learner = job.options.out / "profile", learner

    @contextmanager
    def of(self, step: int) -> Generator[None]:
        """Around a step."""
        if step == self.first <= self.last and self.learner.is_first:
            self.open.enter_context(self.learner.profile(self.folder))
        yield
        if step == self.last:
            self.open.close()


class _Clock:
    """The time that steps take, without what comes between them: validation, checkpoints."""

    def __init__(self) -> None:
        self._before: float | None = None

    def lap(self) -> float | None:
        """Seconds since the last lap; None for the first, a start: compilers, reading ahead."""
        now = time.perf_counter()
        before, self._before = self._before, now
        return None if before is None else now - before

    @contextmanager
    def stopped(self) -> Generator[None]:
        """Around what does not count."""
        start = time.perf_counter()
        yield
        if self._before is not None:
            self._before += time.perf_counter() - start


@dataclass(kw_only=True)
class _Step:
    """A step whose loss may still be on its way."""

    number: int
    loss: Loss
    rate: float
    scores: dict[str, float] | None = None
    known: float | None = None
    seconds: float | None = None


class _Taken:
    """The steps that are not recorded yet, in their order."""

    def __init__(self, job: Job, journal: Journal | None) -> None:
        self.job, self.journal, self.clock = job, journal, _Clock()
        self.steps = deque[_Step]()

    def add(self, step: int, loss: Loss, rate: float) -> None:
        """Remember a step."""
        self.steps.append(_Step(number=step + 1, loss=loss, rate=rate))

    def judged(self, validate: Callable[[], Scores]) -> Scores:
        """The scores after the last step, which has then come to its end."""
        for step in self.steps:
            self._wait(step)
        with self.clock.stopped():
            scores = validate()
        self.steps[-1].scores = scores.means()
        return scores

    def record(self, left: int = 0) -> None:
        """Record all steps but the last few; raises `ZooError` where a loss is no number."""
        while len(self.steps) > left:
            step = self.steps.popleft()
            number = self._wait(step)
            if not math.isfinite(number):
                raise ZooError(_no_number(self.job, f"the loss is {number} at", step.number))
            if self.journal is not None:
                epoch = step.number * self.job.batch_size / len(self.job.train)
                self.journal.step(step.number, epoch, number, step.rate, step.scores, step.seconds)

    def _wait(self, step: _Step) -> float:
        """The loss of a step, once the device has come to it; asked for in the order of the steps."""
        if step.known is None:
            step.known = step.loss()
            step.seconds = self.clock.lap()
        return step.known


# Before they are recorded: caches fill, kernels are chosen.
_WARM_STEPS = 3


@dataclass
class _Stop:
    """Whether the end was asked for; the run ends after the step that is under way, with a checkpoint.

    No `threading.Event`: it has a lock. SIGTERM may come twice at once (a job manager sends it to all processes, and
    the first one passes it on), and the second would wait in its handler for the first, which it broke into.
    """

    asked: bool = False


# Set by SIGTERM's handler.
stop = _Stop()


def how_to_go_on(out: Path) -> str:
    """What to do after a run that broke off."""
    found = checkpoints(out)
    if not found:
        return "no checkpoint was written yet: begin again"
    return f"go on from {found[-1].name} with the same command and --resume"


def _no_number(job: Job, what: str, step: int) -> str:
    said = f"{what} step {step}: the rate is too high for this network or data; use a lower --lr"
    found = checkpoints(job.options.out)
    return f"{said} (the last checkpoint, {found[-1].name}, is of before)" if found else said


def _check_images(job: Job, batch: Batch) -> None:
    check_broken(batch.broken, job.options.on_broken_image)
    if bool((batch.labels < 0).any()):
        raise ZooError(f"{batch.broken[-1]}; and so were the images before it: too many broken in a row")


def _name_broken(messages: set[str]) -> None:
    for message in sorted(messages):
        tqdm.write(f"warning: {message}; skipped", file=sys.stderr)


def _journal(job: Job, learner: Learner) -> Journal | None:
    if not learner.is_first:
        return None
    from zoo.training.journal import Journal  # noqa: PLC0415 - charts and events: the first process's alone

    for line in _about(job, learner):
        tqdm.write(shown(line), file=sys.stderr)
    return Journal(
        job.options.out,
        done=learner.start.step,
        steps=job.steps,
        batch_size=job.batch_size,
        title=shown(job.title),
        memory=learner.memory,
    )


def _about(job: Job, learner: Learner) -> Iterator[str]:
    """What a run says of itself before its first step."""
    options, spec = job.options, job.spec
    sets = f"{len(job.train.classes)} classes, {len(job.train):,} images to learn from and {len(job.val):,} to judge by"
    yield f"{spec.name} on {options.data}: {sets}"
    asked = [word for word in ("deterministic", "compiled") if getattr(options, word)]
    kind = ", ".join([options.framework, options.precision, *asked])
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
    stream = TrainingStream(job.train, job.spec, job.options.seed)
    read = Batches(stream, _Places(learner, steps), job.options.workers, pinned=learner.pins)
    return zip(steps, read, strict=True)


def _save(job: Job, learner: Learner, journal: Journal | None, progress: Progress, *, is_best: bool) -> None:
    weights, velocities = learner.whole_state()
    if journal is None:
        return
    if wrong := [name for name, tensor in weights.items() if not np.isfinite(tensor).all()]:
        raise ZooError(_no_number(job, f"{wrong[0]} is not finite after", progress.step))
    journal.flush()
    progress = replace(progress, loss_scale=learner.loss_scale)
    checkpoint = Checkpoint(weights=weights, velocities=velocities, progress=progress, setting=job.setting)
    if is_best:
        save_model(job.options.out, job.spec, checkpoint)
    save_checkpoint(job.options.out, job.spec, checkpoint)
