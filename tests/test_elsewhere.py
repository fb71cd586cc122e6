"""macOS and Windows, as far as they can be had here: in an interpreter that lacks what these systems lack."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from converters import save
from converters.parity import probe_weights
from tests.small import shrink

ROOT = Path(__file__).parent.parent
SYSTEMS = pytest.mark.parametrize("system", ["windows", "macos"])

# Commands one after the other in one process; `test` is a file of public weights.
COMMANDS = """
import shlex, sys
from pathlib import Path
from converters import manifest
from converters.cli import main
from tests.test_fetch import make_entry
source, size, digest, *commands = sys.argv[1:]
manifest.entry = lambda name: make_entry(Path(source).as_uri(), hash=digest, size=int(size))
for command in commands:
    status = main(shlex.split(command))
    if status:
        sys.exit(f"{command}: {status}")
"""


# The list of images, which one process of several takes away while the others still read it.
LISTED = """
import numpy as np
from zoo.training.listing import read, remove, write
path = write((np.zeros(9), np.ones(9)))
pair = read(path)
remove(path)
assert path.exists() and pair[1].all()
del pair
remove(path)
assert not path.exists()
"""

# Nobody moves or removes a file that is open on Windows.
IN_USE = """
import os
with open("used", "w"):
    try:
        os.replace("used", "other")
    except PermissionError:
        pass
    else:
        raise SystemExit("it was moved")
os.replace("used", "other")
"""


def _run(system: str, cwd: Path, script: str, *arguments: str) -> None:
    path = os.pathsep.join((str(ROOT / "tests" / "elsewhere"), str(ROOT)))
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "ELSEWHERE": system, "TMPDIR": str(cwd)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert not list(cwd.rglob(".*.zoo-*"))


def _zoo(system: str, cwd: Path, *commands: str) -> None:
    content = (cwd / "w.safetensors").read_bytes()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    _run(system, cwd, COMMANDS, str(cwd / "w.safetensors"), str(len(content)), digest, *commands)


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    save(probe_weights(shrink("alexnet_mini", 2)), tmp_path / "w.safetensors")
    Image.new("RGB", (70, 80)).save(tmp_path / "a.png")
    return tmp_path


@SYSTEMS
def test_the_functions_are_gone(system: str, tmp_path: Path) -> None:
    """Else the tests below would show nothing."""
    _run(system, tmp_path, "import os; assert not hasattr(os, 'sched_getaffinity')")
    if system == "windows":
        _run(system, tmp_path, "import zoo.wire.folders as f; assert f.fcntl is None")
        _run(system, tmp_path, IN_USE)
        _run(system, tmp_path, LISTED)


@SYSTEMS
def test_conversions_sources_and_downloads(system: str, desk: Path) -> None:
    targets = ("x.caffemodel", "x.npz", "x.npy", "x.keras", "x.ckpt", "x.onnx")
    _zoo(
        system,
        desk,
        *(f"convert w.safetensors -o {target}" for target in targets),
        "convert x.onnx -o back.safetensors",
        "convert x.onnx -o back.safetensors --force",
        "convert w.safetensors -o x.ckpt --force",
        "generate w.safetensors --framework caffe -o source",
        "show w.safetensors",
        "fetch test -o weights",
        "fetch test -o weights",
    )
    assert (desk / "back.safetensors").exists() and (desk / "source" / "deploy.prototxt").exists()
    assert (desk / "weights" / "test.caffemodel").read_bytes() == (desk / "w.safetensors").read_bytes()


@pytest.mark.slow
def test_proofs_exports_and_training(desk: Path) -> None:
    """On Windows, which lacks all that macOS lacks. What goes to another process must be fit to be sent there."""
    _zoo(
        "windows",
        desk,
        "export w.safetensors -o x.onnx",
        "verify w.safetensors x.onnx --report report.html",
        "run w.safetensors a.png --framework onnx --images-like alexnet_mini --save acts.npz",
        "verify w.safetensors --frameworks onnx --runtimes opencv",
        "train alexnet_mini --data digits --batch-size 8 --steps 1 -o run --device cpu --workers 1",
    )
    assert (desk / "run" / "model.safetensors").exists() and (desk / "acts.npz").exists()


# Module or object -> what of it not every system has; each may stand in the files that have the other branch.
_NOT_EVERYWHERE = {
    "os": {"sched_getaffinity", "pread", "pwrite", "geteuid", "getuid", "fork", "register_at_fork", "killpg", "link"}
    | {"O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "mkfifo", "fchmod", "chown", "setsid", "sysconf", "statvfs"},
    "signal": {"SIGHUP", "SIGBUS", "SIGALRM", "SIGKILL", "setitimer", "pthread_kill", "pthread_sigmask"},
    "mmap": {"MADV_DONTNEED"},
}
_HAVE_THE_OTHER_BRANCH = {
    "converters/host.py",
    "zoo/wire/atomic.py",
    "zoo/wire/cores.py",
    "zoo/wire/folders.py",
    "zoo/wire/mapped.py",
    "zoo/wire/positioned.py",
}


def test_what_not_every_system_has_is_asked_for_in_few_files() -> None:
    asked = [rf"\b{module}\.(?:{'|'.join(names)})\b" for module, names in _NOT_EVERYWHERE.items()]
    pattern = re.compile("|".join([*asked, r"^\s*import (?:fcntl|resource|pwd|grp|termios)\b"]), re.MULTILINE)
    paths = (*ROOT.glob("zoo/**/*.py"), *ROOT.glob("converters/**/*.py"))
    found = {path.relative_to(ROOT).as_posix() for path in paths if pattern.search(path.read_text(encoding="utf-8"))}
    assert found == _HAVE_THE_OTHER_BRANCH
