"""A full disk, odd targets and sources, closed streams, Ctrl-C: one line, the right exit status, nothing left."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from converters.cli import main
from converters.convert import load, save
from converters.demo import empty_for_a_demo
from converters.fetch import fetch
from tests.small import small_weights
from tests.test_fetch import DATA, make_entry
from tests.test_killed import _weights  # pyright: ignore[reportPrivateUsage]
from zoo.errors import ZooError
from zoo.wire.atomic import write_text

ZOO = [sys.executable, "-m", "converters"]

_ROOM = 3_000_000
_NOBODY = 65534


@dataclass(frozen=True)
class Disk:
    """A folder with room for `_ROOM` bytes a file at most."""

    folder: Path
    limited: bool

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run a command; where the folder is no disk of its own, no file of the process may grow beyond the room."""

        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (_ROOM, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

        command = [*ZOO, *(str(argument) for argument in arguments)]
        before = limit if self.limited else None
        return subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=before)


@pytest.fixture
def disk(tmp_path: Path) -> Generator[Disk]:
    """A small tmpfs where one may be mounted, as root may; elsewhere a limit on the size of files."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_ROOM}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    yield Disk(folder, limited=not mounted)
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


def one_line(done: subprocess.CompletedProcess[str], status: int = 2) -> str:
    assert done.returncode == status, done.stderr[-2000:]
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("zoo: ") and "internal error" not in lines[0], lines
    return lines[0]


FULL = ("No space left on device", "File too large")


@pytest.mark.parametrize("name", ["w.safetensors", "w.caffemodel", "w.ckpt", "w.onnx", "w.pt", "w.npz", "w.npy"])
def test_convert_to_a_full_disk(tmp_path: Path, disk: Disk, name: str) -> None:
    save(_weights(1), tmp_path / "w.safetensors")
    save(small_weights(), disk.folder / name)
    old = {path.name: path.read_bytes() for path in disk.folder.iterdir()}
    line = one_line(disk.run("convert", tmp_path / "w.safetensors", "-o", disk.folder / name, "--force"))
    assert any(reason in line for reason in FULL) and "nothing was changed" in line
    assert {path.name: path.read_bytes() for path in disk.folder.iterdir()} == old


@pytest.mark.slow
@pytest.mark.parametrize("name", ["w.onnx", "w.pb", "saved/"])
def test_export_to_a_full_disk(tmp_path: Path, disk: Disk, name: str) -> None:
    save(_weights(1), tmp_path / "w.safetensors")
    done = disk.run("export", tmp_path / "w.safetensors", "-o", f"{disk.folder}/{name}", "--no-verify")
    assert any(reason in one_line(done) for reason in FULL)
    assert not list(disk.folder.iterdir())


@pytest.mark.slow
def test_generate_and_train_on_a_full_disk(disk: Disk) -> None:
    if not disk.limited:
        with pytest.raises(OSError, match="No space"), (disk.folder / "fill").open("wb", buffering=0) as fill:
            while fill.write(bytes(4096)):
                pass
    old = {path.name for path in disk.folder.iterdir()}
    if not disk.limited:  # what generate writes is smaller than any limit worth having
        line = one_line(disk.run("generate", "alexnet", "--framework", "onnx", "-o", disk.folder / "new"))
        assert "No space left" in line and {path.name for path in disk.folder.iterdir()} == old
        (disk.folder / "fill").write_bytes(bytes(_ROOM // 2))
    run = disk.folder / "run"
    done = disk.run("train", "alexnet_mini", "--data", "digits", "-o", run, "--steps", "2", "--batch-size", "8")
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith("zoo: ")
    assert any(reason in done.stderr for reason in FULL) and "Traceback" not in done.stderr
    assert not list(run.rglob(".*"))
    for path in run.rglob("*.safetensors"):
        assert load(path).spec.name == "alexnet_mini", "what is there is whole"


def test_fetch_to_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, whose files are limited for the moment."""
    (tmp_path / "source").write_bytes(DATA)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(DATA) // 2, limits[1]))
        with pytest.raises(ZooError, match="File too large"):
            fetch(make_entry((tmp_path / "source").as_uri()), tmp_path / "out", progress=lambda *_: None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "out" / "test.caffemodel").exists()
    assert fetch(make_entry((tmp_path / "source").as_uri()), tmp_path / "out", progress=lambda *_: None).exists()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["test.caffemodel"]


