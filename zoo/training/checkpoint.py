"""Checkpoints: the whole canonical state of a run in one safetensors file, whatever devices it ran on.

A file is written beside its place, forced to the disk, then renamed: at any moment, whatever happens, the newest file
under its proper name is whole.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from zoo.errors import FileFormatError, ZooError
from zoo.layers import ModelSpec
from zoo.shapes import parameter_shapes
from zoo.spec_json import METADATA_KEY, dumps
from zoo.training.optimiser import Progress

_VELOCITY = "velocity/"
_KEPT = 2


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What must stay as it was for a run to go on with the same numbers."""

    seed: int
    batch_size: int
    steps: int
    recipe: str
    images: int
    framework: str


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A run at one moment: canonical weights and velocities (float32), and how far it is."""

    weights: Mapping[str, NDArray[Any]]
    velocities: Mapping[str, NDArray[Any]]
    progress: Progress
    setting: Setting


def checkpoints(out: Path) -> list[Path]:
    """The checkpoints of an output folder, oldest first."""
    return sorted((out / "checkpoints").glob("step-*.safetensors"))


def save_checkpoint(out: Path, spec: ModelSpec, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint and remove old ones, all but the last two.

    Raises:
        ZooError: the disk is full, or not writable; the checkpoints before are untouched.
    """
    path = out / "checkpoints" / f"step-{checkpoint.progress.step:08d}.safetensors"
    tensors = dict(checkpoint.weights) | {_VELOCITY + name: v for name, v in checkpoint.velocities.items()}
    state = {"progress": asdict(checkpoint.progress), "setting": asdict(checkpoint.setting)}
    write_safetensors(path, tensors, _metadata(spec) | {"training": json.dumps(state)})
    for old in checkpoints(out)[:-_KEPT]:
        old.unlink()
    return path


def save_model(out: Path, spec: ModelSpec, weights: Mapping[str, NDArray[Any]]) -> Path:
    """Write ``model.safetensors``: canonical names, float32, with the spec and its preprocessing inside."""
    path = out / "model.safetensors"
    write_safetensors(path, dict(weights), _metadata(spec))
    return path


def _metadata(spec: ModelSpec) -> dict[str, str]:
    return {METADATA_KEY: dumps(spec), "model": spec.name}


def write_safetensors(path: Path, tensors: dict[str, NDArray[Any]], metadata: dict[str, str]) -> None:
    """Write a file so that its name holds the old content or the new, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        save_file(tensors, temporary, metadata)
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except (OSError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        older = checkpoints(path.parent.parent if path.parent.name == "checkpoints" else path.parent)
        last = f"the last checkpoint, {older[-1]}, is whole: make room, then --resume" if older else "make room"
        raise ZooError(f"{path}: cannot be written ({' '.join(str(error).split())}); {last}") from error


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load_checkpoint(path: Path, spec: ModelSpec) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        FileFormatError: damaged, no checkpoint, or one of another network.
    """
    try:
        with safe_open(path, "numpy") as file:  # pyright: ignore[reportUnknownVariableType]
            metadata: dict[str, str] = file.metadata() or {}
            tensors = {name: np.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise FileFormatError(path, f"damaged checkpoint ({' '.join(str(error).split())})") from error
    if "training" not in metadata:
        raise FileFormatError(path, "holds weights, but no state of training: it is no checkpoint")
    if metadata.get(METADATA_KEY) != dumps(spec):
        raise FileFormatError(
            path, f"is of another network ({metadata.get('model', 'unnamed')}), not of this {spec.name}; use another -o"
        )
    shapes = parameter_shapes(spec)
    if {name: tensors[name].shape for name in tensors} != shapes | {_VELOCITY + n: s for n, s in shapes.items()}:
        raise FileFormatError(path, "damaged checkpoint: its tensors are not those of its network")
    try:
        progress, setting = _state(metadata["training"])
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise FileFormatError(path, f"damaged checkpoint: its state of training is none ({error})") from error
    return Checkpoint(
        weights={name: tensors[name] for name in shapes},
        velocities={name: tensors[_VELOCITY + name] for name in shapes},
        progress=progress,
        setting=setting,
    )


def _state(text: str) -> tuple[Progress, Setting]:
    """The state of training; raises `ValueError`, `TypeError` or `LookupError` where it is none."""
    state = json.loads(text)
    counts, best = {**state["progress"]}, state["progress"]["best"]
    counts["best"] = None if best is None else (float(best[0]), float(best[1]))
    progress, setting = Progress(**counts), Setting(**state["setting"])
    for number in (progress.step, progress.waited, progress.drops):
        if type(number) is not int or number < 0:
            raise ValueError(f"{number!r} is no count")
    return progress, setting


def newest(out: Path, spec: ModelSpec, setting: Setting) -> Checkpoint:
    """The last checkpoint of an output folder.

    Raises:
        ZooError: there is none, or the run would go on with other numbers.
    """
    found = checkpoints(out)
    if not found:
        raise ZooError(f"{out}: no checkpoint to go on from; leave --resume out to begin")
    checkpoint = load_checkpoint(found[-1], spec)
    then, now = asdict(checkpoint.setting), asdict(setting)
    changed = [f"{key.replace('_', ' ')} {then[key]} (now {now[key]})" for key in then if then[key] != now[key]]
    if changed:
        raise ZooError(f"{found[-1]}: was made with {', '.join(changed)}; give the same, or begin in another -o")
    return checkpoint
