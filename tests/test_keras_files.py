"""Keras' files, TensorFlow 2's checkpoints and Caffe's HDF5, as their own writers write them; and hostile HDF5."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import h5py
import numpy as np
import pytest

from converters.convert import Reading, load, save
from converters.formats import keras as files
from converters.formats._keras_config import described, other_layer
from converters.info import info
from converters.parity import probe_weights
from converters.sniff import sniffed
from converters.weights import Array, Weights
from tests.kinds import KINDS, TWINS, merged, net, probe
from tests.networks import NETWORKS
from tests.small import small_weights
from zoo import reference, registry
from zoo.errors import FileFormatError, UnsupportedError, WeightsError, ZooError
from zoo.frameworks.caffe import parse_prototxt
from zoo.frameworks.keras import generate, model_config, table
from zoo.layers import MVN, Concat, Conv, Dense, Eltwise, Flatten, Input, ModelSpec, Pool, ReLU, Softmax, Tie
from zoo.preprocess import normalise
from zoo.wire.hdf5 import hdf5_pieces, read_hdf5

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
tf: Any = pytest.importorskip("tensorflow")
keras: Any = tf.keras
h5: Any = h5py

SPEC = ModelSpec(
    name="two",
    title="two",
    inputs=(Input(shape=(3, 10, 10)),),
    layers=(
        Conv(name="conv1", out_channels=4, kernel=(3, 3)),
        ReLU(name="relu1"),
        Conv(name="conv2", out_channels=6, kernel=(3, 3), groups=2),
        Pool(name="pool2", mode="max", kernel=(2, 2), stride=(2, 2)),
        Dense(name="fc6", out_features=7),
        Dense(name="fc7", out_features=7),
    ),
)


def network(named: bool) -> Any:
    def name(text: str) -> dict[str, str]:
        return {"name": text} if named else {}

    model = keras.Sequential(
        [
            keras.layers.Input((10, 10, 3)),
            keras.layers.Conv2D(4, 3, activation="relu", **name("conv1")),
            keras.layers.Conv2D(6, 3, groups=2, **name("conv2")),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.5, seed=1),
            keras.layers.Dense(7, **name("fc6")),
            keras.layers.Dense(7, **name("fc7")),
        ]
    )
    rng = np.random.default_rng(3)
    model.set_weights([rng.normal(size=weight.shape).astype("f") for weight in model.get_weights()])
    return model


def wanted(model: Any) -> dict[str, Any]:
    kernels = [np.asarray(weight) for weight in model.get_weights() if weight.dtype == np.float32]
    maps = kernels[4].reshape(3, 3, 6, 7).transpose(3, 2, 0, 1).reshape(7, -1)
    return {
        "conv1.weight": kernels[0].transpose(3, 2, 0, 1),
        "conv2.weight": kernels[2].transpose(3, 2, 0, 1),
        "fc6.weight": maps,
        "fc7.weight": kernels[6].T,
        **{f"{name}.bias": kernels[i] for name, i in (("conv1", 1), ("conv2", 3), ("fc6", 5), ("fc7", 7))},
    }


def assert_read(path: Path, model: Any) -> None:
    found = load(path, spec=SPEC)
    for name, tensor in wanted(model).items():
        np.testing.assert_array_equal(np.asarray(found.tensors[name]), tensor, name)


@pytest.mark.slow
@pytest.mark.parametrize("named", [True, False])
def test_every_file_that_keras_writes(tmp_path: Path, named: bool, caplog: pytest.LogCaptureFixture) -> None:
    keras.backend.clear_session()
    network(False)  # automatic names go on counting: conv2d_2, dense_2
    model = network(named)
    model.compile(optimizer=keras.optimizers.SGD(momentum=0.9), loss="mse")
    model.fit(np.zeros((2, 10, 10, 3), "f"), np.zeros((2, 7), "f"), verbose=0)
    for name in ("m.keras", "m.weights.h5", "m.h5"):
        (model.save_weights if "weights" in name else model.save)(tmp_path / name)
        shutil.move(tmp_path / name, tmp_path / "renamed.bin")
        assert sniffed(tmp_path / "renamed.bin") == "keras"
        assert_read(tmp_path / "renamed.bin", model)
    tf.train.Checkpoint(model=model, optimizer=model.optimizer).save(str(tmp_path / "ckpt"))
    assert_read(tmp_path / "ckpt-1", model)
    assert_read(tmp_path, model)
    tf.saved_model.save(model, str(tmp_path / "saved"))
    assert_read(tmp_path / "saved", model)
    model.export(str(tmp_path / "exported"), verbose=False)  # which names every variable twice
    assert_read(tmp_path / "exported", model)
    assert ("matched by order" in caplog.text) == (not named)


class Own(keras.Model):
    """A network that its code alone describes."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network(True)

    def call(self, x: Any) -> Any:
        return self.inner(x)


