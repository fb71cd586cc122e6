"""`ModelSpec` and its recipe -> train_val.prototxt and solver.prototxt, for ``caffe train``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from math import ceil
from typing import assert_never

from zoo import spec_json
from zoo.errors import UnsupportedError, one_line
from zoo.frameworks.caffe.lower import for_caffe
from zoo.frameworks.caffe.vocabulary import row_of
from zoo.frameworks.caffe.writer import SPEC_COMMENT, NetLayer, net_layers
from zoo.layers import BatchNorm, Conv, Dense, ModelSpec, Shape, Softmax
from zoo.recipe import (
    TRUNCATED,
    Constant,
    CosineAnnealingLR,
    Distribution,
    MultiStepLR,
    Normal,
    Phases,
    PolyLR,
    Recipe,
    ReduceLROnPlateau,
    StepLR,
    TruncatedNormal,
    Uniform,
    decay_of,
    initial_values,
    rates_at,
)
from zoo.registry import recipe as recipe_of
from zoo.shapes import activation_shapes
from zoo.wire.prototxt import Message, Word, dumps

_IMAGENET = (1_281_167, 50_000)  # training and validation images of ILSVRC-2012
_SMALL_SET = (50_000, 10_000)  # those of CIFAR-10
_TEST_BATCH = 50
# Where the 2012 run came to its plateaus, of 91 epochs (the 2012 code, layer-params-145.cfg and its log).
_PLATEAUS = (25 / 91, 51 / 91, 79 / 91)


def train_val_text(spec: ModelSpec) -> str:
    """The network with its data, loss and accuracy layers, initial values and rates.

    Raises:
        UnsupportedError: a layer Caffe has no equal for, or a network with nothing to train.
    """
    recipe, (trained, scores) = recipe_of(spec), _without_softmax(for_caffe(spec).spec)
    initial = initial_values(recipe, spec)
    if not initial:
        raise UnsupportedError(f"{spec.name}: there is nothing to train")
    rates = rates_at(recipe, spec, step=0, steps=1, epoch=0, drops=0)
    multipliers = {name: rates.of(name) / recipe.rate for name in initial}
    decays = {name: decay_of(recipe, name) / recipe.weight_decay if recipe.weight_decay else 0 for name in initial}
    layers = net_layers(trained, in_place=True)
    blob = {item.layer.name: str(item.message.fields["top"][0]) for item in layers if item.layer}.get(scores, scores)
    net = Message().add("name", spec.name)
    for phase in ("TRAIN", "TEST"):
        net.add("layer", _data_layer(spec, recipe, phase))
    net.add("layer", *(_trainable(item, initial, multipliers, decays, 1 - recipe.statistics_rate) for item in layers))
    net.add("layer", _accuracy("accuracy", blob, 1))
    if activation_shapes(trained)[scores][0] > 5:
        net.add("layer", _accuracy("accuracy_top5", blob, 5))
    loss = Message().add("name", "loss").add("type", "SoftmaxWithLoss").add("bottom", blob, "label").add("top", "loss")
    return f"{_notes(spec, recipe)}{dumps(net.add('layer', loss))}{SPEC_COMMENT}{spec_json.dumps(spec)}\n"


def _without_softmax(spec: ModelSpec) -> tuple[ModelSpec, str]:
    """The network without its last Softmax, which the loss layer brings along, and the name of its scores."""
    wiring, output = spec.wiring(), spec.outputs[-1]
    if not isinstance(spec.layer(output), Softmax):
        return spec, output
    kept = tuple(replace(layer, inputs=wiring[layer.name]) for layer in spec.layers if layer.name != output)
    return replace(spec, layers=kept), wiring[output][0]


def _data_layer(spec: ModelSpec, recipe: Recipe, phase: str) -> Message:
    """Where the images come from: an LMDB of images where Caffe can crop and normalise them, HDF5 otherwise."""
    batch = recipe.batch_size if phase == "TRAIN" else _TEST_BATCH
    part = "train" if phase == "TRAIN" else "val"
    tops = [source.name for source in spec.inputs]
    shape = spec.inputs[0].shape
    rule = Message().add("phase", Word(phase))
    if len(tops) > 1 or len(shape) != 3 or shape[0] != 3 or shape[1] != shape[2]:
        block = Message().add("source", f"EDIT/ME/{part}_h5_list.txt").add("batch_size", batch)
        layer = Message().add("name", "data").add("type", "HDF5Data").add("top", *tops, "label")
        return layer.add("include", rule).add("hdf5_data_param", block)
    transform = Message()
    if phase == "TRAIN" and recipe.augmentation.flip:
        transform.add("mirror", Word("true"))
    transform.add("crop_size", shape[1])
    p = spec.preprocessing
    if p:
        # Caffe: (pixel - mean_value) * scale; ours: (pixel * scale - mean) / std.
        transform.add("mean_value", *(mean / p.scale for mean in p.mean))
        scale = p.scale / (sum(p.std) / len(p.std))
        if scale != 1:
            transform.add("scale", scale)
    block = Message().add("source", f"EDIT/ME/{part}_lmdb").add("batch_size", batch).add("backend", Word("LMDB"))
    layer = Message().add("name", tops[0]).add("type", "Data").add("top", tops[0], "label").add("include", rule)
    return layer.add("transform_param", transform).add("data_param", block)


def _trainable(
    item: NetLayer,
    initial: Mapping[str, tuple[Shape, Distribution]],
    multipliers: Mapping[str, float],
    decays: Mapping[str, float],
    kept: float,
) -> Message:
    """A layer with its rates and initial values; `kept` is the share of moving statistics that a step keeps."""
    layer, message = item.layer, item.message
    if layer is None:
        return message
    if isinstance(layer, BatchNorm):
        # Caffe measures the statistics by itself, in training only; where they are frozen, it takes those it has.
        block = message.message("batch_norm_param")
        if not layer.batch_stats and multipliers[f"{layer.name}.mean"]:
            del block.fields["use_global_stats"]
            block.add("moving_average_fraction", float(f"{kept:.6g}"))
        for param in _params(message, 3):
            param.fields["lr_mult"], param.fields["decay_mult"] = [0], [0]
    if not isinstance(layer, Conv | Dense):
        return message
    block = message.message(row_of(layer).block)
    params = _params(message, 2 if layer.bias else 1)
    for param, kind in zip(params, ("weight", "bias"), strict=False):
        name = f"{layer.name}.{kind}"
        param.add("lr_mult", multipliers[name]).add("decay_mult", decays[name])
        block.add(f"{kind}_filler", _filler(initial[name][1]))
    return _block_last(message)


def _params(message: Message, count: int) -> list[Message]:
    """The ``param`` blocks of a layer, one a blob; made where it shares none."""
    return message.add("param", *(Message() for _ in range(count - len(message.messages("param"))))).messages("param")


def _filler(distribution: Distribution) -> Message:
    """What Caffe draws initial values from."""
    match distribution:
        case Constant(value=value):
            return Message().add("type", "constant").add("value", value)
        case Normal(std=std):
            return Message().add("type", "gaussian").add("std", float(f"{std:.6g}"))
        case TruncatedNormal(std=std):  # Caffe has none that is cut; this one is as wide
            return Message().add("type", "gaussian").add("std", float(f"{TRUNCATED * std:.6g}"))
        case Uniform(bound=bound):
            bound = float(f"{bound:.6g}")
            return Message().add("type", "uniform").add("min", -bound).add("max", bound)
        case _:
            assert_never(distribution)


def _block_last(message: Message) -> Message:
    """The parameter block after the rates, where Caffe's users look for it."""
    for name in ("convolution_param", "inner_product_param"):
        if name in message:
            message.fields[name] = message.fields.pop(name)
    return message


