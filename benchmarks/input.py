"""Images read for training, a core: from folders and shards, beside Pillow with torchvision's steps, and WebDataset.

The peers do what the references of torchvision do for AlexNet: decode, shorter side to 256, a random crop of 224, a
mirror image, float32, mean and deviation. (torchvision itself is not used; its transforms call the same functions of
Pillow and torch.) All read the same photographs, in batches of 64, up to the
numbers that a network reads, by one thread; what counts is the processor's time, whoever else is on the machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import webdataset  # pyright: ignore[reportMissingImports]  # of the extra `dev`
from PIL import Image
from safetensors.numpy import save_file
from torch.utils.data import DataLoader, Dataset

from benchmarks.measure import table
from converters.packing import pack_folder
from zoo import registry
from zoo.training.augment import Augment
from zoo.training.data import Batches, TrainingStream
from zoo.training.datasets import open_images
from zoo.training.shards import COLUMNS, INDEX

_IMAGES, _BATCH, _ROUNDS = 256, 64, 5
_FILES, _IMAGENET = 200_000, 1_281_167
_SIZE = (375, 500)  # the commonest of ImageNet's
MEAN, STD = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def photographs(folder: Path) -> None:
    """Images with the spectrum of photographs, 1/f, as JPEGs of a hundred kilobytes, as ImageNet's are."""
    rng, (height, width) = np.random.default_rng(0), _SIZE
    f = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    for i in range(_IMAGES):
        noise = np.fft.rfft2(rng.standard_normal((3, height, width))) / np.maximum(f, 1 / width)
        x = np.fft.irfft2(noise, (height, width)).transpose(1, 2, 0)
        pixels = np.clip(x / x.std() * 55 + 115, 0, 255).astype(np.uint8)
        for part in ("train", "val"):
            path = folder / part / f"c{i % 4}" / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path, quality=92)


