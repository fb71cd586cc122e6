"""DeepCluster's AlexNet: it learns from edges alone, without labels; batch normalisation, one tower, no LRN.

M. Caron, P. Bojanowski, A. Joulin, M. Douze, *Deep Clustering for Unsupervised Learning of Visual Features*, ECCV 2018
(arXiv 1807.05520); facebookresearch/deepcluster, ``models/alexnet.py`` and ``main.py``. Its two
fixed convolutions are parameters here, as in its state dict. It ends in logits, one a cluster: 10,000 where it was
trained, 1000 by default.
"""

from dataclasses import replace

from zoo.layers import BatchNorm, Conv, Scale
from zoo.recipe import Constant, Normal, Recipe, StepLR
from zoo.specs import alexnet_owt

_FRONT = (
    Conv(name="grey", out_channels=1, kernel=(1, 1)),  # 1/3 of each colour
    Conv(name="sobel", out_channels=2, kernel=(3, 3), pad=(1, 1)),  # across and down
)

# torchvision's, pads, pools, dropout and images too, in the widths of 2012.
_plain = (
    alexnet_owt.SPEC.change("conv1", out_channels=96)
    .change("conv2", out_channels=256)
    .change("conv4", out_channels=384)
)
for _i in range(1, 6):  # torch.nn.BatchNorm2d's eps, and its affine part
    _plain = _plain.insert(BatchNorm(name=f"bn{_i}", eps=1e-5), after=f"conv{_i}")
    _plain = _plain.insert(Scale(name=f"scale{_i}", bias=True), after=f"bn{_i}")

SPEC = replace(
    _plain,
    layers=(*_FRONT, *_plain.layers),
    name="alexnet_deepcluster",
    title="DeepCluster's AlexNet: Sobel filters of grey, batch normalisation, one tower, no LRN, 224 x 224",
)


def _fan_out(maps: int, side: int) -> Normal:
    return Normal(std=(2 / (side * side * maps)) ** 0.5)


RECIPE = Recipe(
    name="deepcluster",
    source="facebookresearch/deepcluster, main.py (its clusters are not; Sobel filters come with weights)",
    batch_size=256,
    epochs=200,
    rate=0.05,
    layer_rates={"grey": 0.0, "sobel": 0.0},  # requires_grad = False
    weight_decay=1e-5,
    bias_decay=1.0,  # torch.optim.SGD pulls at all parameters
    schedule=StepLR(step_size=1, gamma=1.0),  # it never falls
    initial={
        "fc?.weight": Normal(std=0.01),
        "conv1.weight": _fan_out(96, 11),
        "conv2.weight": _fan_out(256, 5),
        "conv[34].weight": _fan_out(384, 3),
        "conv5.weight": _fan_out(256, 3),
        "*.bias": Constant(),
        "grey.weight": Constant(value=1 / 3),
        "sobel.weight": Normal(std=0.01),  # no rule says Sobel's numbers
    },
)
