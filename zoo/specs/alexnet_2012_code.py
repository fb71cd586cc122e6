"""The network of the code that was released for 2012, where it parts from the paper's text.

Source: github.com/computerhistory/AlexNet-Source-Code, ``layers/layers-145.cfg`` and ``layer-params-145.cfg``, the
configuration whose logs give the paper's published error (40.7 / 18.2 %).
"""

from dataclasses import replace

from zoo.layers import LRN
from zoo.recipe import Augmentation, Normal, Phase, Phases
from zoo.specs import alexnet

SPEC = replace(
    # cuda-convnet rounds the size of a convolution up, so that 224 gives 55 x 55; the last window reads zeros.
    alexnet.SPEC.change("conv1", rounding="ceil")
    .with_input_size(224)
    # conv1 and conv5 have no neuron: the ReLU stands behind the pooling (conv1 is normalised before any ReLU).
    .move("relu1", after="pool1")
    .move("relu5", after="pool5")
    # cnorm2, which the paper does not mention: normalisation over 5 x 5 pixels of the same map, scale .001, pow .75,
    # minDiv 1, between the towers' rnorm2 and pool2.
    .insert(LRN(name="cnorm2", size=5, alpha=1e-3, beta=0.75, k=1.0, region="within"), after="norm2"),
    name="alexnet_2012_code",
    title="the 2012 source code's network: ReLU after pool1 and pool5, LRN within maps before pool2, 224 x 224",
)


def _phase(epoch: int, rate: float, conv1: float | None = None) -> Phase:
    # The biases keep their rate to the end; the colour noise is switched off together with conv1's own rate.
    layers = {} if conv1 is None else {"conv1": conv1}
    return Phase(epoch=epoch, rate=rate, bias_rate=0.02, layers=layers, colour_noise=conv1 is None)


RECIPE = replace(
    alexnet.RECIPE,
    name="code_2012",
    source="the 2012 source code, layer-params-145.cfg, convdata.py and its training log",
    epochs=91,
    schedule=Phases(
        phases=(
            _phase(0, 1e-2),
            _phase(25, 1e-3),
            _phase(51, 1e-4),
            _phase(67, 1e-4, conv1=1e-5),
            _phase(72, 1e-4, conv1=0.0),
            _phase(79, 1e-5, conv1=0.0),
        )
    ),
    initial={**alexnet.RECIPE.initial, "conv[345].weight": Normal(std=0.03)},
    # convdata.py divides the training pixels by 1 + the noise's coefficient while it is on.
    augmentation=Augmentation(colour_noise=0.1, noise_divides=True),
)