def test_a_class_of_somebody_s_own_is_its_weights(tmp_path: Path) -> None:
    keras.backend.clear_session()
    model = Own()
    model(np.zeros((1, 10, 10, 3), "f"))
    model.save(tmp_path / "m.keras")
    assert_read(tmp_path / "m.keras", model)


def test_bfloat16_is_told_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    keras.backend.clear_session()
    layer = keras.layers.Conv2D(4, 3, dtype="bfloat16", name="conv1")
    model = keras.Sequential([keras.layers.Input((10, 10, 3)), layer])
    spec = replace(SPEC, layers=SPEC.layers[:1])
    meant = np.asarray(keras.ops.cast(layer.kernel, "float32")).transpose(3, 2, 0, 1)
    for name in ("m.keras", "m.weights.h5", "m.h5"):
        (model.save_weights if "weights" in name else model.save)(tmp_path / name)
        np.testing.assert_array_equal(np.asarray(load(tmp_path / name, spec=spec).tensors["conv1.weight"]), meant)
    assert "2 bfloat16 tensors became float32" in caplog.text


def test_kernels_a_channel_are_read_as_keras_keeps_them(tmp_path: Path) -> None:
    """A separable convolution is two of ours."""
    keras.backend.clear_session()
    layers = [keras.layers.SeparableConv2D(4, 3, name="both"), keras.layers.DepthwiseConv2D(3, name="each")]
    model = keras.Sequential([keras.layers.Input((10, 10, 3)), *layers])
    convs = (
        Conv(name="first", out_channels=3, kernel=(3, 3), groups=3, bias=False),
        Conv(name="second", out_channels=4, kernel=(1, 1)),
        Conv(name="third", out_channels=4, kernel=(3, 3), groups=4),
    )
    spec = replace(SPEC, layers=convs)
    image = np.random.default_rng(0).normal(size=(2, 10, 10, 3)).astype(np.float32)
    wanted = np.asarray(model(image)).transpose(0, 3, 1, 2)
    both = {
        "both/depthwise_kernel": "first.weight",
        "both/pointwise_kernel": "second.weight",
        "both/bias": "second.bias",
    }
    for name in ("m.keras", "m.h5", "m.weights.h5"):
        (model.save_weights if "weights" in name else model.save)(tmp_path / name)
        table = both | {
            f"each/{variable}": f"third.{role}" for variable, role in (("kernel", "weight"), ("bias", "bias"))
        }
        weights = load(tmp_path / name, spec=spec, how=Reading(names=table))
        found = reference.forward(spec, weights.tensors, {SPEC.inputs[0].name: image.transpose(0, 3, 1, 2)})["third"]
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_another_count_of_layers_is_not_matched(tmp_path: Path) -> None:
    keras.backend.clear_session()
    network(False).save(tmp_path / "m.keras")
    with pytest.raises(WeightsError, match="is missing"):
        load(tmp_path / "m.keras", spec=ModelSpec(name="a", title="a", inputs=SPEC.inputs, layers=SPEC.layers[:-1]))


def test_channels_first_is_refused(tmp_path: Path) -> None:
    model = keras.Sequential(
        [keras.layers.Input((3, 9, 9)), keras.layers.Conv2D(4, 3, data_format="channels_first", name="conv1")]
    )
    for name in ("m.keras", "m.h5"):
        model.save(tmp_path / name)
        with pytest.raises(FileFormatError, match="channels first"):
            files.read(tmp_path / name)