def _accuracy(name: str, scores: str, top_k: int) -> Message:
    layer = Message().add("name", name).add("type", "Accuracy").add("bottom", scores, "label").add("top", name)
    layer.add("include", Message().add("phase", Word("TEST")))
    return layer if top_k == 1 else layer.add("accuracy_param", Message().add("top_k", top_k))


def _notes(spec: ModelSpec, recipe: Recipe) -> str:
    """What the file cannot say to Caffe, said to its reader."""
    lines = [f"{spec.name}: recipe {recipe.name!r} ({recipe.source}).", "Put your own data where it says EDIT/ME."]
    p = spec.preprocessing
    if p:
        lines.append(f"The images' channels must be stored as {p.channels}, shorter side {p.resize} pixels.")
        if len(set(p.std)) > 1:
            lines.append(f"Caffe has one scale: divide the channels by {p.std} (times their mean) beforehand.")
    if recipe.augmentation.pad:
        lines.append(f"Store the images with {recipe.augmentation.pad} pixels of zeros around them.")
    if any(isinstance(rule, TruncatedNormal) for rule in recipe.initial.values()):
        lines.append("Caffe has no truncated normal filler: gaussian ones of the same deviation stand for it.")
    if recipe.augmentation.colour_noise:
        lines.append("The colour noise of the recipe has no Caffe layer; without it, expect about 1 % less top-1.")
    return "".join(f"# {one_line(line)}\n" for line in lines)


