"""How a network is trained, as data: types, the rates of a step, the rule of every initial value.

Standard library only.

A recipe stands in its member's own file (``zoo/specs/<member>.py``, RECIPE), with its sources; networks that have none
are trained by `zoo.recipes.DEFAULT`. A rate is a learning rate *inside* the velocity,
``v = m v + rate (g + decay w); w = w - v``, as in the 2012 paper and in Caffe; frameworks that keep it outside must
rescale the velocity where the rate changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias, TypeVar, assert_never

from zoo.errors import ZooError
from zoo.layers import ModelSpec, Shape
from zoo.shapes import parameter_shapes, parameter_table

Unit: TypeAlias = Literal["steps", "epochs", "run"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReduceLROnPlateau:
    """The rate is multiplied by `factor` when the validation error stops falling, `drops` times at most.

    `patience` is the number of epochs without a better validation error that are waited for.
    """

    factor: float = 0.1
    patience: int = 5
    drops: int = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class StepLR:
    """The rate is multiplied by `gamma` every `step_size` epochs, or steps (Caffe's ``lr_policy: "step"``)."""

    step_size: int
    gamma: float = 0.1
    unit: Literal["steps", "epochs"] = "epochs"


@dataclass(frozen=True, kw_only=True, slots=True)
class MultiStepLR:
    """The rate is multiplied by `gamma` at each milestone; with the unit ``run``, they are shares of its length."""

    milestones: tuple[float, ...]
    gamma: float = 0.1
    unit: Unit = "epochs"


@dataclass(frozen=True, kw_only=True, slots=True)
class CosineAnnealingLR:
    """The rate falls along half a cosine, from its start to `eta_min` at the end of the run."""

    eta_min: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class PolyLR:
    """The rate falls as ``(1 - share of the run) ^ power``, Caffe's ``lr_policy: "poly"``; evenly where that is 1."""

    power: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """The rates from the beginning of an epoch (counted from 0) on.

    `layers` holds weight rates of single layers that part from `rate`.
    """

    epoch: int
    rate: float
    bias_rate: float
    layers: Mapping[str, float] = field(default_factory=dict[str, float])
    colour_noise: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Phases:
    """Rates set by hand at given epochs."""

    phases: tuple[Phase, ...]


Schedule: TypeAlias = ReduceLROnPlateau | StepLR | MultiStepLR | CosineAnnealingLR | PolyLR | Phases


@dataclass(frozen=True, kw_only=True, slots=True)
class Constant:
    """Every number the same."""

    value: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Normal:
    """A normal distribution around zero."""

    std: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TruncatedNormal:
    """A normal distribution around zero whose numbers past two deviations are drawn again, as TensorFlow does."""

    std: float


# Its deviation, of that which is not cut.
TRUNCATED = 0.87962566


@dataclass(frozen=True, kw_only=True, slots=True)
class Uniform:
    """Evenly between ``-bound`` and ``bound``."""

    bound: float


@dataclass(frozen=True, kw_only=True, slots=True)
class XavierUniform:
    """Evenly within sqrt(6 / (fan-in + fan-out)) of zero (Glorot and Bengio 2010): slim's default."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FanInUniform:
    """Evenly within 1 / sqrt(fan-in) of zero, biases as well: the default of torch's convolutions and dense layers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeNormal:
    """A normal distribution of deviation sqrt(2 / fan-in) (He et al. 2015, arXiv:1502.01852)."""


# What numbers are drawn from; the other rules come down to one of these once the layer's size is known.
Distribution: TypeAlias = Constant | Normal | TruncatedNormal | Uniform
Rule: TypeAlias = Distribution | XavierUniform | FanInUniform | HeNormal


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """What happens to a training image between its resizing and the network.

    Attributes:
        pad: pixels of zeros put around the square image before it is cropped.
        flip: mirrored left to right in half of all cases.
        colour_noise: standard deviation of the multiples of the principal components of the training set's colours
            that are added to all pixels of an image; 0 is none (2012 paper, s4.1: 0.1).
        noise_divides: while colours vary, what the network reads is divided by 1 + `colour_noise`.
    """

    pad: int = 0
    flip: bool = True
    colour_noise: float = 0.0
    noise_divides: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Everything about training that is not the network and not the data.

    Attributes:
        name: its word in messages and files.
        source: where its numbers are from.
        batch_size: images a step, over all devices.
        epochs: passes through the training set.
        rate: of the weights, at the start.
        bias_factor: biases learn at this multiple of the weights' rate.
        layer_rates: layer, or pattern of layers (``conv*``) -> a multiple of the rate of its parameters, on top of all
            else, as Caffe's ``lr_mult``; 0 freezes it. ``head`` is the classifier, whatever its name. The last one that
            matches counts.
        momentum: the share of the velocity kept.
        weight_decay: pulls weights towards zero.
        bias_decay: the multiple of it that biases have, as Caffe's ``decay_mult``.
        statistics_rate: the share of a batch's statistics in the moving ones of batch normalisation: torch's momentum,
            1 - Caffe's ``moving_average_fraction``. Those of a network without weights to begin with are, as in Caffe,
            an average of what was seen so far.
        label_smoothing: the share of the label's probability that is spread over all classes.
        warmup_epochs: over which the rate rises evenly, from `warmup_start` of itself.
        warmup_start: where it rises from.
        schedule: how the rate falls.
        initial: parameter, or pattern of parameters (``*.weight``, ``head.*``) -> the rule of its initial values; the
            last one that matches counts. Only convolutions and dense layers are drawn.
        unit_inputs: a layer that reads the network's input starts, and learns, as if its numbers had a deviation of
            one: its weights are divided by their deviation, their rate by its square.
        augmentation: of the training images.
    """

    name: str
    source: str
    batch_size: int = 128
    epochs: int = 90
    rate: float = 0.01
    bias_factor: float = 1.0
    layer_rates: Mapping[str, float] = field(default_factory=dict[str, float])
    momentum: float = 0.9
    weight_decay: float = 5e-4
    bias_decay: float = 0.0
    statistics_rate: float = 0.1
    label_smoothing: float = 0.0
    warmup_epochs: int = 0
    warmup_start: float = 0.01
    schedule: Schedule
    initial: Mapping[str, Rule]
    unit_inputs: bool = False
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """What holds for one step.

    Attributes:
        weight: the rate of weights.
        bias: of biases.
        layers: of single layers' weights.
        multiples: what the rates of a layer's parameters are multiplied by, where that is not 1.
        statistics: the share of the batch's statistics in the moving ones.
        colour_noise: whether colours vary.
    """

    weight: float
    bias: float
    layers: Mapping[str, float] = field(default_factory=dict[str, float])
    multiples: Mapping[str, float] = field(default_factory=dict[str, float])
    statistics: float = 0.0
    colour_noise: bool = True

    def of(self, parameter: str) -> float:
        """The rate of a parameter by its canonical name."""
        layer, _, kind = parameter.rpartition(".")
        rate = self.bias if kind == "bias" else self.layers.get(layer, self.weight)
        return rate * self.multiples.get(layer, 1.0)


def rates_at(
    recipe: Recipe,
    spec: ModelSpec,
    *,
    step: int,
    steps: int,
    epoch: int,
    drops: int,
    steps_an_epoch: float = 1.0,
    begun: bool = False,
) -> Rates:
    """The rates of a step.

    Args:
        recipe: the recipe.
        spec: the network.
        step: the step, from 0.
        steps: the length of the run.
        epoch: the epoch the step is in, from 0.
        drops: how often a `ReduceLROnPlateau` has been reached so far.
        steps_an_epoch: how many steps an epoch has (for the warm-up, which rises step by step).
        begun: there were weights to begin with, so that step 0 knows statistics.
    """
    multiples, statistics = layer_multiples(recipe, spec), recipe.statistics_rate
    if not begun and statistics:
        statistics /= 1 - (1 - statistics) ** (step + 1)  # batch_norm_layer.cpp's factor, blob 2
    if isinstance(recipe.schedule, Phases):
        phases = recipe.schedule.phases
        now = max((phase for phase in phases if phase.epoch <= epoch), key=lambda phase: phase.epoch)
        return Rates(
            weight=now.rate,
            bias=now.bias_rate,
            layers=now.layers,
            multiples=multiples,
            statistics=statistics,
            colour_noise=now.colour_noise,
        )
    rate = _falling(recipe.schedule, recipe.rate, step=step, steps=steps, epoch=epoch, drops=drops)
    warm = recipe.warmup_epochs * steps_an_epoch
    if step < warm:
        rate *= recipe.warmup_start + (1 - recipe.warmup_start) * step / warm
    layers = {name: rate / deviation**2 for name, deviation in _input_deviations(recipe, spec).items()}
    return Rates(weight=rate, bias=rate * recipe.bias_factor, layers=layers, multiples=multiples, statistics=statistics)


def _falling(
    schedule: ReduceLROnPlateau | StepLR | MultiStepLR | CosineAnnealingLR | PolyLR,
    rate: float,
    *,
    step: int,
    steps: int,
    epoch: int,
    drops: int,
) -> float:
    match schedule:
        case ReduceLROnPlateau(factor=factor):
            return rate * factor**drops
        case StepLR(step_size=size, gamma=gamma, unit=unit):
            return rate * gamma ** ((step if unit == "steps" else epoch) // size)
        case MultiStepLR(milestones=milestones, gamma=gamma, unit=unit):
            done = {"steps": step, "epochs": epoch, "run": step / steps}[unit]
            return rate * gamma ** sum(done >= milestone for milestone in milestones)
        case CosineAnnealingLR(eta_min=least):
            return least + (rate - least) * (1 + math.cos(math.pi * step / steps)) / 2
        case PolyLR(power=power):
            return rate * (1 - step / steps) ** power
        case _:
            assert_never(schedule)


def layer_multiples(recipe: Recipe, spec: ModelSpec) -> dict[str, float]:
    """Layer -> the multiple of its rates, where that is not 1."""
    matching = {layer.name: _matching(recipe.layer_rates, spec, layer.name) for layer in spec.layers}
    return {name: found[-1] for name, found in matching.items() if found and found[-1] != 1}


_Value = TypeVar("_Value")


def _matching(patterns: Mapping[str, _Value], spec: ModelSpec, layer: str, kind: str = "") -> list[_Value]:
    """What is said of a layer (or, with a kind, of its parameter), in the order in which it is said."""
    names = [layer, "head"] if layer in spec.heads else [layer]
    full = [f"{name}.{kind}" if kind else name for name in names]
    return [value for pattern, value in patterns.items() if any(fnmatchcase(name, pattern) for name in full)]


def decay_of(recipe: Recipe, parameter: str) -> float:
    """The weight decay of a parameter by its canonical name."""
    return recipe.weight_decay * (1.0 if parameter.endswith(".weight") else recipe.bias_decay)


def check_patterns(recipe: Recipe, spec: ModelSpec) -> None:
    """Refuse a recipe that speaks of what the network has not, or in two ways of one tensor; raises `ZooError`."""
    parameters = [name.rpartition(".")[::2] for name in parameter_shapes(spec)]
    layers = dict.fromkeys(layer for layer, _ in parameters)
    for pattern in recipe.layer_rates:
        if not any(_matching({pattern: 0}, spec, layer) for layer in layers):
            raise _fits_nothing(recipe, "layer_rates", pattern, spec, layers)
    by_hand = {f"the phase from epoch {phase.epoch}": phase.layers for phase in _phases(recipe)}
    for what, rates in by_hand.items():
        for layer in rates:
            if layer not in layers:
                raise _fits_nothing(recipe, what, layer, spec, layers)
    for what, rates in {"layer_rates": layer_multiples(recipe, spec), **by_hand}.items():
        for tie in spec.ties:  # BVLC caffe, net.cpp, AppendParam: "has mismatched lr_mult"
            if len({rates.get(name.rpartition(".")[0]) for name in tie.parameters}) > 1:
                told = f"{what} has more than one rate for {', '.join(tie.parameters)}, which are one tensor"
                raise ZooError(f"recipe {recipe.name!r}: {told}; give these layers the same")
    for pattern in recipe.initial:
        if not any(_matching({pattern: 0}, spec, layer, kind) for layer, kind in parameters):
            raise _fits_nothing(recipe, "initial", pattern, spec, [".".join(name) for name in parameters])


def _phases(recipe: Recipe) -> tuple[Phase, ...]:
    return recipe.schedule.phases if isinstance(recipe.schedule, Phases) else ()


def _fits_nothing(recipe: Recipe, what: str, pattern: str, spec: ModelSpec, known: Iterable[str]) -> ZooError:
    names = ", ".join(list(known)[:20])
    return ZooError(f"recipe {recipe.name!r}: {what} {pattern!r} fits nothing in {spec.name}; it has {names}")


def initial_values(recipe: Recipe, spec: ModelSpec) -> dict[str, tuple[Shape, Distribution]]:
    """Canonical parameter -> its shape, and what its first values are drawn from, in layer order.

    Multipliers and variances start at one, slopes at a quarter, shifts and means at zero: kernels alone are drawn.
    """
    readers, table = _input_deviations(recipe, spec), parameter_table(spec)
    values = dict[str, tuple[Shape, Distribution]]()
    for name, row in table.items():
        layer = name.rpartition(".")[0]
        if isinstance(row.start, str):
            weight = table[f"{layer}.weight"].shape
            distribution = _distribution(rule_of(recipe, spec, name), weight, readers.get(layer, 1.0))
        else:
            distribution = Constant(value=row.start)
        values[name] = (row.shape, distribution)
    return values


def rule_of(recipe: Recipe, spec: ModelSpec, parameter: str) -> Rule:
    """The rule of a convolution's or dense layer's parameter; raises `ZooError` where the recipe has none."""
    layer, _, kind = parameter.rpartition(".")
    found = _matching(recipe.initial, spec, layer, kind)
    if not found:
        raise ZooError(f"recipe {recipe.name!r}: initial says nothing of {parameter}; give it a rule")
    return found[-1]


def _distribution(rule: Rule, weight: Shape, input_deviation: float) -> Distribution:
    """A rule for a parameter of the layer whose weight (O, I, ...) has this shape."""
    fan_in, fan_out = math.prod(weight[1:]), math.prod((weight[0], *weight[2:]))
    match rule:
        case Constant() | Normal() | TruncatedNormal() | Uniform():
            return rule
        case XavierUniform():
            return Uniform(bound=(6 / (fan_in + fan_out)) ** 0.5)
        case FanInUniform():
            return Uniform(bound=fan_in**-0.5)
        case HeNormal():
            return Normal(std=(2 / fan_in) ** 0.5 / input_deviation)
        case _:
            assert_never(rule)


# Of pixels of natural images, 0..255, around their mean.
_PIXEL_DEVIATION = 64.0


def _input_deviations(recipe: Recipe, spec: ModelSpec) -> dict[str, float]:
    """Layers that read the network's input -> how far its numbers lie from zero; none without `unit_inputs`."""
    if not recipe.unit_inputs or spec.preprocessing is None:
        return {}
    std, sources = spec.preprocessing.std, {source.name for source in spec.inputs}
    deviation = _PIXEL_DEVIATION * spec.preprocessing.scale / (sum(std) / len(std))
    return {name: deviation for name, read in spec.wiring().items() if sources & set(read)}
