"""caffemodel files of every generation, read and written without protobuf: tensors are views of the mapped file.

A layer's blobs are called ``<layer>.0``, ``<layer>.1`` and so on, in Caffe's order. The network they belong to is that
of the ``.prototxt`` of the same name beside the file. Field numbers and rules: BVLC caffe, ``caffe.proto``,
``blob.cpp`` (`FromProto`) and ``batch_norm_layer.cpp``.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Container, Mapping
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path

import numpy as np

from converters.formats import LARGE, NativeFile
from converters.formats._caffe_saved import saved_otherwise
from converters.sniff import is_hdf5, refuse_others
from converters.tensormap import Entry
from converters.weights import Array, Weights
from zoo.errors import FileFormatError, ZooError
from zoo.frameworks.caffe import (
    CaffeNet,
    caffemodel_pieces,
    deploy_text,
    images_beside,
    read_prototxt,
    with_images,
)
from zoo.layers import BatchNorm, ModelSpec, Shape
from zoo.registry import optional
from zoo.shapes import parameter_table
from zoo.wire.caffemodel import StoredLayer, read_blob, read_layers
from zoo.wire.mapped import mapped

SUFFIXES = (".caffemodel",)

# What the name of a BatchNorm ends in that was one layer with a Scale; number of blobs -> where the parameters are
# (PSPNet's and SegNet's bn_layer.cpp, NVIDIA's batch_norm_layer.cpp).
_NORM = "_norm"
_AFFINE = {
    2: {"weight": 0, "bias": 1},
    4: {"weight": 0, "bias": 1, "mean": 2, "variance": 3},
    5: {"mean": 0, "variance": 1, "weight": 3, "bias": 4},
}

_LOG = logging.getLogger(__name__)


def read(path: Path) -> NativeFile:
    """The blobs of a caffemodel, InnerProduct weights as (out, in), BatchNorm statistics divided by their factor.

    Numbers stored as doubles are rounded to float32, as Caffe does; where that changes any, a warning says so.

    Raises:
        FileFormatError: the file is missing, cut short, damaged or no caffemodel.
    """
    return _read(path, None)


def outline(path: Path) -> NativeFile:
    """The same without the numbers of a file of HDF5; see `Outlined`."""
    return _read(path, LARGE)


def _read(path: Path, largest: int | None) -> NativeFile:
    net, unread = _network_beside(path)
    try:
        layers = _layers_of_hdf5(path, largest) if is_hdf5(path) else read_layers(mapped(path))
        tensors = dict[str, Array]()
        for layer in layers:
            transposed = layer.transposed or (layer.transposed is None and net and layer.name in net.transposed)
            for i, blob in enumerate(_statistics(layer, path.name)):
                name = f"{layer.name}.{i}"
                if name in tensors:
                    raise ValueError(f"two layers named {layer.name!r} have weights")
                tensors[name] = blob.swapaxes(-1, -2) if transposed and i == 0 and blob.ndim > 1 else blob
    except ValueError as error:
        raise FileFormatError(path, f"no caffemodel that can be read: {error}") from error
    if not layers:
        raise FileFormatError(path, "no caffemodel: there are no layers in it")
    return NativeFile(
        tensors=tensors,
        spec=net.spec if net else None,
        unread=unread,
        as_loaded=partial(_loaded, path.name, tensors),
        unlike=partial(saved_otherwise, layers),
    )


def read_network(
    path: str | PathLike[str], *, stages: Collection[str] = (), sizes: Mapping[str, Shape] | None = None
) -> CaffeNet:
    """The network of a prototxt, its images' mean from the ``.binaryproto`` it names, or that alone lies beside it.

    Of a mean image the mean of each channel is taken, as Caffe's own C++ example does. A named one is looked for by its
    file name in the prototxt's folder. What was taken, or was not there, is in the notes. Arguments and errors:
    `read_prototxt`'s.
    """
    path = Path(path)
    refuse_others(path)
    net = read_prototxt(path, stages=stages, sizes=sizes)
    if net.spec.preprocessing:
        return net
    named = net.images.mean_file.replace("\\", "/").rpartition("/")[2] if net.images else ""
    images = net.images or images_beside(net.spec)
    found = [path.parent / named] if named else sorted(path.parent.glob("*.binaryproto"))
    if images is None or not found:
        return net
    if named and not found[0].is_file():
        missing = f"the preprocessing is not known: {named}, the mean image it names, is not beside it"
        return replace(net, notes=(*net.notes, missing))
    if len(found) > 1:
        several = f"several mean images beside it ({', '.join(mean.name for mean in found)}); none was taken"
        return replace(net, notes=(*net.notes, several))
    try:
        mean_CHW = read_mean(found[0])
    except ZooError as error:
        return replace(net, notes=(*net.notes, f"the preprocessing is not known: {error}"))
    if mean_CHW.shape[0] != 3:
        return replace(net, notes=(*net.notes, f"{found[0].name}: {mean_CHW.shape[0]} channels, no mean of pictures"))
    mean_BGR = tuple(float(value) for value in mean_CHW.mean(axis=(1, 2), dtype=np.float64))
    height, width = mean_CHW.shape[1:]
    source = f"{found[0].name}, {width} x {height}, of which the mean of each channel is used"
    return with_images(net, images.with_mean(mean_BGR, min(height, width)), source)


def _layers_of_hdf5(path: Path, largest: int | None) -> list[StoredLayer]:
    """A snapshot with ``snapshot_format: HDF5``: ``data/<layer>/<blob>`` (net.cpp, `ToHDF5`)."""
    with optional("keras"):
        from zoo.wire.hdf5 import read_hdf5
    found = read_hdf5(path, largest=largest)
    layers = dict[str, StoredLayer]()
    for where, array in found.arrays.items():
        root, _, rest = where.partition("/")
        name, _, index = rest.rpartition("/")
        layer = layers.setdefault(name, StoredLayer(name=name))
        if root != "data" or not name or index != str(len(layer.blobs)):
            raise ValueError(f"{where} is no blob of a layer")
        layer.blobs.append(array)
    return list(layers.values())


def _network_beside(path: Path) -> tuple[CaffeNet | None, str]:
    """The network of the prototxt beside a caffemodel; or why that is none that can be read."""
    beside = path.with_suffix(".prototxt")
    if not beside.is_file():
        return None, ""
    try:
        net = read_network(beside)
    except ZooError as error:
        _LOG.warning("not used: %s", error)
        return None, str(error)
    if net.omitted:
        _LOG.info("%s: left out of the deployed network: %s", beside, ", ".join(net.omitted))
    for note in net.notes:
        _LOG.warning("%s: %s", beside, note)
    return net, ""


def _statistics(layer: StoredLayer, source: str) -> list[Array]:
    """A layer's blobs; those of a BatchNorm divided by the factor that is its third, in float32 as Caffe does it."""
    if layer.type == "BN":
        return [blob.reshape(-1) for blob in layer.blobs]  # 1 x C x 1 x 1 each
    if layer.type != "BatchNorm":
        return layer.blobs
    if len(layer.blobs) not in (3, 5) or layer.blobs[2].size != 1:
        return layer.blobs
    factor = layer.blobs[2].reshape(-1)[0]
    scale = np.float32(0) if factor == 0 else np.float32(1) / factor
    if factor == 0 and any(blob.any() for blob in layer.blobs[:2]):
        _LOG.warning(
            "%s: layer %r: the factor, its third blob, is 0: its mean and variance count as 0, as in Caffe, though the"
            " file holds others",
            source,
            layer.name,
        )
    statistics = layer.blobs[:2] if scale == 1 else [blob * scale for blob in layer.blobs[:2]]
    return statistics if len(layer.blobs) == 3 else [*statistics, *layer.blobs[2:]]


