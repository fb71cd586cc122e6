"""A stranger with a prototxt and a caffemodel, at the command line: every other format, from one command each."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from converters.cli import main
from converters.convert import load, save
from converters.formats.caffe import read_network
from converters.parity import probe_weights
from tests.small import shrink
from zoo import reference, registry
from zoo.errors import FileFormatError
from zoo.frameworks import caffe
from zoo.frameworks.caffe import parse_prototxt, read_prototxt
from zoo.layers import ModelSpec, Preprocessing
from zoo.preprocess import canonical_input
from zoo.wire.protobuf import integer, message

# Every kind of the vocabulary, in place where Caffe allows it, two inputs, names no language takes.
EVERYTHING = """
name: "my/net with spaces"
input: "data" input_dim: 10 input_dim: 3 input_dim: 33 input_dim: 47
input: "extra" input_dim: 10 input_dim: 4 input_dim: 1 input_dim: 1
layer { name: "class" type: "Convolution" bottom: "data" top: "class"
        convolution_param { num_output: 12 kernel_h: 5 kernel_w: 3 stride_h: 2 stride_w: 1 pad_h: 2 pad_w: 1 } }
layer { name: "bn" type: "BatchNorm" bottom: "class" top: "class" batch_norm_param { eps: 0.001 } }
layer { name: "sc" type: "Scale" bottom: "class" top: "class" scale_param { bias_term: true } }
layer { name: "relu 1" type: "ReLU" bottom: "class" top: "class" relu_param { negative_slope: 0.1 } }
layer { name: "1" type: "Convolution" bottom: "class" top: "1"
        convolution_param { num_output: 24 kernel_size: 3 pad: 2 dilation: 2 group: 4 bias_term: false } }
layer { name: "norm/1" type: "LRN" bottom: "1" top: "norm/1" lrn_param { local_size: 5 alpha: 0.0001 } }
layer { name: "nw" type: "LRN" bottom: "norm/1" top: "nw"
        lrn_param { local_size: 3 alpha: 0.0005 norm_region: WITHIN_CHANNEL } }
layer { name: "split" type: "Split" bottom: "nw" top: "s1" top: "s2" }
layer { name: "branch a" type: "Convolution" bottom: "s1" top: "a" convolution_param { num_output: 8 kernel_size: 1 } }
layer { name: "tanh" type: "TanH" bottom: "a" top: "a" }
layer { name: "branch b" type: "Convolution" bottom: "s2" top: "b" convolution_param { num_output: 8 kernel_size: 1 } }
layer { name: "sig" type: "Sigmoid" bottom: "b" top: "b" }
layer { name: "elt" type: "Eltwise" bottom: "a" bottom: "b" top: "elt" eltwise_param { coeff: 0.5 coeff: -2 } }
layer { name: "mx" type: "Eltwise" bottom: "a" bottom: "b" top: "mx" eltwise_param { operation: MAX } }
layer { name: "pr" type: "Eltwise" bottom: "a" bottom: "b" top: "pr" eltwise_param { operation: PROD } }
layer { name: "cat" type: "Concat" bottom: "elt" bottom: "mx" bottom: "pr" top: "cat" }
layer { name: "pool" type: "Pooling" bottom: "cat" top: "pool" pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "apool" type: "Pooling" bottom: "pool" top: "apool"
        pooling_param { pool: AVE kernel_h: 3 kernel_w: 2 stride: 2 pad_h: 1 pad_w: 0 } }
layer { name: "slice" type: "Slice" bottom: "apool" top: "x" top: "y" top: "z"
        slice_param { slice_point: 4 slice_point: 20 } }
