"""The target is absent, the old one, or the whole new one."""

import errno
import fcntl
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from zoo.errors import ZooError
from zoo.wire import folders
from zoo.wire.atomic import check_target, publish, publish_folder, staging


def test_what_hdf5_says_of_a_full_disk_is_said_in_the_words_of_the_system(tmp_path: Path) -> None:
    told = "Unable to extend file properly, errno = 28, error message = 'no space', filename = '.x.zoo-staging-1/x'"
    with pytest.raises(ZooError, match="x: writing failed: No space left on device; nothing"), staging(tmp_path / "x"):
        raise OSError(errno.ENOSPC, told)


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
    dead.mkdir(mode=0o700)
    (dead / "a").write_text("half")
    alive.mkdir(mode=0o700)
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
    assert flushed == (["a.prototxt", "a.caffemodel", tmp_path.name] if old else [])


def test_where_a_file_cannot_be_replaced_the_old_ones_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows replaces no file that is open, be it the very source of the conversion."""
    names, replace = ("a.data", "a.index"), Path.replace
    for name in names:
        (tmp_path / name).write_text("old")

    def refused(self: Path, target: Path) -> Path:
        if self.name == "a.data":
            raise PermissionError(13, "Permission denied")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(ZooError, match="nothing was changed"), staging(tmp_path / "a.index") as folder:
        for name in names:
            (folder / name).write_text("new")
        publish(folder, tmp_path / "a.index", force=True)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(names, "old")


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for text in ("one", "two"):
        with staging(target) as folder:
            (folder / "model").mkdir()
            (folder / "model" / "f").write_text(text)
            publish_folder(folder / "model", target, force=True)
        assert (target / "f").read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_of_two_folders_without_force_one_has_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both looked and saw nothing."""
    monkeypatch.setattr("zoo.wire.atomic.check_target", lambda *_, **__: None)
    monkeypatch.setattr(Path, "exists", lambda _: False)
    target = tmp_path / "model"
    with staging(target) as late, staging(target) as early:
        for folder in (early, late):
            (folder / "model").mkdir()
            (folder / "model" / folder.name).touch()
        publish_folder(early / "model", target, force=False)
        with pytest.raises(ZooError, match=r"model: already exists; choose another name"):
            publish_folder(late / "model", target, force=False)
        assert [path.name for path in target.iterdir()] == [early.name]


def test_a_signal_between_two_renames_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, rename = tmp_path / "model", Path.rename
    target.mkdir()
    (target / "old").touch()

    def interrupted(self: Path, to: Path) -> Path:
        if (self / "new").exists():
            raise KeyboardInterrupt
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), staging(target) as folder:
        (folder / "model").mkdir()
        (folder / "model" / "new").touch()
        publish_folder(folder / "model", target, force=True)
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "old"]


def test_targets_are_checked_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(ZooError, match="already exists"):
        check_target(tmp_path / "a", force=False)
    check_target(tmp_path / "a", force=True)
    with pytest.raises(ZooError, match="does not exist"):
        check_target(tmp_path / "nowhere" / "a", force=True)
    with pytest.raises(ZooError, match="is a folder"):
        check_target(tmp_path, force=True)
    check_target(tmp_path, force=True, folder=True)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(ZooError, match=r"cannot write to .*: it is read-only, or another user's"):
        check_target(tmp_path / "a", force=True)


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
    names, opened = list[Path](), os.open

    def late(path: Path, flags: int, **how: int) -> int:
        names.append(path)
        if len(names) == 1:  # before it is opened
            path.rmdir()
        descriptor = opened(path, flags, **how)
        if len(names) == 2:  # before it is locked
            path.rmdir()
        return descriptor

    monkeypatch.setattr(os, "open", late)
    with staging(tmp_path / "a") as folder:
        assert folder == names[2] and folder.is_dir()
    assert not list(tmp_path.iterdir())


def test_a_leftover_whose_owner_has_just_ended_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".a.zoo-staging-1").mkdir(mode=0o700)
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


def _planted(tmp_path: Path) -> dict[str, Path]:
    """What only looks like a leftover of a run that wrote `tmp_path`/a, by what it is."""
    mine = tmp_path / "mine"
    mine.mkdir(mode=0o700)
    (mine / "precious").write_text("mine")
    found = {what: tmp_path / f".a.zoo-staging-{what}" for what in ("link", "pipe", "open", "file")}
    found["link"].symlink_to(mine)
    os.mkfifo(found["pipe"])
    found["open"].mkdir()
    found["open"].chmod(0o777)  # somebody else may have laid something in it
    (found["open"] / "precious").write_text("mine")
    found["file"].write_text("mine")
    return found


