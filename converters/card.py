"""A model card in the form of the Hugging Face Hub: what a network is, where it is from, and that it was proved."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from converters.report import in_markdown, markdown
from converters.verdicts import Report
from zoo import __version__
from zoo.axes import shape_text
from zoo.layers import DetectionOutput, Layer, ModelSpec
from zoo.shapes import activation_shapes, multiply_adds, parameter_count
from zoo.show import images_text, layer_details

# More classes than these are told by their number and the first of them.
_CLASSES_TOLD = 20
_TOLD_OF_TRAINING = ("step", "seed", "batch_size", "framework", "precision")


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a card tells.

    Attributes:
        spec: the network.
        file: the name of the weights file that the card lies beside.
        reading: the flags that the file needs to be read (``--prototxt deploy.prototxt``), or "".
        licence: an identifier of the Hub's list (``mit``), or "" where it is unknown.
        lineage: as `converters.lineage.lineage` gives it.
        files: path and SHA-256 of every file of the weights.
        report: the proof.
    """

    spec: ModelSpec
    file: str
    reading: str
    licence: str
    lineage: Mapping[str, Any]
    files: Mapping[str, str]
    report: Report


def card_text(card: Card) -> str:
    """The card as Markdown with YAML in front of it."""
    parts = [
        _front(card),
        f"# {in_markdown(card.spec.name)}\n\n{in_markdown(card.spec.title)}.",
        _network(card.spec),
        _images(card.spec),
        _origin(card),
        f"## Proof\n\nEach subject was run and held against a float64 reference.\n\n{markdown(card.report).strip()}",
        _loading(card),
    ]
    return "\n\n".join(parts) + "\n"


def _front(card: Card) -> str:
    """The metadata that the Hub reads; values are JSON, which is YAML too."""
    facts: dict[str, Any] = {"license": card.licence} if card.licence else {}
    if any(isinstance(layer, DetectionOutput) for layer in card.spec.layers):
        facts["pipeline_tag"] = "object-detection"
    elif card.spec.head is not None:
        facts["pipeline_tag"] = "image-classification"
    facts["tags"] = ["alexnet", "alexnet-zoo", "pytorch", "tensorflow", "caffe", "onnx"]
    return "\n".join(("---", *(f"{key}: {json.dumps(value)}" for key, value in facts.items()), "---"))


def _network(spec: ModelSpec) -> str:
    shapes, wiring = activation_shapes(spec), spec.wiring()
    work = sum(multiply_adds(spec).values())
    lines = [
        "## Network",
        "",
        f"{parameter_count(spec):,} parameters, {work:,} multiply-adds an image, float32.",
        "",
        f"- Inputs: {', '.join(f'`{source.name}`, N x {shape_text(source.shape)}' for source in spec.inputs)}",
        f"- Outputs: {', '.join(f'`{name}`, N x {shape_text(shapes[name])}' for name in spec.outputs)}",
        "",
        "| layer | kind | reads | output | |",
        "|---|---|---|---|---|",
    ]
    for layer in spec.layers:
        cells = (layer.name, type(layer).__name__, ", ".join(wiring[layer.name]), shape_text(shapes[layer.name]))
        lines.append(f"| {' | '.join(map(in_markdown, (*cells, _details(layer))))} |")
    if spec.classes:
        told = ", ".join(map(in_markdown, spec.classes[:_CLASSES_TOLD]))
        more = ", ..." if len(spec.classes) > _CLASSES_TOLD else ""
        lines += ["", f"{len(spec.classes):,} classes, in the order of the outputs: {told}{more}"]
    else:
        lines += ["", "The names of its classes are not known."]
    return "\n".join(lines)


def _details(layer: Layer) -> str:
    """Its window, then everything else that is not told by shapes."""
    sizes = [(key, getattr(layer, key)) for key in ("kernel", "stride", "pad", "groups") if hasattr(layer, key)]
    told = [f"{key} {shape_text(value) if isinstance(value, tuple) else value}" for key, value in sizes]
    return ", ".join(filter(None, (*told, layer_details(layer))))


