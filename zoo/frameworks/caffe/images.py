"""What a Caffe data layer says of its images, as a `Preprocessing`.

Caffe's data layers subtract the mean first and scale then, ``(pixel - mean) * scale``; here it is the other way round
(BVLC caffe, ``data_transformer.cpp``). They hold pixels as OpenCV reads them, B, G, R.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from zoo.layers import ModelSpec, Preprocessing, Shape, stored_size
from zoo.wire.prototxt import Message, PrototxtError

# V1 networks (2014) may still have the fields of a transform_param in the block of the data's source.
_BLOCKS = ("transform_param", "data_param", "image_data_param", "window_data_param")


@dataclass(frozen=True, kw_only=True)
class DataImages:
    """The images of a data layer.

    Attributes:
        preprocessing: theirs; without the mean, where that is in a file.
        mean_file: the mean image, as the prototxt names it.
        is_size_known: whether the size of the stored images is said, or was assumed.
    """

    preprocessing: Preprocessing
    mean_file: str = ""
    is_size_known: bool = False

    def with_mean(self, mean_BGR: tuple[float, ...], size: int) -> DataImages:
        """With the mean of each channel, and the size, of a mean image."""
        scaled = tuple(value * self.preprocessing.scale for value in mean_BGR)
        preprocessing = replace(self.preprocessing, mean=scaled, resize=max(size, self.preprocessing.resize))
        return replace(self, preprocessing=preprocessing, mean_file="", is_size_known=True)

    def told(self, source: str) -> str:
        """What was understood, for the user to judge."""
        p = self.preprocessing
        mean = ", ".join(f"{value / p.scale:.6g}" for value in p.mean)
        scale = "" if p.scale == 1 else f", times {p.scale:.6g}"
        assumed = "" if self.is_size_known else " (assumed: it is not said)"
        return f"images, by {source}: BGR 0..255, less ({mean}){scale}; shorter side {p.resize}{assumed}, centre crop"


def images_of(message: Message, shape: Shape) -> DataImages | None:
    """What a data layer says of its images; None where it says nothing, or they are no three-channel pictures."""
    blocks = [message.message(name) for name in _BLOCKS if name in message]
    means = [value for block in blocks if "mean_value" in block for value in block.numbers("mean_value")]
    files = [block.string("mean_file") for block in blocks if "mean_file" in block]
    scales = [block.number("scale", 1.0) for block in blocks if "scale" in block]
    if not (means or files or scales) or len(shape) != 3 or shape[0] != 3:
        return None
    if means and files:
        raise PrototxtError(message.line, "has both mean_file and mean_value; Caffe takes one of them")
    if len(means) not in (0, 1, 3):
        raise PrototxtError(message.line, f"needs one mean_value, or one for each of 3 channels, got {len(means)}")
    scale = scales[0] if scales else 1.0
    if not scale > 0:
        raise PrototxtError(message.line, f"scale must be positive, got {scale:g}")
    stored = message.message("image_data_param")
    sides = [stored.integer(name, 0) for name in ("new_height", "new_width") if stored.integer(name, 0) > 0]
    resize = max(min(sides), *shape[1:]) if sides else stored_size(shape)
    mean = tuple(value * scale for value in (means * 3 if len(means) == 1 else means)) or (0.0, 0.0, 0.0)
    return DataImages(
        preprocessing=Preprocessing(channels="BGR", scale=scale, mean=mean, resize=resize),
        mean_file=files[0] if files else "",
        is_size_known=bool(sides),
    )


def images_beside(spec: ModelSpec) -> DataImages | None:
    """The images of a deployed network, of which a mean image may be at hand; None where it reads no single picture."""
    shape = spec.inputs[0].shape if spec.inputs else ()
    if len(spec.inputs) != 1 or len(shape) != 3 or shape[0] != 3:
        return None
    return DataImages(preprocessing=Preprocessing(channels="BGR", resize=stored_size(shape)))
