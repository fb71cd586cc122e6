"""The directory is the registry: a model, framework or converter is found by its file's name, imported on request."""

from __future__ import annotations

import ast
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast, runtime_checkable

from zoo.errors import MissingDependencyError, UnknownNameError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zoo.layers import ModelSpec
    from zoo.recipe import Recipe

    FloatArray: TypeAlias = NDArray[np.floating[Any]]
    Forward: TypeAlias = Callable[
        [ModelSpec, Mapping[str, FloatArray], Mapping[str, FloatArray]], dict[str, FloatArray]
    ]

# The import name of a package that belongs to no framework -> the extra of this project that installs it.
_EXTRAS = {
    "google_crc32c": "tf-checkpoint",
    "jax": "jax",
    "scipy": "mat",
    "PIL": "images",
    "pooch": "fetch",
    "requests": "fetch",
    "urllib3": "fetch",
    "yaml": "fetch",
    "pydantic": "fetch",
    "huggingface_hub": "hub",
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


@cache
def facts(package: str, name: str) -> Mapping[str, Any]:
    """What a module states of itself in constants, read from its source: what it needs may not be installed.

    Raises:
        UnknownNameError: no such module.
    """
    if name not in names(package):
        raise UnknownNameError("module", name, names(package))
    places = [Path(folder) / name for folder in import_module(package).__path__]
    files = [file for place in places for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file()]
    tree = ast.parse(files[0].read_text(encoding="utf-8"))
    return {
        target.id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant | ast.Tuple)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id.isupper() and not target.id.startswith("_")
    }


def load_module(package: str, name: str, what: str) -> ModuleType:
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
    brought_by = extras()
    if package in brought_by:
        return MissingDependencyError(package, wanted(extra or brought_by[package]))
    return MissingDependencyError(package, _BY_HAND[package]) if package in _BY_HAND else error


def wanted(extra: str) -> str:
    """What pip is asked for an extra, in the one spelling that it knows before its release 23.3."""
    return f"'alexnet-zoo[{extra.replace('_', '-')}]'"


def extras() -> dict[str, str]:
    """The import name of a package -> the extra of this project that installs it; a framework's is called as it is."""
    deployed = {package: _extra(name) for name in runtimes() for package in _runtime(name).get("PACKAGES", ())}
    named = {package: name for name in frameworks() for package in _stated(name).get("PACKAGES", ())}
    return deployed | named | _EXTRAS


def distribution(framework: str) -> str:
    """The distribution whose version says whether a framework is there."""
    return _stated(framework).get("DISTRIBUTION", framework)


def _stated(framework: str) -> Mapping[str, Any]:
    return facts("zoo.frameworks", framework)


class Member(Protocol):
    """What every file of ``zoo/specs`` offers.

    It may state besides ``RECIPE``, how the network is trained, and ``REMARK``, what to tell readers of it.
    """

    SPEC: ModelSpec


def models() -> list[str]:
    """The names of the family members."""
    return names("zoo.specs")


def model(name: str) -> ModelSpec:
    """The spec of a family member."""
    return cast(Member, load_module("zoo.specs", name, "model")).SPEC


def recipe(spec: ModelSpec) -> Recipe:
    """How a network is trained: a family member as its own file says, anything else by `zoo.recipes.DEFAULT`.

    A member may have another number of classes or other widths, but the layers are its own: whose network merely has a
    member's name is no member.
    """
    # Imported here: what starts the command line must not wait for networks and recipes.
    default, shapes = imported("zoo.recipes").DEFAULT, imported("zoo.shapes").parameter_shapes
    if spec.name not in models():
        return default
    member = cast(Member, load_module("zoo.specs", spec.name, "model"))
    same = list(shapes(member.SPEC)) == list(shapes(spec))
    return cast("Recipe", getattr(member, "RECIPE", default)) if same else default


def remark(name: str) -> str:
    """What a family member's file remarks on it, for readers; most have nothing to say."""
    return cast(str, getattr(load_module("zoo.specs", name, "model"), "REMARK", ""))


