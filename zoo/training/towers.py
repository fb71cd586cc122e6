"""Where every layer of a network lies when it is trained on several devices: the only file that knows.

Placement is derived from the spec, layer by layer (2012 paper, s3.2 and 3.5; Krizhevsky 2014 for `hybrid`):

* a convolution whose groups can be dealt out, an LRN inside towers, and whatever works channel by channel stay local;
* an ungrouped convolution or a dense layer first gathers the other devices' channels, then computes its own share of
  the outputs;
* an LRN across towers receives the ``size // 2`` channels next to its own;
* what cannot be dealt out evenly, or is not told to work channel by channel, is computed by every device.

The plan is data: `zoo.training.placed` runs it, and the single-device model knows nothing of devices.

Three modes: `towers` deals out channels, `data` images, `hybrid` images up to the first dense layer and channels after.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import takewhile
from math import prod
from typing import Literal, TypeAlias, get_args

from zoo import layers
from zoo.axes import axis_index, shape_text
from zoo.batches import kept_from
from zoo.errors import UnsupportedError, ZooError
from zoo.layers import LRN, Conv, Dense, Layer, ModelSpec, Shape, Sigmoid, Softmax
from zoo.parameters import Parameter
from zoo.shapes import activation_shapes, layer_parameters, output_shape, parameter_shapes

Parallel: TypeAlias = Literal["towers", "data", "hybrid"]
# How an activation lies on the devices that share a network: the same on all, by channels (axis 1), or by images.
Placement: TypeAlias = Literal["replicated", "channels", "batch"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrangement:
    """Devices as a grid: `replicas` rows, each a whole network on `parts` devices.

    `source` is how a row receives its images: every device all of them, or each its share.
    """

    replicas: int = 1
    parts: int = 1
    source: Placement = "replicated"

    @property
    def devices(self) -> int:
        """How many devices there are."""
        return self.replicas * self.parts


def arrange(spec: ModelSpec, devices: int, parallel: str | None) -> Arrangement:
    """The grid of a mode; without one, two devices per network where it has towers, and images dealt out otherwise.

    Raises:
        ZooError: a mode that does not exist, or a number of devices that does not suit it.
    """
    grouped = any(isinstance(layer, Conv) and layer.groups % 2 == 0 for layer in spec.layers)
    if parallel is None:
        parallel = "towers" if grouped and devices % 2 == 0 else "data"
    match parallel:
        case "towers":
            if devices < 2 or devices % 2:
                raise ZooError(
                    f"the two towers need 2, 4, 6, ... devices, got {devices}; "
                    "use --devices 2, or --parallel data for any number"
                )
            return Arrangement(replicas=devices // 2, parts=2)
        case "data":
            return Arrangement(replicas=devices)
        case "hybrid":
            if devices < 2:
                raise ZooError(
                    "hybrid training needs at least 2 devices, got 1; use --devices 2, or leave --parallel out"
                )
            return Arrangement(parts=devices, source="batch")
        case _:
            raise ZooError(f"unknown mode {parallel!r}; known: {', '.join(get_args(Parallel))}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One layer on one device.

    Attributes:
        layer: what this device computes; an equal share of the spec's layer where it is dealt out.
        inputs: the activations read.
        have: how each of them lies.
        want: how this layer reads them.
        shared: the layer makes parts from wholes, so that every device knows a share of the inputs' gradient only.
        input_shapes: what this device reads of one image.
        output: how the result lies; `shape` is its whole shape.
        reach: channels to be received from each neighbour (LRN across towers).
        parameters: canonical name -> its row, with its whole shape.
        is_sharded: the parameters are dealt out along axis 0.
    """

    layer: Layer
    inputs: tuple[str, ...]
    have: tuple[Placement, ...]
    want: Placement
    shared: bool
    input_shapes: tuple[Shape, ...]
    output: Placement
    shape: Shape
    reach: int
    parameters: Mapping[str, Parameter]
    is_sharded: bool


@dataclass(frozen=True, slots=True)
class _Share:
    """How a layer is dealt out: the part of it, how it reads its inputs and how its result lies."""

    layer: Layer
    want: Placement
    output: Placement
    reach: int = 0
    is_sharded: bool = False


