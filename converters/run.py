"""Pictures through a network: the classes that it sees in them, and its activations."""

from __future__ import annotations

import logging
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.lib.format import write_array, write_array_header_1_0

from converters.parity.probes import image_inputs, images_in
from converters.weights import Array, Weights
from zoo import registry
from zoo.errors import UnsupportedError, ZooError
from zoo.layers import ModelSpec, Names, Shape
from zoo.shapes import activation_shapes, check_cost
from zoo.wire.atomic import check_target, publish, staging

_LOG = logging.getLogger(__name__)

# The array of a saved file that names the pictures, in the order of every other array's first axis.
_IMAGES = "images"


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How to run pictures.

    Attributes:
        framework: what runs the network; None for PyTorch, or else the first that is installed.
        top: so many outputs of each picture are told.
        layers: whose activations are saved; none means the network's outputs.
        save: where to, an ``.npz``; None saves nothing.
        batch_size: pictures that are run, and held, at once.
        force: replace what is there.
    """

    framework: str | None = None
    top: int = 5
    layers: tuple[str, ...] = ()
    save: Path | None = None
    batch_size: int = 16
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One picture, and its best outputs, the best first: index, name of the class (or ""), value."""

    image: Path
    top: tuple[tuple[int, str, float], ...]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What came out: `output` is the activation that `seen` tells of, None where no output is one number a class."""

    framework: str
    output: str | None
    seen: tuple[Seen, ...]


def run(weights: Weights, images: Sequence[Path], how: RunOptions) -> Run:
    """Run pictures through a network, a batch at a time.

    Args:
        weights: of a network that says how its images are prepared.
        images: picture files, and folders of them.
        how: see there.

    Raises:
        ZooError: no picture, or one that cannot be read; an unknown layer; nothing to tell or save.
        MissingDependencyError: the framework is not installed.
    """
    spec, shapes = weights.spec, activation_shapes(weights.spec)
    if how.layers and not how.save:
        raise ZooError("--layers says what to save; give --save FILE.npz, too")
    kept = [spec.layer(name).name for name in how.layers or spec.outputs]
    output = _answer(spec)
    if output is None and how.save is None:
        raise UnsupportedError(f"{spec.name}: no output is one number a class; save activations with --save FILE.npz")
    paths = [path for given in images for path in (images_in(given) if given.is_dir() else [given])]
    check_cost(spec, items=min(how.batch_size, len(paths)))
    runner = _Runner(weights, _framework(how.framework), output, how)
    if how.save is None:
        return runner.run(paths, {})
    if how.save.suffix != ".npz":
        raise ZooError(f"{how.save}: activations are saved as .npz")
    check_target(how.save, force=how.force)
    with staging(how.save) as folder:
        files = {name: folder / f"{i}.numbers" for i, name in enumerate(dict.fromkeys(kept))}
        result = runner.run(paths, files)
        _pack(folder / how.save.name, {name: (file, shapes[name]) for name, file in files.items()}, paths)
        publish(folder, how.save, force=how.force)
    return result


@dataclass(frozen=True)
class _Runner:
    weights: Weights
    framework: str
    output: str | None
    how: RunOptions

    def run(self, paths: Sequence[Path], kept: Mapping[str, Path]) -> Run:
        """Run every picture; the numbers of what is kept are added to those files.

        They are written, not mapped: where the disk is full, who writes into a mapping is ended by a signal.
        """
        adapter, seen, size = registry.framework(self.framework), list[Seen](), self.how.batch_size
        for start in range(0, len(paths), size):
            batch = paths[start : start + size]
            inputs = image_inputs(self.weights.spec, batch)
            found = adapter.forward(self.weights.spec, self.weights.tensors, inputs)
            for name, file in kept.items():
                with file.open("ab") as numbers:
                    numbers.write(np.ascontiguousarray(found[name], np.float32).data)
            if self.output is not None:
                rows = found[self.output].reshape(len(batch), -1)
                seen += [Seen(image=path, top=self._best(row)) for path, row in zip(batch, rows, strict=True)]
            if len(paths) > size:
                _LOG.info("run: %d of %d images, %s", start + len(batch), len(paths), self.framework)
        return Run(framework=self.framework, output=self.output, seen=tuple(seen))

    def _best(self, row: Array) -> tuple[tuple[int, str, float], ...]:
        classes = self.weights.spec.classes
        best = np.argsort(-row, kind="stable")[: self.how.top]
        return tuple((int(i), classes[i] if classes else "", float(row[i])) for i in best)


def _answer(spec: ModelSpec) -> str | None:
    """The last output that is one number a class."""
    shapes = activation_shapes(spec)
    flat = [name for name in spec.outputs if shapes[name] and all(size == 1 for size in shapes[name][1:])]
    return flat[-1] if flat else None


def _framework(wanted: str | None) -> str:
    """What runs the network: as asked for, or PyTorch, or the first framework whose distribution is there."""
    if wanted:
        return wanted
    for name in sorted(registry.frameworks(), key=lambda name: name != "pytorch"):
        try:
            metadata.version(registry.distribution(name))
        except metadata.PackageNotFoundError:
            continue
        return name
    return "pytorch"  # which says how to install it


def _pack(path: Path, files: Mapping[str, tuple[Path, Shape]], images: Sequence[Path]) -> None:
    """Write the numbers of files as an ``.npz``, and the names of the pictures; equal runs give equal bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        name = Names(files).fresh(_IMAGES)
        with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as member:
            write_array(cast(Any, member), np.array([str(image) for image in images]))
        for name, (file, shape) in files.items():
            header = {"descr": "<f4", "fortran_order": False, "shape": (len(images), *shape)}
            with (
                archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member,
                file.open("rb") as numbers,
            ):
                write_array_header_1_0(cast(Any, member), header)
                shutil.copyfileobj(numbers, member)
            file.unlink()