layer { name: "pw" type: "Power" bottom: "y" top: "pw" power_param { power: 2 scale: 0.5 shift: 0.1 } }
layer { name: "bi" type: "Bias" bottom: "pw" top: "bi" }
layer { name: "cat2" type: "Concat" bottom: "x" bottom: "bi" bottom: "z" top: "cat2" }
layer { name: "gp" type: "Pooling" bottom: "cat2" top: "gp" pooling_param { pool: AVE global_pooling: true } }
layer { name: "cat3" type: "Concat" bottom: "gp" bottom: "extra" top: "cat3" }
layer { name: "flat" type: "Flatten" bottom: "cat3" top: "flat" }
layer { name: "ip" type: "InnerProduct" bottom: "flat" top: "ip" inner_product_param { num_output: 16 } }
layer { name: "drop" type: "Dropout" bottom: "ip" top: "ip" dropout_param { dropout_ratio: 0.3 } }
layer { name: "one" type: "InnerProduct" bottom: "ip" top: "one"
        inner_product_param { num_output: 1 bias_term: false } }
layer { name: "out" type: "InnerProduct" bottom: "ip" top: "out" inner_product_param { num_output: 5 } }
layer { name: "prob" type: "Softmax" bottom: "out" top: "prob" }
"""

# A train_val of 2014 alone, whose images are not square when deployed.
TRAIN_VAL = """
name: "OldNet"
layers { name: "data" type: DATA top: "data" top: "label" include { phase: TRAIN }
         data_param { source: "x_lmdb" batch_size: 64 } transform_param { mirror: true crop_size: 39 MEAN } }
layers { name: "data" type: DATA top: "data" top: "label" include { phase: TEST }
         data_param { source: "y_lmdb" batch_size: 10 } transform_param { crop_size: 39 MEAN } }
layers { name: "conv/1x1" type: CONVOLUTION bottom: "data" top: "conv/1x1" blobs_lr: 1 blobs_lr: 2
         convolution_param { num_output: 6 kernel_size: 3 } }
layers { name: "relu" type: RELU bottom: "conv/1x1" top: "conv/1x1" }
layers { name: "pool" type: POOLING bottom: "conv/1x1" top: "pool"
         pooling_param { pool: MAX kernel_size: 3 stride: 2 pad: 1 } }
layers { name: "fc" type: INNER_PRODUCT bottom: "pool" top: "fc" inner_product_param { num_output: 7 } }
layers { name: "acc" type: ACCURACY bottom: "fc" bottom: "label" top: "acc" include { phase: TEST } }
layers { name: "loss" type: SOFTMAX_LOSS bottom: "fc" bottom: "label" top: "loss" }
"""

# Keywords and builtins for names, a kernel of two sizes, weights stored (in, out), a single output, no square image.
KEYWORDS = """
name: "class"
layer { name: "in" type: "Input" top: "in" input_param { shape { dim: 1 dim: 3 dim: 31 dim: 57 } } }
layer { name: "def" type: "Convolution" bottom: "in" top: "def"
        convolution_param { num_output: 8 kernel_size: 3 kernel_size: 5 stride: 2 stride: 1 dilation: 1 dilation: 2 } }
layer { name: "None" type: "Pooling" bottom: "def" top: "None"
        pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR } }
layer { name: "self" type: "InnerProduct" bottom: "None" top: "self"
        inner_product_param { num_output: 4 transpose: true } }
