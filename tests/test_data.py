"""Images for training: folders, the built-in digits, broken files, scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zoo import registry
from zoo.errors import ZooError
from zoo.preprocess import canonical_input, ten_crop
from zoo.training.data import Batches, TrainingStream, ValidationImages
from zoo.training.datasets import fingerprint, open_folder, open_images, open_pair
from zoo.training.evaluate import Scores, evaluate, module_forward, score
from zoo.training.images import DIGITS

MINI = registry.model("alexnet_mini")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("val", 3)):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (90, 100, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{i}.{'png' if i % 2 else 'jpg'}")
    return tmp_path


def test_classes_and_files_come_in_the_order_of_their_names(folder: Path) -> None:
    train, val = open_pair(folder)
    assert train.classes == val.classes == ("cat", "dog")
    assert [train.label(i) for i in range(len(train))] == [0] * 6 + [1] * 6
    assert train.pixels(0).shape == (90, 100, 3)


def test_the_digits_are_built_in() -> None:
    train, val = open_pair(DIGITS)
    assert (len(train), len(val)) == (1437, 360)
    assert val.pixels(3).shape == (8, 8, 3)
    assert {val.label(i) for i in range(len(val))} == set(range(10))


def test_what_is_wrong_with_a_folder_is_said_in_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ZooError, match="nowhere: no train folder; expected"):
        open_images(tmp_path / "nowhere", "train")
    (folder / "train" / "owl").symlink_to(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match="train/owl"):
        open_pair(folder)
    (folder / "train" / "owl").unlink()
    (folder / "train" / "owl").mkdir()
    with pytest.raises(ZooError, match=r"owl: no \.jpg or \.png image of this class"):
        open_pair(folder)
    Image.new("RGB", (80, 80)).save(folder / "train" / "owl" / "o.png")
    with pytest.raises(ZooError, match="train and val have different classes: owl"):
        open_pair(folder)
    (tmp_path / "empty" / "train").mkdir(parents=True)
    with pytest.raises(ZooError, match="no class folders"):
        open_images(tmp_path / "empty", "train")


def test_every_epoch_is_another_permutation_of_all_images(folder: Path) -> None:
    stream = TrainingStream(open_images(folder, "train"), MINI, seed=1)
    first, second = ([stream.index(p) for p in range(e * 12, e * 12 + 12)] for e in (0, 1))
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second
    assert first != [TrainingStream(stream.images, MINI, seed=2).index(p) for p in range(12)]


def test_the_images_do_not_depend_on_batches_or_workers(folder: Path) -> None:
    images = open_images(folder, "train")
    alone = TrainingStream(images, MINI, seed=1)
    expected = [alone[p][0] for p in range(8)]
    stream = TrainingStream(images, MINI, seed=1)
    both = (
        list(Batches(stream, [range(0, 2), range(4, 6)], 0)),
        list(Batches(stream, [range(2, 4), range(6, 8)], 2)),
    )
    ordered = [both[0][0], both[1][0], both[0][1], both[1][1]]
    assert np.array_equal(torch.cat([b.pixels for b in ordered]).numpy(), np.stack(expected))


def test_a_broken_image_is_named_and_replaced_by_the_next_whole_one(folder: Path) -> None:
    broken = folder / "train" / "cat" / "0.jpg"
    broken.write_bytes(b"\xff\xd8\xff not a picture")
    images = open_images(folder, "train")
    stream = TrainingStream(images, MINI, seed=0)
    (place,) = [p for p in range(12) if stream.index(p) == 0]
    (batch,) = Batches(stream, [range(place, place + 1)], 0)
    assert len(batch.broken) == 1
    assert str(broken) in batch.broken[0]
    assert batch.labels.tolist() == [images.label(1)]
    assert ValidationImages(images, MINI)[0][1] == -1


def test_a_folder_of_nothing_but_broken_images_is_no_endless_loop(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(b"nothing")
    x, label, broken = TrainingStream(open_folder(tmp_path), MINI, seed=0)[0]
    assert (x.shape, label, len(broken)) == ((72, 72, 3), -1, 1)


def test_scores_count_ties_nan_and_broken_images() -> None:
    logits = np.array([[1.0, 2, 3], [3, 1, 1], [0, 0, 0], [np.nan, np.nan, np.nan], [9, 0, 0]])
    scores = score(torch.tensor([2, 1, 0, 1, -1]), torch.from_numpy(logits), ("x",))
    means = scores.means()
    assert (means["images"], means["top1"], means["top5"], means["broken"]) == (4, 0.5, 1.0, 1)
    twice = Scores.join([scores, scores]).means()
    assert twice | {"loss": 0} == means | {"loss": 0, "images": 8, "broken": 2} and np.isnan(twice["loss"])
    assert scores.confusion(3).tolist() == [[1, 0, 0], [2, 0, 0], [0, 0, 1]]
    rows = Scores.join([scores, scores]).by_class(("a", "b", "c"))
    assert rows == [
        {"class": "a", "images": 2, "top1": 1.0, "top5": 1.0},
        {"class": "b", "images": 4, "top1": 0.0, "top5": 1.0},
        {"class": "c", "images": 2, "top1": 1.0, "top5": 1.0},
    ]
    with pytest.raises(ZooError, match="no image could be read"):
        Scores.join([]).means()


def test_probabilities_of_ten_crops_are_averaged(folder: Path) -> None:
    images = open_images(folder, "val")
    seen = list[tuple[int, ...]]()

    def forward(x_NCHW: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(x_NCHW.shape))
        logits = torch.zeros((len(x_NCHW), 2), dtype=torch.float64)
        logits[::10] = torch.tensor([0.0, 3.0], dtype=torch.float64)  # one view of ten is sure, the others are not
        return logits

    means = evaluate(forward, images, MINI.with_num_classes(2), ten_crop=True, batch_size=20).means()
    assert seen == [(20, 3, 67, 67)] * 3
    sure = 1 / (1 + np.exp(-3))
    p = 0.9 * 0.5 + 0.1 * sure
    assert means["loss"] == pytest.approx(-(np.log(p) + np.log(1 - p)) / 2)
    assert means["top1"] == 0.5


def test_digits_are_not_mirrored() -> None:
    digits = open_images(DIGITS, "val")
    views, label, _ = ValidationImages(digits, MINI, crops=True)[7]
    assert views.shape == (5, 67, 67, 3)
    assert label == digits.label(7)
    plain = ValidationImages(digits, MINI)[7][0]
    assert np.array_equal(views[4], plain)


def test_a_module_is_judged_at_inference(folder: Path) -> None:
    images, module = open_images(folder, "val"), torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.9))
    module.append(torch.nn.Linear(3 * 67 * 67, 2))
    forward = module_forward(module)
    x = torch.from_numpy(canonical_input(images.pixels(0), MINI)[None])
    assert torch.equal(forward(x), forward(x))
    assert module.training
    with pytest.raises(ZooError, match="2 outputs, the images 10 classes"):
        evaluate(lambda x: torch.zeros((len(x), 2)), open_images(DIGITS, "val"), MINI)


@pytest.mark.parametrize("name", registry.models())
def test_pixels_are_prepared_on_the_device_as_one_by_one(name: str, folder: Path) -> None:
    """Bit for bit, in every member's own channels, scale, mean and deviation; ten crops as well."""
    spec, images = registry.model(name), open_images(folder, "val")
    assert spec.preprocessing is not None
    for crops, whole in ((False, canonical_input), (True, ten_crop)):
        (batch,) = Batches(ValidationImages(images, spec, crops=crops), [range(3)], 0)
        x = batch.inputs(spec.preprocessing, torch.device("cpu"))
        assert x.is_contiguous(memory_format=torch.channels_last)
        expected = np.concatenate([whole(images.pixels(i), spec).reshape(-1, *x.shape[1:]) for i in range(3)])
        assert np.array_equal(x.numpy(), expected)


