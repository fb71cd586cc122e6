"""PyTorch files: a ``state_dict()`` in ``torch.save``'s zip format, or read from its older format (before 1.6) too.

Read without torch, written by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from converters.formats import NativeFile
from converters.formats._state_dict import states as _states
from converters.formats._state_dict import writer
from converters.tensormap import Entry
from converters.torchvision_names import is_count, state_entries
from converters.weights import Array, Weights
from zoo.arrays import unread
from zoo.errors import FileFormatError, said
from zoo.layers import ModelSpec
from zoo.registry import optional
from zoo.torch_names import parameter_names
from zoo.wire.torch_pickle import Saved, Tensor, read_torch

SUFFIXES = (".pt", ".pth")
# Suffixes whose files hold the network and its preprocessing, beside the tensors.
HOLDS_NETWORK = ()


def read(path: Path) -> NativeFile:
    """The tensors of a state dict, which may sit in a training script's dictionary; see `WeightsFormat.read`.

    Nothing of a file is run, and whatever else lies in it is left out (`zoo.wire.torch_pickle`).
    """
    return _read(path, Saved.array)


def outline(path: Path) -> NativeFile:
    """The same without the numbers; see `Outlined`."""
    return _read(path, lambda _, tensor: unread(tensor.shape, tensor.dtype))


def _read(path: Path, made: Callable[[Saved, Tensor], Array]) -> NativeFile:
    saved = read_torch(path)
    state, averages = _states(path, saved)

    def arrays(found: Mapping[str, Tensor]) -> dict[str, Array]:
        problems = [f"{name} {tensor.problem}" for name, tensor in found.items() if tensor.problem]
        if problems:
            raise FileFormatError(path, "; ".join(problems))
        try:
            return {name: made(saved, tensor) for name, tensor in found.items()}
        except ValueError as error:
            raise FileFormatError(path, f"is damaged or no PyTorch file ({said(error, 120)})") from error

    return NativeFile(
        tensors=arrays(state), averages=None if averages is None else arrays(averages), writer=writer(saved)
    )


def entries(spec: ModelSpec, tensors: Mapping[str, Array] | None) -> list[Entry]:
    """The keys of the live module, torchvision's, or either under a wrapper; see `WeightsFormat.entries`."""
    own = parameter_names(spec)
    if tensors is not None:
        return state_entries(spec, own, tensors)
    return [Entry(canonical=canonical, native=native) for canonical, native in own.items()]


def ignored(name: str) -> bool:
    """A counter: of the batches a normalisation has seen, of the models an average is of."""
    return is_count(name)


def write(path: Path, weights: Weights) -> None:
    """The ``state_dict()`` of `zoo.frameworks.pytorch.build`; see `WeightsFormat.write`."""
    with optional("pytorch"):
        import torch

        from zoo.frameworks.pytorch import state_dict
    # Given a path, torch.save would write the file's name into its records, and equal weights would differ.
    with path.open("wb") as file:
        try:
            torch.save(state_dict(weights.spec, weights.tensors), file)
        except RuntimeError as error:
            # torch ends its archive even where the disk is full, and what then goes wrong hides why.
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def main_file(path: Path) -> Path:
    """The one file there is."""
    return path
