"""The wheel, and environments that hold it with some extras' packages and nothing else, made without a network."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from importlib import metadata
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any, cast

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = "alexnet-zoo"
_SOURCES = (
    "zoo",
    "converters",
    "alexnet_zoo_pytest.py",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "weights_manifest.yaml",
)


def copy_sources(folder: Path) -> Path:
    """A copy of what the distributions are built from, links as they are; returns its folder."""
    source = folder / "source"
    source.mkdir()
    for name in _SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    return source


def build_sdist(folder: Path) -> Path:
    """Build the source distribution."""
    source = copy_sources(folder)
    code = f"from setuptools import build_meta; print(build_meta.build_sdist({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    (archive,) = folder.glob("*.tar.gz")
    return archive


def build_wheel(folder: Path) -> Path:
    """Build the wheel from a copy of the sources: a build leaves its traces in the tree it runs in."""
    source = copy_sources(folder)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def wheel_metadata(wheel: Path) -> metadata.Distribution:
    """What the wheel says of itself."""
    (info,) = (path for path in zipfile.Path(wheel).iterdir() if path.name.endswith(".dist-info"))
    return metadata.PathDistribution(cast(Any, info))


def closure(wheel: Path, extra: str | None) -> set[str]:
    """Every other distribution that `pip install 'alexnet-zoo[extra]'` installs; of several, as pip takes them."""
    todo, done = [(PROJECT, name) for name in ("", *(extra or "").split(","))], set[tuple[str, str]]()
    while todo:
        name, wanted = todo.pop()
        if (name, wanted) in done:
            continue
        done.add((name, wanted))
        distribution = wheel_metadata(wheel) if name == PROJECT else metadata.distribution(name)
        for requirement in map(Requirement, distribution.requires or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": wanted}):
                todo += [(canonicalize_name(requirement.name), inner) for inner in ("", *requirement.extras)]
    return {name for name, _ in done} - {PROJECT}


def environment(folder: Path, wheel: Path, extra: str | None) -> Path:
    """A folder to put alone on Python's path: the wheel unpacked, and links to what the extra, or several, install."""
    site = folder / (extra or "bare")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for name in sorted(closure(wheel, extra)):
        distribution = metadata.distribution(name)
        for path in _tops(distribution):
            link = site / path
            if not link.exists() and not link.is_symlink():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(Path(str(distribution.locate_file(""))) / path)
    return site


def _tops(distribution: metadata.Distribution) -> set[Path]:
    """What of a distribution to link: whole packages, but only its own parts of a namespace that others share."""
    home = Path(str(distribution.locate_file("")))
    tops = set[Path]()
    for file in distribution.files or ():
        parts = file.parts
        if parts[0] in ("..", "__pycache__"):
            continue  # scripts and compiled files
        depth = 1
        while depth < len(parts) and _is_namespace(home.joinpath(*parts[:depth])):
            depth += 1
        tops.add(Path(*parts[:depth]))
    return tops


def _is_namespace(path: Path) -> bool:
    if not path.is_dir() or path.suffix in (".dist-info", ".libs") or (path / "__init__.py").exists():
        return False
    return not any((path / f"__init__{suffix}").exists() for suffix in EXTENSION_SUFFIXES)


def python(site: Path, code: str, folder: Path, *arguments: str) -> str:
    """Run code where nothing but the standard library and `site` can be imported; returns its stdout."""
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.append({str(site)!r})\n{code}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(frozen=True)
class Done:
    """What a command answered."""

    status: int
    stdout: str
    stderr: str


_ZOO = """
import contextlib, io, json
from converters.cli import main
for command in sys.argv[1:]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(command.split())
        except SystemExit as end:
            status = end.code
    print("DONE", json.dumps([status, out.getvalue(), err.getvalue()]), flush=True)
"""


def zoo(site: Path, folder: Path, *commands: str) -> list[Done]:
    """The command line there: one command after another, in one process (a framework loads once)."""
    lines = python(site, _ZOO, folder, *commands).splitlines()
    return [Done(*json.loads(line[5:])) for line in lines if line.startswith("DONE ")]
