import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from zoo.frameworks.keras import live
from zoo.training import SETTINGS

# Read as torch is first imported: tests run side by side on few cores, where threads that spin starve each other.
os.environ |= SETTINGS | os.environ
# The width that pytest-xdist gives its workers is no terminal's.
os.environ.pop("COLUMNS", None)

# The same examples every time, however slow the machine is.
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

# One test after another asks for Keras on each of its backends, which take seconds to start.
live.KEPT = 3

VECTORS = Path(__file__).parent / "vectors"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz", type=int, default=150, help="damaged inputs a reader (make damage: 10,000)")
    parser.addoption("--fuzz-from", type=int, default=0, help="the first of them, to go through them in pieces")
    parser.addoption("--kills", type=int, default=6, help="random moments a command is killed at (make damage: 100)")


@pytest.fixture(scope="session")
def mini_alexnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a network that real Caffe trained, with its answers (see vectors/README.md)."""
    folder = tmp_path_factory.mktemp("mini_alexnet")
    with tarfile.open(VECTORS / "mini_alexnet.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def tell(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Says what a long run found, whichever process ran it; the short runs of every day have nothing to say."""
    long = int(request.config.getoption("--fuzz") or 0) > 1000 or int(request.config.getoption("--kills") or 0) > 20
    return lambda found: record_property("found", found) if long else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "found":
                terminalreporter.write_line(str(value))
