"""ILSVRC's validation images as they are published: 50,000 files in one folder, their labels in the development kit.

`ILSVRC2012_validation_ground_truth.txt` has a line an image, with a number from 1 to 1000. `meta.mat` says which
WordNet id (``n01440764``) a number stands for: the numbers are in another order than the ids, which name the folders of
the training images and which, sorted, are the outputs of Caffe's and torchvision's networks.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from zoo.errors import FileFormatError, ZooError, said
from zoo.training.images import FolderImages, image_files
from zoo.wire.regular import check_regular

_TRUTH, _META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
_IMAGE = re.compile(rb"ILSVRC\d+_val_(\d{8})\.JPEG", re.IGNORECASE)


def is_validation(folder: Path) -> bool:
    """Whether a folder holds validation images of ILSVRC, all classes in one."""
    return any(folder.glob("ILSVRC*_val_*.JPEG"))


def open_validation(folder: Path) -> FolderImages:
    """The validation images, labelled by a development kit beside their folder or in it.

    Raises:
        ZooError: there is no development kit, or it says nothing of an image.
    """
    truth = _development_kit(folder)
    ids, classes = _ids(truth.with_name(_META)), _numbers(truth)
    if classes.max() not in ids or classes.min() not in ids:
        raise FileFormatError(truth, f"has numbers from {classes.min()} to {classes.max()}, {_META} has {len(ids)}")
    names = sorted(ids[number] for number in range(1, len(ids) + 1))
    of_number = np.array([-1, *(names.index(ids[number]) for number in range(1, len(ids) + 1))], np.int32)
    files = image_files(folder)
    places = np.array([_place(folder, name, len(classes)) for name in files])
    return FolderImages.of(folder, tuple(names), [(files, of_number[classes[places]])], flat=True)


def _development_kit(folder: Path) -> Path:
    for near in (folder.parent, folder):
        for pattern in (f"*/data/{_TRUTH}", f"data/{_TRUTH}", _TRUTH):
            if found := sorted(near.glob(pattern)):
                return found[-1]
    raise ZooError(
        f"{folder}: ILSVRC's validation images without their labels; unpack ILSVRC2012_devkit_t12.tar.gz "
        f"in {folder.parent}, so that {folder.parent}/ILSVRC2012_devkit_t12/data/{_TRUTH} is there"
    )


def _place(folder: Path, name: bytes, count: int) -> int:
    """The line of an image in the file of labels, from 0."""
    found = _IMAGE.fullmatch(name)
    if found is None or not 1 <= int(found[1]) <= count:
        odd = folder / name.decode(errors="replace")
        raise ZooError(f"{odd}: expected ILSVRC2012_val_00000001.JPEG to {count:08d}; move it away")
    return int(found[1]) - 1


def _numbers(truth: Path) -> NDArray[np.int64]:
    check_regular(truth)
    try:
        numbers = np.array(truth.read_text(encoding="ascii").split(), np.int64)
    except (OSError, ValueError, OverflowError) as error:
        raise FileFormatError(truth, f"expected a number a line ({said(error)})") from error
    if not len(numbers):
        raise FileFormatError(truth, "is empty, expected a number a line")
    return numbers


def _ids(meta: Path) -> dict[int, str]:
    """Number -> WordNet id, of the classes that are numbered without a gap: the inner nodes of the tree come after."""
    # Only ILSVRC's development kit needs it.
    from scipy.io import loadmat  # noqa: PLC0415
    from scipy.io.matlab import MatReadError  # noqa: PLC0415

    try:
        synsets: Any = cast(Any, loadmat)(meta, squeeze_me=True)["synsets"]
        leaves = [row for row in np.atleast_1d(synsets) if int(row["num_children"]) == 0]
        ids = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in leaves}
    except (MatReadError, OSError, ValueError, TypeError, LookupError, NotImplementedError) as error:
        raise FileFormatError(meta, f"is no table of ILSVRC's classes ({said(error)})") from error
    if sorted(ids) != list(range(1, len(ids) + 1)) or len(set(ids.values())) != len(ids):
        raise FileFormatError(meta, "does not number its classes 1, 2, 3, ...")
    return ids
