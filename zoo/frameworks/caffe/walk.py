"""The state of reading a prototxt from top to bottom."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from zoo.batches import first_axis
from zoo.frameworks.caffe.images import DataImages
from zoo.frameworks.caffe.sharing import Sharing
from zoo.layers import Bias, Input, Layer, Names, Pointwise, Reshape, Scale, Shape
from zoo.shapes import check_batches, output_shape
from zoo.wire.prototxt import Message, PrototxtError


@dataclass
class Node:
    """A layer of the prototxt, of which only what ties it to others is understood."""

    message: Message
    name: str
    type: str
    bottoms: list[str]
    tops: list[str]

    def __str__(self) -> str:
        return f"layer {self.name!r} ({self.type})"


@dataclass(frozen=True, kw_only=True)
class Given:
    """What is known of a network beside its text.

    Attributes:
        sizes: of what data layers feed, by top, as the user says them.
        known: the same, as the text's own last comment says them.
        stages: for which layers' rules ask.
    """

    sizes: Mapping[str, Shape] = field(default_factory=dict[str, Shape])
    known: Mapping[str, Shape] = field(default_factory=dict[str, Shape])
    stages: Collection[str] = ()


@dataclass
class Walk:
    """The state of reading a network from top to bottom."""

    # Blob -> for what alone a layer would make it, and is left out.
    absent: dict[str, str]
    given: Given
    layer_names: frozenset[str] = frozenset()
    # What no layer that is made up may be called.
    names: Names = field(default_factory=lambda: Names(()))
    inputs: list[Input] = field(default_factory=list[Input])
    layers: list[Layer] = field(default_factory=list[Layer])
    omitted: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])
    transposed: set[str] = field(default_factory=set[str])
    # Blob -> the activation it holds at this point; None for labels and what omitted layers make.
    blobs: dict[str, str | None] = field(default_factory=dict[str, "str | None"])
    # Activation -> its shape, without the batch.
    shapes: dict[str, Shape] = field(default_factory=dict[str, Shape])
    # Activation -> the length of its first axis, as the prototxt has it.
    batches: dict[str, int] = field(default_factory=dict[str, int])
    # Activations that have no axes in Caffe, and one of a single number here.
    scalars: set[str] = field(default_factory=set[str])
    silenced: set[str] = field(default_factory=set[str])
    # Blob that shares its memory -> the one whose memory it is; blob -> the layer that overwrote it through another.
    memory: dict[str, str] = field(default_factory=dict[str, str])
    overwritten: dict[str, str] = field(default_factory=dict[str, str])
    # Blob -> the layers that read what it holds at this point.
    readers: dict[str, list[str]] = field(default_factory=dict[str, "list[str]"])
    # Inputs that are read by layers for training alone, if no other reads them.
    for_training: set[str] = field(default_factory=set[str])
    sharing: Sharing = field(default_factory=Sharing)
    images: DataImages | None = None
    # Whether something else than constants feeds the network.
    is_fed: bool = False

    def add(self, layer: Layer, top: str) -> None:
        """A layer and the blob it fills; an impossible one raises `SpecError`."""
        shapes, batches = [self.shapes[name] for name in layer.inputs], [self.batches[name] for name in layer.inputs]
        shape = self.shapes[layer.name] = output_shape(layer, shapes)
        if not (isinstance(layer, Scale | Bias) and self.scalars.intersection(layer.inputs[1:])):
            check_batches(layer, batches, shapes, shape)
        self.batches[layer.name] = first_axis(layer, batches, shapes, shape)
        if layer.inputs and isinstance(layer, Pointwise) and self.scalars.issuperset(layer.inputs):
            self.scalars.add(layer.name)
        self.layers.append(layer)
        self.blobs[top] = layer.name
        self.readers.pop(top, None)

    def fresh(self, wanted: str) -> str:
        """A name that no layer has, for one that is made up."""
        return self.names.fresh(wanted)

    def name_of(self, top: str) -> str:
        """The name of a layer that is made up for a top: the top's own, if no other layer has it."""
        return top if top not in self.shapes and top not in self.layer_names else self.fresh(top)

    def read(self, node: Node, blob: str) -> str | None:
        """A layer reads a blob: the activation it holds, None for a label and the like."""
        if blob not in self.blobs:
            why = f"; a layer of {self.absent[blob]} would, but is left out" if blob in self.absent else ""
            raise PrototxtError(node.message.line, f"reads {blob!r}, which nothing before it makes{why}")
        if blob in self.overwritten:
            raise PrototxtError(
                node.message.line,
                f"reads {blob!r} after layer {self.overwritten[blob]!r} has worked in place on a blob that shares"
                " its memory; give that layer a top of its own",
            )
        self.readers.setdefault(blob, []).append(node.name)
        return self.blobs[blob]

    def of_four_axes(self, node: Node, source: str) -> str:
        """What a layer reads as N x C x H x W, axes that are not there being 1 (blob.hpp, LegacyShape)."""
        shape = self.shapes[source]
        if len(shape) > 3:
            raise PrototxtError(node.message.line, "takes N x C x H x W or fewer axes, and its bottom has more")
        if len(shape) == 3:
            return source
        name = self.fresh(f"{node.name}_{source}")
        self.add(Reshape(name=name, inputs=(source,), dims=(0, *shape, *[1] * (3 - len(shape)))), name)
        return name

    def share(self, bottom: str, tops: list[str]) -> None:
        """Blobs that are another in the same memory, as Caffe's `ShareData` makes them."""
        self.memory.update(dict.fromkeys([bottom, *tops], self.memory.get(bottom, bottom)))

    def overwrite(self, blob: str, layer: str) -> None:
        """A layer works in place on a blob."""
        whose = self.memory.get(blob, blob)
        self.overwritten |= {name: layer for name, root in self.memory.items() if root == whose and name != blob}
