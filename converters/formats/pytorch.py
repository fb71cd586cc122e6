"""PyTorch files: a ``state_dict()`` in ``torch.save``'s zip format, or read from its older format (before 1.6) too.

They are read by torch (`_torch_load`); names, shapes and types are told without it.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from converters.formats import NativeFile
from converters.tensormap import Entry
from converters.torchvision_names import is_count, state_entries
from converters.weights import Array, Weights
from zoo.arrays import unread
from zoo.errors import FileFormatError
from zoo.layers import ModelSpec
from zoo.registry import optional
from zoo.torch_names import parameter_names
from zoo.wire import torch_pickle

SUFFIXES = (".pt", ".pth")
# Suffixes whose files hold the network and its preprocessing, beside the tensors.
HOLDS_NETWORK = ()

_LOG = logging.getLogger(__name__)

# The keys under which training scripts, Lightning's first among them, put the state dict beside other things,
_WRAPPED = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "module")
# and those under which they put moving averages of it (torchvision's references, timm, Swin and others).
_AVERAGES = (
    *("model_ema", "ema", "state_dict_ema", "model_ema_state_dict", "ema_state_dict", "ema_model", "averaged_model"),
    *("swa_model", "swa_state_dict"),
)


def read(path: Path) -> NativeFile:
    """The tensors of a state dict, which may sit in a training script's dictionary; see `WeightsFormat.read`."""
    with optional("pytorch"):
        from converters.formats._torch_load import arrays, load
    state, averages = _states(path, load(path))
    return NativeFile(tensors=arrays(path, state), averages=None if averages is None else arrays(path, averages))


def outline(path: Path) -> NativeFile:
    """The same without the numbers, and without torch where the file holds tensors alone; see `Outlined`."""
    try:
        saved = torch_pickle.outline(path)
    except (ValueError, OSError, zipfile.BadZipFile, NotImplementedError):
        saved = None
    if saved is None:
        return read(path)  # torch says what it is
    state, averages = _states(path, saved)
    return NativeFile(tensors=_outlines(path, state), averages=None if averages is None else _outlines(path, averages))


def _outlines(path: Path, state: Mapping[str, object]) -> dict[str, Array]:
    found = dict[str, Array]()
    for name, value in state.items():
        if not isinstance(value, torch_pickle.Unread):
            raise FileFormatError(path, f"{name} is a {type(value).__name__}, expected a tensor")
        if value.dtype is None:
            raise FileFormatError(path, f"{name} holds no numbers that can become float32")
        found[name] = unread(value.shape, value.dtype)
    return found


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


def _states(path: Path, loaded: object) -> tuple[Mapping[str, object], Mapping[str, object] | None]:
    """The state dict among what a file holds, and the moving averages beside it, if there are any."""
    if not isinstance(loaded, dict):
        raise FileFormatError(path, f"holds a {type(loaded).__name__}, expected a state dict (name -> tensor)")
    found = cast("dict[object, Any]", loaded)
    key = next((key for key in _WRAPPED if isinstance(found.get(key), dict)), None)
    averaged = next((key for key in _AVERAGES if isinstance(found.get(key), dict)), None)
    if key is None and averaged is not None:
        _LOG.info("%s: %r, a moving average, is all there is; taken", path, averaged)
        key, averaged = averaged, None
    if key is not None:
        rest = ", ".join(str(other) for other in found if other not in (key, averaged))
        beside = f", {averaged!r} as its moving averages" if averaged else ""
        _LOG.info("%s: %r taken as the state dict%s; left out: %s", path, key, beside, rest or "nothing")
        state, inner = _states(path, found[key])
        return state, inner if averaged is None else _states(path, found[averaged])[0]
    if not found:
        raise FileFormatError(path, "holds an empty state dict")
    if not all(isinstance(key, str) for key in found):
        raise FileFormatError(path, "holds a dictionary whose keys are not names, expected a state dict")
    return cast("dict[str, object]", found), None
