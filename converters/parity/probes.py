"""What the proof feeds its subjects: seeded weights and inputs that make every known mistake visible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from zlib import crc32

import numpy as np

from converters.weights import Array, Weights
from zoo.errors import SpecError, ZooError
from zoo.layers import DetectionOutput, Embed, Input, ModelSpec, Shape, Sigmoid, TanH, Unary
from zoo.registry import optional
from zoo.shapes import check_cost, lengths, parameter_shapes, tied

# Standard deviations of the two probes. With small activations every LRN looks like the identity, so one is as large as
# real pictures less their mean; with large ones a lost bias hides, so the other is not.
PROBE_DEVIATIONS = (60.0, 1.0)

# Of both, where many are fed.
_ROUNDS = 8

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".tif", ".tiff"}

# Biases of about the size of the small probe's activations.
_BIAS_DEVIATION = 0.5


def probe_weights(spec: ModelSpec, seed: int = 0) -> Weights:
    """Weights that keep activations at the size of the input and no parameter without effect.

    He-scaled kernels, N(0, 2 / fan in); biases N(0, 0.25); means N(0, 0.25); scales U(0.5, 1.5); variances U(1, 3),
    which a layer's own numbers have on the small probe, with its bias: a deep network of normalisations stays at unit
    scale. Each tensor has a generator of its own (seed and name), so that equal layers of two networks get equal
    numbers; tied ones are equal.
    """
    check_cost(spec)
    shapes, owners = parameter_shapes(spec), tied(spec)
    tensors = {name: _probe(owners.get(name, name), shape, seed) for name, shape in shapes.items()}
    return Weights(spec=spec, tensors=tensors, source=f"probe weights, seed {seed}")


def _probe(name: str, shape: Shape, seed: int) -> Array:
    generator = np.random.default_rng((seed, crc32(name.encode())))
    kind = name.rpartition(".")[2]
    if kind == "variance":
        return generator.uniform(1.0, 3.0, shape).astype(np.float32)
    if kind == "weight" and len(shape) < 2:
        return generator.uniform(0.5, 1.5, shape).astype(np.float32)
    drawn = generator.standard_normal(shape, np.float32)
    deviation = (2.0 / prod(shape[1:])) ** 0.5 if kind == "weight" else _BIAS_DEVIATION
    drawn *= np.float32(deviation)
    return drawn


def probe_deviations(spec: ModelSpec) -> tuple[float, float]:
    """`PROBE_DEVIATIONS`, made smaller for a network that would else be judged where float32 itself runs out.

    One with its preprocessing folded in reads pixels of 0..1. One with a TanH, Sigmoid or Unary is steepest at zero:
    behind sums of hundreds, it shows their rounding in full, against a peak of one.
    """
    (large, small), images = PROBE_DEVIATIONS, spec.preprocessing
    a_pixel = images.scale / min(images.std) if images else 1.0
    if large * a_pixel < 1:
        return large * a_pixel, small * a_pixel
    if any(isinstance(layer, TanH | Sigmoid | Unary) for layer in spec.layers):
        return small, small * small / large
    return large, small


def _rows(spec: ModelSpec, wanted: int) -> dict[str, int]:
    """How many samples each input is fed: as many as are wanted, or those for which alone the network is described."""
    equal = {source.name: wanted for source in spec.inputs}
    try:
        lengths(spec, equal)
    except SpecError:
        sizes = lengths(spec)
        return {name: sizes[name] for name in equal}
    return equal


def probe_inputs(spec: ModelSpec, seed: int = 0) -> tuple[dict[str, Array], tuple[str, ...]]:
    """A batch for every input of `spec`, float32, one sample a probe, and what each sample is."""
    inputs, deviations = dict[str, Array](), probe_deviations(spec)
    rows = _rows(spec, len(deviations))
    deviations = np.resize(np.asarray(deviations), max(rows.values(), default=len(deviations)))
    for source in spec.inputs:
        generator = np.random.default_rng((seed, crc32(source.name.encode()), 1))
        drawn = generator.standard_normal((len(deviations), *source.shape), np.float32)
        scale = np.asarray(deviations, np.float32).reshape(-1, *[1] * len(source.shape))
        inputs[source.name] = _fed(spec, source, drawn * scale)[: rows[source.name]]
    return inputs, tuple(f"probe N(0, {deviation:g}^2)" for deviation in deviations)


def many_probes(spec: ModelSpec, seed: int = 0) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Sixteen samples, half of them noise and half nearly flat colours; as `probe_inputs` gives them.

    For a subject whose layers cannot be asked one by one: fewer units are silent on all of these than on two probes.
    """
    deviations = np.asarray(probe_deviations(spec), np.float32)
    rows = _rows(spec, len(deviations) * _ROUNDS)
    deviations = np.resize(deviations, max(rows.values(), default=len(deviations)))
    is_flat = np.arange(len(deviations)) >= len(deviations) // 2
    inputs = dict[str, Array]()
    for source in spec.inputs:
        generator, rest = np.random.default_rng((seed, crc32(source.name.encode()), 2)), len(source.shape) - 1
        drawn = generator.standard_normal((len(deviations), *source.shape), np.float32)
        colours = generator.standard_normal((len(deviations), source.shape[0], *[1] * rest), np.float32)
        drawn[is_flat] = 2 * colours[is_flat] + np.float32(0.2) * drawn[is_flat]
        drawn *= deviations.reshape(-1, *[1] * len(source.shape))
        inputs[source.name] = _fed(spec, source, drawn)[: rows[source.name]]
    means = np.where(is_flat, "a colour", "0")
    told = (f"probe N({mean}, {deviation:g}^2)" for mean, deviation in zip(means, deviations, strict=True))
    return inputs, tuple(told)


