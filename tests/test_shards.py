"""Shards: packed once, read as the folder was; what is broken, cut short or damaged is named."""

from __future__ import annotations

import io
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from converters.cli import main
from tests.small import shrink
from zoo import registry
from zoo.errors import FileFormatError, ZooError
from zoo.preprocess import resize_short_side
from zoo.recipes import DEFAULT
from zoo.training import shards
from zoo.training.data import TrainingStream
from zoo.training.datasets import open_folder, open_images, open_pair
from zoo.training.job import TrainOptions
from zoo.training.journal import read_metrics
from zoo.training.launch import train
from zoo.training.shards import INDEX, open_shards

SMALL = replace(shrink("alexnet_mini", 4), name="small")
SIDE = 72


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes; some images are larger than `SIDE`, some smaller, two are PNG."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 8), ("val", 3)):
        for name in ("cat", "dog"):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for i in range(count):
                coarse = rng.integers(0, 256, (15, 20, 3) if i % 3 == 2 else (SIDE - i, 80, 3), dtype=np.uint8)
                pixels = coarse.repeat(10, 0).repeat(10, 1) if i % 3 == 2 else coarse
                Image.fromarray(pixels).save(tmp_path / "data" / part / name / f"{i}.{'png' if i == 1 else 'jpg'}")
    return tmp_path / "data"


def _pack(folder: Path, *more: str) -> Path:
    target = folder.with_name("shards")
    assert main(["pack", str(folder), "-o", str(target), "--side", str(SIDE), *more]) == 0
    return target


def _small(folder: Path) -> None:
    """Leave only images that are kept byte for byte."""
    for image in folder.rglob("*.*"):
        if int(image.stem) % 3 == 2:
            image.unlink()


def test_what_is_larger_is_resized_once_and_the_rest_kept_byte_for_byte(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shards, "_IMAGES_A_SHARD", 5)
    packed = _pack(folder)
    assert capsys.readouterr().out.splitlines()[0] == f"{packed / 'train'}: 16 images in 4 shards"
    (train, val), (ours, our_val) = open_pair(folder), open_pair(packed)
    assert (ours.classes, len(ours), len(our_val)) == (train.classes, 16, 6)
    assert [ours.label(i) for i in range(16)] == [train.label(i) for i in range(16)]
    for i in range(16):
        whole, small = train.pixels(i), ours.pixels(i)
        if min(whole.shape[:2]) <= SIDE:
            assert np.array_equal(small, whole)
        else:
            expected = resize_short_side(whole, SIDE)
            assert small.shape == expected.shape == (72, 96, 3)
            assert np.corrcoef(small.ravel(), expected.ravel())[0, 1] > 0.9
    # Shuffled, so that a shard holds both classes.
    index = open_shards(packed / "train")
    assert {len(set(index.labels[index.shards == shard].tolist())) for shard in range(3)} == {2}
    assert val.side is None and our_val.side == SIDE


def test_the_layout_is_webdatasets(folder: Path) -> None:
    (path,) = (_pack(folder) / "train").glob("*.tar")
    with tarfile.open(path) as tar:
        names = tar.getnames()
        first = {name.partition(".")[2]: cast(Any, tar.extractfile(name)).read() for name in names[:2]}
    assert [name.partition(".")[2] for name in names[1::2]] == ["cls"] * 16
    assert [name.partition(".")[0] for name in names[::2]] == [name.partition(".")[0] for name in names[1::2]]
    assert path.name == "shard-000000.tar"
    assert first.pop("cls") in (b"0", b"1")
    assert min(Image.open(io.BytesIO(*first.values())).size) <= SIDE


def test_equal_images_give_equal_bytes_and_files_that_others_read(folder: Path, tmp_path: Path) -> None:
    first = _pack(folder)
    first.rename(tmp_path / "first")
    second = _pack(folder)
    files = sorted(path.relative_to(second) for path in second.rglob("*.*"))
    assert len(files) == 4
    assert all((second / file).read_bytes() == (tmp_path / "first" / file).read_bytes() for file in files)
    assert {(second / file).stat().st_mode & 0o044 for file in files} == {0o044}


