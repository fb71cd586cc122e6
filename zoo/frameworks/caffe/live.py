"""Networks run in the Caffe runtime at hand, which is imported when something is run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from zoo import registry
from zoo.arrays import Array
from zoo.errors import UnsupportedError
from zoo.layers import ModelSpec

_LOG = logging.getLogger(__name__)


class Runtime(Protocol):
    """What `pycaffe` and `opencv` offer."""

    @property
    def VERSION(self) -> str:
        """Which it is, and of which version."""
        ...

    def forward(self, spec: ModelSpec, weights: Mapping[str, Array], inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See `zoo.registry.Framework.forward`."""
        ...


@runtime_checkable
class FileRuntime(Protocol):
    """What `opencv` offers beside."""

    def forward_file(
        self, prototxt: Path, model: Path, spec: ModelSpec, inputs: Mapping[str, Array]
    ) -> dict[str, Array]:
        """See `forward_file`."""
        ...


def forward(spec: ModelSpec, weights: Mapping[str, Array], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run the network in the Caffe runtime at hand (see `runtime`); see `zoo.registry.Framework`.

    Raises:
        UnsupportedError: the runtime cannot run this network; says why.
        MissingDependencyError: there is no runtime.
    """
    return _runtime().forward(spec, weights, inputs)


def forward_file(description: Path, model: Path, spec: ModelSpec, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run somebody's own prototxt and caffemodel as they are: layer -> activation, canonical layout.

    Args:
        description, model: the prototxt and the caffemodel.
        spec: the network that the prototxt was read as.
        inputs: input name -> batch.

    Raises:
        UnsupportedError: the runtime cannot run them, or would compute a layer otherwise than Caffe does.
        MissingDependencyError: there is no runtime.
    """
    found = _runtime()
    if not isinstance(found, FileRuntime):
        raise UnsupportedError(f"{found.VERSION} works in place, and so shows no layer of it")
    return found.forward_file(description, model, spec, inputs)


def runtime() -> str:
    """Which Caffe runtime `forward` uses, with its version: Caffe itself where it imports, else OpenCV's dnn."""
    return _runtime().VERSION


def _runtime() -> Runtime:
    try:
        import zoo.frameworks.caffe.pycaffe as pycaffe

        return pycaffe
    except ImportError as error:
        if not isinstance(error, ModuleNotFoundError) or error.name != "caffe":
            _LOG.warning("Caffe is installed but does not import (%s); OpenCV is used", error)
        with registry.optional():
            from zoo.frameworks.caffe import opencv
        return opencv
