"""Other people's weights: what training scripts wrap them in, the names and types they have, and their averages."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.utils import prune

from converters.cli import main
from converters.convert import OpenedFile, Reading, load, same_bits, save
from converters.formats import NativeFile, weights_format
from converters.names import read_map
from converters.torchvision_names import TORCHVISION, native_names
from converters.weights import Weights
from tests.small import shrink, small_weights
from zoo import reference, registry
from zoo.errors import FileFormatError, WeightsError, ZooError
from zoo.frameworks import pytorch
from zoo.frameworks.caffe import deploy_text
from zoo.shapes import parameter_shapes
from zoo.torch_names import parameter_names
from zoo.wire.checkpoint import read_v2, write_v2

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def weights() -> Weights:
    return small_weights("alexnet_mini")


@pytest.fixture
def state(weights: Weights) -> State:
    return {name: tensor.clone() for name, tensor in pytorch.state_dict(weights.spec, weights.tensors).items()}


def assert_same(found: Weights, wanted: Weights) -> None:
    for name in wanted.tensors:
        assert same_bits(np.asarray(found.tensors[name]), np.asarray(wanted.tensors[name])), name


def read(path: Path, value: Any, weights: Weights, **how: Any) -> Weights:
    torch.save(value, path / "theirs.pth")
    return load(path / "theirs.pth", spec=weights.spec, how=Reading(**how))


def under(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {  # pytorch/examples, imagenet/main.py
            **{"epoch": 3, "arch": "alexnet", "state_dict": under("module.", state), "best_acc1": torch.tensor(56.5)},
            **{"optimizer": {"state": {}, "param_groups": []}, "scheduler": {"last_epoch": 3}},
        },
        lambda state: {  # Lightning
            **{"epoch": 3, "global_step": 9, "pytorch-lightning_version": "2.5", "loops": {}, "callbacks": {}},
            **{"state_dict": under("model.", state), "hyper_parameters": {"lr": 0.1}},
        },
        lambda state: under("module._orig_mod.", state),
        lambda state: {"net": {"module": {"state_dict": under("_orig_mod.", state)}}, "acc": 91.0},
        lambda state: {"n_averaged": torch.tensor(5), **under("module.", state)},  # torch.optim.swa_utils.AveragedModel
        lambda state: under("backbone.net.", state),
        lambda state: {
            ("features." if "conv" in name else "classifier.") + name: tensor for name, tensor in state.items()
        },
    ],
)
def test_a_state_dict_is_found_in_what_scripts_save(tmp_path: Path, weights: Weights, state: State, wrap: Any) -> None:
    assert_same(read(tmp_path, wrap(state), weights), weights)


def test_an_averaged_model_is_read_as_torch_writes_it(tmp_path: Path, weights: Weights) -> None:
    module = pytorch.build(weights.spec, weights.tensors)
    averaged = torch.optim.swa_utils.AveragedModel(module)
    assert_same(read(tmp_path, averaged.state_dict(), weights), weights)


def test_two_blocks_with_one_layer_s_name_are_not_guessed_between(
    tmp_path: Path, weights: Weights, state: State
) -> None:
    twins = under("encoder_q.", state) | under("encoder_k.", state)
    with pytest.raises(WeightsError, match="is missing"):
        read(tmp_path, twins, weights)


def renumbered(state: State, numbers: dict[str, str]) -> State:
    return {f"{numbers[(parts := name.rpartition('.'))[0]]}.{parts[2]}": tensor for name, tensor in state.items()}


SHIFTED: dict[str, str] = dict(
    zip(TORCHVISION, ("f.0", "f.4", "f.8", "f.10", "f.12", "c.1", "c.4", "c.6"), strict=True)
)


def test_names_that_say_nothing_are_matched_by_order_and_said(
    tmp_path: Path, weights: Weights, state: State, caplog: pytest.LogCaptureFixture
) -> None:
    assert_same(read(tmp_path, renumbered(state, SHIFTED), weights), weights)
    assert "matched by order and shape: f.0.weight is conv1.weight" in caplog.text
    assert caplog.text.count("matched by order") == 1


def test_layers_of_other_shapes_beside_those_matched_by_order_are_left_out(
    tmp_path: Path, weights: Weights, state: State, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = renumbered(state, SHIFTED)
    assert_same(read(tmp_path, {"aux.weight": torch.zeros(2, 2), **theirs}, weights), weights)
    assert "layers that alexnet_mini has not are left out: aux" in caplog.text
    with pytest.raises(ZooError, match="fit no network of the family"):
        load(tmp_path / "theirs.pth")
    with pytest.raises(WeightsError, match="is missing"):  # which of them is fc8 cannot be told
        read(tmp_path, {"aux.weight": theirs["c.6.weight"], "aux.bias": theirs["c.6.bias"], **theirs}, weights)


def test_what_stands_in_the_place_of_weights_is_said(
    tmp_path: Path, weights: Weights, state: State, caplog: pytest.LogCaptureFixture
) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    torch.nn.utils.parametrizations.weight_norm(module[0])
    prune.random_unstructured(module[1], "weight", amount=1)
    with pytest.raises(WeightsError, match="is missing"):
        read(tmp_path, module.state_dict(), weights)
    for told in (r"0.parametrizations.weight.original0 is parametrized", "1.weight_orig is pruned"):
        assert told in caplog.text
    optimizer = torch.optim.SGD(module.parameters(), momentum=0.9)
    with pytest.raises(FileFormatError, match="holds an optimizer's state"):
        read(tmp_path, optimizer.state_dict(), weights)
    momenta = {"momentum_buffers": {name: torch.zeros_like(it) for name, it in state.items()}}
    assert_same(read(tmp_path, {"optim_state": momenta, "model_state": state}, weights), weights)


def test_order_is_not_believed_where_the_numbers_contradict_it(tmp_path: Path, weights: Weights, state: State) -> None:
    shapes = [tuple(state[f"fc{i}.weight"].shape) for i in (6, 7)]
    assert shapes[0] == shapes[1], "the order alone tells these two apart"
    swapped = SHIFTED | {"fc6": SHIFTED["fc7"], "fc7": SHIFTED["fc6"]}
    words = SHIFTED | {"fc6": "c.first", "fc7": "c.second"}  # which are in order by chance
    for names in (swapped, words):
        with pytest.raises(WeightsError, match=r"is missing.*--map-out FILE writes a table"):
            read(tmp_path, renumbered(state, names), weights)
    other = dict(renumbered(state, SHIFTED))
    other["f.4.weight"] = other["f.4.weight"].flatten(2)
    with pytest.raises(WeightsError, match="is missing"):
        read(tmp_path, other, weights)


class DeepCluster(torch.nn.Module):
    """facebookresearch/deepcluster, models/alexnet.py, in the widths of the shrunken member; its front comes last."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        features, read = list[torch.nn.Module](), 4
        for i, (maps, kernel, stride, pad) in enumerate(
            ((12, 11, 4, 2), (32, 5, 1, 2), (48, 3, 1, 1), (48, 3, 1, 1), (32, 3, 1, 1)), 1
        ):
            norm = torch.nn.BatchNorm2d(maps)
            for statistic in (norm.running_mean, norm.running_var, norm.weight.data, norm.bias.data):
                assert isinstance(statistic, torch.Tensor)
                statistic.uniform_(0.5, 1.5)
            features += [torch.nn.Conv2d(read, maps, kernel, stride, pad), norm, torch.nn.ReLU()]
            features += [torch.nn.MaxPool2d(3, 2)] if i in (1, 2, 5) else []
            read = maps
        self.features = torch.nn.DataParallel(torch.nn.Sequential(*features))
        drop, relu = torch.nn.Dropout(0.5), torch.nn.ReLU()
        hidden = torch.nn.Linear(32 * 36, 32), torch.nn.Linear(32, 32)
        self.classifier = torch.nn.Sequential(drop, hidden[0], relu, drop, hidden[1], relu)
        self.top_layer = torch.nn.Linear(32, classes)
        self.sobel = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(4, 4, 3, padding=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.features(self.sobel(x))
        return self.top_layer(self.classifier(x.flatten(1)))


def test_deepcluster_s_own_checkpoint_is_read_and_answers_as_its_module(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs, spec = DeepCluster(classes=17).eval(), shrink("alexnet_deepcluster", classes=17)
    state = theirs.state_dict()
    assert "features.module.1.running_var" in state
    saved = {"epoch": 200, "arch": "alexnet", "state_dict": state, "optimizer": {"state": {}}}
    torch.save(saved, tmp_path / "checkpoint.pth.tar")
    found = load(tmp_path / "checkpoint.pth.tar", spec=spec)
    x = torch.randn(2, *spec.inputs[0].shape)
    with torch.no_grad():
        wanted = theirs(x).numpy()
    answer = reference.forward(spec, found.tensors, {"data": x.numpy()})["fc8"]
    assert np.abs(answer - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_deepcluster_s_keys_are_taken_for_it_whatever_its_clusters() -> None:
    spec = registry.model("alexnet_deepcluster").with_num_classes(10_000)
    own, shapes = parameter_names(spec), parameter_shapes(spec)
    names = native_names(own, DeepCluster(classes=3).state_dict())
    tensors = {names[name]: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}
    native = NativeFile(tensors=tensors)
    file = OpenedFile(
        path=Path("a.pth"), format="pytorch", form=weights_format("pytorch"), native=native, how=Reading()
    )
    assert [name for name, reason in file.misfits().items() if reason is None] == ["alexnet_deepcluster"]
    assert file.fitted().spec == spec


def test_a_table_of_names_is_written_edited_and_read(
    tmp_path: Path, weights: Weights, state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {layer: f"block{i}" for i, layer in enumerate(reversed([*TORCHVISION]))}
    torch.save({"jigsaw.weight": torch.zeros(31, 32), **renumbered(state, names)}, tmp_path / "theirs.pth")
    (tmp_path / "net.prototxt").write_text(deploy_text(weights.spec))
    (tmp_path / "names.yaml").write_text("")
    command = ["convert", str(tmp_path / "theirs.pth"), "--prototxt", str(tmp_path / "net.prototxt")]
    target = ["-o", str(tmp_path / "w.npz")]
    assert main([*command, *target, "--map-out", str(tmp_path / "names.yaml")]) == 2
    assert "already exists" in capsys.readouterr().err
    (tmp_path / "names.yaml").unlink()
    assert main([*command, *target, "--map-out", str(tmp_path / "names.yaml")]) == 2
    written = (tmp_path / "names.yaml").read_text()
    assert '# "block7.weight": conv1.weight  # (4, 3, 7, 7)' in written
    assert '# "block2.weight" or "block1.weight": fc6.weight' in written
    assert '# "jigsaw.weight": null' in written
    lines = [f"{theirs}.{kind}: {ours}.{kind}" for ours, theirs in names.items() for kind in ("weight", "bias")]
    (tmp_path / "names.yaml").write_text("\n".join([*lines, '"jigsaw.weight": null']))
    assert main([*command, *target, "--map", str(tmp_path / "names.yaml")]) == 0
    assert_same(load(tmp_path / "w.npz"), weights)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("[1, 2]", "expected lines of theirs: ours"),
        ("conv1.weight: 3", "expected lines of theirs: ours"),
        ("{", "no YAML"),
        ("conv1.weigth: conv1.weight", "unknown tensor of the file 'conv1.weigth'; did you mean conv1.weight"),
        ("conv1.weight: conv9.weight", "unknown parameter of alexnet_mini 'conv9.weight'; did you mean"),
        ("conv1.weight: conv2.weight", "and so is another tensor"),
    ],
)
def test_a_table_of_names_that_is_none(tmp_path: Path, weights: Weights, state: State, table: str, told: str) -> None:
    (tmp_path / "names.yaml").write_text(table)
    with pytest.raises(ZooError, match=told):
        read(tmp_path, state, weights, names=read_map(tmp_path / "names.yaml"))


def test_a_table_of_names_needs_a_network(tmp_path: Path, state: State) -> None:
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(ZooError, match="--map goes with --model or --prototxt"):
        load(tmp_path / "a.pth", how=Reading(names={"a": None}))


@pytest.mark.parametrize("form", ["pth", "safetensors"])
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.int8, torch.float64])
def test_what_float32_holds_is_widened_without_a_change(
    tmp_path: Path, weights: Weights, state: State, caplog: pytest.LogCaptureFixture, form: str, kind: torch.dtype
) -> None:
    caplog.set_level(logging.INFO)
    theirs = {name: (tensor * (1 if kind.is_floating_point else 50)).to(kind) for name, tensor in state.items()}
    torch.save(theirs, tmp_path / "a.pth") if form == "pth" else save_file(theirs, tmp_path / "a.safetensors")
    found = load(tmp_path / f"a.{form}", spec=weights.spec)
    for name, tensor in theirs.items():
        assert same_bits(np.asarray(found.tensors[name]), tensor.float().numpy()), name
    said = str(kind).removeprefix("torch.")
    assert f"16 {said} tensors became float32, every number as it was" in caplog.text


