"""The files of a run, read again: what a kill cut short goes on, what is damaged is refused in one line."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from zoo import registry
from zoo.errors import FileFormatError, ZooError
from zoo.layers import Conv, Dense, Input, ModelSpec
from zoo.shapes import parameter_shapes
from zoo.spec_json import METADATA_KEY, dumps
from zoo.training.checkpoint import (
    Checkpoint,
    Setting,
    checksum,
    load_checkpoint,
    save_checkpoint,
    save_model,
    write_file,
)
from zoo.training.journal import COLUMNS, Journal, read_metrics
from zoo.training.optimiser import Progress

_TINY = ModelSpec(
    name="two",
    title="",
    inputs=(Input(shape=(3, 4, 4)),),
    layers=(Conv(name="conv", out_channels=2, kernel=(3, 3)), Dense(name="fc", out_features=2)),
)
_SETTING = Setting(
    seed=1,
    batch_size=2,
    steps=3,
    framework="pytorch",
    precision="fp32",
    recipe={"name": "r"},
    data={"classes": ["a"]},
    lineage=None,
)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "[]",
            "{}",
            "[" * 5000,
            '"x"',
            '{"progress": "x", "setting": {}}',
            '{"progress": {"best": [1]}, "setting": {}}',
        ),
        *('{"progress": {"best": null, "layers": 1}, "setting": {}}', '{"progress": {"best": null, "step": "x"}}'),
        '{"progress": {"best": null, "step": -1}, "setting": SETTING}',
        '{"progress": {"best": ["a", 1]}, "setting": SETTING}',
    ],
)
def test_a_checkpoint_whose_state_is_none_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    spec = registry.model("alexnet_mini")
    tensors = {name: np.zeros(shape, np.float32) for name, shape in parameter_shapes(spec).items()}
    state = text.replace("SETTING", json.dumps(asdict(_SETTING)))
    path = tmp_path / "c.safetensors"
    both = tensors | {f"velocity/{name}": tensor for name, tensor in tensors.items()}
    metadata = {METADATA_KEY: dumps(spec), "training": state}
    write_file(path, both, metadata | {"checksum": checksum(both, metadata)})
    with pytest.raises(FileFormatError, match="its state of training is none"):
        load_checkpoint(path, spec)


@pytest.mark.parametrize(
    ("now", "what"),
    [
        (_TINY.with_num_classes(7), "fc: outputs 2 in the checkpoint, 7 in this run"),
        (
            replace(_TINY, inputs=(Input(shape=(3, 5, 5)),)),
            "data: size 3 x 4 x 4 in the checkpoint, 3 x 5 x 5 in this run",
        ),
        (replace(_TINY, layers=_TINY.layers[1:]), "conv: Conv in the checkpoint, no such layer in this run"),
    ],
)
def test_a_checkpoint_of_another_network_says_what_differs(tmp_path: Path, now: ModelSpec, what: str) -> None:
    path, _ = _written(tmp_path)
    with pytest.raises(FileFormatError, match=rf"of another network \(two\), not of this two: {what}; use another -o"):
        load_checkpoint(path, now)
    assert load_checkpoint(path, replace(_TINY, title="read from another place")).progress.step == 7


def _written(tmp_path: Path) -> tuple[Path, Checkpoint]:
    tensors = {name: np.ones(shape, np.float32) for name, shape in parameter_shapes(_TINY).items()}
    state = Checkpoint(weights=tensors, velocities=tensors, progress=Progress(step=7), setting=_SETTING)
    return save_checkpoint(tmp_path, _TINY, state), state


def test_a_checkpoint_damaged_at_any_byte_is_refused_in_one_line(tmp_path: Path) -> None:
    path, state = _written(tmp_path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for at in sorted({*range(0, 1200), *rng.integers(0, len(whole), 1000).tolist(), len(whole) - 1}):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << int(rng.integers(8)))]) + whole[at + 1 :])
        try:
            found = load_checkpoint(path, _TINY)
        except FileFormatError as error:
            assert "\n" not in str(error), at
        else:  # a byte that means nothing: white space of the header
            assert found.progress == state.progress and found.setting == state.setting, at
            assert all(np.array_equal(found.weights[name], tensor) for name, tensor in state.weights.items()), at
    for end in range(0, len(whole), 97):
        path.write_bytes(whole[:end])
        with pytest.raises(FileFormatError, match="damaged checkpoint"):
            load_checkpoint(path, _TINY)


def test_nothing_that_others_may_have_laid_is_followed_or_waited_for(tmp_path: Path) -> None:
    shapes = parameter_shapes(_TINY)
    zeros = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    state = Checkpoint(weights=zeros, velocities=zeros, progress=Progress(step=1), setting=_SETTING)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").symlink_to("../theirs")
    with pytest.raises(ZooError, match=r"run/checkpoints: is a link to \.\./theirs, which is not followed here"):
        save_checkpoint(tmp_path / "run", _TINY, state)
    assert not list((tmp_path / "theirs").iterdir())
    os.mkfifo(tmp_path / "step-00000001.safetensors")
    with pytest.raises(FileFormatError, match="is no regular file"):
        load_checkpoint(tmp_path / "step-00000001.safetensors", _TINY)


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_files_have_the_rights_that_the_umask_gives(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        path, state = _written(tmp_path)
        model = save_model(tmp_path, _TINY, state)
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in (path, model)} == {0o666 & ~umask}


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe", b"a,b\n1,2\n", b"x" * 200_000 + b"\n", b"ROW0,0,0,0,0,,,,\n-1,0,0,0,0,,,,\n", b"ROW1,x,0,0,0,,,,\n"],
)
def test_a_damaged_table_of_metrics_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    head = ",".join(COLUMNS).encode() + b"\n"
    (tmp_path / "metrics.csv").write_bytes(content.replace(b"ROW", head))
    with pytest.raises(FileFormatError, match=r"metrics\.csv: damaged"):
        read_metrics(tmp_path)


def test_a_table_of_metrics_without_its_end_is_read_without_its_last_line(tmp_path: Path) -> None:
    head = ",".join(COLUMNS)
    for end in ("2,0.1,0.2,0.3,4.0,,5.0,0.5,1e-", "2,0.1", "2,0.1,0.2,0.3,4.0,,5.0,0.5,0.5"):
        (tmp_path / "metrics.csv").write_text(f"{head}\r\n1,0.1,0.2,0.3,4.0,,,,\r\n{end}")
        assert [row["step"] for row in read_metrics(tmp_path)] == ["1"]


def test_a_run_that_goes_on_never_leaves_less_metrics_than_there_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed as it begins, it has not yet touched what the run before it recorded."""
    text = ",".join(COLUMNS) + "\r\n1,0.1,0.2,0.3,4.0,,,,\r\n"
    (tmp_path / "metrics.csv").write_bytes(text.encode())

    def killed(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "replace", killed)
        Journal(tmp_path, done=1, steps=2, batch_size=1, title="x")
    assert (tmp_path / "metrics.csv").read_bytes() == text.encode()
    Journal(tmp_path, done=1, steps=2, batch_size=1, title="x").close()
    assert [row["step"] for row in read_metrics(tmp_path)] == ["1"]
    assert not list(tmp_path.glob(".*"))