NAMES = ("m.keras", "m.h5", "m.weights.h5")


def bits(weights: Weights) -> dict[str, bytes]:
    return {name: np.asarray(tensor).tobytes() for name, tensor in weights.tensors.items()}


@pytest.mark.parametrize("name", registry.models())
def test_what_is_written_is_read_bit_for_bit_and_written_alike(name: str, tmp_path: Path) -> None:
    weights = small_weights(name)
    for file in NAMES:
        save(weights, tmp_path / file)
        assert sniffed(tmp_path / file) == "keras"
        assert bits(load(tmp_path / file, spec=weights.spec)) == bits(weights)
        before = (tmp_path / file).read_bytes()
        save(weights, tmp_path / file, force=True)
        assert (tmp_path / file).read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {*NAMES}


BRANCHED = [parse_prototxt(NETWORKS[name], Path(f"{name}.prototxt")).spec for name in ("resnet", "googlenet", "ssd")]


@pytest.mark.parametrize("spec", [*BRANCHED, KINDS["conv dilated"], TWINS["twins conv hw"]], ids=lambda spec: spec.name)
def test_a_network_that_branches_is_read_as_it_is_written(spec: ModelSpec, tmp_path: Path) -> None:
    weights = Weights(spec=spec, tensors=probe(spec)[0], source="probe")
    for file in NAMES:
        save(weights, tmp_path / file)
        assert bits(load(tmp_path / file, spec=spec)) == bits(weights)


def test_a_network_that_branches_otherwise_is_refused(tmp_path: Path) -> None:
    spec = BRANCHED[0]
    save(Weights(spec=spec, tensors=probe(spec)[0], source="probe"), tmp_path / "m.keras")
    joined = next(layer.name for layer in spec.layers if isinstance(layer, Eltwise))
    with pytest.raises(ZooError, match="describes another network"):
        load(tmp_path / "m.keras", spec=spec.change(joined, operation="max"))


def test_a_description_is_ours_where_keras_has_only_added_to_it() -> None:
    spec = BRANCHED[0]
    ours: Any = model_config(spec)
    theirs = json.loads(json.dumps(ours))
    for layer in theirs["config"]["layers"]:
        layer["config"] |= {"trainable": True, "kernel_initializer": None}
        if layer["class_name"] == "ZeroPadding2D":
            layer["config"]["padding"] = [[layer["config"]["padding"]] * 2] * 2
    theirs["config"]["layers"].reverse()
    assert other_layer(json.dumps(theirs), ours) == ""
    for key, value in (("class_name", "Maximum"), ("inbound_nodes", []), ("config", {})):
        layers = [
            layer | {key: value} if layer["class_name"] == "Add" else layer for layer in theirs["config"]["layers"]
        ]
        changed = theirs | {"config": theirs["config"] | {"layers": layers}}
        assert other_layer(json.dumps(changed), ours) != "", key
    more = [*theirs["config"]["layers"], theirs["config"]["layers"][0] | {"name": "more"}]
    assert other_layer(json.dumps(theirs | {"config": theirs["config"] | {"layers": more}}), ours) is None
    assert other_layer("[]", ours) is None


def _layer(config: Any, name: str) -> Any:
    return next(layer for layer in config["layers"] if layer["name"] == name)


def _setting(layer: str, **settings: object) -> Callable[[Any], None]:
    return lambda config: _layer(config, layer)["config"].update(settings)


def _reads_another(config: Any) -> None:
    _layer(config, "right")["inbound_nodes"][0]["args"][0]["config"]["keras_history"][0] = "relu"


def _reads_twice(config: Any) -> None:
    _layer(config, "left")["inbound_nodes"] *= 2


def _answers_another(config: Any) -> None:
    config["output_layers"] = config["output_layers"][:1]


def _answers_in_another_order(config: Any) -> None:
    config["output_layers"].reverse()