def _images(spec: ModelSpec) -> str:
    told = images_text(spec).removeprefix("images: ")
    return f"## Preprocessing\n\nPictures in RGB, 0 to 255; resized, then cropped in the centre. Then: {told}."


def _origin(card: Card) -> str:
    lines = ["## Origin", "", "| file | SHA-256 |", "|---|---|"]
    lines += [f"| `{in_markdown(name)}` | `{digest}` |" for name, digest in card.files.items()]
    lines += [f"| the numbers alone, whatever the format | `{card.lineage['sha256']}` |"]
    lines += _training(card.lineage.get("lineage"))
    return "\n".join([*lines, "", f"Written by `zoo card`, alexnet-zoo {__version__}."])


def _training(told: Any) -> list[str]:
    """What a file says of how its weights came about, back to the first that says it."""
    lines = list[str]()
    while isinstance(told, dict):
        run = cast("dict[str, Any]", told)
        facts = [f"{key.replace('_', ' ')} {run[key]}" for key in _TOLD_OF_TRAINING if key in run]
        lines += ["", f"Trained: {in_markdown(', '.join(facts))}."]
        begun: Any = run.get("from")
        told = None
        if isinstance(begun, dict):
            first = cast("dict[str, Any]", begun)
            lines.append(
                f"It began with `{in_markdown(first.get('file'))}`, numbers `{in_markdown(first.get('sha256'))}`."
            )
            told = first.get("lineage")
    return lines


def _ways(spec: ModelSpec, whole: str, stem: str) -> dict[str, tuple[list[str], str]]:
    """Framework -> commands that write its file, called `stem`, from the file `whole`; and code that loads it."""
    source, name = shlex.quote(whole), shlex.quote(stem)
    inputs = ", ".join(
        f"{blob.name!r}: np.zeros({(1, *blob.shape)}, np.float32)" for blob in spec.inputs
    )  # N x C x H x W
    return {
        "PyTorch": (
            [f"zoo generate {source} --framework pytorch -o src  # the same as source that needs torch alone"],
            "import converters\nimport zoo\n\n"
            f"weights = converters.load({whole!r})\n"
            'network = zoo.build(weights.spec, "pytorch", weights.tensors).eval()  # a torch.nn.Module',
        ),
        "ONNX": (
            [f"zoo export {source} -o {name}.onnx"],
            "import numpy as np\nimport onnxruntime\n\n"
            f"session = onnxruntime.InferenceSession({stem + '.onnx'!r})\n"
            f"outputs = session.run(None, {{{inputs}}})",
        ),
        "TensorFlow": (
            [f"zoo export {source} -o {name}-saved-model/"],
            "import tensorflow as tf\n\n"
            f"network = tf.saved_model.load({stem + '-saved-model'!r}).signatures['serving_default']",
        ),
        "Caffe, and OpenCV 4": (
            [f"zoo convert {source} -o {name}.caffemodel  # writes the prototxt beside it"],
            f"import cv2\n\nnetwork = cv2.dnn.readNetFromCaffe({stem + '.prototxt'!r}, {stem + '.caffemodel'!r})",
        ),
    }


def _loading(card: Card) -> str:
    """Commands and code that load the file in each framework; the tests run them."""
    file, stem = shlex.quote(card.file), Path(card.file).stem
    is_whole = not card.reading and card.file.endswith(".safetensors")
    stem = stem if is_whole else f"{stem}-copy"  # nothing that is there is to be replaced
    whole = card.file if is_whole else f"{stem}.safetensors"
    first = [] if is_whole else [f"zoo convert {file} {card.reading}".rstrip() + f" -o {shlex.quote(whole)}"]
    lines = ["## How to load it", "", "With alexnet-zoo installed:"]
    lines += ["", "```sh", *first, "```"] if first else []
    for framework, (commands, code) in _ways(card.spec, whole, stem).items():
        lines += ["", f"### {framework}", "", "```sh", *commands, "```", "", "```python", code, "```"]
    return "\n".join(lines)
