"""Reshaping, joining and cutting: the row of each kind."""

from __future__ import annotations

from typing import assert_never

from zoo.axes import axis_index
from zoo.frameworks.keras.calls import Call, canonical, own, unless
from zoo.frameworks.keras.site import Site, native_axis
from zoo.layers import Concat, Constant, Crop, Flatten, Permute, Reshape, Shaping, Shuffle, Slice, Tile
from zoo.shapes import cuts, first_cut, permutation


def call(layer: Shaping, at: Site) -> Call:
    """The family's part of `zoo.frameworks.keras.table.calls`."""
    if isinstance(layer, Constant):
        alone = unless(bool(layer.inputs), alone=True)
        return canonical("Constant", shape=layer.shape, **unless(layer.value is None, value=layer.value), **alone)
    shape = at.shapes[0]
    match layer:
        case Flatten() | Reshape():
            return canonical("CanonicalReshape", shape=at.shape)
        case Concat():
            if axis_index(layer.name, layer.axis, shape) == 0:
                return own("Join")
            return Call(make="Concatenate", options={"axis": native_axis(layer, layer.axis, shape)})
        case Slice():
            axis = native_axis(layer, layer.axis, shape)
            return own("Slice", axis=axis, start=layer.start, stop=layer.stop)
        case Permute():
            return canonical("CanonicalPermute", order=permutation(layer, shape))
        case Crop():
            starts, stops = zip(*cuts(layer, at.shapes), strict=True)
            first = first_cut(layer, shape)
            return canonical("CropTo", starts=starts, stops=stops, **unless(first is None, first=first))
        case Shuffle():
            return canonical("ChannelShuffle", groups=layer.groups)
        case Tile():
            return own("Tile", axis=native_axis(layer, layer.axis, shape), times=layer.tiles)
        case _:
            assert_never(layer)
