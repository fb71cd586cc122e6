"""Files made to do harm: each is refused in one line, runs nothing, reads and writes nothing outside its folder."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from safetensors.numpy import save_file

from converters import manifest
from converters.cli import main
from converters.convert import load, save
from converters.fetch import fetch
from converters.manifest import ManifestEntry
from converters.names import read_map
from converters.parity import probe_weights
from tests.small import small_weights
from zoo.api import generate
from zoo.errors import ZooError
from zoo.frameworks.caffe import read_prototxt
from zoo.spec_json import METADATA_KEY

SENTINEL = "executed"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The folder of the evil file; beside it, not in it, lies a secret."""
    folder = tmp_path / "home"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(np.arange(64, dtype=np.float32).tobytes())
    return folder


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def refused(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: object) -> str:
    """Run a command that must fail in one line and leave everything as it was; returns the line."""
    before = tree(folder)
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("zoo: ") and said.err.count("\n") == 1
    assert "internal error" not in said.err, said.err
    assert len(said.err) < 1000
    assert tree(folder) == before
    assert not (folder / SENTINEL).exists()
    return said.err


def every_way(capsys: pytest.CaptureFixture[str], home: Path, source: Path, model: str = "alexnet_mini") -> str:
    """A weights file, through every command that opens one."""
    refused(capsys, home.parent, "export", source, "--model", model, "-o", home / "out.onnx")
    refused(capsys, home.parent, "verify", source, "--model", model)
    return refused(capsys, home.parent, "convert", source, "--model", model, "-o", home / "out.safetensors")


def onnx_with_external(path: Path, location: str) -> None:
    weight = TensorProto(name="w", dims=[8, 8], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "256")):
        weight.external_data.add(key=key, value=value)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"])],
        "g",
        [value("x", TensorProto.FLOAT, ["N", 8])],
        [value("y", TensorProto.FLOAT, ["N", 8])],
        [weight],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.mark.parametrize("way", ["..", "absolute", "symlink", "through a folder", "hidden in dots"])
def test_onnx_tensors_kept_elsewhere(home: Path, way: str, capsys: pytest.CaptureFixture[str]) -> None:
    secret = home.parent / "secret.bin"
    (home / "link.bin").symlink_to(secret)
    (home / "sub").symlink_to(home.parent)
    location = {
        "..": "../secret.bin",
        "absolute": str(secret),
        "symlink": "link.bin",
        "through a folder": "sub/secret.bin",
        "hidden in dots": "./x/../../secret.bin",
    }[way]
    onnx_with_external(home / "w.onnx", location)
    assert "outside the folder" in every_way(capsys, home, home / "w.onnx")


def test_checkpoint_shards_kept_elsewhere(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(small_weights(), home / "w.ckpt")
    data = home / "w.ckpt.data-00000-of-00001"
    data.rename(home.parent / "stolen")
    data.symlink_to(home.parent / "stolen")
    assert "leads out of" in every_way(capsys, home, home / "w.ckpt")


MANIFEST = """schema: 1
weights:
  - id: evil
    model: alexnet
    framework: caffe
    format: caffemodel
    file: FILE
    urls: ["URL"]
    hash: sha256:{hash}
    size: 1
    licence: none
    source: a test
""".replace("{hash}", "0" * 64)


@pytest.mark.parametrize(
    ("file", "url"),
    [
        ("w.caffemodel", "http://example.org/w"),
        ("w.caffemodel", "ftp://example.org/w"),
        ("w.caffemodel", "file://host/share/w"),
        ("w.caffemodel", "file:w"),
        ("../w.caffemodel", "https://example.org/w"),
        ("/etc/w.caffemodel", "https://example.org/w"),
        (".bashrc", "https://example.org/w"),
    ],
)
def test_a_manifest_that_leads_astray(tmp_path: Path, file: str, url: str) -> None:
    good = MANIFEST.replace("FILE", "w.caffemodel").replace("URL", "https://example.org/w")
    (tmp_path / "m.yaml").write_text(good)
    assert manifest.read_manifest(tmp_path / "m.yaml")[0].id == "evil"
    (tmp_path / "m.yaml").write_text(MANIFEST.replace("FILE", file).replace("URL", url))
    with pytest.raises(ZooError, match="entry 'evil'"):
        manifest.read_manifest(tmp_path / "m.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "schema: 1\nweights: !!python/object/apply:os.system ['touch SENTINEL']\n",
        "schema: 1\nweights: [!!python/name:os.system ]\n",
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
        "[" * 50_000,
        "- " * 50_000,
        "? " * 20_000,
    ],
    ids=["command", "name", "billion laughs", "brackets", "dashes", "keys"],
)
def test_yaml_that_runs_or_grows(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.yaml").write_text(text.replace("SENTINEL", str(tmp_path / SENTINEL)))
    with pytest.raises(ZooError, match=r"m\.yaml") as caught:
        manifest.read_manifest(tmp_path / "m.yaml")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / SENTINEL).exists()


