"""Modules, functions and mappings of somebody's own: what they show, as arrays under names."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, TypeAlias, cast

import numpy as np

from converters.faults.case import Own
from converters.faults.catalogue import own_layers
from converters.formats import weights_format
from converters.metric import one_run
from converters.tensormap import to_canonical
from converters.weights import Array
from zoo.errors import WeightsError
from zoo.layers import ModelSpec

# The name of the activation of a function that returns one array; several are numbered.
OUTPUT = "output"

Inputs: TypeAlias = "Mapping[str, Array] | Array | None"


def shown(source: Any, inputs: Inputs) -> dict[str, Array]:
    """Activations: as given, or as a module or function gives them for the inputs.

    Raises:
        TypeError: it is none of these, or gives something else than numbers.
    """
    if isinstance(source, Mapping):
        return {str(name): as_array(value, str(name)) for name, value in cast("Mapping[Any, Any]", source).items()}
    if not callable(source):
        raise TypeError(
            f"cannot compare {type(source).__name__}: give a path, Weights, a mapping, a module or a function"
        )
    if inputs is None:
        raise TypeError("a module or function needs inputs to be run on")
    result = _called(source, inputs)
    if isinstance(result, Mapping):
        return shown(result, None)
    given = cast("tuple[Any, ...]", result) if isinstance(result, tuple) else (result,)
    return {name: as_array(value, name) for name, value in zip(nameless(len(given)), given, strict=True)}


def unsteady(source: Any, inputs: Inputs, found: Mapping[str, Array]) -> str | None:
    """Why a second run tells another story than the first, if it does: chance, memory, or what a batch has in common.

    A module is run on the last sample alone; a function, which may know one batch only, on all of them again.
    """
    if isinstance(source, Mapping):
        return None
    alone = _is_module(source)
    arrays = inputs if isinstance(inputs, Mapping) else {"": inputs}
    fed = {name: array[-1:] if alone else array for name, array in arrays.items() if array is not None}
    how = "for a batch of 1" if alone else "a second time"
    try:
        again = shown(source, fed if isinstance(inputs, Mapping) else fed[""])
    except Exception as trouble:  # noqa: BLE001 - whatever it raises, it did not the first time
        return f"cannot be run {how} ({type(trouble).__name__})"
    same = again.keys() == found.keys() and all(one_run(found[name][-len(y) :], y) for name, y in again.items())
    return None if same else f"is another one when it is run {how}"


def nameless(count: int) -> list[str]:
    """What the outputs of a function are called that gives them no names: by their order."""
    return [OUTPUT] if count == 1 else [f"{OUTPUT} {i}" for i in range(count)]


def as_array(value: Any, name: str) -> Array:
    """A copy of its own, also of a PyTorch tensor that asks for gradients, lies on another device, or is bfloat16.

    Raises:
        TypeError: it holds no real numbers, or none at all.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    try:
        array = np.array(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: no array: {type(value).__name__} ({error})") from error
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name}: holds {array.dtype}, expected real numbers")
    if not array.size:
        raise TypeError(f"{name}: is empty ({' x '.join(map(str, array.shape))}), expected a batch of one or more")
    return np.atleast_1d(array)


def parameters_of_module(source: Any, network: ModelSpec) -> tuple[dict[str, Own], str]:
    """A module's layers and parameters under a network's names, where they can be matched; and what to say of it."""
    if not _is_module(source):
        return {}, ""
    form = weights_format("pytorch")
    state = {name: value.detach().cpu() for name, value in source.state_dict().items() if hasattr(value, "detach")}
    tensors = {
        name: (value.float() if value.is_floating_point() else value).numpy()
        for name, value in state.items()
        if not form.ignored(name)
    }
    table = form.entries(network, tensors)
    used = {entry.native: tensors[entry.native] for entry in table if entry.native in tensors}
    try:
        weights = to_canonical(network, table, used, "its state_dict")
    except WeightsError as misfit:
        return {}, f"its weights were not compared one by one: {misfit}"
    by_order = any(entry.by_order for entry in table)
    return own_layers(weights), "its weights were matched by order and shape" if by_order else ""


def _is_module(source: Any) -> bool:
    torch: Any = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.nn.Module)


def _called(source: Any, inputs: Mapping[str, Array] | Array) -> Any:
    """Every call gets inputs of its own: what works in place changes nobody else's."""
    if not _is_module(source):
        return source(
            {name: _copied(x) for name, x in inputs.items()} if isinstance(inputs, Mapping) else _copied(inputs)
        )
    torch, training = sys.modules["torch"], source.training
    given = inputs if isinstance(inputs, Mapping) else {"inputs": inputs}
    arrays = [as_array(array, name).astype(np.float32) for name, array in given.items()]
    source.eval()
    try:
        with torch.no_grad():
            return source(*map(torch.as_tensor, arrays))
    finally:
        source.train(training)


def _copied(value: Any) -> Any:
    return value.detach().clone() if hasattr(value, "detach") else np.array(value)
