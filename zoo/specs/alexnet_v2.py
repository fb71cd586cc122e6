"""TF-slim's ``alexnet_v2``: one tower, no LRN, no padding in conv1.

Source: tensorflow/models, ``research/slim/nets/alexnet.py`` (also ``tf_slim.nets.alexnet``), after a footnote of
A. Krizhevsky, *One weird trick for parallelizing convolutional neural networks*, 2014. Its checkpoints hold fc6 as a
5 x 5 and fc7, fc8 as 1 x 1 convolutions: that is storage, and the TF-slim adapter's affair. The function is dense.
"""

from dataclasses import replace

from zoo.layers import Preprocessing
from zoo.recipe import Constant, Recipe, StepLR, TruncatedNormal, XavierUniform
from zoo.specs import alexnet

SPEC = replace(
    alexnet.SPEC.without("norm1", "norm2")
    .change("conv1", out_channels=64)  # VALID, as the canonical one: 224 gives 54 x 54
    .change("conv2", out_channels=192, groups=1)
    .change("conv4", groups=1)  # 384 maps; torchvision has 256 (pytorch/vision issue 704)
    .change("conv5", groups=1)
    # slim.max_pool2d is VALID: it rounds down, 54 -> 26 -> 12 -> 5.
    .change("pool1", rounding="floor")
    .change("pool2", rounding="floor")
    .change("pool5", rounding="floor")
    .with_input_size(224),  # alexnet_v2.default_image_size
    name="alexnet_v2",
    title="TF-slim's alexnet_v2: one tower 64-192-384-384-256, no LRN, unpadded conv1, 224 x 224",
    # slim's preprocessing_factory has no entry for alexnet_v2 and no checkpoint was ever published with it; its default
    # for new networks is Inception's: the central 87.5 % (224 of 256), RGB, -1..1.
    preprocessing=Preprocessing(channels="RGB", scale=1 / 127.5, mean=(1.0, 1.0, 1.0), resize=256),
)

RECIPE = Recipe(
    name="slim",
    source="tf_slim/nets/alexnet.py: initial values and weight decay; rates, which slim leaves open, are torchvision's",
    batch_size=256,
    epochs=90,
    rate=0.01,
    weight_decay=5e-4,  # alexnet_v2_arg_scope's default, of weights alone
    schedule=StepLR(step_size=30, unit="epochs"),
    # "LRN layers have been removed and the initializers changed from random_normal_initializer to
    # xavier_initializer": the default of slim.conv2d, but for what used to be dense layers.
    initial={
        "*.weight": XavierUniform(),
        "fc[678].weight": TruncatedNormal(std=0.005),
        "*.bias": Constant(value=0.1),
        "fc8.bias": Constant(),
    },
)
