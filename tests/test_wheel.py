"""What the wheel holds, and nothing else; and what it says of itself."""

import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from tests.environments import ROOT, build_sdist, build_wheel, python

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def test_it_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    sources = {
        str(path.relative_to(ROOT)) for package in ("zoo", "converters") for path in (ROOT / package).rglob("*.py")
    }
    information = {name for name in names if ".dist-info/" in name}
    schemas = {f"converters/schemas/{name}.json" for name in ("eval", "info", "list", "run", "show", "verify")}
    others = schemas | {
        "alexnet_zoo_pytest.py",
        "zoo/py.typed",
        "converters/py.typed",
        "converters/weights_manifest.yaml",
    }
    assert names - information == sources | others
    files = {name.partition(".dist-info/")[2] for name in information}
    assert files == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt", "licenses/LICENSE"}


def test_what_it_says_of_itself(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        information = wheel.name.split("-py3")[0] + ".dist-info"
        said = Parser().parsestr(archive.read(f"{information}/METADATA").decode())
        commands = archive.read(f"{information}/entry_points.txt").decode()
    assert said["Name"] == "alexnet-zoo" and said["License-Expression"] == "MIT"
    assert said["Requires-Python"] == "<3.14,>=3.11"
    assert "zoo convert" in said.get_payload()
    needed = [text for text in said.get_all("Requires-Dist", []) if "extra" not in text]
    assert [text.partition(">")[0] for text in needed] == ["numpy"]
    assert "zoo = converters.cli:program" in commands
    assert "alexnet_parity = alexnet_zoo_pytest" in commands


def test_its_source_of_links_is_no_folder_of_this_machine(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            assert str(ROOT).encode() not in archive.read(name), name


def test_unpacked_it_has_types_and_the_manifest(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import zoo, converters, importlib.resources as r\n"
        "assert r.files(zoo).joinpath('py.typed').is_file() and r.files(converters).joinpath('py.typed').is_file()\n"
        "print(r.files(converters).joinpath('weights_manifest.yaml').read_text())"
    )
    assert python(tmp_path / "site", code, tmp_path) == (ROOT / "weights_manifest.yaml").read_text() + "\n"


def test_the_source_distribution_holds_the_manifest_and_no_link_out_of_it(tmp_path: Path) -> None:
    link = ROOT / "converters" / "weights_manifest.yaml"
    assert link.is_symlink() and link.readlink() == Path("../weights_manifest.yaml")
    with tarfile.open(build_sdist(tmp_path)) as archive:
        (member,) = (each for each in archive.getmembers() if each.name.endswith("/converters/weights_manifest.yaml"))
        file = archive.extractfile(member)
        assert member.isreg() and file and file.read() == (ROOT / "weights_manifest.yaml").read_bytes()
