"""torchvision's ``alexnet``: the one-tower network of "one weird trick" (OWT), without LRN.

Source: pytorch/vision, ``torchvision/models/alexnet.py``, after A. Krizhevsky, *One weird trick for parallelizing
convolutional neural networks*, 2014. torchvision's adaptive average pool to 6 x 6 is the identity for 224 x 224 images
and is no layer here.
"""

from dataclasses import replace

from zoo.layers import Preprocessing
from zoo.recipe import FanInUniform, Recipe, StepLR
from zoo.specs import alexnet

SPEC = replace(
    alexnet.SPEC.without("norm1", "norm2")
    .change("conv1", out_channels=64, pad=(2, 2))  # 224 + 4 gives 55 x 55
    .change("conv2", out_channels=192, groups=1)
    .change("conv4", out_channels=256, groups=1)  # as cuda-convnet2's one-GPU configuration; slim has 384
    .change("conv5", groups=1)
    # torch.nn.MaxPool2d rounds down unless ceil_mode is asked for; at 224 both give 27, 13, 6.
    .change("pool1", rounding="floor")
    .change("pool2", rounding="floor")
    .change("pool5", rounding="floor")
    # Dropout stands before the dense layers, not after them (pytorch/vision issue 549, kept for old weights).
    .move("drop6", after="pool5")
    .move("drop7", after="relu6")
    .with_input_size(224),
    name="alexnet_owt",
    title="torchvision's alexnet: one tower 64-192-384-256-256, no LRN, padded conv1, RGB mean/std, 224 x 224",
    # torchvision.transforms.ImageClassification's defaults; transforms.functional.center_crop rounds half to even.
    preprocessing=Preprocessing(
        channels="RGB",
        scale=1 / 255,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        resize=256,
        crop="even",
    ),
)

RECIPE = Recipe(
    name="torchvision",
    source="pytorch/vision, references/classification: train.py and its README (its crops of random size are not)",
    batch_size=256,  # 32 on each of 8 GPUs
    epochs=90,
    rate=0.01,  # AlexNet's own; its other networks have 0.1
    weight_decay=1e-4,
    bias_decay=1.0,  # torch.optim.SGD pulls at all parameters
    schedule=StepLR(step_size=30, unit="epochs"),
    # The network sets nothing, so that torch's own defaults hold.
    initial={"*": FanInUniform()},
)