def _loaded(source: str, tensors: Mapping[str, Array], spec: ModelSpec) -> Mapping[str, Array]:
    """What Caffe copies into a network (net.cpp, `CopyTrainedLayersFrom`).

    Layers that the network has not are passed over. Blobs that share a name are one memory: the copy that comes last in
    the file serves all.
    """
    loaded, natives = _apart(source, tensors, spec), {entry.canonical: entry.native for entry in entries(spec, None)}
    for name, row in parameter_table(spec).items():
        if row.shape == () and (blob := loaded.get(natives[name])) is not None and blob.shape == (1, 1, 1, 1):
            loaded[natives[name]] = blob.reshape(())  # a number without axes, as files before 2015 have it
    for tie in spec.ties:
        twins = [natives[name] for name in tie.parameters]
        copies = [name for name in loaded if name in twins]
        if len({loaded[name].shape for name in copies}) != 1:
            continue  # there is none, or one does not fit, which is refused by its name
        last = loaded[copies[-1]]
        if not all(np.array_equal(loaded[name], last) for name in copies):
            _LOG.warning(
                "%s: %s share the blob %r, but differ; %s, the last, serves all, as in Caffe",
                source,
                " and ".join(copies),
                tie.name,
                copies[-1],
            )
        loaded |= dict.fromkeys(twins, last)
    known = {layer.name for layer in spec.layers}
    is_whole = loaded.keys() >= set(natives.values())
    _refuse_five(source, loaded, known if is_whole else None)
    if not is_whole:
        return loaded  # the error that comes names what is left over beside what is missing
    passed_over = dict.fromkeys(layer for name in loaded if (layer := name.rpartition(".")[0]) not in known)
    if passed_over:
        _LOG.warning("%s: layers that %s has not are left out: %s", source, spec.name, ", ".join(passed_over))
    return {name: tensor for name, tensor in loaded.items() if name.rpartition(".")[0] in known}


