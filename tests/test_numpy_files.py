"""``.npy`` dictionaries and ``.npz`` archives: read as their makers wrote them, and without running anything."""

from __future__ import annotations

import io
import pickle
import random
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from converters.convert import load, save
from converters.formats import numpy as npy
from converters.weights import Weights
from zoo.errors import FileFormatError, WeightsError
from zoo.layers import BatchNorm, Bias, Conv, Dense, Input, ModelSpec, Pool, Scale
from zoo.shapes import parameter_shapes
from zoo.wire.npy_pickle import loads

SPEC = ModelSpec(
    name="tiny",
    title="tiny",
    inputs=(Input(name="data", shape=(4, 9, 9)),),
    layers=(
        Conv(name="conv1", out_channels=6, kernel=(3, 2), groups=2),
        BatchNorm(name="norm"),
        Scale(name="scale", bias=True),
        Bias(name="shift"),
        Pool(name="pool", mode="max", kernel=(3, 3), stride=(2, 2)),
        Dense(name="fc6", out_features=70),
        Dense(name="fc7", out_features=70),
    ),
)


def probe() -> Weights:
    rng = np.random.default_rng(0)
    tensors = {name: rng.normal(size=shape).astype("f") for name, shape in parameter_shapes(SPEC).items()}
    return Weights(spec=SPEC, tensors=tensors, source="probe")


def caffe_tensorflow(weights: Weights) -> dict[str, Any]:
    """The dictionary as caffe-tensorflow would write it, made by hand."""
    w = weights.tensors
    return {
        "conv1": {"weights": w["conv1.weight"].transpose(2, 3, 1, 0), "biases": w["conv1.bias"]},
        "norm": {"mean": w["norm.mean"], "variance": w["norm.variance"]},
        "scale": {"weights": w["scale.weight"], "biases": w["scale.bias"]},
        "shift": {"biases": w["shift.bias"]},
        "fc6": {
            "weights": w["fc6.weight"].reshape(70, 6, 3, 4).transpose(2, 3, 1, 0).reshape(-1, 70),
            "biases": w["fc6.bias"],
        },
        "fc7": {"weights": w["fc7.weight"].T, "biases": w["fc7.bias"]},
    }