@pytest.mark.parametrize(
    "change",
    [
        *(_setting("left", activation="relu"), _setting("left", strides=2), _setting("left", dilation_rate=2)),
        *(_setting("pool", padding="same"), _setting("right", use_bias=False), _setting("prob", axis=1)),
        *(_setting("data", batch_shape=[None, 16, 16, 3]), _setting("left", dtype="float16")),
        *(_reads_another, _reads_twice, _answers_another, _answers_in_another_order),
    ],
)
def test_a_description_that_differs_in_anything_is_another_network(
    change: Callable[[Any], None], tmp_path: Path
) -> None:
    layers = (
        Conv(name="first", out_channels=4, kernel=(3, 3)),
        ReLU(name="relu"),
        Pool(name="pool", mode="max", kernel=(2, 2), stride=(2, 2)),
        Conv(name="left", out_channels=4, kernel=(1, 1)),
        Softmax(name="prob"),
        Conv(name="right", inputs=("pool",), out_channels=4, kernel=(1, 1)),
    )
    spec = ModelSpec(name="forked", title="", inputs=(Input(shape=(3, 8, 8)),), layers=layers)
    save(probe_weights(spec), tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as ours, zipfile.ZipFile(tmp_path / "t.keras", "w") as theirs:
        for name in ours.namelist():
            data = ours.read(name)
            if name == "config.json":
                model = json.loads(data)
                change(model["config"])
                data = json.dumps(model).encode()
            theirs.writestr(name, data)
    with pytest.raises(ZooError, match="describes another network than forked"):
        load(tmp_path / "t.keras", spec=spec)


def test_layers_of_others_are_compared_in_one_line_alone(tmp_path: Path) -> None:
    """Of layers in a line their order says what each reads; of any others it does not."""
    data = keras.Input((8, 8, 3), name="image")
    one = keras.layers.Conv2D(4, 3, name="one")(data)
    two = keras.layers.Conv2D(4, 3, name="two")(one)
    layers = (Conv(name="one", out_channels=4, kernel=(3, 3)), Conv(name="two", out_channels=4, kernel=(3, 3)))
    spec = ModelSpec(name="line", title="", inputs=(Input(shape=(3, 8, 8)),), layers=layers)
    keras.Model(data, two).save(tmp_path / "line.keras")
    assert load(tmp_path / "line.keras", spec=spec).spec == spec
    keras.Model(data, [two, one]).save(tmp_path / "fork.keras")
    with pytest.raises(
        ZooError, match="its answer is two, one, and branches are compared only in what is written here"
    ):
        load(tmp_path / "fork.keras", spec=spec)


@pytest.mark.parametrize(
    ("kernel", "size", "pad", "rounding", "told"),
    [
        (3, 8, 0, "ceil", None),  # TensorFlow puts the odd pixel at the end, as rounding up does
        (3, 8, 1, "floor", "padding of conv is same in it, not of its own"),
        (3, 7, 1, "floor", None),
        (3, 7, 0, "floor", "padding of conv is same in it, not of its own"),
        (2, 8, 0, "floor", None),
    ],
)
def test_what_same_adds_is_held_against_the_network(
    kernel: int, size: int, pad: int, rounding: Literal["ceil", "floor"], told: str | None, tmp_path: Path
) -> None:
    conv = keras.layers.Conv2D(4, kernel, strides=2, padding="same", name="conv")
    keras.Sequential([keras.layers.Input((size, size, 3)), conv]).save(tmp_path / "m.keras")
    layer = Conv(name="conv", out_channels=4, kernel=(kernel, kernel), stride=(2, 2), pad=(pad, pad), rounding=rounding)
    spec = ModelSpec(name="same", title="", inputs=(Input(shape=(3, size, size)),), layers=(layer,))
    if told is None:
        assert load(tmp_path / "m.keras", spec=spec).spec == spec
        return
    with pytest.raises(ZooError, match=told):
        load(tmp_path / "m.keras", spec=spec)


def test_what_is_described_is_held_against_the_network(tmp_path: Path) -> None:
    weights = small_weights("bvlc_alexnet")
    save(weights, tmp_path / "m.keras")
    for field, value in (("k", 2.0), ("alpha", 1e-3), ("size", 3)):
        with pytest.raises(ZooError, match=f"{field} of the normalisation after conv1 is"):
            load(tmp_path / "m.keras", spec=weights.spec.change("norm1", **{field: value}))
    for layer, change in (("pool2", {"stride": (1, 1)}), ("conv3", {"stride": (2, 2)}), ("conv4", {"groups": 1})):
        with pytest.raises(ZooError):
            load(tmp_path / "m.keras", spec=weights.spec.change(layer, **change))


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_branches_holes_and_layers_of_generated_source_are_held_against_the_network(name: str, tmp_path: Path) -> None:
    layers = (
        Conv(name="left", out_channels=4, kernel=(3, 3), pad=(2, 2), dilation=(2, 2)),
        Conv(name="right", inputs=("data",), out_channels=4, kernel=(1, 1)),
        Eltwise(name="sum", inputs=("left", "right")),
        MVN(name="norm"),
        Concat(name="both", inputs=("norm", "right")),
        Dense(name="fc", out_features=3),
    )
    spec = ModelSpec(name="branches", title="", inputs=(Input(shape=(3, 8, 8)),), layers=layers)
    save(probe_weights(spec), tmp_path / name)
    assert load(tmp_path / name, spec=spec).spec == spec
    with pytest.raises(ZooError, match=r"it has MeanVarianceNormalization .*1e-09.*, not .*0\.01"):
        load(tmp_path / name, spec=spec.change("norm", eps=0.01))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"ReLU"', '"Lambda"', "relu1 is a Lambda, which is Python code"),
        ('"Conv2D"', '"QuantConv2D"', "conv1 is a QuantConv2D, and what that does with its weights"),
        ('"ReLU"', '"TheirOwn"', "after conv1 it has activation|function of the activation after conv1 is TheirOwn"),
        ('"filters"', '"nb_filter"', "described by Keras 1, in other words; load it in Keras 2"),
        ('"layers"', '"levels"', "laid out otherwise than Keras 2 and 3 do it"),
        ('"channels_last"', '"channels_first"', "channels first"),
    ],
)
def test_a_description_of_others_is_refused_in_a_line(old: str, new: str, told: str, tmp_path: Path) -> None:
    weights = small_weights("alexnet_mini")
    save(weights, tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as ours, zipfile.ZipFile(tmp_path / "t.keras", "w") as theirs:
        for name in ours.namelist():
            data = ours.read(name)
            theirs.writestr(name, data.replace(old.encode(), new.encode()) if name == "config.json" else data)
    with pytest.raises(ZooError, match=told):
        load(tmp_path / "t.keras", spec=weights.spec)


def test_what_describes_itself_otherwise_is_told_with_its_tensors(tmp_path: Path) -> None:
    keras.Sequential(
        [keras.layers.Input((8, 8, 3)), keras.layers.Lambda(abs, name="abs"), keras.layers.Conv2D(4, 3, name="conv1")]
    ).save(tmp_path / "m.keras")
    told = info(tmp_path / "m.keras", Reading())
    assert [tensor["name"] for tensor in told["tensors"]] == ["conv1/kernel", "conv1/bias"]
    assert (told["fits"], told["becomes"]) == ([], []) and "abs is a Lambda" in told["unread"]


KERAS = """
import numpy as np, sys, keras, net
data = dict(np.load("inputs.npz"))
def answer(model):
    found = model([data[x.name] for x in model.inputs], training=False)
    found = found if isinstance(found, list) else [found]
    return [keras.ops.convert_to_numpy(y) for y in found]
models = [keras.saving.load_model("m.keras"), keras.saving.load_model("m.h5"), net.build()]
models[2].load_weights("m.weights.h5")
for model in models[1:]:
    for one, other in zip(answer(models[0]), answer(model), strict=True):
        np.testing.assert_array_equal(one, other)
np.savez("outputs.npz", *answer(models[0]))
models[0].save("again.keras"), models[1].save("again.h5"), models[2].save_weights("again.weights.h5")
assert models[0].get_config()["layers"][-1]
"""


@pytest.mark.slow
def test_keras_loads_what_is_written_with_the_generated_source_alone(tmp_path: Path) -> None:
    spec = replace(merged(KINDS | TWINS), name="net")
    tensors, inputs = probe(spec)
    weights = Weights(spec=spec, tensors=tensors, source="probe")
    for file in NAMES:
        save(weights, tmp_path / file)
    generate(spec, tmp_path)
    given = {name: native(inputs[source.name]) for name, source in zip(table(spec).inputs, spec.inputs, strict=True)}
    np.savez(tmp_path / "inputs.npz", **cast(Any, given))
    command = [sys.executable, "-c", KERAS]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "KERAS_BACKEND": "torch"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    expected = reference.forward(spec, tensors, inputs)
    with np.load(tmp_path / "outputs.npz") as found:
        for name, y in zip(spec.outputs, found.values(), strict=True):
            y = y.transpose(0, 3, 1, 2) if y.ndim == 4 else y
            peak = np.nanmax(np.abs(expected[name]))
            np.testing.assert_allclose(y, expected[name], rtol=0, atol=1e-5 * peak, err_msg=name)
    for file in NAMES:
        assert bits(load(tmp_path / file.replace("m.", "again."), spec=spec)) == bits(weights)


def native(x: Array) -> Array:
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x


def test_what_keras_cannot_have_is_not_written(tmp_path: Path) -> None:
    of_image, rows = Dense(name="a", out_features=3), Flatten(name="rows", inputs=("in0",))
    spec = replace(
        net(of_image, rows, replace(of_image, name="b", inputs=("rows",))),
        ties=(Tie(name="t", parameters=("a.weight", "b.weight")),),
    )
    weights = Weights(spec=spec, tensors=probe(spec)[0], source="probe")
    for file in ("m.keras", "m.h5"):
        with pytest.raises(UnsupportedError, match=r"a\.weight are tied, but lie differently in Keras"):
            save(weights, tmp_path / file)
    assert not [*tmp_path.iterdir()]
    with pytest.raises(ZooError, match="read here, not written"):
        save(weights, tmp_path / "w.mat")


def test_a_snapshot_of_caffe_in_hdf5(tmp_path: Path) -> None:
    weights = small_weights("alexnet_mini")
    path = tmp_path / "snap_iter_5.caffemodel.h5"
    with h5.File(path, "w") as file:
        for name, tensor in weights.tensors.items():
            layer, _, role = name.rpartition(".")
            file.create_dataset(f"data/{layer}/{int(role == 'bias')}", data=tensor)
        file.create_group("data/relu1")
    found: Weights = load(path, spec=weights.spec)
    for name, tensor in weights.tensors.items():
        np.testing.assert_array_equal(np.asarray(found.tensors[name]), np.asarray(tensor))
    with h5.File(tmp_path / "a.solverstate.h5", "w") as file:
        file.create_group("history")
        file["learned_net"] = "snap_iter_5.caffemodel.h5"
    with pytest.raises(FileFormatError, match="solver's state"):
        load(tmp_path / "a.solverstate.h5")
    with h5.File(path, "w") as file:
        file.create_dataset("data/conv1/1", data=np.zeros(3))
    with pytest.raises(FileFormatError, match="no blob of a layer"):
        load(path)


def hostile(kind: str, file: Any, folder: Path) -> None:
    match kind:
        case "external link":
            file["layers"] = h5.ExternalLink("other.h5", "/")
        case "soft link":
            file["layers"] = h5.SoftLink("/somewhere")
        case "external storage":
            (folder / "secret").write_bytes(bytes(400))
            file.create_dataset("w", (100,), "f", external=[(str(folder / "secret"), 0, 400)])
        case "virtual":
            layout = h5.VirtualLayout((100,), "f")
            layout[:] = h5.VirtualSource(str(folder / "other.h5"), "w", (100,))
            file.create_virtual_dataset("w", layout)
        case "endless":
            file.create_dataset("w", (1 << 40,), "f", chunks=(1 << 20,), compression="gzip")
        case "unwritten":
            file.create_dataset("w", (1 << 40,), "f")
        case "plugin":
            created = h5.h5p.create(h5.h5p.DATASET_CREATE)
            created.set_chunk((4,))
            created.set_filter(32001, h5.h5z.FLAG_OPTIONAL)
            h5.h5d.create(file.id, b"w", h5.h5t.NATIVE_FLOAT, h5.h5s.create_simple((4,)), created)
        case "objects":
            file.create_dataset("w", (3,), h5.string_dtype())
        case "cycle":
            file.create_group("a")["a"] = file["/"]
        case _:
            raise AssertionError(kind)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("external link", "leads elsewhere"),
        ("soft link", "leads elsewhere"),
        ("external storage", "in another file"),
        ("virtual", "in another file"),
        ("endless", "larger than what is stored"),
        ("unwritten", "larger than what is stored"),
        ("plugin", "not built into HDF5"),
        ("objects", "arrays of numbers alone"),
        ("cycle", "nested without end"),
    ],
)
def test_hdf5_that_leads_elsewhere_is_refused(tmp_path: Path, kind: str, told: str) -> None:
    with h5.File(tmp_path / "a.h5", "w") as file:
        hostile(kind, file, tmp_path)
    with pytest.raises(FileFormatError, match=told) as caught:
        load(tmp_path / "a.h5")
    assert "\n" not in str(caught.value)