class Framework(Protocol):
    """What every folder of ``zoo/frameworks`` offers.

    Its face may state ``DISTRIBUTION``, the package whose version says whether the framework is there, ``PACKAGES``,
    the import names of what its extra brings, and ``BACKENDS``, what it runs on: then ``forward`` takes a ``backend``.
    """

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


@runtime_checkable
class RunsFiles(Protocol):
    """What a framework may offer besides: a network run from the very files that a user holds."""

    def forward_file(
        self, description: Path, model: Path, spec: ModelSpec, inputs: Mapping[str, FloatArray]
    ) -> dict[str, FloatArray]:
        """`Framework.forward` of a description and its weights, as they are; `spec` is what it was read as."""
        ...


@runtime_checkable
class Builds(Protocol):
    """What a framework offers besides whose networks are objects, not files alone."""

    def build(self, spec: ModelSpec, weights: Mapping[str, FloatArray] | None = None) -> Any:
        """A live network with these weights, or with its own initial values; see `zoo.api.build`."""
        ...


def framework(name: str) -> Framework:
    """The adapter of a framework."""
    return cast(Framework, load_module("zoo.frameworks", name, "framework"))


def ways() -> dict[str, tuple[str, str | None]]:
    """Every way to run a network natively, by name -> its framework, and the backend where it has several."""
    found = dict[str, tuple[str, str | None]]()
    for name in frameworks():
        backends = _stated(name).get("BACKENDS", ())
        found |= {f"{name}-{backend}": (name, backend) for backend in backends} or {name: (name, None)}
    return found


def forward(way: str) -> Forward:
    """What runs a network one of the `ways`: its framework's `Framework.forward`, on its backend."""
    name, backend = ways()[way]
    run = framework(name).forward
    return cast("Forward", partial(cast(Any, run), backend=backend)) if backend else run


def frameworks() -> list[str]:
    """The names of the frameworks networks are generated for."""
    return names("zoo.frameworks")


@runtime_checkable
class RunsOnnx(Protocol):
    """What a file of ``zoo/runtimes`` offers whose runtime reads ONNX.

    It states ``DISTRIBUTION`` and ``PACKAGES``, as a framework does, and ``EXTRA`` where what installs it has another
    name than its own.
    """

    def open_onnx(
        self, model: bytes, weights: Mapping[str, FloatArray]
    ) -> Callable[[Mapping[str, FloatArray]], dict[str, FloatArray]]:
        """A graph made ready for as many batches as are wanted, in float32, on the CPU.

        Args:
            model: the graph; initializers whose data it leaves out are said to be external.
            weights: the data left out, initializer -> array.

        Returns:
            Input name -> array, of one batch, to output name -> array, in the graph's order.

        Raises:
            FileFormatError: the runtime refuses the graph; what is returned, where it refuses the inputs.
        """
        ...


@runtime_checkable
class RunsTflite(Protocol):
    """What a file of ``zoo/runtimes`` offers whose runtime reads ``.tflite``; it states the same."""

    def run_tflite(self, model: bytes, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """The outputs of a model's only signature, in float32, on the CPU; inputs and outputs go by its names.

        Raises:
            FileFormatError: the runtime refuses the model or the inputs.
        """
        ...


def runtime(name: str) -> RunsOnnx | RunsTflite:
    """The adapter of a runtime that networks are deployed on.

    Raises:
        UnknownNameError: there is none of that name; the nearest are offered.
        MissingDependencyError: it is not installed; says which extra brings it.
    """
    if name not in runtimes():
        raise UnknownNameError("runtime", name, runtimes())
    return cast("RunsOnnx | RunsTflite", imported(f"zoo.runtimes.{name}", _extra(name)))


def runtimes() -> list[str]:
    """The names of the runtimes that a network can be proved in."""
    return names("zoo.runtimes")


def runtime_distribution(name: str) -> str:
    """The distribution whose version says whether a runtime is there."""
    return _runtime(name)["DISTRIBUTION"]


def _extra(runtime: str) -> str:
    return _runtime(runtime).get("EXTRA", runtime)


def _runtime(name: str) -> Mapping[str, Any]:
    return facts("zoo.runtimes", name)
