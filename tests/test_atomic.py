"""The target is absent, the old one, or the whole new one."""

import fcntl
import os
from pathlib import Path

import pytest

from zoo.errors import ZooError
from zoo.wire.atomic import check_target, publish, publish_folder, staging


def test_a_finished_file_appears_and_the_staging_folder_is_gone(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    with staging(target) as folder:
        (folder / "a.bin").write_bytes(b"new")
        assert not target.exists()
        publish(folder, target, force=False)
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    with pytest.raises(ZooError, match="No space left on device"), staging(target) as folder:
        (folder / "a.bin").write_bytes(b"ne")
        raise OSError(28, "No space left on device")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_companions_are_refused_too_where_they_exist(tmp_path: Path) -> None:
    (tmp_path / "a.prototxt").write_text("mine")
    with pytest.raises(ZooError, match="already exists"), staging(tmp_path / "a.caffemodel") as folder:
        (folder / "a.caffemodel").write_bytes(b"new")
        (folder / "a.prototxt").write_bytes(b"new")
        publish(folder, tmp_path / "a.caffemodel", force=False)
    assert (tmp_path / "a.prototxt").read_text() == "mine"
    assert not (tmp_path / "a.caffemodel").exists()


def test_the_main_file_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.caffemodel").write_text("old")
    order = list[str]()
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: (order.append(to.name), replace(self, to))[1])
    with staging(tmp_path / "a.caffemodel") as folder:
        for name in ("a.caffemodel", "a.prototxt", "b"):
            (folder / name).write_text("new")
        publish(folder, tmp_path / "a.caffemodel", force=True)
    assert order == ["a.prototxt", "b", "a.caffemodel"]


def test_leftovers_of_a_killed_run_go_and_those_of_a_living_one_stay(tmp_path: Path) -> None:
    dead, alive = tmp_path / ".a.zoo-staging-dead", tmp_path / ".a.zoo-staging-alive"
    dead.mkdir()
    (dead / "a").write_text("half")
    alive.mkdir()
    lock = os.open(alive, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with staging(tmp_path / "a"):
        assert not dead.exists()
        assert alive.exists()
    os.close(lock)


@pytest.mark.parametrize("old", [None, "a.prototxt", "a.caffemodel"])
def test_what_replaces_a_file_is_on_the_disk_before(
    old: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed, fsync = list[str](), os.fsync
    opened = "/proc/self/fd"
    monkeypatch.setattr(os, "fsync", lambda fd: (flushed.append(Path(opened, str(fd)).readlink().name), fsync(fd)))
    if old:
        (tmp_path / old).write_text("old")
    with staging(tmp_path / "a.caffemodel") as folder:
        for name in ("a.caffemodel", "a.prototxt"):
            (folder / name).write_text("new")
        publish(folder, tmp_path / "a.caffemodel", force=True)
    assert flushed == (["a.caffemodel", "a.prototxt", tmp_path.name] if old else [])


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for text in ("one", "two"):
        with staging(target) as folder:
            (folder / "model").mkdir()
            (folder / "model" / "f").write_text(text)
            publish_folder(folder / "model", target)
        assert (target / "f").read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_targets_are_checked_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(ZooError, match="already exists"):
        check_target(tmp_path / "a", force=False)
    check_target(tmp_path / "a", force=True)
    with pytest.raises(ZooError, match="does not exist"):
        check_target(tmp_path / "nowhere" / "a", force=True)
    with pytest.raises(ZooError, match="is a folder"):
        check_target(tmp_path, force=True)
    check_target(tmp_path, force=True, folder=True)


def test_a_pipe_or_device_is_never_replaced(tmp_path: Path) -> None:
    """Root could put a file in the place of /dev/full."""
    os.mkfifo(tmp_path / "pipe")
    for target in (tmp_path / "pipe", Path("/dev/full")):
        with pytest.raises(ZooError, match="never replaced"):
            check_target(target, force=True)


def test_a_folder_that_another_run_took_for_a_leftover_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its making and its locking, it looks like one."""
    taken, opened = list[Path](), os.open

    def late(path: Path, flags: int, **how: int) -> int:
        if len(taken) == 1:  # before it is opened
            path.rmdir()
        descriptor = opened(path, flags, **how)
        if len(taken) == 2:  # before it is locked
            path.rmdir()
        return descriptor

    def made(prefix: str, dir: Path) -> str:
        taken.append(dir / f"{prefix}{len(taken)}")
        taken[-1].mkdir()
        return str(taken[-1])

    monkeypatch.setattr("zoo.wire.atomic.mkdtemp", made)
    monkeypatch.setattr(os, "open", late)
    with staging(tmp_path / "a") as folder:
        assert folder == taken[2] and folder.is_dir()
    assert not list(tmp_path.iterdir())


def test_a_leftover_whose_owner_has_just_ended_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".a.zoo-staging-1").mkdir()
    found = Path.glob

    def glob(self: Path, pattern: str) -> list[Path]:
        there = list(found(self, pattern))
        for path in there:
            path.rmdir()
        return there

    monkeypatch.setattr(Path, "glob", glob)
    with staging(tmp_path / "a"):
        pass
    monkeypatch.undo()
    assert not list(tmp_path.iterdir())
