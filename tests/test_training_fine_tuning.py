"""Fine-tuning: from any weights file, with a new head, frozen layers, and the numbers of a plain torch loop."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file
from torch.nn import functional

from converters.cli import main
from converters.convert import load, save
from converters.parity import probe_weights
from converters.weights import Weights
from tests.small import shrink
from tests.test_networks import spec_of
from zoo import recipe_file, registry, spec_json
from zoo.errors import UnsupportedError, ZooError
from zoo.frameworks.caffe import deploy_text
from zoo.frameworks.pytorch import build
from zoo.initial import initial_weights
from zoo.layers import (
    LRN,
    ArgMax,
    Conv,
    Dense,
    Dropout,
    Eltwise,
    Input,
    Layer,
    ModelSpec,
    Pool,
    Preprocessing,
    ReLU,
    Sigmoid,
    Softmax,
    Tie,
)
from zoo.preprocess import normalise
from zoo.recipe import MultiStepLR
from zoo.recipes import FINE_TUNING
from zoo.shapes import parameter_shapes
from zoo.training.augment import Augment
from zoo.training.data import Batches, TrainingStream
from zoo.training.datasets import open_images
from zoo.training.job import Begin, TrainOptions, prepare
from zoo.training.journal import read_metrics
from zoo.training.launch import train
from zoo.training.masks import keep_mask
from zoo.training.towers import trunk

pytestmark = pytest.mark.slow  # whole runs

# With dropout a few units carry everything: once rounding has moved one of them across zero, the curves part.
STEPS, BATCH, RATE = 8, 16, 1e-4
STEADY = replace(FINE_TUNING, schedule=MultiStepLR(milestones=()))


def _caffe_style() -> ModelSpec:
    """A small network as Caffe's users have them: LRN across all channels, BGR, 7 classes of its own."""
    spec = registry.model("alexnet_mini")
    for layer in spec.layers:
        if isinstance(layer, Conv):
            spec = spec.replace_layer(replace(layer, out_channels=16))
        elif isinstance(layer, Dense):
            spec = spec.replace_layer(replace(layer, out_features=32))
        elif isinstance(layer, LRN):
            spec = spec.replace_layer(replace(layer, towers=1, k=1.0))
    dropouts = [layer.name for layer in spec.layers if isinstance(layer, Dropout)]
    assert spec.preprocessing is not None
    bgr = replace(spec.preprocessing, channels="BGR")
    return replace(spec.without(*dropouts).with_num_classes(7), name="theirs", preprocessing=bgr)


@pytest.fixture(scope="module")
def weights() -> Weights:
    """What somebody trained before: probe weights, in the units of pixels, so that the losses are those of a start."""
    spec = _caffe_style()
    found = dict(probe_weights(spec, 3).tensors)
    found["conv1.weight"] = found["conv1.weight"] / np.float32(64)
    return Weights(spec=spec, tensors=found, source="theirs")


