"""Preprocessing folded into the first convolution: the network then takes plain RGB images with values 0..1."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from converters.weights import Weights
from zoo.errors import UnpreparedError, UnsupportedError
from zoo.layers import Conv, ModelSpec, Preprocessing
from zoo.shapes import parameter_shapes, window


def fold_preprocessing(weights: Weights) -> Weights:
    """The same function of the image, for RGB pixels in 0..1.

    A network reads ``(s * p - mean) / std`` of pixels ``p`` in 0..255, in its own channel order. That is
    ``gain * z + offset`` of ``z = p / 255``; a convolution W takes it up as W * gain, with its channels reordered, and
    as a bias of sum(W * offset). Computed in float64 and rounded once.

    Returns:
        Weights whose ``spec.preprocessing`` is RGB, scale 1/255, mean 0, std 1.

    Raises:
        UnpreparedError: nothing is known about the preprocessing.
        UnsupportedError: it cannot be folded exactly: where a convolution reads zeros outside the image, those zeros
            would need the offset, too.
    """
    spec, done = weights.spec, weights.spec.preprocessing
    if done is None:
        raise UnpreparedError(spec.name)
    channels, order = _channels(spec), [2, 1, 0] if done.channels == "BGR" else [0, 1, 2]
    if channels != 3 or len(done.mean) not in (1, 3) or len(done.std) not in (1, 3):
        raise UnsupportedError(f"{spec.name}: folding needs one RGB input; it has {len(spec.inputs)} of {channels}")
    std = np.broadcast_to(np.asarray(done.std, np.float64), 3)
    gain, offset = 255 * done.scale / std, -np.asarray(done.mean, np.float64) / std
    tensors = dict(weights.tensors)
    for layer in _readers(spec):
        _check(layer, spec, bool(offset.any()))
        old = np.asarray(tensors[f"{layer.name}.weight"], np.float64)
        # Canonical order is kept: position c of the new weight meets the plane that preprocessing put at order[c].
        tensors[f"{layer.name}.weight"] = (old * gain[:, None, None])[:, order].astype(np.float32)
        if offset.any():
            shift = (old * offset[:, None, None]).sum(axis=(1, 2, 3))
            before = tensors.get(f"{layer.name}.bias", np.zeros(layer.out_channels))
            tensors[f"{layer.name}.bias"] = (np.asarray(before, np.float64) + shift).astype(np.float32)
            spec = spec.replace_layer(replace(layer, bias=True))
    plain = Preprocessing(channels="RGB", scale=1 / 255, resize=done.resize, crop=done.crop)
    ordered = {name: tensors[name] for name in parameter_shapes(spec)}
    return Weights(spec=replace(spec, preprocessing=plain), tensors=ordered, source=weights.source)


def _channels(spec: ModelSpec) -> int:
    return spec.inputs[0].shape[0] if len(spec.inputs) == 1 else 0


def _readers(spec: ModelSpec) -> list[Conv]:
    source, wiring = spec.inputs[0].name, spec.wiring()
    readers = [layer for layer in spec.layers if source in wiring[layer.name]]
    for layer in readers:
        if not isinstance(layer, Conv):
            raise UnsupportedError(f"layer {layer.name!r}: only a convolution can take up preprocessing")
    return [layer for layer in readers if isinstance(layer, Conv)]


def _check(layer: Conv, spec: ModelSpec, has_offset: bool) -> None:
    if layer.groups != 1:
        raise UnsupportedError(f"layer {layer.name!r}: its {layer.groups} groups do not see every colour")
    at = window(layer, spec.inputs[0].shape)
    if has_offset and max(*at.before, *at.after) > 0:
        raise UnsupportedError(
            f"layer {layer.name!r}: reads zeros outside the image (pad {layer.pad}, rounded {layer.rounding}), which "
            "stand for the mean; it cannot be folded exactly. Export without --fold-preprocessing"
        )