layer { name: "lambda" type: "ReLU" bottom: "self" top: "lambda" }
layer { name: "import" type: "InnerProduct" bottom: "lambda" top: "import" inner_product_param { num_output: 1 } }
layer { name: "exec" type: "Sigmoid" bottom: "import" top: "exec" }
"""
NETWORKS = {"everything": EVERYTHING, "train_val": TRAIN_VAL.replace("MEAN", "mean_value: 110"), "keywords": KEYWORDS}


def prepare(folder: Path, text: str) -> ModelSpec:
    """A stranger's two files, the caffemodel without a prototxt of its own name."""
    (folder / "net.prototxt").write_text(text)
    spec = read_prototxt(folder / "net.prototxt").spec
    save(probe_weights(spec), folder / "mine.caffemodel")
    (folder / "mine.prototxt").unlink()
    return spec


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_one_command_each(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = prepare(tmp_path, NETWORKS[name])
    network = ["--prototxt", "net.prototxt"]
    targets = [f"out.{suffix}" for suffix in ("safetensors", "pt", "pth", "ckpt", "onnx", "npy", "npz", "caffemodel")]
    for target in targets:
        assert main(["convert", "mine.caffemodel", *network, "-o", target]) == 0
    for target in ("exported.onnx", "frozen.pb", "saved/"):
        assert main(["export", "mine.caffemodel", *network, "-o", target]) == 0  # verified
    for framework in registry.frameworks():
        assert main(["generate", *network, "--framework", framework, "-o", framework]) == 0
    assert main(["verify", "mine.caffemodel", *targets, "exported.onnx", *network]) == 0
    assert [layer.name for layer in load(tmp_path / "out.onnx").spec.layers] == [layer.name for layer in spec.layers]


# How images are prepared.


def mean_image(path: Path, *means: float, side: int = 48) -> None:
    """A ``.binaryproto`` as Caffe's compute_image_mean writes it: legacy sizes, unpacked or packed floats."""
    image = np.broadcast_to(np.reshape(np.array(means, "<f4"), (-1, 1, 1)), (len(means), side, side)).copy()
    image[:, 0] += 2
    image[:, 1] -= 2  # no pixel as the mean, the channel's mean as asked for
    sizes = b"".join(integer(i + 1, size) for i, size in enumerate((1, *image.shape)))
    path.write_bytes(sizes + message(5, image.tobytes()))


BGR = Preprocessing(channels="BGR", mean=(104.0, 117.0, 123.0), resize=39)


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        ("mean_value: 104 mean_value: 117 mean_value: 123", BGR),
        ("mean_value: 110", Preprocessing(channels="BGR", mean=(110.0,) * 3, resize=39)),
        (
            "mean_value: 104 mean_value: 117 mean_value: 123 scale: 0.5",
            Preprocessing(channels="BGR", scale=0.5, mean=(52.0, 58.5, 61.5), resize=39),
        ),
        ("scale: 0.00390625", Preprocessing(channels="BGR", scale=1 / 256, resize=39)),
        ("", None),
    ],
)
def test_a_data_layer_says_how_images_are_prepared(transform: str, expected: Preprocessing | None) -> None:
    net = parse_prototxt(TRAIN_VAL.replace("MEAN", transform), Path("train_val.prototxt"))
    assert net.spec.preprocessing == expected
    assert any("images, by its data layer: BGR 0..255" in note for note in net.notes) == (expected is not None)


def test_the_numbers_are_those_of_caffe_s_transformer(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (39, 39, 3), dtype=np.uint8)
    transform = "mean_value: 104 mean_value: 117 mean_value: 123 scale: 0.017"
    spec = parse_prototxt(TRAIN_VAL.replace("MEAN", transform), Path("t.prototxt")).spec
    wanted = (pixels[..., ::-1].astype(np.float32) - (104, 117, 123)) * 0.017
    np.testing.assert_allclose(canonical_input(pixels, spec), wanted.transpose(2, 0, 1), atol=1e-5)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(canonical_input(tmp_path / "a.png", spec), canonical_input(pixels, spec))


def test_older_files_say_it_in_the_block_of_the_source() -> None:
    text = TRAIN_VAL.replace("transform_param { crop_size: 39 MEAN }", "").replace("MEAN", "")
    text = text.replace("batch_size: 10 }", "batch_size: 10 crop_size: 39 mean_file: 'data/x.binaryproto' scale: 2 }")
    images = parse_prototxt(text, Path("t.prototxt")).images
    assert images is not None
    assert (images.mean_file, images.preprocessing.scale) == ("data/x.binaryproto", 2.0)
    v0 = """
    layers { layer { name: "d" type: "data" meanfile: "m.mean" scale: 0.5 cropsize: 9 batchsize: 2 } top: "data" }
    layers { layer { name: "fc" type: "innerproduct" num_output: 3 } bottom: "data" top: "fc" }
    """
    images = parse_prototxt(v0, Path("v0.prototxt")).images
    assert images is not None
    assert (images.mean_file, images.preprocessing.scale) == ("m.mean", 0.5)


