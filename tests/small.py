"""Family members with fewer channels: the same layers, names and wiring, in milliseconds."""

from dataclasses import replace

from converters.parity import probe_weights
from converters.weights import Weights
from zoo import registry
from zoo.layers import BatchNorm, Conv, Dense, ModelSpec, Scale
from zoo.shapes import activation_shapes


def shrink(model: str, channels: int = 8, classes: int = 10) -> ModelSpec:
    """A family member at its own input size, with `channels` times fewer maps (at least four) and 32 hidden features.

    The name stays: it is what files carry.
    """
    spec = registry.model(model)
    for layer in spec.layers:
        if isinstance(layer, Conv):
            spec = spec.replace_layer(replace(layer, out_channels=max(4, layer.out_channels // channels)))
        elif isinstance(layer, Dense):
            spec = spec.replace_layer(replace(layer, out_features=32))
    return spec.with_num_classes(classes)


def normed(spec: ModelSpec) -> ModelSpec:
    """A small AlexNet with batch normalisation of its images and of two layers in the place of LRN.

    Behind ReLUs: the gradient of a bias right before it is zero, and what is computed of that, noise.
    """
    plain = spec.without("norm1", "norm2")
    for layer in ("relu1", "relu6"):
        plain = plain.insert(BatchNorm(name=f"{layer}_bn", eps=1e-3), after=layer)
    plain = plain.insert(Scale(name="scale", bias=True), after="relu1_bn")
    return replace(plain, name="normed", layers=(BatchNorm(name="data_bn"), *plain.layers))


def normalises_vectors(spec: ModelSpec) -> bool:
    """Whether a BatchNorm reads N x C, which caffe2onnx does not know."""
    shapes = activation_shapes(spec)
    return any(isinstance(layer, BatchNorm) and len(shapes[layer.name]) == 1 for layer in spec.layers)


def small_weights(model: str = "alexnet", seed: int = 0) -> Weights:
    """Probe weights of a shrunken family member."""
    return probe_weights(shrink(model), seed)
