"""The file of an untrained network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from zoo.frameworks.onnx.network import graph, write
from zoo.initial import initial_weights
from zoo.layers import ModelSpec
from zoo.registry import recipe

# Drawn with this seed, so that a generated file is the same every time.
_SEED = 0


def generate(spec: ModelSpec, directory: Path) -> list[Path]:
    """Write ``<spec.file_name>.onnx``, ready to run or to be given weights.

    ONNX has no untrained form, so the weights are the initial values of the network's recipe, drawn with a fixed seed;
    the entry ``weights`` of the file's metadata says so.
    """
    path = directory / f"{spec.file_name}.onnx"
    model, how = graph(spec), recipe(spec)
    note = {"weights": f"untrained: initial values of the recipe {how.name!r}, seed {_SEED}"}
    write(path, replace(model, metadata={**model.metadata, **note}), initial_weights(spec, how, _SEED))
    return [path]
