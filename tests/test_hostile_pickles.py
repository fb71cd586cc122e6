"""Pickles made to do harm, in every format that holds some: each is shown to do it first, where nothing guards."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cost import seconds
from tests.test_malicious import SENTINEL, every_way, home, refused
from zoo.errors import ZooError
from zoo.wire.torch_pickle import read_torch

__all__ = ["home"]  # a fixture


class Bomb:
    """Unpickled, it runs a command."""

    def __init__(self, sentinel: Path) -> None:
        self.command = f"touch {sentinel}"

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (self.command,)  # pyright: ignore[reportDeprecated]  # nobody runs it


class PickledModule(torch.nn.Module):
    pass


def shown_to_do_harm(path: Path) -> None:
    """Read without a guard, a file runs its command; else to refuse it would prove nothing."""
    sentinel = path.parent.parent / SENTINEL
    with suppress(Exception):  # what comes after the command matters to nobody
        if path.suffix in (".pt", ".pth"):
            torch.load(path, weights_only=False)
        else:
            found = np.load(path, allow_pickle=True)
            _ = [found[name] for name in found] if path.suffix == ".npz" else None
    assert sentinel.exists(), "the file does no harm"
    sentinel.unlink()


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.npy", "w.npz"])
def test_a_bare_pickle(home: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (home / name).write_bytes(pickle.dumps(Bomb(home.parent / SENTINEL)))
    shown_to_do_harm(home / name)
    every_way(capsys, home, home / name)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("inside", [False, True])
def test_a_pickle_inside_an_array_of_objects(
    home: Path, protocol: int, inside: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    bomb = Bomb(home.parent / SENTINEL)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    content = pickle.dumps({"conv1": {"weights": bomb}} if inside else bomb, protocol)
    (home / "w.npy").write_bytes(header.getvalue() + content)
    shown_to_do_harm(home / "w.npy")
    every_way(capsys, home, home / "w.npy")
    with zipfile.ZipFile(home / "w.npz", "w") as archive:
        archive.writestr("conv1.weight.npy", header.getvalue() + content)
    shown_to_do_harm(home / "w.npz")
    every_way(capsys, home, home / "w.npz")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_command_in_a_state_dict(home: Path, legacy: bool, capsys: pytest.CaptureFixture[str]) -> None:
    state = {"features.0.weight": torch.zeros(3), "bomb": Bomb(home.parent / SENTINEL)}
    torch.save(state, home / "w.pth", _use_new_zipfile_serialization=not legacy)
    shown_to_do_harm(home / "w.pth")
    assert "run code" in every_way(capsys, home, home / "w.pth")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickled_module(home: Path, legacy: bool, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(PickledModule(), home / "w.pt", _use_new_zipfile_serialization=not legacy)
    assert "state_dict()" in every_way(capsys, home, home / "w.pt")


def test_a_torchscript_program(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(home / "w.pt"))
    assert "TorchScript" in every_way(capsys, home, home / "w.pt")


def before_1_6(content: bytes, at: int = 3) -> bytes:
    """A file of the format before 1.6: five pickles, the fourth of what was saved; one of them is the given one."""
    pickles = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {}, {}, [])]
    pickles[at] = content
    return b"".join(pickles)


def write_zip(path: Path, content: bytes, record: str = "data.pkl") -> None:
    """What `torch.save` writes, but for the pickle and its name."""
    torch.save({"w": torch.zeros(3)}, path)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, held in members.items():
            archive.writestr(name.replace("data.pkl", record), content if name.endswith("/data.pkl") else held)


def endless_key(depth: int) -> bytes:
    """A pickled dictionary of one key: a tuple of twice a tuple of twice a tuple ... 2**depth numbers to hash.

    Nothing is taken off the stack on the way: torch's own unpickler, which knows few opcodes, takes all of these.
    """
    doubled = b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(depth))
    return b"\x80\x02)q\x00" + doubled + b"}h" + bytes([depth]) + b"K\x01s."


def with_endless_key(path: Path, depth: int, record: str | None) -> None:
    """A .pt whose pickle is `endless_key`: a zip in which that is called `record`, or the format before 1.6."""
    if record:
        write_zip(path, endless_key(depth), record)
    else:
        path.write_bytes(before_1_6(endless_key(depth)))


@pytest.mark.parametrize("record", ["data.pkl", "DATA.PKL", None])  # torch finds a record whatever its case
def test_a_pickle_whose_key_would_take_years_to_hash(
    home: Path, record: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    took = list[float]()
    for depth in (15, 20):  # torch's own guard takes it, and twice as long for each step more
        with_endless_key(home / "w.pt", depth, record)
        took.append(min(seconds(lambda: torch.load(home / "w.pt", weights_only=True)) for _ in range(3)))
        assert list(torch.load(home / "w.pt", weights_only=True).values()) == [1]
    assert took[1] > 4 * took[0]
    with_endless_key(home / "w.pt", 60, record)
    assert "keys are not names" in every_way(capsys, home, home / "w.pt")


def test_a_pickle_nested_deeper_than_the_stack(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deep = b"\x80\x02)" + b"\x85" * 200_000 + b"}q\x00N0h\x00."
    (home / "w.pt").write_bytes(before_1_6(deep))
    assert "empty state dict" in every_way(capsys, home, home / "w.pt")


def tower(place: bytes, depth: int) -> bytes:
    """A pickled set of a set and of a pair of it, and so on: two of them are compared in 2**depth steps."""
    floor = b"(h" + place + b"h" + place + b"K\x00\x86\x91q" + place + b"0"
    return b"(K\x00\x91q" + place + b"0" + floor * depth


def twice(depth: int) -> bytes:
    """A pickled tuple of 2**depth numbers, which is remembered."""
    return b"K\x00\x85q\x010" + b"h\x01h\x01\x86q\x010" * depth


SLOW = {
    "equal sets": b"\x80\x04" + tower(b"\x01", 60) + tower(b"\x02", 60) + b"}h\x01K\x01sh\x02K\x01s.",
    "a set that is filled": b"\x80\x04" + twice(60) + b"\x8f(h\x01\x90.",
    "a dictionary of protocol 0": b"\x80\x02" + twice(60) + b"(h\x01K\x01d.",
    "a dictionary in order": b"\x80\x02" + twice(60) + b"ccollections\nOrderedDict\n](h\x01K\x01\x86e\x85R.",
    "a state": b"\x80\x02" + twice(60) + b"ctorch._utils\n_rebuild_tensor_v2\n}h\x01K\x01sb.",
    "what refers to a storage": b"\x80\x02" + twice(60) + b"h\x01Q.",
    "the keys of the storages": b"\x80\x02" + twice(60) + b"]h\x01a.",
    "numbers of one hash": b"\x80\x02}("
    + b"".join(b"\x8a\x0a" + ((i + 1) * (2**61 - 1)).to_bytes(10, "little") + b"N" for i in range(60_000))
    + b"u.",
    "a number of a megabyte": b"\x80\x04\x8b\x00\x35\x0c\x00"
    + b"\x01" * 800_000
    + b"q\x010\x8f("
    + b"h\x01" * 99_000
    + b"\x90.",
}


@pytest.mark.parametrize("name", SLOW)
def test_a_small_pickle_that_would_take_years(home: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "w.pt").write_bytes(before_1_6(SLOW[name], 4 if name.startswith("the keys") else 3))
    refused(capsys, home.parent, "convert", home / "w.pt", "--model", "alexnet_mini", "-o", home / "out.npz")


COMMAND = b"X\x0e\x00\x00\x00touch executed"
# It runs, each by other opcodes.
PICKLES = {
    "INST": b"(S'touch executed'\nios\nsystem\n.",
    "OBJ": b"\x80\x02(cos\nsystem\n" + COMMAND + b"o.",
    "names from the stack": b"\x80\x04\x8c\x02os\x8c\x06system\x93" + COMMAND + b"\x85R.",
    "a name with dots": b"\x80\x04\x8c\x05torch\x8c\x09os.system\x93" + COMMAND + b"\x85R.",
    "Python 2's name": b"c__builtin__\neval\n(V__import__('os').system('touch executed')\ntR.",
    "a call of a call": b"\x80\x02cfunctools\npartial\ncos\nsystem\n" + COMMAND + b"\x86R)R.",
    "an attribute": b"\x80\x04cbuiltins\ngetattr\ncbuiltins\n__import__\n\x8c\x02os\x85R\x8c\x06system\x86R"
    + COMMAND
    + b"\x85R.",
    "a state that is a call": b"\x80\x04ccodeop\nCompile\n)\x81}\x8c\x0c__setstate__cos\nsystem\nsb" + COMMAND + b"b.",
    "what is remembered": b"\x80\x02cos\nsystem\nq\x000h\x00" + COMMAND + b"\x85R.",
    "an item": b"\x80\x04}\x8c\x01wcos\nsystem\n" + COMMAND + b"\x85Rs.",
    "a method of what is harmless": b"\x80\x04\x8c\x07pathlib\x8c\x0aPath.touch\x93cpathlib\nPath\n"
    b"\x8c\x08executed\x85R\x85R.",
    "another package's": b"\x80\x04cnumpy.testing._private.utils\nrunstring\n"
    b"\x8c\x2a__import__('os').system('touch executed') }\x86R.",
    "what refers to a storage": b"\x80\x04(\x8c\x07storagecos\nsystem\n"
    + COMMAND
    + b"\x85R\x8c\x010\x8c\x03cpuK\x03tQ.",
}


@pytest.mark.parametrize("name", PICKLES)
def test_a_command_by_any_opcode(
    home: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a zip, and in any of the pickles of the format before."""
    monkeypatch.chdir(home.parent)
    for at in (None, 1, 2, 3, 4):
        if at is None:
            write_zip(home / "w.pt", PICKLES[name])
        else:
            (home / "w.pt").write_bytes(before_1_6(PICKLES[name], at))
        shown_to_do_harm(home / "w.pt")
        line = refused(capsys, home.parent, "convert", home / "w.pt", "--model", "alexnet_mini", "-o", home / "x.npz")
        assert "run code" in line


