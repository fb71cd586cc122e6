"""What a report says of where it was made: the versions of what took part, and its files by their content."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

from converters.verdicts import FileFact
from zoo import registry

# The packages whose versions a report gives, where they are installed.
_PACKAGES = (
    *("numpy", "torch", "tensorflow", "tf-slim", "keras", "jax", "tf2onnx", "caffe2onnx"),
    *("onnx", "onnxruntime", "onnxscript"),
    *("opencv-python-headless", "opencv-python", "alexnet-zoo"),
)


def versions() -> dict[str, str]:
    """Package -> version of everything installed that takes part."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in dict.fromkeys((*_PACKAGES, *map(registry.runtime_distribution, registry.runtimes()))):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def hashing(files: Sequence[Path]) -> Callable[[], tuple[FileFact, ...]]:
    """Begin to hash files, while others of the work wait for each other; what comes back waits for the hashes."""
    pool = ThreadPoolExecutor(thread_name_prefix="hash")
    hashes = [pool.submit(sha256, path) for path in files]
    pool.shutdown(wait=False)

    def facts() -> tuple[FileFact, ...]:
        return tuple(FileFact(path=str(path), sha256=told.result()) for path, told in zip(files, hashes, strict=True))

    return facts


def sha256(path: Path) -> str:
    """The hash of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
