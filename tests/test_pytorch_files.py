"""PyTorch's files: written, read in every form people have them, and refused without running anything."""

import argparse
import hashlib
import pickle
import zipfile
import zlib
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from converters.convert import Reading, load, save
from converters.formats import pytorch as files
from converters.tensormap import to_canonical
from converters.torchvision_names import native_names, state_entries
from converters.weights import Weights
from zoo.errors import FileFormatError, WeightsError, ZooError
from zoo.frameworks import pytorch
from zoo.layers import BatchNorm, Conv, Dense, Input, Layer, ModelSpec, ReLU, Scale
from zoo.registry import model
from zoo.shapes import parameter_shapes
from zoo.torch_names import parameter_names
from zoo.wire import torch_pickle
from zoo.wire.zipped import member_bytes

SMALL = ModelSpec(
    name="small",
    title="",
    inputs=(Input(shape=(2, 5, 5)),),
    layers=(
        Conv(name="conv/1", out_channels=3, kernel=(3, 3)),
        BatchNorm(name="bn"),
        Scale(name="scale", bias=True),
        ReLU(name="relu"),
        Dense(name="fc", out_features=4),
    ),
)


def weights_of(spec: ModelSpec, seed: int = 0) -> Weights:
    rng = np.random.default_rng(seed)
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in parameter_shapes(spec).items()}
    return Weights(spec=spec, tensors=tensors, source="made here")


def owt(features: int = 8) -> ModelSpec:
    """torchvision's layers and numbering, in small."""
    spec = model("alexnet_owt")
    layers = list[Layer]()
    for layer in spec.layers:
        if isinstance(layer, Conv):
            layers.append(replace(layer, out_channels=features))
        elif isinstance(layer, Dense):
            layers.append(replace(layer, out_features=features))
        else:
            layers.append(layer)
    return replace(spec, layers=tuple(layers)).with_input_size(63)


