"""`zoo info` on a full-size file of every format, each written by the format's own writer where it has one."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.measure import ZOO, compare, run, table

_MODEL = "bvlc_alexnet"
_GOAL = "< 0.5 s, < 150 MB"
_SEED = """
import sys
from pathlib import Path
from converters.convert import save
from converters.parity import probe_weights
from zoo import registry
save(probe_weights(registry.model(sys.argv[2])), Path(sys.argv[1]))
"""
# What each writer is given: the canonical weights (`weights`), the tensors as TF-slim and MatConvNet lay them out
# (`slim`, `mat`), and the path to be written.
_START = """
import sys
from pathlib import Path
import numpy as np
from converters.convert import load
from converters.formats import matconvnet, tf_slim
from converters.tensormap import to_native
weights = load(sys.argv[1])
path = sys.argv[2]
tensors = {name: np.asarray(tensor) for name, tensor in weights.tensors.items()}
slim, mat = (to_native(weights, form.entries(weights.spec, None)) for form in (tf_slim, matconvnet))
"""
_CELLS = """
from scipy import io
rows = list(mat.items())
layers = np.empty((1, len(rows) // 2), object)
for i, ((name, kernel), (_, bias)) in enumerate(zip(rows[::2], rows[1::2])):
    parts = np.empty((1, 2), object)
    parts[0, 0], parts[0, 1] = kernel, bias.reshape(1, -1)
    layers[0, i] = {"type": "conv", "name": name.split("/")[-2], "weights": parts}
"""
# MATLAB's -v7.3 is HDF5 behind 512 bytes of text; a cell refers to what it holds.
_HDF5_CELLS = """
import h5py
with h5py.File(path, "w", userblock_size=512) as file:
    held = []
    for i, (name, tensor) in enumerate(mat.items()):
        layer, kind = name.split("/")[-2:]
        file[f"#refs#/n{i}"] = (tensor if kind == "weights" else tensor.reshape(1, -1)).T
        file[f"#refs#/n{i}"].attrs["MATLAB_class"] = np.bytes_("single")
        held.append((layer, file[f"#refs#/n{i}"].ref))
    cells = []
    for i, ((layer, kernel), (_, bias)) in enumerate(zip(held[::2], held[1::2])):
        group = file.create_group(f"#refs#/l{i}")
        group.attrs["MATLAB_class"] = np.bytes_("struct")
        for key, word in (("type", "conv"), ("name", layer)):
            group[key] = np.array([[ord(letter)] for letter in word], np.uint16)
            group[key].attrs["MATLAB_class"] = np.bytes_("char")
        group["weights"] = np.array([[kernel], [bias]], h5py.ref_dtype)
        group["weights"].attrs["MATLAB_class"] = np.bytes_("cell")
        cells.append([group.ref])
    file["layers"] = np.array(cells, h5py.ref_dtype)
    file["layers"].attrs["MATLAB_class"] = np.bytes_("cell")
with open(path, "r+b") as file:
    file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + bytes.fromhex("0002494d"))
"""
_TF = "import tensorflow as tf\nvariables = {name: tf.Variable(tensor) for name, tensor in slim.items()}\n"
_TORCH = "import torch\nstate = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}\n"
# Title -> the name of the file (or of what is looked at), and what writes it; without, `zoo convert`.
_FORMS = {
    "safetensors": ("a.safetensors", ""),
    "PyTorch": ("a.pt", _TORCH + "torch.save(state, path)"),
    "PyTorch before 1.6": ("old.pth", _TORCH + "torch.save(state, path, _use_new_zipfile_serialization=False)"),
    "caffemodel": ("a.caffemodel", ""),
    "Caffe's HDF5": (
        "a.caffemodel.h5",
        "import h5py\nwith h5py.File(path, 'w') as file:\n    for name, tensor in tensors.items():\n"
        "        file['data/' + name.replace('.weight', '/0').replace('.bias', '/1')] = tensor",
    ),
    "ONNX": ("a.onnx", ""),
    "ONNX, numbers in a file beside it": (
        "apart.onnx",
        "import onnx\nfrom converters.convert import save\nsave(weights, Path(path))\n"
        "onnx.save(onnx.load(path), path, save_as_external_data=True, location='apart.data')",
    ),
    "checkpoint of TensorFlow 1": (
        "one.ckpt",
        _TF
        + "tf.compat.v1.disable_eager_execution()\ngraph = {n: tf.compat.v1.get_variable(n, initializer=t) for n, t "
        "in slim.items()}\nwith tf.compat.v1.Session() as session:\n"
        "    session.run(tf.compat.v1.global_variables_initializer())\n"
        "    tf.compat.v1.train.Saver(graph).save(session, path, write_meta_graph=False)",
    ),
    "checkpoint of TensorFlow 2": ("two-1", _TF + "tf.train.Checkpoint(**variables).save(path.removesuffix('-1'))"),
    "SavedModel": (
        "saved",
        _TF + "module = tf.Module()\nmodule.all = variables\ntf.saved_model.save(module, path)",
    ),
    "Keras": ("a.keras", ""),
    "Keras's weights": ("a.weights.h5", ""),
    "Keras's older .h5": ("a.h5", ""),
    "MatConvNet": ("a.mat", _CELLS + "io.savemat(path, {'layers': layers})"),
    "MatConvNet, compressed": ("packed.mat", _CELLS + "io.savemat(path, {'layers': layers}, do_compression=True)"),
    "MatConvNet, MATLAB 7.3": ("seven.mat", _HDF5_CELLS),
    "npz": ("a.npz", "np.savez(path, **tensors)"),
    "npz, compressed": ("packed.npz", "np.savez_compressed(path, **tensors)"),
    "npy of a dictionary": ("a.npy", ""),
}


def main() -> str:
    with tempfile.TemporaryDirectory() as name:
        return _measure(Path(name))


def _measure(folder: Path) -> str:
    source = folder / "seed.safetensors"
    run([sys.executable, "-c", _SEED, str(source), _MODEL])
    commands = dict[str, list[str]]()
    for title, (name, writer) in _FORMS.items():
        own = [sys.executable, "-c", _START + writer, str(source), str(folder / name)]
        run(own if writer else [ZOO, "convert", str(source), "-o", str(folder / name)])
        commands[title] = [ZOO, "info", str(folder / name)]
    costs = compare(commands)
    rows = [[title, f"{cost.processor:.2f} s", f"{cost.megabytes:.0f} MB", _GOAL] for title, cost in costs.items()]
    return table(["`zoo info` on 244 MB", "of a processor, median of 5", "peak", "goal"], rows)


if __name__ == "__main__":
    print(main())
