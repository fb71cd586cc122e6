"""Berkeley's replica of AlexNet for Caffe: the canonical network, but for its LRN and its preprocessing.

Source: BVLC/caffe, ``models/bvlc_alexnet`` (deploy.prototxt, readme.md). Its readme names two differences of training
(no relighting, biases of 0.1); those below stand in the prototxt alone.
"""

from dataclasses import replace

from zoo.layers import Preprocessing
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
