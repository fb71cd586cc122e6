"""Makes an interpreter like that of another system: what that lacks is taken away before anything is imported.

ELSEWHERE says which: ``windows`` or ``macos``. Modules of the system are hidden from this project alone, since the
libraries of this system need them; functions are gone for everybody.
"""

import builtins
import contextlib
import mmap
import multiprocessing
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

_WINDOWS = os.environ["ELSEWHERE"] == "windows"
_GONE: dict[Any, tuple[str, ...]] = {os: ("sched_getaffinity", "sched_setaffinity")}
if _WINDOWS:  # libraries made for this system need more of it than we may ask for
    _GONE[os] += ("pread", "pwrite", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "mkfifo", "fork")
    _GONE[os] += ("fchmod", "chown", "killpg", "setsid", "link")
    _GONE[signal] = ("SIGHUP", "SIGBUS", "SIGALRM", "setitimer", "pthread_kill")
    _GONE[mmap] = ("MADV_DONTNEED",)
_HIDDEN = {"fcntl", "resource", "pwd", "grp", "termios", "posix"} if _WINDOWS else set[str]()
_OURS = ("zoo", "converters")

for _module, _names in _GONE.items():
    for _name in _names:
        if hasattr(_module, _name):
            delattr(_module, _name)

_import = builtins.__import__


def _imported(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
    importer = str((globals or {}).get("__name__", ""))
    if name in _HIDDEN and importer.partition(".")[0] in _OURS:
        raise ImportError(f"No module named {name!r}", name=name)
    return _import(name, globals, locals, fromlist, level)


builtins.__import__ = _imported

# Both start processes anew instead of forking them.
multiprocessing.set_start_method("spawn")

if _WINDOWS:
    _open, _home = os.open, os.path.realpath(os.getcwd())  # noqa: PTH109
    _moves = {name: getattr(os, name) for name in ("rename", "replace", "unlink", "remove", "rmdir")}
    shutil._use_fd_functions = False  # pyright: ignore[reportAttributeAccessIssue]

    def _no_folder(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if os.path.isdir(path) and str(sys._getframe(1).f_globals.get("__name__")).startswith(_OURS):  # noqa: PTH112
            raise PermissionError(13, "Permission denied", str(path))
        return _open(path, flags, *rest, **more)

    def _used_here() -> set[str]:
        """The files that this process has open or mapped: nobody may move or remove them there."""
        used = {line.split(maxsplit=5)[-1].strip() for line in Path("/proc/self/maps").read_text().splitlines()}
        for descriptor in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                used.add(str(descriptor.readlink()))
        return used

    def _guarded(name: str) -> Any:
        def guarded(*paths: Any, **more: Any) -> None:
            real = [os.path.realpath(os.fspath(path)) for path in paths]
            if str(real[0]).startswith(_home):
                used = _used_here()
                for path in real:
                    if any(file == path or file.startswith(f"{path}/") for file in used):
                        raise PermissionError(13, "The process cannot access the file: it is being used", path)
            if name == "rename" and os.path.exists(real[1]):  # noqa: PTH110
                raise FileExistsError(17, "File exists", real[0], None, real[1])
            _moves[name](*paths, **more)

        return guarded

    os.open = _no_folder
    for _name in _moves:
        setattr(os, _name, _guarded(_name))