def zoo(*arguments: object, cwd: Path, **how: object) -> subprocess.CompletedProcess[str]:
    command = [*ZOO, *(str(argument) for argument in arguments)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment)


@pytest.mark.parametrize(
    "target", ["", ".", "/", "folder.npz", "/dev/full", "pipe.npz", "none/x.npz", "x" * 300 + ".npz"]
)
def test_targets_that_are_none(tmp_path: Path, target: str) -> None:
    save(small_weights(), tmp_path / "w.safetensors")
    (tmp_path / "folder.npz").mkdir()
    os.mkfifo(tmp_path / "pipe.npz")
    before = sorted(tmp_path.iterdir())
    done = zoo("convert", tmp_path / "w.safetensors", "-o", target, "--to", "numpy", "--force", cwd=tmp_path)
    one_line(done)
    assert sorted(tmp_path.iterdir()) == before and not Path("/dev/full").is_file()


@pytest.mark.parametrize("target", [".", "..", "w/.."])
@pytest.mark.parametrize("form", ["tf_slim", "numpy", "caffe"])
def test_a_way_to_a_folder_is_no_name_of_a_file(tmp_path: Path, target: str, form: str) -> None:
    """Of a checkpoint it is the beginning of two names; ``..`` would make hidden files of them."""
    save(small_weights(), tmp_path / "w.safetensors")
    (tmp_path / "w").mkdir()
    before = sorted(tmp_path.rglob("*"))
    done = zoo("convert", tmp_path / "w.safetensors", "-o", target, "--to", form, "--force", cwd=tmp_path)
    assert "is a folder" in one_line(done)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dangling_link_is_a_target_that_is_there(tmp_path: Path) -> None:
    save(small_weights(), tmp_path / "w.safetensors")
    (tmp_path / "x.npz").symlink_to("nowhere")
    command = ("convert", tmp_path / "w.safetensors", "-o", tmp_path / "x.npz")
    assert "already exists" in one_line(zoo(*command, cwd=tmp_path))
    assert zoo(*command, "--force", cwd=tmp_path).returncode == 0
    assert load(tmp_path / "x.npz").spec == small_weights().spec and not (tmp_path / "nowhere").exists()


def test_a_name_of_two_lines(tmp_path: Path) -> None:
    save(small_weights(), tmp_path / "a\nb.safetensors")
    one_line(zoo("convert", tmp_path / "a\nb.safetensors", "-o", tmp_path / "none" / "c\nd.npz", cwd=tmp_path))
    assert zoo("convert", tmp_path / "a\nb.safetensors", "-o", tmp_path / "c\nd.npz", cwd=tmp_path).returncode == 0
    assert load(tmp_path / "c\nd.npz").spec == small_weights().spec


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every name is Unicode")
def test_a_name_that_is_no_utf_8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"\xff")
    save(small_weights(), tmp_path / f"{name}.safetensors")
    assert main(["convert", f"{name}.safetensors", "-o", f"{name}.npz"]) == 0
    write_text(tmp_path / "card.md", f"made from {name}", force=False)
    assert (tmp_path / "card.md").read_text() == "made from ?"
    monkeypatch.setattr("converters.convert.save", lambda *_, **__: name.encode())
    assert main(["convert", f"{name}.safetensors", "-o", "saved.npz"]) == 2
    assert "zoo: ?: a library that is needed here takes names in UTF-8 alone" in capsys.readouterr().err


def test_a_folder_of_other_things_is_never_replaced_by_a_saved_model(tmp_path: Path) -> None:
    save(small_weights(), tmp_path / "w.safetensors")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").write_text("dear")
    command = ("export", tmp_path / "w.safetensors", "-o", f"{tmp_path}/home/", "--force", "--no-verify")
    assert "never replaced" in one_line(zoo(*command, cwd=tmp_path))
    assert (tmp_path / "home" / "letter").read_text() == "dear"