def plan(spec: ModelSpec, parts: int, source: Placement = "replicated") -> tuple[Step, ...]:
    """The steps of every device of a network dealt out over `parts` devices; alike on all but for the numbers.

    Raises:
        UnsupportedError: a layer that training does not know.
    """
    shapes, wiring = activation_shapes(spec), spec.wiring()
    placements: dict[str, Placement] = {one.name: source if parts > 1 else "replicated" for one in spec.inputs}
    steps = list[Step]()
    for layer in spec.layers:
        inputs = wiring[layer.name]
        have: tuple[Placement, ...] = tuple([placements[name] for name in inputs])
        whole = [shapes[name] for name in inputs]
        share = _share(layer, have, whole, parts)
        steps.append(
            Step(
                layer=share.layer,
                inputs=inputs,
                have=have,
                want=share.want,
                shared=share.want == "replicated" and share.output == "channels",
                input_shapes=tuple(_part(shape, share.want, parts) for shape in whole),
                output=share.output,
                shape=shapes[layer.name],
                reach=share.reach,
                parameters={f"{layer.name}.{row.role}": row for row in layer_parameters(layer, whole)},
                is_sharded=share.is_sharded,
            )
        )
        placements[layer.name] = share.output
    return tuple(steps)


def _part(shape: Shape, placement: Placement, parts: int) -> Shape:
    return (shape[0] // parts, *shape[1:]) if placement == "channels" else shape


def _share(layer: Layer, have: tuple[Placement, ...], shapes: list[Shape], parts: int) -> _Share:
    everyone = _Share(layer, "replicated", "replicated")
    if parts == 1:
        return everyone
    same: Placement = have[0] if len(set(have)) == 1 else "replicated"
    local = _Share(layer, same, same)
    match layer:
        case Dense():
            axis = axis_index(layer.name, layer.axis, shapes[0])
            if axis > 1 or layer.out_features % parts:
                return everyone
            return _Share(
                replace(layer, out_features=layer.out_features // parts), "replicated", "channels", is_sharded=True
            )
        case Softmax() | layers.Concat() | layers.Slice():
            # Along channels (or the batch) it needs all of them.
            apart = axis_index(layer.name, layer.axis, shapes[0]) == {"channels": 1, "batch": 0, "replicated": -1}[same]
            return everyone if apart else local
        case Conv() if same != "batch":
            return _conv_share(layer, parts)
        case _ if same == "batch" and _mixes_the_batch(layer, shapes):
            return everyone
        case _:
            return _channels_share(layer, shapes, parts) if same == "channels" else local


def _mixes_the_batch(layer: Layer, shapes: list[Shape]) -> bool:
    return kept_from(layer, shapes, output_shape(layer, shapes)) != 0


def _channels_share(layer: Layer, shapes: list[Shape], parts: int) -> _Share:
    """Of a layer whose inputs all lie by channels; what is not told to work channel by channel reads the whole."""
    local, everyone = _Share(layer, "channels", "channels"), _Share(layer, "replicated", "replicated")
    sharded = replace(local, is_sharded=True)
    match layer:
        case LRN():
            return _lrn_share(layer, shapes[0], parts)
        case layers.Pool() | layers.Flatten() | layers.Eltwise() | layers.Dropout() | layers.Power() | layers.Unary():
            return local
        case layers.ReLU() | layers.Sigmoid() | layers.TanH():
            return local
        case layers.PReLU(shared=False) | layers.BatchNorm():
            return sharded
        case layers.Scale() | layers.Bias() if len(shapes) == 1 and layer.num_axes:
            return sharded if axis_index(layer.name, layer.axis, shapes[0]) == 1 else everyone
        case _:
            return everyone


def _conv_share(layer: Conv, parts: int) -> _Share:
    mine = replace(layer, out_channels=layer.out_channels // parts, groups=max(1, layer.groups // parts))
    if layer.groups % parts == 0:
        return _Share(mine, "channels", "channels", is_sharded=True)
    if layer.groups == 1 and layer.out_channels % parts == 0:
        return _Share(mine, "replicated", "channels", is_sharded=True)
    return _Share(layer, "replicated", "replicated")


def _lrn_share(layer: LRN, shape: Shape, parts: int) -> _Share:
    if layer.region == "within":
        return _Share(layer, "channels", "channels")
    if layer.towers % parts == 0:
        return _Share(replace(layer, towers=layer.towers // parts), "channels", "channels")
    if layer.towers == 1 and shape[0] // parts >= layer.size // 2:
        return _Share(layer, "channels", "channels", reach=layer.size // 2)
    return _Share(layer, "replicated", "replicated")


def trunk(spec: ModelSpec) -> ModelSpec:
    """The network up to its logits: a closing softmax is computed together with the loss.

    Raises:
        UnsupportedError: there is not exactly one input and one output, or that is no logits.
    """
    last = logits(spec)
    cut = replace(spec, layers=spec.layers[: spec.layers.index(last) + 1])
    if len(cut.inputs) != 1 or len(cut.outputs) != 1:
        raise UnsupportedError(
            f"training needs a network with one input and one output; {spec.name} has {len(cut.inputs)} and "
            f"{len(cut.outputs)} ({', '.join(cut.outputs)}); give it without the others, as deploy prototxts are"
        )
    if isinstance(last, Sigmoid):
        raise UnsupportedError(f"{last.name}: a sigmoid for each class; training is for images of one class each")
    return cut


def logits(spec: ModelSpec) -> Layer:
    """The layer that gives one number a class: the head, or the last such behind it that no softmax precedes.

    Raises:
        UnsupportedError: there is none.
    """
    if spec.head is None:
        raise UnsupportedError(f"{spec.name}: has no convolution or dense layer, so no logits")
    shapes, classes = activation_shapes(spec), parameter_shapes(spec)[f"{spec.head.name}.weight"][0]
    behind = takewhile(lambda layer: not isinstance(layer, Softmax), spec.layers[spec.layers.index(spec.head) :])
    found = [layer for layer in behind if prod(shapes[layer.name]) == classes]
    if not found:
        shape = shape_text(shapes[spec.head.name])
        told = f"{spec.head.name} gives {shape} numbers, expected one for each of {classes} classes"
        raise UnsupportedError(f"{spec.name} is no classifier: {told}")
    return found[-1]


def share(places: range, rank: int, parts: int) -> range:
    """The equal part of a range that belongs to one of several devices."""
    size = len(places) // parts
    return places[rank * size : (rank + 1) * size]


def least_bytes(spec: ModelSpec, arrangement: Arrangement, batch_size: int, *, activation: int = 4) -> int:
    """The least any device must send to others in a step of training over `batch_size` images in all.

    Gradients of parameters are float32, four bytes each; `activation` is the bytes of a number in an activation.

    An activation that its readers need whole: a device sends its part to the P - 1 others, and gets back a gradient for
    it from each (one that depends on nothing learned needs none). Summing over P devices costs 2 (P - 1) / P of the
    numbers: the gradients, and what batch normalisation sums over the images: two a channel, and a gradient for each.
    """
    parts, numbers, gradients = arrangement.parts, 0.0, 0.0
    images = batch_size // arrangement.replicas
    steps, seen = plan(trunk(spec), parts, arrangement.source), set[tuple[str, bool]]()
    whole = activation_shapes(spec)
    given = {source.name for source in spec.inputs}  # by nothing learned
    for step in steps:
        if given.issuperset(step.inputs) and not any(row.learned for row in step.parameters.values()):
            given.add(step.layer.name)
        for name, have in zip(step.inputs, step.have, strict=True):
            size = images * prod(whole[name])
            if have in ("channels", "batch") and step.want == "replicated" and (name, step.shared) not in seen:
                numbers += size * (parts - 1) / parts * (2 if step.shared and name not in given else 1)
                seen.add((name, step.shared))
            elif have == step.want == "replicated" and step.shared and name not in given and (name, True) not in seen:
                numbers += 2 * size * (parts - 1) / parts
                seen.add((name, True))
            elif have == "replicated" and step.want == "channels" and name not in given:
                numbers += size * (parts - 1) / parts
        if step.reach:
            # A device has two neighbours at most; where there are two devices, one.
            edge = images * step.reach * prod(step.shape[1:])
            numbers += 2 * edge * min(2, parts - 1)
        both = 1 if given.issuperset(step.inputs) else 2
        held = sum(prod(row.shape) * (1 if row.learned else both) for row in step.parameters.values())
        summed = arrangement.devices if step.output == "batch" else arrangement.replicas
        gradients += 2 * held / (parts if step.is_sharded else 1) * (summed - 1) / summed
    if steps[-1].output != "replicated":
        numbers += images * prod(steps[-1].shape) * (parts - 1) / parts
    return round(activation * numbers + 4 * gradients)
