"""The canonical file against the safetensors library, and against everything that can be wrong with a header."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from converters.convert import load
from converters.formats import safetensors as ours
from tests.small import small_weights
from zoo import registry
from zoo.errors import FileFormatError, WeightsError
from zoo.spec_json import METADATA_KEY, loads


def test_the_library_reads_what_we_write(tmp_path: Path) -> None:
    weights = small_weights("bvlc_alexnet")
    ours.write(tmp_path / "w.safetensors", weights)
    found = safetensors.numpy.load_file(tmp_path / "w.safetensors")
    assert found.keys() == weights.tensors.keys()
    for name, tensor in weights.tensors.items():
        np.testing.assert_array_equal(found[name].view(np.uint32), np.asarray(tensor).view(np.uint32))
    with safetensors.safe_open(tmp_path / "w.safetensors", "np") as file:
        metadata = file.metadata()
    assert loads(metadata[METADATA_KEY]) == weights.spec
    assert metadata["model"] == "bvlc_alexnet"


def test_we_read_what_the_library_writes(tmp_path: Path) -> None:
    weights = small_weights()
    safetensors.numpy.save_file(dict(weights.tensors), tmp_path / "w.safetensors")
    native = ours.read(tmp_path / "w.safetensors")
    assert native.spec is None
    for name, tensor in weights.tensors.items():
        np.testing.assert_array_equal(native.tensors[name], tensor)


def test_tensors_are_views_of_the_file_and_equal_weights_equal_bytes(tmp_path: Path) -> None:
    weights = small_weights()
    for name in ("a", "b"):
        ours.write(tmp_path / name, weights)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    for tensor in ours.read(tmp_path / "a").tensors.values():
        assert not tensor.flags.owndata
        assert not tensor.flags.writeable
        assert tensor.flags.aligned


@pytest.mark.parametrize("prefix", ["", "module.", "model.alexnet."])
def test_torchvisions_names_are_understood(tmp_path: Path, prefix: str) -> None:
    weights = small_weights("alexnet_owt")
    torchvisions = ["features.0", "features.3", "features.6", "features.8", "features.10"]
    torchvisions += ["classifier.1", "classifier.4", "classifier.6"]
    layers = [name.removesuffix(".weight") for name in weights.tensors if name.endswith(".weight")]
    theirs = {
        f"{prefix}{their}.{kind}": np.asarray(weights.tensors[f"{our}.{kind}"])
        for our, their in zip(layers, torchvisions, strict=True)
        for kind in ("weight", "bias")
    }
    safetensors.numpy.save_file(theirs, tmp_path / "w.safetensors")
    read = load(tmp_path / "w.safetensors", spec=weights.spec)
    for name, tensor in weights.tensors.items():
        np.testing.assert_array_equal(read.tensors[name], tensor)


def craft(folder: Path, header: object, data: bytes = bytes(8)) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = folder / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(kind: str = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
    return {"dtype": kind, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"[]", "no JSON object"),
        (b"{", "no sound safetensors file"),
        (b"\xff\xfe", "no sound safetensors file"),
        (b"[" * 100_000, "no sound safetensors file"),
        (b'{"a": {}, "a": {}}', "stands twice"),
        ({"a": 1}, "is no object"),
        ({"a": entry("F8_E5M2", (4,))}, "F8_E5M2, expected F32"),
        ({"a": entry(shape=[-2])}, "impossible shape"),
        ({"a": entry(shape=[2, 0])}, "impossible shape"),
        ({"a": entry(shape=[1] * 40)}, "impossible shape"),
        ({"a": entry(shape=[True])}, "impossible shape"),
        ({"a": entry(shape=[2**80])}, "does not fill"),
        ({"a": entry(offsets=[0, 1 << 60])}, "cut short"),
        ({"a": entry(offsets=[8, 0])}, "impossible offsets"),
        ({"a": entry(offsets=[0])}, "impossible offsets"),
        ({"a": entry(shape=[1], offsets=[0, 4])}, "belong to no tensor"),
        ({"a": entry(shape=[1], offsets=[4, 8])}, "gap"),
        ({"a": entry(), "b": entry()}, "overlap"),
        ({"__metadata__": 1, "a": entry()}, "metadata is no object"),
        ({"__metadata__": {METADATA_KEY: 1}, "a": entry()}, "no text"),
        ({"__metadata__": {METADATA_KEY: "{}"}, "a": entry()}, "network description is damaged"),
    ],
)
def test_a_damaged_header_is_refused_in_one_line(tmp_path: Path, header: object, reason: str) -> None:
    path = craft(tmp_path, header)
    with pytest.raises(FileFormatError, match=reason) as caught:
        ours.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [0, 5, 8, 100, -4])
def test_a_truncated_file_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "w.safetensors"
    ours.write(path, small_weights())
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(FileFormatError):
        ours.read(path)
    with pytest.raises(FileFormatError, match="no regular file"):
        ours.read(tmp_path)


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    weights = small_weights()
    tensors = {name: np.asarray(tensor) for name, tensor in weights.tensors.items()}
    tensors["conv1.weight"] = tensors["conv1.weight"].astype(np.bool)
    tensors["extra"] = np.zeros(3, np.float32)
    del tensors["fc8.bias"]
    safetensors.numpy.save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError) as caught:
        load(tmp_path / "w.safetensors", spec=weights.spec)
    for part in ("conv1.weight is bool", "fc8.bias is missing", "extra is not a parameter"):
        assert part in str(caught.value)


def test_the_format_is_in_the_registry() -> None:
    assert "safetensors" in registry.names("converters.formats")


@pytest.mark.parametrize("kind", [[], {}, None, 1, "a\nb", "\x1b[2J", "x" * 70_000])
def test_a_number_type_that_is_none_is_refused_in_a_printable_line(tmp_path: Path, kind: object) -> None:
    header = json.dumps({"w": {"dtype": kind, "shape": [1], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(FileFormatError, match="expected F32") as caught:
        ours.read(tmp_path / "w.safetensors")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1000
