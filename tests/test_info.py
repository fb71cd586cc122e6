"""What a file is said to be."""

import json
from pathlib import Path

import pytest
import torch

from converters.cli import main
from converters.convert import save
from tests.small import small_weights
from zoo import registry
from zoo.frameworks import pytorch


def test_a_stranger_s_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = small_weights("alexnet_mini")
    state = {f"module.{name}": t.half() for name, t in pytorch.state_dict(weights.spec, weights.tensors).items()}
    torch.save({"model": state, "model_ema": state, "epoch": 3}, tmp_path / "theirs.bin")
    assert main(["info", str(tmp_path / "theirs.bin"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["format"], told["averages"], told["network"]) == (1, "pytorch", True, None)
    assert told["tensors"][0] == {"name": "module.conv1.weight", "shape": [4, 3, 7, 7], "type": "float16"}
    assert told["fits"] == []
    assert set(told["misfits"]) == set(registry.models())
    assert "module.conv1.weight has shape (4, 3, 7, 7), expected" in told["misfits"]["alexnet_mini"]
    assert main(["info", str(tmp_path / "theirs.bin")]) == 0
    out = capsys.readouterr().out
    for part in ("pytorch, 16 tensors", "float16  4 x 3 x 7 x 7", "--ema", "fits: no network", "with --model"):
        assert part in out


def test_a_file_that_describes_its_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(small_weights("alexnet_mini"), tmp_path / "w.safetensors")
    assert main(["info", str(tmp_path / "w.safetensors")]) == 0
    out = capsys.readouterr().out
    assert "describes: alexnet_mini" in out and "with --model" not in out
    assert main(["info", str(tmp_path / "nothing.pt")]) == 2
