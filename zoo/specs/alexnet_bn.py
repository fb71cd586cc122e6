"""AlexNet with batch normalisation in the place of LRN and dropout, and of a mean: CVGJ's.

M. Simon, E. Rodner, J. Denzler, *ImageNet pre-trained models with batch normalization*, 2016; cvjena/cnn-models on
GitHub, ``AlexNet_cvgj/deploy.prototxt``, whose names these are. It has no recipe: training here learns no statistics.
"""

from dataclasses import replace

from zoo.layers import BatchNorm, Preprocessing, Scale
from zoo.specs import alexnet

_plain = alexnet.SPEC.without("norm1", "norm2", "drop6", "drop7")
for _layer in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"):
    _plain = _plain.insert(BatchNorm(name=f"{_layer}/bn"), after=_layer)

SPEC = replace(
    _plain,
    # "No mean subtraction is required" (its README): the first layer learns one.
    layers=(BatchNorm(name="data/bn"), Scale(name="data/scale", bias=True), *_plain.layers),
    name="alexnet_bn",
    title="AlexNet with batch normalisation (CVGJ): of images and every layer, no LRN, no dropout, 227 x 227",
    preprocessing=Preprocessing(channels="BGR", resize=256),
)