@pytest.fixture(scope="module")
def caffemodel(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("caffe") / "theirs.caffemodel"
    save(weights, path)
    return path


def _losses(out: Path) -> np.ndarray:
    return np.array([row["loss"] for row in read_metrics(out)], dtype=float)


def _masked(layer: Dropout, step: Callable[[], int]) -> Any:
    """A hook that puts a step's mask in the place of a layer's own."""

    def hook(module: torch.nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        place: Any = {"seed": 0, "step": step(), "layer": layer.name, "images": range(BATCH)}
        kept = keep_mask(tuple(args[0].shape[1:]), layer.ratio, **place)
        return args[0] * torch.from_numpy(kept) / (1 - layer.ratio)

    return hook


def _by_torch_alone(start: Weights) -> np.ndarray:
    """The losses of the ordinary loop: torch's modules, torch.optim.SGD, a group a parameter."""
    spec, images, step = start.spec, open_images("digits", "train"), 0
    head = initial_weights(spec, STEADY, 0, only=["fc8.weight", "fc8.bias"])
    network = build(spec, {**start.tensors, **head}, outputs=("fc8",))
    for layer in spec.layers:
        if isinstance(layer, Dropout):
            network.get_submodule(layer.name).register_forward_hook(_masked(layer, lambda: step))
    groups = []
    for name, parameter in network.named_parameters():
        layer, _, kind = name.rpartition(".")
        rate = RATE * (10 if layer == "fc8" else 1) * (2 if kind == "bias" else 1)
        groups.append({"params": [parameter], "lr": rate, "weight_decay": 0 if kind == "bias" else 5e-4})
    optimiser, losses = torch.optim.SGD(groups, momentum=0.9), []
    places = [range(i * BATCH, (i + 1) * BATCH) for i in range(STEPS)]
    seen = Augment(images, spec, STEADY, 0, torch.device("cpu"))
    assert spec.preprocessing is not None
    for step, batch in enumerate(Batches(TrainingStream(images, spec, 0), places, 0)):
        windows = seen(batch, places[step]).pixels.numpy()
        x = torch.from_numpy(np.stack([normalise(window, spec.preprocessing) for window in windows]))
        loss = functional.cross_entropy(network(x), batch.labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return np.array(losses)


def test_fine_tuning_a_caffemodel_is_plain_torch_fine_tuning(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The demo's network, through Caffe's format, with a new head; its dropout as well."""
    spec = registry.model("alexnet_mini")
    train(TrainOptions(model=spec, data="digits", out=tmp_path, steps=STEPS, batch_size=BATCH, device="cpu"))
    start = load(tmp_path / "model.safetensors")
    save(start, tmp_path / "first.caffemodel")
    (tmp_path / "recipe.yaml").write_text(recipe_file.dumps(STEADY))
    command = ["train", str(tmp_path / "first.caffemodel"), "--model", spec.name, "--data", "digits", "--new-head"]
    command += ["--steps", str(STEPS), "--batch-size", str(BATCH), "--recipe", str(tmp_path / "recipe.yaml")]
    assert main([*command, "--lr", str(RATE), "--device", "cpu", "-o", str(tmp_path / "run")]) == 0
    said = capfd.readouterr().err
    assert "new head, drawn for 10 classes: fc8.weight, fc8.bias" in said
    assert "begins with the weights of first.caffemodel" in said
    ours, plain = _losses(tmp_path / "run"), _by_torch_alone(start)
    assert np.abs(ours / plain - 1).max() < 1e-4
    assert np.ptp(plain) > 0.1


def _options(weights: Weights, out: Path, **changes: Any) -> TrainOptions:
    begin = Begin(weights=weights.tensors, lineage={"file": "theirs"}, new_head=changes.pop("new_head", False))
    common = {"model": weights.spec, "data": "digits", "out": out, "steps": 3, "batch_size": 8, "device": "cpu"}
    return TrainOptions(**(common | {"begin": begin} | changes))  # pyright: ignore


@pytest.mark.parametrize("framework", ["pytorch", "tf_slim"])
def test_frozen_layers_stay_bit_for_bit_and_the_others_move(weights: Weights, tmp_path: Path, framework: str) -> None:
    train(_options(weights, tmp_path, freeze=("conv[12]", "fc6"), framework=framework))
    after = load_file(tmp_path / "model.safetensors")
    for name, tensor in weights.tensors.items():
        layer = name.rpartition(".")[0]
        if layer != "fc8":
            assert np.array_equal(after[name], tensor) == (layer in ("conv1", "conv2", "fc6")), name


def test_two_devices_fine_tune_as_one_does(weights: Weights, tmp_path: Path) -> None:
    train(_options(weights, tmp_path / "one", freeze=("conv1",)))
    train(_options(weights, tmp_path / "two", freeze=("conv1",), devices=2, parallel="towers"))
    assert np.abs(_losses(tmp_path / "one") / _losses(tmp_path / "two") - 1).max() < 1e-4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"freeze": ("conv9",)}, "layer_rates 'conv9' fits nothing in theirs; it has conv1, conv2"),
        ({"freeze": ("relu1",)}, "layer_rates 'relu1' fits nothing in theirs"),
        ({"freeze": ("*",)}, "every layer is frozen: nothing is left to train"),
        ({"head_rate": -1.0}, "layer_rates: head is -1.0, expected a number of at least 0"),
        ({"head_rate": float("nan")}, "layer_rates: head is nan"),
        ({"rate": 0.0}, "rate is 0.0, expected a number above 0"),
        ({"rate": float("nan")}, "rate is nan, expected a number of at least 0"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0, expected a number of at least 0"),
    ],
)
def test_what_cannot_be_learned_is_refused(
    weights: Weights, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ZooError) as caught:
        train(_options(weights, tmp_path, **changes))
    assert message in str(caught.value)
    assert not (tmp_path / "checkpoints").exists()


def test_a_head_that_fits_stays_unless_a_new_one_is_asked_for(weights: Weights, tmp_path: Path) -> None:
    spec = weights.spec.with_num_classes(10)
    head = initial_weights(spec, FINE_TUNING, 5, only=["fc8.weight", "fc8.bias"])
    ten = Weights(spec=spec, tensors={**weights.tensors, **head}, source="ten")
    for name, new_head in (("kept", False), ("new", True)):
        train(_options(ten, tmp_path / name, freeze=("head", "conv*"), new_head=new_head))
    kept, new = (load_file(tmp_path / name / "model.safetensors")["fc8.weight"] for name in ("kept", "new"))
    assert np.array_equal(kept, ten.tensors["fc8.weight"])
    assert not np.array_equal(new, kept)
    wrong = {**weights.tensors, "fc6.weight": weights.tensors["fc6.weight"][:, :-1]}
    with pytest.raises(ZooError, match=r"fc6\.weight does not fit"):
        begin = Begin(weights=wrong, lineage={})
        train(replace(_options(weights, tmp_path / "wrong"), begin=begin))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for part in ("train", "val"):
        for name in ("cat", "dog", "owl"):
            (root / part / name).mkdir(parents=True)
            for i in range(4):
                pixels = rng.integers(0, 256, (80, 90, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{i}.png")
    return root


def test_what_is_written_keeps_classes_preprocessing_and_lineage(
    caffemodel: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--data", str(pictures), "--steps", "2", "--batch-size", "4", "--workers", "0", "--device", "cpu"]
    assert main(["train", str(caffemodel), "-o", str(tmp_path / "a"), *common]) == 0
    first = tmp_path / "a" / "model.safetensors"
    assert main(["train", str(first), "-o", str(tmp_path / "b"), "--freeze", "conv*", *common]) == 0
    with safe_open(tmp_path / "b" / "model.safetensors", "numpy") as file:
        metadata = file.metadata()
    assert spec_json.loads(metadata[spec_json.METADATA_KEY]).classes == ("cat", "dog", "owl")
    lineage = json.loads(metadata["lineage"])
    assert lineage["recipe"]["layer_rates"]["conv*"] == 0.0
    assert (lineage["from"]["file"], lineage["from"]["lineage"]["from"]["file"]) == (first.name, caffemodel.name)
    assert len(lineage["from"]["sha256"]) == 64
    capsys.readouterr()
    assert main(["eval", str(first), "--data", str(pictures), "--workers", "0", "--per-class", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["class"] for row in told["classes"]] == ["cat", "dog", "owl"]
    assert sum(row["images"] for row in told["classes"]) == told["images"] == 12
    both = ["--devices", "2", "--device", "cpu", "--confusion", str(tmp_path / "confusion.csv"), "--batch-size", "5"]
    assert main(["eval", str(first), "--data", str(pictures), "--workers", "0", "--per-class", "--json", *both]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again | {"loss": 0} == told | {"loss": 0} and again["loss"] == pytest.approx(told["loss"])
    lines = [line.split(",") for line in (tmp_path / "confusion.csv").read_text().splitlines()]
    assert lines[0] == ["images of", "cat", "dog", "owl"] and [line[0] for line in lines[1:]] == lines[0][1:]
    counts = np.array([line[1:] for line in lines[1:]], int)
    assert counts.sum(1).tolist() == [4, 4, 4] and np.trace(counts) == round(told["top1"] * 12)
    wrong = ["eval", str(first), "--data", "digits", "--devices", "2", "--device", "cpu"]
    assert main(wrong) == 2
    assert "was trained for other classes" in capsys.readouterr().err


def test_images_of_other_classes_are_refused(
    caffemodel: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--data", str(pictures), "--steps", "2", "--batch-size", "4", "--workers", "0", "--device", "cpu"]
    assert main(["train", str(caffemodel), "-o", str(tmp_path / "a"), *common]) == 0
    (tmp_path / "other").mkdir()
    for name in ("cat", "fox"):
        (tmp_path / "other" / name).symlink_to(pictures / "val" / "cat")
    capsys.readouterr()
    assert main(["eval", str(tmp_path / "a" / "model.safetensors"), "--data", str(tmp_path / "other")]) == 2
    assert "was trained for other classes: output 1 is 'dog', here 'fox'" in capsys.readouterr().err


def _odd_head(kind: str) -> ModelSpec:
    """Networks of pixels 17 x 17 whose head is no last dense layer alone."""
    image, shrunk = Input(name="data", shape=(3, 17, 17)), Conv(name="c1", out_channels=8, kernel=(5, 5), stride=(4, 4))
    if kind == "convolution":  # as SqueezeNet's
        head = [Conv(name="c10", out_channels=7, kernel=(1, 1)), ReLU(name="r10")]
        behind: list[Layer] = [*head, Pool(name="pool", mode="ave", global_pool=True), Softmax(name="prob")]
        ties = ()
    else:
        twins = [Dense(name=name, out_features=7, inputs=("c1",)) for name in ("h1", "h2")]
        behind = [*twins, Eltwise(name="sum", operation="sum", inputs=("h1", "h2")), Softmax(name="prob")]
        ties = tuple(Tie(name=role, parameters=(f"h1.{role}", f"h2.{role}")) for role in ("weight", "bias"))
    units = Preprocessing(scale=1 / 64, mean=(2.0, 2.0, 2.0), resize=17)
    return ModelSpec(name=kind, title=kind, inputs=(image,), layers=(shrunk, *behind), ties=ties, preprocessing=units)


@pytest.mark.parametrize("kind", ["convolution", "shared"])
def test_a_new_head_of_any_kind_is_judged_as_it_was_trained(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = _odd_head(kind)
    train(_options(probe_weights(spec, 3), tmp_path, steps=2, checkpoint_every=2))
    tuned = load(tmp_path / "model.safetensors")
    assert tuned.spec.heads == {"convolution": ("c10",), "shared": ("h2", "h1")}[kind]
    assert all(tuned.tensors[f"{head}.bias"].shape == (10,) for head in tuned.spec.heads)
    if kind == "shared":
        assert np.array_equal(tuned.tensors["h1.weight"], tuned.tensors["h2.weight"])
    assert main(["eval", str(tmp_path / "model.safetensors"), "--data", "digits", "--device", "cpu", "--json"]) == 0
    judged, recorded = json.loads(capsys.readouterr().out), read_metrics(tmp_path)[-1]
    assert judged["top1"] == float(recorded["val_top1"])
    assert judged["loss"] == pytest.approx(float(recorded["val_loss"]), rel=1e-5)


def test_one_tensor_has_one_rate() -> None:
    spec = _odd_head("shared")
    recipe_file.check(replace(STEADY, layer_rates={"h*": 0.0}), spec)
    with pytest.raises(ZooError, match=r"layer_rates has more than one rate for h1\.weight, h2\.weight, which are one"):
        recipe_file.check(replace(STEADY, layer_rates={"h1": 0.0}), spec)


def test_what_gives_no_number_a_class_is_refused() -> None:
    spec = _odd_head("convolution")
    assert trunk(spec.insert(ArgMax(name="best"), after="prob")).layers[-1].name == "pool"
    with pytest.raises(UnsupportedError, match="c10 gives 7 x 4 x 4 numbers, expected one for each of 7 classes"):
        trunk(spec.without("pool"))
    with pytest.raises(UnsupportedError, match="ssd is no classifier: conv2_conf gives 12 x 4 x 5 numbers"):
        prepare(TrainOptions(model=spec_of("ssd"), data="digits", out=Path("run")))
    with pytest.raises(UnsupportedError, match="multi: a sigmoid for each class"):
        trunk(spec.without("prob").insert(Sigmoid(name="multi"), after="pool"))
    with pytest.raises(UnsupportedError, match=r"has 1 and 2 \(r10, h1\); give it without the others"):
        trunk(spec.without("pool", "prob").insert(Dense(name="h1", out_features=3, inputs=("c1",)), after="r10"))


def test_a_prototxt_is_trained_from_nothing_and_from_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "".join(line for line in deploy_text(shrink("alexnet_mini")).splitlines(True) if not line.startswith("#"))
    (tmp_path / "net.prototxt").write_text(text)
    run = ["--data", "digits", "--steps", "1", "--batch-size", "4", "--device", "cpu"]
    image = ["--channels", "RGB", "--mean", "128"]
    assert main(["train", str(tmp_path / "net.prototxt"), *run, "-o", str(tmp_path / "no")]) == 2
    assert "--mean" in capsys.readouterr().err
    assert main(["train", str(tmp_path / "net.prototxt"), *image, *run, "-o", str(tmp_path / "a")]) == 0
    assert "begins with" not in capsys.readouterr().err
    given = ["--weights", str(tmp_path / "a" / "model.safetensors"), *image]
    assert main(["train", str(tmp_path / "net.prototxt"), *given, *run, "-o", str(tmp_path / "b")]) == 0
    assert "begins with the weights of model.safetensors" in capsys.readouterr().err


def test_weights_of_a_member_and_what_does_not_go_together(
    weights: Weights, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mini = registry.model("alexnet_mini")
    recipe = registry.recipe(mini)
    start = Weights(spec=mini, tensors=initial_weights(mini, recipe, 1), source="x")
    save(start, tmp_path / "w.pt")
    run = ["--data", "digits", "-o", str(tmp_path / "run"), "--steps", "1", "--batch-size", "4", "--device", "cpu"]
    assert main(["train", "alexnet_mini", "--weights", str(tmp_path / "w.pt"), *run]) == 0
    assert parameter_shapes(mini).keys() == load_file(tmp_path / "run" / "model.safetensors").keys()
    capsys.readouterr()
    for wrong, message in (
        (["alexnet_mini", "--new-head"], "--new-head goes with weights to begin with"),
        ([str(tmp_path / "w.pt"), "--weights", "x.pt"], "has its own"),
        (["alexnet_mini", "--model", "alexnet"], "leave --model out"),
        (["alexnet_2012_code", "--lr", "0.1"], "sets its rates by hand, so --lr changes nothing"),
    ):
        assert main(["train", *wrong, *run[:2], "-o", str(tmp_path / "no")]) == 2
        assert message in capsys.readouterr().err
