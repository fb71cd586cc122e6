"""CaffeNet, Caffe's reference model: `bvlc_alexnet` with pooling before normalisation.

Source: BVLC/caffe, ``models/bvlc_reference_caffenet`` (deploy.prototxt, and its readme, which states it).
"""

from dataclasses import replace

from zoo.recipe import Constant
from zoo.specs import bvlc_alexnet

SPEC = replace(
    # Normalising the pooled map costs a quarter as much; the parameters are the same in number and shape, so that only
    # the order of the layers tells the two networks apart.
    bvlc_alexnet.SPEC.move("norm1", after="pool1").move("norm2", after="pool2"),
    name="caffenet",
    title="Caffe's reference model: bvlc_alexnet with pooling before LRN, BGR, 227 x 227",
)

RECIPE = replace(
    bvlc_alexnet.RECIPE,
    name="bvlc_reference_caffenet",
    source="BVLC Caffe, models/bvlc_reference_caffenet: solver.prototxt and train_val.prototxt",
    initial={
        **bvlc_alexnet.RECIPE.initial,
        "conv[245].bias": Constant(value=1.0),
        "fc[67].bias": Constant(value=1.0),
    },
)
