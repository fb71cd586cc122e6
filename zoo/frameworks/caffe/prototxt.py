"""A prototxt as a network: what it says, and the very spec it was written from."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from zoo import spec_json
from zoo.errors import FileFormatError, SpecError, UnsupportedError, ZooError
from zoo.frameworks.caffe.images import DataImages
from zoo.frameworks.caffe.reader import CaffeNet, read_net
from zoo.frameworks.caffe.walk import Given
from zoo.frameworks.caffe.writer import SPEC_COMMENT, deploy_text
from zoo.layers import Layer, ModelSpec, Shape, Softmax
from zoo.shapes import activation_shapes
from zoo.wire.prototxt import PrototxtError, parse
from zoo.wire.regular import check_regular

_LOG = logging.getLogger(__name__)
# The largest prototxt of a published network has 0.3 MB; more is a caffemodel given by mistake.
_MAX_BYTES = 2 << 20
_UNUSED = f"the {SPEC_COMMENT.strip('# :')} comment was not used"


def read_prototxt(path: Path, *, stages: Collection[str] = (), sizes: Mapping[str, Shape] | None = None) -> CaffeNet:
    """The network a prototxt describes, as Caffe would deploy it (TEST phase), under the user's own layer names.

    Reads every dialect (``layer``, ``layers`` with enum types, the nested form of 2013) and both kinds of inputs. A
    file that `generate` wrote gives back the very spec it was written from, preprocessing included, as long as the
    network in it is unchanged.

    Args:
        path: the file.
        stages: for which layers' rules ask, beside those that the file sets itself.
        sizes: of what data layers feed that do not say it, by top, without the batch.

    Raises:
        FileFormatError: not a prototxt, a malformed one, or an impossible network; names line and layer.
        UnsupportedError: lists all layers outside the vocabulary by name and type.
    """
    try:
        check_regular(path)
        if path.stat().st_size > _MAX_BYTES:
            raise FileFormatError(path, f"larger than {_MAX_BYTES >> 20} MB: no prototxt (is it the caffemodel?)")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise FileFormatError(path, error.strerror or "cannot be read") from error
    except UnicodeDecodeError as error:
        raise FileFormatError(path, f"no text, at byte {error.start} (is it the caffemodel?)") from error
    return parse_prototxt(text, path, stages=stages, sizes=sizes)


def parse_prototxt(
    text: str, path: Path, *, stages: Collection[str] = (), sizes: Mapping[str, Shape] | None = None
) -> CaffeNet:
    """`read_prototxt` of a text; `path` is for messages and names."""
    comment = next((line for line in reversed(text.splitlines()) if line.startswith(SPEC_COMMENT)), None)
    spec, problem = _embedded(comment)
    known = {source.name: source.shape for source in spec.inputs} if spec else {}
    try:
        net = read_net(
            parse(text), path.stem, f"read from {path.name}", Given(sizes=sizes or {}, known=known, stages=stages)
        )
    except (PrototxtError, SpecError) as error:
        raise FileFormatError(path, str(error)) from error
    except UnsupportedError as error:
        raise UnsupportedError(f"{path}: {error}") from error
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