def test_stored_sizes() -> None:
    data = 'layer { name: "d" type: "ImageData" top: "data" top: "label" TRANSFORM }\n'
    dense = 'layer { name: "f" type: "InnerProduct" bottom: "data" top: "f" inner_product_param { num_output: 2 } }'

    def resize(transform: str) -> int:
        net = parse_prototxt(data.replace("TRANSFORM", transform) + dense, Path("a.prototxt"))
        assert net.spec.preprocessing is not None
        return net.spec.preprocessing.resize

    assert resize("transform_param { crop_size: 227 mean_value: 1 }") == 256
    size = "image_data_param { new_height: 250 new_width: 240 }"
    assert resize(f"transform_param {{ crop_size: 227 mean_value: 1 }} {size}") == 240
    assert resize("transform_param { crop_size: 299 mean_value: 1 }") == 299


@pytest.mark.parametrize(
    ("transform", "problem"),
    [
        ("mean_value: 1 mean_file: 'm.binaryproto'", "both mean_file and mean_value"),
        ("mean_value: 1 mean_value: 2", "one mean_value, or one for each of 3 channels, got 2"),
        ("scale: 0", "scale must be positive"),
    ],
)
def test_what_caffe_refuses_of_it_is_refused(transform: str, problem: str) -> None:
    with pytest.raises(FileFormatError, match=rf"layer 'data' \(Data\).*{problem}"):
        parse_prototxt(TRAIN_VAL.replace("MEAN", transform), Path("t.prototxt"))


@pytest.mark.parametrize(
    "transform", ["mean_file: '/data/ilsvrc12/mean.binaryproto'", "mean_file: 'C:\\\\data\\\\mean.binaryproto'"]
)
def test_the_mean_image_a_data_layer_names(transform: str, tmp_path: Path) -> None:
    path = tmp_path / "train_val.prototxt"
    path.write_text(TRAIN_VAL.replace("MEAN", transform))
    net = read_network(path)
    assert net.spec.preprocessing is None
    assert any("mean.binaryproto, the mean image it names, is not beside it" in note for note in net.notes)
    mean_image(tmp_path / "mean.binaryproto", 104, 117, 123)
    mean_image(tmp_path / "other.binaryproto", 1, 2, 3)
    net = read_network(path)
    assert net.spec.preprocessing is not None
    assert net.spec.preprocessing.mean == pytest.approx((104, 117, 123))
    assert net.spec.preprocessing.resize == 48  # a mean image is as large as the images were
    assert any("48 x 48, of which the mean of each channel is used" in note for note in net.notes)


def test_a_mean_image_beside_a_deployed_network(tmp_path: Path) -> None:
    path = tmp_path / "deploy.prototxt"
    path.write_text(KEYWORDS)
    assert read_network(path).spec.preprocessing is None
    mean_image(tmp_path / "mean.binaryproto", 104, 117, 123, side=64)
    net = read_network(path)
    assert net.spec.preprocessing == Preprocessing(channels="BGR", mean=(104.0, 117.0, 123.0), resize=64)
    (note,) = net.notes
    assert "images, by mean.binaryproto, 64 x 64" in note
    mean_image(tmp_path / "second.binaryproto", 1, 2, 3)
    net = read_network(path)
    assert net.spec.preprocessing is None
    assert "several mean images beside it" in net.notes[0]
    (tmp_path / "second.binaryproto").unlink()
    mean_image(tmp_path / "mean.binaryproto", 100)
    assert "1 channels, no mean of pictures" in read_network(path).notes[0]
    (tmp_path / "mean.binaryproto").write_bytes(b"\x0a\xff")
    assert "the preprocessing is not known" in read_network(path).notes[0]
    path.write_text(EVERYTHING)  # two inputs: whose mean would it be?
    assert read_network(path).notes == ()