def test_a_set_of_images_is_known_by_its_classes_names_and_sizes(folder: Path) -> None:
    known = fingerprint(*open_pair(folder))
    assert known == fingerprint(*open_pair(folder))
    assert (known["classes"], known["training images"]) == (["cat", "dog"], 12)
    image = folder / "train" / "cat" / "3.png"
    image.write_bytes(image.read_bytes() + b"x")
    longer = fingerprint(*open_pair(folder))
    assert [key for key in known if known[key] != longer[key]] == ["sizes of the files"]
    image.rename(image.with_name("33.png"))
    renamed = fingerprint(*open_pair(folder))
    assert [key for key in longer if longer[key] != renamed[key]] == ["names of the files"]


def test_a_link_to_nothing_is_a_broken_image(folder: Path) -> None:
    (folder / "train" / "cat" / "9.png").symlink_to(folder / "gone.png")
    images = open_images(folder, "train")
    (index,) = [i for i in range(len(images)) if images.path(i).name == "9.png"]  # pyright: ignore
    with pytest.raises(ZooError, match=r"9\.png: no such image file"):
        images.pixels(index)


def _odd(folder: Path) -> dict[str, Path]:
    """One file of each odd kind."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (90, 100, 3), dtype=np.uint8))
    files = {name: folder / f"{name}.{'png' if name in ('palette', 'deep', 'pixel') else 'jpg'}" for name in ODD}
    rgb.convert("CMYK").save(files["cmyk"])
    rgb.convert("P").save(files["palette"])
    Image.fromarray(rng.integers(0, 65536, (90, 100), dtype=np.uint16)).save(files["deep"])
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    rgb.save(files["turned"], exif=exif)
    Image.new("RGB", (1, 1), (9, 8, 7)).save(files["pixel"])
    Image.new("L", (20_000, 5_000)).save(files["bomb"])
    Image.new("L", (60_000, 1)).save(files["thread"])
    return files


ODD = ("bomb", "cmyk", "deep", "palette", "pixel", "thread", "turned")


def test_odd_images_are_read_as_rgb_or_named(tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    _odd(tmp_path / "all")
    images = open_folder(tmp_path)
    read = [ValidationImages(images, registry.model("alexnet"))[i] for i in range(len(ODD))]
    assert {kind: label for kind, (_, label, _) in zip(ODD, read, strict=True) if label} == {
        "bomb": -1,
        "thread": -1,
    }
    assert "bomb.jpg: more than 89,478,485 pixels" in read[0][2][0]
    assert "thread.jpg: an image of 60000 x 1 is too elongated" in read[5][2][0]
    assert images.pixels(ODD.index("turned")).shape == (90, 100, 3)  # as stored
    assert set(read[ODD.index("pixel")][0].reshape(-1, 3)[0].tolist()) == {9, 8, 7}
    stream = TrainingStream(images, registry.model("alexnet"), seed=0)
    seen = {sample[1] for sample in (stream[place] for place in range(len(ODD)))}
    assert seen == {0}  # in the place of the two, their neighbours