def test_what_only_looks_like_a_leftover_is_passed_over(tmp_path: Path) -> None:
    found, target = _planted(tmp_path), tmp_path / "a"
    if os.geteuid() == 0:  # only root can give a folder away
        found["another user's"] = tmp_path / ".a.zoo-staging-other"
        found["another user's"].mkdir(mode=0o700)
        os.chown(found["another user's"], 65534, 65534)
    with staging(target) as folder:
        (folder / "a").write_text("new")
        publish(folder, target, force=False)
    assert target.read_text() == "new"
    assert all(path.is_symlink() or path.exists() for path in found.values())
    assert (tmp_path / "mine" / "precious").exists() and (found["open"] / "precious").exists()


def test_a_folder_that_cannot_be_opened_blocks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".a.zoo-staging-1").mkdir(mode=0o700)
    opened = os.open

    def denied(path: Path, flags: int, **how: int) -> int:
        if path.name.endswith("-1"):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, flags, **how)

    monkeypatch.setattr(os, "open", denied)
    with staging(tmp_path / "a") as folder:
        assert folder.is_dir()


def test_nobody_else_enters_a_staging_folder_and_its_name_is_drawn(tmp_path: Path) -> None:
    names = set[str]()
    for _ in range(3):
        with staging(tmp_path / "a") as folder:
            assert folder.stat().st_mode & 0o777 == 0o700
            names.add(folder.name)
    assert len(names) == 3


@pytest.mark.parametrize("has_links", [True, False])
def test_of_two_runs_without_force_one_has_the_name(
    tmp_path: Path, has_links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both looked, saw nothing, and write: the second finds the name taken at the last moment."""
    if not has_links:
        monkeypatch.delattr(os, "link")
        rename = Path.rename

        def windows_rename(self: Path, target: Path) -> Path:
            if target.exists():
                raise FileExistsError(17, "File exists", str(self), None, str(target))
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", windows_rename)
    monkeypatch.setattr("zoo.wire.atomic.check_target", lambda *_, **__: None)
    target = tmp_path / "a.caffemodel"
    with staging(target) as late, staging(target) as early:
        for folder in (early, late):
            (folder / target.name).write_text(folder.name)
        (late / "a.prototxt").write_text("of the late one")
        publish(early, target, force=False)
        with pytest.raises(ZooError, match=r"a\.caffemodel: already exists; choose another name"):
            publish(late, target, force=False)
        assert target.read_text() == early.name
    assert [path.name for path in tmp_path.iterdir()] == [target.name], "what the late one had moved is taken back"


def test_threads_that_write_one_name_without_force_have_one_winner(tmp_path: Path) -> None:
    def write(number: int) -> bool:
        target = tmp_path / f"{number // 4}"
        try:
            with staging(target) as folder:
                (folder / target.name).write_text(str(number))
                publish(folder, target, force=False)
        except ZooError as error:
            assert "already exists" in str(error)
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(write, range(400)))
    assert [sum(won[i : i + 4]) for i in range(0, 400, 4)] == [1] * 100
    assert all(won[int(path.read_text())] for path in tmp_path.iterdir())


def test_one_run_at_a_time_works_in_a_folder(tmp_path: Path) -> None:
    with folders.alone_in(tmp_path):
        with pytest.raises(ZooError, match="another run works there"), folders.alone_in(tmp_path):
            pass
        reader, writer = os.pipe()
        if not (child := os.fork()):  # one that reads images holds nothing: it may outlive the run
            os.write(writer, b"here")
            time.sleep(60)
        assert os.read(reader, 4) == b"here"
    with folders.alone_in(tmp_path):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_on_a_disk_without_locks_what_is_young_is_alive(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lustre is often mounted so, and NFS without its lock daemon is."""

    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with staging(tmp_path / "a") as first, staging(tmp_path / "a") as second, folders.alone_in(tmp_path):
        (second / "a").write_text("new")
        publish(second, tmp_path / "a", force=False)
        assert first.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_without_locks_of_folders_an_old_one_is_a_leftover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, which has neither fcntl nor folders that can be opened."""
    monkeypatch.setattr(folders, "fcntl", None)
    old, fresh = (tmp_path / f".a.zoo-staging-{name}" for name in ("old", "fresh"))
    for path in (old, fresh):
        path.mkdir()
    os.utime(old, (0, 0))
    with staging(tmp_path / "a") as folder:
        assert folder.is_dir() and not old.exists() and fresh.exists()
    assert not folder.exists()
