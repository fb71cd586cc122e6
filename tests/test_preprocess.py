"""Images to inputs: the order of operations, the views, and files that are no images."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from zoo import preprocess, registry
from zoo.errors import FileFormatError, UnsupportedError, ZooError
from zoo.layers import Input, ModelSpec, Preprocessing, ReLU


def _spec(size: int = 4, **fields: object) -> ModelSpec:
    return ModelSpec(
        name="tiny",
        title="",
        inputs=(Input(shape=(3, size, size)),),
        layers=(ReLU(name="relu"),),
        preprocessing=Preprocessing(**{"resize": 6, **fields}),  # pyright: ignore[reportArgumentType]
    )


def _noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_centre_crop_order_and_mean() -> None:
    image = _noise(6, 8)
    x = preprocess.canonical_input(image, _spec(channels="BGR", mean=(104.0, 117.0, 123.0)))
    want = image[1:5, 2:6, ::-1].astype(np.float32) - np.array([104, 117, 123], np.float32)
    assert x.dtype == np.float32 and x.flags.c_contiguous
    np.testing.assert_array_equal(x, want.transpose(2, 0, 1))


def test_scale_mean_and_std_are_torchvisions() -> None:
    image = _noise(256, 300)
    spec = registry.model("alexnet_owt")
    unit = image[16:240, 38:262].astype(np.float64) / 255
    want = (unit - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(preprocess.canonical_input(image, spec), want.transpose(2, 0, 1), atol=1e-6)


# torchvision: int(round(margin / 2.0)), which is half to even (transforms/functional.py, center_crop).
@pytest.mark.parametrize(
    ("margin", "torchvisions", "others"), [(33, 16, 16), (35, 18, 17), (117, 58, 58), (119, 60, 59)]
)
def test_an_odd_margin_is_cut_as_when_the_weights_were_trained(margin: int, torchvisions: int, others: int) -> None:
    for name, left in (("alexnet_owt", torchvisions), ("bvlc_alexnet", others), ("alexnet_v2", others)):
        spec = registry.model(name)
        _, height, width = spec.inputs[0].shape
        image, top = _noise(256, width + margin), (256 - height) // 2
        assert spec.preprocessing
        want = preprocess.normalise(image[top : top + height, left : left + width], spec.preprocessing)
        np.testing.assert_array_equal(preprocess.canonical_input(image, spec), want)


@pytest.mark.parametrize(("height", "width", "expected"), [(500, 375, (341, 256)), (100, 333, (256, 852))])
def test_short_side(height: int, width: int, expected: tuple[int, int]) -> None:
    assert preprocess.resize_short_side(_noise(height, width), 256).shape[:2] == expected


def test_ten_crop_is_five_views_and_their_mirrors() -> None:
    image = _noise(6, 9)
    views = preprocess.ten_crop(image, _spec())
    square = image[:, 1:7].astype(np.float32).transpose(2, 0, 1)
    assert views.shape == (10, 3, 4, 4)
    np.testing.assert_array_equal(views[0], square[:, :4, :4])
    np.testing.assert_array_equal(views[3], square[:, 2:, 2:])
    np.testing.assert_array_equal(views[4], preprocess.canonical_input(image, _spec()))
    np.testing.assert_array_equal(views[5:], views[:5, :, :, ::-1])


@pytest.mark.parametrize("name", registry.models())
def test_every_member_reads_a_photograph(name: str) -> None:
    spec = registry.model(name)
    x = preprocess.canonical_input(_noise(300, 400), spec)
    assert x.shape == spec.inputs[0].shape and np.isfinite(x).all()


@pytest.mark.parametrize(
    ("mode", "suffix"), [("RGB", "png"), ("L", "png"), ("RGBA", "png"), ("P", "gif"), ("CMYK", "jpg")]
)
def test_modes_become_rgb(tmp_path: Path, mode: str, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(_noise(9, 7)).convert(mode).save(path)
    image = preprocess.load_image(path)
    assert image.shape == (9, 7, 3) and image.dtype == np.uint8


def test_sixteen_bit_grey_is_not_clipped(tmp_path: Path) -> None:
    path = tmp_path / "grey16.png"
    Image.fromarray(np.array([[0, 32768, 65535]], np.uint16)).save(path)
    assert preprocess.load_image(path)[0, :, 0].tolist() == [0, 128, 255]


def test_broken_files_are_named(tmp_path: Path) -> None:
    text, cut, missing = tmp_path / "text.jpg", tmp_path / "cut.png", tmp_path / "missing.png"
    text.write_text("not an image")
    buffer = io.BytesIO()
    Image.fromarray(_noise(64, 64)).save(buffer, "PNG")
    cut.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    for path, word in ((text, "known format"), (cut, "damaged"), (missing, "no such"), (tmp_path, "no such")):
        with pytest.raises(FileFormatError, match=word) as caught:
            preprocess.load_image(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_postscript_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with pytest.raises(FileFormatError, match="known format"):
        preprocess.load_image(path)


@pytest.mark.parametrize("side", [2_500, 10_000, 20_000])
def test_decompression_bombs_are_refused(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (side, side)).save(path)
    with pytest.raises(FileFormatError, match="bomb"):
        preprocess.load_image(path)


def test_large_photographs_are_no_bombs(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    Image.fromarray(np.kron(_noise(60, 80), np.ones((40, 40, 1), np.uint8))).save(path, quality=50)
    assert preprocess.load_image(path).shape == (2400, 3200, 3)


def test_elongated_images_do_not_explode() -> None:
    with pytest.raises(ZooError, match="elongated"):
        preprocess.resize_short_side(np.zeros((1, 2_000, 3), np.uint8), 256)


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        (replace(_spec(), preprocessing=None), "preprocessing"),
        (_spec(size=7), "resize"),
        (replace(_spec(), inputs=(Input(shape=(1, 4, 4)),)), "1 x 4 x 4"),
        (_spec(mean=(1.0, 2.0)), "mean"),
    ],
)
def test_networks_that_read_no_such_images(spec: ModelSpec, word: str) -> None:
    with pytest.raises((ZooError, UnsupportedError), match=word):
        preprocess.canonical_input(_noise(6, 6), spec)


def test_arrays_must_be_rgb_bytes() -> None:
    with pytest.raises(ZooError, match="uint8"):
        preprocess.canonical_input(np.zeros((4, 4, 3), np.float32), _spec())  # pyright: ignore[reportArgumentType]


def _encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(_noise(16, 16)).save(buffer, kind)
    return buffer.getvalue()


_SAMPLES = {kind: _encoded(kind) for kind in ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF")}


@settings(max_examples=300)
@given(
    kind=st.sampled_from(sorted(_SAMPLES)),
    edits=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=8),
    keep=st.floats(0.0, 1.0),
)
def test_damaged_images_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, kind: str, edits: list[tuple[int, int]], keep: float
) -> None:
    data = bytearray(_SAMPLES[kind])
    for place, value in edits:
        data[place % len(data)] = value
    path = tmp_path_factory.mktemp("fuzz") / "image"
    path.write_bytes(data[: max(1, int(len(data) * keep))])
    try:
        assert preprocess.load_image(path).shape[2] == 3
    except FileFormatError as error:
        assert "\n" not in str(error)


def test_a_compressed_tiff_is_refused_and_libtiff_says_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """libtiff writes its own remarks on a damaged file to stderr, beside the one line."""
    Image.new("RGB", (20, 24)).save(tmp_path / "i.tif", compression="tiff_lzw")
    data = (tmp_path / "i.tif").read_bytes()
    for content in (data, data[:8] + b"\xff" * 40 + data[48:]):
        (tmp_path / "i.tif").write_bytes(content)
        with pytest.raises(FileFormatError, match="compressed TIFF"):
            preprocess.load_image(tmp_path / "i.tif")
    assert capfd.readouterr() == ("", "")


def test_a_webp_is_refused_before_its_canvas_is_made(tmp_path: Path) -> None:
    Image.new("RGB", (20, 24)).save(tmp_path / "i.webp")
    with pytest.raises(FileFormatError, match="no image in a known format"):
        preprocess.load_image(tmp_path / "i.webp")