def test_yaml_whose_keys_are_numbers_of_one_hash(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("".join(f"{i * (2**61 - 1)}: conv1.weight\n" for i in range(9)))
    assert read_map(tmp_path / "m.yaml") == {str(i * (2**61 - 1)): "conv1.weight" for i in range(9)}


@pytest.mark.parametrize("name", ["w.npz", "w.pth"])
@pytest.mark.parametrize("member", ["../evil", "/tmp/zoo-evil", "a/../../evil"])
def test_archives_that_slip_out(home: Path, name: str, member: str, capsys: pytest.CaptureFixture[str]) -> None:
    array = io.BytesIO()
    np.save(array, np.zeros(3, np.float32))
    with zipfile.ZipFile(home / name, "w") as archive:
        archive.writestr(f"{member}.npy", array.getvalue())
        archive.writestr(f"{member}/data.pkl", pickle.dumps({}))
    every_way(capsys, home, home / name)
    assert not Path("/tmp/zoo-evil").exists() and not Path("/tmp/zoo-evil.npy").exists()


@pytest.mark.parametrize("name", ["w.npz", "w.pth"])
def test_archives_that_unfold_without_end(home: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    member = {"w.npz": "conv1.weight.npy", "w.pth": "archive/data/0"}[name]
    with zipfile.ZipFile(home / name, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open(member, "w") as stream:
            np.lib.format.write_array_header_1_0(
                stream, {"descr": "<f4", "fortran_order": False, "shape": (160 << 18,)}
            )
            for _ in range(160):
                stream.write(bytes(1 << 20))
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    assert (home / name).stat().st_size < 1 << 20
    assert "unfold" in (line := every_way(capsys, home, home / name)) or "compressed" in line


@pytest.mark.parametrize("length", [0, 1, 2**32, 2**62, 2**63, 2**64 - 1])
def test_a_safetensors_header_larger_than_anything(home: Path, length: int, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "w.safetensors").write_bytes(struct.pack("<Q", length) + b"{}")
    every_way(capsys, home, home / "w.safetensors")


def test_a_safetensors_description_that_is_deep_or_huge(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("[" * 100_000, '{"name":' * 50_000, '{"name": "x", "layers": ' + "9" * 10_000 + "}"):
        save_file({"w": np.zeros(3, np.float32)}, home / "w.safetensors", {METADATA_KEY: text})
        every_way(capsys, home, home / "w.safetensors")


@pytest.mark.parametrize("size", [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (9_000, 9_000)])
def test_a_picture_that_unfolds_without_end(
    home: Path, size: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1 << 20))
    (home / "i.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )
    line = refused(capsys, home.parent, "verify", "alexnet_mini", "--frameworks", "onnx", "--image", home / "i.png")
    assert "i.png" in line and ("bomb" in line or "damaged" in line)


def test_an_image_that_is_a_program(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pillow hands Encapsulated PostScript to Ghostscript."""
    program = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch {home.parent / SENTINEL}) (w) file\n"
    (home / "i.png").write_text(program)
    refused(capsys, home.parent, "verify", "alexnet_mini", "--frameworks", "onnx", "--image", home / "i.png")


@pytest.mark.parametrize(
    "text",
    [
        "layer {" * 100_000,
        "layer { a {" * 20_000 + "}" * 40_000,
        'name: "x"\n' * 100_000 + "layer {",
        "input: 'x' input_dim: 999999999999999999999 input_dim: 1 input_dim: 1 input_dim: 1",
        "layer { name: 'd' type: 'Input' top: 'd' input_param { shape { "
        + "dim: 4000000000 " * 4
        + "} } } layer { name: 'f' type: 'InnerProduct' bottom: 'd' top: 'f' "
        + "inner_product_param { num_output: 2147483647 } }",
    ],
    ids=["open", "closed", "long", "huge", "large"],
)
def test_a_prototxt_without_bottom(home: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "deploy.prototxt").write_text(text)
    save(small_weights(), home / "w.safetensors")
    refused(
        capsys,
        home.parent,
        *("convert", home / "w.safetensors", "--prototxt", home / "deploy.prototxt", "-o", home / "out.npz"),
    )
    refused(
        capsys,
        home.parent,
        *("generate", "--prototxt", home / "deploy.prototxt", "--framework", "onnx", "-o", home),
    )


EVIL_NAMES = (
    "../../evil",
    "/tmp/zoo-evil",
    '"""; import os; os.system("touch SENTINEL"); """',
    "x'); __import__('os').system('touch SENTINEL') #",
    'x\n__import__("os").system("touch SENTINEL")\n#',
    "\\",
)
PROTOTXT = """name: "NAME"
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: 3 dim: 8 dim: 8 }} }} }}
layer {{ name: "NAME" type: "Convolution" bottom: "data" top: "NAME"
  convolution_param {{ num_output: 4 kernel_size: 3 }} }}
