"""Activation and parameter shapes, parameter counts and multiply-adds; an impossible spec is refused by layer name.

A file a family of kinds says what shape each puts out and which parameters it has, and `network` applies them.
"""

from zoo.shapes.batches import check_batches, lengths
from zoo.shapes.cost import check_cost
from zoo.shapes.detecting import map_size, prior_ratios
from zoo.shapes.network import (
    activation_shapes,
    layer_parameters,
    multiply_adds,
    output_shape,
    parameter_count,
    parameter_shapes,
    parameter_table,
    tied,
    too_large,
)
from zoo.shapes.pointwise import power_constant
from zoo.shapes.pooling import interp_size, unpooled
from zoo.shapes.shaping import cuts, first_cut, permutation, reshaped
from zoo.shapes.weighted import deconv_size
from zoo.shapes.window import Window, window

__all__ = [
    "Window",
    "activation_shapes",
    "check_batches",
    "check_cost",
    "cuts",
    "deconv_size",
    "first_cut",
    "interp_size",
    "layer_parameters",
    "lengths",
    "map_size",
    "multiply_adds",
    "output_shape",
    "parameter_count",
    "parameter_shapes",
    "parameter_table",
    "permutation",
    "power_constant",
    "prior_ratios",
    "reshaped",
    "tied",
    "too_large",
    "unpooled",
    "window",
]
