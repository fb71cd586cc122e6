"""The family: each member against what its publisher says of it."""

import pytest

from zoo import registry, spec_json
from zoo.errors import UnknownNameError
from zoo.layers import LRN, Conv, Dense, Input, ModelSpec, Pool, ReLU
from zoo.shapes import activation_shapes, multiply_adds, parameter_count

MEMBERS = registry.models()

# Published: the replicas of the paper (conv1 34,944 ... fc8 4,097,000) and torchvision's own table; the others
# are worked out by hand from the sources named in their files.
PARAMETERS = {
    "alexnet": 60_965_224,
    "alexnet_2012_code": 60_965_224,
    "alexnet_bn": 60_984_372,
    "alexnet_cifar10": 23_272_266,
    "alexnet_deepcluster": 62_372_256,
    "alexnet_mini": 314_474,
    "alexnet_owt": 61_100_840,
    "alexnet_v2": 50_303_912,
    "bvlc_alexnet": 60_965_224,
    "caffenet": 60_965_224,
    "zfnet": 62_357_608,
}

CHANNELS = {
    "alexnet": [96, 256, 384, 384, 256, 4096, 4096, 1000],
    "alexnet_2012_code": [96, 256, 384, 384, 256, 4096, 4096, 1000],
    "alexnet_bn": [96, 256, 384, 384, 256, 4096, 4096, 1000],
    "alexnet_cifar10": [64, 192, 384, 256, 256, 4096, 4096, 10],
    "alexnet_deepcluster": [1, 2, 96, 256, 384, 384, 256, 4096, 4096, 1000],
    "alexnet_mini": [24, 64, 96, 96, 64, 320, 256, 10],
    "alexnet_owt": [64, 192, 384, 256, 256, 4096, 4096, 1000],
    "alexnet_v2": [64, 192, 384, 384, 256, 4096, 4096, 1000],
    "bvlc_alexnet": [96, 256, 384, 384, 256, 4096, 4096, 1000],
    "caffenet": [96, 256, 384, 384, 256, 4096, 4096, 1000],
    "zfnet": [96, 256, 384, 384, 256, 4096, 4096, 1000],
}

# conv1, pool1, pool2, pool5: at the native size, and at one where rounding up and down part.
SIZES = {
    ("alexnet", 227): (55, 27, 13, 6),
    ("alexnet", 224): (54, 27, 13, 6),
    ("bvlc_alexnet", 224): (54, 27, 13, 6),
    ("caffenet", 224): (54, 27, 13, 6),
    ("zfnet", 224): (110, 55, 13, 6),
    ("alexnet_2012_code", 224): (55, 27, 13, 6),
    ("alexnet_2012_code", 228): (56, 28, 14, 7),
    ("alexnet_owt", 224): (55, 27, 13, 6),
    ("alexnet_owt", 227): (56, 27, 13, 6),
    ("alexnet_v2", 224): (54, 26, 12, 5),
    ("alexnet_v2", 227): (55, 27, 13, 6),
    ("alexnet_bn", 227): (55, 27, 13, 6),
    ("alexnet_bn", 224): (54, 27, 13, 6),
    ("alexnet_deepcluster", 224): (55, 27, 13, 6),
    ("alexnet_deepcluster", 227): (56, 27, 13, 6),
    ("alexnet_cifar10", 32): (16, 8, 4, 2),
    ("alexnet_cifar10", 36): (18, 9, 4, 2),
    ("alexnet_mini", 67): (21, 10, 5, 2),
    ("alexnet_mini", 64): (20, 10, 5, 2),
}


