"""The directory is the registry: a model, framework or converter is found by its file's name, imported on request."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from zoo.errors import MissingDependencyError, UnknownNameError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zoo.layers import ModelSpec

    FloatArray: TypeAlias = NDArray[np.floating[Any]]

# The import name of a package -> the extra of this project that installs it.
EXTRAS = {
    "torch": "pytorch",
    "tensorflow": "tf_slim",
    "tf_slim": "tf_slim",
    "tf2onnx": "tf_slim",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "pytorch",
    "cv2": "caffe",
    "google": "caffe",  # protobuf
    "google_crc32c": "tf_checkpoint",
    "h5py": "keras",
    "scipy": "mat",
    "PIL": "images",
    "pooch": "fetch",
    "requests": "fetch",
    "urllib3": "fetch",
    "yaml": "fetch",
    "pydantic": "fetch",
    "sklearn": "train",
    "tqdm": "train",
    "tensorboard": "train",
    "matplotlib": "train",
    "shtab": "completion",
}

# No extra can name this one: it asks for an onnx of 2019, and works with today's.
_BY_HAND = {"caffe2onnx": "--no-deps caffe2onnx==2.0.1"}


def names(package: str) -> list[str]:
    """The public modules in a package's folder, sorted; nothing is imported but the package itself."""
    paths = import_module(package).__path__
    return sorted(module.name for module in iter_modules(paths) if not module.name.startswith("_"))


def load(package: str, name: str, what: str) -> ModuleType:
    """Import ``package.name``; `what` is the word for it in messages.

    Raises:
        UnknownNameError: no such file; the nearest names are offered.
        MissingDependencyError: the file is there but the framework it needs is not installed.
    """
    if name not in names(package):
        raise UnknownNameError(what, name, names(package))
    return imported(f"{package}.{name}")


@contextmanager
def optional(extra: str | None = None) -> Generator[None]:
    """Around imports of what may not be installed.

    Args:
        extra: what brings all that is imported; left out, the extra of the first package that is missing.

    Raises:
        MissingDependencyError: it is not installed; says what brings it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise missing(error, extra) from error


def imported(module: str, extra: str | None = None) -> ModuleType:
    """Import a module by its name; `extra` and errors as for `optional`."""
    with optional(extra):
        return import_module(module)


def missing(error: ModuleNotFoundError, extra: str | None = None) -> MissingDependencyError | ModuleNotFoundError:
    """What to tell of a module that was not found: what to install, if it is a package this project can do without."""
    package = (error.name or "").partition(".")[0]
    if package in EXTRAS:
        return MissingDependencyError(package, f"'alexnet-zoo[{extra or EXTRAS[package]}]'")
    return MissingDependencyError(package, _BY_HAND[package]) if package in _BY_HAND else error


def models() -> list[str]:
    """The names of the family members."""
    return names("zoo.specs")


def model(name: str) -> ModelSpec:
    """The spec of a family member."""
    return cast("ModelSpec", cast(Any, load("zoo.specs", name, "model")).SPEC)


class Framework(Protocol):
    """What every folder of ``zoo/frameworks`` offers."""

    def generate(self, spec: ModelSpec, directory: Path) -> list[Path]:
        """Write standalone source of the network into `directory`; returns the files written."""
        ...

    def forward(
        self, spec: ModelSpec, weights: Mapping[str, FloatArray], inputs: Mapping[str, FloatArray]
    ) -> dict[str, FloatArray]:
        """Run the native model at inference, in float32, on the CPU.

        Args:
            spec: the network.
            weights: every canonical parameter, float32.
            inputs: input name -> batch in canonical layout, N x shape.

        Returns:
            Every layer's activation under its name, canonical layout (N, C, H, W or N, C), taken right after the layer.
        """
        ...


def framework(name: str) -> Framework:
    """The adapter of a framework."""
    return cast(Framework, load("zoo.frameworks", name, "framework"))


def frameworks() -> list[str]:
    """The names of the frameworks networks are generated for."""
    return names("zoo.frameworks")
