"""What is to be done: options made definite, and where a run begins."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from zoo import registry
from zoo.errors import UnpreparedError, WeightsError, ZooError
from zoo.initial import initial_weights
from zoo.layers import ModelSpec
from zoo.preprocess import FloatArray
from zoo.recipe import Phases, Rates, Recipe, layer_multiples, rates_at
from zoo.recipe_file import check, to_plain
from zoo.recipes import FINE_TUNING
from zoo.shapes import check_cost, parameter_shapes, parameter_table
from zoo.training.checkpoint import Setting, checkpoints, newest
from zoo.training.datasets import check_size, fingerprint, open_pair
from zoo.training.devices import DeviceType, Precision
from zoo.training.images import Images, OnBroken
from zoo.training.optimiser import Progress
from zoo.training.towers import Arrangement, arrange
from zoo.wire.folders import check_no_link


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
        deterministic: by kernels that give the same bits every time, as far as torch has them.
        compiled: by ``torch.compile``.
        epochs: the length of the run in passes through the training set; None is the recipe's.
        steps: the length in steps instead.
        batch_size: images a step, over all devices; None is the recipe's.
        seed: of everything random.
        resume: go on from the last checkpoint in `out`; ``auto``: if there is one.
        checkpoint_every: steps between checkpoints; there is one at every validation and at the end as well.
        workers: processes that read images, for each learner.
        on_broken_image: name it and take the next one, or stop.
        recipe: None is the network's own; with weights to begin with, `zoo.recipes.FINE_TUNING`.
        rate: instead of the recipe's.
        weight_decay: instead of the recipe's.
        freeze: layers, or patterns of layers, that stay as they are.
        head_rate: the multiple of the rate at which the head learns; None is the recipe's.
        profile: how many steps are recorded in ``profile/``, after the first few; 0 is none.
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
    deterministic: bool = False
    compiled: bool = False
    epochs: int | None = None
    steps: int | None = None
    batch_size: int | None = None
    seed: int = 0
    resume: bool | Literal["auto"] = False
    checkpoint_every: int = 500
    workers: int = 0
    on_broken_image: OnBroken = "stop"
    recipe: Recipe | None = None
    rate: float | None = None
    weight_decay: float | None = None
    freeze: tuple[str, ...] = ()
    head_rate: float | None = None
    profile: int = 0


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

    @property
    def title(self) -> str:
        """The network and the number of devices, for people."""
        return f"{self.spec.name} x {self.arrangement.devices}"

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
            begun=self.options.begin is not None,
        )

    def frozen(self) -> set[str]:
        """The layers that never learn; raises `ZooError` where no other has anything to learn."""
        still = {layer for layer, multiple in layer_multiples(self.recipe, self.spec).items() if multiple == 0}
        learned = (name for name, row in parameter_table(self.spec).items() if row.learned)
        if all(name.rpartition(".")[0] in still for name in learned):
            raise ZooError("every layer is frozen: nothing is left to train")
        return still


def prepare(options: TrainOptions, listed: tuple[Images, Images] | None = None) -> Job:
    """Check the options and open the data, unless that was done; raises `ZooError` for whatever does not fit."""
    train, val = listed or open_pair(options.data)
    spec = replace(options.model.with_num_classes(len(train.classes)), classes=())  # the data's; see `save_model`
    if spec.preprocessing is None:
        raise UnpreparedError(spec.name)
    for images in (train, val):
        check_size(images, spec)
    recipe = _recipe(options, spec)
    batch_size, devices = recipe.batch_size, options.devices
    arrangement = arrange(spec, devices, options.parallel)
    dealt = arrangement.replicas * (arrangement.parts if arrangement.source == "batch" else 1)
    if batch_size < devices:
        raise ZooError(f"a batch of {batch_size} images is smaller than {devices} devices; use a larger --batch-size")
    if batch_size % dealt:
        raise ZooError(f"a batch of {batch_size} images cannot be dealt out evenly over {dealt} devices")
    # The weights, their gradients and velocities.
    check_cost(spec, items=batch_size // devices, copies=3)
    if options.out.exists() and not options.out.is_dir():
        raise ZooError(f"{options.out}: is no folder; choose another -o")
    if options.profile:
        check_no_link(options.out / "profile")
    check_new(options)
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


def check_new(options: TrainOptions) -> None:
    """Refuse a folder with a run in it, unless that is to go on; raises `ZooError`."""
    found = checkpoints(options.out)
    if found and not options.resume:
        raise ZooError(f"{options.out}: holds a run already ({found[-1].name}); give --resume, or another -o")


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


def resume(job: Job) -> tuple[Progress, Mapping[str, FloatArray], Mapping[str, FloatArray]]:
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
    begin, heads, shapes = job.options.begin, job.spec.heads, parameter_shapes(job.spec)
    if begin is None:
        return []
    wrong = [n for n, shape in shapes.items() if n not in begin.weights or begin.weights[n].shape != shape]
    own = [name for name in shapes if name.rpartition(".")[0] in heads]
    if left := [name for name in wrong if name not in own]:
        raise WeightsError(job.spec.name, [f"{name} does not fit the weights to begin with" for name in left])
    return own if wrong or begin.new_head else []