def test_the_tables_above_speak_of_the_same_members() -> None:
    assert sorted(PARAMETERS) == sorted(CHANNELS) == sorted({name for name, _ in SIZES})
    assert set(PARAMETERS) <= set(MEMBERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_member_is_what_is_published_of_it(name: str) -> None:
    spec = registry.model(name)
    assert parameter_count(spec) == PARAMETERS[name]
    widths = [
        layer.out_channels if isinstance(layer, Conv) else layer.out_features
        for layer in spec.layers
        if isinstance(layer, Conv | Dense)
    ]
    assert widths == CHANNELS[name]


@pytest.mark.parametrize("name", MEMBERS)
def test_member(name: str) -> None:
    spec = registry.model(name)
    assert spec.name == name
    assert {f"conv{i}" for i in range(1, 6)} | {"fc6", "fc7", "fc8"} <= {layer.name for layer in spec.layers}
    assert spec.outputs == ("prob",)
    assert spec.preprocessing is not None
    assert spec.preprocessing.resize >= spec.inputs[0].shape[-1]
    assert spec_json.loads(spec_json.dumps(spec)) == spec


@pytest.mark.parametrize(("name", "size"), SIZES)
def test_sizes(name: str, size: int) -> None:
    shapes = activation_shapes(registry.model(name).with_input_size(size))
    assert tuple(shapes[layer][1] for layer in ("conv1", "pool1", "pool2", "pool5")) == SIZES[name, size]


def test_titles_tell_the_members_apart_in_one_line() -> None:
    titles = [registry.model(name).title for name in MEMBERS]
    assert len(set(titles)) == len(titles)
    assert all("\n" not in title and len(title) <= 100 for title in titles)


def _names(name: str) -> list[str]:
    return [layer.name for layer in registry.model(name).layers]


def test_caffenet_pools_before_it_normalises() -> None:
    assert _names("caffenet")[:8] == ["conv1", "relu1", "pool1", "norm1", "conv2", "relu2", "pool2", "norm2"]
    assert _names("bvlc_alexnet")[:8] == ["conv1", "relu1", "norm1", "pool1", "conv2", "relu2", "norm2", "pool2"]


def test_torchvision_drops_before_the_dense_layers() -> None:
    assert _names("alexnet_owt")[-9:] == ["pool5", "drop6", "fc6", "relu6", "drop7", "fc7", "relu7", "fc8", "prob"]


def test_the_code_of_2012_has_its_own_order() -> None:
    order = "conv1 norm1 pool1 relu1 conv2 relu2 norm2 cnorm2 pool2 conv3 relu3 conv4 relu4 conv5 pool5 relu5 fc6"
    assert _names("alexnet_2012_code")[:17] == order.split()


def test_lrn_of_the_family() -> None:
    lrns = {name: [x for x in registry.model(name).layers if isinstance(x, LRN)] for name in MEMBERS}
    assert {(x.k, x.towers) for x in lrns["alexnet"]} == {(2.0, 2)}
    assert {(x.k, x.towers) for x in (*lrns["bvlc_alexnet"], *lrns["caffenet"])} == {(1.0, 1)}
    assert not lrns["alexnet_owt"] and not lrns["alexnet_v2"] and not lrns["alexnet_cifar10"]
    assert [x.region for x in lrns["alexnet_2012_code"]] == ["across", "across", "within"]


def test_torchvision_publishes_0_714_gflops() -> None:
    assert sum(multiply_adds(registry.model("alexnet_owt")).values()) == pytest.approx(0.714e9, rel=1e-3)


def test_edits_of_a_chain() -> None:
    spec = ModelSpec(
        name="chain",
        title="",
        inputs=(Input(shape=(3, 8, 8)),),
        layers=(ReLU(name="a"), ReLU(name="b"), Pool(name="c", mode="max")),
    )
    assert [x.name for x in spec.move("a", after="c").layers] == ["b", "c", "a"]
    assert [x.name for x in spec.without("b").layers] == ["a", "c"]
    assert [x.name for x in spec.insert(ReLU(name="d"), after="a").layers] == ["a", "d", "b", "c"]
    assert spec.change("b", negative_slope=0.1).layer("b") == ReLU(name="b", negative_slope=0.1)
    for edit in (lambda: spec.without("x"), lambda: spec.move("x", after="a"), lambda: spec.move("a", after="a")):
        with pytest.raises(UnknownNameError):
            edit()
