"""What `import zoo` offers beside the registry: networks in a framework, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from zoo import reference, registry
from zoo.errors import UnsupportedError
from zoo.layers import ModelSpec
from zoo.shapes import check_cost

if TYPE_CHECKING:
    from zoo.frameworks.pytorch import Network
    from zoo.registry import FloatArray


def framework_names() -> list[str]:
    """The frameworks that networks are generated for, by name."""
    return registry.frameworks()


@overload
def build(
    model: ModelSpec | str, framework: Literal["pytorch"] = "pytorch", weights: Mapping[str, FloatArray] | None = None
) -> Network: ...
@overload
def build(
    model: ModelSpec | str, framework: Literal["tf_slim"], weights: None = None
) -> Callable[..., tuple[Any, dict[str, Any]]]: ...
def build(
    model: ModelSpec | str, framework: str = "pytorch", weights: Mapping[str, FloatArray] | None = None
) -> Network | Callable[..., tuple[Any, dict[str, Any]]]:
    """A live network in a framework.

    Args:
        model: a spec, or the name of a family member.
        framework: ``pytorch`` or ``tf_slim``.
        weights: every canonical parameter, float32 (the ``tensors`` of `converters.Weights`), copied; left out, the
            framework's own initial values stay. PyTorch alone: slim's variables live in a session.

    Returns:
        pytorch: a `torch.nn.Module` in training mode, N x C x H x W to the spec's outputs.
        tf_slim: a function of a tensor of N x H x W x C that adds the network to the graph and returns the logits and
        every activation by name, as slim's own networks do.

    Raises:
        UnknownNameError: no such model or framework.
        UnsupportedError: a framework whose networks are files (`generate` writes them), or `weights` for slim.
        MissingDependencyError: the framework is not installed.
        WeightsError: `weights` do not fit the network.
    """
    spec, adapter = _spec(model), registry.framework(framework)
    if not isinstance(adapter, registry.Builds):
        raise UnsupportedError(f"{framework} has no live networks, only files: zoo.generate writes them")
    return adapter.build(spec, weights)


def generate(model: ModelSpec | str, framework: str, directory: str | PathLike[str]) -> list[Path]:
    """Write a network as standalone source or files of a framework.

    Args:
        model: a spec, or the name of a family member.
        framework: one of `framework_names`.
        directory: where to; made if it is not there. Files of the same names are replaced.

    Returns:
        The files written; the first is the network.

    Raises:
        UnknownNameError: no such model or framework.
        UnsupportedError: the framework has no equal for a layer.
        MissingDependencyError: a package it needs is not installed.
    """
    spec, adapter = _spec(model), registry.framework(framework)
    check_cost(spec)
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    return adapter.generate(spec, folder)


def forward(
    model: ModelSpec | str,
    weights: Mapping[str, FloatArray],
    inputs: Mapping[str, FloatArray],
    framework: str = "reference",
) -> dict[str, FloatArray]:
    """Run a network at inference, and see every activation.

    Args:
        model: a spec, or the name of a family member.
        weights: every canonical parameter, float32 (the ``tensors`` of `converters.Weights`).
        inputs: input name -> batch, N x the input's shape.
        framework: one of `framework_names`, in float32 on the CPU, or ``reference``, the float64 definition.

    Returns:
        Every layer's activation under its name: N x C x H x W or N x C, taken right after the layer.

    Raises:
        UnknownNameError: no such model or framework.
        UnsupportedError: the framework cannot run this network.
        MissingDependencyError: the framework is not installed.
    """
    spec, is_reference = _spec(model), framework == "reference"
    items = max(map(len, inputs.values()), default=0)
    check_cost(spec, items=items, width=8 if is_reference else 4, lays_out=is_reference)
    if is_reference:
        return {**reference.forward(spec, weights, inputs)}
    return registry.framework(framework).forward(spec, weights, inputs)


def _spec(model: ModelSpec | str) -> ModelSpec:
    return registry.model(model) if isinstance(model, str) else model