@pytest.mark.parametrize("first", ["good", "evil"])
def test_two_records_of_one_name(home: Path, first: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Which of them is read is each reader's own choice."""
    write_zip(home / "w.pt", pickle.dumps({}) if first == "good" else PICKLES["OBJ"])
    with zipfile.ZipFile(home / "w.pt", "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("w/data.pkl", PICKLES["OBJ"] if first == "good" else pickle.dumps({}))
    assert "two records of one name" in every_way(capsys, home, home / "w.pt")


def test_what_torch_reads_is_what_is_guarded(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a file of the format before 1.6 lies a zip, which torch does not look for there."""
    monkeypatch.chdir(home.parent)
    torch.save({"w": torch.zeros(3)}, home / "w.pt")
    (home / "w.pt").write_bytes(before_1_6(PICKLES["OBJ"]) + (home / "w.pt").read_bytes())
    shown_to_do_harm(home / "w.pt")
    assert "run code" in every_way(capsys, home, home / "w.pt")


def test_no_file_changes_how_the_next_is_read(home: Path) -> None:
    """The functions that stand in the place of torch's are the same for all files: they take no state."""
    state = b"N}X\x0c\x00\x00\x00__defaults__)sX\x08\x00\x00\x00__name__X\x03\x00\x00\x00owns\x86b."
    for name in ("_utils\n_rebuild_tensor_v2", "_tensor\n_rebuild_from_type_v2", "_utils\n_rebuild_parameter"):
        (home / "w.pt").write_bytes(before_1_6(b"\x80\x02ctorch." + name.encode() + b"\n" + state))
        with pytest.raises(ZooError, match="a state for what has none"):
            read_torch(home / "w.pt")


def test_a_number_that_is_too_long_to_be_printed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A tensor that says to have so many numbers of a storage of one."""
    pickled = io.BytesIO()
    tensor = torch.zeros(1).expand(2)
    torch.save({"w": tensor}, pickled)
    with zipfile.ZipFile(pickled) as archive:
        content = archive.read("archive/data.pkl")
    assert content.count(b"K\x02\x85") == 1
    write_zip(home / "w.pt", content.replace(b"K\x02\x85", b"\x8b\x00\x10\x00\x00" + b"\x01" * 4096 + b"\x85"))
    every_way(capsys, home, home / "w.pt")
