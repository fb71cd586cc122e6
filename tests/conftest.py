import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz", type=int, default=150, help="damaged inputs a reader (make fuzz: 10,000)")
    parser.addoption("--kills", type=int, default=6, help="random moments a command is killed at (make fuzz: 100)")
