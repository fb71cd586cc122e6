"""How each family member is trained, as data with references; standard library only.

Sources, cited as (name):

* (paper) Krizhevsky, Sutskever, Hinton, *ImageNet Classification with Deep Convolutional Neural Networks*, 2012, s4-5.
* (code) github.com/computerhistory/AlexNet-Source-Code, ``layers/layer-params-145.cfg`` and ``layers-145.cfg``.
* (caffe) github.com/BVLC/caffe, ``models/bvlc_alexnet`` and ``models/bvlc_reference_caffenet``: solver and train_val.
* (torchvision) github.com/pytorch/vision, ``references/classification``: AlexNet with a rate of 0.01.

A rate is a learning rate *inside* the velocity, ``v = m v + rate (g + decay w); w = w - v``, as in the paper and in
Caffe; frameworks that keep it outside must rescale the velocity where the rate changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import TypeAlias, assert_never

from zoo.layers import ModelSpec, Shape
from zoo.shapes import parameter_table


@dataclass(frozen=True, kw_only=True, slots=True)
class Plateau:
    """The rate is multiplied by `factor` when the validation error stops falling, `drops` times at most.

    `patience` is the number of epochs without a better validation error that are waited for.
    """

    factor: float = 0.1
    patience: int = 5
    drops: int = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Every:
    """The rate is multiplied by `factor` every so many steps (Caffe's ``lr_policy: "step"``) or epochs."""

    factor: float = 0.1
    steps: int | None = None
    epochs: int | None = None


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Shares:
    """The rate is multiplied by `factor` when each of these shares of the run is done, however long the run is."""

    at: tuple[float, ...]
    factor: float = 0.1


Schedule: TypeAlias = Plateau | Every | Phases | Shares


@dataclass(frozen=True, kw_only=True, slots=True)
class Initialisation:
    """Weights from a normal distribution, constant biases.

    Attributes:
        std: standard deviation of the weights; None is He's sqrt(2 / fan-in). A layer that reads the network's input
            then starts, and learns, as if that had a deviation of one (see `rates_at`).
        stds: deviations of single layers that part from it.
        bias: the constant of the biases.
        biases: constants of single layers that part from it.
    """

    std: float | None = 0.01
    stds: Mapping[str, float] = field(default_factory=dict[str, float])
    bias: float = 0.0
    biases: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """What happens to a training image between its resizing and the network.

    Attributes:
        pad: pixels of zeros put around the square image before it is cropped.
        flip: mirrored left to right in half of all cases.
        colour_noise: standard deviation of the multiples of the principal components of the training set's colours
            that are added to all pixels of an image; 0 is none (paper, s4.1: 0.1).
    """

    pad: int = 0
    flip: bool = True
    colour_noise: float = 0.1


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
        momentum: the share of the velocity kept.
        weight_decay: pulls weights towards zero; biases are left alone.
        schedule: how the rate falls.
    """

    name: str
    source: str
    batch_size: int = 128
    epochs: int = 90
    rate: float = 0.01
    bias_factor: float = 2.0
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Schedule
    initialisation: Initialisation
    augmentation: Augmentation = field(default_factory=Augmentation)


# Layers that see many positive inputs from the start, so that their ReLUs learn at once (paper, s5).
_POSITIVE = ("conv2", "conv4", "conv5", "fc6", "fc7")

PAPER = Recipe(
    name="paper",
    source="the 2012 paper, sections 4 and 5",
    # "divide the learning rate by 10 when the validation error rate stopped improving ... reduced three times"; how
    # long was waited is not written down.
    schedule=Plateau(factor=0.1, patience=5, drops=3),
    initialisation=Initialisation(std=0.01, biases=dict.fromkeys(_POSITIVE, 1.0)),
)


def _code_phase(epoch: int, rate: float, conv1: float | None = None) -> Phase:
    # The biases keep their rate to the end; the colour noise is switched off together with conv1's own rate.
    layers = {} if conv1 is None else {"conv1": conv1}
    return Phase(epoch=epoch, rate=rate, bias_rate=0.02, layers=layers, colour_noise=conv1 is None)


CODE_2012 = Recipe(
    name="code_2012",
    source="the 2012 source code, layer-params-145.cfg and its training log",
    epochs=91,
    schedule=Phases(
        phases=(
            _code_phase(0, 1e-2),
            _code_phase(25, 1e-3),
            _code_phase(51, 1e-4),
            _code_phase(67, 1e-4, conv1=1e-5),
            _code_phase(72, 1e-4, conv1=0.0),
            _code_phase(79, 1e-5, conv1=0.0),
        )
    ),
    initialisation=Initialisation(
        std=0.01, stds=dict.fromkeys(("conv3", "conv4", "conv5"), 0.03), biases=dict.fromkeys(_POSITIVE, 1.0)
    ),
)


def _caffe(name: str, bias: float) -> Recipe:
    return Recipe(
        name=name,
        source=f"BVLC Caffe, models/{name}",
        batch_size=256,
        epochs=90,  # max_iter 450,000 of 256 images
        schedule=Every(steps=100_000),
        initialisation=Initialisation(
            std=0.01, stds={"fc6": 0.005, "fc7": 0.005}, biases=dict.fromkeys(_POSITIVE, bias)
        ),
        augmentation=Augmentation(colour_noise=0.0),  # "not training with the relighting data-augmentation"
    )


BVLC = _caffe("bvlc_alexnet", 0.1)
CAFFENET = _caffe("bvlc_reference_caffenet", 1.0)

TORCHVISION = Recipe(
    name="torchvision",
    source="pytorch/vision, references/classification (the initialisation is He's, our choice)",
    batch_size=256,
    weight_decay=1e-4,
    bias_factor=1.0,
    schedule=Every(epochs=30),
    initialisation=Initialisation(std=None),
    augmentation=Augmentation(colour_noise=0.0),
)

# Networks for small images have few thousand images to learn from: weights of .01 and biases of 1 would keep them at
# chance for longer than the whole run lasts, so they start from He's deviation and zero. Only the classifier starts
# small: all classes are then equally likely at first, and the first steps no leap.
_FROM_SCRATCH = Initialisation(std=None, stds={"fc8": 0.01})
SMALL = Recipe(
    name="small",
    source="this project: for images of less than 100 pixels",
    batch_size=64,
    epochs=12,
    rate=0.01,
    schedule=Shares(at=(0.6, 0.85)),
    initialisation=_FROM_SCRATCH,
    augmentation=Augmentation(colour_noise=0.0),
)
# 32 x 32 images leave no room for crops: four pixels around them do (He et al. 2015, section 4.2).
CIFAR10 = Recipe(
    name="cifar10",
    source="this project, with the augmentation of He et al. 2015, section 4.2",
    batch_size=128,
    epochs=60,
    rate=0.01,
    schedule=Shares(at=(0.5, 0.75)),
    initialisation=_FROM_SCRATCH,
    augmentation=Augmentation(pad=4, colour_noise=0.0),
)

_BY_MODEL = {
    "alexnet": PAPER,
    "alexnet_2012_code": CODE_2012,
    "bvlc_alexnet": BVLC,
    "caffenet": CAFFENET,
    "alexnet_v2": TORCHVISION,
    "alexnet_owt": TORCHVISION,
    "alexnet_cifar10": CIFAR10,
}


def recipe_for(spec: ModelSpec) -> Recipe:
    """The recipe of a family member; other networks get `SMALL` or `PAPER`, by the size of their images."""
    small = min(spec.inputs[0].shape[-2:]) < 100
    return _BY_MODEL.get(spec.name, SMALL if small else PAPER)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """What holds for one step: the rate of weights, of biases, of single layers' weights, and whether colours vary."""

    weight: float
    bias: float
    layers: Mapping[str, float] = field(default_factory=dict[str, float])
    colour_noise: bool = True

    def of(self, parameter: str) -> float:
        """The rate of a parameter by its canonical name."""
        layer, _, kind = parameter.rpartition(".")
        return self.bias if kind == "bias" else self.layers.get(layer, self.weight)


def rates_at(recipe: Recipe, spec: ModelSpec, *, step: int, steps: int, epoch: int, drops: int) -> Rates:
    """The rates of a step.

    Args:
        recipe: the recipe.
        spec: the network. Where weights are He's, a layer that reads its input has the rate divided by the square of
            the input's deviation: weights that are smaller by a factor have gradients larger by it.
        step: the step, from 0.
        steps: the length of the run.
        epoch: the epoch the step is in, from 0.
        drops: how often a `Plateau` has been reached so far.
    """
    match recipe.schedule:
        case Plateau(factor=factor):
            scale = factor**drops
        case Every(factor=factor, steps=None, epochs=every):
            scale = factor ** (epoch // (every or 1))
        case Every(factor=factor, steps=every):
            scale = factor ** (step // (every or 1))
        case Shares(at=at, factor=factor):
            scale = factor ** sum(step >= share * steps for share in at)
        case Phases(phases=phases):
            now = max((phase for phase in phases if phase.epoch <= epoch), key=lambda phase: phase.epoch)
            return Rates(weight=now.rate, bias=now.bias_rate, layers=now.layers, colour_noise=now.colour_noise)
        case _:
            assert_never(recipe.schedule)
    rate = recipe.rate * scale
    layers = {name: rate / deviation**2 for name, deviation in _input_deviations(recipe, spec).items()}
    return Rates(weight=rate, bias=rate * recipe.bias_factor, layers=layers)


def decay_of(recipe: Recipe, parameter: str) -> float:
    """The weight decay of a parameter by its canonical name."""
    return recipe.weight_decay if parameter.endswith(".weight") else 0.0


def initial_values(recipe: Recipe, spec: ModelSpec) -> dict[str, tuple[Shape, float, float]]:
    """Canonical parameter -> (shape, constant, standard deviation of the normal noise on it), in layer order.

    Multipliers and variances start at one, slopes at a quarter, shifts and means at zero: kernels alone are drawn.
    """
    init, readers = recipe.initialisation, _input_deviations(recipe, spec)
    values = dict[str, tuple[Shape, float, float]]()
    for name, row in parameter_table(spec).items():
        layer = name.rpartition(".")[0]
        if row.start == "kernel":
            he = (2.0 / prod(row.shape[1:])) ** 0.5 / readers.get(layer, 1.0)
            default = he if init.std is None else init.std
            values[name] = (row.shape, 0.0, init.stds.get(layer, default))
        elif row.start == "offset":
            values[name] = (row.shape, init.biases.get(layer, init.bias), 0.0)
        else:
            values[name] = (row.shape, row.start, 0.0)
    return values


# Of pixels of natural images, 0..255, around their mean.
_PIXEL_DEVIATION = 64.0


def _input_deviations(recipe: Recipe, spec: ModelSpec) -> dict[str, float]:
    """Layers that read the network's input -> how far its numbers lie from zero; none where weights are not He's."""
    if recipe.initialisation.std is not None or spec.preprocessing is None:
        return {}
    std, sources = spec.preprocessing.std, {source.name for source in spec.inputs}
    deviation = _PIXEL_DEVIATION * spec.preprocessing.scale / (sum(std) / len(std))
    return {name: deviation for name, read in spec.wiring().items() if sources & set(read)}
