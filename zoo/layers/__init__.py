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

from zoo.layers import base, detecting, network, normalising, pointwise, pooling, shaping, weighted
from zoo.layers.base import *
from zoo.layers.detecting import *
from zoo.layers.network import *
from zoo.layers.normalising import *
from zoo.layers.pointwise import *
from zoo.layers.pooling import *
from zoo.layers.shaping import *
from zoo.layers.weighted import *

__all__: list[str] = []
__all__ += base.__all__
__all__ += detecting.__all__
__all__ += network.__all__
__all__ += normalising.__all__
__all__ += pointwise.__all__
__all__ += pooling.__all__
__all__ += shaping.__all__
__all__ += weighted.__all__