def test_float64_that_does_not_fit_is_rounded_on_demand_only(
    tmp_path: Path, weights: Weights, state: State, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = {name: tensor.double() for name, tensor in state.items()}
    theirs["fc8.weight"][0, :3] += 1e-12
    with pytest.raises(FileFormatError, match=r"3 of 320 numbers of float64 do not fit float32 \(fc8.weight\); --narr"):
        read(tmp_path, theirs, weights)
    found = read(tmp_path, theirs, weights, narrow=True)
    assert same_bits(np.asarray(found.tensors["fc8.weight"]), theirs["fc8.weight"].float().numpy())
    assert "3 of 320 numbers of float64 do not fit float32 (fc8.weight); rounded to the nearest" in caplog.text
    theirs["fc8.bias"][0] = 1e300
    with pytest.raises(WeightsError, match=r"fc8.bias holds NaN or Inf"):
        read(tmp_path, theirs, weights, narrow=True)
    integers = dict(state, **{"fc8.bias": torch.full((10,), 2**24 + 1)})
    with pytest.raises(FileFormatError, match=r"10 of 10 numbers of int64 do not fit"):
        read(tmp_path, integers, weights)


def test_averages_beside_a_state_dict_are_taken_on_demand(
    tmp_path: Path, weights: Weights, state: State, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    averaged = {"module." + name: tensor + 1 for name, tensor in state.items()}
    both = {"model": state, "model_ema": {"n_averaged": torch.tensor(3), **averaged}, "epoch": 9}
    assert_same(read(tmp_path, both, weights), weights)
    assert "'model_ema' as its moving averages; left out: epoch" in caplog.text
    assert "its weights are taken, its moving averages left out (--ema)" in caplog.text
    found = read(tmp_path, both, weights, ema=True)
    assert same_bits(np.asarray(found.tensors["fc8.bias"]), averaged["module.fc8.bias"].numpy())
    assert_same(read(tmp_path, {"state_dict_ema": state}, weights), weights)
    assert "'state_dict_ema', a moving average, is all there is; taken" in caplog.text
    with pytest.raises(ZooError, match="holds no moving averages"):
        read(tmp_path, {"model": state}, weights, ema=True)


def test_the_flags_reach_the_file(tmp_path: Path, weights: Weights, state: State) -> None:
    torch.save({"model": state, "ema": {n: t.double() + 1e-12 for n, t in state.items()}}, tmp_path / "a.bin")
    (tmp_path / "net.prototxt").write_text(deploy_text(weights.spec))
    command = ["convert", str(tmp_path / "a.bin"), "--prototxt", str(tmp_path / "net.prototxt")]
    assert main([*command, "-o", str(tmp_path / "a.npz"), "--ema"]) == 2
    assert main([*command, "-o", str(tmp_path / "a.npz"), "--ema", "--narrow", "--from", "pytorch"]) == 0


def test_averages_of_tensorflow(tmp_path: Path, weights: Weights, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    save(weights, tmp_path / "w.ckpt")
    raw = read_v2(tmp_path / "w.ckpt")
    averages = {f"{name}/ExponentialMovingAverage": tensor + 1 for name, tensor in raw.items()}
    write_v2(tmp_path / "alone", averages)
    wanted = load(tmp_path / "alone", spec=weights.spec)
    assert same_bits(np.asarray(wanted.tensors["fc8.bias"]), np.asarray(weights.tensors["fc8.bias"]) + 1)
    assert "it holds moving averages alone" in caplog.text
    # Weights of which no average is kept are themselves what is evaluated.
    write_v2(tmp_path / "both", raw | {n: t for n, t in averages.items() if "conv1" not in n})
    assert_same(load(tmp_path / "both", spec=weights.spec), weights)
    assert "moving averages left out (--ema)" in caplog.text
    found = load(tmp_path / "both", spec=weights.spec, how=Reading(ema=True))
    assert same_bits(np.asarray(found.tensors["fc8.bias"]), np.asarray(wanted.tensors["fc8.bias"]))
    assert same_bits(np.asarray(found.tensors["conv1.bias"]), np.asarray(weights.tensors["conv1.bias"]))