def solver_text(spec: ModelSpec) -> str:
    """The solver that trains train_val.prototxt by the recipe of `spec`."""
    recipe = recipe_of(spec)
    small = min(spec.inputs[0].shape[-2:], default=0) < 100
    images, test_images = _SMALL_SET if small else _IMAGENET
    epoch = images // recipe.batch_size
    length = recipe.epochs * epoch
    solver = Message().add("net", "train_val.prototxt")
    solver.add("test_iter", test_images // _TEST_BATCH).add("test_interval", epoch)
    solver.add("base_lr", recipe.rate)
    notes = [f"Recipe {recipe.name!r} ({recipe.source}); counted for {images:,} training images."]
    notes.append("Run in this folder: caffe train -solver solver.prototxt. A Caffe without GPU needs solver_mode: CPU.")
    if recipe.warmup_epochs or recipe.label_smoothing:
        raise UnsupportedError(f"recipe {recipe.name!r}: Caffe has neither a warm-up nor label smoothing")
    notes += _add_schedule(solver, recipe, epoch, length)
    solver.add("momentum", recipe.momentum).add("weight_decay", recipe.weight_decay).add("max_iter", length)
    solver.add("display", 20).add("snapshot", epoch).add("snapshot_prefix", spec.name).add("solver_mode", Word("GPU"))
    return "".join(f"# {one_line(note)}\n" for note in notes) + dumps(solver)


def _add_schedule(solver: Message, recipe: Recipe, epoch: int, length: int) -> list[str]:
    """The fall of the rate in the words Caffe has for it; returns what it has no words for."""
    schedule = recipe.schedule
    match schedule:
        case ReduceLROnPlateau():
            steps = [round(share * length) for share in _PLATEAUS[: schedule.drops]]
            solver.add("lr_policy", "multistep").add("gamma", schedule.factor).add("stepvalue", *steps)
            return [
                "The rate falls on plateaus of the validation error; Caffe cannot wait for one, so it falls at the"
                " share of the run where the 2012 run came to them."
            ]
        case StepLR():
            size = schedule.step_size * (epoch if schedule.unit == "epochs" else 1)
            solver.add("lr_policy", "step").add("gamma", schedule.gamma).add("stepsize", size)
            return []
        case MultiStepLR():
            unit = {"steps": 1, "epochs": epoch, "run": length}[schedule.unit]
            steps = [ceil(milestone * unit) for milestone in schedule.milestones]  # the first step past it
            solver.add("lr_policy", "multistep").add("gamma", schedule.gamma).add("stepvalue", *steps)
            return []
        case CosineAnnealingLR():
            raise UnsupportedError(f"recipe {recipe.name!r}: Caffe has no cosine schedule; use MultiStepLR")
        case PolyLR():
            solver.add("lr_policy", "poly").add("power", schedule.power)
            return []
        case Phases():
            falls = [now.epoch * epoch for before, now in pairwise(schedule.phases) if now.rate < before.rate]
            solver.add("lr_policy", "multistep").add("gamma", 0.1).add("stepvalue", *falls)
            return [
                f"From epoch {phase.epoch}: biases stay at a rate of {phase.bias_rate:g}"
                + "".join(f", {name} has {rate:g}" for name, rate in phase.layers.items())
                + " (edit lr_mult and resume from the snapshot)."
                for phase in schedule.phases[1:]
            ]
        case _:
            assert_never(schedule)
