"""`ModelSpec`, a network as inert data, with its inputs and how its images are prepared."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, Literal, TypeAlias

from zoo.errors import UnknownNameError
from zoo.layers.base import Shape
from zoo.layers.detecting import Detecting
from zoo.layers.normalising import Normalising, Softmax
from zoo.layers.pointwise import Dropout, Pointwise, ReLU
from zoo.layers.pooling import Pooling
from zoo.layers.shaping import Constant, Flatten, Shaping
from zoo.layers.weighted import Conv, Dense, Weighted

__all__ = ["Input", "Layer", "ModelSpec", "Names", "Preprocessing", "Tie", "chained", "stored_size"]

# The closed union: every consumer goes through the families, and a new kind is a type error in each of them.
Layer: TypeAlias = Weighted | Pooling | Normalising | Pointwise | Shaping | Detecting


# ImageNet's pictures were stored with 256 pixels a side, whatever was cropped from them.
_STORED = 256
_LONGEST = 100
# Names that no file may have: Windows' devices, and packages in whose place a source of that name would be imported.
_TAKEN = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?|(torch|tensorflow|tf_slim|keras|numpy|math)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Input:
    """A named input of the network; ``shape`` without the batch axis."""

    name: str = "data"
    shape: Shape


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocessing:
    """How an RGB image becomes the network's input: resize the short side, centre crop, order, scale, (x - mean) / std.

    ``scale`` multiplies the 0..255 pixels first (1 keeps them, 1/255 gives 0..1); ``mean`` and ``std`` are in that
    range and in ``channels`` order. ``crop`` says which way the place of the crop is rounded where what is cut off is
    an odd number of pixels: down, as Caffe and TF-slim do, or half to even, as torchvision's CenterCrop does.
    """

    channels: Literal["RGB", "BGR"] = "RGB"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    resize: int = 256
    crop: Literal["floor", "even"] = "floor"


def stored_size(shape: Shape) -> int:
    """The shorter side of the images that crops of a size are usually taken from."""
    side = max(shape[1:])
    return _STORED if 200 <= side <= _STORED else side


def as_file_name(name: str) -> str:
    """A name as a file may have it, without its suffix: no longer than any disk takes, and none that means more."""
    return f"_{name}" if _TAKEN.fullmatch(name) else name[:_LONGEST]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tie:
    """Parameters of one shape that are one tensor, and stay so in training: Caffe's ``param { name }``."""

    name: str
    parameters: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """A network: a DAG of layers, listed in the order they run; weights hold a copy of every tied parameter.

    ``classes`` names the outputs of its head, in their order; empty where nobody said.
    """

    name: str
    title: str
    inputs: tuple[Input, ...]
    layers: tuple[Layer, ...]
    preprocessing: Preprocessing | None = None
    ties: tuple[Tie, ...] = ()
    classes: tuple[str, ...] = ()

    def layer(self, name: str) -> Layer:
        """The layer of that name; raises `UnknownNameError`."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise UnknownNameError("layer", name, (layer.name for layer in self.layers))

    @property
    def by_name(self) -> dict[str, Layer]:
        """Every layer by its name; made anew each time, for who asks for many."""
        return {layer.name: layer for layer in self.layers}

    def wiring(self) -> dict[str, tuple[str, ...]]:
        """Layer name -> the activations it reads, chains written out."""
        previous, wires = tuple(source.name for source in self.inputs[:1]), dict[str, tuple[str, ...]]()
        for layer in self.layers:
            wires[layer.name] = layer.inputs or (() if isinstance(layer, Constant) else previous)
            previous = (layer.name,)
        return wires

    @property
    def file_name(self) -> str:
        """The name as a file's, without a suffix: a stranger's network may be called ``../../x``."""
        return as_file_name(re.sub(r"[^0-9A-Za-z._-]+", "_", self.name).lstrip(".") or "network")

    @property
    def outputs(self) -> tuple[str, ...]:
        """The activations no layer reads."""
        read = {name for names in self.wiring().values() for name in names}
        return tuple(layer.name for layer in self.layers if layer.name not in read)

    def graph_outputs(self, *, every_activation: bool) -> tuple[str, ...]:
        """What a graph of this network declares: every layer, where the inner ones are to be seen, or its `outputs`."""
        return tuple(layer.name for layer in self.layers) if every_activation else self.outputs

    @property
    def head(self) -> Conv | Dense | None:
        """The last layer with an ordinary weight: the classifier, whose output are the logits."""
        return next((layer for layer in reversed(self.layers) if isinstance(layer, Conv | Dense)), None)

    @property
    def free_head(self) -> Conv | Dense | None:
        """The head, where it may have any number of outputs: nothing behind it has parameters or another shape."""
        if (head := self.head) is None or self.ties or (isinstance(head, Conv) and head.groups > 1):
            return None
        behind = takewhile(lambda layer: layer is not head, reversed(self.layers))
        return head if all(isinstance(layer, Softmax | Dropout | ReLU | Flatten) for layer in behind) else None

    def replace_layer(self, layer: Layer) -> ModelSpec:
        """This network with the layer of the same name exchanged."""
        self.layer(layer.name)
        return replace(self, layers=tuple(layer if old.name == layer.name else old for old in self.layers))

    def change(self, name: str, **fields: Any) -> ModelSpec:
        """This network with some fields of one layer changed: ``spec.change("norm1", k=1.0)``."""
        return self.replace_layer(replace(self.layer(name), **fields))

    def without(self, *names: str) -> ModelSpec:
        """This chain with layers left out."""
        for name in names:
            self.layer(name)
        return replace(self, layers=tuple(layer for layer in self.layers if layer.name not in names))

    def insert(self, layer: Layer, *, after: str) -> ModelSpec:
        """This chain with one more layer."""
        at = self.layers.index(self.layer(after)) + 1
        return replace(self, layers=(*self.layers[:at], layer, *self.layers[at:]))

    def move(self, name: str, *, after: str) -> ModelSpec:
        """This chain with a layer at another place."""
        return self.without(name).insert(self.layer(name), after=after)

    @property
    def heads(self) -> tuple[str, ...]:
        """The head and the layers that share its weight."""
        if self.head is None:
            return ()
        weight, parameters = f"{self.head.name}.weight", list[str]()
        for tie in self.ties:
            parameters += tie.parameters if weight in tie.parameters else ()
        return tuple(dict.fromkeys(name.rpartition(".")[0] for name in (weight, *parameters)))

    def with_num_classes(self, num_classes: int) -> ModelSpec:
        """This network with another number of outputs in its `heads`, whose classes nobody has named then."""
        changed = self
        for name in self.heads:
            match self.layer(name):
                case Dense() as head:
                    changed = changed.replace_layer(replace(head, out_features=num_classes))
                case Conv() as head:
                    changed = changed.replace_layer(replace(head, out_channels=num_classes))
                case _:
                    pass
        return self if changed == self else replace(changed, classes=())

    def with_input_size(self, size: int) -> ModelSpec:
        """This network for square images of another size."""
        return replace(self, inputs=tuple(replace(i, shape=(*i.shape[:-2], size, size)) for i in self.inputs))


def chained(layers: Iterable[Layer], first: str) -> list[Layer]:
    """Layers with the inputs left out that are just the layer before; before the first comes the input `first`."""
    made, previous = list[Layer](), first
    for layer in layers:
        made.append(
            replace(layer, inputs=()) if layer.inputs == (previous,) and not isinstance(layer, Constant) else layer
        )
        previous = layer.name
    return made


class Names:
    """Hands out names that no layer of a network has."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken, self._counts = set(taken), dict[str, int]()

    def fresh(self, wanted: str) -> str:
        """`wanted`, with underscores after it until it is new."""
        while wanted in self._taken:
            wanted += "_"
        self._taken.add(wanted)
        return wanted

    def numbered(self, wanted: str) -> str:
        """`wanted`, or the first of ``wanted_2``, ``wanted_3``, ... that is new; of thousands alike, none is slower."""
        count, name = self._counts.get(wanted, 1), wanted
        while name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._taken.add(name)
        self._counts[wanted] = count
        return name
