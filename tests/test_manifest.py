"""The manifest: its own file, and what its schema refuses."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from converters import manifest
from zoo import registry
from zoo.errors import FileFormatError, UnknownNameError


def _entry(**changes: Any) -> dict[str, Any]:
    fields = {
        "id": "one",
        "model": "alexnet",
        "framework": "caffe",
        "format": "caffemodel",
        "file": "one.caffemodel",
        "urls": ["https://example.org/one"],
        "hash": "sha256:" + "0" * 64,
        "size": 1,
        "licence": "none",
        "source": "a test",
    } | changes
    return {key: value for key, value in fields.items() if value != "REMOVE"}


def _write(tmp_path: Path, *entries: dict[str, Any], **more: Any) -> Path:
    path = tmp_path / "manifest.yaml"
    path.write_text(yaml.safe_dump({"schema": 1, "weights": list(entries)} | more))
    return path


def test_the_packaged_manifest() -> None:
    entries = manifest.entries()
    ids = [entry.id for entry in entries]
    assert len(set(ids)) == len(ids) == 30
    assert all(entry.hash.startswith("sha256:") for entry in entries)
    assert all(url.startswith("https://") for entry in entries for url in entry.urls)
    assert {entry.model for entry in entries} == {"bvlc_alexnet", "caffenet", "alexnet_owt", None}


def test_published_facts() -> None:
    bvlc = manifest.entry("bvlc_alexnet")
    assert bvlc.size == 243_862_414
    assert bvlc.published and (bvlc.published.top1, bvlc.published.top5) == (57.1, 80.2)
    assert bvlc.measured[0].top1 == 56.598
    assert manifest.entry("onnx_bvlcalexnet_12").parent == "bvlc_alexnet"
    assert manifest.entry("onnx_bvlcalexnet_12_int8").precision == "int8"


@pytest.mark.parametrize("weights_id", ["bvlc_alexnet", "bvlc_reference_caffenet", "torchvision_alexnet"])
def test_weights_are_of_the_member_they_name(weights_id: str) -> None:
    entry = manifest.entry(weights_id)
    assert entry.model is not None
    assert entry.spec() == registry.model(entry.model)


def test_spec_takes_size_classes_and_preprocessing_from_the_entry() -> None:
    spec = manifest.entry("onnx_bvlcalexnet_12").spec()
    assert spec == replace(registry.model("bvlc_alexnet").with_input_size(224), preprocessing=None)
    background = manifest.entry("torchvision_alexnet").model_copy(update={"num_classes": 1001}).spec()
    assert background == registry.model("alexnet_owt").with_num_classes(1001)
    assert manifest.entry("ilsvrc_2012_mean").spec() is None


def test_an_unknown_id_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean bvlc_alexnet"):
        manifest.entry("bvlc_alexnt")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"colour": "red"}, "colour"),
        ({"size": "12"}, "size"),
        ({"size": -1}, "size"),
        ({"size": None}, "size"),
        ({"hash": None}, "hash"),
        ({"hash": "REMOVE"}, "hash"),
        ({"urls": []}, "urls"),
        ({"licence": "REMOVE"}, "licence"),
        ({"model": "alexnett"}, "did you mean alexnet"),
        ({"urls": ["http://example.org/one"]}, "urls"),
        ({"urls": ["ftp://example.org/one"]}, "urls"),
        ({"urls": ["file://host/one"]}, "urls"),
        ({"urls": "https://example.org/one"}, "urls"),
        ({"hash": "sha256:123"}, "hash"),
        ({"hash": "crc32:" + "0" * 8}, "hash"),
        ({"hash": "sha256:" + "G" * 64}, "hash"),
        ({"other_hashes": ["md5:1"]}, "other_hashes"),
        ({"file": "../one"}, "file"),
        ({"file": ".one"}, "file"),
        ({"id": "One"}, "id"),
        ({"framework": "torch"}, "framework"),
        ({"preprocessing": {"channels": "RGB", "mean": [0.0, 0.0], "resize": 256}}, "preprocessing.mean"),
        ({"preprocessing": {"channels": "RGB", "mean": [0.0] * 3, "resize": 256, "crop": 1}}, "preprocessing.crop"),
        ({"published": {"top1": 157.0, "top5": 80.0, "by": "me"}}, "published.top1"),
        ({"parent": "two"}, "no entry has the id 'two'"),
        ({"parent": "one"}, "descends from itself"),
    ],
)
def test_a_fault_is_named_by_entry_and_field(tmp_path: Path, change: dict[str, Any], field: str) -> None:
    with pytest.raises(FileFormatError) as caught:
        manifest.read_manifest(_write(tmp_path, _entry(**change)))
    text = str(caught.value)
    assert text.startswith(str(tmp_path)) and field in text and "\n" not in text
    assert "entry 'one'" in text or "id" in change


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"entry 'one', size.*entry 'two', hash"):
        manifest.read_manifest(_write(tmp_path, _entry(size=0), _entry(id="two", hash="x")))


def test_two_entries_may_not_share_id_or_file(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="id 'one' is used twice"):
        manifest.read_manifest(_write(tmp_path, _entry(), _entry(file="two")))
    with pytest.raises(FileFormatError, match=r"'one.caffemodel' is used twice"):
        manifest.read_manifest(_write(tmp_path, _entry(), _entry(id="two")))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: [",
        "a: &x [1]\nb: *x\n",
        "schema: 1\nschema: 1\nweights: []\n",
        "schema: 2\nweights: []\n",
        "weights: []\n",
        "schema: 1\nweights: {}\n",
        "- 1\n",
        "!!python/object/apply:os.system ['true']\n",
        "schema: 1\nweights: [1]\n",
        "[" * 5000,
        "{[a]: 1}",
        "a: 2001-99-99\n",
    ],
)
def test_what_is_no_manifest(tmp_path: Path, text: str) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(text)
    with pytest.raises(FileFormatError) as caught:
        manifest.read_manifest(path)
    assert "\n" not in str(caught.value)


def test_a_manifest_that_cannot_be_read(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none", "cannot be read"), (tmp_path, "is no regular file")):
        with pytest.raises(FileFormatError, match=why):
            manifest.read_manifest(path)
    big = tmp_path / "big"
    big.write_bytes(b"#" * (1 << 21))
    with pytest.raises(FileFormatError, match="bytes"):
        manifest.read_manifest(big)


_SAMPLE = yaml.safe_dump({"schema": 1, "weights": [_entry(), _entry(id="two", file="two", parent="one")]}).encode()


@settings(max_examples=200)
@given(edits=st.lists(st.tuples(st.integers(0, len(_SAMPLE) - 1), st.integers(0, 255)), min_size=1, max_size=5))
def test_damaged_manifests_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[int, int]]
) -> None:
    data = bytearray(_SAMPLE)
    for place, value in edits:
        data[place] = value
    path = tmp_path_factory.mktemp("fuzz") / "m.yaml"
    path.write_bytes(data)
    try:
        manifest.read_manifest(path)
    except FileFormatError as error:
        assert "\n" not in str(error)


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(manifest.CACHE_VARIABLE, str(tmp_path))
    assert manifest.cache_directory() == tmp_path
    assert not manifest.is_cached(manifest.entry("bvlc_alexnet"))
    monkeypatch.delenv(manifest.CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert manifest.cache_directory() == tmp_path / "alexnet-zoo"
