"""Whole networks as people hold them: through every framework, and into Caffe's own files and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from converters.convert import load, save
from converters.weights import Weights
from tests.kinds import assert_same, probe
from tests.networks import NETWORKS
from zoo import reference, registry
from zoo.frameworks.caffe import deploy_text, parse_prototxt
from zoo.layers import ModelSpec


def spec_of(name: str) -> ModelSpec:
    return parse_prototxt(NETWORKS[name], Path(f"{name}.prototxt")).spec


def weights_of(spec: ModelSpec) -> Weights:
    """Kernels of He's deviation, so that no softmax is saturated and no detection hangs on rounding."""
    tensors, _ = probe(spec)
    for name, tensor in tensors.items():
        if tensor.ndim > 1:
            tensors[name] = (tensor * np.sqrt(2 / np.prod(tensor.shape[1:]))).astype(np.float32)
    return Weights(spec=spec, tensors=tensors, source=spec.name)


def inputs_of(spec: ModelSpec) -> dict[str, np.ndarray]:
    inputs = probe(spec)[1]
    if "rois" in inputs:
        inputs["rois"] = np.array([[0, 2, 3, 30, 25], [1, 0, 0, 8, 9], [1, 12, 4, 38, 31]], np.float32)
    return inputs


@pytest.mark.parametrize("name", NETWORKS)
def test_every_framework_computes_the_network(name: str) -> None:
    spec = spec_of(name)
    weights, inputs = weights_of(spec), inputs_of(spec)
    expected = reference.forward(spec, weights.tensors, inputs)
    for framework in ("pytorch", "tf_slim", "onnx"):
        found = registry.framework(framework).forward(spec, weights.tensors, inputs)
        outputs = {output: found[output] for output in spec.outputs}
        assert_same(outputs, {output: expected[output] for output in spec.outputs})


@pytest.mark.parametrize("name", NETWORKS)
def test_caffes_files_give_back_the_network_and_its_weights(name: str, tmp_path: Path) -> None:
    weights = weights_of(spec_of(name))
    save(weights, tmp_path / "w.caffemodel")
    again = load(tmp_path / "w.caffemodel")
    assert again.spec.layers == weights.spec.layers
    written = parse_prototxt(deploy_text(weights.spec, described=False), Path(f"{name}.prototxt")).spec
    inputs = inputs_of(weights.spec)
    one, other = (reference.forward(spec, weights.tensors, inputs) for spec in (weights.spec, written))
    for output in weights.spec.outputs:
        np.testing.assert_array_equal(one[output], other[output])
    for tensor, numbers in weights.tensors.items():
        assert again.tensors[tensor].tobytes() == numbers.tobytes()
