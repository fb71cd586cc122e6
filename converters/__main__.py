"""``python -m converters``: the same as ``zoo``."""

from converters.cli import program

program()
