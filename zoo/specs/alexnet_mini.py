"""The canonical network in small, for demonstrations, training on small images, and quick proofs.

The same layers in the same order: two towers, LRN inside each, overlapping pools. At 67 x 67 pool2 rounds up to 5 x 5
(down would be 4 x 4) where the full-size network's pools fit exactly: what is hidden there shows here. Our own design;
nobody published weights for it.
"""

from dataclasses import replace

from zoo.layers import Preprocessing
from zoo.recipe import Constant, HeNormal, MultiStepLR, Normal, Recipe
from zoo.specs import alexnet

SPEC = replace(
    alexnet.SPEC.change("conv1", out_channels=24, kernel=(7, 7), stride=(3, 3))  # 67 -> 21 -> 10
    .change("conv2", out_channels=64)  # 10 -> 5
    .change("conv3", out_channels=96)
    .change("conv4", out_channels=96)
    .change("conv5", out_channels=64)  # 5 -> 2
    .change("fc6", out_features=320)
    .change("fc7", out_features=256)
    .with_num_classes(10)
    .with_input_size(67),
    name="alexnet_mini",
    title="alexnet in small: the same layers, 24-64-96-96-64-320-256-10, 67 x 67",
    # The canonical mean; 72 leaves five pixels for the random crops of training.
    preprocessing=Preprocessing(channels="RGB", mean=(122.67891434, 116.66876762, 104.00698793), resize=72),
)

RECIPE = Recipe(
    name="mini",
    source="this project: for few images of less than 100 pixels",
    batch_size=64,
    epochs=12,
    rate=0.01,
    bias_factor=2.0,
    schedule=MultiStepLR(milestones=(0.6, 0.85), unit="run"),
    # From the paper's values a small network stays at chance for longer than the whole run lasts: He's, but for the
    # classifier, which starts small, so that all classes are equally likely at first and the first steps no leap.
    initial={"*.weight": HeNormal(), "fc8.weight": Normal(std=0.01), "*.bias": Constant()},
    unit_inputs=True,
)
