"""Caffe: prototxt in and out, and a forward pass through the Caffe runtime at hand.

The runtimes (pycaffe, OpenCV) are imported when something is run; reading and writing needs neither.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias, cast

from numpy.typing import NDArray

from zoo import spec_json
from zoo.errors import FileFormatError, ZooError
from zoo.frameworks.caffe.images import DataImages, images_beside
from zoo.frameworks.caffe.legacy import V1_TYPES
from zoo.frameworks.caffe.lower import Lowered, Names, Rule, as_scales, for_caffe, rewrite_all, without_k
from zoo.frameworks.caffe.model import Piece, caffemodel, layer_blobs
from zoo.frameworks.caffe.reader import CaffeNet, read_net
from zoo.frameworks.caffe.writer import SPEC_COMMENT, NetLayer, deploy_text, input_layer, net_layers
from zoo.layers import Layer, ModelSpec, Softmax
from zoo.registry import imported
from zoo.shapes import activation_shapes, parameter_shapes
from zoo.wire.prototxt import Message, PrototxtError, dumps, parse

__all__ = [
    "V1_TYPES",
    "CaffeNet",
    "DataImages",
    "Lowered",
    "Message",
    "Names",
    "NetLayer",
    "Piece",
    "Rule",
    "as_scales",
    "caffemodel_pieces",
    "deploy_text",
    "dumps",
    "for_caffe",
    "forward",
    "generate",
    "images_beside",
    "input_layer",
    "layer_blobs",
    "net_layers",
    "parse_prototxt",
    "read_prototxt",
    "rewrite_all",
    "runtime",
    "with_images",
    "without_k",
]

Array: TypeAlias = NDArray[Any]

_LOG = logging.getLogger(__name__)

# The largest prototxt of a published network has 0.3 MB; more is a caffemodel given by mistake.
_MAX_BYTES = 2 << 20
_UNUSED = f"the {SPEC_COMMENT.strip('# :')} comment was not used"


def read_prototxt(path: Path) -> CaffeNet:
    """The network a prototxt describes, as Caffe would deploy it (TEST phase), under the user's own layer names.

    Reads every dialect (``layer``, ``layers`` with enum types, the nested form of 2013) and both kinds of inputs. A
    file that `generate` wrote gives back the very spec it was written from, preprocessing included, as long as the
    network in it is unchanged.

    Raises:
        FileFormatError: not a prototxt, or a malformed one; names line and layer.
        UnsupportedError: lists all layers outside the vocabulary by name and type.
        SpecError: an impossible network.
    """
    try:
        if path.exists() and not path.is_file():
            raise FileFormatError(path, "is no regular file")  # a pipe would be waited for without end
        if path.stat().st_size > _MAX_BYTES:
            raise FileFormatError(path, f"larger than {_MAX_BYTES >> 20} MB: no prototxt (is it the caffemodel?)")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise FileFormatError(path, error.strerror or "cannot be read") from error
    except UnicodeDecodeError as error:
        raise FileFormatError(path, f"no text, at byte {error.start} (is it the caffemodel?)") from error
    return parse_prototxt(text, path)


def parse_prototxt(text: str, path: Path) -> CaffeNet:
    """`read_prototxt` of a text; `path` is for messages and names."""
    comment = next((line for line in reversed(text.splitlines()) if line.startswith(SPEC_COMMENT)), None)
    spec, problem = _embedded(comment)
    sizes = {source.name: source.shape for source in spec.inputs} if spec else None
    try:
        net = read_net(parse(text), path.stem, f"read from {path.name}", sizes)
    except PrototxtError as error:
        raise FileFormatError(path, str(error)) from error
    if spec:
        net = _described(net, spec)
    elif problem:
        net = replace(net, notes=(*net.notes, f"{_UNUSED}: {problem}"))
    if net.images is None or net.images.mean_file or net.spec.preprocessing:
        return net
    return with_images(net, net.images, "its data layer")


def with_images(net: CaffeNet, images: DataImages, source: str) -> CaffeNet:
    """A network with the preprocessing that `source` says, and a note that tells of it."""
    spec = replace(net.spec, preprocessing=images.preprocessing)
    return replace(net, spec=spec, images=images, notes=(*net.notes, images.told(source)))


def _embedded(comment: str | None) -> tuple[ModelSpec | None, str]:
    """The spec of our own comment, or why it cannot be used."""
    if comment is None:
        return None, ""
    try:
        spec = spec_json.loads(comment.removeprefix(SPEC_COMMENT))
        activation_shapes(spec)  # refuses an impossible network
    except ZooError as error:
        return None, str(error)
    return spec, ""


def _described(net: CaffeNet, spec: ModelSpec) -> CaffeNet:
    """The spec of our own comment, where it says the same as the network it stands in."""
    try:
        written = read_net(parse(deploy_text(spec, described=False)), spec.name, net.spec.title)
    except (ZooError, PrototxtError) as error:
        return replace(net, notes=(*net.notes, f"{_UNUSED}: {error}"))
    if replace(written.spec, name=net.spec.name) == net.spec:
        return replace(net, spec=spec)
    if (written.spec.inputs, _scores(written.spec)) == (net.spec.inputs, net.spec.layers):  # a train_val.prototxt
        return replace(net, spec=replace(net.spec, preprocessing=spec.preprocessing))
    note = "the network was edited after it was written; of its description, the preprocessing alone was used"
    return replace(net, spec=replace(net.spec, preprocessing=spec.preprocessing), notes=(*net.notes, note))


def _scores(spec: ModelSpec) -> tuple[Layer, ...]:
    """The layers of a network in training, whose loss layer has the last softmax in it."""
    return spec.layers[:-1] if isinstance(spec.layers[-1], Softmax) else spec.layers


def generate(spec: ModelSpec, directory: Path) -> list[Path]:
    """Write ``deploy.prototxt`` and, where there is something to train, ``train_val.prototxt`` and ``solver.prototxt``.

    See `zoo.registry.Framework`.

    Raises:
        UnsupportedError: a layer Caffe has no equal for.
    """
    texts = {"deploy.prototxt": deploy_text(spec)}
    if parameter_shapes(spec):
        # Imported here: a conversion, which takes a third of a second, needs no training recipes.
        training = import_module("zoo.frameworks.caffe.training")
        texts["train_val.prototxt"] = training.train_val_text(spec)
        texts["solver.prototxt"] = training.solver_text(spec)
    else:
        _LOG.info("%s has no parameters: no files for training are written", spec.name)
    for name, text in texts.items():
        (directory / name).write_text(text, encoding="utf-8")
    return [directory / name for name in texts]


def caffemodel_pieces(spec: ModelSpec, weights: Mapping[str, Array]) -> list[Piece]:
    """The caffemodel of a network in pieces to be written one after the other; arrays are views, not copies."""
    lowered = for_caffe(spec).spec
    layers = [(input_layer(source.name, source.shape, batch=1), list[Array]()) for source in spec.inputs]
    layers += [
        (item.message, layer_blobs(item.layer, weights) if item.layer else [])
        for item in net_layers(lowered, in_place=True)
    ]
    return list(caffemodel(spec.name, layers))


def forward(spec: ModelSpec, weights: Mapping[str, Array], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run the network in the Caffe runtime at hand (see `runtime`); see `zoo.registry.Framework`.

    Raises:
        UnsupportedError: the runtime cannot run this network; says why.
        MissingDependencyError: there is no runtime.
    """
    return cast(Any, _runtime()).forward(spec, weights, inputs)


def runtime() -> str:
    """Which Caffe runtime `forward` uses, with its version: Caffe itself where it imports, else OpenCV's dnn."""
    return cast(Any, _runtime()).VERSION


def _runtime() -> ModuleType:
    try:
        return import_module("zoo.frameworks.caffe.pycaffe")
    except ImportError as error:
        if not isinstance(error, ModuleNotFoundError) or error.name != "caffe":
            _LOG.warning("Caffe is installed but does not import (%s); OpenCV is used", error)
        return imported("zoo.frameworks.caffe.opencv")