def same(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    assert set(a) == set(b)
    for name in a:
        np.testing.assert_array_equal(
            np.ascontiguousarray(a[name]).view("u4"), np.ascontiguousarray(b[name]).view("u4")
        )


def in_npy(content: bytes) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
    return file.getvalue() + content


@pytest.mark.parametrize("form", ["numpy 2", "numpy 1", "protocol 2", "lists", "fortran"])
def test_a_dictionary_as_others_wrote_it(tmp_path: Path, form: Any) -> None:
    weights = probe()
    layers = caffe_tensorflow(weights)
    if form == "lists":
        layers = {layer: list(arrays.values()) for layer, arrays in layers.items()}
    if form != "fortran":
        layers = {
            k: {n: np.ascontiguousarray(a) for n, a in v.items()} if isinstance(v, dict) else v
            for k, v in layers.items()
        }
    path = tmp_path / "net.npy"
    if form in ("numpy 1", "protocol 2"):
        content = pickle.dumps(np.array(layers, dtype=object), 2)
        old = content.replace(b"cnumpy._core.", b"cnumpy.core.")
        assert old != content
        path.write_bytes(in_npy(old if form == "numpy 1" else content))
    else:
        np.save(path, cast(Any, layers))
    same(load(path, spec=SPEC).tensors, weights.tensors)


@pytest.mark.parametrize("whole", [True, False])
def test_an_archive_of_objects(tmp_path: Path, whole: bool, caplog: pytest.LogCaptureFixture) -> None:
    weights = probe()
    layers = {k: {n: np.ascontiguousarray(a) for n, a in v.items()} for k, v in caffe_tensorflow(weights).items()}
    lists = {layer: np.empty(len(arrays), dtype=object) for layer, arrays in layers.items()}
    for layer, arrays in layers.items():
        lists[layer][:] = list(arrays.values())
    caplog.set_level("INFO")
    np.savez(tmp_path / "net.npz", epoch=3, note=np.array("mine"), **cast(Any, layers if whole else lists))
    same(load(tmp_path / "net.npz", spec=SPEC).tensors, weights.tensors)
    assert "note is a text, left out" in caplog.text


def test_a_dictionary_of_python_2(tmp_path: Path) -> None:
    # Byte strings for names and for numbers, and the opcodes of protocol 2.
    def string(text: Any):
        return b"U" + bytes([len(text)]) + text

    numbers = np.arange(2000, dtype="<f4") - 1000
    raw = numbers.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + string(b"b") + b"\x87R"
    kind = (
        b"cnumpy\ndtype\n"
        + string(b"f4")
        + b"K\x00K\x01\x87R(K\x03"
        + string(b"<")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    objects = (
        b"cnumpy\ndtype\n"
        + string(b"O8")
        + b"K\x00K\x01\x87R(K\x03"
        + string(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb"
    )
    weights = array + b"(K\x01M\xe8\x03K\x02\x86" + kind + b"\x89T" + len(raw).to_bytes(4, "little") + raw + b"tb"
    short = array + b"(K\x01K\x01\x85" + kind + b"\x89" + string(b"\xff\x00\x80\x3f") + b"tb"
    layer = b"}(" + string(b"weights") + weights + string(b"biases") + short + b"u"
    content = b"\x80\x02" + array + b"(K\x01)" + objects + b"\x89]}" + string(b"fc") + layer + b"satb."
    path = tmp_path / "old.npy"
    path.write_bytes(in_npy(content))
    read = npy.read(path).tensors
    np.testing.assert_array_equal(read["fc/weights"], numbers.reshape(1000, 2))
    assert read["fc/biases"].tobytes() == b"\xff\x00\x80\x3f"
    theirs = np.load(path, allow_pickle=True, encoding="latin1").item()
    np.testing.assert_array_equal(theirs["fc"]["weights"], read["fc/weights"])


def test_what_we_write_numpy_reads(tmp_path: Path) -> None:
    weights = probe()
    save(weights, tmp_path / "net.npy")
    theirs = np.load(tmp_path / "net.npy", allow_pickle=True).item()
    expected = caffe_tensorflow(weights)
    assert list(theirs) == list(expected)
    for layer in expected:
        same(theirs[layer], expected[layer])
    same(load(tmp_path / "net.npy", spec=SPEC).tensors, weights.tensors)
    first = (tmp_path / "net.npy").read_bytes()
    save(weights, tmp_path / "net.npy", force=True)
    assert (tmp_path / "net.npy").read_bytes() == first


def test_npz_both_ways(tmp_path: Path) -> None:
    weights = probe()
    save(weights, tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz", allow_pickle=False) as theirs:
        assert theirs.files == list(weights.tensors)
        same({name: theirs[name] for name in theirs.files}, weights.tensors)
    loaded = load(tmp_path / "net.npz")
    assert loaded.spec == SPEC, "the network travels with the numbers"
    same(loaded.tensors, weights.tensors)
    first = (tmp_path / "net.npz").read_bytes()
    save(weights, tmp_path / "net.npz", force=True)
    assert (tmp_path / "net.npz").read_bytes() == first
    for writer in (np.savez, np.savez_compressed):
        writer(tmp_path / "theirs.npz", **cast("dict[str, Any]", weights.tensors))
        same(load(tmp_path / "theirs.npz", spec=SPEC).tensors, weights.tensors)


@pytest.mark.parametrize("words", [("/W", "/b"), ("_weights", "_biases"), (".w", ".b"), ("/kernel", "/bias")])
@pytest.mark.parametrize("stem", ["{}", "net/{}", "l{}"])
def test_an_archive_of_arrays_named_as_people_name_them(tmp_path: Path, words: tuple[str, str], stem: str) -> None:
    spec = SPEC.without("norm", "scale", "shift")
    weights = {name: array for name, array in probe().tensors.items() if name in parameter_shapes(spec)}
    named = dict[str, Any]()
    for name, array in weights.items():
        layer, _, role = name.partition(".")
        named[stem.format(layer if stem != "l{}" else layer[-1]) + words[role == "bias"]] = array
    np.savez(tmp_path / "theirs.npz", **named)
    same(load(tmp_path / "theirs.npz", spec=spec).tensors, weights)


class Evil:
    def __init__(self, target: Any) -> None:
        self.target = target

    def __reduce__(self):
        return (exec, (f"open({self.target!r}, 'w').close()",))


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_malicious_pickle_is_refused_and_does_nothing(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "owned"
    path = tmp_path / "evil.npy"
    path.write_bytes(in_npy(pickle.dumps(np.array({"conv1": {"weights": Evil(str(target))}}, dtype=object), protocol)))
    with pytest.raises(FileFormatError) as caught:
        npy.read(path)
    assert "\n" not in str(caught.value)
    assert not target.exists()
    with pytest.raises(FileFormatError):
        npy.read(_archive_of(tmp_path / "evil.npz", path.read_bytes()))
    assert not target.exists()
    assert np.load(path, allow_pickle=True) is not None
    assert target.exists(), "the instance is a real one: NumPy itself runs it"


def _archive_of(path: Path, content: Any):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("conv1.weight.npy", content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"\x80\x02cbuiltins\neval\nU\x011\x85R.",
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nN\x85R}U\x05__d__Nsb.",  # a state that is none
        b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"Ns.",  # a key nested 100,000 deep
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # a memo of 2 billion places
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fx",  # 2^63 bytes, declared
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nJ\xff\xff\xff\x7f\x85U\x01b\x87R.",
        b"\x80\x02(lp0\n.",
        b"\x80\x02N.",
        b"\x80\x02",
        b"",
    ],
)
def test_hostile_pickles_are_refused(content: Any) -> None:
    with pytest.raises(ValueError, match=r".+"):
        loads(memoryview(content))


def test_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    cases = {
        "one.npy": lambda path: np.save(path, np.zeros((2, 3), "f")),
        "objects.npy": lambda path: np.save(path, np.array([{"a": 1}, None], dtype=object)),
        "words.npy": lambda path: np.save(path, cast(Any, {"conv1": {"weights": "none"}})),
        "text.npy": lambda path: path.write_text("no array"),
        "empty.npy": lambda path: path.write_bytes(b""),
        "struct.npz": lambda path: np.savez(path, a=np.zeros(2, "f4,i4")),
        "bomb.npz": lambda path: np.savez_compressed(path, a=np.zeros(1 << 26, "f")),
    }
    for name, make in cases.items():
        make(tmp_path / name)
        with pytest.raises(FileFormatError) as caught:
            npy.read(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileFormatError):
        npy.read(tmp_path / "missing.npy")


def test_left_over_and_missing_arrays_are_named(tmp_path: Path) -> None:
    layers = caffe_tensorflow(probe())
    del layers["fc7"]["biases"]
    layers["conv9"] = {"weights": np.zeros(3, "f")}
    np.save(tmp_path / "net.npy", cast(Any, layers))
    with pytest.raises(WeightsError, match=r"fc7/biases is missing.*conv9/weights is not a parameter"):
        load(tmp_path / "net.npy", spec=SPEC)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_damage_is_read_or_refused(tmp_path: Path, suffix: str) -> None:
    path, rng = tmp_path / f"net{suffix}", random.Random(0)
    save(probe(), path)
    original = path.read_bytes()
    for attempt in range(400):
        damaged = bytearray(original)
        if attempt % 3 == 0:
            del damaged[rng.randrange(len(damaged)) :]
        elif attempt % 3 == 1:
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        else:
            start = rng.randrange(1000)
            damaged[start : start + 4] = rng.randbytes(4)
        path.write_bytes(damaged)
        try:
            npy.read(path)
        except FileFormatError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compression_that_unfolds_beyond_what_is_declared_is_refused(tmp_path: Path, method: int) -> None:
    """zipfile unpacks these whole, whatever size the archive declares: 30 MB here, behind 1 kB and a lie."""
    with zipfile.ZipFile(tmp_path / "w.npz", "w", method) as archive, archive.open("conv1.weight.npy", "w") as member:
        for _ in range(30):
            member.write(bytes(1_000_000))
    data = (tmp_path / "w.npz").read_bytes()
    (tmp_path / "w.npz").write_bytes(data.replace((30_000_000).to_bytes(4, "little"), (400).to_bytes(4, "little")))
    with pytest.raises(FileFormatError, match="in a way that NumPy does not write"):
        npy.read(tmp_path / "w.npz")


def test_an_archive_that_points_before_its_beginning_is_refused(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"conv1.weight": np.zeros(3, "f")}
    np.savez_compressed(tmp_path / "w.npz", **arrays)
    data = bytearray((tmp_path / "w.npz").read_bytes())
    at = data.index(b"PK\x01\x02") + 42
    data[at : at + 4] = b"\xff" * 4
    (tmp_path / "w.npz").write_bytes(data)
    with pytest.raises(FileFormatError, match=r"w\.npz"):
        npy.read(tmp_path / "w.npz")


@pytest.mark.parametrize("nested", ["(" * 3000, "[" * 9000, "-" * 9000 + "1", "{'a':" * 900])
def test_a_header_of_nested_brackets_is_refused(tmp_path: Path, nested: Any) -> None:
    """Python's parser answers these with MemoryError or RecursionError."""
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("w.npy", b"\x93NUMPY\x01\x00" + len(nested).to_bytes(2, "little") + nested.encode())
    with pytest.raises(FileFormatError, match="no sound NumPy file"):
        npy.read(tmp_path / "w.npz")


def test_a_mean_image_among_weights_is_told_where_it_belongs(tmp_path: Path) -> None:
    np.save(tmp_path / "ilsvrc_2012_mean.npy", np.zeros((3, 2, 2)))
    with pytest.raises(FileFormatError, match="give a mean with --mean"):
        load(tmp_path / "ilsvrc_2012_mean.npy")