layer {{ name: "fc" type: "InnerProduct" bottom: "NAME" top: "fc" inner_product_param {{ num_output: 2 }} }}
""".replace("{{", "{").replace("}}", "}")


@pytest.mark.parametrize("framework", ["pytorch", "tf_slim", "caffe", "onnx"])
@pytest.mark.parametrize("name", EVIL_NAMES)
def test_names_that_want_to_be_paths_or_code(
    home: Path, framework: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network's and a layer's name end up in file names and in printed source."""
    name = name.replace("SENTINEL", str(home.parent / SENTINEL))
    quoted = name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    (home / "deploy.prototxt").write_text(PROTOTXT.replace("NAME", quoted))
    assert read_prototxt(home / "deploy.prototxt").spec.layers[0].name == name
    before, out = tree(home.parent), home / "deep" / "out"
    command = ["generate", "--prototxt", home / "deploy.prototxt", "--framework", framework, "-o", out]
    assert main([str(argument) for argument in command]) in (0, 2)
    written = sorted(path for path in out.rglob("*") if path.is_file())
    assert tree(home.parent) - before <= {"home/deep", "home/deep/out", *(f"home/deep/out/{p.name}" for p in written)}
    for path in written:
        if path.suffix == ".py":
            words = {getattr(node, "id", getattr(node, "attr", None)) for node in ast.walk(ast.parse(path.read_text()))}
            assert not words & {"os", "__import__", "system"}
        elif path.suffix == ".prototxt" and path.name == "deploy.prototxt":
            assert read_prototxt(path).spec.layers[0].name == name
    assert not (home.parent / SENTINEL).exists()
    assert not list(Path("/tmp").glob("zoo-evil*"))


