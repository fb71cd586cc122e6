"""What is written is written beside its target, checked there, then renamed: the target is absent, old or whole.

Work goes on in a hidden folder beside the target, locked by the process that owns it. A killed process loses its lock,
so the next run knows the folder for a leftover and removes it. Others may write where the target lies: the folder's
name is drawn, it must not be there before, nobody else may enter it; and what only looks like a leftover (a link, a
pipe, somebody else's folder) is passed over.

A kill needs no more than that: what was written is the system's, whoever wrote it. A power cut may take what is not on
the disk yet, so where an old file is replaced, the new one is flushed to the disk first; else both could be lost. A new
file can be made again from its source, so nobody waits for the disk then (`sync` does, for who wants it).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from zoo.errors import ZooError
from zoo.wire.folders import leftovers, new_folder
from zoo.wire.watched import shrunken

_MARK = ".zoo-staging-"
_OLD = ".old"


def check_target(target: Path, *, force: bool, folder: bool = False) -> None:
    """Refuse an existing target unless `force`, and one that cannot be written, before any work is done.

    `folder` says that the target itself is to be a folder.
    """
    if not target.parent.is_dir():
        raise ZooError(f"{target}: the folder {target.parent} does not exist; make it first")
    if not os.access(target.parent, os.W_OK):  # what was computed meanwhile would be lost
        raise ZooError(f"{target}: cannot write to {target.parent}: it is read-only, or another user's")
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise ZooError(f"{target}: is a device, pipe or socket, which is never replaced; give the name of a file")
    if target.is_dir() and not folder:
        raise ZooError(f"{target}: is a folder, expected the name of a file")
    if not force and (target.exists() or target.is_symlink()):
        raise _taken(target)


def _taken(target: Path) -> ZooError:
    return ZooError(f"{target}: already exists; choose another name or replace it with --force")


@contextmanager
def staging(target: Path) -> Generator[Path]:
    """A private empty folder on the target's own disk; removed at the end, whatever happens.

    Raises:
        ZooError: the disk is full or the folder cannot be written.
    """
    _remove_leftovers(target)
    is_begun = False
    try:
        with new_folder(target, _MARK) as held:
            is_begun = True
            yield held.path
    except OSError as error:
        if not is_begun:
            raise ZooError(f"{target}: cannot write to {target.parent}: {error.strerror}") from error
        if error.errno == errno.EFAULT and (told := shrunken()):  # the system, too, met a page that is gone
            raise ZooError(told) from error
        raise ZooError(
            f"{target}: writing failed: {os.strerror(error.errno) if error.errno else error}; nothing was changed"
        ) from error


@contextmanager
def new_file(target: Path) -> Generator[Path]:
    """A path to write to; what lies there at the end takes the place of `target`, whatever is there."""
    _remove_leftovers(target)
    with new_folder(target, _MARK) as held:
        yield held.path / target.name
        (held.path / target.name).replace(target)


def _remove_leftovers(target: Path) -> None:
    for leftover in leftovers(target, _MARK)[0]:
        leftover.end()


def publish(folder: Path, main: Path, *, force: bool) -> list[Path]:
    """Move every file of a staging folder beside it, the `main` one last; returns where they lie now.

    Several files cannot be renamed at once. So an old main file goes first and the new one comes last: whoever finds a
    main file finds the files that belong to it. Without `force`, of several runs that write one target the first has
    it, and the others take back what they have moved.
    """
    names = sorted((path.name for path in folder.iterdir()), key=lambda name: (name == main.name, name))
    targets = [folder.parent / name for name in names]
    for target in targets:
        check_target(target, force=force)
    if not force:
        _move_all_new(folder, targets)
        return sorted(targets)
    replaces = any(target.exists() for target in targets)
    if replaces:
        for name in names:
            flush(folder / name)
    old, moved = folder / _OLD, 0
    try:
        if len(names) > 1 and targets[-1].exists():
            targets[-1].rename(old)
        for target in targets:
            (folder / target.name).replace(target)
            moved += 1
    finally:
        if not moved and old.exists():  # Windows replaces no file that is open
            old.rename(targets[-1])
    if replaces:
        flush(folder.parent)
    return sorted(targets)


def _move_all_new(folder: Path, targets: list[Path]) -> None:
    """Move files to names that nobody has; all of them, or none."""
    moved = list[Path]()
    try:
        for target in targets:
            move_new(folder / target.name, target)
            moved.append(target)
    finally:
        if len(moved) < len(targets):
            for target in moved:
                target.unlink()


def move_new(written: Path, target: Path) -> None:
    """Move a file to a name that nobody has; raises `ZooError` where somebody took it, be it a moment before."""
    try:
        if not _linked(written, target):
            # Windows refuses to rename to a name that is taken; on other disks without links, a moment stays in which
            # two may both succeed.
            check_target(target, force=False)
            written.rename(target)
    except FileExistsError as error:
        raise _taken(target) from error


def _linked(written: Path, target: Path) -> bool:
    """Whether a file now has this name as well; not where the disk or the system has no links."""
    try:
        os.link(written, target)
    except FileExistsError:
        raise
    except (OSError, AttributeError):
        return False
    return True


def write_text(path: Path, text: str, *, force: bool) -> None:
    """A text file, put in place as a whole.

    Raises:
        ZooError: something is there, without `force`; or it cannot be written.
    """
    check_target(path, force=force)
    with staging(path) as folder:
        # A file's name need not be UTF-8; Python has what is not as halves of letters, which no file can hold.
        (folder / path.name).write_text(text, encoding="utf-8", errors="replace")
        publish(folder, path, force=force)


def publish_folder(written: Path, target: Path, *, force: bool) -> None:
    """Put a folder that was written in a staging folder in its place; with `force`, in that of one that may be there.

    Raises:
        ZooError: something is there, without `force`, be it of a moment before.
    """
    check_target(target, force=force, folder=True)
    old = written.with_name(_OLD)
    replaces = target.exists()
    if replaces:
        for path in written.rglob("*"):
            flush(path)
        target.rename(old)
    try:
        written.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise _taken(target) from error
        raise
    finally:
        if replaces and not target.exists():  # a signal came between the two
            old.rename(target)
    if replaces:
        flush(target.parent)


def flush(path: Path) -> None:
    """Have the disk hold what was written to a file, or to the entries of a folder."""
    is_folder = path.is_dir()
    if is_folder and not hasattr(os, "O_DIRECTORY"):
        return  # Windows opens no folder
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