def test_a_demo_empties_no_folder_but_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".zoo-demo").touch()
    (tmp_path / "letter").write_text("dear")
    assert main(["demo", "-o", str(tmp_path)]) == 2
    assert "letter: is no demo's, and would be lost" in capsys.readouterr().err
    assert (tmp_path / "letter").read_text() == "dear"
    (tmp_path / "letter").unlink()
    (tmp_path / "weights").mkdir()
    (tmp_path / "models").symlink_to("..")
    (tmp_path / "report.md").touch()
    inode = tmp_path.stat().st_ino
    empty_for_a_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".zoo-demo"] and tmp_path.stat().st_ino == inode
    (tmp_path / "link").symlink_to(tmp_path)
    assert main(["demo", "-o", f"{tmp_path}/link"]) == 2
    assert "which is not followed here" in capsys.readouterr().err


@contextmanager
def nobody() -> Generator[None]:
    """For as long as this lasts, root is a user like any other: root may read and write everything."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_what_may_not_be_read_or_written(capsys: pytest.CaptureFixture[str]) -> None:
    with TemporaryDirectory() as name:  # pytest's own folders are closed to others
        folder, closed = Path(name), Path(name) / "closed"
        source = folder / "w.safetensors"
        save(small_weights(), source)
        main(["convert", str(source), "-o", str(folder / "warm.npz")])  # nobody may not be allowed to import, either
        for path, mode in ((folder, 0o777), (source, 0o644)):
            path.chmod(mode)
        closed.mkdir()
        closed.chmod(0o555)
        capsys.readouterr()
        for target, reason in (
            (closed / "x.npz", "Permission denied"),
            (folder / "x.npz", f"{source}: Permission denied"),
        ):
            with nobody():
                assert main(["convert", str(source), "-o", str(target)]) == 2
            told = capsys.readouterr()
            assert reason in told.err and told.err.count("\n") == 1 and not told.out
            source.chmod(0)
        assert sorted(path.name for path in folder.iterdir()) == ["closed", "w.safetensors", "warm.npz"]


@pytest.mark.parametrize("command", ["list models", "show alexnet", "diff alexnet alexnet_v2", "list weights --json"])
@pytest.mark.parametrize("streams", [">/dev/full", ">&-", ">&- 2>&-", "<&-", "2>&-", "| head -c 0"])
def test_streams_that_are_closed_or_full(tmp_path: Path, command: str, streams: str) -> None:
    program = f"{sys.executable} -m converters {command} {streams}"
    line = f"set -o pipefail; {program}" if "|" in streams else program
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    if streams in ("<&-", "2>&-"):
        assert done.returncode == 0 and done.stdout and not done.stderr
    elif "|" in streams:  # whether there is anybody left to write to is a matter of time
        assert done.returncode in (0, 2) and not done.stderr
    else:
        assert done.returncode == 2
        assert done.stderr.count("\n") == (0 if "2>&-" in streams else 1) and "internal error" not in done.stderr


def test_generate_says_what_it_wrote_though_nobody_listens(tmp_path: Path) -> None:
    line = f"{sys.executable} -m converters generate alexnet_mini --framework caffe -o {tmp_path}/g >/dev/full"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "nothing was changed" not in done.stderr
    assert (tmp_path / "g" / "deploy.prototxt").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "convert w.safetensors -o out/x.npz",
        "export w.safetensors -o out/x.onnx --no-verify",
        "train alexnet_mini --data digits -o out/run --steps 500 --batch-size 8",
        "generate alexnet --framework onnx -o out/g",
    ],
)
def test_an_interruption_is_one_line_and_130(tmp_path: Path, command: str, request: pytest.FixtureRequest) -> None:
    """In the middle of the work: what a framework makes of it while it is imported is not ours to answer for."""
    save(_weights(1), tmp_path / "w.safetensors")
    rng = random.Random(command)
    few = 1 if command.startswith("train") else 3  # a framework takes seconds to start
    for i in range(max(few, int(request.config.getoption("--kills") or 0) // 5)):
        out = tmp_path / f"out{i}"
        out.mkdir()
        process = subprocess.Popen(
            [*ZOO, *command.replace("out", out.name).split()],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        )
        while process.poll() is None and not any(path.is_file() for path in out.rglob("*")):
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.05))
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
        # By the signal itself where it came between the work's end and the process's, or while CPython ran a string as
        # code, though it was caught there; a shell calls both 130.
        assert process.returncode in (0, 130, -signal.SIGINT) and "Traceback" not in said, said
        if process.returncode == 130:
            assert said.rstrip().splitlines()[-1].startswith("zoo: interrupted"), said
        assert not [path for path in out.rglob(".*") if not path.name.endswith(".csv")]
