"""PyTorch files as torch reads them.

Nothing in a file is run: `torch.load` reads it with ``weights_only=True``, which is safe since torch 2.6.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from converters.weights import Array
from zoo.arrays import BFLOAT16
from zoo.errors import FileFormatError
from zoo.wire import torch_pickle
from zoo.wire.watched import watch

# What float32 may be made of, and how NumPy sees it.
_KINDS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)

# A record's checksum is read this many bytes at a time.
_CHUNK = 1 << 20


def load(path: Path) -> object:
    """What was saved; raises `FileFormatError`."""
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


def arrays(path: Path, state: Mapping[str, object]) -> dict[str, Array]:
    """A state dict over the same memory; raises `FileFormatError` for what is no plain tensor of numbers."""
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
