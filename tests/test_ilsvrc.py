"""ILSVRC's validation images, labelled by the development kit that is published with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zoo.errors import ZooError
from zoo.training.datasets import open_folder, open_images, open_pair

io: Any = pytest.importorskip("scipy.io")

# Numbers are in another order than ids; inner nodes of WordNet's tree come after the classes.
IDS = {1: "n03", 2: "n01", 3: "n02", 4: "n00"}


def _kit(root: Path, truth: str = "3\n1\n1\n2\n", ids: dict[int, str] = IDS) -> Path:
    data = root / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    kinds = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("num_children", object)]
    rows = [(number, wnid, "a, b", 3 if wnid == "n00" else 0) for number, wnid in ids.items()]
    io.savemat(data / "meta.mat", {"synsets": np.array(rows, kinds).reshape(-1, 1)})
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text(truth)
    return data


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for wnid in ("n01", "n02", "n03"):
        (tmp_path / "train" / wnid).mkdir(parents=True)
        Image.new("RGB", (80, 80)).save(tmp_path / "train" / wnid / "x.JPEG")
    (tmp_path / "val").mkdir()
    for i in range(1, 5):
        Image.new("RGB", (80, 80), (i, 0, 0)).save(tmp_path / "val" / f"ILSVRC2012_val_{i:08d}.JPEG")
    return tmp_path


def test_numbers_become_the_classes_of_the_training_folder(root: Path) -> None:
    _kit(root)
    train, val = open_pair(root)
    assert train.classes == val.classes == ("n01", "n02", "n03")
    assert [val.classes[val.label(i)] for i in range(4)] == ["n02", "n03", "n03", "n01"]
    assert val.pixels(2).shape == (80, 80, 3) and val.name(2).endswith("val/ILSVRC2012_val_00000003.JPEG")


def test_the_kit_may_lie_within_and_some_images_be_left_out(root: Path) -> None:
    _kit(root / "val")
    (root / "val" / "ILSVRC2012_val_00000002.JPEG").unlink()
    val = open_folder(root / "val")
    assert [val.classes[val.label(i)] for i in range(3)] == ["n02", "n03", "n01"]


@pytest.mark.parametrize(
    ("kit", "message"),
    [
        (None, r"validation images without their labels; unpack ILSVRC2012_devkit_t12\.tar\.gz in "),
        ({"truth": "3\n1\n"}, r"ILSVRC2012_val_00000003\.JPEG: expected ILSVRC2012_val_00000001\.JPEG to 00000002"),
        ({"truth": "3\nx\n"}, "expected a number a line"),
        ({"truth": ""}, "is empty"),
        ({"truth": "3\n1\n1\n4\n"}, r"has numbers from 1 to 4, meta\.mat has 3"),
        ({"ids": {1: "n01", 3: "n02"}}, "does not number its classes"),
        ({"ids": {1: "n01", 2: "n01"}}, "does not number its classes"),
    ],
)
def test_a_kit_that_says_too_little_is_refused(root: Path, kit: dict[str, Any] | None, message: str) -> None:
    if kit is not None:
        _kit(root, **kit)
    with pytest.raises(ZooError, match=message):
        open_images(root, "val")


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0 MAT-file" + b" " * 200, b"x" * 1000])
def test_a_damaged_table_of_classes_is_refused(root: Path, content: bytes) -> None:
    (_kit(root) / "meta.mat").write_bytes(content)
    with pytest.raises(ZooError, match=r"meta\.mat: is no table of ILSVRC's classes"):
        open_images(root, "val")
