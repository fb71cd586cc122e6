"""Networks run in the Caffe runtime at hand, which is imported when something is run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib import import_module
from typing import Protocol, cast

from zoo import registry
from zoo.arrays import Array
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


def forward(spec: ModelSpec, weights: Mapping[str, Array], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run the network in the Caffe runtime at hand (see `runtime`); see `zoo.registry.Framework`.

    Raises:
        UnsupportedError: the runtime cannot run this network; says why.
        MissingDependencyError: there is no runtime.
    """
    return _runtime().forward(spec, weights, inputs)


def runtime() -> str:
    """Which Caffe runtime `forward` uses, with its version: Caffe itself where it imports, else OpenCV's dnn."""
    return _runtime().VERSION


def _runtime() -> Runtime:
    try:
        return cast(Runtime, import_module("zoo.frameworks.caffe.pycaffe"))
    except ImportError as error:
        if not isinstance(error, ModuleNotFoundError) or error.name != "caffe":
            _LOG.warning("Caffe is installed but does not import (%s); OpenCV is used", error)
        with registry.optional():
            from zoo.frameworks.caffe import opencv
        return opencv
