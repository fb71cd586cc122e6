"""One list of images a machine: what one process has listed, the others map."""

from __future__ import annotations

import itertools
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.distributed as dist
from PIL import Image

from tests.small import shrink
from zoo.errors import ZooError
from zoo.training import launch
from zoo.training.datasets import fingerprint, open_pair
from zoo.training.job import TrainOptions, prepare
from zoo.training.listing import read, write


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for part, name, i in itertools.product(("train", "val"), ("cat", "dog"), range(8)):
        (root / part / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (72 + i, 72), (i, 0, 0)).save(root / part / name / f"{i}.png")
    return root


def _arrays(images: Any) -> list[np.ndarray]:
    return [value for value in vars(images).values() if isinstance(value, np.ndarray)]


@pytest.mark.parametrize("kind", ["folder", "digits"])
def test_what_is_read_is_what_was_written_and_lies_in_the_file(kind: str, folder: Path) -> None:
    pair = open_pair("digits" if kind == "digits" else folder)
    path = write(pair)
    assert path.stat().st_mode & 0o777 == 0o600
    again = read(path)
    path.unlink()  # who has read it needs the name no more
    for ours, theirs in zip(again, pair, strict=True):
        assert [ours.name(i) for i in range(len(ours))] == [theirs.name(i) for i in range(len(theirs))]
        assert np.array_equal(ours.pixels(3), theirs.pixels(3)) and ours.label(5) == theirs.label(5)
        assert len(_arrays(ours)) > 1
        for array in _arrays(ours):
            assert not array.flags.owndata and not array.flags.writeable  # pages of the file
    assert fingerprint(*again) == fingerprint(*pair)


def test_a_list_that_cannot_be_written_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(os, "fdopen", lambda *_: open("/dev/full", "wb"))  # noqa: PTH123, SIM115
    with pytest.raises(ZooError, match=r"zoo-images-.*: the list of images cannot be written \(.*No space left"):
        write(open_pair("digits"))
    assert not list(tmp_path.iterdir())


def test_a_list_that_is_broken_off_leaves_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: Any) -> None:
        assert list(tmp_path.iterdir())
        raise KeyboardInterrupt

    pair = open_pair("digits")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("zoo.training.listing.pickle.dump", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(pair)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kept", [0, 1, 20, 0.5, 0.99])
def test_a_list_that_is_cut_short_is_one_line(kept: float, folder: Path) -> None:
    path = write(open_pair(folder))
    os.truncate(path, int(kept) if kept >= 1 else int(kept * path.stat().st_size))
    with pytest.raises(ZooError, match=r"zoo-images-.*: the (list of images is damaged \(|file is empty)"):
        read(path)
    path.unlink()


def _options(data: Path, out: Path, **changes: Any) -> TrainOptions:
    return TrainOptions(model=shrink("alexnet_mini", 4), data=data, out=out, batch_size=4, **changes)


def test_the_first_process_of_a_machine_lists_for_the_others(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, options = dist.HashStore(), _options(folder, tmp_path)
    store.set_timeout(timedelta(seconds=1))
    path = launch._listing(options, store, 0)
    monkeypatch.setattr("zoo.training.job.open_pair", lambda _: pytest.fail("listed again"))
    assert launch._listing(options, store, 1) == path
    job = prepare(options, read(path))
    assert len(job.train) == 16
    monkeypatch.setenv("GROUP_RANK", "1")  # another machine of that name
    with pytest.raises(dist.DistStoreError):
        launch._listing(options, store, 1)
    path.unlink()


def test_what_the_first_one_cannot_use_the_others_are_told(tmp_path: Path) -> None:
    store, options = dist.HashStore(), _options(Path("/nowhere"), tmp_path)
    for here in (0, 1):
        with pytest.raises(ZooError, match="/nowhere: no train folder"):
            launch._listing(options, store, here)


@pytest.mark.parametrize("end", [MemoryError("no room"), KeyboardInterrupt()])
def test_however_the_first_one_ends_the_others_do_not_wait(
    end: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(_: TrainOptions) -> Path:
        raise end

    store, options = dist.HashStore(), _options(Path("/nowhere"), tmp_path)
    store.set_timeout(timedelta(seconds=1))
    monkeypatch.setattr(launch, "_listed", ended)
    with pytest.raises(type(end)):
        launch._listing(options, store, 0)
    with pytest.raises(ZooError, match=r"no images were listed: (no room|KeyboardInterrupt)"):
        launch._listing(options, store, 1)


def test_a_first_one_that_never_comes_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = dist.HashStore()
    store.set_timeout(timedelta(milliseconds=1))
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(dist, "rendezvous", lambda *_, **__: iter([(store, 1, 2)]))
    with pytest.raises(ZooError, match=r"another device is gone \("):
        launch.train(_options(Path("/nowhere"), tmp_path))


def test_sizes_that_a_resumption_asks_for_are_asked_for_once(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-00000001.safetensors").touch()
    path = launch._listed(_options(folder, tmp_path, resume="auto"))
    expected = fingerprint(*open_pair(folder))
    monkeypatch.setattr("zoo.training.images._size", lambda _: pytest.fail("asked again"))
    assert fingerprint(*read(path)) == expected
    path.unlink()
