"""caffemodel files of every generation; golden ones are in test_mini_alexnet and test_ops."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from converters.convert import load, same_bits, save
from converters.formats import caffe
from converters.formats.caffe import read_network
from converters.parity import probe_weights, verify_file, verify_files
from tests.small import shrink, small_weights
from zoo import registry
from zoo.errors import FileFormatError, WeightsError, ZooError
from zoo.layers import LRN, BatchNorm, Bias, Conv, Dense, Input, Layer, ModelSpec, Normalize, PReLU, Scale, Slice
from zoo.shapes import parameter_shapes
from zoo.wire.protobuf import FIXED32, FIXED64, integer, message, tag, text, varint

RNG = np.random.default_rng(0)
SPEC = ModelSpec(
    name="net",
    title="a convolution and a dense layer",
    inputs=(Input(shape=(2, 3, 3)),),
    layers=(Conv(name="conv", out_channels=3, kernel=(2, 2)), Dense(name="fc", out_features=4)),
)
WEIGHTS = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in parameter_shapes(SPEC).items()}


def blob(array: np.ndarray, *, legacy: bool = False, packed: bool = True, double: bool = False) -> bytes:
    """A BlobProto, in each of the forms that files have."""
    if legacy:
        shape = (1,) * (4 - array.ndim) + array.shape
        head = b"".join(integer(i + 1, size) for i, size in enumerate(shape))
    else:
        head = message(7, message(1, b"".join(varint(size) for size in array.shape)))
    number, kind, dtype = (8, FIXED64, "<f8") if double else (5, FIXED32, "<f4")
    values = array.reshape(-1).astype(dtype)
    if packed:
        return head + message(number, values.tobytes())
    return head + b"".join(tag(number, kind) + value.tobytes() for value in values)


def current(name: str, kind: str, *blobs: bytes, extra: bytes = b"") -> bytes:
    return message(100, text(1, name) + text(2, kind) + b"".join(message(7, b) for b in blobs) + extra)


def v1(name: str, kind: int, *blobs: bytes) -> bytes:
    return message(2, text(4, name) + integer(5, kind) + b"".join(message(6, b) for b in blobs))


def v0(name: str, kind: str, *blobs: bytes) -> bytes:
    return message(2, message(1, text(1, name) + text(2, kind) + b"".join(message(50, b) for b in blobs)))


def arrays(layer: str) -> list[np.ndarray]:
    return [WEIGHTS[f"{layer}.weight"], WEIGHTS[f"{layer}.bias"]]


def blobs(layer: str, **form: bool) -> list[bytes]:
    return [blob(array, **form) for array in arrays(layer)]


NOISE = current("data", "MemoryData") + current("loss", "SoftmaxWithLoss")
CONV, FC = current("conv", "Convolution", *blobs("conv")), current("fc", "InnerProduct", *blobs("fc"))
TRANSPOSED = [blob(arrays("fc")[0].T), blob(arrays("fc")[1])]
FORMS = {
    "current": text(1, "net") + NOISE + CONV + FC,
    "unpacked": current("conv", "Convolution", *blobs("conv", packed=False)) + FC,
    "double": current("conv", "Convolution", *blobs("conv", double=True)) + FC,
    "v1": v1("conv", 4, *blobs("conv", legacy=True)) + v1("fc", 14, *blobs("fc", legacy=True)),
    "v0": v0("conv", "conv", *blobs("conv", legacy=True)) + v0("fc", "innerproduct", *blobs("fc", legacy=True)),
    "legacy sizes": CONV + current("fc", "InnerProduct", *blobs("fc", legacy=True)),
    "transposed": CONV + current("fc", "InnerProduct", *TRANSPOSED, extra=message(117, integer(6, 1))),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_generation_gives_the_same_bits(form: str, tmp_path: Path) -> None:
    (tmp_path / "w.caffemodel").write_bytes(FORMS[form])
    weights = load(tmp_path / "w.caffemodel", spec=SPEC)
    assert list(weights.tensors) == list(WEIGHTS)
    assert all(same_bits(weights.tensors[name], WEIGHTS[name]) for name in WEIGHTS)


def test_doubles_win_and_are_rounded_as_caffe_does_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fine = np.array([1 / 3, 0.5], np.float64)
    both = blob(fine, double=True) + message(5, np.zeros(2, "<f4").tobytes())
    (tmp_path / "w.caffemodel").write_bytes(current("a", "Bias", both))
    with caplog.at_level(logging.WARNING):
        read = caffe.read(tmp_path / "w.caffemodel").tensors["a.0"]
    np.testing.assert_array_equal(read, fine.astype(np.float32))
    assert "a.0 holds doubles: 1 of 2 numbers are rounded" in caplog.text


def test_a_transpose_that_only_the_prototxt_beside_tells(tmp_path: Path) -> None:
    weight = RNG.normal(size=(6, 4)).astype(np.float32)
    (tmp_path / "w.caffemodel").write_bytes(current("fc", "InnerProduct", blob(weight)))
    (tmp_path / "w.prototxt").write_text(
        'input: "x" input_shape { dim: 1 dim: 6 } layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc"'
        " inner_product_param { num_output: 4 bias_term: false transpose: true } }"
    )
    np.testing.assert_array_equal(load(tmp_path / "w.caffemodel").tensors["fc.weight"], weight.T)


@pytest.mark.parametrize("factor", [1.0, 2.5, 0.0])
def test_batch_norm_statistics_are_divided_by_their_factor(factor: float, tmp_path: Path) -> None:
    mean, variance = RNG.normal(size=3).astype(np.float32), RNG.uniform(1, 2, 3).astype(np.float32)
    parts = [blob(array) for array in (mean, variance, np.array([factor], np.float32))]
    (tmp_path / "w.caffemodel").write_bytes(current("bn", "BatchNorm", *parts))
    tensors = caffe.read(tmp_path / "w.caffemodel").tensors
    scale = np.float32(1) / np.float32(factor) if factor else np.float32(0)
    assert list(tensors) == ["bn.0", "bn.1"]
    np.testing.assert_array_equal(tensors["bn.0"], mean * scale)
    np.testing.assert_array_equal(tensors["bn.1"], variance * scale)


DAMAGED = {
    "both dialects": (FORMS["v1"] + FORMS["current"], "'layer' and 'layers'"),
    "cut": (FORMS["current"][:-3], "cut short"),
    "empty": (b"", "empty"),
    "text": (b'name: "alexnet"\nlayer {}', "a network without weights; give its .caffemodel"),
    "no layers": (text(1, "net"), "there are no layers"),
    "too few numbers": (
        current("conv", "Convolution", message(7, message(1, varint(5))) + message(5, b"\0" * 16)),
        r"blob 0 of layer 'conv': its shape \(5,\) holds 5 numbers, the file has 4",
    ),
    "an enormous shape": (
        current("conv", "Convolution", message(7, message(1, varint(1 << 40) * 4)) + message(5, b"\0" * 16)),
        "the file has 4",
    ),
    "a negative size": (current("c", "Convolution", integer(1, -1) + message(5, b"\0" * 16)), "impossible shape"),
    "half a number": (current("c", "Convolution", message(5, b"\0" * 15)), "blob 0 of layer 'c'"),
    "two of one name": (FORMS["current"] + current("fc", "InnerProduct", *blobs("fc")), "two layers named 'fc'"),
    "a name that is no text": (message(100, message(1, b"\xff\xff")), "utf-8"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_files_are_refused_in_one_line(damage: str, tmp_path: Path) -> None:
    data, problem = DAMAGED[damage]
    (tmp_path / "w.caffemodel").write_bytes(data)
    with pytest.raises(FileFormatError, match=problem) as caught:
        load(tmp_path / "w.caffemodel", spec=SPEC)
    assert "\n" not in str(caught.value)


def test_blobs_that_are_missing_left_over_or_misshapen_are_all_named(tmp_path: Path) -> None:
    short = blob(WEIGHTS["conv.weight"][..., :1])
    data = current("conv", "Convolution", short) + current("new", "PReLU", blob(np.ones(3)))
    (tmp_path / "w.caffemodel").write_bytes(data)
    with pytest.raises(WeightsError) as caught:
        load(tmp_path / "w.caffemodel", spec=SPEC)
    for words in ("conv.0 has shape (3, 2, 2, 1)", "conv.1 is missing", "fc.0 is missing", "new.0 is not a parameter"):
        assert words in str(caught.value)


@pytest.mark.parametrize("model", registry.models())
def test_every_member_comes_back_with_its_very_spec_and_bits(model: str, tmp_path: Path) -> None:
    weights = small_weights(model)
    save(weights, tmp_path / "w.caffemodel")
    again = load(tmp_path / "w.caffemodel")
    assert again.spec == weights.spec
    assert all(same_bits(again.tensors[name], weights.tensors[name]) for name in weights.tensors)


def test_equal_weights_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(small_weights(), tmp_path / f"{name}.caffemodel")
    assert (tmp_path / "a.caffemodel").read_bytes() == (tmp_path / "b.caffemodel").read_bytes()
    assert (tmp_path / "a.prototxt").read_bytes() == (tmp_path / "b.prototxt").read_bytes()


def test_parameters_of_every_kind_come_back(tmp_path: Path) -> None:
    spec = ModelSpec(
        name="all",
        title="every kind with parameters",
        inputs=(Input(shape=(4, 5, 6)),),
        layers=(
            Conv(name="c", out_channels=4, kernel=(3, 2), groups=2, bias=False),
            BatchNorm(name="bn", eps=1e-3),
            Scale(name="s", axis=2, num_axes=-1, bias=True),
            Bias(name="b", num_axes=0),
            Slice(name="half", start=1, stop=3),
            Dense(name="f", out_features=3, axis=2),
        ),
    )
    weights = probe_weights(spec)
    save(weights, tmp_path / "w.caffemodel")
    again = load(tmp_path / "w.caffemodel")
    assert again.spec == spec
    assert all(same_bits(again.tensors[name], weights.tensors[name]) for name in weights.tensors)


def test_an_edited_network_is_read_as_it_stands_but_keeps_its_preprocessing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(small_weights(), tmp_path / "w.caffemodel")
    beside = tmp_path / "w.prototxt"
    beside.write_text(beside.read_text().replace("dropout_ratio: 0.5", "dropout_ratio: 0.25"))
    again = load(tmp_path / "w.caffemodel")
    assert again.spec.layer("drop6") != shrink("alexnet").layer("drop6")
    assert again.spec.preprocessing == shrink("alexnet").preprocessing
    assert "was edited" in caplog.text


def test_a_mean_image_in_both_forms(tmp_path: Path) -> None:
    mean = RNG.normal(size=(3, 4, 5)).astype(np.float32)
    for name, form in {"a": {"legacy": True}, "b": {}}.items():
        (tmp_path / name).write_bytes(blob(mean, **form))
        np.testing.assert_array_equal(caffe.read_mean(tmp_path / name), mean)
    (tmp_path / "c").write_bytes(blob(mean[0]))
    with pytest.raises(FileFormatError, match="expected C x H x W"):
        caffe.read_mean(tmp_path / "c")


# What a caffemodel says of the network that saved it.

FAMILY = {name: shrink(name) for name in registry.models()}
V1_NUMBERS = {"Conv": 4, "ReLU": 18, "LRN": 15, "Pool": 17, "Dense": 14, "Dropout": 6, "Softmax": 21}


def snapshot(spec: ModelSpec, *, old: bool, parameters: bool = True) -> bytes:
    """A caffemodel as Caffe's solver saves it: every layer in order, with its LRN parameters."""
    tensors, layers = probe_weights(spec).tensors, list[bytes]()
    for layer in spec.layers:
        kind, blobs = type(layer).__name__, b""
        for name in (f"{layer.name}.weight", f"{layer.name}.bias"):
            if name in tensors:
                blobs += message(6 if old else 7, blob(tensors[name], legacy=old))
        if isinstance(layer, LRN) and parameters:
            numbers = integer(1, layer.size) + b"".join(
                tag(number, FIXED32) + np.float32(value).tobytes()
                for number, value in ((2, layer.alpha), (3, layer.beta))
            )
            if layer.k != 1:
                numbers += tag(5, FIXED32) + np.float32(layer.k).tobytes()
            blobs += message(18 if old else 118, numbers)
        if old:
            layers.append(message(2, text(4, layer.name) + integer(5, V1_NUMBERS[kind]) + blobs))
        else:
            current_kind = {"Conv": "Convolution", "Pool": "Pooling", "Dense": "InnerProduct"}.get(kind, kind)
            layers.append(message(100, text(1, layer.name) + text(2, current_kind) + blobs))
    return text(1, "saved") + b"".join(layers)


