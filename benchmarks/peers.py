"""The nine networks of onnx's own tests in this project and in its peers, each from file to first answer.

A peer that cannot be imported is named with the reason. onnx2torch and onnx2tf are on PyPI; onnx2caffe is not: it wants
a clone of github.com/MTLab/onnx2caffe on PYTHONPATH, and pycaffe.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx

from benchmarks.measure import table
from benchmarks.strangers import LIGHT, with_random_weights
from converters.weights import Array
from zoo import registry
from zoo.frameworks import onnx as ours
from zoo.wire.mapped import mapped
from zoo.wire.onnx import parse

# Of an output's peak: what a different order of additions does to vgg19 is a tenth of it.
_BUDGET = 1e-4
_LONGEST = 900  # seconds
_TOLD = 120  # characters of a reason

Answer = Callable[[], Array]


def _zoo(framework: str) -> Callable[[Path, Array], Answer]:
    def prepare(file: Path, image: Array) -> Answer:
        forward = registry.framework(framework).forward

        def answer() -> Array:
            net = ours.read_graph(parse(mapped(file), file.parent), file.stem, file.name)
            weights = {name: np.ascontiguousarray(array) for name, array in net.parameters.items()}
            (source,), (output,) = net.spec.inputs, net.spec.outputs
            return forward(net.spec, weights, {source.name: image})[output]

        return answer

    return prepare


def _onnx2torch(file: Path, image: Array) -> Answer:
    onnx2torch, torch = import_module("onnx2torch"), import_module("torch")

    def answer() -> Array:
        with torch.inference_mode():
            return onnx2torch.convert(str(file)).eval()(torch.from_numpy(image)).numpy()

    return answer


def _onnx2tf(file: Path, image: Array) -> Answer:
    onnx2tf = import_module("onnx2tf")
    # It compares itself with ONNX Runtime on pictures that it downloads; any picture does.
    pictures = np.random.default_rng(0).random((20, 128, 128, 3), np.float32)
    onnx2tf.onnx2tf.download_test_image_data = lambda: pictures

    def answer() -> Array:
        made = onnx2tf.convert(input_onnx_file_path=str(file), output_folder_path=str(file.parent), non_verbose=True)
        return np.asarray(made(image.transpose(0, 2, 3, 1)))

    return answer


def _onnx2caffe(file: Path, image: Array) -> Answer:
    converter = import_module("convertCaffe")

    def answer() -> Array:
        net = converter.convertToCaffe(
            converter.getGraph(str(file)), f"{file}.prototxt", str(file.with_suffix(".caffemodel"))
        )
        net.blobs[net.inputs[0]].data[...] = image
        return net.forward()[net.outputs[-1]]

    return answer


READERS: dict[str, Callable[[Path, Array], Answer]] = {
    "zoo, PyTorch": _zoo("pytorch"),
    "onnx2torch": _onnx2torch,
    "zoo, TF-slim": _zoo("tf_slim"),
    "onnx2tf": _onnx2tf,
    "zoo, Caffe": _zoo("caffe"),
    "onnx2caffe": _onnx2caffe,
}


def _one(reader: str, file: Path) -> dict[str, Any]:
    """What a reader makes of a file, in this process: from the file to its first answer, once all is imported."""
    image, right = np.load(file.with_suffix(".image.npy")), np.load(file.with_suffix(".answer.npy"))
    try:
        answer = READERS[reader](file, image)
    except ImportError as error:
        return {"missing": str(error)}
    started = time.perf_counter()
    try:
        found = answer()
    except BaseException as error:  # noqa: BLE001 - a peer may raise anything, and may exit
        return {"refused": f"{type(error).__name__}: {error}"}
    seconds = time.perf_counter() - started
    same = found.size == right.size
    error = np.abs(found.reshape(-1) - right.reshape(-1)).max() / np.abs(right).max() if same else np.inf
    status = Path("/proc/self/status").read_text()  # getrusage would count what the parent held when it started this
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    return {"error": float(error), "seconds": seconds, "megabytes": peak}


def _told(reader: str, file: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.peers", reader, str(file)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST, check=False)
    except subprocess.TimeoutExpired:
        return {"refused": f"no answer in {_LONGEST} s"}
    last = (done.stdout.strip().splitlines() or [""])[-1]
    if done.returncode or not last.startswith("{"):
        return {"refused": f"its process ended with {done.returncode}"}
    return json.loads(last)


def _cell(told: Mapping[str, Any]) -> str:
    if "refused" in told:
        reason = " ".join(str(told["refused"]).split()).replace("|", "/")
        return f"refused: {reason[:_TOLD]}{'...' if len(reason) > _TOLD else ''}"
    verdict = "right" if told["error"] <= _BUDGET else "wrong"
    return f"{verdict} ({told['error']:.0e}), {told['seconds']:.1f} s, {told['megabytes']:,.0f} MB"


def prepared(path: Path, folder: Path) -> Path:
    """A network of the nine with random weights, an image, and ONNX Runtime's answer."""
    rng, model, file = np.random.default_rng(0), onnx.load(path), folder / path.name.removeprefix("light_")
    with_random_weights(model, rng)
    onnx.save(model, file)
    stored = {tensor.name for tensor in model.graph.initializer}
    read = {name for node in model.graph.node for name in node.input}
    fed = {
        item.name: rng.normal(size=[size.dim_value for size in item.type.tensor_type.shape.dim]).astype("f")
        for item in model.graph.input
        if item.name not in stored
    }
    (image,) = (array for name, array in fed.items() if name in read)
    (answer,) = ours.run(file, fed).values()
    np.save(file.with_suffix(".image.npy"), image)
    np.save(file.with_suffix(".answer.npy"), answer)
    return file


def main() -> str:
    """The table of docs/onnx-file.md, and what could not be run."""
    rows, missing = list[tuple[str, ...]](), dict[str, str]()
    for path in sorted(LIGHT.glob("light_*.onnx")):
        with TemporaryDirectory(prefix="zoo-peers-") as folder:
            file, cells = prepared(path, Path(folder)), dict[str, str]()
            for reader in READERS:
                told = {} if reader in missing else _told(reader, file)
                if "missing" in told:
                    missing[reader] = told["missing"]
                elif told:
                    cells[reader] = _cell(told)
                    print(f"{file.stem}: {reader}: {cells[reader]}", file=sys.stderr, flush=True)
        rows.append((file.stem, *(cells.get(reader, "") for reader in READERS if reader not in missing)))
    text = table(("network", *(reader for reader in READERS if reader not in missing)), rows)
    return "\n\n".join([text, *(f"Not run: {reader} ({why})." for reader, why in missing.items())])


if __name__ == "__main__":
    print(json.dumps(_one(sys.argv[1], Path(sys.argv[2]))) if sys.argv[1:] else main())
