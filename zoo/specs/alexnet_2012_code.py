"""The network of the code that was released for 2012, where it parts from the paper's text.

Source: github.com/computerhistory/AlexNet-Source-Code, ``layers/layers-145.cfg`` and ``layer-params-145.cfg``, the
configuration whose logs give the paper's published error (40.7 / 18.2 %).
"""

from dataclasses import replace

from zoo.layers import LRN
from zoo.specs import alexnet

SPEC = replace(
    # cuda-convnet rounds the size of a convolution up, so that 224 gives 55 x 55; the last window reads zeros.
    alexnet.SPEC.change("conv1", rounding="ceil")
    .with_input_size(224)
    # conv1 and conv5 have no neuron: the ReLU stands behind the pooling (conv1 is normalised before any ReLU).
    .move("relu1", after="pool1")
    .move("relu5", after="pool5")
    # cnorm2, which the paper does not mention: normalisation over 5 x 5 pixels of the same map, scale .001, pow .75,
    # minDiv 1, between the towers' rnorm2 and pool2.
    .insert(LRN(name="cnorm2", size=5, alpha=1e-3, beta=0.75, k=1.0, region="within"), after="norm2"),
    name="alexnet_2012_code",
    title="the 2012 source code's network: ReLU after pool1 and pool5, LRN within maps before pool2, 224 x 224",
)
