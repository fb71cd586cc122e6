"""YAML that a user gives, of bounded size, without what makes a small file endless."""

from __future__ import annotations

from pathlib import Path

import yaml

from zoo.errors import FileFormatError, said
from zoo.wire.regular import check_regular
from zoo.wire.yaml_loader import StrictLoader


def read_yaml(path: Path, most_bytes: int) -> object:
    """What a file holds.

    Raises:
        FileFormatError: it is missing, longer than `most_bytes`, or no YAML.
    """
    try:
        check_regular(path)
        if path.stat().st_size > most_bytes:
            raise FileFormatError(path, f"has more than {most_bytes:,} bytes")
        return yaml.load(path.read_text(encoding="utf-8"), StrictLoader)
    except OSError as error:
        raise FileFormatError(path, f"cannot be read: {error.strerror}") from error
    except (
        yaml.YAMLError,
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
        ArithmeticError,
        RecursionError,
    ) as error:
        raise FileFormatError(path, f"no YAML: {said(error)}") from error