@pytest.fixture
def small_family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "model", FAMILY.__getitem__)


@pytest.mark.usefixtures("small_family")
@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("model", ["bvlc_alexnet", "caffenet"])
def test_members_of_equal_shapes_are_told_apart_by_what_caffe_saved(
    model: str, old: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.caffemodel"
    path.write_bytes(snapshot(FAMILY[model], old=old))
    assert load(path).spec == FAMILY[model]
    assert f"fit {model} only" in caplog.text
    assert load(path, spec=FAMILY[model]).spec == FAMILY[model]
    other = {"bvlc_alexnet": "caffenet", "caffenet": "bvlc_alexnet"}[model]
    fact = {"bvlc_alexnet": "norm1: place after pool1 in caffenet", "caffenet": "pool1: place after norm1 in bvlc"}
    for wrong, reason in (
        (other, fact[model]),
        ("alexnet", "norm1: "),
        ("alexnet_2012_code", r"(relu1: place|norm1: )"),
    ):
        with pytest.raises(ZooError, match=f"saved by another network than {wrong}: {reason}"):
            load(path, spec=FAMILY[wrong])


@pytest.mark.usefixtures("small_family")
def test_a_file_of_names_alone_contradicts_as_little_as_it_says(tmp_path: Path) -> None:
    path = tmp_path / "a.caffemodel"
    path.write_bytes(snapshot(FAMILY["bvlc_alexnet"], old=False, parameters=False))
    with pytest.raises(ZooError, match="saved by another network than alexnet: norm1: window"):
        load(path, spec=FAMILY["alexnet"])
    for model in registry.models():  # what we write says no more, and is read as what it is
        save(probe_weights(FAMILY[model]), tmp_path / f"{model}.caffemodel")
        (tmp_path / f"{model}.prototxt").unlink()
        assert load(tmp_path / f"{model}.caffemodel", spec=FAMILY[model]).spec == FAMILY[model]


@pytest.mark.parametrize("name", ["mini_alexnet.caffemodel", "mini_alexnet_v1.caffemodel"])
def test_equal_shapes_are_no_proof(name: str, mini_alexnet: Path) -> None:
    """Real Caffe's network has our small member's shapes, and another LRN."""
    fact = r"norm1: .* in alexnet_mini, .* in the file"
    with pytest.raises(ZooError, match=rf"fit alexnet_mini, but were saved by another network: {fact}"):
        load(mini_alexnet / name)
    with pytest.raises(ZooError, match=rf"another network than alexnet_mini: {fact}"):
        load(mini_alexnet / name, spec=registry.model("alexnet_mini"))
    assert (
        load(mini_alexnet / name, spec=read_network(mini_alexnet / "deploy.prototxt").spec).spec.name == "mini_alexnet"
    )


def test_a_users_own_prototxt_counts_and_the_difference_is_said(
    mini_alexnet: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = read_network(mini_alexnet / "deploy.prototxt").spec.change("norm1", k=1.0)
    assert load(mini_alexnet / "mini_alexnet.caffemodel", spec=spec).spec == spec
    assert (
        "saved by a network that differs: norm1: k 1 in mini_alexnet, 2 in the file; mini_alexnet counts" in caplog.text
    )


def wire_group(number: int, content: bytes) -> bytes:
    """A field of the deprecated group kind."""
    return varint(number << 3 | 3) + content + varint(number << 3 | 4)


def same(tensors: Mapping[str, np.ndarray]) -> None:
    assert list(tensors) == list(WEIGHTS)
    assert all(same_bits(tensors[name], WEIGHTS[name]) for name in WEIGHTS)


def test_layers_the_network_has_not_are_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    head = current("aux/fc", "InnerProduct", blob(np.ones((2, 3))), blob(np.ones(2)))
    (tmp_path / "w.caffemodel").write_bytes(head + CONV + FC)
    with caplog.at_level(logging.WARNING):
        same(load(tmp_path / "w.caffemodel", spec=SPEC).tensors)
    assert "w.caffemodel: layers that net has not are left out: aux/fc" in caplog.text


def test_a_family_member_is_never_guessed_with_layers_left_over(tmp_path: Path) -> None:
    spec = registry.model("alexnet_mini")
    save(probe_weights(spec, 0), tmp_path / "w.caffemodel")
    data = (tmp_path / "w.caffemodel").read_bytes()
    (tmp_path / "w.prototxt").unlink()
    (tmp_path / "w.caffemodel").write_bytes(data + current("aux", "InnerProduct", blob(np.ones((2, 3)))))
    with pytest.raises(ZooError, match="the tensors fit no network of the family"):
        load(tmp_path / "w.caffemodel")
    assert set(load(tmp_path / "w.caffemodel", spec=spec).tensors) == set(parameter_shapes(spec))


def test_layers_come_in_any_order_among_unknown_fields_of_every_kind(tmp_path: Path) -> None:
    strange = integer(300, 7) + text(301, "x") + tag(302, FIXED32) + bytes(4) + tag(303, FIXED64) + bytes(8)
    strange += wire_group(304, integer(1, 5) + wire_group(2, text(1, "y")))
    data = strange + current("fc", "InnerProduct", *blobs("fc"), extra=strange)
    data += current("conv", "Convolution", *(blob(a) + strange for a in arrays("conv"))) + strange
    (tmp_path / "w.caffemodel").write_bytes(data)
    same(load(tmp_path / "w.caffemodel", spec=SPEC).tensors)


def test_a_factor_of_zero_is_read_as_caffe_does_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spec = ModelSpec(name="n", title="n", inputs=SPEC.inputs, layers=(BatchNorm(name="bn"),))
    numbers = [np.ones(2), np.ones(2), np.zeros(1)]
    (tmp_path / "w.caffemodel").write_bytes(current("bn", "BatchNorm", *map(blob, numbers)))
    with caplog.at_level(logging.WARNING):
        weights = load(tmp_path / "w.caffemodel", spec=spec)
    assert not weights.tensors["bn.mean"].any() and not weights.tensors["bn.variance"].any()
    assert "w.caffemodel: layer 'bn': the factor, its third blob, is 0" in caplog.text


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        (
            "w.caffemodel",
            current("bn", "BatchNorm", *[blob(np.ones(size)) for size in (2, 2, 1, 2, 2)]),
            "layer 'bn' is a BatchNorm of five blobs, as NVIDIA's Caffe writes it",
        ),
        (
            "w.caffemodel",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
            "a pointer of Git LFS in the place of the file; get it with: git lfs pull",
        ),
        ("w.caffemodel", integer(1, 500) + text(2, "w_iter_500.caffemodel"), "a solver's state"),
        ("s_iter_5.solverstate", integer(1, 5), "momenta and no weights; these are in s_iter_5.caffemodel beside it"),
        ("w.caffemodel.h5", b"\x89HDF", "HDF5 that is damaged"),
    ],
)
def test_what_is_taken_for_a_caffemodel_is_told_apart(name: str, data: bytes, error: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ZooError, match=error):
        load(tmp_path / name, spec=SPEC)


