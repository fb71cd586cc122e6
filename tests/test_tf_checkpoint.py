"""Checkpoints without TensorFlow: our reader and writer against each other, against TensorFlow, and against damage."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.convert import load, save
from converters.formats import keras, matconvnet, tf_slim
from converters.tensormap import to_canonical, to_native
from converters.weights import Weights
from tests.small import shrink
from zoo.errors import FileFormatError, WeightsError, ZooError
from zoo.layers import BatchNorm, Conv, Dense, Input, ModelSpec, Pool, ReLU, Scale, Softmax
from zoo.registry import model
from zoo.shapes import parameter_shapes
from zoo.wire.checkpoint import write_v2
from zoo.wire.checkpoint_slices import joined
from zoo.wire.protobuf import varint
from zoo.wire.snappy import unpacked
from zoo.wire.table import crc32c, masked, read_table, write_table

SPEC = ModelSpec(
    name="tiny",
    title="tiny",
    inputs=(Input(name="data", shape=(4, 9, 9)),),
    layers=(
        Conv(name="conv1", out_channels=6, kernel=(3, 2), groups=2),
        BatchNorm(name="norm"),
        Scale(name="scale", bias=True),
        Pool(name="pool", mode="max", kernel=(3, 3), stride=(2, 2)),
        Dense(name="fc6", out_features=8),
        ReLU(name="relu6"),
        Dense(name="fc7", out_features=8),
        Dense(name="fc8", out_features=5),
        Softmax(name="prob"),
    ),
)
HEAD = ModelSpec(name="head", title="head", inputs=(Input(shape=(8,)),), layers=(Dense(name="fc", out_features=8),))


def probe(spec: ModelSpec = SPEC, seed: int = 0) -> Weights:
    rng = np.random.default_rng(seed)
    tensors = {name: rng.normal(size=shape).astype("f") for name, shape in parameter_shapes(spec).items()}
    return Weights(spec=spec, tensors=tensors, source="probe")


CHAIN = ModelSpec(
    name="chain",
    title="chain",
    inputs=(Input(shape=(4, 9, 9)),),
    layers=(
        Conv(name="conv1", out_channels=4, kernel=(3, 3)),
        Conv(name="conv2", out_channels=4, kernel=(3, 3)),
        Dense(name="fc6", out_features=7),
    ),
)
ROWS = [f"{layer}.{role}" for layer in ("conv1", "conv2", "fc6") for role in ("weight", "bias")]


@pytest.mark.parametrize("form", [tf_slim, keras, matconvnet], ids=lambda form: form.__name__)
@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["Variable", *(f"Variable_{i}" for i in range(1, 6))], True),
        (["a/k9", "a/b9", "a/k10", "a/b10", "z/answer", "z/bound"], True),
        (["block_2/k", "block_2/b", "block_10/k", "block_10/b", "answer/k", "answer/b"], True),
        (["conv1/weights", "conv1/biases", "conv2/weights", "conv2/biases", "logits/w", "logits/b"], True),
        (["conv2/weights", "conv2/biases", "conv3/weights", "conv3/biases", "logits/w", "logits/b"], False),
        (["left/k", "left/b", "right/k", "right/b", "answer/k", "answer/b"], False),
        (["a_1/k", "a_1/b", "a_2/k", "c_2/b", "answer/k", "answer/b"], False),
    ],
)
def test_names_that_say_nothing_are_matched_by_shape_and_number(form: Any, names: list[str], told: bool) -> None:
    weights = probe(CHAIN)
    native = {
        entry.canonical: tensor
        for entry, tensor in zip(
            tf_slim.entries(CHAIN, None), to_native(weights, tf_slim.entries(CHAIN, None)).values(), strict=True
        )
    }
    theirs = {name: native[row] for name, row in zip(names, ROWS, strict=True)}
    table = form.entries(CHAIN, dict(sorted(theirs.items())))
    assert all(entry.by_order for entry in table) == told
    if told:
        found = {entry.canonical: entry.native for entry in table}
        assert found == dict(zip(ROWS, names, strict=True))


def same(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    assert list(a) == list(b)
    for name in a:
        np.testing.assert_array_equal(
            np.ascontiguousarray(a[name]).view("u4"), np.ascontiguousarray(b[name]).view("u4")
        )


@pytest.fixture(scope="module")
def tf() -> Any:
    return pytest.importorskip("tensorflow.compat.v1")


def saved_by_tensorflow(tf: Any, prefix: Path, tensors: Mapping[str, Any], version: int = 2, **options: Any):
    with tf.Graph().as_default(), tf.Session() as session:
        for name, value in tensors.items():
            variable = tf.get_variable(name, initializer=tf.zeros_initializer, shape=value.shape, dtype=value.dtype)
            session.run(variable.initializer, {variable.initializer.inputs[1]: value})
        saver = tf.train.Saver(write_version=version, **options)
        return saver.save(session, str(prefix), write_meta_graph=False, write_state=False)


def test_checksum():
    # RFC 3720, B.4: 32 bytes of zeros; crc32c.h: the mask.
    assert crc32c(b"\0" * 32) == 0x8A9136AA
    assert crc32c(b"56789", crc32c(b"1234")) == crc32c(b"123456789") == 0xE3069283
    assert masked(0) == 0xA282EAD8


def test_round_trip_gives_the_same_bits(tmp_path: Path) -> None:
    weights = probe()
    odd = np.array([0.0, -0.0, 1e-45, 3.4028235e38, -1.5], "f")
    weights.tensors["fc8.bias"][:] = odd
    files = save(weights, tmp_path / "tiny.ckpt")
    assert sorted(path.name for path in files) == ["tiny.ckpt.data-00000-of-00001", "tiny.ckpt.index"]
    same(load(tmp_path / "tiny.ckpt", spec=SPEC).tensors, weights.tensors)
    same(load(tmp_path / "tiny.ckpt.index", spec=SPEC).tensors, weights.tensors)
    first = [path.read_bytes() for path in files]
    assert first == [path.read_bytes() for path in save(weights, tmp_path / "tiny.ckpt", force=True)]


def test_tensorflow_reads_every_bit(tf: Any, tmp_path: Path) -> None:
    weights = probe()
    save(weights, tmp_path / "tiny.ckpt")
    reader = tf.train.load_checkpoint(str(tmp_path / "tiny.ckpt"))
    kernel = weights.tensors["fc6.weight"].reshape(8, 6, 3, 4).transpose(2, 3, 1, 0)
    expected = {
        "tiny/conv1/weights": weights.tensors["conv1.weight"].transpose(2, 3, 1, 0),
        "tiny/conv1/biases": weights.tensors["conv1.bias"],
        "tiny/norm/moving_mean": weights.tensors["norm.mean"],
        "tiny/norm/moving_variance": weights.tensors["norm.variance"],
        "tiny/scale/gamma": weights.tensors["scale.weight"],
        "tiny/scale/beta": weights.tensors["scale.bias"],
        "tiny/fc6/weights": kernel,
        "tiny/fc6/biases": weights.tensors["fc6.bias"],
        "tiny/fc7/weights": weights.tensors["fc7.weight"].T[None, None],
        "tiny/fc7/biases": weights.tensors["fc7.bias"],
        "tiny/fc8/weights": weights.tensors["fc8.weight"].T[None, None],
        "tiny/fc8/biases": weights.tensors["fc8.bias"],
    }
    assert set(reader.get_variable_to_shape_map()) == set(expected)
    same({name: reader.get_tensor(name) for name in expected}, expected)


def test_the_bytes_are_those_of_tensorflows_saver(tf: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    values = [rng.normal(size=shape).astype("f") for shape in ((), (3,), (1, 2))]
    tensors = {f"scope_{i % 7}/{i:04d}{'x' * 250}/weights": values[i % 3] for i in range(1200)}
    write_v2(tmp_path / "ours", tensors)
    ops = tf.raw_ops
    names = sorted(tensors)
    with tf.Graph().as_default(), tf.Session() as session:
        constants = {id(value): tf.constant(value) for value in values}
        session.run(
            ops.SaveV2(
                prefix=str(tmp_path / "theirs"),
                tensor_names=names,
                shape_and_slices=[""] * len(names),
                tensors=[constants[id(tensors[name])] for name in names],
            )
        )
    assert (tmp_path / "ours.index").stat().st_size > 262144, "more than one block"
    for suffix in (".index", ".data-00000-of-00001"):
        assert (tmp_path / f"ours{suffix}").read_bytes() == (tmp_path / f"theirs{suffix}").read_bytes()


def packed(data: bytes) -> bytes:
    """A block in Snappy: runs of bytes, and copies that may run into themselves, of every form of either."""
    found, at, run = bytearray(varint(len(data))), 0, bytearray()
    while at <= len(data):
        where = data.rfind(data[at : at + 8], 0, at + 7) if at + 8 <= len(data) else -1
        if run and (where >= 0 or len(run) == 300 or at == len(data)):
            found += bytes([len(run) - 1 << 2]) if len(run) <= 60 else b"\xf4" + (len(run) - 1).to_bytes(2, "little")
            found, run = found + run, bytearray()
        offset = at - where
        if where < 0:
            run += data[at : at + 1]
        elif offset < 2048:
            found += bytes([1 | 4 << 2 | offset >> 8 << 5, offset & 255])
        else:
            found += bytes([2 | 7 << 2]) + offset.to_bytes(2, "little")
        at += 1 if where < 0 else 8
    return bytes(found)


def test_blocks_that_are_packed_are_read_as_tensorflow_reads_them(
    tf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(4)
    names = sorted(f"scope_{i % 7}/{rng.bytes(30).hex()}/weights" for i in range(90))
    tensors = {name: rng.normal(size=3).astype("f") for name in names}

    def append(written: bytearray, block: Any) -> bytes:
        content = packed(block.finish())
        handle = varint(len(written)) + varint(len(content))
        written += content + b"\1" + masked(crc32c(content + b"\1")).to_bytes(4, "little")
        return handle

    write_v2(tmp_path / "plain", tensors)
    monkeypatch.setattr("zoo.wire.table._append", append)
    write_v2(tmp_path / "packed", tensors)
    assert (tmp_path / "packed.index").stat().st_size < (tmp_path / "plain.index").stat().st_size
    theirs = tf.train.load_checkpoint(str(tmp_path / "packed"))
    same({name: theirs.get_tensor(name) for name in tensors}, tensors)
    same(dict(tf_slim.read(tmp_path / "packed").tensors), tensors)


@pytest.mark.parametrize(
    ("block", "told"),
    [
        (b"\xff\xff\xff\x7f\0a", "declares 268,435,455"),
        (b"\x04\0a", "unfolds to 1 bytes, not the 4"),
        (b"\x05\0a\x01\x02", "copies what is not there"),
        (b"\x05\0a\x01\0", "copies what is not there"),
        (b"\x05\0a\xfe", "copies what is not there"),
    ],
)
def test_a_damaged_packed_block_is_refused(block: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        unpacked(memoryview(block))


@pytest.mark.parametrize("version", [1, 2])
def test_we_read_what_tensorflow_writes(tf: Any, tmp_path: Path, version: int) -> None:
    rng = np.random.default_rng(2)
    tensors = {
        "a/weights": rng.normal(size=(3, 3, 2, 40)).astype("f"),
        "a/biases": rng.normal(size=40).astype("f"),
        "b/scalar": np.array(2.5, "f"),
        "b/double": rng.normal(size=(2, 3)),
        "global_step": np.array(123, "i8"),
    }
    saved_by_tensorflow(tf, tmp_path / "model.ckpt", tensors, version)
    read = tf_slim.read(tmp_path / "model.ckpt").tensors
    assert set(read) == set(tensors)
    for name in ("a/weights", "a/biases", "b/scalar", "b/double"):
        assert read[name].dtype == tensors[name].dtype
        np.testing.assert_array_equal(read[name], tensors[name])
    if version == 2:
        assert read["global_step"] == 123


def test_several_shards(tf: Any, tmp_path: Path) -> None:
    tensors = {f"v{i}": np.full((5,), i, "f") for i in range(4)}
    with tf.Graph().as_default(), tf.Session() as session:
        for shard in range(2):
            names = [f"v{2 * shard}", f"v{2 * shard + 1}"]
            session.run(
                tf.raw_ops.SaveV2(
                    prefix=str(tmp_path / f"part{shard}"),
                    tensor_names=names,
                    shape_and_slices=["", ""],
                    tensors=[tf.constant(tensors[name]) for name in names],
                )
            )
        parts = [str(tmp_path / f"part{shard}") for shard in range(2)]
        session.run(tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=str(tmp_path / "all")))
    assert (tmp_path / "all.data-00001-of-00002").exists()
    same(dict(sorted(tf_slim.read(tmp_path / "all").tensors.items())), tensors)
    (tmp_path / "all.data-00001-of-00002").unlink()
    with pytest.raises(FileFormatError, match="data-00001-of-00002: no such file"):
        tf_slim.read(tmp_path / "all")


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("axis", [0, 2])
def test_a_partitioned_variable_is_put_together(tf: Any, tmp_path: Path, version: int, axis: int) -> None:
    whole = np.arange(7 * 3 * 5 * 2, dtype="f").reshape(7, 3, 5, 2)
    with tf.Graph().as_default(), tf.Session() as session:

        def part(shape: list[int], partition_info: Any, dtype: Any = None) -> Any:
            spans = zip(partition_info.var_offset, shape, strict=True)
            return tf.constant(whole[tuple(slice(start, start + size) for start, size in spans)])

        cut = tf.fixed_size_partitioner(3, axis=axis)
        tf.get_variable("a/w", whole.shape, initializer=part, partitioner=cut)
        tf.get_variable("a/whole", initializer=tf.zeros([4]))
        session.run(tf.global_variables_initializer())
        saver = tf.train.Saver(write_version=version)
        saver.save(session, str(tmp_path / "w"), write_meta_graph=False, write_state=False)
    read = tf_slim.read(tmp_path / "w").tensors
    np.testing.assert_array_equal(read["a/w"], whole)
    assert read["a/whole"].shape == (4,)


def test_slices_that_make_up_nothing_are_refused() -> None:
    parts, rows = [np.zeros((2, 3), "f"), np.ones((1, 3), "f")], ((0, 2), (2, 1))
    whole = [((0, 2), (0, None)), ((2, 1), (0, None))]
    assert joined("w", (3, 3), whole, parts).sum() == 3
    wrong: list[Any] = [
        (whole[:1], parts[:1]),
        (whole, parts[::-1]),
        ([whole[0], whole[0]], [parts[0], parts[0]]),
        ([((0, 2), (0, 1)), ((2, 1), (0, None))], parts),
        ([(rows[0],), (rows[1],)], parts),
        ([], []),
    ]
    for places, arrays in wrong:
        with pytest.raises(ValueError, match=r"slices of w do not make up its shape \(3, 3\)"):
            joined("w", (3, 3), places, arrays)
    with pytest.raises(ValueError, match=r"the 1 slices of w do not make up its shape \(\)"):
        joined("w", (), [()], [np.ones((), "f")])


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("scope", ["alexnet_v2/", "my/own/scope/", ""])
def test_slims_own_network_in_any_scope_with_its_slots(tf: Any, tmp_path: Path, version: int, scope: str) -> None:
    spec = shrink("alexnet_v2")
    weights = probe(spec)
    native = {}
    for entry in tf_slim.entries(spec, None):
        canonical = weights.tensors[entry.canonical]
        name = scope + entry.native.partition("/")[2]
        native[name] = canonical
        if "fc6/weights" in name:
            native[name] = canonical.reshape(-1, *[entry.sizes[axis] for axis in "CHW"]).transpose(2, 3, 1, 0)
        elif "fc" in name and canonical.ndim == 2:
            native[name] = canonical.T[None, None]
        elif canonical.ndim == 4:
            native[name] = canonical.transpose(2, 3, 1, 0)
    slots = {f"{name}/{slot}": value + 1 for name, value in native.items() for slot in ("Momentum", "RMSProp_1")}
    slots |= {"global_step": np.array(7, "i8"), f"{scope}conv1/biases/ExponentialMovingAverage": np.ones(4, "f")}
    saved_by_tensorflow(tf, tmp_path / "model.ckpt", native | slots, version)
    same(load(tmp_path / "model.ckpt", spec=spec).tensors, weights.tensors)


def test_matrices_and_the_names_of_tf_layers(tmp_path: Path) -> None:
    weights = probe()
    tensors = {name: value for name, value in weights.tensors.items() if not name.startswith(("fc", "conv1"))}
    native = {
        "conv1/kernel": weights.tensors["conv1.weight"].transpose(2, 3, 1, 0),
        "conv1/bias": weights.tensors["conv1.bias"],
        # rows run over H, W, C
        "fc6/kernel": weights.tensors["fc6.weight"].reshape(8, 6, 3, 4).transpose(2, 3, 1, 0).reshape(-1, 8),
        "fc6/bias": weights.tensors["fc6.bias"],
        "fc7/weights": weights.tensors["fc7.weight"].T,
        "fc7/biases": weights.tensors["fc7.bias"],
        "fc8/weights": weights.tensors["fc8.weight"].T,
        "fc8/biases": weights.tensors["fc8.bias"],
        "norm/moving_mean": tensors["norm.mean"],
        "norm/moving_variance": tensors["norm.variance"],
        "scale/gamma": tensors["scale.weight"],
        "scale/beta": tensors["scale.bias"],
    }
    write_v2(tmp_path / "m", native)
    same(load(tmp_path / "m", spec=SPEC).tensors, weights.tensors)
    weights = probe(HEAD)
    write_v2(
        tmp_path / "h",
        {"x/fc/weights": weights.tensors["fc.weight"].T[None, None], "x/fc/biases": weights.tensors["fc.bias"]},
    )
    same(load(tmp_path / "h", spec=HEAD).tensors, weights.tensors)


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    tensors = dict(tf_slim.to_native(probe(), tf_slim.entries(SPEC, None)))
    del tensors["tiny/conv1/biases"]
    tensors["tiny/extra"] = np.ones(3, "f")
    tensors["tiny/fc8/biases"] = np.ones(4, "f")
    write_v2(tmp_path / "bad", tensors)
    native = tf_slim.read(tmp_path / "bad")
    with pytest.raises(WeightsError) as caught:
        to_canonical(SPEC, tf_slim.entries(SPEC, native.tensors), native.tensors, "bad", tf_slim.ignored)
    message = str(caught.value)
    for part in ("tiny/conv1/biases is missing", "tiny/extra is not a parameter", "tiny/fc8/biases has shape (4,)"):
        assert part in message


def test_the_scope_tells_the_member_only_where_all_of_it_fits(tmp_path: Path) -> None:
    spec = model("alexnet").with_num_classes(3)
    shapes = parameter_shapes(spec)
    zeros = {
        e.native: np.broadcast_to(np.float32(0), e.native_shape(shapes[e.canonical]))
        for e in tf_slim.entries(spec, None)
    }
    assert tf_slim._spec(zeros) == spec
    assert tf_slim._spec({**zeros, "global_step": np.zeros(())}) == spec
    assert tf_slim._spec({**zeros, "alexnet/more": np.zeros(())}) is None
    assert tf_slim._spec({name.replace("alexnet/", "net/"): value for name, value in zeros.items()}) is None
    matrix = {**zeros, "alexnet/fc7/weights": np.broadcast_to(np.float32(0), (4096, 4096))}
    assert tf_slim._spec(matrix) is None, "someone else's alexnet may be any kind of alexnet"


@pytest.mark.parametrize(
    ("name", "slot"),
    [
        ("global_step", True),
        ("alexnet/conv1/weights/Momentum", True),
        ("conv1/weights/Adam_1", True),
        ("beta1_power", True),
        ("train/beta2_power_1", True),
        ("_CHECKPOINTABLE_OBJECT_GRAPH", True),
        ("conv1/weights", False),
        ("Momentum", False),
        ("conv1/Momentum/weights", False),
        ("conv1/steps", False),
    ],
)
def test_what_is_ignored(name: str, slot: str) -> None:
    assert tf_slim.ignored(name) == slot


def test_tables_of_every_size():
    rng = random.Random(0)
    for count in (0, 1, 15, 16, 17, 300, 5000):
        keys = sorted({bytes(rng.choices(b"ab\xff", k=rng.randrange(1, 12))) for _ in range(count)})
        items = [(key, rng.randbytes(rng.randrange(200))) for key in keys]
        assert [(key, bytes(value)) for key, value in read_table(memoryview(write_table(items)))] == items


@pytest.fixture
def sound(tmp_path: Path):
    save(probe(), tmp_path / "m.ckpt")
    return tmp_path / "m.ckpt"


def test_damage_is_refused_in_one_line(sound: Path) -> None:
    index, data = sound.with_name("m.ckpt.index"), sound.with_name("m.ckpt.data-00000-of-00001")
    good = index.read_bytes(), data.read_bytes()
    rng = random.Random(0)
    for target, other in ((index, data), (data, index)):
        original = target.read_bytes()
        for attempt in range(300):
            damaged = bytearray(original)
            if attempt % 3 == 0:
                del damaged[rng.randrange(len(damaged)) :]
            elif attempt % 3 == 1:
                damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
            else:
                start = rng.randrange(len(damaged))
                damaged[start : start + 8] = rng.randbytes(8)
            target.write_bytes(damaged)
            if bytes(damaged) == original:
                continue
            try:
                tensors = tf_slim.read(sound).tensors
            except FileFormatError as error:
                assert "\n" not in str(error)
            else:
                # Bytes that nothing points to: the footer's padding.
                assert target == index
                same(dict(tensors), dict(_read(good, sound.parent)))
        target.write_bytes(original)
        assert other.exists()


def _read(good: Any, folder: Path):
    (folder / "good.index").write_bytes(good[0])
    (folder / "good.data-00000-of-00001").write_bytes(good[1])
    return tf_slim.read(folder / "good").tensors


def rewrite(sound: Path, change: Any):
    """The index with its entries changed, and sound checksums."""
    index = sound.with_name("m.ckpt.index")
    items = [(key, bytes(value)) for key, value in read_table(memoryview(index.read_bytes()))]
    index.write_bytes(write_table([change(key, value) for key, value in items]))


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("shape", "is not its shape"),
        ("shard", "lies in shard 3 of 1"),
        ("overlap", "overlaps another tensor"),
        ("offset", "cut short"),
        ("header", "big-endian"),
    ],
)
def test_a_lying_index_is_refused(sound: Path, field: Any, message: str) -> None:
    lies = {
        "shape": b"\x08\x01\x12\x0a\x12\x08\x08\xff\xff\xff\xff\xff\xff\x0f\x28\x10",
        "shard": b"\x08\x01\x12\x04\x12\x02\x08\x04\x18\x03\x28\x10",
        "overlap": b"\x08\x01\x12\x04\x12\x02\x08\x04\x20\x04\x28\x10",
        "offset": b"\x08\x01\x12\x04\x12\x02\x08\x04\x20\xff\xff\xff\x7f\x28\x10",
    }

    def change(key: Any, value: Any):
        if field == "header":
            return key, value + b"\x10\x01" if key == b"" else value
        return key, lies[field] if key == b"tiny/norm/moving_mean" else value

    rewrite(sound, change)
    with pytest.raises(FileFormatError, match=message):
        tf_slim.read(sound)


def test_shards_may_not_leave_the_folder(sound: Path, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    data = sound.with_name("m.ckpt.data-00000-of-00001")
    data.rename(outside / "secret")
    data.symlink_to(outside / "secret")
    with pytest.raises(FileFormatError, match="leads out of the checkpoint's folder"):
        tf_slim.read(sound)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match=r"nothing\.ckpt\.index: no such file"):
        load(tmp_path / "nothing.ckpt", spec=SPEC)
    (tmp_path / "text.ckpt").write_bytes(b"\0no checkpoint at all, but long enough to hold a footer of 48 bytes")
    with pytest.raises(FileFormatError, match="does not end as a checkpoint"):
        load(tmp_path / "text.ckpt", spec=SPEC)


def test_no_tensorflow_is_needed():
    loaded = "{'tensorflow', 'tf_slim', 'google.protobuf'} & set(sys.modules)"
    code = f"import sys, converters.formats.tf_slim, zoo.frameworks.tf_slim; assert not {loaded}"
    subprocess.run([sys.executable, "-c", code], check=True)
