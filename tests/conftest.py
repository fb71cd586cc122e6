import os
import tarfile
from pathlib import Path

import pytest

# Read as torch is first imported: tests run side by side on few cores, where threads that spin starve each other.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

VECTORS = Path(__file__).parent / "vectors"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz", type=int, default=150, help="damaged inputs a reader (make fuzz: 10,000)")
    parser.addoption("--fuzz-from", type=int, default=0, help="the first of them, to go through them in pieces")
    parser.addoption("--kills", type=int, default=6, help="random moments a command is killed at (make fuzz: 100)")


@pytest.fixture(scope="session")
def mini_alexnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a network that real Caffe trained, with its answers (see vectors/README.md)."""
    folder = tmp_path_factory.mktemp("mini_alexnet")
    with tarfile.open(VECTORS / "mini_alexnet.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder
