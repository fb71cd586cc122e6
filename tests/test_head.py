"""A fine-tuned head under a name of its own."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from converters.convert import Reading, load, open_file, save
from converters.head import with_head_called
from converters.images import SaidOfImages
from converters.weights import Array, Weights
from tests.small import shrink, small_weights
from zoo import registry
from zoo.errors import WeightsError, ZooError


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> None:
    """The family, shrunk."""
    original: Callable[[str], object] = registry.model
    small = {name: shrink(name) for name in registry.models() if name != "alexnet_mini"}
    monkeypatch.setattr(registry, "model", lambda name: small.get(name) or original(name))


CAFFENET = small_weights("caffenet")


def flickr() -> Weights:
    """CaffeNet, fine-tuned: its head is fc8_flickr."""
    spec = with_head_called(CAFFENET.spec, "fc8_flickr")
    tensors = {name.replace("fc8.", "fc8_flickr."): tensor for name, tensor in CAFFENET.tensors.items()}
    return Weights(spec=replace(spec, name="FlickrStyle", preprocessing=None), tensors=tensors, source="flickr")


@pytest.mark.parametrize("suffix", ["caffemodel", "safetensors", "npz", "ckpt", "pt"])
@pytest.mark.parametrize("described", [True, False])
def test_a_renamed_head_is_a_head(
    family: None, tmp_path: Path, suffix: str, described: bool, caplog: pytest.LogCaptureFixture
) -> None:
    mine = flickr()
    save(mine, tmp_path / f"mine.{suffix}")
    if not described:
        (tmp_path / "mine.prototxt").unlink(missing_ok=True)
    found = load(
        tmp_path / f"mine.{suffix}",
        spec=registry.model("caffenet"),
        how=Reading(images=SaidOfImages(classes=tuple("abcdefghij"))),
    )
    assert (found.spec.name, found.spec.classes) == ("caffenet", tuple("abcdefghij"))
    assert found.spec.preprocessing == registry.model("caffenet").preprocessing
    assert "fc8_flickr" in caplog.text and "conv1" not in caplog.text  # what is under its own name is no news
    for name, tensor in found.tensors.items():
        assert (tensor == mine.tensors[name.replace("fc8.", "fc8_flickr.")]).all()


def test_caffenet_is_told_from_its_like_by_a_file_with_another_head(family: None, tmp_path: Path) -> None:
    save(flickr(), tmp_path / "mine.caffemodel")
    (tmp_path / "mine.prototxt").unlink()
    reasons = open_file(tmp_path / "mine.caffemodel").misfits()
    assert reasons["caffenet"] is None and reasons["alexnet_owt"]
    with pytest.raises(ZooError, match="saved by another network than bvlc_alexnet"):
        load(tmp_path / "mine.caffemodel", spec=registry.model("bvlc_alexnet"))


def test_two_layers_that_could_be_the_head_are_refused(tmp_path: Path) -> None:
    tensors = dict[str, Array](flickr().tensors)
    for part in ("weight", "bias"):
        tensors[f"other.{part}"] = tensors[f"fc8_flickr.{part}"]
    np.savez(tmp_path / "two.npz", **tensors)  # pyright: ignore[reportArgumentType]  # of allow_pickle
    with pytest.raises(WeightsError, match=r"fc8\.weight is missing.*other\.weight is not a parameter"):
        load(tmp_path / "two.npz", spec=CAFFENET.spec)
