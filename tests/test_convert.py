"""Any format into any other, without one changed bit; and everything that can be wrong with a file, in one line."""

import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise, permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from converters import convert
from converters.convert import load, same_bits, save, with_num_classes
from converters.formats import format_name, weights_format
from converters.weights import Weights
from tests.small import shrink, small_weights
from zoo import registry
from zoo.errors import CheckFailedError, WeightsError, ZooError

FILES = {
    "safetensors": "w.safetensors",
    "pytorch": "w.pt",
    "tf_slim": "w.ckpt",
    "caffe": "w.caffemodel",
    "onnx": "w.onnx",
    "npy": "w.npy",
    "npz": "w.npz",
}


def assert_same(one: Weights, other: Weights) -> None:
    assert list(one.tensors) == list(other.tensors)
    for name, tensor in one.tensors.items():
        assert same_bits(np.asarray(tensor), np.asarray(other.tensors[name])), name


@pytest.mark.parametrize("model", registry.models())
@pytest.mark.parametrize("kind", FILES)
def test_every_member_survives_every_format(tmp_path: Path, model: str, kind: str) -> None:
    weights = small_weights(model)
    save(weights, tmp_path / FILES[kind])
    assert_same(load(tmp_path / FILES[kind], spec=weights.spec), weights)
    assert not [path for path in tmp_path.iterdir() if "staging" in path.name]


