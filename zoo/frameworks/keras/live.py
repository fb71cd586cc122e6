"""Networks run by Keras, on each of its backends in a process of its own."""

from __future__ import annotations

import atexit
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo import registry
from zoo.errors import UnsupportedError
from zoo.frameworks.keras.naming import Variable, variables
from zoo.frameworks.keras.source import source_text
from zoo.frameworks.keras.table import table
from zoo.layers import ModelSpec, Shape
from zoo.wire.layout import rearrange

# So many processes are held ready at once; each takes hundreds of megabytes.
KEPT = 1

_PROCESS = Path(__file__).with_name("process.py")


def forward(
    spec: ModelSpec,
    weights: Mapping[str, NDArray[Any]],
    inputs: Mapping[str, NDArray[Any]],
    backend: str | None = None,
    data_format: str = "channels_last",
) -> dict[str, NDArray[Any]]:
    """Run the generated source by Keras on the CPU; see `zoo.registry.Framework.forward`.

    Args:
        spec, weights, inputs: as there.
        backend: one of those that the face states; the first that is installed, if left out.
        data_format: how images lie.

    Raises:
        MissingDependencyError: Keras or the backend is not installed.
        UnsupportedError: Keras cannot have one of the layers, or does not run the network.
    """
    made, last = table(spec), data_format == "channels_last"
    wanted = {step.name: step.layer for step in made.steps if step.layer}
    job = {
        "source": source_text(spec),
        "data_format": data_format,
        "variables": _values(variables(spec), weights),
        "wanted": list(wanted),
        "inputs": {
            name: np.ascontiguousarray(to_native(np.asarray(inputs[source.name], np.float32), source.shape, last))
            for name, source in zip(made.inputs, spec.inputs, strict=True)
        },
    }
    found = _process(backend or _first()).ask(job, spec.name)
    return {layer: _canonical(found[name], made.shapes[name], last) for name, layer in wanted.items()}


def to_native(array: NDArray[Any], shape: Shape, last: bool) -> NDArray[Any]:
    """A batch of activations of canonical `shape`, images as N x H x W x C where channels are last."""
    return array.transpose(0, 2, 3, 1) if len(shape) == 3 and last else array


def _canonical(array: NDArray[Any], shape: Shape, last: bool) -> NDArray[Any]:
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2)) if len(shape) == 3 and last else array


def _values(known: list[Variable], weights: Mapping[str, NDArray[Any]]) -> dict[str, list[NDArray[Any]]]:
    values = dict[str, list[NDArray[Any]]]()
    for one in known:
        array = weights[one.parameter]
        array = rearrange(array, one.axes, one.layout, one.sizes) if one.axes else array
        values.setdefault(one.layer, []).append(array)
    return values


def _first() -> str:
    backends = [backend for framework, backend in registry.ways().values() if framework == "keras" and backend]
    return next((backend for backend in backends if find_spec(backend)), backends[0])


class _Process:
    """Keras on one backend, until it is closed; it is closed with this process, too."""

    def __init__(self, backend: str) -> None:
        for package in ("keras", backend):
            if find_spec(package) is None:
                raise registry.missing(ModuleNotFoundError(f"No module named {package!r}", name=package))
        self.backend = backend
        path = os.pathsep.join(place or str(Path.cwd()) for place in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_PROCESS), backend],
            env=os.environ | {"PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def ask(self, job: Mapping[str, Any], network: str) -> dict[str, NDArray[Any]]:
        """What the job gives."""
        assert self._process.stdin and self._process.stdout
        try:
            pickle.dump(job, self._process.stdin, protocol=5)
            self._process.stdin.flush()
            well, found = pickle.load(self._process.stdout)
        except (EOFError, OSError) as error:
            close()
            told = f"its process ended with status {self._process.returncode}"
            raise UnsupportedError(f"{network}: Keras on {self.backend} does not run: {told}") from error
        if not well:
            raise UnsupportedError(f"{network}: Keras on {self.backend} cannot run this network: {found}")
        return found

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()
        self._process.kill()
        self._process.wait()


_running: dict[str, _Process] = {}


def _process(backend: str) -> _Process:
    """The process of a backend, held ready for the next network; beyond `KEPT` of them, the oldest is closed."""
    if backend not in _running:
        while len(_running) >= KEPT:
            _running.pop(next(iter(_running))).close()
        _running[backend] = _Process(backend)
    return _running[backend]


@atexit.register
def close() -> None:
    """End the processes that are held ready."""
    while _running:
        _running.popitem()[1].close()