class TorchvisionAlexNet(torch.nn.Module):
    """The module structure of torchvision/models/alexnet.py, for its keys."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        nn = torch.nn
        self.features = nn.Sequential(
            nn.Conv2d(3, width, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(width, width, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


def same(a: Weights, b: Weights) -> bool:
    return list(a.tensors) == list(b.tensors) and all(
        np.array_equal(a.tensors[name].view(np.uint32), b.tensors[name].view(np.uint32)) for name in a.tensors
    )


def test_what_is_written_loads_into_the_live_module_and_comes_back(tmp_path: Path) -> None:
    weights = weights_of(SMALL)
    weights.tensors["conv/1.weight"].flat[0] = -0.0
    save(weights, tmp_path / "a.pt")
    assert same(load(tmp_path / "a.pt", spec=SMALL), weights)
    network = pytorch.build(SMALL)
    network.load_state_dict(torch.load(tmp_path / "a.pt", weights_only=True))
    assert network.state_dict()["conv_1.weight"].numpy().tobytes() == weights.tensors["conv/1.weight"].tobytes()
    keys = [*parameter_names(SMALL).values(), "bn.num_batches_tracked"]
    assert list(torch.load(tmp_path / "a.pt")) == keys


def test_equal_weights_give_equal_bytes(tmp_path: Path) -> None:
    weights = weights_of(SMALL)
    swapped = {name: np.asfortranarray(tensor) for name, tensor in weights.tensors.items()}
    save(weights, tmp_path / "a.pt")
    save(replace(weights, tensors=swapped), tmp_path / "other.pth")
    digests = {hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("a.pt", "other.pth")}
    assert len(digests) == 1


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("checksums", [True, False])
def test_both_formats_with_and_without_checksums(tmp_path: Path, zipped: bool, checksums: bool) -> None:
    weights = weights_of(SMALL)
    torch.serialization.set_crc32_options(checksums)
    try:
        state = pytorch.build(SMALL, weights.tensors).state_dict()
        torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    finally:
        torch.serialization.set_crc32_options(True)
    assert same(load(tmp_path / "a.pth", spec=SMALL), weights)


WRAPPINGS = {
    "plain": lambda state: state,
    "parameters": lambda state: OrderedDict((k, torch.nn.Parameter(v)) for k, v in state.items()),
    "data_parallel": lambda state: {f"module.{k}": v for k, v in state.items()},
    "features_parallel": lambda state: {k.replace("features.", "features.module."): v for k, v in state.items()},
    "compiled": lambda state: {f"_orig_mod.{k}": v for k, v in state.items()},
    "script": lambda state: {"epoch": 3, "arch": "alexnet", "state_dict": state, "optimizer": {"state": {}}},
    "model": lambda state: {"model": state},
    "lightning": lambda state: {
        "pytorch-lightning_version": "2.0",
        "state_dict": {f"model.{k}": v for k, v in state.items()},
    },
    "all_at_once": lambda state: {"model": {"state_dict": {f"net.module.{k}": v for k, v in state.items()}}},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_torchvision_s_and_our_own_keys_under_every_wrapper(wrapping: str, tmp_path: Path) -> None:
    spec, theirs = owt(), TorchvisionAlexNet().eval()
    torch.save(WRAPPINGS[wrapping](theirs.state_dict()), tmp_path / "tv.pth")
    weights = load(tmp_path / "tv.pth", spec=spec)
    x = np.random.default_rng(1).normal(size=(2, 3, 63, 63)).astype(np.float32)
    logits = pytorch.forward(spec, weights.tensors, {"data": x})["fc8"]
    np.testing.assert_array_equal(logits, theirs(torch.from_numpy(x)).detach().numpy())

    torch.save(WRAPPINGS[wrapping](pytorch.build(spec, weights.tensors).state_dict()), tmp_path / "own.pth")
    assert same(load(tmp_path / "own.pth", spec=spec), weights)


class Unknown:
    """Of a script that nobody here has."""

    def __init__(self) -> None:
        self.lr = 0.1


BESIDE: dict[str, Any] = {
    "args": argparse.Namespace(lr=0.1),
    "best": np.float64(55.5),
    "history": defaultdict(list, {"loss": [1.0]}),
    "started": datetime(2012, 9, 30, tzinfo=UTC),
    "config": Unknown(),
    "optim": {"state": {0: {"exp_avg": torch.ones(9, 9)}}, "param_groups": [{"lr": 0.1}]},
}


@pytest.mark.parametrize("key", ["state_dict", "my_alexnet"])
@pytest.mark.parametrize("zipped", [True, False])
def test_whatever_a_script_keeps_beside_the_weights_is_left_out(
    tmp_path: Path, key: str, zipped: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    weights = weights_of(SMALL)
    state = pytorch.build(SMALL, weights.tensors).state_dict()
    torch.save({**BESIDE, key: state}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    assert same(load(tmp_path / "a.pth", spec=SMALL), weights)
    assert f"{key!r} taken as the state dict; left out: {', '.join(BESIDE)}" in caplog.text
    torch.save({**state, **BESIDE, "acc": torch.tensor(3.0)}, tmp_path / "b.pth")
    assert same(load(tmp_path / "b.pth", spec=SMALL), weights)
    assert "b.pth: each a number alone, and no parameter of small; left out: acc" in caplog.text


@pytest.mark.parametrize("ema", [True, False])
def test_averages_that_a_module_keeps_among_its_weights(tmp_path: Path, ema: bool) -> None:
    raw, averages = weights_of(SMALL), weights_of(SMALL, seed=1)
    states = [pytorch.build(SMALL, weights.tensors).state_dict() for weights in (raw, averages)]
    among = {f"model.{key}": value for key, value in states[0].items()}
    among |= {f"ema_model.module.{key}": value for key, value in states[1].items()}
    wrapped = {
        "among": {"state_dict": {**among, "ema_model.n_averaged": torch.tensor(3)}},
        "lightning": {"current_model_state": states[0], "state_dict": states[1], "averaging_state": {}},
        "deeper": {"model": states[0], "ema": {"decay": 0.99, "shadow": states[1]}},
    }
    for name, value in wrapped.items():
        torch.save(value, tmp_path / name)
        found = load(tmp_path / name, spec=SMALL, how=Reading(ema=ema))
        assert same(found, averages if ema else raw), name


def test_layers_that_the_network_has_not_are_left_out_where_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = weights_of(SMALL)
    state = pytorch.build(SMALL, weights.tensors).state_dict()
    torch.save({**state, "aux.fc.weight": torch.ones(2, 2), "aux.fc.bias": torch.ones(2)}, tmp_path / "a.pth")
    assert same(load(tmp_path / "a.pth", spec=SMALL), weights)
    assert "layers that small has not are left out: aux.fc" in caplog.text
    torch.save({**state, "fc.mask": torch.ones(2, 2)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"fc\.mask is not a parameter"):
        load(tmp_path / "a.pth", spec=SMALL)


def test_layers_that_are_alike_are_told_apart_by_the_order_of_their_file_or_by_counting() -> None:
    spec = owt().with_num_classes(5)
    own = parameter_names(spec)
    shapes = dict(zip(own, parameter_shapes(spec).values(), strict=True))

    def matched(names: dict[str, str], order: Callable[[list[str]], list[str]] = list) -> dict[str, str]:
        keys = {f"{names[name.partition('.')[0]]}.{name.partition('.')[2]}": np.zeros(shapes[name]) for name in own}
        return {e.canonical: e.native for e in state_entries(spec, own, {key: keys[key] for key in order([*keys])})}

    layers = list(dict.fromkeys(name.partition(".")[0] for name in own))
    counted = {layer: f"layers.{3 * i}" for i, layer in enumerate(layers)}
    for order in (list, sorted):
        assert matched(counted, order)["conv5.weight"] == "layers.12.weight", order
    letters = {layer: f"layer_{'zyxwvuts'[i]}" for i, layer in enumerate(layers)}
    assert matched(letters)["conv5.weight"] == "conv5.weight"  # not there, which is refused
    assert matched(letters, sorted)["conv5.weight"] == "conv5.weight"


def test_names_that_look_like_a_wrapper_are_kept() -> None:
    own = {"module.weight": "module.weight", "module.bias": "module.bias"}
    assert native_names(own, list(own.values())) == own
    assert native_names(own, ["module.module.weight", "x"])["module.bias"] == "module.bias"


def test_a_wrong_network_is_told_in_the_file_s_own_names(tmp_path: Path) -> None:
    torch.save(TorchvisionAlexNet(width=6).state_dict(), tmp_path / "tv.pth")
    with pytest.raises(
        WeightsError, match=r"features\.0\.weight has shape \(6, 3, 11, 11\), expected \(8, 3, 11, 11\)"
    ):
        load(tmp_path / "tv.pth", spec=owt().with_num_classes(6))


def test_everything_left_over_or_missing_is_listed(tmp_path: Path) -> None:
    state = pytorch.build(SMALL, weights_of(SMALL).tensors).state_dict()
    del state["fc.bias"]
    state["extra"] = torch.zeros(2)
    state["scale.weight"][0] = float("nan")
    torch.save(state, tmp_path / "a.pt")
    native = files.read(tmp_path / "a.pt")
    with pytest.raises(WeightsError) as caught:
        to_canonical(SMALL, files.entries(SMALL, native.tensors), native.tensors, "a.pt", files.ignored)
    assert caught.value.problems == (
        "scale.weight holds NaN or Inf",
        "fc.bias is missing (expected (4,))",
        "extra is not a parameter of this network",
    )


class Bomb:
    """What a malicious file does when a plain unpickler meets it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_no_file_runs_code(tmp_path: Path, zipped: bool) -> None:
    proof = tmp_path / "ran"
    torch.save({"w": Bomb(proof)}, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(FileFormatError) as caught:
        files.read(tmp_path / "a.pt")
    assert not proof.exists()
    assert "would run code; load it where it was made" in str(caught.value)
    with pytest.raises(FileFormatError):
        (tmp_path / "b.pt").write_bytes(pickle.dumps(Bomb(proof)))
        files.read(tmp_path / "b.pt")
    assert not proof.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickled_module_is_refused_with_the_remedy(tmp_path: Path, zipped: bool) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(FileFormatError) as caught:
        files.read(tmp_path / "a.pt")
    message = str(caught.value)
    assert "torch.nn.modules.linear.Linear" in message
    assert "torch.save its model.state_dict()" in message
    assert "\n" not in message


def test_a_torchscript_program_is_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "old.pt", "w") as archive:  # PyTorch 1.0
        for name in ("old/version", "old/code/old.py", "old/attributes.pkl", "old/tensors/0", "old/model.json"):
            archive.writestr(name, b"2")
    for name in ("a.pt", "old.pt"):
        with pytest.raises(FileFormatError, match="TorchScript program"):
            load(tmp_path / name)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"w": torch.zeros(2, dtype=torch.complex64), "v": torch.zeros(2) > 0}, "w is complex64.*v is bool"),
        ({"w": torch.zeros(2, dtype=torch.float8_e4m3fn)}, "w is float8_e4m3fn, expected float32"),
        ({"w": torch.zeros(2).to_sparse()}, "w is sparse"),
        ({"w": torch.zeros(1).expand(10**9)}, r"w has shape \(1000000000,\), which is more than its stored numbers"),
        ({"epoch": 3, "lr": 0.1}, "epoch is a int, expected a tensor"),
        ({"w": torch.zeros((1,) * 70)}, "w has 70 axes"),
        ({1: torch.zeros(1)}, "keys are not names"),
        ({}, "empty state dict"),
        ([torch.zeros(1)], "holds a list"),
        (torch.zeros(1), "holds a Tensor"),
        ({"w": np.float64(3)}, "would run code"),
    ],
)
def test_what_is_no_state_dict_is_refused(value: object, problem: str, tmp_path: Path) -> None:
    torch.save(value, tmp_path / "a.pt")
    with pytest.raises(FileFormatError, match=problem) as caught:
        files.read(tmp_path / "a.pt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_every_truncation_and_flip_is_read_or_refused_in_one_line(tmp_path: Path, zipped: bool) -> None:
    state = pytorch.build(SMALL, weights_of(SMALL).tensors).state_dict()
    torch.save(state, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    whole, path, rng = (tmp_path / "a.pt").read_bytes(), tmp_path / "b.pt", np.random.default_rng(3)
    damaged = [whole[:size] for size in rng.integers(0, len(whole), 60)]
    for at in rng.integers(0, len(whole), 150):
        damaged.append(whole[:at] + bytes([whole[at] ^ (1 << rng.integers(8))]) + whole[at + 1 :])
    refused = 0
    for data in damaged:
        path.write_bytes(data)
        try:
            weights = load(path, spec=SMALL)
        except ZooError as error:
            refused += 1
            assert "\n" not in str(error)
            assert len(str(error)) < 2000
        else:
            assert weights.spec is SMALL
    assert refused >= 60
    if zipped:
        path.write_bytes(whole.replace(state["fc.weight"].numpy().tobytes()[:8], b"\0" * 8))
        with pytest.raises(FileFormatError, match=r"checksum of a/data/[0-9]+ differs"):
            files.read(path)


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(10**6)}, tmp_path / "a.pt")
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as source,
        zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for record in source.namelist():
            bomb.writestr(record, source.read(record))
    with pytest.raises(FileFormatError, match="is compressed"):
        files.read(tmp_path / "b.pt")