def test_a_prototxt_means_its_number_of_classes(tmp_path: Path) -> None:
    """As in Caffe ("Cannot copy param 0 weights from layer 'fc'; shape mismatch"), where a member would follow."""
    save(probe_weights(SPEC.with_num_classes(6)), tmp_path / "w.caffemodel")
    deploy = (tmp_path / "w.prototxt").read_text()
    for place in ("other", "w"):  # given, and lying beside the file
        (tmp_path / f"{place}.prototxt").write_text(deploy.replace("num_output: 6", "num_output: 5"))
    given = read_network(tmp_path / "other.prototxt").spec
    for spec in (given, None):
        with pytest.raises(WeightsError, match=r"fc\.0 has shape \(6, 12\), expected \(5, 12\)"):
            load(tmp_path / "w.caffemodel", spec=spec)


def test_a_file_is_not_proved_to_be_what_its_description_does_not_say(tmp_path: Path) -> None:
    """Its weights fit the first file's network; the prototxt beside it is one that Caffe refuses."""
    weights = small_weights("caffenet")
    for name in ("a", "b"):
        save(weights, tmp_path / f"{name}.caffemodel")
    beside = tmp_path / "b.prototxt"
    beside.write_text(beside.read_text().replace("local_size: 5", "local_size: 4"))
    with pytest.raises(FileFormatError, match=r"b.caffemodel: the network it describes cannot be read: .*must be odd"):
        verify_files([tmp_path / "a.caffemodel", tmp_path / "b.caffemodel"])
    given = read_network(tmp_path / "a.prototxt").spec
    assert verify_file(tmp_path / "b.caffemodel", given, ["onnx"]).passed


