"""What a user says of images: how they are prepared, and what their classes are called."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image
from scipy import io

from converters.cli import build_parser, main
from converters.convert import load, save
from converters.images import SaidOfImages, read_labels
from converters.parity.agreement import Pictures
from converters.source import reading
from converters.weights import Weights
from tests.small import shrink, small_weights
from zoo import registry
from zoo.errors import FileFormatError, UnsupportedError, ZooError
from zoo.layers import Dense, Input, ModelSpec, Preprocessing
from zoo.wire.protobuf import integer, message

FORMATS = ("safetensors", "onnx", "npz", "caffemodel")


def said(*flags: str) -> SaidOfImages:
    return reading(build_parser().parse_args(["eval", "w.npz", "--data", "d", *flags])).images


def test_nothing_said_changes_nothing() -> None:
    spec = shrink("caffenet")
    assert said().of(spec) is spec


def test_images_are_prepared_as_was_said() -> None:
    spec = replace(shrink("caffenet"), name="mine", preprocessing=None)
    assert said("--images-like", "caffenet").of(spec).preprocessing == registry.model("caffenet").preprocessing
    flags = ("--channels", "RGB", "--scale", "1/255", "--mean", "0.5,0.4,0.3", "--std", "0.25")
    assert said(*flags).of(spec).preprocessing == Preprocessing(
        channels="RGB", scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.25,), resize=256
    )
    prepared = said("--images-like", "alexnet_owt", "--channels", "BGR").of(spec).preprocessing
    assert prepared is not None and (prepared.channels, prepared.std) == ("BGR", (0.229, 0.224, 0.225))
    with pytest.raises(ZooError, match="give --channels RGB or BGR as well"):
        said("--mean", "1,2,3").of(spec)


@pytest.mark.parametrize("channels", ["BGR", "RGB"])
def test_a_mean_file_is_caffe_s(tmp_path: Path, channels: str) -> None:
    mean_chw = np.array([104, 117, 123], np.float32).reshape(3, 1, 1).repeat(4, 1).repeat(5, 2)
    np.save(tmp_path / "mean.npy", mean_chw)
    blob = b"".join(integer(number, size) for number, size in ((1, 1), (2, 3), (3, 4), (4, 5)))
    (tmp_path / "mean.binaryproto").write_bytes(blob + message(5, mean_chw.tobytes()))
    io.savemat(tmp_path / "mean.mat", {"image_mean": mean_chw.T})
    for name in ("mean.npy", "mean.binaryproto", "mean.mat"):
        flags = ("--channels", channels, "--scale", "0.5", "--mean", str(tmp_path / name))
        images = said(*flags).of(shrink("alexnet_owt")).preprocessing
        assert images is not None
        assert images.mean == ((52.0, 58.5, 61.5) if channels == "BGR" else (61.5, 58.5, 52.0))


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--mean", "1,2"), "expected 1 or 3 numbers"),
        (("--mean", "mean"), r"or a mean image \(.binaryproto, .npy, .mat\)"),
        (("--mean", "no.binaryproto"), "no.binaryproto: no such file"),
        (("--scale", "0"), "expected numbers above 0"),
        (("--scale", "1/0"), "expected a number, as 1/255"),
        (("--std", "1,nan,1"), "expected 1 or 3"),
        (("--labels", "no.txt"), "No such file"),
        (("--images-like", "cafenet"), "did you mean caffenet"),
    ],
)
def test_what_cannot_be_meant_is_refused(flags: tuple[str, ...], told: str) -> None:
    with pytest.raises(ZooError, match=told):
        said(*flags).of(shrink("caffenet"))


def test_mean_images_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.binaryproto").write_text("version https://git-lfs.github.com/spec/v1\n")
    np.save(tmp_path / "grey.npy", np.zeros((1, 4, 4)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "grey.npy").read_bytes()[:50])
    io.savemat(tmp_path / "other.mat", {"image": np.zeros((4, 4, 3))})
    (tmp_path / "cut.mat").write_bytes((tmp_path / "other.mat").read_bytes()[:150])
    wrong = {"a.binaryproto": "git lfs pull", "grey.npy": "expected 3 x H x W", "cut.npy": "no mean"}
    wrong |= {"other.mat": "none of image_mean, mean_data", "cut.mat": "no mean image: "}
    for name, told in wrong.items():
        with pytest.raises(FileFormatError, match=told):
            said("--mean", str(tmp_path / name))


def test_labels(tmp_path: Path) -> None:
    (tmp_path / "synset.txt").write_bytes(b"n1 tench,  Tinca tinca\r\nn2 grouse\n\n")
    assert read_labels(tmp_path / "synset.txt") == ("n1 tench, Tinca tinca", "n2 grouse")
    for name in ("b", "a"):
        (tmp_path / "train" / name).mkdir(parents=True)
    assert read_labels(tmp_path / "train") == ("a", "b")
    (tmp_path / "gap.txt").write_text("a\n\nb\n")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe")
    for name, told in (("gap.txt", "line 2 is empty"), ("empty.txt", "names no classes"), ("binary.txt", "no text")):
        with pytest.raises(FileFormatError, match=told):
            read_labels(tmp_path / name)
    with pytest.raises(ZooError, match="10 outputs, and 2 classes are named"):
        said("--labels", str(tmp_path / "synset.txt")).of(shrink("caffenet"))


def test_names_and_preparation_travel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(small_weights("alexnet_mini"), tmp_path / "w.safetensors")
    (tmp_path / "names.txt").write_text("".join(f"class {i} é\n" for i in range(10)))
    source, flags = tmp_path / "w.safetensors", ["--labels", str(tmp_path / "names.txt"), "--mean", "1,2,3"]
    for suffix in FORMATS:
        target = tmp_path / f"next.{suffix}"
        assert main(["convert", str(source), "-o", str(target), *flags]) == 0
        spec = load(target).spec
        assert spec.classes == tuple(f"class {i} é" for i in range(10))
        assert spec.preprocessing is not None and spec.preprocessing.mean == (1.0, 2.0, 3.0)
        source, flags = target, []
    capsys.readouterr()
    assert main(["convert", str(source), "-o", str(tmp_path / "w.pt")]) == 0
    assert load(source).spec.with_num_classes(3).classes == ()


@pytest.mark.parametrize(("shapes", "read"), [(((5,),), "5"), (((3, 8, 8), (2,)), "3 x 8 x 8, 2"), ((), "nothing")])
def test_who_reads_no_images_has_none_prepared(shapes: tuple[tuple[int, ...], ...], read: str) -> None:
    inputs = tuple(Input(name=f"i{i}", shape=shape) for i, shape in enumerate(shapes))
    spec = ModelSpec(name="net", title="", inputs=inputs, layers=(Dense(name="fc", out_features=3),))
    with pytest.raises(UnsupportedError, match=f"net reads {read}, no images"):
        SaidOfImages(channels="BGR").of(spec)


def test_pictures_that_are_taken_for_another_class_are_named(tmp_path: Path) -> None:
    made = small_weights("alexnet_mini")
    spec = replace(made.spec, classes=tuple(f"class {i}" for i in range(10)))
    assert spec.head
    head, tensors = spec.head.name, dict(made.tensors)
    tensors[f"{head}.bias"] = np.where(np.arange(10) == 2, 1e6, 0).astype(np.float32)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (80, 90), (200, 100, 50)).save(tmp_path / name)
    pictures = Pictures(Weights(spec=spec, tensors=tensors, source="here"), tmp_path, lambda _: None)
    answers = np.zeros((2, 10))
    answers[0, 2] = answers[1, 4] = 1
    seen = pictures.agreement(lambda *_: cast(Any, SimpleNamespace(activations={head: answers})), lambda _: None)
    assert seen and seen.top1 == 0.5
    assert seen.otherwise == ("b.png: class 4, by the reference class 2",)
