"""Networks in the runtimes that they are deployed on: an ONNX file as it is, any other as it is written for them."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

from converters.parity.file_subjects import FileSubject, graph_feed, layers_alone
from converters.parity.subjects import Feed, Ran, Subject
from converters.parity.tflite_subjects import TfliteForward
from converters.weights import Array, Weights
from zoo import registry
from zoo.errors import UnknownNameError
from zoo.frameworks import onnx
from zoo.wire.folders import scratch_folder


def runtime_subjects(names: Sequence[str], weights: Weights, files: Sequence[FileSubject] = ()) -> list[Subject]:
    """What runs in each runtime: every ONNX file of `files`; where there is none, the network as we write it.

    Args:
        names: of the runtimes.
        weights: the right network and its parameters.
        files: what is judged beside it.
    """
    graphs = [file for file in files if file.format == "onnx"]
    return [
        subject
        for name in names
        for subject in ([file.subject(weights, name) for file in graphs] or [_written(name, weights)])
    ]


def check_runtimes(names: Sequence[str]) -> None:
    """Raises `UnknownNameError`, with the nearest names, where there is no such runtime."""
    for name in names:
        if name not in registry.runtimes():
            raise UnknownNameError("runtime", name, registry.runtimes())


def _written(name: str, weights: Weights) -> Subject:
    @contextmanager
    def opened() -> Generator[Feed]:
        runtime = registry.runtime(name)
        if isinstance(runtime, registry.RunsTflite):
            forward = TfliteForward(runtime)
            yield tflite_feed(forward, weights, forward.deployed(weights))
            return
        with scratch_folder() as folder:  # the graph is mapped for as long as it is asked
            path = folder / "model.onnx"
            onnx.write(path, onnx.graph(weights.spec), weights.tensors)
            yield graph_feed(path, weights.spec, runtime=runtime)

    return Subject(name=name, open=opened)


def tflite_feed(forward: TfliteForward, weights: Weights, deployed: bytes) -> Feed:
    """A ``.tflite`` whose outputs are judged as they are, and its layers by a copy that shows them."""
    spec = weights.spec
    alone = layers_alone(forward, spec, weights.tensors, spec, {layer.name: layer.name for layer in spec.layers})

    def feed(inputs: Mapping[str, Array], _: Mapping[str, Array]) -> Ran:
        shown = forward(spec, weights.tensors, inputs)
        return Ran(activations=shown | forward.run(deployed, spec, inputs), alone=alone)

    return feed
