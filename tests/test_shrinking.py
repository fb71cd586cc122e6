"""A source that becomes shorter while it is mapped: one line that names it, and nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from converters import save
from converters.parity import probe_weights
from zoo import registry

# The command line, but the source is cut as soon as it was read and its network is known.
CUT = """
import os, sys
from converters import cli, source
load = source.load_source
def cut(options, path, *rest):
    found = load(options, path, *rest)
    os.truncate(path, 4096)
    return found
source.load_source = cut
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGBUS"), reason="the system lets nobody shorten a file that is mapped")
@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("w.safetensors", "x.safetensors"),
        ("w.safetensors", "x.ckpt"),
        ("w.caffemodel", "x.onnx"),
        ("w.caffemodel", "x.npz"),
        pytest.param("w.pt", "x.ckpt", marks=pytest.mark.slow),  # torch takes its time to start
    ],
)
def test_the_source_is_to_blame(tmp_path: Path, source: str, target: str) -> None:
    save(probe_weights(registry.model("alexnet_mini")), tmp_path / source)
    there = set(tmp_path.iterdir())
    command = ["convert", source, "--model", "alexnet_mini", "-o", target]
    done = subprocess.run(
        [sys.executable, "-c", CUT, *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert done.returncode == 2, done.stderr
    said = done.stderr.splitlines()[-1]
    assert said.startswith(f"zoo: {source}: became shorter while it was read (4,096 of "), done.stderr
    assert "Traceback" not in done.stderr and "Fatal" not in done.stderr
    assert set(tmp_path.iterdir()) == there
