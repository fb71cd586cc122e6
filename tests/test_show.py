"""Networks in words: the table, the JSON, and the differences."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from converters.cli import main
from zoo import registry, show
from zoo.layers import LRN, BatchNorm, Concat, Conv, Dense, Dropout, Eltwise, Input, ModelSpec, Pool, ReLU, Slice
from zoo.shapes import parameter_count

MEMBERS = registry.models()


def _dag() -> ModelSpec:
    return ModelSpec(
        name="dag",
        title="two branches",
        inputs=(Input(name="image", shape=(4, 9, 9)),),
        layers=(
            Slice(name="top", start=0, stop=2),
            Slice(name="bottom", inputs=("image",), start=2, stop=4),
            Conv(name="left", inputs=("top",), out_channels=6, kernel=(3, 1), bias=False),
            Conv(name="right", inputs=("bottom",), out_channels=6, kernel=(3, 1)),
            Eltwise(name="sum", inputs=("left", "right"), coeffs=(1.0, -0.5)),
            BatchNorm(name="bn"),
            Concat(name="join", inputs=("bn", "left")),
            Pool(name="mean", mode="ave", global_pool=True),
            Dense(name="out", out_features=3),
        ),
    )


def _line(text: str, name: str) -> list[str]:
    return next(line for line in text.splitlines() if line.split()[:1] == [name]).split()


def test_the_well_known_figures_of_alexnet() -> None:
    text = show.show_text(registry.model("alexnet"))
    assert _line(text, "conv2") == "conv2 Conv 5 x 5 1 2 2 256 x 27 x 27 307,456 223,948,800".split()  # noqa: SIM905
    assert "size 5, alpha 0.0001, beta 0.75, k 2, inside each of 2 towers" in text
    assert _line(text, "total") == ["total", "60,965,224", "724,406,816"]
    towers = text.partition("by towers")[2]
    shares = [_line(towers, f"conv{i}")[1:4] for i in range(1, 6)]
    assert [share[0] for share in shares] == ["48", "128", "192", "192", "128"]
    assert [share[2] for share in shares] == ["96", "256", "384", "384", "256"]
    assert [_line(towers, name)[1:4] for name in ("fc6", "fc7", "fc8")] == [
        ["2048", "2", "4096"],
        ["2048", "2", "4096"],
        ["1000", "1", "1000"],
    ]


def test_the_reprinted_table_is_corrected(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "alexnet"]) == 0
    text = capsys.readouterr().out
    assert main(["show", "caffenet"]) == 0
    assert "reprinted" not in capsys.readouterr().out
    assert "counts fc8 twice, (4096 + 1) x 1000 x 2 = 8,194,000" in text
    assert "65,062,224" in text
    assert 60_965_224 + 4097 * 1000 == 65_062_224


@pytest.mark.parametrize("spec", [*map(registry.model, MEMBERS), _dag()], ids=lambda spec: spec.name)
def test_text_and_json_say_the_same(spec: ModelSpec) -> None:
    text, data = show.show_text(spec), json.loads(json.dumps(show.show_dict(spec)))
    assert data["schema"] == 1 and data["model"] == spec.name
    assert data["parameters"] == parameter_count(spec) == sum(layer["parameters"] for layer in data["layers"])
    assert _line(text, "total")[1] == f"{data['parameters']:,}"
    assert [layer["name"] for layer in data["layers"]] == [layer.name for layer in spec.layers]
    for layer in data["layers"]:
        line = _line(text, layer["name"])
        assert line[1] == layer["kind"]
        assert " x ".join(map(str, layer["output"])) in " ".join(line)


def test_a_dag_names_what_its_layers_read() -> None:
    text = show.show_text(_dag())
    assert "coefficients 1 -0.5; reads left, right" in text
    assert "by towers" not in text
    assert "reads" not in " ".join(_line(text, "bn"))


def test_bvlc_differs_by_lrn_and_images_alone() -> None:
    found = show.differences(registry.model("alexnet"), registry.model("bvlc_alexnet"))
    assert {(item.layer, item.what) for item in found} == {
        *((norm, what) for norm in ("norm1", "norm2") for what in ("k", "window")),
        ("images", "channel order"),
        ("images", "mean"),
    }
    text = show.diff_text(registry.model("alexnet"), registry.model("bvlc_alexnet"))
    assert "inside each of 2 towers" in text and "across all channels" in text
    assert "both have 60,965,224 parameters" in text


def test_an_order_is_a_difference() -> None:
    left, right = registry.model("bvlc_alexnet"), registry.model("caffenet")
    assert show.first_difference(left, right) == "pool1: place after norm1 in bvlc_alexnet, after relu1 in caffenet"
    assert [(item.layer, item.what) for item in show.differences(left, right)] == [
        ("pool1", "place"),
        ("pool2", "place"),
    ]


def test_a_missing_layer_is_a_difference() -> None:
    sentence = "norm1: LRN in alexnet, no such layer in bare"
    alexnet = registry.model("alexnet")
    assert show.first_difference(alexnet, replace(alexnet.without("norm1"), name="bare")) == sentence


def test_what_has_its_cause_elsewhere_is_told_where_nothing_else_is() -> None:
    found = show.differences(registry.model("alexnet"), registry.model("alexnet_v2"))
    assert ("fc6", "weight") in {(item.layer, item.what) for item in found}
    assert ("conv2", "weight") not in {(item.layer, item.what) for item in found}


@pytest.mark.parametrize("left", MEMBERS)
@pytest.mark.parametrize("right", MEMBERS)
def test_two_members_differ_unless_they_are_one(left: str, right: str) -> None:
    a, b = registry.model(left), registry.model(right)
    assert (show.first_difference(a, b) is None) == (left == right)
    assert len(show.differences(a, b)) == len(show.differences(b, a))
    assert ("same network" in show.diff_text(a, b)) == (left == right)


def test_images_names_and_sizes_do_not_part_weights() -> None:
    alexnet = registry.model("alexnet")
    other = replace(alexnet.with_input_size(224), name="other", title="x", preprocessing=None)
    assert show.first_difference(alexnet, other) is None
    assert "data" in show.diff_text(alexnet, other) and "preprocessing" in show.diff_text(alexnet, other)
    assert "weight" in (show.first_difference(alexnet, alexnet.with_input_size(300)) or "")


def test_wiring_is_a_difference() -> None:
    dag = _dag()
    other = dag.change("join", inputs=("left", "bn"))
    assert [(x.layer, x.what, x.left, x.right) for x in show.differences(dag, other)] == [
        ("join", "input", "bn, left", "left, bn")
    ]


def test_close_numbers_are_told_apart() -> None:
    spec = ModelSpec(
        name="a",
        title="",
        inputs=(Input(shape=(3, 4, 4)),),
        layers=(LRN(name="n", size=3, alpha=1e-4, beta=0.75), Dropout(name="d"), ReLU(name="r")),
    )
    (item,) = show.differences(spec, spec.change("n", alpha=1e-4 + 1e-12))
    assert item.left != item.right


def test_show_is_quick_and_light() -> None:
    code = (
        "import sys, zoo.show, zoo.registry; zoo.show.show_text(zoo.registry.model('alexnet'));"
        "print(sorted({'numpy', 'torch', 'tensorflow', 'onnx', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