def prepared(image: Any) -> torch.Tensor:
    """torchvision's Resize, RandomCrop, RandomHorizontalFlip, ToTensor and Normalize, on a Pillow image."""
    width, height = image.size
    short = min(width, height)
    image = image.convert("RGB").resize((256 * width // short, 256 * height // short), Image.Resampling.BILINEAR)
    left, top = (int(torch.randint(0, side - 224 + 1, (1,))) for side in image.size)
    image = image.crop((left, top, left + 224, top + 224))
    if torch.rand(1) < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    x_HWC = torch.from_numpy(np.array(image, np.uint8, copy=True))
    return x_HWC.permute(2, 0, 1).contiguous().to(torch.float32).div(255).sub_(MEAN).div_(STD)


class Folder(Dataset[tuple[torch.Tensor, int]]):
    """torchvision's ImageFolder."""

    def __init__(self, folder: Path) -> None:
        self.files = [(path, label) for label in range(4) for path in sorted((folder / f"c{label}").iterdir())]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        path, label = self.files[index]
        with path.open("rb") as file:
            return prepared(Image.open(file).convert("RGB")), label


def _sample(sample: tuple[Any, int]) -> tuple[torch.Tensor, int]:
    return prepared(sample[0]), sample[1]


def by_webdataset(shards: Path) -> Iterator[Any]:
    """One pass through shards, shuffled in a buffer, as WebDataset's own examples do it."""
    files = sorted(map(str, shards.glob("*.tar")))
    peer = cast(Any, webdataset)
    stream = peer.WebDataset(files, shardshuffle=len(files), empty_check=False)
    ready = stream.shuffle(_IMAGES).decode("pil").to_tuple("jpg", "cls").map(_sample)
    return iter(DataLoader(ready, batch_size=_BATCH))


def ours(data: Path, seed: int) -> Iterator[Any]:
    """What a learner does to images, up to the network's numbers."""
    spec, images, here = registry.model("alexnet_owt"), open_images(data, "train"), torch.device("cpu")
    places = [range(i, i + _BATCH) for i in range(0, _IMAGES, _BATCH)]
    augment = Augment(images, spec, registry.recipe(spec), seed, here)
    assert spec.preprocessing is not None
    for place, batch in zip(places, Batches(TrainingStream(images, spec, seed), places, 0), strict=True):
        yield augment(batch, place).inputs(spec.preprocessing, here)


def rate(passes: Callable[[int], Iterator[Any]], turn: int) -> float:
    """Images a second of one core in one pass."""
    start = time.process_time()
    count = sum(1 for _ in passes(turn)) * _BATCH
    assert count == _IMAGES
    return count / (time.process_time() - start)


def speeds(root: Path, shards: Path) -> str:
    """Every way in turn, A B C A B C ..., so that a drifting machine meets all alike; the best of each."""
    ways: dict[str, Callable[[int], Iterator[Any]]] = {
        "Pillow, torchvision's steps, from folders": lambda _: iter(
            DataLoader(Folder(root / "train"), batch_size=_BATCH, shuffle=True)
        ),
        "**from folders**": lambda turn: ours(root, turn),
        "WebDataset, from the same shards": lambda _: by_webdataset(shards / "train"),
        "**from shards**": lambda turn: ours(shards, turn),
    }
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {min(cores)})
    rounds = [{name: rate(passes, turn) for name, passes in ways.items()} for turn in range(_ROUNDS)]
    os.sched_setaffinity(0, cores)
    torch.set_num_threads(threads)
    best = {name: max(found[name] for found in rounds) for name in ways}
    first, goals = next(iter(best.values())), {"**from folders**": "1.0 x", "**from shards**": "3 x"}
    rows = [[name, f"{speed:.0f}", f"{speed / first:.2f} x", goals.get(name, "-")] for name, speed in best.items()]
    return table(["one core", "images/s", "against Pillow", "goal"], rows)


# What listing takes the first process of a machine, in seconds; what it takes another one, in seconds and in megabytes
# of its own; and the list itself, which they share.
_OPEN = """
import sys, time
from pathlib import Path
from zoo.training.datasets import open_images
from zoo.training.listing import read, write
def megabytes():
    return sum(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "RssAnon" in line)
start = time.process_time()
images = open_images(sys.argv[1], "train")
listed = time.process_time()
images.digests()
known = time.process_time()
path, count = write((images, images)), len(images)
del images
before, start_2 = megabytes(), time.process_time()
images, _ = read(path)
digests = images.digests()
print(count, listed - start, known - listed, time.process_time() - start_2, (megabytes() - before) / 1e3, end=" ")
print(path.stat().st_size / 1e6)
path.unlink()
"""
_DEVICES = 8


def start_up(folder: Path) -> str:
    """How long it takes to know what images there are, and the memory that it takes a machine."""
    names = (f"c{label:04d}/{label:04d}_{i:05d}.JPEG" for label in range(1000) for i in range(_FILES // 1000))
    for label in range(1000):
        (folder / "files" / "train" / f"c{label:04d}").mkdir(parents=True)
    for name in names:
        (folder / "files" / "train" / name).touch()
    synthetic_index(folder / "shards" / "train")
    rows = list[list[str]]()
    for name in ("files", "shards"):
        told = subprocess.run([sys.executable, "-c", _OPEN, folder / name], capture_output=True, text=True, check=True)
        count, *costs = map(float, told.stdout.split())
        seconds, known, mapped, own, whole = (cost * _IMAGENET / count for cost in costs)
        rows.append(
            [name, f"{count:,.0f}", f"{costs[0]:.2f} s", f"{seconds:.1f} s", f"{known:.1f} s", f"{mapped:.1f} s"]
        )
        rows[-1] += [f"{whole + _DEVICES * max(own, 0):.0f} MB"]
    header = ["listed", "images", "processor", "of 1,281,167", "fingerprint", "another process", "memory of 8 devices"]
    return table(header, rows)


def synthetic_index(folder: Path) -> None:
    """An index of as many images as ImageNet has, and a shard of the size that it speaks of, with nothing in it."""
    folder.mkdir(parents=True)
    counts = {name: np.zeros(_IMAGENET, dtype) for name, dtype in COLUMNS.items()}
    about = json.dumps({"classes": [str(i) for i in range(1000)], "side": 256})
    save_file(counts | {"sizes": np.array([512], np.int64)}, folder / INDEX, {"shards": about})
    (folder / "shard-000000.tar").write_bytes(bytes(512))


def main() -> str:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photographs(folder / "images")
        pack_folder(folder / "images", folder / "packed", side=256)
        return f"{speeds(folder / 'images', folder / 'packed')}\n\n{start_up(folder)}"


if __name__ == "__main__":
    print(main())
