"""Images for training: folders, the built-in digits, augmentation, broken files, scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zoo import registry
from zoo.errors import ZooError
from zoo.preprocess import canonical_input
from zoo.recipe import DEFAULT, Augmentation
from zoo.training.data import (
    DIGITS,
    Batch,
    TrainingStream,
    ValidationImages,
    batches,
    open_folder,
    open_images,
    open_pair,
    principal_colours,
)
from zoo.training.evaluate import Scores, evaluate, module_forward, score

MINI = registry.model("alexnet_mini")
PAPER = registry.recipe(registry.model("alexnet"))


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
    stream = TrainingStream(open_images(folder, "train"), MINI, DEFAULT, seed=1)
    first, second = ([stream.index(p) for p in range(e * 12, e * 12 + 12)] for e in (0, 1))
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second
    assert first != [TrainingStream(stream.images, MINI, DEFAULT, seed=2).index(p) for p in range(12)]


def test_the_images_do_not_depend_on_batches_or_workers(folder: Path) -> None:
    images = open_images(folder, "train")
    alone = TrainingStream(images, MINI, PAPER, seed=1)
    expected = [alone[p][0] for p in range(8)]
    stream = TrainingStream(images, MINI, PAPER, seed=1)
    both = (
        [b.x for b in batches(stream, [range(0, 2), range(4, 6)], 0)],
        [b.x for b in batches(stream, [range(2, 4), range(6, 8)], 2)],
    )
    got = torch.cat([both[0][0], both[1][0], both[0][1], both[1][1]]).numpy()
    assert np.array_equal(got, np.stack(expected))


def test_crops_flips_and_colours_vary_and_their_centre_is_the_image(folder: Path) -> None:
    images = open_images(folder, "train")
    plain = replace(DEFAULT, augmentation=Augmentation(flip=False, colour_noise=0.0))
    still = replace(MINI, preprocessing=replace(MINI.preprocessing, resize=67))  # type: ignore[type-var]
    stream = TrainingStream(images, still, plain, seed=0)
    x_CHW = stream[4][0]  # no room to move: the central square
    square = images.pixels(stream.index(4))
    from zoo.preprocess import centre_crop, normalise, resize_short_side  # noqa: PLC0415

    assert still.preprocessing is not None
    expected = normalise(centre_crop(resize_short_side(square, 67), (67, 67)), still.preprocessing)
    assert np.array_equal(x_CHW, expected)
    flips = TrainingStream(images, still, replace(plain, augmentation=Augmentation(colour_noise=0.0)), seed=0)
    mirrored = [not np.array_equal(flips[p][0], stream[p][0]) for p in range(12)]
    assert 0 < sum(mirrored) < 12
    assert all(np.array_equal(flips[p][0], stream[p][0][:, :, ::-1]) for p in range(12) if mirrored[p])


def test_colour_noise_follows_the_principal_components(folder: Path) -> None:
    for part in ("plain", "grey"):
        (folder / "colours" / part).mkdir(parents=True)
    tones = np.random.default_rng(0).integers(0, 256, (12, 3))
    for i, tone in enumerate(tones):
        Image.new("RGB", (80, 80), tuple(tone.tolist())).save(
            folder / "colours" / ("plain", "grey")[i % 2] / f"{i}.png"
        )
    images = open_folder(folder / "colours")
    colours = principal_colours(images, 72)
    assert colours @ colours.T == pytest.approx(np.cov(tones.T, bias=True))
    loud = Augmentation(flip=False, colour_noise=0.1)
    noisy = TrainingStream(images, MINI, replace(PAPER, augmentation=loud), seed=0)
    quiet = TrainingStream(
        images, MINI, replace(PAPER, augmentation=Augmentation(flip=False, colour_noise=0.0)), seed=0
    )
    shift = noisy[3][0] - quiet[3][0]
    assert np.ptp(shift, axis=(1, 2)) == pytest.approx([0, 0, 0], abs=1e-4)
    assert np.abs(shift).max() > 0.1
    divided = TrainingStream(images, MINI, replace(PAPER, augmentation=replace(loud, noise_divides=True)), seed=0)
    assert divided[3][0] == pytest.approx(noisy[3][0] / 1.1, rel=1e-6)


def test_the_2012_code_divides_by_the_noise_only_while_it_is_on(folder: Path) -> None:
    recipe = registry.recipe(registry.model("alexnet_2012_code"))
    assert recipe.augmentation == Augmentation(colour_noise=0.1, noise_divides=True)
    images = open_images(folder, "train")
    still = replace(recipe, augmentation=Augmentation(flip=False))
    stream, plain = (
        TrainingStream(images, MINI, how, seed=0)
        for how in (replace(recipe, augmentation=replace(recipe.augmentation, flip=False)), still)
    )
    early, late = 3, 67 * len(images) + 3  # epoch 67 and later: colours as they are
    assert np.array_equal(stream[late][0], plain[late][0])
    assert np.abs(stream[early][0]).mean() < 0.95 * np.abs(plain[early][0]).mean()


def test_padding_makes_room_for_crops() -> None:
    spec = registry.model("alexnet_cifar10")
    padded = replace(DEFAULT, augmentation=Augmentation(pad=4, colour_noise=0.0))
    stream = TrainingStream(open_images(DIGITS, "train"), spec, padded, seed=0)
    assert stream[0][0].shape == (3, 32, 32)
    assert len({stream._augmented(stream.images.pixels(0), p).tobytes() for p in range(10)}) > 5


def test_a_broken_image_is_named_and_replaced_by_the_next_whole_one(folder: Path) -> None:
    broken = folder / "train" / "cat" / "0.jpg"
    broken.write_bytes(b"\xff\xd8\xff not a picture")
    images = open_images(folder, "train")
    stream = TrainingStream(images, MINI, DEFAULT, seed=0)
    (place,) = [p for p in range(12) if stream.index(p) == 0]
    (batch,) = batches(stream, [range(place, place + 1)], 0)
    assert len(batch.broken) == 1
    assert str(broken) in batch.broken[0]
    assert batch.labels.tolist() == [images.label(1)]
    assert ValidationImages(images, MINI)[0][1] == -1


def test_a_folder_of_nothing_but_broken_images_is_no_endless_loop(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(b"nothing")
    x, label, broken = TrainingStream(open_folder(tmp_path), MINI, DEFAULT, seed=0)[0]
    assert (x.shape, label, len(broken)) == ((3, 67, 67), -1, 1)


def test_scores_count_ties_nan_and_broken_images() -> None:
    logits = np.array([[1.0, 2, 3], [3, 1, 1], [0, 0, 0], [np.nan, np.nan, np.nan], [9, 0, 0]])
    batch = Batch(x=torch.zeros(5, 1), labels=torch.tensor([2, 1, 0, 1, -1]), broken=("x",))
    scores = score(batch, logits)
    assert (scores.images, scores.top1, scores.top5) == (4, 2, 4)
    assert len(scores.broken) == 1
    assert (scores + scores).means()["top1"] == 0.5
    with pytest.raises(ZooError, match="no image could be read"):
        Scores().means()


def test_probabilities_of_ten_crops_are_averaged(folder: Path) -> None:
    images = open_images(folder, "val")
    seen = list[tuple[int, ...]]()

    def forward(x_NCHW: np.ndarray) -> np.ndarray:
        seen.append(x_NCHW.shape)
        logits = np.zeros((len(x_NCHW), 2))
        logits[::10] = [0, 3]  # one view of ten is sure of class 1, the others do not know
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
    assert views.shape == (5, 3, 67, 67)
    assert label == digits.label(7)
    plain = ValidationImages(digits, MINI)[7][0]
    assert np.array_equal(views[4], plain)


def test_a_module_is_judged_at_inference(folder: Path) -> None:
    images, module = open_images(folder, "val"), torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.9))
    module.append(torch.nn.Linear(3 * 67 * 67, 2))
    forward = module_forward(module)
    x = canonical_input(images.pixels(0), MINI)[None]
    assert np.array_equal(forward(x), forward(x))
    assert module.training
    with pytest.raises(ZooError, match="2 outputs, the images 10 classes"):
        evaluate(lambda x: np.zeros((len(x), 2)), open_images(DIGITS, "val"), MINI)