def test_what_a_stranger_s_prototxt_says_is_folded_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path, TRAIN_VAL.replace("MEAN", ""))
    command = ["export", "mine.caffemodel", "--prototxt", "net.prototxt", "-o", "plain.onnx", "--fold-preprocessing"]
    assert main(command) == 2
    Path("net.prototxt").write_text(TRAIN_VAL.replace("MEAN", "mean_value: 104 mean_value: 117 mean_value: 123"))
    assert main(command) == 0
    plain, mine = (
        load(tmp_path / "plain.onnx"),
        load(Path("mine.caffemodel"), spec=read_network(Path("net.prototxt")).spec),
    )
    pixels = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    found, wanted = (
        reference.forward(w.spec, w.tensors, {"data": canonical_input(pixels, w.spec)[None]})["fc"]
        for w in (plain, mine)
    )
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("model", ["alexnet", "bvlc_alexnet", "alexnet_owt"])
def test_our_own_training_files_keep_the_preprocessing(model: str, tmp_path: Path) -> None:
    spec = shrink(model)
    caffe.generate(spec, tmp_path)
    net = read_prototxt(tmp_path / "train_val.prototxt")
    assert net.spec.preprocessing == spec.preprocessing
    assert not any("edited" in note or "images, by" in note for note in net.notes)


@pytest.mark.parametrize(
    ("suffix", "is_said"), [("pt", True), ("ckpt", True), ("npy", True), ("onnx", False), ("npz", False)]
)
def test_formats_that_cannot_carry_it_say_so(
    suffix: str, is_said: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path, NETWORKS["train_val"])
    assert main(["convert", "mine.caffemodel", "--prototxt", "net.prototxt", "-o", f"out.{suffix}"]) == 0
    told = "cannot carry the preprocessing; images: channel order BGR"
    assert (told in caplog.text) == is_said
    spec = load(tmp_path / f"out.{suffix}", spec=None if not is_said else read_prototxt(Path("net.prototxt")).spec).spec
    assert spec.preprocessing is not None
    assert spec.preprocessing.mean == (110.0, 110.0, 110.0)


def test_one_file_runs_in_every_framework_and_the_prototxt_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path, NETWORKS["train_val"])
    command = ["verify", "mine.caffemodel", "--prototxt", "net.prototxt", "--frameworks", "caffe,onnx", "--json"]
    assert main(command) == 0
    told = {subject["name"]: subject for subject in json.loads(capsys.readouterr().out)["subjects"]}
    assert [subject["status"] for subject in told.values()] == ["passed", "passed"]
    # A train_val reads its images from a database: OpenCV cannot run it as it is, and that is said.
    assert any("net.prototxt was not run itself" in note for note in told["caffe"]["notes"])
    caffe.generate(shrink("caffenet"), tmp_path)
    save(probe_weights(shrink("caffenet")), tmp_path / "small.caffemodel")
    assert main(["verify", "small.caffemodel", "--prototxt", "deploy.prototxt", "--frameworks", "caffe", "--json"]) == 0
    (subject,) = json.loads(capsys.readouterr().out)["subjects"]
    assert subject["notes"] == ["deploy.prototxt was run as it is"]
    assert main(["convert", "small.caffemodel", "-o", "small.onnx"]) == 0
    capsys.readouterr()
    assert main(["verify", "small.onnx", "--frameworks", "onnx", "--json"]) == 0
    assert [item["name"] for item in json.loads(capsys.readouterr().out)["subjects"]] == ["small.onnx", "onnx"]
