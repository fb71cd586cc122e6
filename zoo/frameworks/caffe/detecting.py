"""SSD's and R-CNN's layers of boxes, in the words of the forks that have them."""

from __future__ import annotations

from typing import Any, assert_never

from zoo.frameworks.caffe.row import Row, fields, required, unless
from zoo.layers import Code, Detecting, DetectionOutput, PriorBox, PSROIPool, ROIPool
from zoo.wire.prototxt import Message, PrototxtError, Word

CODES: dict[str, Code] = {"CORNER": "corner", "CENTER_SIZE": "center_size", "CORNER_SIZE": "corner_size"}


def _either(block: Message, whole: str, stem: str) -> tuple[float, float] | None:
    """A (height, width) given as one number, or as ``stem``_h and ``stem``_w."""
    sides = [f"{stem}_h", f"{stem}_w"]
    given = [side for side in sides if side in block]
    if given and (whole in block or len(given) == 1):
        raise PrototxtError(block.line, f"either {whole} or both {sides[0]} and {sides[1]}")
    if given:
        return block.number(sides[0], 0.0), block.number(sides[1], 0.0)
    if whole not in block:
        return None
    return block.number(whole, 0.0), block.number(whole, 0.0)


def _read_prior_box(block: Message, name: str, inputs: tuple[str, ...]) -> PriorBox:
    image, step = _either(block, "img_size", "img"), _either(block, "step", "step")
    return PriorBox(
        name=name,
        inputs=inputs,
        min_sizes=tuple(block.numbers("min_size")),
        max_sizes=tuple(block.numbers("max_size")),
        ratios=tuple(block.numbers("aspect_ratio")),
        flip=block.flag("flip", True),
        clip=block.flag("clip", False),
        variances=tuple(block.numbers("variance")) or (0.1,),
        image=None if image is None else (int(image[0]), int(image[1])),
        step=step,
        offset=block.number("offset", 0.5),
    )


def _write_prior_box(layer: PriorBox) -> Message:
    block = Message().add("min_size", *layer.min_sizes).add("max_size", *layer.max_sizes)
    block.add("aspect_ratio", *layer.ratios)
    unless(block, "flip", layer.flip, True).add("clip", layer.clip)  # left out, it is true to OpenCV
    block.add("variance", *layer.variances)
    if layer.image is not None:
        block.add("img_h", layer.image[0]).add("img_w", layer.image[1])
    if layer.step is not None:
        block.add("step_h", layer.step[0]).add("step_w", layer.step[1])
    return unless(block, "offset", layer.offset, 0.5)


def _read_detection(block: Message, name: str, inputs: tuple[str, ...]) -> DetectionOutput:
    nms = block.message("nms_param")
    return DetectionOutput(
        name=name,
        inputs=inputs,
        classes=required(block, "num_classes"),
        share_location=block.flag("share_location", True),
        background=block.integer("background_label_id", 0),
        code=CODES[block.enum("code_type", "CORNER", ("", *CODES))],  # numbered from 1 on
        variance_encoded=block.flag("variance_encoded_in_target", False),
        overlap=nms.number("nms_threshold", 0.3),
        eta=nms.number("eta", 1.0),
        top_k=nms.integer("top_k", -1),
        keep=block.integer("keep_top_k", -1),
        confidence=block.number("confidence_threshold", 0.0) if "confidence_threshold" in block else None,
    )


def _write_detection(layer: DetectionOutput) -> Message:
    # OpenCV wants to be told what Caffe has a default for.
    block = Message().add("num_classes", layer.classes).add("share_location", layer.share_location)
    block.add("background_label_id", layer.background)
    nms = Message().add("nms_threshold", layer.overlap).add("top_k", layer.top_k)
    block.add("nms_param", unless(nms, "eta", layer.eta, 1.0)).add("code_type", Word(layer.code.upper()))
    unless(block, "variance_encoded_in_target", layer.variance_encoded, False)
    block.add("keep_top_k", layer.keep)
    return block if layer.confidence is None else block.add("confidence_threshold", layer.confidence)


def _read_roi_pool(block: Message, name: str, inputs: tuple[str, ...]) -> ROIPool:
    size = block.integer("pooled_h", 0), block.integer("pooled_w", 0)
    return ROIPool(name=name, inputs=inputs, size=size, scale=block.number("spatial_scale", 1.0))


def _write_roi_pool(layer: ROIPool) -> Message:
    block = Message().add("pooled_h", layer.size[0]).add("pooled_w", layer.size[1])
    return unless(block, "spatial_scale", layer.scale, 1.0)


def _read_psroi_pool(block: Message, name: str, inputs: tuple[str, ...]) -> PSROIPool:
    channels, group = required(block, "output_dim"), required(block, "group_size")
    return PSROIPool(name=name, inputs=inputs, channels=channels, group=group, scale=block.number("spatial_scale", 1.0))


def _write_psroi_pool(layer: PSROIPool) -> Message:
    block = Message().add("spatial_scale", layer.scale)
    return block.add("output_dim", layer.channels).add("group_size", layer.group)


_PRIOR_BOX = Row(
    kind=PriorBox,
    type="PriorBox",
    block="prior_box_param",
    fields=fields(  # weiliu89/caffe, branch ssd
        number="min_size* max_size* aspect_ratio* variance* step step_h step_w offset",
        flag="flip clip",
        count="img_size img_h img_w",
    ),
    read=_read_prior_box,
    write=_write_prior_box,
    four_axes=2,
)
_DETECTION_OUTPUT = Row(
    kind=DetectionOutput,
    type="DetectionOutput",
    block="detection_output_param",
    fields=fields(  # weiliu89/caffe, branch ssd
        count="num_classes",
        flag="share_location variance_encoded_in_target",
        whole="background_label_id keep_top_k",
        NonMaximumSuppressionParameter="nms_param",
        BoxCode="code_type",
        number="confidence_threshold",
    ),
    read=_read_detection,
    write=_write_detection,
)
_ROI_POOLING = Row(
    kind=ROIPool,
    type="ROIPooling",
    block="roi_pooling_param",
    fields=fields(count="pooled_h pooled_w", number="spatial_scale"),  # rbgirshick/caffe-fast-rcnn
    read=_read_roi_pool,
    write=_write_roi_pool,
    four_axes=1,
)
_PSROI_POOLING = Row(
    kind=PSROIPool,
    type="PSROIPooling",
    block="psroi_pooling_param",
    fields=fields(number="spatial_scale", whole="output_dim group_size"),  # daijifeng001/caffe-rfcn
    read=_read_psroi_pool,
    write=_write_psroi_pool,
    four_axes=1,
)
ROWS: tuple[Row[Any], ...] = (_PRIOR_BOX, _DETECTION_OUTPUT, _ROI_POOLING, _PSROI_POOLING)


def row(layer: Detecting) -> Row[Any]:
    """The row of a layer of the family."""
    match layer:
        case PriorBox():
            return _PRIOR_BOX
        case DetectionOutput():
            return _DETECTION_OUTPUT
        case ROIPool():
            return _ROI_POOLING
        case PSROIPool():
            return _PSROI_POOLING
        case _:
            assert_never(layer)
