"""Full-size networks that people hold as Caffe files, written from their papers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.networks import net

# Of each inception module: 1x1; 3x3 and 5x5 with what reduces before them; what projects after pooling (table 1).
_INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def _conv(name: str, bottom: str, outputs: int, more: str) -> list[str]:
    return [
        f"{name} Convolution {bottom} | num_output: {outputs} {more}",
        f"{name}/relu ReLU {name} > {name}",
    ]


def _googlenet() -> Iterator[str]:
    """C. Szegedy et al., 2015, arXiv:1409.4842."""
    yield from _conv("conv1", "data", 64, "kernel_size: 7 stride: 2 pad: 3")
    yield "pool1 Pooling conv1 | pool: MAX kernel_size: 3 stride: 2"
    yield "norm1 LRN pool1 | local_size: 5 alpha: 0.0001 beta: 0.75"
    yield from _conv("reduce2", "norm1", 64, "kernel_size: 1")
    yield from _conv("conv2", "reduce2", 192, "kernel_size: 3 pad: 1")
    yield "norm2 LRN conv2 | local_size: 5 alpha: 0.0001 beta: 0.75"
    yield "pool2 Pooling norm2 | pool: MAX kernel_size: 3 stride: 2"
    bottom = "pool2"
    for name, (one, reduce3, three, reduce5, five, projected) in _INCEPTIONS.items():
        if name in ("4a", "5a"):
            yield f"pool{name} Pooling {bottom} | pool: MAX kernel_size: 3 stride: 2"
            bottom = f"pool{name}"
        yield from _conv(f"{name}/1x1", bottom, one, "kernel_size: 1")
        yield from _conv(f"{name}/3x3_reduce", bottom, reduce3, "kernel_size: 1")
        yield from _conv(f"{name}/3x3", f"{name}/3x3_reduce", three, "kernel_size: 3 pad: 1")
        yield from _conv(f"{name}/5x5_reduce", bottom, reduce5, "kernel_size: 1")
        yield from _conv(f"{name}/5x5", f"{name}/5x5_reduce", five, "kernel_size: 5 pad: 2")
        yield f"{name}/pool Pooling {bottom} | pool: MAX kernel_size: 3 stride: 1 pad: 1"
        yield from _conv(f"{name}/project", f"{name}/pool", projected, "kernel_size: 1")
        bottom = f"{name}/output"
        yield f"{bottom} Concat {name}/1x1,{name}/3x3,{name}/5x5,{name}/project"
    yield f"pool5 Pooling {bottom} | pool: AVE kernel_size: 7"
    yield "pool5/drop Dropout pool5 > pool5 | dropout_ratio: 0.4"
    yield "classifier InnerProduct pool5 | num_output: 1000"
    yield "prob Softmax classifier"


def _normed(name: str, bottom: str, outputs: int, more: str) -> Iterator[str]:
    yield f"{name} Convolution {bottom} | num_output: {outputs} {more} bias_term: false"
    yield f"{name}/bn BatchNorm {name} > {name}"
    yield f"{name}/scale Scale {name} > {name} | bias_term: true"


def _resnet50() -> Iterator[str]:
    """K. He et al., 2015, arXiv:1512.03385."""
    yield from _normed("conv1", "data", 64, "kernel_size: 7 stride: 2 pad: 3")
    yield "conv1/relu ReLU conv1 > conv1"
    yield "pool1 Pooling conv1 | pool: MAX kernel_size: 3 stride: 2"
    bottom = "pool1"
    for stage, (blocks, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), 2):
        for block in "abcdef"[:blocks]:
            name, stride = f"{stage}{block}", f"kernel_size: 1 stride: {2 if stage > 2 and block == 'a' else 1}"
            short = bottom
            if block == "a":
                short = f"{name}/short"
                yield from _normed(short, bottom, 4 * width, stride)
            yield from _normed(f"{name}/1", bottom, width, stride)
            yield f"{name}/1/relu ReLU {name}/1 > {name}/1"
            yield from _normed(f"{name}/2", f"{name}/1", width, "kernel_size: 3 pad: 1")
            yield f"{name}/2/relu ReLU {name}/2 > {name}/2"
            yield from _normed(f"{name}/3", f"{name}/2", 4 * width, "kernel_size: 1")
            yield f"{name} Eltwise {short},{name}/3"
            yield f"{name}/relu ReLU {name} > {name}"
            bottom = name
    yield f"pool5 Pooling {bottom} | pool: AVE kernel_size: 7"
    yield "classifier InnerProduct pool5 | num_output: 1000"
    yield "prob Softmax classifier"


def _vgg16() -> Iterator[str]:
    """K. Simonyan, A. Zisserman, 2014, arXiv:1409.1556, configuration D."""
    bottom = "data"
    for stage, (count, width) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), 1):
        for i in range(1, count + 1):
            yield from _conv(f"conv{stage}_{i}", bottom, width, "kernel_size: 3 pad: 1")
            bottom = f"conv{stage}_{i}"
        yield f"pool{stage} Pooling {bottom} | pool: MAX kernel_size: 2 stride: 2"
        bottom = f"pool{stage}"
    for name in ("fc6", "fc7"):
        yield f"{name} InnerProduct {bottom} | num_output: 4096"
        yield f"{name}/relu ReLU {name} > {name}"
        yield f"{name}/drop Dropout {name} > {name} | dropout_ratio: 0.5"
        bottom = name
    yield "fc8 InnerProduct fc7 | num_output: 1000"
    yield "prob Softmax fc8"


LARGE: dict[str, Callable[[], Iterator[str]]] = {"GoogLeNet": _googlenet, "ResNet-50": _resnet50, "VGG-16": _vgg16}


def prototxt(name: str) -> str:
    """One of `LARGE` as a prototxt."""
    return net("3 224 224", *LARGE[name]())
