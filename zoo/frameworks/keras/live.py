"""Networks run by Keras, on each of its backends in a process of its own."""

from __future__ import annotations

import atexit
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zoo import registry
from zoo.channels_last import to_canonical, to_native
from zoo.errors import UnsupportedError, one_line
from zoo.frameworks.keras.naming import Variable, stored, variables
from zoo.frameworks.keras.source import source_text
from zoo.frameworks.keras.table import table
from zoo.layers import ModelSpec
from zoo.shapes import activation_shapes
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
    job = _built(spec, weights, data_format) | {
        "wanted": list(wanted),
        "inputs": native_inputs(spec, inputs, data_format),
    }
    found = _process(backend or _first()).ask("run", job, spec.name)
    return {
        layer: to_canonical(found[name], made.shapes[name]) if last else found[name] for name, layer in wanted.items()
    }


def export(
    spec: ModelSpec,
    weights: Mapping[str, NDArray[Any]],
    target: Path,
    outputs: Sequence[str],
    *,
    form: Literal["onnx", "tf_saved_model", "litert"],
    backend: str,
    data_format: str = "channels_last",
    **options: Any,
) -> None:
    """Write the network by Keras' own exporter, `keras.Model.export`.

    Inputs are called as in the generated source. Outputs are called as their layers, but in ONNX, where Keras leaves
    that to its backend: there they come in their order.

    Args:
        spec, weights, backend, data_format: as for `forward`.
        target: what is written.
        outputs: the layers put out.
        form: the ``format`` of `keras.Model.export`.
        options: its others.

    Raises:
        MissingDependencyError: Keras or the backend is not installed.
        UnsupportedError: Keras cannot have one of the layers, or its exporter does not write it.
    """
    made = {step.layer: step.name for step in table(spec).steps if step.layer}
    job = _built(spec, weights, data_format) | {"outputs": {name: made[name] for name in outputs}}
    job |= {"target": str(target.absolute()), "form": form, "options": options}
    _process(backend).ask("export", job, spec.name)


def run_saved_model(folder: Path, spec: ModelSpec, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The outputs of a SavedModel that `export` wrote, run by TensorFlow: by name, in canonical layout."""
    shapes, job = activation_shapes(spec), {"folder": str(folder.absolute()), "inputs": native_inputs(spec, inputs)}
    found = _process("tensorflow").ask("serve", job, spec.name)
    return {name: to_canonical(array, shapes[name]) for name, array in found.items()}


def _built(spec: ModelSpec, weights: Mapping[str, NDArray[Any]], data_format: str) -> dict[str, Any]:
    """What a job says of the model."""
    values = _values(stored(variables(spec)), weights)
    return {"source": source_text(spec), "data_format": data_format, "variables": values}


def native_inputs(
    spec: ModelSpec, inputs: Mapping[str, NDArray[Any]], data_format: str = "channels_last"
) -> dict[str, NDArray[Any]]:
    """Keras' name of each input -> its canonical batch, as Keras takes it."""
    fed, last = dict[str, NDArray[Any]](), data_format == "channels_last"
    for name, source in zip(table(spec).inputs, spec.inputs, strict=True):
        array = np.asarray(inputs[source.name], np.float32)
        fed[name] = np.ascontiguousarray(to_native(array, source.shape) if last else array)
    return fed


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

    def ask(self, what: str, job: Mapping[str, Any], network: str) -> Any:
        """What the job gives; `what` is a verb of `process`."""
        assert self._process.stdin and self._process.stdout
        try:
            pickle.dump((what, job), self._process.stdin, protocol=5)
            self._process.stdin.flush()
            well, found = pickle.load(self._process.stdout)
        except BaseException as error:
            close()  # or else an answer that is still to come would be taken for the next job's
            if not isinstance(error, EOFError | OSError):
                raise
            told = f"its process ended with status {self._process.returncode}"
            raise UnsupportedError(f"{network}: Keras on {self.backend} does not run: {told}") from error
        if not well:
            raise UnsupportedError(f"{network}: Keras on {self.backend} cannot {what} this network: {one_line(found)}")
        return found

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                with suppress(BrokenPipeError):  # what was not sent before it ended
                    stream.close()


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
