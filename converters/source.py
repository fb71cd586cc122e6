"""What a SRC of the command line stands for: a file, here or on the Hub, or an id of the manifest; how it is read."""

from __future__ import annotations

import argparse
import logging
from fractions import Fraction
from pathlib import Path

import numpy as np

from converters import images
from converters.convert import OpenedFile, Reading, load, open_file
from converters.fitting import network_of
from converters.formats import suffixes
from converters.formats.caffe import read_mean, read_network
from converters.names import read_map
from converters.said import HUB, check_network, is_member
from converters.sniff import refuse_others, sniffed
from converters.weights import Array, Weights
from zoo import registry
from zoo.errors import FileFormatError, ZooError, said
from zoo.layers import ModelSpec
from zoo.wire.checkpoint_files import index_path
from zoo.wire.mapped import mapped
from zoo.wire.matlab import read_matlab_5

_LOG = logging.getLogger(__name__)

# What a mean image is called in MATLAB (caffe ``matlab/+caffe/imagenet``; mean_data in its older files).
_MATLAB_MEANS = ("image_mean", "mean_data")
_MEAN_SUFFIXES = (".binaryproto", ".npy", ".mat")


def find(source: str) -> tuple[Path, ModelSpec | None]:
    """The file of a SRC, fetched where it is somewhere else, and the network that the manifest says it holds."""
    path = Path(source)
    if path.exists() or index_path(path).exists():
        return path, None
    if source.startswith(HUB):
        with registry.optional():
            from converters.hub import fetch_hub
        return fetch_hub(source), None
    if path.suffix or path.parent != Path():
        raise FileFormatError(path, "no such file")
    with registry.optional():
        from converters import manifest
        from converters.fetch import fetch
    try:
        entry = manifest.entry(source)
    except ZooError as error:
        raise ZooError(f"{source}: no such file, and {error}") from error
    return fetch(entry), entry.spec()


def told(options: argparse.Namespace) -> tuple[ModelSpec | None, Reading]:
    """The network that the user says a file is read as, and how it is read."""
    file = _model_file(options)
    return _given(options, file), reading(options, file)


def _given(options: argparse.Namespace, file: OpenedFile | None) -> ModelSpec | None:
    if options.prototxt:
        return _prototxt(options, options.prototxt)
    if options.stage:
        raise ZooError("--stage says how a prototxt is read; give --prototxt FILE")
    if file is None:
        return registry.model(options.model) if options.model else None
    graph = file.native.graph
    if graph is None and file.described is None:
        raise ZooError(f"--model {file.path}: describes no network; it takes a family member, or a file that does")
    return file.described or network_of(file.path, file.native, file.form, None)


def _model_file(options: argparse.Namespace) -> OpenedFile | None:
    """The file that --model names in the place of a family member."""
    path = Path(options.model or "")
    is_path = path.is_file() or path.suffix or path.parent != Path()
    if not options.model or is_member(options.model) or not is_path:
        return None
    return open_file(path, Reading(sizes=dict(options.input)), numbers=False)


def prototxt(options: argparse.Namespace, path: Path) -> ModelSpec:
    """The network of a prototxt, its images prepared as the options say; they can say nothing of weights."""
    return reading(options).images.of(_prototxt(options, path))


def _prototxt(options: argparse.Namespace, path: Path) -> ModelSpec:
    """The network of a prototxt; what was left out or assumed is said."""
    net = read_network(path, stages=options.stage, sizes=dict(options.input))
    for name in net.omitted:
        _LOG.warning("%s: %s is for training only, left out", path, name)
    for note in net.notes:
        _LOG.warning("%s: %s", path, note)
    return net.spec


def load_source(options: argparse.Namespace, source: str, spec: ModelSpec | None = None) -> Weights:
    """The weights of a SRC, read as the options say; of networks, the user's counts before the manifest's.

    Args:
        options: those of `told`; unless `spec` is given, those of the network too.
        source: the SRC.
        spec: the network.
    """
    (path, said), file = find(source), _model_file(options)
    return load(path, spec=spec or _given(options, file) or said, how=reading(options, file))


