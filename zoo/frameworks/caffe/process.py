"""The process `pycaffe` starts: Caffe runs the network it finds in a folder, CPU, TEST phase.

The folder holds ``net.prototxt``, ``net.caffemodel``, the arrays of ``inputs.npz`` and in ``blobs.json`` the names of
input and output blobs; it gets ``outputs.npz``, in the order of the names. Without a folder, Caffe's version is said.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, cast

import caffe  # pyright: ignore[reportMissingImports]  # on no package index: built from source
import numpy as np

_caffe = cast(Any, caffe)


def run(folder: Path) -> None:
    """Run the network of a folder; where Caffe's own checks refuse it, they end this process."""
    _caffe.set_mode_cpu()
    net = _caffe.Net(str(folder / "net.prototxt"), _caffe.TEST)
    net.copy_from(str(folder / "net.caffemodel"))
    blobs: dict[str, list[str]] = json.loads((folder / "blobs.json").read_text(encoding="utf-8"))
    with np.load(folder / "inputs.npz") as arrays:
        for name, array in zip(blobs["inputs"], arrays.values(), strict=True):
            net.blobs[name].data[...] = array
    net.forward()
    np.savez(folder / "outputs.npz", *(net.blobs[name].data for name in blobs["outputs"]))


def main(arguments: list[str]) -> None:
    """Run a folder, or say the version of a Caffe that can run one."""
    if arguments:
        run(Path(arguments[0]))
    elif callable(_caffe.Net):  # a folder that happens to be called caffe imports, too
        sys.stdout.write(f"{getattr(_caffe, '__version__', 'of unknown version')}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
