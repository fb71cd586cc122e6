"""Caffe networks run by Caffe itself, through its Python module; CPU, TEST phase."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias, cast

import caffe  # pyright: ignore[reportMissingImports]  # on no package index: built from source
import numpy as np
from numpy.typing import NDArray

from zoo.frameworks._caffe_lower import for_caffe
from zoo.frameworks._caffe_model import layer_blobs
from zoo.frameworks._caffe_writer import input_layer, net_layers
from zoo.frameworks._prototxt import Message, dumps
from zoo.layers import ModelSpec

Array: TypeAlias = NDArray[Any]

_caffe = cast(Any, caffe)
VERSION = f"Caffe {getattr(_caffe, '__version__', 'of unknown version')}"


def forward(spec: ModelSpec, weights: Mapping[str, Array], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """See `zoo.registry.Framework.forward`."""
    lowered = for_caffe(spec)
    layers = net_layers(lowered.spec, in_place=False)
    text = Message().add("name", spec.name)
    text.add("layer", *(input_layer(source.name, source.shape, len(inputs[source.name])) for source in spec.inputs))
    text.add("layer", *(item.message for item in layers))
    _caffe.set_mode_cpu()
    with TemporaryDirectory() as folder:
        path = Path(folder, "deploy.prototxt")
        path.write_text(dumps(text), encoding="utf-8")
        net = _caffe.Net(str(path), _caffe.TEST)
    for item in layers:
        for i, blob in enumerate(layer_blobs(item.layer, weights) if item.layer else []):
            net.params[item.message.string("name")][i].data[...] = blob
    for name, batch in inputs.items():
        net.blobs[name].data[...] = batch
    net.forward()
    return {name: np.array(net.blobs[made].data) for name, made in lowered.names.items()}