def _apart(source: str, tensors: Mapping[str, Array], spec: ModelSpec) -> dict[str, Array]:
    """The blobs of a BatchNorm that has a Scale in it as those of both: PSPNet's BN, SegNet's, and NVIDIA's of five."""
    loaded = dict(tensors)
    for layer in spec.layers:
        owner = layer.name.removesuffix(_NORM)
        blobs = [loaded[name] for i in range(6) if (name := f"{owner}.{i}") in loaded]
        is_whole = f"{layer.name}.0" in loaded  # as it is written here: two layers
        if not isinstance(layer, BatchNorm) or owner == layer.name or len(blobs) not in _AFFINE or is_whole:
            continue
        if layer.batch_stats != (len(blobs) == 2):
            told = "bn_mode or scale_filler" if len(blobs) == 2 else "neither bn_mode nor scale_filler"
            raise FileFormatError(
                source,
                f"layer {owner!r} is a BN of {len(blobs)} blobs; two are SegNet's, four PSPNet's: its network must say"
                f" {told}",
            )
        found = {role: blobs[i].reshape(-1) for role, i in _AFFINE[len(blobs)].items()}
        if len(blobs) == 2:  # SegNet's: by the batch, so that nobody reads what is stored
            found |= {"mean": np.zeros_like(found["weight"]), "variance": np.ones_like(found["weight"])}
        loaded = {name: blob for name, blob in loaded.items() if name.rpartition(".")[0] != owner}
        loaded |= {f"{owner}.{i}": found[role] for i, role in enumerate(("weight", "bias"))}
        loaded |= {f"{layer.name}.{i}": found[role] for i, role in enumerate(("mean", "variance"))}
    return loaded


def _refuse_five(source: str, loaded: Mapping[str, Array], known: Container[str] | None) -> None:
    """Name a BatchNorm of five blobs, whose network has not the words for it (of all layers, or of those known)."""
    for name in loaded:
        owner, _, last = name.rpartition(".")
        factor = loaded.get(f"{owner}.2")
        if last == "4" and factor is not None and factor.size == 1 and (known is None or owner in known):
            raise FileFormatError(
                source,
                f"layer {owner!r} is a BatchNorm of five blobs, as NVIDIA's Caffe writes it (mean, variance, factor,"
                " scale, bias); its network must say scale_bias: true",
            )


def entries(spec: ModelSpec, tensors: Mapping[str, Array] | None) -> list[Entry]:
    """By layer name and Caffe's order; files before 2015 pad every shape with ones to four dimensions."""
    table = list[Entry]()
    for name, row in parameter_table(spec).items():
        native = f"{name.removesuffix(row.role)}{row.blob}"
        tensor = tensors.get(native) if tensors else None
        table.append(_entry(name, native, row.shape, 0 if tensor is None else tensor.ndim))
    return table


def _entry(canonical: str, native: str, shape: Shape, rank: int) -> Entry:
    axes = "OIHW"[: len(shape)]
    if rank == 4 and 0 < len(shape) < 4:
        return Entry(canonical=canonical, native=native, axes=axes, native_axes="1" * (4 - len(shape)) + axes)
    return Entry(canonical=canonical, native=native)


def ignored(name: str) -> bool:
    """Every blob of a caffemodel is a weight."""
    return False


def write(path: Path, weights: Weights) -> None:
    """Write a caffemodel in the current format and the deploy prototxt beside it, its spec and preprocessing inside."""
    with path.open("wb") as file:
        for piece in caffemodel_pieces(weights.spec, weights.tensors):
            file.write(piece)
    path.with_suffix(".prototxt").write_text(deploy_text(weights.spec), encoding="utf-8")


def main_file(path: Path) -> Path:
    """The caffemodel."""
    return path


def read_mean(path: Path) -> Array:
    """A mean image (``.binaryproto``), float32, C x H x W, in the file's own channel order (Caffe's is BGR).

    Raises:
        FileFormatError: the file is missing, damaged or no mean image.
    """
    refuse_others(path)
    try:
        blob = read_blob(mapped(path), path.name)
    except ValueError as error:
        raise FileFormatError(path, f"no mean image: {error}") from error
    if blob.ndim == 4 and blob.shape[0] == 1:
        blob = blob[0]
    if blob.ndim != 3:
        raise FileFormatError(path, f"no mean image: its shape is {blob.shape}, expected C x H x W")
    return blob
