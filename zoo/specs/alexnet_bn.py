"""AlexNet with batch normalisation in the place of LRN, dropout and the mean: CVGJ's.

M. Simon, E. Rodner, J. Denzler, *ImageNet pre-trained models with batch normalization*, 2016 (arXiv 1612.01452);
cvjena/cnn-models, ``AlexNet_cvgj/deploy.prototxt``, whose names these are. Its layers have no learnt factors, but for
those of the image.
"""

from dataclasses import replace

from zoo.layers import BatchNorm, Preprocessing, Scale
from zoo.recipe import Augmentation, Constant, HeNormal, PolyLR, Recipe
from zoo.specs import alexnet

_plain = alexnet.SPEC.without("norm1", "norm2", "drop6", "drop7")
for _layer in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"):
    _plain = _plain.insert(BatchNorm(name=f"{_layer}/bn"), after=_layer)

SPEC = replace(
    _plain,
    layers=(BatchNorm(name="data/bn"), Scale(name="data/scale", bias=True), *_plain.layers),
    name="alexnet_bn",
    title="CVGJ's AlexNet: batch normalisation of images and every layer, no LRN, no dropout, BGR, 227 x 227",
    # "No mean subtraction is required" (its README): the first layer has one.
    preprocessing=Preprocessing(channels="BGR", resize=256),
)

RECIPE = Recipe(
    name="cvgj",
    source="cvjena/cnn-models, AlexNet_cvgj: train.solver and train.prototxt",
    batch_size=256,  # iter_size 2, of 128 each
    epochs=64,  # max_iter 320,000
    rate=0.05,
    bias_factor=2.0,
    statistics_rate=0.001,  # moving_average_fraction's default, 0.999
    schedule=PolyLR(),
    initial={"*.weight": HeNormal(), "*.bias": Constant()},  # msra
    augmentation=Augmentation(),  # mirror, crop_size
)
