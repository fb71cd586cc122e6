"""What a user says of images where a file does not: how they are prepared, and what the classes are called."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from zoo import registry
from zoo.axes import shape_text
from zoo.errors import FileFormatError, UnsupportedError, ZooError
from zoo.layers import ModelSpec, Preprocessing, stored_size
from zoo.shapes import activation_shapes
from zoo.wire.regular import check_regular

# No list of classes is longer: ImageNet's 21,841 with all their words have 1 MB.
_MAX_BYTES = 1 << 23


@dataclass(frozen=True, kw_only=True)
class SaidOfImages:
    """Said of a network's images; what is left out stays as the network has it.

    Attributes:
        like: prepare them as this member of the family does.
        channels: the order.
        scale: what pixels of 0..255 are multiplied with.
        mean: one number, or one a channel, in the order of the channels and the range of the scaled pixels.
        mean_BGR: instead, of the pixels themselves, in Caffe's order.
        std: as `mean`.
        classes: the names of the outputs, in their order.
    """

    like: str | None = None
    channels: Literal["RGB", "BGR"] | None = None
    scale: float | None = None
    mean: tuple[float, ...] | None = None
    mean_BGR: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    classes: tuple[str, ...] = ()

    def of(self, spec: ModelSpec) -> ModelSpec:
        """`spec` with what was said.

        Raises:
            UnsupportedError: the network does not read images.
            ZooError: another number of classes than the network has outputs; neither the network nor the user says the
                order of the channels.
        """
        spec = named_classes(spec, self.classes) if self.classes else spec
        if self == SaidOfImages(classes=self.classes):
            return spec
        if len(spec.inputs) != 1 or len(spec.inputs[0].shape) != 3:
            read = ", ".join(shape_text(source.shape) for source in spec.inputs) or "nothing"
            raise UnsupportedError(f"{spec.name} reads {read}, no images: nothing can be said of how they are prepared")
        images = registry.model(self.like).preprocessing if self.like else spec.preprocessing
        if images is None:
            if self.channels is None:  # a guess would be wrong for every second network
                raise ZooError(
                    f"{spec.name}: nothing says the order of its channels; give --channels RGB or BGR as well"
                )
            images = Preprocessing(resize=stored_size(spec.inputs[0].shape))
        images = replace(images, channels=self.channels or images.channels, scale=self.scale or images.scale)
        mean, std = self.mean or images.mean, self.std or images.std
        if self.mean_BGR:
            ordered = self.mean_BGR if images.channels == "BGR" else self.mean_BGR[::-1]
            mean = tuple(value * images.scale for value in ordered)
        return replace(spec, preprocessing=replace(images, mean=mean, std=std))


SAID_NOTHING = SaidOfImages()


def output_count(spec: ModelSpec) -> int:
    """How many outputs the head of a network has."""
    return activation_shapes(spec)[spec.head.name][0] if spec.head else 0


def named_classes(spec: ModelSpec, classes: tuple[str, ...]) -> ModelSpec:
    """`spec` with the names of its outputs; raises `ZooError` where their numbers differ."""
    outputs = output_count(spec)
    if len(classes) != outputs:
        raise ZooError(f"{spec.name} has {outputs:,} outputs, and {len(classes):,} classes are named")
    return replace(spec, classes=classes)


def read_labels(path: Path) -> tuple[str, ...]:
    """The names of classes: the lines of a text (Caffe's ``synset_words.txt``), or the folders within a folder, sorted.

    Raises:
        FileFormatError: it is missing, no text, or names nothing.
    """
    try:
        if path.is_dir():
            found = sorted(entry.name for entry in os.scandir(path) if entry.is_dir())
        else:
            check_regular(path)
            if path.stat().st_size > _MAX_BYTES:
                raise FileFormatError(
                    path, f"has more than {_MAX_BYTES:,} bytes; expected the name of a class in each line"
                )
            found = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise FileFormatError(path, error.strerror or "cannot be read") from error
    except UnicodeDecodeError as error:
        raise FileFormatError(path, "no text; expected the name of a class in each line") from error
    names = tuple(" ".join(line.split()) for line in found)
    while names and not names[-1]:
        names = names[:-1]
    if not names or "" in names:
        raise FileFormatError(path, "names no classes" if not names else f"line {names.index('') + 1} is empty")
    return names
