"""The recipes of networks that have none of their own, and of those that begin with weights."""

from zoo.recipe import Constant, HeNormal, MultiStepLR, Normal, Recipe

# For networks without a recipe of their own. He's weights suit any depth; the classifier's are smaller, so that all
# classes are equally likely at first, and the first steps no leap.
DEFAULT = Recipe(
    name="default",
    source="this project's, for networks without a recipe of their own",
    batch_size=64,
    epochs=12,
    bias_factor=2.0,
    schedule=MultiStepLR(milestones=(0.6, 0.85), unit="run"),
    initial={"*.weight": HeNormal(), "head.weight": Normal(std=0.01), "*.bias": Constant()},
    unit_inputs=True,
)

FINE_TUNING = Recipe(
    name="fine_tuning",
    source="BVLC Caffe, models/finetune_flickr_style: solver and train_val.prototxt (but for the epochs)",
    batch_size=50,
    epochs=20,
    rate=0.001,
    bias_factor=2.0,
    layer_rates={"head": 10.0},  # fc8_flickr: lr_mult 10, biases 20
    schedule=MultiStepLR(milestones=(0.2, 0.4, 0.6, 0.8), unit="run"),  # every 20,000 of 100,000 iterations
    initial={"*.weight": Normal(std=0.01), "*.bias": Constant()},
)
