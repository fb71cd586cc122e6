"""The closed union of layer kinds, and `ModelSpec`, a network as inert data.

Standard library only: a spec can be read, compared and printed where no framework is installed.

Conventions, for every kind:

* A file holds a family of kinds, and every framework's folder has a file of the same name for them. What each framework
  must learn of a new kind, the type checker lists: each `match` over a family ends in `assert_never`.
* Every layer has exactly one output, named after the layer. Shapes leave the batch axis out: an image is
  ``(C, H, W)``, a vector ``(C,)``. An ``axis`` counts the batch as axis 0 and may be negative, as in Caffe.
* ``inputs`` names the activations read; left empty it means "the layer listed before" (a chain).
* Pairs are (height, width).
* The *meaning* of each kind is its float64 function in ``zoo.reference``; the docstrings state it.
"""

from zoo.layers.base import Pair, Rounding, Shape
from zoo.layers.network import Input, Layer, ModelSpec, Names, Preprocessing, Tie, stored_size
from zoo.layers.normalising import LRN, MVN, BatchNorm, Normalising, Normalize, Softmax
from zoo.layers.pointwise import (
    FUNCTIONS,
    Axpy,
    Bias,
    Dropout,
    Eltwise,
    Function,
    Pointwise,
    Power,
    PReLU,
    ReLU,
    Scale,
    Sigmoid,
    TanH,
    Unary,
)
from zoo.layers.pooling import LOWEST, ArgMax, Interp, Pool, Pooling, Reduction
from zoo.layers.shaping import Concat, Crop, Flatten, Permute, Reshape, Shaping, Shuffle, Slice, Tile
from zoo.layers.weighted import Conv, Deconv, Dense, Weighted

__all__ = [
    "FUNCTIONS",
    "LOWEST",
    "LRN",
    "MVN",
    "ArgMax",
    "Axpy",
    "BatchNorm",
    "Bias",
    "Concat",
    "Conv",
    "Crop",
    "Deconv",
    "Dense",
    "Dropout",
    "Eltwise",
    "Flatten",
    "Function",
    "Input",
    "Interp",
    "Layer",
    "ModelSpec",
    "Names",
    "Normalising",
    "Normalize",
    "PReLU",
    "Pair",
    "Permute",
    "Pointwise",
    "Pool",
    "Pooling",
    "Power",
    "Preprocessing",
    "ReLU",
    "Reduction",
    "Reshape",
    "Rounding",
    "Scale",
    "Shape",
    "Shaping",
    "Shuffle",
    "Sigmoid",
    "Slice",
    "Softmax",
    "TanH",
    "Tie",
    "Tile",
    "Unary",
    "Weighted",
    "stored_size",
]
