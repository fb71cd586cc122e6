"""What is written of a network: prototxts and a caffemodel."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from zoo.arrays import Array
from zoo.frameworks.caffe.lower import for_caffe
from zoo.frameworks.caffe.writer import deploy_text, layer_blobs, whole_net
from zoo.layers import ModelSpec
from zoo.shapes import parameter_shapes
from zoo.wire.caffemodel import Piece, caffemodel

_LOG = logging.getLogger(__name__)


def generate(spec: ModelSpec, directory: Path) -> list[Path]:
    """Write ``deploy.prototxt`` and, where there is something to train, ``train_val.prototxt`` and ``solver.prototxt``.

    See `zoo.registry.Framework`.

    Raises:
        UnsupportedError: a layer Caffe has no equal for.
    """
    texts = {"deploy.prototxt": deploy_text(spec)}
    if parameter_shapes(spec):
        # Imported here: a conversion, which takes a third of a second, needs no training recipes.
        from zoo.frameworks.caffe import training

        texts["train_val.prototxt"] = training.train_val_text(spec)
        texts["solver.prototxt"] = training.solver_text(spec)
    else:
        _LOG.info("%s has no parameters: no files for training are written", spec.name)
    for name, text in texts.items():
        (directory / name).write_text(text, encoding="utf-8")
    return [directory / name for name in texts]


def caffemodel_pieces(spec: ModelSpec, weights: Mapping[str, Array]) -> list[Piece]:
    """The caffemodel of a network in pieces to be written one after the other; arrays are views, not copies."""
    layers = [
        (item.message, layer_blobs(item.layer, weights) if item.layer else [])
        for item in whole_net(for_caffe(spec).spec)
    ]
    return list(caffemodel(spec.name, layers))
