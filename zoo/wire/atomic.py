"""What is written is written beside its target, checked there, then renamed: the target is absent, old or whole.

Work goes on in a hidden folder beside the target, locked by the process that owns it. A killed process loses its lock,
so the next run knows the folder for a leftover and removes it.

A kill needs no more than that: what was written is the system's, whoever wrote it. A power cut may take what is not on
the disk yet, so where an old file is replaced, the new one is flushed to the disk first; else both could be lost. A new
file can be made again from its source, so nobody waits for the disk then (`sync` does, for who wants it).
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from tempfile import mkdtemp

from zoo.errors import ZooError

_MARK = ".zoo-staging-"


def check_target(target: Path, *, force: bool, folder: bool = False) -> None:
    """Refuse an existing target unless `force`, and one that cannot be written, before any work is done.

    `folder` says that the target itself is to be a folder.
    """
    if not target.parent.is_dir():
        raise ZooError(f"{target}: the folder {target.parent} does not exist; make it first")
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise ZooError(f"{target}: is a device, pipe or socket, which is never replaced; give the name of a file")
    if target.is_dir() and not folder:
        raise ZooError(f"{target}: is a folder, expected the name of a file")
    if not force and (target.exists() or target.is_symlink()):
        raise ZooError(f"{target}: already exists; choose another name or replace it with --force")


@contextmanager
def staging(target: Path) -> Generator[Path]:
    """A private empty folder on the target's own disk; removed at the end, whatever happens.

    Raises:
        ZooError: the disk is full or the folder cannot be written.
    """
    prefix = f".{target.name}{_MARK}"
    for leftover in target.parent.glob(f"{escape(prefix)}*"):
        _remove_if_abandoned(leftover)
    try:
        folder, lock = _locked_folder(prefix, target.parent)
    except OSError as error:
        raise ZooError(f"{target}: cannot write to {target.parent}: {error.strerror}") from error
    try:
        yield folder
    except OSError as error:
        raise ZooError(f"{target}: writing failed: {error.strerror or error}; nothing was changed") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _locked_folder(prefix: str, parent: Path) -> tuple[Path, int]:
    """A new folder, and the descriptor that holds its lock."""
    while True:
        folder = Path(mkdtemp(prefix=prefix, dir=parent))
        try:
            lock = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue  # another run, begun at the same moment, took it for a leftover
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.is_dir():
            return folder, lock
        os.close(lock)


def _remove_if_abandoned(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return  # its owner has just ended
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # its owner is alive
    else:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


def publish(folder: Path, main: Path, *, force: bool) -> list[Path]:
    """Move every file of a staging folder beside it, the `main` one last; returns where they lie now.

    Several files cannot be renamed at once. So an old main file goes first and the new one comes last: whoever finds a
    main file finds the files that belong to it.
    """
    names = sorted(path.name for path in folder.iterdir())
    targets = [folder.parent / name for name in names]
    for target in targets:
        check_target(target, force=force)
    replaces = any(target.exists() for target in targets)
    if replaces:
        for name in names:
            flush(folder / name)
    if len(names) > 1:
        (folder.parent / main.name).unlink(missing_ok=True)
    for name in sorted(names, key=lambda name: name == main.name):
        (folder / name).replace(folder.parent / name)
    if replaces:
        flush(folder.parent)
    return targets


def publish_folder(written: Path, target: Path) -> None:
    """Put a folder that was written in a staging folder in place of one that may be there."""
    replaces = target.exists()
    if replaces:
        for path in written.rglob("*"):
            flush(path)
        target.rename(written.with_name("old"))
    written.rename(target)
    if replaces:
        flush(target.parent)


def flush(path: Path) -> None:
    """Have the disk hold what was written to a file, or to the entries of a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
