"""Checkpoints: the whole canonical state of a run in one safetensors file, whatever devices it ran on.

A file is written beside its place, forced to the disk, then renamed: at any moment, whatever happens, the newest file
under its proper name is whole.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import FileFormatError, ZooError, said
from zoo.layers import ModelSpec
from zoo.shapes import parameter_table
from zoo.show import differences
from zoo.spec_json import METADATA_KEY, dumps, loads
from zoo.training.optimiser import Progress
from zoo.wire.atomic import flush, new_file
from zoo.wire.folders import check_no_link
from zoo.wire.regular import check_regular
from zoo.wire.safetensors import read_safetensors, write_safetensors

# Of the names of velocities, before those of their parameters: here, and in the variables of TF-slim.
VELOCITY = "velocity/"
_CHECKSUM = "checksum"
_KEPT = 2


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a run was made with. All but its length must stay as it was for it to go on with the same numbers.

    Attributes:
        seed: of everything random.
        batch_size: images a step.
        steps: the length of the run.
        framework: which trains.
        precision: of the arithmetic.
        recipe: the whole recipe, as plain data.
        data: what is known of the data set; see `zoo.training.data.fingerprint`.
        lineage: where the weights came from that it began with; None: they were drawn.
    """

    seed: int
    batch_size: int
    steps: int
    framework: str
    precision: str
    recipe: Mapping[str, Any]
    data: Mapping[str, Any]
    lineage: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A run at one moment: canonical weights and velocities (float32), and how far it is."""

    weights: Mapping[str, NDArray[Any]]
    velocities: Mapping[str, NDArray[Any]]
    progress: Progress
    setting: Setting


def checkpoints(out: Path) -> list[Path]:
    """The checkpoints of an output folder, oldest first; raises `ZooError` where a link leads elsewhere."""
    check_no_link(out / "checkpoints")
    return sorted((out / "checkpoints").glob("step-*.safetensors"))


def save_checkpoint(out: Path, spec: ModelSpec, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint and remove old ones, all but the last two.

    Raises:
        ZooError: the disk is full, or not writable; the checkpoints before are untouched.
    """
    path = out / "checkpoints" / f"step-{checkpoint.progress.step:08d}.safetensors"
    check_no_link(path.parent)
    tensors = dict(checkpoint.weights) | {VELOCITY + name: v for name, v in checkpoint.velocities.items()}
    state = {"progress": asdict(checkpoint.progress), "setting": asdict(checkpoint.setting)}
    metadata = _metadata(spec) | {"training": json.dumps(state)}
    write_file(path, tensors, metadata | {_CHECKSUM: checksum(tensors, metadata)})
    for old in checkpoints(out)[:-_KEPT]:
        old.unlink()
    return path


def save_model(out: Path, spec: ModelSpec, checkpoint: Checkpoint) -> Path:
    """Write ``model.safetensors``: canonical names, float32.

    Inside are the spec with its preprocessing and the names of its classes, and how the weights came about
    (``lineage``).
    """
    path, setting = out / "model.safetensors", checkpoint.setting
    lineage = {"from": setting.lineage, "step": checkpoint.progress.step} | {
        key: getattr(setting, key) for key in ("recipe", "seed", "batch_size", "framework", "precision")
    }
    about = _metadata(replace(spec, classes=tuple(setting.data["classes"]))) | {"lineage": json.dumps(lineage)}
    write_file(path, dict(checkpoint.weights), about)
    return path