def network(options: argparse.Namespace, source: str) -> ModelSpec:
    """What a MODEL or SRC stands for: a family member, the network of a prototxt, or the one that weights fit."""
    path = Path(source)
    is_source = path.exists() or index_path(path).exists()
    if is_member(source) or (not is_source and not path.suffix and path.parent == Path()):
        return reading(options).images.of(registry.model(source))
    if is_prototxt(options, path):
        check_network(options, source)
        return prototxt(options, path)
    return load_source(options, source).spec


def is_prototxt(options: argparse.Namespace, path: Path) -> bool:
    """Whether a file is a network's text: nobody says that it is weights, neither its bytes nor its name."""
    is_told = options.from_format is not None or sniffed(path) is not None or path.suffix in suffixes()
    return path.is_file() and not is_told


def reading(options: argparse.Namespace, file: OpenedFile | None = None) -> Reading:
    """How the options say that a file is read; `file` is what --model names, where it names one."""
    return Reading(
        from_format=options.from_format,
        ema=options.ema,
        narrow=options.narrow,
        names=read_map(options.names) if options.names else None,
        map_out=options.map_out,
        images=_images(options),
        sizes={} if options.prototxt or file else dict(options.input),
        graph=file.native.graph if file else None,
    )


def _images(options: argparse.Namespace) -> images.SaidOfImages:
    mean_file = Path(options.mean or "")
    is_file = mean_file.is_file() or mean_file.suffix in _MEAN_SUFFIXES
    scale, std = _numbers("--scale", options.scale, (1,)), _numbers("--std", options.std, (1, 3))
    for flag, values in (("--scale", scale), ("--std", std)):
        if values and min(values) <= 0:
            raise ZooError(f"{flag}: expected numbers above 0, got {min(values):g}")
    if options.labels:
        refuse_others(options.labels)
    return images.SaidOfImages(
        like=options.images_like,
        channels=options.channels,
        scale=scale[0] if scale else None,
        mean=None if is_file else _numbers("--mean", options.mean, (1, 3)),
        mean_BGR=_mean_image(mean_file) if is_file else None,
        std=std,
        classes=images.read_labels(options.labels) if options.labels else (),
    )


def _numbers(flag: str, text: str | None, counts: tuple[int, ...]) -> tuple[float, ...] | None:
    """``0.485,0.456,0.406`` or ``1/255``, as numbers."""
    if text is None:
        return None
    try:
        values = tuple(float(Fraction(part.strip())) for part in text.split(","))
    except (ValueError, ArithmeticError):
        values = ()
    if len(values) not in counts:
        wanted = "1 or 3 numbers, as 1.5,2,1/3" if 3 in counts else "a number, as 1/255"
        file = f", or a mean image ({', '.join(_MEAN_SUFFIXES)})" if flag == "--mean" else ""
        raise ZooError(f"{flag}: expected {wanted}{file}; got {text!r}")
    return values


def _mean_image(path: Path) -> tuple[float, ...]:
    """The mean of each channel of a mean image: ``.binaryproto``, ``.npy`` or ``.mat``, all in Caffe's order, BGR."""
    if not path.is_file():
        raise FileFormatError(path, "no such file")
    refuse_others(path)
    if path.suffix == ".mat":
        image = _matlab_image(path)
    elif path.suffix != ".npy":
        image = read_mean(path)
    else:
        try:
            image = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError) as error:
            raise FileFormatError(path, f"no mean image: {error}") from error
    if image.dtype.kind not in "fiu" or image.ndim not in (1, 3) or image.shape[0] != 3:
        raise FileFormatError(path, f"no mean image of pictures: {image.dtype} of {image.shape}, expected 3 x H x W")
    return tuple(float(value) for value in image.reshape(3, -1).mean(axis=1, dtype=np.float64))


def _matlab_image(path: Path) -> Array:
    """The mean image of Caffe's interface to MATLAB, W x H x C there (``ilsvrc_2012_mean.mat``), as C x H x W."""
    try:
        found = read_matlab_5(mapped(path), _MATLAB_MEANS)
    except Exception as error:  # whatever a damaged file can raise
        raise FileFormatError(path, f"no mean image: {said(error, 200)}") from error
    if not isinstance(image := next(iter(found.values()), None), np.ndarray):
        raise FileFormatError(path, f"no mean image: none of {', '.join(_MATLAB_MEANS)} is there")
    return image.T
