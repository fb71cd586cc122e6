"""Caffe networks run by Caffe itself, through its Python module, handed over as prototxt and caffemodel.

Caffe gets a process of its own: a check of its that fails ends the process it runs in, and beside TensorFlow it
crashes, as the two bring different builds of protobuf (seen with Caffe 1.0 and TensorFlow 2.21).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from zoo.arrays import Array
from zoo.errors import UnsupportedError
from zoo.frameworks.caffe.lower import for_caffe
from zoo.frameworks.caffe.writer import NetLayer, input_layer, layer_blobs, net_layers
from zoo.layers import ModelSpec
from zoo.wire.caffemodel import caffemodel
from zoo.wire.prototxt import Message, dumps


def _caffe(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`process` in a process that finds its modules where this one does; its log is about failures only."""
    path = os.pathsep.join(place or str(Path.cwd()) for place in sys.path)
    return subprocess.run(
        [sys.executable, "-P", "-m", "zoo.frameworks.caffe.process", *arguments],
        env=os.environ | {"PYTHONPATH": path, "GLOG_minloglevel": "2", "GLOG_logtostderr": "1"},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def _reason(failed: subprocess.CompletedProcess[str]) -> str:
    """The line of a failed process that says why: that of Caffe's check, else its last."""
    lines = [line.strip() for line in failed.stderr.splitlines() if line.strip()]
    checks = [line.partition("] ")[2] for line in lines if line.startswith("F") and "] " in line]
    return next(iter(checks or lines[-1:]), f"it ended with status {failed.returncode}")


def _version() -> str:
    if find_spec("caffe") is None:
        raise ModuleNotFoundError("No module named 'caffe'", name="caffe")
    found = _caffe()
    if found.returncode or not found.stdout.strip():
        raise ImportError(_reason(found))
    return found.stdout.strip().splitlines()[-1]


VERSION = f"Caffe {_version()}"


def forward(spec: ModelSpec, weights: Mapping[str, Array], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """See `zoo.registry.Framework.forward`; raises `UnsupportedError` for what Caffe's checks refuse."""
    lowered = for_caffe(spec)
    batches = {source.name: len(inputs[source.name]) for source in spec.inputs}
    layers = [NetLayer(input_layer(source.name, source.shape, batches[source.name])) for source in spec.inputs]
    layers += net_layers(lowered.spec, batches, in_place=False)
    net = Message().add("name", spec.name).add("layer", *(item.message for item in layers))
    blobs = [(item.message, layer_blobs(item.layer, weights) if item.layer else []) for item in layers]
    with TemporaryDirectory(prefix="zoo-caffe-") as name:
        folder = Path(name)
        (folder / "net.prototxt").write_text(dumps(net), encoding="utf-8")
        with (folder / "net.caffemodel").open("wb") as file:
            for piece in caffemodel(spec.name, blobs):
                file.write(piece)
        np.savez(folder / "inputs.npz", *(np.asarray(x, np.float32) for x in inputs.values()))
        names = {"inputs": list(inputs), "outputs": list(lowered.names.values())}
        (folder / "blobs.json").write_text(json.dumps(names), encoding="utf-8")
        done = _caffe(str(folder))
        if done.returncode:
            raise UnsupportedError(f"{spec.name}: {VERSION} cannot run this network: {_reason(done)}")
        with np.load(folder / "outputs.npz") as outputs:
            return dict(zip(lowered.names, outputs.values(), strict=True))
