"""The common AlexNet for CIFAR-10: torchvision's network cut to 32 x 32 images and 10 classes.

Source: the form that many CIFAR-10 collections share (icpm/pytorch-cifar10, ``models/AlexNet.py``, among the first):
3 x 3 kernels throughout, stride 2 in conv1, pooling without overlap, dropout before fc6 and fc7.
"""

from dataclasses import replace

from zoo.layers import Preprocessing
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