def test_a_folder_of_other_things_is_never_replaced_by_shards(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(folder.rglob("*"))
    assert main(["pack", str(folder), "-o", str(folder), "--force"]) == 2
    assert "is a folder of other things than shards (" in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before


def _losses(out: Path, data: Path, **changes: Any) -> list[str]:
    common = {"model": SMALL, "data": data, "out": out, "steps": 5, "batch_size": 4, "device": "cpu", "recipe": DEFAULT}
    train(TrainOptions(**(common | changes)))  # pyright: ignore[reportArgumentType]
    return [row["loss"] for row in read_metrics(out)]


def test_training_from_shards_is_training_from_the_folder_and_goes_on_in_the_middle_of_an_epoch(
    folder: Path, tmp_path: Path
) -> None:
    _small(folder)
    packed = _pack(folder)
    losses = _losses(tmp_path / "folder", folder)
    _losses(tmp_path / "parts", packed, steps=2, workers=2)  # of the 2.5 steps of an epoch
    assert _losses(tmp_path / "parts", packed, resume=True) == losses
    other = _pack(folder, "--force", "--side", "70")
    with pytest.raises(ZooError, match=r"with a shorter side of 70, small wants 72; .*--side 72"):
        _losses(tmp_path / "parts", other, resume=True, steps=6)
    with pytest.raises(ZooError, match="names of the files"):
        _losses(tmp_path / "parts", folder, resume=True, steps=6)


def test_the_stream_is_the_same_for_every_reader(folder: Path) -> None:
    """Order, crops and labels depend on the place alone: any device reads any place as every other does."""
    images = open_images(_pack(folder), "train")
    whole = [TrainingStream(images, SMALL, seed=3)[place] for place in range(20)]
    stream = TrainingStream(open_images(folder.with_name("shards"), "train"), SMALL, seed=3)
    for place in (13, 2, 19, 0):
        assert np.array_equal(stream[place][0], whole[place][0]) and stream[place][1] == whole[place][1]


def test_a_broken_image_is_named_and_left_out_or_stops_the_packing(
    folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    broken, target = folder / "train" / "dog" / "0.jpg", folder.with_name("shards")
    broken.unlink()
    os.mkfifo(broken)  # nobody writes to it: who reads it waits for ever
    assert main(["pack", str(folder), "-o", str(target)]) == 2
    assert "0.jpg: no such image file" in capsys.readouterr().err.splitlines()[-1]
    broken.unlink()
    broken.write_bytes(b"nothing")
    assert main(["pack", str(folder), "-o", str(target)]) == 2
    assert "0.jpg: no image in a known format" in capsys.readouterr().err.splitlines()[-1]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["data"]
    assert main(["pack", str(folder), "-o", str(target), "--on-broken-image", "skip"]) == 0
    assert "15 images in 1 shards, 1 broken ones left out" in capsys.readouterr().out
    assert "dog/0.jpg: no image in a known format" in caplog.text and "; left out" in caplog.text
    assert len(open_images(target, "train")) == 15
    assert main(["pack", str(folder), "-o", str(target)]) == 2
    assert "already exists" in capsys.readouterr().err
    assert main(["pack", str(target), "-o", str(folder.with_name("again"))]) == 2
    assert "holds shards already" in capsys.readouterr().err


def test_a_folder_without_parts_is_packed_as_it_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = _pack(folder / "val")
    assert sorted(path.name for path in packed.iterdir()) == [INDEX, "shard-000000.tar"]
    assert len(open_folder(packed)) == 6
    for wrong, message in (("nowhere", "no such folder"), ("data/val/cat", "no class folders")):
        assert main(["pack", str(folder.parent / wrong), "-o", str(folder.parent / "x")]) == 2
        assert message in capsys.readouterr().err


def test_shards_cut_short_damaged_or_without_their_index_are_refused_by_name(folder: Path) -> None:
    part = _pack(folder) / "train"
    shard, index = part / "shard-000000.tar", part / INDEX
    whole = shard.read_bytes()
    images = open_shards(part)
    at = int(images.offsets[3]) + 20
    shard.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(FileFormatError, match=r"shard-000000\.tar, image at byte [\d,]+: damaged: its bytes are not"):
        open_shards(part).pixels(3)
    assert open_shards(part).pixels(4).shape
    shard.write_bytes(whole[:-1])
    with pytest.raises(FileFormatError, match=r"shard-000000\.tar: has [\d,]+ bytes, and had [\d,]+ when"):
        open_folder(part)
    shard.unlink()
    with pytest.raises(FileFormatError, match=r"shard-000000\.tar: is missing, and had"):
        open_folder(part)
    shard.write_bytes(whole)
    index.unlink()
    with pytest.raises(ZooError, match=r"shards without their index\.safetensors"):
        open_folder(part)


WRONG: dict[str, Any] = {
    "labels": np.array([2] * 16, np.int32),
    "shards": np.array([-1] * 16, np.int32),
    "offsets": np.array([2**60] * 16, np.int64),
    "lengths": np.array([2**62] * 16, np.int64),
    "checksums": np.zeros(3, np.uint32),
    "sizes": np.zeros((2, 2), np.int64),
}


@pytest.mark.parametrize("column", WRONG)
def test_an_index_that_leads_astray_is_refused_in_one_line(folder: Path, column: str) -> None:
    path = _pack(folder) / "train" / INDEX
    about = json.dumps({"classes": ["cat", "dog"], "side": 72})
    save_file(load_file(path) | {column: WRONG[column]}, path, {"shards": about})
    with pytest.raises(FileFormatError, match="damaged index of shards"):
        open_shards(path.parent)


def test_an_index_damaged_at_any_byte_is_refused_or_reads_the_same(folder: Path) -> None:
    path = _pack(folder) / "train" / INDEX
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for at in rng.integers(0, len(whole), 200).tolist():
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << int(rng.integers(8)))]) + whole[at + 1 :])
        try:
            images = open_shards(path.parent)
            for i in range(0, len(images), 5):
                images.pixels(i)
        except FileFormatError as error:
            assert "\n" not in str(error)


def test_members_are_packed_large_enough_by_default() -> None:
    assert max(s.resize for m in registry.models() if (s := registry.model(m).preprocessing)) <= 256
