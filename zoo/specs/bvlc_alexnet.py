"""Berkeley's replica of AlexNet for Caffe: the canonical network, but for its LRN and its preprocessing.

Source: BVLC/caffe, ``models/bvlc_alexnet`` (deploy.prototxt, readme.md). Its readme names two differences of training
(no relighting, biases of 0.1); those below stand in the prototxt alone.
"""

from dataclasses import replace

from zoo.layers import Preprocessing
from zoo.recipe import Augmentation, Constant, Normal, StepLR
from zoo.specs import alexnet

SPEC = replace(
    # lrn_param writes neither k nor a group: k is Caffe's default 1, the window runs across all 96 (256) channels.
    alexnet.SPEC.change("norm1", k=1.0, towers=1).change("norm2", k=1.0, towers=1),
    name="bvlc_alexnet",
    title="Berkeley's Caffe AlexNet: LRN across both towers (k 1), BGR, 227 x 227",
    # OpenCV's BGR order, 0..255, less the channel means of ilsvrc_2012_mean.npy. (Caffe's own tools squash the image to
    # 256 x 256 where the paper keeps its proportions; on a square image that is the same.)
    preprocessing=Preprocessing(channels="BGR", mean=(104.00698793, 116.66876762, 122.67891434), resize=256),
)

RECIPE = replace(
    alexnet.RECIPE,
    name="bvlc_alexnet",
    source="BVLC Caffe, models/bvlc_alexnet: solver.prototxt and train_val.prototxt",
    batch_size=256,
    epochs=90,  # max_iter 450,000 of 256 images
    schedule=StepLR(step_size=100_000, unit="steps"),
    initial={
        "*.weight": Normal(std=0.01),
        "fc[67].weight": Normal(std=0.005),
        "*.bias": Constant(),
        "conv[245].bias": Constant(value=0.1),  # "initializing non-zero biases to 0.1 instead of 1"
        "fc[67].bias": Constant(value=0.1),
    },
    augmentation=Augmentation(),  # "not training with the relighting data-augmentation"
)
