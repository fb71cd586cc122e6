"""The file of an untrained network."""

from __future__ import annotations

from dataclasses import replace
from math import prod, sqrt
from pathlib import Path

import numpy as np

from zoo.arrays import Array
from zoo.frameworks.onnx.network import graph, write
from zoo.layers import ModelSpec
from zoo.shapes import parameter_table

# Drawn with this seed, so that a generated file is the same every time.
_SEED = 0


def generate(spec: ModelSpec, directory: Path) -> list[Path]:
    """Write ``<spec.file_name>.onnx``, ready to run or to be given weights.

    ONNX has no untrained form, so the weights are He-initialised (K. He et al., 2015, arXiv:1502.01852) with a fixed
    seed; the entry ``weights`` of the file's metadata says so.
    """
    path = directory / f"{spec.file_name}.onnx"
    model = graph(spec)
    note = {"weights": f"untrained: He-initialised, seed {_SEED}"}
    write(path, replace(model, metadata={**model.metadata, **note}), _initial_weights(spec))
    return [path]


def _initial_weights(spec: ModelSpec) -> dict[str, Array]:
    generator, weights = np.random.default_rng(_SEED), dict[str, Array]()
    for name, row in parameter_table(spec).items():
        if row.start == "kernel":
            weights[name] = generator.standard_normal(row.shape, np.float32)
            weights[name] *= np.float32(sqrt(2 / prod(row.shape[1:])))
        else:
            weights[name] = np.full(row.shape, 0.0 if row.start == "offset" else row.start, np.float32)
    return weights