def test_a_caffemodel_s_own_name_is_no_path(home: Path) -> None:
    """Where the network is called is not where its files are written."""
    weights = small_weights()
    renamed = replace(weights, spec=replace(weights.spec, name="../../evil"))
    for name in ("w.caffemodel", "w.ckpt", "w.onnx", "w.pt", "w.safetensors", "w.npz"):
        save(renamed, home / name)
    assert {path.name for path in home.parent.iterdir()} == {"home", "secret.bin"}
    assert load(home / "w.safetensors").spec.name == "../../evil"


@pytest.mark.parametrize("framework", ["pytorch", "tf_slim", "keras", "onnx"])
@pytest.mark.parametrize("name", ["torch", "keras", "tf_slim", "NUL", "com1", "n" * 400])
def test_names_that_no_file_may_have(tmp_path: Path, framework: str, name: str) -> None:
    """Devices of Windows, packages that the source itself imports, and what is too long."""
    (path,) = generate(replace(small_weights("alexnet_mini").spec, name=name), framework, tmp_path)
    assert path.stem.startswith("n" * 100 if len(name) > 99 else "_")


def graph_in(attribute_name: str, tensor: TensorProto) -> onnx.NodeProto:
    """A node that holds a tensor where only a runtime would look for it."""
    value = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
    inner = helper.make_graph([helper.make_node("Identity", ["w"], ["o"])], "inner", [], [value], [tensor])
    branches: dict[str, Any] = {attribute_name: inner, "else_branch": inner}
    return helper.make_node("If", ["c"], ["z"], **branches)


