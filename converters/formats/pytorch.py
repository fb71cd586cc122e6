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
from converters.torchvision_names import is_count, state_entries
from converters.weights import Array, Weights
from zoo.arrays import BFLOAT16
from zoo.errors import FileFormatError
from zoo.frameworks.pytorch import parameter_names, state_dict
from zoo.layers import ModelSpec
from zoo.wire import torch_pickle
from zoo.wire.watched import watch

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

# What float32 may be made of, and how NumPy sees it.
_KINDS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)

# A record's checksum is read this many bytes at a time.
_CHUNK = 1 << 20


def read(path: Path) -> NativeFile:
    """The tensors of a state dict, which may sit in a training script's dictionary; see `WeightsFormat.read`."""
    state, averages = _states(path, _load(path))
    return NativeFile(tensors=_tensors(path, state), averages=None if averages is None else _tensors(path, averages))


def _tensors(path: Path, state: Mapping[str, object]) -> dict[str, Array]:
    tensors, problems = dict[str, Array](), list[str]()
    for name, tensor in state.items():
        problem = _problem(tensor)
        if problem:
            problems.append(f"{name} {problem}")
        else:
            tensors[name] = _array(cast(Tensor, tensor).detach())
    if problems:
        raise FileFormatError(path, "; ".join(problems))
    return tensors


def _array(tensor: Tensor) -> Array:
    return tensor.view(torch.int16).numpy().view(BFLOAT16) if tensor.dtype == torch.bfloat16 else tensor.numpy()


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
            watch(path)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=packed)
    except FileFormatError:
        raise
    except Exception as error:  # whatever a damaged pickle can raise
        raise FileFormatError(path, _reason(error)) from error


def _check_zip(path: Path) -> None:
    """`torch.load` maps the records without looking at their checksums, and would unpack a bomb."""
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        if any(record.filename.lower().endswith("/constants.pkl") for record in records):
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
            if record.filename.lower().endswith("/data.pkl"):  # torch finds it whatever its case
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


def _problem(value: object) -> str | None:
    """Why a value of a state dict is no plain tensor of numbers."""
    if not isinstance(value, Tensor):
        return f"is a {type(value).__name__}, expected a tensor"
    if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
        return "is sparse, quantised or without data, expected an ordinary tensor"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return f"has shape {tuple(value.shape)}, which is more than its stored numbers"
    if value.dim() > 8:
        return f"has {value.dim()} axes, more than any parameter"
    if value.dtype not in _KINDS + _INTEGERS:
        return f"is {str(value.dtype).removeprefix('torch.')}, expected float32, or what can become it"
    return None
