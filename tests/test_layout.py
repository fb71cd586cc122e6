"""The algebra: derived conversions are right, and their inverses give back the same bits."""

import os
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.wire.arrayfile import write_numbers
from zoo.wire.layout import axis_sizes, blocks, contiguous, convert_shape, parse, rearrange


def test_a_convolution_kernel_goes_where_tensorflow_wants_it() -> None:
    w_OIHW = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    w_HWIO = rearrange(w_OIHW, "OIHW", "HWIO", {})
    assert w_HWIO.shape == (4, 5, 3, 2)
    assert w_HWIO[3, 1, 2, 0] == w_OIHW[0, 2, 3, 1]


def test_a_dense_weight_after_an_image_changes_its_flatten_order() -> None:
    w = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 60)
    kernel = rearrange(w, "O(CHW)", "HWCO", {"H": 4, "W": 5})
    rows = rearrange(w, "O(CHW)", "(HWC)O", {"H": 4, "W": 5})
    assert kernel.shape == (4, 5, 3, 2)
    np.testing.assert_array_equal(rows, kernel.reshape(60, 2))
    assert rows[(3 * 5 + 4) * 3 + 1, 1] == w[1, 1 * 20 + 3 * 5 + 4]


def test_what_is_in_order_already_stays_a_view() -> None:
    w = np.zeros((6, 4), np.float32)
    assert np.shares_memory(rearrange(w, "OI", "11OI", {}), w)


@pytest.mark.parametrize("layout", ["O(I", "OI)", "OO", "O-I", "((O)I)"])
def test_malformed_layouts_are_refused(layout: str) -> None:
    with pytest.raises(ValueError, match="malformed"):
        parse(layout)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot split 61"):
        axis_sizes("O(CHW)", (2, 61), {"H": 4, "W": 5})
    with pytest.raises(ValueError, match="dimensions"):
        axis_sizes("OI", (2, 3, 4), {})
    with pytest.raises(ValueError, match="is 1, the array has 2"):
        axis_sizes("1OI", (2, 3, 4), {})
    with pytest.raises(ValueError, match="different axes"):
        rearrange(np.zeros((2, 3)), "OI", "OJ", {"J": 3})


@given(st.permutations("OIHW"), st.permutations("OIHW"), st.tuples(*[st.integers(1, 4)] * 4), st.integers(0, 3))
def test_every_conversion_has_its_inverse(
    source: list[str], target: list[str], shape: tuple[int, ...], cut: int
) -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, shape, dtype=np.uint32).view(np.float32)
    a, b = "".join(source), "".join(target)
    merged = f"{b[:cut]}({b[cut:]})"
    sizes = axis_sizes(a, shape, {})
    there = rearrange(bits, a, merged, {})
    assert there.shape == convert_shape(shape, a, merged, {})
    back = rearrange(there, merged, a, sizes)
    np.testing.assert_array_equal(back.view(np.uint32), bits.view(np.uint32))


@pytest.mark.parametrize("shape", [(70, 80, 5, 5), (33, 3000), (7, 40, 30, 11), (1, 1, 300, 400), (300, 1, 1, 400)])
def test_contiguous_gives_the_same_numbers_in_order(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).normal(size=shape).astype("f")
    for axes in permutations(range(len(shape))):
        for view in (array.transpose(axes), array[len(array) // 3 :].transpose(axes)):
            made = contiguous(view)
            assert made.flags.c_contiguous
            np.testing.assert_array_equal(made, view)


@given(st.permutations(range(3)), st.tuples(*[st.integers(1, 170)] * 3))
def test_blocks_cover_every_number_once(axes: list[int], shape: tuple[int, int, int]) -> None:
    array = np.zeros(shape, np.float32).transpose(axes)
    for block in blocks(array):
        array[block] += 1
    assert (array == 1).all()


@pytest.mark.parametrize("shape", [(70, 80, 20, 15), (1300, 1100), (1, 1, 1300, 1100), (5,), (), (3, 1, 2)])
def test_numbers_are_written_in_order_where_the_file_stands(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).normal(size=shape).astype("f")
    for i, axes in enumerate(permutations(range(len(shape)))):
        view = array.transpose(axes)
        with (tmp_path / f"{i}").open("wb") as file:
            file.write(b"before")
            write_numbers(file, [view, array, view[..., ::2] if shape else view])
            file.write(b"after")
        numbers = view.tobytes() + array.tobytes() + (view[..., ::2] if shape else view).tobytes()
        assert (tmp_path / f"{i}").read_bytes() == b"before" + numbers + b"after"


def test_a_disk_that_takes_a_part_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, content, at: whole(descriptor, content[:1000], at))
    array = np.random.default_rng(0).normal(size=(1500, 1400)).astype("f").T
    with (tmp_path / "x").open("wb") as file:
        write_numbers(file, [array])
    assert (tmp_path / "x").read_bytes() == array.tobytes()
