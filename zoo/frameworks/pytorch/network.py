"""A spec as a live module, and its weights."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from zoo.errors import WeightsError, ZooError
from zoo.frameworks.pytorch.initial import starts
from zoo.frameworks.pytorch.table import network_calls
from zoo.layers import BatchNorm, ModelSpec
from zoo.shapes import parameter_shapes
from zoo.torch_names import attribute_names, parameter_names, tied_keys


class Network(nn.Module):
    """A spec as a live module: a submodule a layer, under the name `attribute_names` gives it.

    Its initial values are those of the network's recipe (`zoo.registry.recipe`), drawn by torch's own generator.
    Ordinary in every other way: ``train()`` and ``eval()``, ``state_dict()`` and ``to()`` work, and nothing is done in
    place. A fresh one is in training mode, as every module of torch.

    Args:
        spec: the network.
        outputs: the activations it answers with; the spec's outputs if left out.
    """

    def __init__(self, spec: ModelSpec, outputs: Sequence[str] | None = None) -> None:
        super().__init__()
        self._spec, self._calls, self._outputs = spec, network_calls(spec), tuple(outputs or spec.outputs)
        self._attributes, self._wiring = attribute_names(spec), spec.wiring()
        for layer, made in self._calls.items():
            self.add_module(self._attributes[layer], made.module())
        for twin, owner in tied_keys(spec):
            module, _, name = twin.rpartition(".")
            source, _, whose = owner.rpartition(".")
            setattr(self.get_submodule(module), name, getattr(self.get_submodule(source), whose))
        names = parameter_names(spec)
        for parameter, start in starts(spec).items():
            start.run(self.get_parameter(names[parameter]))

    def activations(self, *inputs: Tensor) -> dict[str, Tensor]:
        """Every layer's output, N x shape, under its name, from one tensor an input of the spec, in their order."""
        names = [source.name for source in self._spec.inputs]
        if len(names) != len(inputs):
            raise ZooError(f"{self._spec.name} reads {len(names)} inputs ({', '.join(names)}), got {len(inputs)}")
        values = dict(zip(names, inputs, strict=True))
        for layer, made in self._calls.items():
            module = self.get_submodule(self._attributes[layer])
            values[layer] = made.apply(module, [values[name] for name in self._wiring[layer]])
        return {layer: values[layer] for layer in self._calls}

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The output, N x shape, or a tuple of them where there are several."""
        values = self.activations(*inputs)
        outputs = tuple(values[name] for name in self._outputs)
        return outputs[0] if len(outputs) == 1 else outputs


def counters(spec: ModelSpec) -> list[str]:
    """The keys of ``state_dict()`` that are no parameters: how many batches each `torch.nn.BatchNorm2d` has seen."""
    attributes = attribute_names(spec)
    return [
        f"{attributes[layer.name]}.num_batches_tracked"
        for layer in spec.layers
        if isinstance(layer, BatchNorm) and not layer.batch_stats
    ]


def build(
    spec: ModelSpec, weights: Mapping[str, NDArray[Any]] | None = None, *, outputs: Sequence[str] | None = None
) -> Network:
    """A live module, in training mode, on the CPU or the device of a ``with torch.device(...)``.

    Args:
        spec: the network.
        weights: every canonical parameter, float32, copied; without them the recipe's initial values stay.
        outputs: the activations it answers with (the logits, say); the spec's outputs if left out.

    Raises:
        WeightsError: `weights` do not fit the spec.
    """
    network = Network(spec, outputs)
    if weights is not None:
        network.load_state_dict(state_dict(spec, weights))
    return network


def bind(spec: ModelSpec, weights: Mapping[str, NDArray[Any]], *, outputs: Sequence[str] | None = None) -> Network:
    """`build` for inference alone: the parameters *are* the arrays, nothing is initialised and nothing copied."""
    with torch.device("meta"):
        network = Network(spec, outputs)
    network.load_state_dict(state_dict(spec, weights), assign=True)
    return network.eval().requires_grad_(False)


def state_dict(spec: ModelSpec, weights: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    """The module's ``state_dict()`` with these canonical weights, over the same memory; raises `WeightsError`."""
    expected = parameter_shapes(spec)
    problems = [f"{name} is missing" for name in expected if name not in weights]
    problems += [f"{name} is not a parameter of this network" for name in weights if name not in expected]
    problems += [
        f"{name} has shape {weights[name].shape}, expected {shape}"
        for name, shape in expected.items()
        if name in weights and weights[name].shape != shape
    ]
    if problems:
        raise WeightsError(spec.name, problems)
    state = {key: tensor(weights[canonical]) for canonical, key in parameter_names(spec).items()}
    return state | {key: torch.tensor(0) for key in counters(spec)}


def tensor(array: NDArray[Any]) -> Tensor:
    """The array as a tensor over the same memory, which may be read only: nobody may write to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape))


def forward(
    spec: ModelSpec, weights: Mapping[str, NDArray[Any]], inputs: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Every layer's activation; see `zoo.registry.Framework.forward`."""
    batches = [tensor(np.asarray(inputs[source.name], np.float32)) for source in spec.inputs]
    with torch.inference_mode():
        return {name: value.numpy() for name, value in bind(spec, weights).activations(*batches).items()}
