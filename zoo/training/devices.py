"""Which device each process works on: decided from what all of them see, said aloud, never another than asked for.

Every process tells the others which machine it is on and which GPUs it may use; each then decides for all of them by
the same rule, so that no two disagree.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch

from zoo.errors import ZooError
from zoo.wire.cores import cores

DeviceType: TypeAlias = Literal["auto", "cpu", "cuda", "mps"]
Precision: TypeAlias = Literal["fp32", "tf32", "bf16", "fp16"]
_AMPERE = (8, 0)


@dataclass(frozen=True, kw_only=True)
class View:
    """What one process sees.

    Attributes:
        host: the machine it runs on.
        gpus: an identity of each GPU that is visible to it, in CUDA's order.
        local_rank: its number among the processes of its machine.
    """

    host: str
    gpus: tuple[str, ...]
    local_rank: int


def own_view(local_rank: int) -> View:
    """What this process sees."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return View(host=socket.gethostname(), gpus=tuple(map(_identity, range(count))), local_rank=local_rank)


def _identity(index: int) -> str:
    properties: Any = torch.cuda.get_device_properties(index)
    return str(getattr(properties, "uuid", f"{properties.name} {index}"))


def local_rank() -> int:
    """This process's number on its machine, as torchrun or SLURM says; 0 where it is alone.

    Raises:
        ZooError: it is one of several, and nobody says which.
    """
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        if name in os.environ:
            return int(os.environ[name])
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ZooError("LOCAL_RANK is not set: start the processes by torchrun or srun, or set it in each of them")
    return 0


def decide(wanted: DeviceType, views: Sequence[View]) -> tuple[list[torch.device], str]:
    """The device of every process, in the order of the ranks, and what is to be said of the choice.

    A process with one GPU of its own (as SLURM deals them out) takes it, whatever its number; one that sees several
    takes the one of its number.

    Raises:
        ZooError: what was asked for is not there for everybody, or several would share one GPU.
    """
    if wanted == "cpu":
        return _all("cpu", views), _said("cpu", views)
    if wanted == "mps" or (wanted == "auto" and len(views) == 1 and not views[0].gpus and _has_mps()):
        if not _has_mps():
            raise ZooError(f"--device mps: torch {torch.__version__} sees no Metal GPU here; use --device cpu")
        if len(views) > 1:
            raise ZooError(f"--device mps: one device, not {len(views)}; use --devices 1, or --device cpu")
        return _all("mps", views), _said("mps", views)
    if wanted == "auto" and not any(view.gpus for view in views):
        return _all("cpu", views), _said("cpu", views)
    indices, problem = _gpus(views)
    if problem is None:
        return [torch.device("cuda", index) for index in indices], _said("cuda", views)
    if wanted == "cuda":
        raise ZooError(f"--device cuda: {problem}")
    return _all("cpu", views), f"{_said('cpu', views)} ({problem})"


def _gpus(views: Sequence[View]) -> tuple[list[int], str | None]:
    """The GPU of every process by its number there, or why that cannot be."""
    indices, taken = list[int](), Counter[tuple[str, str]]()
    for rank, view in enumerate(views):
        index = 0 if len(view.gpus) == 1 else view.local_rank
        if not view.gpus:
            return [], f"torch {torch.__version__} sees no CUDA GPU in process {rank} on {view.host}; use --device cpu"
        if index >= len(view.gpus):
            return [], (
                f"process {rank} is number {index} on {view.host}, where {len(view.gpus)} GPUs are visible; "
                "start as many processes as there are GPUs, or use --device cpu"
            )
        indices.append(index)
        taken[view.host, view.gpus[index]] += 1
    (where, most) = taken.most_common(1)[0]
    if most > 1:
        return [], f"{most} processes would share one GPU of {where[0]}; use --devices 1, or --device cpu"
    return indices, None


def _all(kind: str, views: Sequence[View]) -> list[torch.device]:
    return [torch.device(kind) for _ in views]


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def _said(kind: str, views: Sequence[View]) -> str:
    name = f" ({torch.cuda.get_device_name(0)})" if kind == "cuda" and torch.cuda.is_available() else ""
    return f"{len(views)} x {kind}{name}" if len(views) > 1 else f"{kind}{name}"


def alone(wanted: DeviceType) -> tuple[torch.device, str]:
    """The device of a process that has no others beside it, which may use all cores; errors as for `decide`."""
    devices, said = decide(wanted, [own_view(0)])
    torch.set_num_threads(cores())
    return devices[0], said


def settle(precision: Precision, device: torch.device, *, deterministic: bool = False) -> None:
    """Choose, for all that this process computes, what torch would otherwise choose by itself.

    Products of float32 numbers are float32 all through, unless TF32 is asked for (torch's convolutions would take it).
    `deterministic`: of several kernels, one that adds in a fixed order; torch warns of what it has none for.

    Raises:
        ZooError: the device has no TF32.
    """
    if precision == "tf32" and (device.type != "cuda" or torch.cuda.get_device_capability(device) < _AMPERE):
        raise ZooError(f"--precision tf32: {device} has none, as NVIDIA GPUs have from Ampere on; use fp32 or bf16")
    # By torch's older names: where the newer ones (fp32_precision) were used, its compiler and its exporters refuse to
    # ask by the older ones, in 2.13 whatever was told.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.deterministic = deterministic
    if deterministic or torch.are_deterministic_algorithms_enabled():  # telling it loads torch's compiler, for seconds
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it as it is first used


def arithmetic(precision: Precision, device: torch.device) -> Any:
    """A context in which the layers that may do so compute in this precision.

    Raises:
        ZooError: the device has no such arithmetic.
    """
    if precision in ("fp32", "tf32"):
        return torch.autocast(device.type, enabled=False)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    if device.type == "cuda" and precision == "bf16" and not torch.cuda.is_bf16_supported():
        raise ZooError(f"--precision bf16: {torch.cuda.get_device_name(device)} has none; use fp16 or fp32")
    return torch.autocast(device.type, dtype=dtype)
