"""The canonical AlexNet: the network of 2012, two towers on two devices.

A. Krizhevsky, I. Sutskever, G. Hinton, *ImageNet Classification with Deep Convolutional Neural Networks*, NIPS 2012.
Comments cite its sections ("s3.5"). Where text and released code (github.com/computerhistory/AlexNet-Source-Code,
"code") part, the comment says so.
"""

from zoo.layers import LRN, Conv, Dense, Dropout, Input, ModelSpec, Pool, Preprocessing, ReLU, Softmax
from zoo.recipe import Augmentation, Constant, Normal, Recipe, ReduceLROnPlateau


def _norm(name: str) -> LRN:
    # s3.3: k = 2, n = 5, alpha = 1e-4, beta = 0.75. The text writes alpha * sum; the code divides alpha by n, and so
    # does every replica. Each tower is normalised by itself (code: 48, then 128 channels).
    return LRN(name=name, size=5, alpha=1e-4, beta=0.75, k=2.0, towers=2)


def _pool(name: str) -> Pool:
    # s3.4: overlapping pooling, z = 3, s = 2. The code rounds sizes up; at 227 up and down agree (55 27 13 6).
    return Pool(name=name, mode="max", kernel=(3, 3), stride=(2, 2), rounding="ceil")


SPEC = ModelSpec(
    name="alexnet",
    title="the 2012 network: two towers, LRN inside each tower (k 2), 227 x 227",
    # The paper says 224; with its 11 x 11 kernel and stride of 4 the reported 55 x 55 maps need 227 (or a conv that
    # rounds up, which is what the code did: see alexnet_2012_code).
    inputs=(Input(name="data", shape=(3, 227, 227)),),
    layers=(
        Conv(name="conv1", out_channels=96, kernel=(11, 11), stride=(4, 4)),  # s3.5
        ReLU(name="relu1"),  # s3.1
        _norm("norm1"),
        _pool("pool1"),
        Conv(name="conv2", out_channels=256, kernel=(5, 5), pad=(2, 2), groups=2),  # s3.5: 5 x 5 x 48, own tower only
        ReLU(name="relu2"),
        _norm("norm2"),
        _pool("pool2"),
        Conv(name="conv3", out_channels=384, kernel=(3, 3), pad=(1, 1)),  # s3.2: the towers talk here
        ReLU(name="relu3"),
        Conv(name="conv4", out_channels=384, kernel=(3, 3), pad=(1, 1), groups=2),
        ReLU(name="relu4"),
        Conv(name="conv5", out_channels=256, kernel=(3, 3), pad=(1, 1), groups=2),
        ReLU(name="relu5"),
        _pool("pool5"),
        Dense(name="fc6", out_features=4096),  # s3.5: fully connected to both towers
        ReLU(name="relu6"),
        Dropout(name="drop6", ratio=0.5),  # s4.2
        Dense(name="fc7", out_features=4096),
        ReLU(name="relu7"),
        Dropout(name="drop7", ratio=0.5),
        Dense(name="fc8", out_features=1000),
        Softmax(name="prob"),
    ),
    # s2: shorter side to 256, crop, subtract the mean of the training set; raw RGB 0..255. The per-channel mean is that
    # of ILSVRC-2012 (BVLC's ilsvrc_2012_mean.npy), since the 2012 mean image was not released.
    preprocessing=Preprocessing(channels="RGB", mean=(122.67891434, 116.66876762, 104.00698793), resize=256),
)

# What `zoo show` adds.
REMARK = """\
A table that is often reprinted counts fc8 twice, (4096 + 1) x 1000 x 2 = 8,194,000,
as if each tower had a classifier of its own; that would make 65,062,224. Both towers feed one fc8: 60,965,224.
"""

RECIPE = Recipe(
    name="paper",
    source="the 2012 paper, sections 4 and 5",
    batch_size=128,
    epochs=90,  # "roughly 90 cycles"
    bias_factor=2.0,  # of the code alone: epsB .02 beside epsW .01
    # "divide the learning rate by 10 when the validation error rate stopped improving ... reduced three times"; how
    # long was waited is not written down.
    schedule=ReduceLROnPlateau(factor=0.1, patience=5, drops=3),
    initial={
        "*.weight": Normal(std=0.01),
        "*.bias": Constant(),
        # Layers that see many positive inputs from the start, so that their ReLUs learn at once.
        "conv[245].bias": Constant(value=1.0),
        "fc[67].bias": Constant(value=1.0),
    },
    augmentation=Augmentation(colour_noise=0.1),  # s4.1
)
