"""The network that won in 2013: the 2012 network looked into, with smaller and denser first filters, on one GPU.

M. Zeiler, R. Fergus, *Visualizing and Understanding Convolutional Networks*, 2013 (arXiv 1311.2901); its figure 3 gives
the layers, its section 3.1 the training. ONNX's zfnet512 is the wider relative (512-1024-512) with LRN before pooling.
"""

from dataclasses import replace

from zoo.recipe import Constant, Normal
from zoo.specs import alexnet

SPEC = replace(
    # The figure's maps are 110, 55, 26, 13, 13, 13, 13 and 6 wide: with pools that round up, these pads give them.
    alexnet.SPEC.change("conv1", kernel=(7, 7), stride=(2, 2), pad=(1, 1))
    .change("conv2", stride=(2, 2), pad=(0, 0), groups=1)
    .change("conv4", groups=1)
    .change("conv5", groups=1)
    # "pooled ... and contrast normalized across feature maps", in this order. Of the normalisation's constants the
    # paper says nothing: they are those of 2012, over one tower.
    .change("norm1", towers=1)
    .change("norm2", towers=1)
    .move("norm1", after="pool1")
    .move("norm2", after="pool2")
    .with_input_size(224),
    name="zfnet",
    title="Zeiler and Fergus 2013: 7 x 7 in conv1, stride 2 in conv2, one tower, pooling before LRN, 224 x 224",
)

RECIPE = replace(
    alexnet.RECIPE,
    name="zfnet",
    source="the 2013 paper, section 3.1 (its renormalised filters are not)",
    epochs=70,
    bias_factor=1.0,
    initial={"*.weight": Normal(std=0.01), "*.bias": Constant()},
)
