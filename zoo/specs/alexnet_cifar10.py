"""The common AlexNet for CIFAR-10: torchvision's network cut to 32 x 32 images and 10 classes.

Source: the form that many CIFAR-10 collections share (icpm/pytorch-cifar10, ``models/AlexNet.py``, among the first):
3 x 3 kernels throughout, stride 2 in conv1, pooling without overlap, dropout before fc6 and fc7.
"""

from dataclasses import replace

from zoo.layers import Preprocessing
from zoo.recipe import Augmentation, Constant, HeNormal, MultiStepLR, Normal, Recipe
from zoo.specs import alexnet_owt

SPEC = replace(
    alexnet_owt.SPEC.change("conv1", kernel=(3, 3), stride=(2, 2), pad=(1, 1))  # 32 -> 16
    .change("conv2", kernel=(3, 3), pad=(1, 1))
    # Windows side by side: 16 -> 8 -> 4 -> 2, so that fc6 reads 256 x 2 x 2.
    .change("pool1", kernel=(2, 2))
    .change("pool2", kernel=(2, 2))
    .change("pool5", kernel=(2, 2))
    .with_num_classes(10)
    .with_input_size(32),
    name="alexnet_cifar10",
    title="AlexNet for CIFAR-10: alexnet_owt with 3 x 3 kernels, 2 x 2 pools, 10 classes, 32 x 32",
    # Mean and standard deviation of CIFAR-10's training images.
    preprocessing=Preprocessing(
        channels="RGB", scale=1 / 255, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616), resize=32
    ),
)

RECIPE = Recipe(
    name="cifar10",
    source="this project, with the augmentation of He et al. 2015, section 4.2",
    batch_size=128,
    epochs=60,
    rate=0.01,
    bias_factor=2.0,
    schedule=MultiStepLR(milestones=(0.5, 0.75), unit="run"),
    # Few images to learn from: weights of .01 and biases of 1 would keep the network at chance for longer than the
    # whole run lasts. The classifier starts small: all classes are then equally likely, and the first steps no leap.
    initial={"*.weight": HeNormal(), "fc8.weight": Normal(std=0.01), "*.bias": Constant()},
    unit_inputs=True,
    # 32 x 32 images leave no room for crops: four pixels around them do.
    augmentation=Augmentation(pad=4),
)
