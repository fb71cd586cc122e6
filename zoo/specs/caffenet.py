"""CaffeNet, Caffe's reference model: `bvlc_alexnet` with pooling before normalisation.

Source: BVLC/caffe, ``models/bvlc_reference_caffenet`` (deploy.prototxt, and its readme, which states it).
"""

from dataclasses import replace

from zoo.specs import bvlc_alexnet

SPEC = replace(
    # Normalising the pooled map costs a quarter as much; the parameters are the same in number and shape, so that only
    # the order of the layers tells the two networks apart.
    bvlc_alexnet.SPEC.move("norm1", after="pool1").move("norm2", after="pool2"),
    name="caffenet",
    title="Caffe's reference model: bvlc_alexnet with pooling before LRN, BGR, 227 x 227",
)
