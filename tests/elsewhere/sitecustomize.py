"""Makes an interpreter like that of another system: what that lacks is taken away before anything is imported.

ELSEWHERE says which: ``windows`` or ``macos``. Modules of the system are hidden from this project alone, since the
libraries of this system need them; functions are gone for everybody.
"""

import builtins
import mmap
import multiprocessing
import os
import signal
import sys
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
    _open, _rename = os.open, os.rename

    def _no_folder(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if os.path.isdir(path) and str(sys._getframe(1).f_globals.get("__name__")).startswith(_OURS):  # noqa: PTH112
            raise PermissionError(13, "Permission denied", str(path))
        return _open(path, flags, *rest, **more)

    def _no_replacing(source: Any, target: Any, **more: Any) -> None:
        if os.path.exists(target):  # noqa: PTH110
            raise FileExistsError(17, "File exists", str(source), None, str(target))
        _rename(source, target, **more)

    os.open, os.rename = _no_folder, _no_replacing