@pytest.mark.parametrize("where", ["subgraph", "another type", "list of tensors", "function", "sparse"])
def test_onnx_tensors_kept_elsewhere_where_only_a_runtime_looks(
    home: Path, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save(small_weights("alexnet_mini"), home / "w.onnx")
    model = onnx.load(home / "w.onnx")
    kind = TensorProto.BFLOAT16 if where == "another type" else TensorProto.FLOAT
    stolen = TensorProto(name="stolen", dims=[4], data_type=kind, data_location=TensorProto.EXTERNAL)
    stolen.external_data.add(key="location", value="../secret.bin")
    listed = onnx.AttributeProto(name="all", type=onnx.AttributeProto.TENSORS, tensors=[stolen])
    node = helper.make_node("Constant", [], ["z"])
    node.attribute.append(listed)
    match where:
        case "subgraph":
            model.graph.node.append(graph_in("then_branch", stolen))
        case "another type":
            model.graph.initializer.append(stolen)
        case "list of tensors":
            model.graph.node.append(node)
        case "function":
            model.functions.append(helper.make_function("d", "f", [], ["z"], [node], []))
        case _:
            sparse = onnx.SparseTensorProto(values=stolen, dims=[4])
            node.attribute[0].CopyFrom(onnx.AttributeProto(name="s", sparse_tensor=sparse))
            model.graph.node.append(node)
    (home / "w.onnx").write_bytes(model.SerializeToString())
    assert "outside the folder" in every_way(capsys, home, home / "w.onnx")


@pytest.mark.parametrize(
    "command",
    [
        "convert w.safetensors -o x.npz --map pipe",
        "run w.safetensors w.safetensors --labels pipe",
        "train alexnet_mini --data digits -o run --recipe pipe",
    ],
)
def test_a_pipe_in_the_place_of_a_text_is_not_waited_for(
    home: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    save(small_weights(), home / "w.safetensors")
    os.mkfifo("pipe")
    assert main(command.split()) == 2
    assert capsys.readouterr().err == "zoo: pipe: is no regular file\n"


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(home / "data.bin")
    onnx_with_external(home / "w.onnx", "data.bin")
    assert "no regular file" in every_way(capsys, home, home / "w.onnx")
    save(small_weights(), home / "w.caffemodel")
    (home / "w.prototxt").unlink()
    os.mkfifo(home / "w.prototxt")
    refused(
        capsys,
        home.parent,
        *("convert", home / "w.caffemodel", "--prototxt", home / "w.prototxt", "-o", home / "x.npz"),
    )
    for name in ("p.npz", "p.ckpt", "p.onnx", "p.pt", "p.safetensors", "p.caffemodel"):
        os.mkfifo(home / name)
        every_way(capsys, home, home / name)


STEERING = '\x1b[2J\x1b]0;own\x07\x9b"><script>alert(1)</script><img src=x>&\nrelu1 passed | `a` ``b`` \u202e'


@pytest.mark.parametrize("suffix", [".html", ".md", ".json"])
def test_names_that_want_to_steer_a_terminal_or_a_page(
    home: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = small_weights("alexnet_mini").spec
    first = spec.layers[0]
    layers = (replace(first, name=STEERING), *spec.layers[1:])
    renamed = replace(spec, name=STEERING, title=STEERING, layers=layers)
    save(probe_weights(renamed), home / "w.safetensors")
    save(probe_weights(renamed), home / f"{STEERING.replace('/', '')}.npz")
    report = home / f"r{suffix}"
    files = [str(home / "w.safetensors"), str(home / f"{STEERING.replace('/', '')}.npz")]
    assert main(["verify", *files, "--report", str(report)]) == 0
    said = capsys.readouterr()
    page = report.read_text()
    for text in (said.out, said.err, page):
        assert all(letter.isprintable() or letter == "\n" for letter in text)
    assert "\nrelu1 passed" not in said.out + said.err + page
    assert main(["verify", *files, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == STEERING
    if suffix == ".html":
        tags = list[str]()
        parser = HTMLParser()
        parser.handle_starttag = lambda tag, attrs: tags.append(tag)  # type: ignore[method-assign]
        parser.feed(page)
        assert not {"script", "img", "iframe", "object", "link"} & set(tags)
        assert "default-src 'none'" in page


@pytest.mark.parametrize(
    "command",
    ["info w.safetensors", "show w.safetensors", "diff w.safetensors alexnet", "show w.safetensors --svg p.svg"],
)
def test_names_that_want_to_steer_a_terminal_are_shown_harmless(
    home: Path, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    spec = small_weights("alexnet_mini").spec
    layers = (replace(spec.layers[0], name=STEERING), *spec.layers[1:])
    renamed = replace(spec, name=STEERING, title=STEERING, layers=layers, classes=(STEERING, *"123456789"))
    save(probe_weights(renamed), home / "w.safetensors")
    assert main(command.split()) == 0
    texts = [capsys.readouterr().out, *(path.read_text() for path in home.glob("p.svg"))]
    for text in texts:
        assert all(letter.isprintable() or letter == "\n" for letter in text)
        assert not any(line.startswith("relu1 passed") for line in text.split("\n"))


def test_a_fetched_archive_is_kept_as_it_is(home: Path) -> None:
    """Nothing is unpacked, so nothing is unpacked elsewhere."""
    with tarfile.open(home / "evil.tar.gz", "w:gz") as archive:
        for name, link in (("../evil", ""), ("/tmp/zoo-evil", ""), ("link", "/etc")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = (tarfile.SYMTYPE, link) if link else (tarfile.REGTYPE, "")
            archive.addfile(member)
    data = (home / "evil.tar.gz").read_bytes()
    entry = ManifestEntry.model_validate(
        {
            **{"id": "evil", "model": None, "framework": "caffe", "format": "tar.gz", "file": "w.tar.gz"},
            **{"urls": [(home / "evil.tar.gz").as_uri()], "hash": "sha256:" + hashlib.sha256(data).hexdigest()},
            **{"size": len(data), "licence": "none", "source": "a test"},
        }
    )
    before = tree(home.parent)
    assert fetch(entry, home / "out", progress=lambda *_: None).read_bytes() == data
    assert tree(home.parent) - before == {"home/out", "home/out/w.tar.gz"}
    with pytest.raises(ZooError, match="packed with gzip; unpack it first"):
        load(home / "out" / "w.tar.gz")
