"""Hidden folders beside a target, each of one process at a time, in places where others may write, too.

A folder's name is drawn, it must not be there before, and nobody else may enter it. What only looks like the leftover
of a run that was killed (a link, a pipe, somebody else's folder) is passed over: it is neither followed nor opened.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path

from zoo.errors import ZooError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# Where there are no locks of folders, what nobody has written to for a day is a leftover.
_QUIET = 24 * 3600.0
# What the system says of a disk without locks: Lustre as it is often mounted, NFS without its lock daemon.
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}
# The folders that this process works in.
_living = set[Path]()


@dataclass
class Held:
    """A folder that belongs to this process until it is let go or removed.

    Attributes:
        path: where it is.
        lock: what holds it; None where the system, or this disk, has no locks of folders.
        kept: it is to stay for a later run.
    """

    path: Path
    lock: int | None = None
    kept: bool = False

    def end(self) -> None:
        """Remove it with all that it holds, following no link, unless it is kept; nobody holds it any more."""
        if not self.kept:
            shutil.rmtree(self.path, ignore_errors=True)
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None


@contextmanager
def alone_in(folder: Path) -> Generator[None]:
    """A folder of the user's in which no other run works meanwhile, where folders can be locked.

    Raises:
        ZooError: another run works there.
    """
    held = _locked(folder.resolve())
    if held is None:
        raise ZooError(f"{folder}: another run works there; choose another -o, or wait for its end")
    held.kept = True
    if held.lock is not None:  # a process that was forked to read images may outlive this one, and would go on holding
        os.register_at_fork(after_in_child=held.end)
    try:
        yield
    finally:
        held.end()


@contextmanager
def new_folder(target: Path, mark: str) -> Generator[Held]:
    """An empty folder beside `target`, which ends with the context."""
    held: Held | None = None
    while held is None:
        path = target.parent / f".{target.name}{mark}{os.urandom(4).hex()}"
        try:  # begun before the folder is made: a signal may come at any moment
            _living.add(path)
            path.mkdir(mode=0o700)
            held = _locked(path)  # None: another run, begun at the same moment, took it for a leftover
            if held is not None:
                yield held
        finally:
            (held or Held(path)).end()
            _living.discard(path)


@contextmanager
def scratch_folder() -> Generator[Path]:
    """A folder in the system's place for what nobody keeps; what is open at the end, Windows keeps for a later run."""
    target, mark = Path(tempfile.gettempdir(), "zoo"), "-scratch-"
    for leftover in leftovers(target, mark)[0]:
        leftover.end()
    with new_folder(target, mark) as held:
        yield held.path


def check_no_link(folder: Path) -> None:
    """Refuse a link where a folder of a known name is to be: anybody who may write beside it can have laid it."""
    if folder.is_symlink():
        raise ZooError(f"{folder}: is a link to {folder.readlink()}, which is not followed here; remove the link")


def remove_all() -> None:
    """Remove the folders that this process works in, as its very last deed."""
    for path in _living:
        shutil.rmtree(path, ignore_errors=True)


def leftovers(target: Path, mark: str, quiet: float = _QUIET) -> tuple[list[Held], bool]:
    """What killed runs left beside `target`, now this process's own; and whether another run works there.

    `quiet`: seconds without a write after which a folder is a leftover where there are no locks.
    """
    found, others = list[Held](), False
    for path in target.parent.glob(f"{escape(f'.{target.name}{mark}')}*"):
        try:
            if not _is_own(path):
                continue
            held = _locked(path)
            if held and held.lock is None and time.time() - _last_write(path) < quiet:
                held = None
        except OSError:  # its owner, or another run that cleans up, has removed it meanwhile
            continue
        found += [held] if held else []
        others |= held is None and path.exists()
    return found, others


def _is_own(path: Path) -> bool:
    """Whether it is a folder that this user made and nobody else can enter."""
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        return False
    return fcntl is None or (status.st_uid == os.geteuid() and not status.st_mode & 0o077)


def _last_write(folder: Path) -> float:
    return max(path.lstat().st_mtime for path in (folder, *folder.iterdir()))


def _locked(folder: Path) -> Held | None:
    """A folder whose lock nobody has; None where somebody has it, or it is gone."""
    if fcntl is None:
        return Held(folder)
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), folder.lstat()):
            return Held(folder, lock)
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError as error:
        os.close(lock)
        if error.errno in _NO_LOCKS:
            return Held(folder)
        raise
    os.close(lock)
    return None