def _fed(spec: ModelSpec, source: Input, drawn: Array) -> Array:
    """What is drawn; where tables alone read it, numbers of rows that all of them have, and for boxes, boxes."""
    wiring = spec.wiring()
    readers = [spec.layer(name) for name, reads in wiring.items() if source.name in reads]
    if len(readers) == 1 and isinstance(readers[0], DetectionOutput):
        return _boxes(wiring[readers[0].name].index(source.name), drawn % 1)
    tables = [layer.rows for layer in readers if isinstance(layer, Embed)]
    if not tables or len(tables) != len(readers):
        return drawn
    rows = min(tables)
    return np.floor(np.abs(drawn, dtype=np.float64) * rows % rows).astype(np.float32)


def _boxes(place: int, shares: Array) -> Array:
    """What a `DetectionOutput` reads, of numbers of 0..1: offsets, scores, or prior boxes with their variances."""
    if place < 2:
        return shares - np.float32(0.5) if place == 0 else shares
    corners = shares[:, 0].reshape(len(shares), -1, 2, 2)
    near, size = 0.6 * corners[:, :, 0], 0.1 + 0.3 * corners[:, :, 1]
    boxes = np.concatenate([near, near + size], axis=2).reshape(len(shares), -1)
    return np.stack([boxes, 0.1 + 0.2 * shares[:, 1]], axis=1).astype(np.float32)


def images_in(folder: Path) -> list[Path]:
    """The pictures of a folder and of those within it, in the order of their names.

    Raises:
        ZooError: no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise ZooError(f"{folder}: no such folder of images")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    if not found:
        raise ZooError(f"{folder}: holds no image ({', '.join(sorted(_SUFFIXES))})")
    return found


def image_inputs(spec: ModelSpec, images: Sequence[Path]) -> dict[str, Array]:
    """Pictures, prepared as the network's preprocessing says: a batch for its only input, N x C x H x W, float32."""
    with optional():  # Pillow is needed for pictures only
        from zoo.preprocess import canonical_input
    batch = np.stack([canonical_input(path, spec) for path in images])
    return {spec.inputs[0].name: batch}


def given_inputs(spec: ModelSpec, inputs: Mapping[str, Array]) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Somebody's own batch, checked against the network and made float32, and what each sample is."""
    wanted = {source.name: source.shape for source in spec.inputs}
    problems = [f"{name} is missing" for name in wanted if name not in inputs]
    problems += [f"{name} is no input" for name in inputs if name not in wanted]
    fed = {name: np.asarray(inputs[name], np.float32) for name in wanted if name in inputs}
    problems += [
        f"{name} is {array.shape}, expected (N, {', '.join(map(str, wanted[name]))})"
        for name, array in fed.items()
        if array.shape[1:] != wanted[name] or not len(array)
    ]
    if not problems and len({len(array) for array in fed.values()}) > 1:
        problems = ["the inputs' batches differ in size"]
    if problems:
        raise ZooError(f"{spec.name} cannot be fed: {'; '.join(problems)}")
    return fed, tuple(f"sample {i}" for i in range(len(next(iter(fed.values())))))
