"""Crops, mirror images and colours: drawn where the network lies, the same on every device and any number of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

from tests.test_training_parts import Copies, Elsewhere
from zoo import registry
from zoo.layers import ModelSpec
from zoo.philox import key, philox
from zoo.preprocess import centre_crop, crop, normalise, resize_short_side
from zoo.recipe import Augmentation, Recipe
from zoo.recipes import DEFAULT
from zoo.training import augment
from zoo.training.augment import Augment, principal_colours
from zoo.training.data import Batch, Batches, TrainingStream
from zoo.training.datasets import open_folder, open_images
from zoo.training.images import DIGITS, Images
from zoo.training.philox import words

MINI = registry.model("alexnet_mini")
PAPER = registry.recipe(registry.model("alexnet"))
CPU = torch.device("cpu")
STILL = Augmentation(flip=False)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    tones = rng.integers(0, 256, (12, 3))
    for i, tone in enumerate(tones):
        path = folder / ("cat", "dog")[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = np.clip(tone + rng.integers(-20, 20, (90, 100, 1)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path)
    return open_folder(folder)


def read(images: Images, spec: ModelSpec, recipe: Recipe, places: range, seed: int = 0) -> np.ndarray:
    """What the network reads of some places of a run; N x 3 x H x W."""
    (batch,) = Batches(TrainingStream(images, spec, seed), [places], 0)
    assert spec.preprocessing is not None
    return Augment(images, spec, recipe, seed, CPU)(batch, places).inputs(spec.preprocessing, CPU).numpy()


def squares(count: int, side: int) -> Batch:
    pixels = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (count, side, side, 3), dtype=np.uint8))
    return Batch(pixels=pixels, labels=torch.zeros(count, dtype=torch.int64))


def test_the_words_are_numpys() -> None:
    bits = philox(2**63 + 5, "augment", 7)
    bits.advance(3)
    expected = bits.random_raw(8).view(np.uint32).astype(np.int64)
    assert words(torch.tensor([[3, 4]]), 7, key(2**63 + 5, "augment")).tolist() == [expected.tolist()]


def test_without_room_to_move_the_window_is_the_central_square(images: Images) -> None:
    assert MINI.preprocessing is not None
    still = replace(MINI, preprocessing=replace(MINI.preprocessing, resize=67))
    assert still.preprocessing is not None
    (x_CHW,) = read(images, still, replace(DEFAULT, augmentation=STILL), range(4, 5))
    square = images.pixels(TrainingStream(images, still, 0).index(4))
    assert np.array_equal(x_CHW, normalise(centre_crop(resize_short_side(square, 67), (67, 67)), still.preprocessing))


def test_windows_lie_anywhere_and_half_of_them_are_mirrored(images: Images) -> None:
    batch, places = squares(400, 72), range(400)
    drawn = Augment(images, MINI, DEFAULT, 0, CPU)._words(places).numpy()
    down, across = (drawn[:, i] * 6 // 2**32 for i in (0, 1))
    plain, flipped = (
        Augment(images, MINI, replace(DEFAULT, augmentation=how), 0, CPU)(batch, places).pixels.numpy()
        for how in (STILL, Augmentation())
    )
    mirrored = (flipped != plain).any((1, 2, 3))
    for i in range(0, 400, 7):
        assert np.array_equal(plain[i], crop(batch.pixels[i].numpy(), down[i], across[i], (67, 67)))
        assert np.array_equal(flipped[i], plain[i][:, ::-1] if mirrored[i] else plain[i])
    assert 150 < mirrored.sum() < 250
    assert all(50 < (down == row).sum() < 90 and 50 < (across == row).sum() < 90 for row in range(6))


def test_digits_are_neither_mirrored_nor_recoloured() -> None:
    digits = open_images(DIGITS, "train")
    drawn, plain = (Augment(digits, MINI, how, 0, CPU) for how in (PAPER, replace(DEFAULT, augmentation=STILL)))
    one, other = (how(squares(20, 72), range(20)) for how in (drawn, plain))
    assert torch.equal(one.pixels, other.pixels) and one.colour is other.colour is None


def test_padding_makes_room_for_crops() -> None:
    spec, digits = registry.model("alexnet_cifar10"), open_images(DIGITS, "train")
    padded = replace(DEFAULT, augmentation=Augmentation(pad=4, colour_noise=0.0))
    seen = Augment(digits, spec, padded, 0, CPU)(squares(10, 32), range(10)).pixels
    assert seen.shape == (10, 32, 32, 3)
    assert sum(bool((window[0] == 0).all()) for window in seen) > 1  # the top row is one of zeros


def test_colour_noise_follows_the_principal_components(images: Images) -> None:
    colours, pixels = (
        principal_colours(images, 72),
        np.concatenate([images.pixels(i).reshape(-1, 3) for i in range(12)]),
    )
    peak = float((colours @ colours.T).max())
    assert colours @ colours.T == pytest.approx(np.cov(pixels.T, bias=True), abs=0.02 * peak)  # resizing smoothes
    noise = replace(PAPER, augmentation=Augmentation(flip=False, colour_noise=0.1))
    noisy = Augment(images, replace(MINI, preprocessing=registry.model("caffenet").preprocessing), noise, 0, CPU)
    colour = torch.cat([cast(Any, noisy(squares(12, 72), range(i, i + 12)).colour) for i in range(0, 6000, 12)])
    assert (colour[:, 3] == 1).all()
    shift_RGB = colour[:, [2, 1, 0]].numpy()  # CaffeNet reads BGR
    assert np.cov(shift_RGB.T) == pytest.approx(0.01 * colours @ colours.T, abs=0.05 * 0.01 * peak)
    assert np.abs(shift_RGB.mean(0)).max() < 0.05 * 0.1 * peak**0.5


def test_all_of_an_image_is_shifted_and_divided_alike(images: Images) -> None:
    loud = Augmentation(flip=False, colour_noise=0.1)
    noisy, quiet, divided = (
        read(images, MINI, replace(PAPER, augmentation=how), range(3, 4))[0]
        for how in (loud, STILL, replace(loud, noise_divides=True))
    )
    assert np.ptp(noisy - quiet, axis=(1, 2)) == pytest.approx([0, 0, 0], abs=1e-4)
    assert np.abs(noisy - quiet).max() > 0.1
    assert divided == pytest.approx(noisy / 1.1, rel=1e-6)


def test_the_2012_code_divides_by_the_noise_only_while_it_is_on(images: Images) -> None:
    recipe = registry.recipe(registry.model("alexnet_2012_code"))
    assert recipe.augmentation == Augmentation(colour_noise=0.1, noise_divides=True)
    end = 67 * len(images)  # from epoch 67 on, colours are as they are
    both = range(end - 3, end + 3)
    coloured, plain = (
        read(images, MINI, recipe, both),
        read(images, MINI, replace(recipe, augmentation=Augmentation()), both),
    )
    assert np.array_equal(coloured[3:], plain[3:])
    assert all(not np.allclose(a, b) for a, b in zip(coloured[:3], plain[:3], strict=True))


@pytest.mark.parametrize("far", [0, 10**9])
def test_any_device_draws_the_same_for_its_part(images: Images, far: int) -> None:
    batch, places = squares(12, 72), range(far, far + 12)
    draw = Augment(images, MINI, PAPER, 2**64 - 1, CPU)
    whole, seen = draw(batch, places), list[Batch]()
    for part in (range(0, 5), range(5, 12)):
        own = Batch(pixels=batch.pixels[part.start : part.stop], labels=batch.labels[part.start : part.stop])
        seen.append(draw(own, places[part.start : part.stop]))
    assert torch.equal(whole.pixels, torch.cat([part.pixels for part in seen]))
    assert torch.equal(cast(Any, whole.colour), torch.cat([cast(Any, part.colour) for part in seen]))


def test_an_accelerator_draws_the_same_itself_and_copies_nothing(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, places = squares(12, 72), range(30, 42)
    expected = Augment(images, MINI, PAPER, 5, CPU)(batch, places)
    monkeypatch.setattr(augment, "_cut", None)  # what a CPU does is not asked for
    elsewhere = Elsewhere()
    there = Augment(images, MINI, PAPER, 5, CPU)
    there.device = cast(Any, elsewhere)
    with elsewhere:
        seen = there(batch, places)
    assert torch.equal(seen.pixels, expected.pixels)
    assert torch.equal(cast(Any, seen.colour), cast(Any, expected.colour))
    assert MINI.preprocessing is not None
    meta = torch.device("meta")
    far, here = Augment(images, MINI, PAPER, 5, meta), batch.to(meta)
    far(here, places).inputs(MINI.preprocessing, meta)  # what stays there is put there once
    with Copies() as copies:
        x = far(here, places).inputs(MINI.preprocessing, meta)
    assert copies.found == [] and (x.shape, x.dtype) == ((12, 3, 67, 67), torch.float32)
