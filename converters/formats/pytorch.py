"""PyTorch files: a ``state_dict()`` in ``torch.save``'s zip format, or read from its older format (before 1.6) too.

Nothing in a file is run: `torch.load` reads it with ``weights_only=True``, which is safe since torch 2.6.
"""

from __future__ import annotations

import logging
import re
import warnings
import zipfile
from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from converters.formats import NativeFile
from converters.tensormap import Entry
from converters.torchvision_names import native_names
from converters.weights import Array, Weights
from zoo.errors import FileFormatError
from zoo.frameworks.pytorch import parameter_names, state_dict
from zoo.layers import ModelSpec
from zoo.wire import torch_pickle

SUFFIXES = (".pt", ".pth")
# Suffixes whose files hold the network and its preprocessing, beside the tensors.
HOLDS_NETWORK = ()

_LOG = logging.getLogger(__name__)

# The keys under which training scripts, Lightning's first among them, put the state dict beside other things.
_WRAPPED = ("state_dict", "model_state_dict", "model", "net", "weights", "params")

# A record's checksum is read this many bytes at a time.
_CHUNK = 1 << 20


def read(path: Path) -> NativeFile:
    """The tensors of a state dict, which may sit in a training script's dictionary; see `WeightsFormat.read`."""
    state, problems = _state(path, _load(path)), list[str]()
    tensors = dict[str, Array]()
    for name, tensor in state.items():
        problem = _problem(name, tensor)
        if problem:
            problems.append(f"{name} {problem}")
        else:
            tensors[name] = cast(Tensor, tensor).detach().numpy()
    if problems:
        raise FileFormatError(path, "; ".join(problems))
    return NativeFile(tensors=tensors)


def entries(spec: ModelSpec, tensors: Mapping[str, Array] | None) -> list[Entry]:
    """The keys of the live module, torchvision's, or either under a wrapper; see `WeightsFormat.entries`."""
    own = parameter_names(spec)
    names = own if tensors is None else native_names(own, tensors)
    return [Entry(canonical=canonical, native=native) for canonical, native in names.items()]


def ignored(name: str) -> bool:
    """A batch normalisation's count of the batches it has seen."""
    return name.endswith(".num_batches_tracked")


def write(path: Path, weights: Weights) -> None:
    """The ``state_dict()`` of `zoo.frameworks.pytorch.build`; see `WeightsFormat.write`."""
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


def _load(path: Path) -> object:
    try:
        packed = zipfile.is_zipfile(path)
        if packed:
            _check_zip(path)
        else:
            torch_pickle.check_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on a damaged file come before its error, and say less
            return torch.load(path, map_location="cpu", weights_only=True, mmap=packed)
    except FileFormatError:
        raise
    except Exception as error:  # whatever a damaged pickle can raise
        raise FileFormatError(path, _reason(error)) from error


def _check_zip(path: Path) -> None:
    """`torch.load` maps the records without looking at their checksums, and would unpack a bomb."""
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        if any(record.filename.endswith("/constants.pkl") for record in records):
            raise FileFormatError(
                path, "is a TorchScript program, not a state dict; torch.jit.load it and torch.save its state_dict()"
            )
        if any(record.compress_type != zipfile.ZIP_STORED for record in records):
            raise FileFormatError(path, "is compressed; torch.save stores its records as they are")
        if any(record.compress_size != record.file_size for record in records):
            raise FileFormatError(path, "is damaged: a record has two sizes, though it is stored as it is")
        if sum(record.file_size for record in records) > path.stat().st_size:
            raise FileFormatError(path, "is damaged: its records are larger than the file")
        for record in records:
            if record.filename.endswith("/data.pkl"):
                unchecked = copy(record)
                cast(Any, unchecked).CRC = record.CRC or None  # zipfile's own word for no checksum
                torch_pickle.check_record(archive.read(unchecked))
            if record.CRC:  # torch.serialization.set_crc32_options(False) writes 0
                with archive.open(record) as data:  # raises BadZipFile at the end of a record that is not what it was
                    while data.read(_CHUNK):
                        pass


def _reason(error: Exception) -> str:
    foreign = re.search(r"[Uu]nsupported (?:global:|class:|GLOBAL) ?(?:GLOBAL )?(\S+)", str(error))
    if foreign:
        return (
            f"holds Python objects ({foreign[1]}), not a state dict, and loading those would run code; load it where "
            "it was made, and torch.save its model.state_dict()"
        )
    lines = str(error).rpartition("WeightsUnpickler error:")[2].split("\n")
    detail = next((line.strip() for line in lines if line.strip()), type(error).__name__)
    return f"is damaged or no PyTorch file ({detail[:120]})"


def _state(path: Path, loaded: object) -> Mapping[str, object]:
    """The state dict among what a file holds."""
    if not isinstance(loaded, dict):
        raise FileFormatError(path, f"holds a {type(loaded).__name__}, expected a state dict (name -> tensor)")
    found = cast("dict[object, Any]", loaded)
    if not any(isinstance(value, Tensor) for value in found.values()):
        for key in _WRAPPED:
            if isinstance(found.get(key), dict):
                rest = ", ".join(str(other) for other in found if other != key)
                _LOG.info("%s: %r taken as the state dict; left out: %s", path, key, rest or "nothing")
                return _state(path, found[key])
    if not found:
        raise FileFormatError(path, "holds an empty state dict")
    if not all(isinstance(key, str) for key in found):
        raise FileFormatError(path, "holds a dictionary whose keys are not names, expected a state dict")
    return cast("dict[str, object]", found)


def _problem(name: str, value: object) -> str | None:
    """Why a value of a state dict is no plain float32 tensor."""
    if not isinstance(value, Tensor):
        return f"is a {type(value).__name__}, expected a tensor"
    if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
        return "is sparse, quantised or without data, expected an ordinary tensor"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return f"has shape {tuple(value.shape)}, which is more than its stored numbers"
    if value.dim() > 8:
        return f"has {value.dim()} axes, more than any parameter"
    if value.dtype != torch.float32 and not ignored(name):
        return f"is {str(value.dtype).removeprefix('torch.')}, expected float32 (convert it with model.float())"
    return None
