"""The picture: well-formed, the same every time, and true to the spec."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from zoo import registry
from zoo.layers import (
    LRN,
    BatchNorm,
    Bias,
    Concat,
    Conv,
    Dense,
    Dropout,
    Eltwise,
    Flatten,
    Input,
    ModelSpec,
    Pool,
    Power,
    ReLU,
    Scale,
    Sigmoid,
    Slice,
    Softmax,
    TanH,
)
from zoo.svg import svg

NAMESPACE = "{http://www.w3.org/2000/svg}"
MEMBERS = registry.models()


def _every_kind() -> ModelSpec:
    """Two inputs, branches that meet again, a skip over several columns, and every kind of layer."""
    return ModelSpec(
        name="every <kind> & more",
        title='with "quotes" and <tags>',
        inputs=(Input(name="image", shape=(4, 9, 12)), Input(name="facts", shape=(5,))),
        layers=(
            Slice(name="top", inputs=("image",), start=0, stop=2),
            Slice(name="bottom", inputs=("image",), start=2, stop=4),
            Conv(name="left", inputs=("top",), out_channels=6, kernel=(3, 1), bias=False),
            BatchNorm(name="bn"),
            Scale(name="scale", bias=True),
            LRN(name="within", size=3, alpha=1.0, beta=0.75, region="within"),
            Conv(name="right", inputs=("bottom",), out_channels=6, kernel=(3, 1), groups=2),
            Eltwise(name="sum", inputs=("within", "right")),
            Sigmoid(name="sigmoid"),
            TanH(name="tanh"),
            Power(name="power", power=2.0),
            Bias(name="bias"),
            Concat(name="join", inputs=("bias", "left")),
            Pool(name="mean", mode="ave", global_pool=True),
            Flatten(name="flat"),
            Dense(name="dense", out_features=3),
            ReLU(name="relu"),
            Dropout(name="drop"),
            Dense(name="aside", inputs=("facts",), out_features=4),
            Concat(name="all", inputs=("drop", "aside")),
            Softmax(name="prob"),
        ),
    )


def _texts(picture: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(picture).iter(NAMESPACE + "text")]


@pytest.mark.parametrize("spec", [*map(registry.model, MEMBERS), _every_kind()], ids=lambda spec: spec.name)
def test_well_formed_accessible_and_the_same_every_time(spec: ModelSpec) -> None:
    picture = svg(spec)
    assert picture == svg(spec)
    root = ElementTree.fromstring(picture)
    assert root.tag == NAMESPACE + "svg" and root.get("role") == "img"
    title, description = root.find(NAMESPACE + "title"), root.find(NAMESPACE + "desc")
    assert title is not None and title.text == f"{spec.name}: {spec.title}"
    assert description is not None and description.text
    for layer in spec.layers:
        if isinstance(layer, Conv | Dense):
            assert layer.name in description.text
            assert layer.name in _texts(picture)
    assert "prefers-color-scheme: dark" in picture
    assert "nan" not in picture and "inf" not in picture and "http" not in picture.replace(NAMESPACE[1:-1], "")


def test_everything_lies_inside_the_picture() -> None:
    for name in MEMBERS:
        root = ElementTree.fromstring(svg(registry.model(name)))
        width, height = float(root.get("width", "0")), float(root.get("height", "0"))
        for path in root.iter(NAMESPACE + "path"):
            numbers = [float(number) for number in re.findall(r"-?[\d.]+", path.get("d", ""))]
            assert all(0 <= x <= width for x in numbers[::2]) and all(0 <= y <= height for y in numbers[1::2])
        for text in root.iter(NAMESPACE + "text"):
            assert 0 < float(text.get("x", "-1")) < width and 0 < float(text.get("y", "-1")) < height


def _groups(picture: str, colour: str) -> list[ElementTree.Element]:
    return [group for group in ElementTree.fromstring(picture).iter(NAMESPACE + "g") if group.get("class") == colour]


def test_the_two_towers_of_2012() -> None:
    picture = svg(registry.model("alexnet"))
    # conv1 to conv5, fc6 and fc7 twice; the input and fc8 once.
    assert [len(_groups(picture, colour)) for colour in ("a", "b", "one")] == [7, 7, 2]
    numbers = [text.text for group in _groups(picture, "a") for text in group.iter(NAMESPACE + "text")]
    assert numbers == "48 55 55 128 27 27 192 13 13 192 13 13 128 13 13 2048 2048".split()  # noqa: SIM905
    assert "exchange activations from conv2 to conv3, from conv5 to fc6, from fc6 to fc7." in picture


def test_towers_meet_in_conv3_and_the_dense_layers_alone() -> None:
    root = ElementTree.fromstring(svg(registry.model("alexnet")))
    meets = [path for path in root.iter(NAMESPACE + "path") if "meet" in path.get("class", "").split()]
    assert sum("q" in path.get("class", "").split() for path in meets) == 4  # fc6 and fc7, both ways
    assert sum("l" in path.get("class", "").split() for path in meets) == 2  # conv3, both ways


def test_a_normalisation_over_both_towers_is_a_crossing() -> None:
    for name, lines in (("alexnet", 0), ("alexnet_2012_code", 0), ("caffenet", 4), ("bvlc_alexnet", 4)):
        root = ElementTree.fromstring(svg(registry.model(name)))
        assert sum(path.get("class") == "w meet" for path in root.iter(NAMESPACE + "path")) == lines, name
    assert "exchange activations in norm1, in norm2, from conv2 to conv3," in svg(registry.model("caffenet"))


def test_one_tower_where_there_are_no_groups() -> None:
    picture = svg(registry.model("alexnet_owt"))
    assert not _groups(picture, "a") and len(_groups(picture, "one")) == 9
    assert "first tower" not in picture


def test_sizes_come_from_the_spec() -> None:
    spec = registry.model("alexnet").change("conv4", out_channels=500).with_num_classes(7)
    texts = _texts(svg(spec))
    assert "250" in texts and "7" in texts and "1000" not in texts
    assert "LRN 5 all maps" in _texts(svg(registry.model("bvlc_alexnet")))


def test_more_than_two_groups_are_drawn_as_one_tower() -> None:
    spec = registry.model("alexnet_owt").change("conv2", groups=64)
    assert "conv 5×5, 64 groups" in _texts(svg(spec))
    assert not _groups(svg(spec), "a")


def test_a_branching_network_shows_every_stage() -> None:
    texts = _texts(svg(_every_kind()))
    for name in ("image", "facts", "top", "bottom", "left", "right", "sum", "join", "dense", "aside", "all"):
        assert name in texts
    assert "mean pool, global" in texts and "BatchNorm" in texts


def test_an_input_alone() -> None:
    spec = replace(_every_kind(), layers=(), inputs=(Input(shape=(3, 4, 4)),))
    assert "data" in _texts(svg(spec))