def test_damaged_hdf5_is_read_or_refused_in_one_line(tmp_path: Path) -> None:
    with h5.File(tmp_path / "a.h5", "w") as file:
        for i, name in enumerate(("conv1", "fc6")):
            file[f"layers/l{i}/vars/0"] = np.arange(600.0).reshape(20, 30)
            file[f"layers/l{i}/vars"].attrs["name"] = name
    whole, rng, refused = (tmp_path / "a.h5").read_bytes(), np.random.default_rng(2), 0
    damaged = [whole[:size] for size in rng.integers(9, len(whole), 40)]
    damaged += [whole[:at] + rng.bytes(3) + whole[at + 3 :] for at in rng.integers(8, 3000, 200)]
    for data in damaged:
        (tmp_path / "b.h5").write_bytes(data)
        try:
            load(tmp_path / "b.h5", spec=SPEC)
        except ZooError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused == len(damaged)
    assert read_hdf5(tmp_path / "a.h5").texts == {
        ("layers/l0/vars", "name"): "conv1",
        ("layers/l1/vars", "name"): "fc6",
    }


@pytest.mark.parametrize("damage", [bytes(16), bytes([1] * 8 + [0xF0] + [0xFF] * 7)])
@pytest.mark.parametrize("object_at", [0, 1])
def test_a_heap_of_texts_without_end_is_refused(object_at: int, damage: bytes, tmp_path: Path) -> None:
    """An object without a number and a size, or as large as all 64 bits can say: HDF5 1.14 goes round for ever."""
    texts = {("g", "name"): "conv", ("g", "other"): "pool"}
    arrays = {"g/x": ((1,), lambda: np.zeros(1, np.float32))}
    (tmp_path / "a.h5").write_bytes(b"".join(hdf5_pieces(tmp_path / "outline", arrays, texts)))
    whole = (tmp_path / "a.h5").read_bytes()
    at = whole.index(b"GCOL\x01") + 16 + 24 * object_at
    (tmp_path / "a.h5").write_bytes(whole[:at] + damage + whole[at + 16 :])
    with pytest.raises(ValueError, match="a heap of texts that is not made of its objects"):
        read_hdf5(tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"activation": "tanh"}, "function of the activation after conv1 is tanh"),
        ({"activation": "linear"}, "after conv1 it has weighted, not weighted, activation"),
        ({"dilation_rate": 2}, "dilation of conv1 is .2, 2."),
        ({"padding": "same"}, "pad of conv1 is .1, 1."),
        ({"then": "gelu"}, "activation, activation 2, not weighted, activation"),
    ],
)
def test_a_network_that_the_file_describes_otherwise_is_refused(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    how = {"activation": "relu"} | change
    then = [how.pop("then")] if "then" in how else []
    for name in ("m.keras", "m.h5"):
        keras.backend.clear_session()
        keras.Sequential(
            [
                keras.layers.Input((10, 10, 3)),
                keras.layers.Conv2D(4, 3, name="conv1", **how),
                *map(keras.layers.Activation, then),
                keras.layers.Conv2D(6, 3, groups=2, name="conv2"),
                keras.layers.MaxPooling2D(2),
                keras.layers.Flatten(),
                keras.layers.Dense(7, name="fc6"),
                keras.layers.Dense(7, name="fc7"),
            ]
        ).save(tmp_path / name)
        with pytest.raises(ZooError, match=said):
            load(tmp_path / name, spec=SPEC)


@pytest.mark.parametrize("damage", ["packed", "encrypted", "packed otherwise", "moved"])
def test_a_damaged_archive_is_refused_in_one_line(damage: str, tmp_path: Path) -> None:
    save(small_weights("alexnet_mini"), tmp_path / "good.keras")
    packing = {"packed": zipfile.ZIP_DEFLATED, "packed otherwise": zipfile.ZIP_LZMA}.get(damage, zipfile.ZIP_STORED)
    with (
        zipfile.ZipFile(tmp_path / "good.keras") as good,
        zipfile.ZipFile(tmp_path / "w.keras", "w", packing) as other,
    ):
        for member in good.namelist():
            other.writestr(member, good.read(member))
        place = other.getinfo("model.weights.h5")
    data = bytearray((tmp_path / "w.keras").read_bytes())
    central = data.rindex(b"PK\x01\x02")  # the last one's, of the members in their order
    while b"model.weights.h5" not in data[central : central + 80]:
        central = data.rindex(b"PK\x01\x02", 0, central)
    if damage == "packed":
        start = place.header_offset + 200
        data[start : start + 64] = bytes(64)
    elif damage == "encrypted":
        data[central + 8] |= 1
    elif damage == "moved":
        data[central + 42 : central + 46] = (len(data) - 4).to_bytes(4, "little")
    (tmp_path / "w.keras").write_bytes(data)
    with pytest.raises(FileFormatError, match=r"no Keras file that can be read: model\.weights\.h5|config\.json"):
        load(tmp_path / "w.keras", spec=registry.model("alexnet_mini"))


def front(*layers: Any) -> str:
    return keras.Sequential([keras.layers.Input((10, 10, 3)), *layers]).to_json()


def test_what_prepares_images_in_front_is_how_they_are_prepared(tmp_path: Path) -> None:
    model = network(True)
    preparing = [
        keras.layers.Rescaling(1 / 127.5, offset=-1),
        keras.layers.Normalization(mean=np.array([0.1, 0.2, 0.3]), variance=[1.0, 4.0, 0.25]),
    ]
    keras.Sequential([keras.layers.Input((10, 10, 3)), keras.Sequential(preparing), model]).save(tmp_path / "m.keras")
    found = load(tmp_path / "m.keras", spec=SPEC).spec.preprocessing
    assert found is not None
    pixels = np.random.default_rng(1).integers(0, 256, (10, 10, 3), np.uint8)
    theirs = np.asarray(preparing[1](preparing[0](pixels[None].astype(np.float32))))[0].transpose(2, 0, 1)
    np.testing.assert_allclose(normalise(pixels, found), theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        (lambda: [keras.layers.Normalization(name="n")], "n is a Normalization that was adapted"),
        (lambda: [keras.layers.Normalization(name="n", mean=1.0, variance=1.0, invert=True)], "n is a Norm.* inverted"),
        (lambda: [keras.layers.Rescaling([1.0, 2.0, 3.0], name="r")], "r is a Rescaling of other than one scale"),
        (lambda: [keras.layers.Rescaling(2.0, name="r"), keras.layers.Rescaling(2.0, name="s")], "by r .*, s "),
        (
            lambda: [keras.layers.ReLU(), keras.layers.Rescaling(2.0, name="r")],
            "r is a Rescaling, which is read before",
        ),
    ],
)
def test_what_prepares_images_otherwise_is_refused_by_name(layers: Callable[[], list[Any]], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        described(front(*layers()), ())