def test_text_and_nothing_are_refused(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    for data in (b"", b"name: 'alexnet'\n", b"\x80\x04.", b"PK\x03\x04", bytes(4096)):
        (tmp_path / "a.pt").write_bytes(data)
        with pytest.raises(FileFormatError, match=r"damaged or no PyTorch file|is empty") as caught:
            files.read(tmp_path / "a.pt")
        assert "\n" not in str(caught.value)
    assert not recwarn.list


def test_the_old_format_may_not_declare_more_numbers_than_it_holds(tmp_path: Path) -> None:
    """torch.load would make room for them first: 8 GB here, for a file of a few hundred bytes."""
    path = tmp_path / "a.pt"
    torch.save({"w": torch.arange(300.0)}, path, _use_new_zipfile_serialization=False)
    good = path.read_bytes()
    assert files.read(path).tensors["w"].shape == (300,)
    assert good.count(b"M\x2c\x01") == 2, "the size of the storage and that of the tensor, as BININT2"
    at = good.index(b"M\x2c\x01")
    path.write_bytes(good[:at] + b"J\xff\xff\xff\x7f" + good[at + 3 :])
    with pytest.raises(FileFormatError, match=r"declares 8,589,934,588 bytes of numbers, 1,\d+ are left"):
        files.read(path)


def test_a_bytearray_of_four_gigabytes_is_not_made(tmp_path: Path) -> None:
    huge = b"\x80\x05\x96" + (1 << 32).to_bytes(8, "little") + b"."
    pickles = [pickle.dumps(number, 2) for number in (0x1950A86A20F9469CFC6C, 1001, {})]
    (tmp_path / "a.pt").write_bytes(b"".join(pickles) + huge)
    with pytest.raises(FileFormatError, match="damaged pickle"):
        files.read(tmp_path / "a.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_is_larger_than_any_state_dict_is_not_gone_through(tmp_path: Path, zipped: bool) -> None:
    """What it makes of a few megabytes of opcodes takes hundreds."""
    state = {"state_dict": {"w": torch.zeros(3)}, "history": list(range(1 << 19))}
    torch.save(state, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(FileFormatError, match="save the state dict alone"):
        files.read(tmp_path / "a.pt")


def test_a_record_that_is_stored_in_four_gigabytes_is_refused(tmp_path: Path) -> None:
    """torch's reader makes room for the stored size; zipfile looks at the other one alone."""
    torch.save({"w": torch.zeros(300)}, tmp_path / "a.pt")
    data = bytearray((tmp_path / "a.pt").read_bytes())
    at = data.index(b"PK\x01\x02") + 20
    data[at : at + 4] = b"\xf0\xff\xff\xff"
    (tmp_path / "a.pt").write_bytes(data)
    with pytest.raises(FileFormatError, match="two sizes"):
        files.read(tmp_path / "a.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_tensor_that_reaches_beyond_its_storage_is_refused(tmp_path: Path, zipped: bool) -> None:
    """torch would make the storage larger: by 8 GB here."""
    path = tmp_path / "a.pt"
    torch.save({"w": torch.arange(9.0)[3:].reshape(2, 3)}, path, _use_new_zipfile_serialization=zipped)
    assert files.read(path).tensors["w"].shape == (2, 3)
    data = path.read_bytes()
    if zipped:  # the checksum is not looked at where it says 0
        crc = zlib.crc32(zipfile.ZipFile(path).read("a/data.pkl")).to_bytes(4, "little")
        data = data.replace(crc, bytes(4))
    assert data.count(b"K\x03K\x02K\x03") == 1, "offset 3, shape (2, 3)"
    path.write_bytes(data.replace(b"K\x03K\x02K\x03", b"K\xffK\x02K\x03"))
    with pytest.raises(FileFormatError, match="a tensor reaches number 260 of a storage of 9"):
        files.read(path)


def test_a_storage_that_tensors_share_is_checked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, read = torch.arange(12.0), list[str]()
    torch.save({f"w{i}": whole[i : i + 2].reshape(2, 1) for i in range(9)}, tmp_path / "a.pt")

    def counted(archive: zipfile.ZipFile, member: zipfile.ZipInfo, data: memoryview, *, checked: bool) -> memoryview:
        read.append(member.filename)
        return member_bytes(archive, member, data, checked=checked)

    monkeypatch.setattr(torch_pickle, "member_bytes", counted)
    assert files.read(tmp_path / "a.pt").tensors["w8"].tolist() == [[8], [9]]
    assert read.count("a/data/0") == 1


def test_a_storage_of_fewer_numbers_than_none_is_refused(tmp_path: Path) -> None:
    """It would make room for another one that is larger than the file."""
    torch.save({"w": torch.arange(12.0)[:0]}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    data = (tmp_path / "a.pt").read_bytes()
    assert data.count(b"K\x0c") == 1
    (tmp_path / "a.pt").write_bytes(data.replace(b"K\x0c", b"J\xf4\xff\xff\xff"))
    with pytest.raises(FileFormatError, match="refers to what is no storage"):
        files.read(tmp_path / "a.pt")