def checksum(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> str:
    """Of everything in a checkpoint: a byte that the disk or the network turned over is noticed before it is used."""
    total = zlib.crc32(json.dumps(sorted(metadata.items())).encode())
    for name in sorted(tensors):
        total = zlib.crc32(np.ascontiguousarray(tensors[name]).data, zlib.crc32(name.encode(), total))
    return f"{total:08x}"


def _metadata(spec: ModelSpec) -> dict[str, str]:
    return {METADATA_KEY: dumps(spec), "model": spec.name}


def write_file(path: Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Write a file so that its name holds the old content or the new, never half of it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path) as fresh:
            shapes = {name: tensor.shape for name, tensor in tensors.items()}
            types = {name: tensor.dtype for name, tensor in tensors.items()}
            write_safetensors(fresh, shapes, lambda name: tensors[name], metadata, types)
            flush(fresh)
        flush(path.parent)
    except OSError as error:
        older = checkpoints(path.parent.parent if path.parent.name == "checkpoints" else path.parent)
        last = f"the last checkpoint, {older[-1]}, is whole: make room, then --resume" if older else "make room"
        raise ZooError(f"{path}: cannot be written ({said(error)}); {last}") from error


def load_checkpoint(path: Path, spec: ModelSpec) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        FileFormatError: damaged, no checkpoint, or one of another network.
    """
    check_regular(path)
    try:
        tensors, metadata = read_safetensors(np.fromfile(path, np.uint8).data)  # training writes to them
    except (OSError, ValueError, RecursionError) as error:
        raise FileFormatError(path, f"damaged checkpoint ({said(error)}){_before(path)}") from error
    if "training" not in metadata:
        raise FileFormatError(path, "holds weights, but no state of training: it is no checkpoint")
    if metadata.pop(_CHECKSUM, "") != checksum(tensors, metadata):
        raise FileFormatError(path, f"damaged checkpoint: its bytes are not those that were written{_before(path)}")
    if other := _another(metadata.get(METADATA_KEY, ""), spec):
        raise FileFormatError(path, other)
    table = parameter_table(spec)
    shapes = {name: row.shape for name, row in table.items()}
    learned = {VELOCITY + name: row.shape for name, row in table.items() if row.learned}
    if {name: tensors[name].shape for name in tensors} != shapes | learned:
        raise FileFormatError(path, "damaged checkpoint: its tensors are not those of its network")
    try:
        progress, setting = _state(metadata["training"])
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise FileFormatError(path, f"damaged checkpoint: its state of training is none ({error})") from error
    return Checkpoint(
        weights={name: tensors[name] for name in shapes},
        velocities={name.removeprefix(VELOCITY): tensors[name] for name in learned},
        progress=progress,
        setting=setting,
    )


def _another(then: str, spec: ModelSpec) -> str | None:
    """In what the network of a checkpoint is another one than the one that is trained; None: it is that one."""
    try:
        kept = loads(then)
    except ZooError as error:
        return f"damaged checkpoint: {error}"
    if replace(kept, name=spec.name, title=spec.title) == spec:
        return None
    found = differences(kept, spec)
    what = found[0].sentence("the checkpoint", "this run") if found else "its layers are written in another way"
    return f"is of another network ({kept.name}), not of this {spec.name}: {what}; use another -o"


def _before(path: Path) -> str:
    """What to do about a damaged checkpoint."""
    older = [other for other in checkpoints(path.parent.parent) if other < path]
    return f"; remove it to go on from {older[-1].name}" if older else "; remove it to begin again"


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
        ZooError: there is none, or the run would go on with other numbers; the message says which.
    """
    found = checkpoints(out)
    if not found:
        raise ZooError(f"{out}: no checkpoint to go on from; leave --resume out to begin, or give --resume auto")
    checkpoint = load_checkpoint(found[-1], spec)
    then, now = asdict(checkpoint.setting), asdict(setting)
    del then["steps"]  # a run may be lengthened
    changed = list(_differences(then, {key: now[key] for key in then}))
    if changed:
        raise ZooError(f"{found[-1]}: was made with {', '.join(changed)}; give the same, or begin in another -o")
    if checkpoint.progress.step > setting.steps:
        raise ZooError(f"{found[-1]}: is past the {setting.steps} steps that are asked for; give a larger --steps")
    return checkpoint


def _differences(then: Mapping[str, Any], now: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """What differs between two plain values, in words."""
    for key in dict.fromkeys((*then, *now)):
        before, after = then.get(key), now.get(key)
        name = f"{where}{key.replace('_', ' ')}"
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _differences(before, after, f"{name}: ")  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(before, list) and isinstance(after, list) and key == "classes":
            gone, new = sorted(set(before) - set(after)), sorted(set(after) - set(before))
            if before != after:
                yield f"{name} {', '.join(gone[:5]) or 'in another order'} (now {', '.join(new[:5]) or 'without'})"
        elif before != after:
            yield f"{name} {before} (now {after})"