@pytest.mark.parametrize(
    ("words", "count", "said"), [("", 2, "bn_mode or scale_filler"), ("bn_param { bn_mode: LEARN }", 4, "neither")]
)
def test_a_bn_has_as_many_blobs_as_the_fork_whose_words_it_has(
    words: str, count: int, said: str, tmp_path: Path
) -> None:
    net = f"input: 'in' input_dim: [1, 2, 3, 3] layer {{ name: 'bn' type: 'BN' bottom: 'in' top: 'bn' {words} }}"
    (tmp_path / "w.prototxt").write_text(net)
    (tmp_path / "w.caffemodel").write_bytes(current("bn", "BN", *[blob(np.ones((1, 2, 1, 1)))] * count))
    with pytest.raises(ZooError, match=f"a BN of {count} blobs; two are SegNet's, four PSPNet's: .* say {said}"):
        load(tmp_path / "w.caffemodel")


@pytest.mark.parametrize("layer", [PReLU(name="p", shared=True), Normalize(name="p")])
def test_a_number_without_axes_is_read_with_the_four_it_had_before_2015(layer: Layer, tmp_path: Path) -> None:
    spec = ModelSpec(name="n", title="n", inputs=SPEC.inputs, layers=(layer,))
    number = np.full((1, 1, 1, 1), 0.5, np.float32)
    (tmp_path / "w.caffemodel").write_bytes(current("p", "PReLU", blob(number, legacy=True)))
    (tensor,) = load(tmp_path / "w.caffemodel", spec=spec).tensors.values()
    assert tensor.shape == () and tensor == 0.5