@pytest.mark.parametrize(("one", "other"), permutations(FILES, 2))
def test_every_pair_of_formats(tmp_path: Path, one: str, other: str) -> None:
    weights = small_weights()
    save(weights, tmp_path / FILES[one])
    save(load(tmp_path / FILES[one], spec=weights.spec), tmp_path / f"to-{FILES[other]}")
    assert_same(load(tmp_path / f"to-{FILES[other]}", spec=weights.spec), weights)


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("name", ["conv2.weight", "fc6.weight", "fc8.bias"])
def test_what_was_written_otherwise_is_never_put_in_place(
    tmp_path: Path, kind: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer, or a disk, that turns one bit over."""
    weights, found = small_weights(), weights_format(format_name(tmp_path / FILES[kind], None))
    save(weights, tmp_path / FILES[kind])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def write(path: Path, meant: Weights) -> None:
        tensors = dict(meant.tensors)
        tensors[name] = np.array(tensors[name])
        tensors[name].view(np.uint32).reshape(-1)[-1] ^= 1
        found.write(path, replace(meant, tensors=tensors))

    parts = ("read", "entries", "ignored", "main_file")
    broken = SimpleNamespace(write=write, **{part: getattr(found, part) for part in parts})
    monkeypatch.setattr(convert, "weights_format", lambda _: broken)
    told = rf"^{FILES[kind]}: .* read back differently from what was written; nothing was changed"
    with pytest.raises(CheckFailedError, match=told):
        save(weights, tmp_path / FILES[kind], force=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("order", list(permutations(["pytorch", "tf_slim", "caffe", "onnx"]))[::5])
def test_a_loop_through_all_formats_gives_the_same_file(tmp_path: Path, order: tuple[str, ...]) -> None:
    weights = small_weights("alexnet")
    paths = [tmp_path / "start.safetensors", *(tmp_path / FILES[kind] for kind in order), tmp_path / "end.safetensors"]
    save(weights, paths[0])
    for source, target in pairwise(paths):
        save(load(source, spec=weights.spec), target)
    assert paths[0].read_bytes() == paths[-1].read_bytes()


@pytest.mark.parametrize("kind", FILES)
def test_equal_weights_give_equal_bytes(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for folder in ("a", "b"):
        save(small_weights(), tmp_path / folder / FILES[kind])
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


@pytest.mark.slow
def test_every_process_writes_the_same_bytes(tmp_path: Path) -> None:
    """Neither the order of a set nor the time of day is in a file: two processes differ in both."""
    save(small_weights(), tmp_path / "source.safetensors")
    code = (
        "import sys; from pathlib import Path; from converters.convert import load, save; w = load(Path(sys.argv[1])); "
        "[save(w, Path(sys.argv[2]) / name) for name in sys.argv[3:]]"
    )
    for seed in ("1", "2"):
        (tmp_path / seed).mkdir()
        command = [sys.executable, "-c", code, str(tmp_path / "source.safetensors"), str(tmp_path / seed)]
        subprocess.run([*command, *FILES.values()], check=True, env={**os.environ, "PYTHONHASHSEED": seed})
    names = sorted(path.name for path in (tmp_path / "1").iterdir())
    assert len(names) >= len(FILES)
    for name in names:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes(), name


@pytest.mark.parametrize("part", ["weight", "bias"])
@pytest.mark.parametrize("turned", [False, True])
def test_one_changed_bit_is_seen(part: str, turned: bool) -> None:
    """At either end and in the middle, whatever the order in memory, of tensors of several blocks."""
    shape = (300, 70, 3, 3) if part == "weight" else (1 << 21,)
    meant = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    if turned:
        meant = meant.T
    found = np.array(meant, order="C")
    assert same_bits(found, meant)
    for at in (0, found.size // 2, found.size - 1):
        found.view(np.uint32).reshape(-1)[at] ^= 1
        assert not same_bits(found, meant)
        found.view(np.uint32).reshape(-1)[at] ^= 1


@pytest.mark.parametrize("kind", FILES)
def test_signed_zeros_and_subnormals_are_bits_too(tmp_path: Path, kind: str) -> None:
    weights = small_weights()
    tensors = dict(weights.tensors)
    tensors["fc8.bias"] = np.array([0.0, -0.0, 1e-45, -1e-45, 3.4e38, -3.4e38, 1.1754942e-38, 1, -1, 0.1], np.float32)
    weights = Weights(spec=weights.spec, tensors=tensors, source="test")
    save(weights, tmp_path / FILES[kind])
    assert_same(load(tmp_path / FILES[kind], spec=weights.spec), weights)


def test_what_a_file_says_of_itself_is_believed(tmp_path: Path) -> None:
    for name in ("w.safetensors", "w.onnx", "w.caffemodel"):
        for model in ("alexnet", "bvlc_alexnet", "caffenet", "alexnet_2012_code"):
            weights = small_weights(model)
            save(weights, tmp_path / name, force=True)
            assert load(tmp_path / name).spec == weights.spec, (name, model)


def test_a_full_size_file_that_fits_several_networks_asks_which(tmp_path: Path) -> None:
    shrunk = shrink("alexnet")
    save(small_weights(), tmp_path / "w.pt")
    with pytest.raises(ZooError, match="fit no network of the family"):
        load(tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"conv1\.weight has shape \(12, 3, 11, 11\), expected \(96, 3, 11, 11\)"):
        load(tmp_path / "w.pt", spec=registry.model("alexnet"))
    assert load(tmp_path / "w.pt", spec=shrunk).spec == shrunk


def test_one_member_s_weights_are_refused_for_another_with_the_reason(tmp_path: Path) -> None:
    save(small_weights("alexnet"), tmp_path / "w.safetensors")
    with pytest.raises(ZooError, match=r"holds alexnet, not bvlc_alexnet: .*norm1"):
        load(tmp_path / "w.safetensors", spec=shrink("bvlc_alexnet"))
    with pytest.raises(ZooError, match=r"holds alexnet, not caffenet: .*; leave --model or --prototxt out"):
        load(tmp_path / "w.safetensors", spec=shrink("caffenet"))


def test_a_network_that_shares_its_name_with_another_is_called_another(tmp_path: Path) -> None:
    save(small_weights(), tmp_path / "w.safetensors")
    said = r"holds another alexnet: norm1: alpha 1 in the one given, 0\.0001 in the file; leave --model or --prototxt"
    with pytest.raises(ZooError, match=said):
        load(tmp_path / "w.safetensors", spec=shrink("alexnet").change("norm1", alpha=1.0))


@pytest.mark.parametrize("name", ["w.pt", "w.ckpt", "w.npz", "w.caffemodel", "w.safetensors"])
def test_a_fine_tuned_head_keeps_its_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    small = shrink("bvlc_alexnet")
    weights = with_num_classes(small_weights("bvlc_alexnet"), 7)
    save(weights, tmp_path / name)
    # A user's own network means its number of classes ...
    with pytest.raises(ZooError, match=r"fc8.*\b7\b.*\b10\b|fc8.*\b10\b.*\b7\b"):
        load(tmp_path / name, spec=small)
    # ... a member of the family has as many as were trained.
    original = registry.model
    monkeypatch.setattr(registry, "model", lambda model: small if model == small.name else original(model))
    loaded = load(tmp_path / name, spec=small)
    assert loaded.tensors["fc8.weight"].shape == (7, 32)
    assert_same(loaded, weights)


def test_another_number_of_classes_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However many members of the family are tried."""
    save(with_num_classes(small_weights("alexnet_owt"), 7), tmp_path / "w.pt")
    small = {name: shrink(name) for name in registry.models()}
    monkeypatch.setattr(registry, "model", lambda name: small[name])
    caplog.set_level("INFO")
    assert load(tmp_path / "w.pt").spec.name == "alexnet_owt"
    said = [message for message in caplog.messages if "number of classes" in message]
    assert said == [f"{tmp_path / 'w.pt'}: fc8 has 7 outputs, taken as the number of classes"]


def test_a_new_head_is_drawn_and_said(caplog: pytest.LogCaptureFixture) -> None:
    weights = small_weights()
    fresh = with_num_classes(weights, 3)
    assert fresh.tensors["fc8.weight"].shape == (3, 32)
    assert 0.005 < fresh.tensors["fc8.weight"].std() < 0.02
    assert not fresh.tensors["fc8.bias"].any()
    assert "fc8: dropped, and drawn anew for 3 classes" in caplog.text
    for name in weights.tensors:
        if not name.startswith("fc8."):
            assert fresh.tensors[name] is weights.tensors[name]
    assert with_num_classes(weights, 10) is weights


@pytest.mark.parametrize("kind", FILES)
def test_a_missing_file_and_an_existing_target(tmp_path: Path, kind: str) -> None:
    path = tmp_path / FILES[kind]
    with pytest.raises(ZooError, match="no such file"):
        load(path)
    save(small_weights(), path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(ZooError, match="already exists"):
        save(small_weights(seed=1), path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    save(small_weights(seed=1), path, force=True)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} != before


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("keep", [0, 1, 7, 100, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused_in_one_line(tmp_path: Path, kind: str, keep: float) -> None:
    path = tmp_path / FILES[kind]
    for written in save(small_weights(), path):
        if written.suffix == ".prototxt":
            continue
        whole = written.read_bytes()
        written.write_bytes(whole[: int(keep * len(whole)) if 0 < keep < 1 else int(keep)])
        with pytest.raises(ZooError) as caught:
            load(path, spec=shrink("alexnet"))
        assert len(str(caught.value)) < 3000
        assert "\n" not in str(caught.value)
        written.write_bytes(whole)


def test_nan_is_refused_and_named(tmp_path: Path) -> None:
    weights = small_weights()
    save(weights, tmp_path / "w.npz")
    tensors: dict[str, Any] = {name: np.array(tensor) for name, tensor in weights.tensors.items()}
    tensors["conv3.weight"][1, 2, 0, 0] = np.nan
    tensors["fc6.bias"][0] = -np.inf
    np.savez(tmp_path / "bad.npz", **tensors)
    with pytest.raises(WeightsError, match=r"conv3\.weight holds NaN or Inf; fc6\.bias holds NaN or Inf"):
        load(tmp_path / "bad.npz", spec=weights.spec)
