"""MatConvNet's files, as scipy writes what MATLAB would."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.convert import load
from converters.formats import matconvnet as files
from converters.tensormap import to_native
from converters.weights import Weights
from tests.small import small_weights
from zoo.errors import FileFormatError, WeightsError, ZooError

io: Any = pytest.importorskip("scipy.io")


@pytest.fixture(scope="module")
def weights() -> Weights:
    return small_weights("alexnet_mini")


def cells(weights: Weights, old: bool) -> Any:
    native, layers = to_native(weights, files.entries(weights.spec, None)), list[dict[str, Any]]()
    for name, tensor in native.items():
        layer, _, kind = name.split("/")[-2:][0], "", name.rpartition("/")[2]
        if kind == "weights":
            layers += [{"type": "conv", "name": layer, "arrays": [tensor, None]}, {"type": "relu", "name": f"r{layer}"}]
        else:
            next(item for item in layers if item["name"] == layer)["arrays"][1] = tensor.reshape(1, -1)
    for item in layers:
        arrays = item.pop("arrays", None)
        if arrays and old:
            item |= {"filters": arrays[0], "biases": arrays[1]}
        elif arrays:
            item["weights"] = np.empty((1, 2), object)
            item["weights"][0, 0], item["weights"][0, 1] = arrays
    found = np.empty((1, len(layers)), object)
    for i, item in enumerate(layers):
        found[0, i] = item
    return found


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_network_of_layers(tmp_path: Path, weights: Weights, old: bool, packed: bool, wrapped: bool) -> None:
    layers = {"layers": cells(weights, old)}
    io.savemat(tmp_path / "net.mat", {"net": layers} if wrapped else layers, do_compression=packed)
    (tmp_path / "net.mat").rename(tmp_path / "net.bin")
    found = load(tmp_path / "net.bin", spec=weights.spec)
    for name, tensor in weights.tensors.items():
        np.testing.assert_array_equal(np.asarray(found.tensors[name]), np.asarray(tensor))


def test_layers_without_names_go_by_their_place(
    tmp_path: Path, weights: Weights, caplog: pytest.LogCaptureFixture
) -> None:
    layers = cells(weights, False)
    for item in layers[0]:
        del item["name"]
    io.savemat(tmp_path / "net.mat", {"layers": layers})
    found = load(tmp_path / "net.mat", spec=weights.spec)
    assert "matched by order and shape: layers[1]/weights is conv1.weight" in caplog.text
    for name, tensor in weights.tensors.items():
        np.testing.assert_array_equal(np.asarray(found.tensors[name]), np.asarray(tensor))


def test_what_is_no_network_is_refused(tmp_path: Path, weights: Weights) -> None:
    io.savemat(tmp_path / "a.mat", {"x": np.zeros(3)})
    with pytest.raises(FileFormatError, match=r"no network of MatConvNet.*give a mean with --mean"):
        load(tmp_path / "a.mat")
    (tmp_path / "a.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n")
    with pytest.raises(FileFormatError, match="HDF5 that is damaged"):
        load(tmp_path / "a.mat")
    short = cells(weights, False)[:, 2:]
    io.savemat(tmp_path / "a.mat", {"layers": short})
    with pytest.raises(WeightsError, match=r"conv1/weights is missing"):
        load(tmp_path / "a.mat", spec=weights.spec)


def test_what_would_unfold_without_end_is_refused(tmp_path: Path) -> None:
    io.savemat(tmp_path / "a.mat", {"layers": np.zeros(1 << 25)}, do_compression=True)
    assert (tmp_path / "a.mat").stat().st_size < 1 << 20
    with pytest.raises(FileFormatError, match="unfold to far more"):
        files.read(tmp_path / "a.mat")


def test_damage_is_told_in_one_line(tmp_path: Path, weights: Weights) -> None:
    io.savemat(tmp_path / "a.mat", {"layers": cells(weights, False)})
    whole, rng = (tmp_path / "a.mat").read_bytes(), np.random.default_rng(1)
    for size in rng.integers(20, len(whole) - 8, 30):
        (tmp_path / "b.mat").write_bytes(whole[:size])
        with pytest.raises((FileFormatError, WeightsError)) as caught:
            load(tmp_path / "b.mat", spec=weights.spec)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("layer", "fields", "said"),
    [
        ("conv1", {"stride": 7.0}, "stride of conv1 is .7, 7."),
        ("conv1", {"pad": np.array([[1.0, 2.0, 1.0, 2.0]])}, None),  # no pair of ours says it; nothing is claimed
        ("rconv1", {"leak": 0.3}, "slope of the activation after conv1 is 0.3"),
        ("rconv1", {"type": "sigmoid"}, "function of the activation after conv1 is sigmoid"),
        ("rconv1", {"type": "pool", "method": "avg"}, "mode of the pooling after conv1 is ave"),
        ("rconv1", {"type": "lrn", "param": np.array([[5.0, 2.0, 1.0, 0.75]])}, "alpha of the normalisation"),
    ],
)
def test_what_its_layers_say_of_themselves_counts(
    tmp_path: Path, weights: Weights, layer: str, fields: dict[str, Any], said: str | None
) -> None:
    found = np.append(cells(weights, old=False), np.empty((1, 1), object), axis=1)
    found[0, -1] = {"type": "pool", "name": "last"}  # not weights alone
    next(item for item in found[0] if item["name"] == layer).update(fields)
    io.savemat(tmp_path / "net.mat", {"layers": found})
    if said is None:
        load(tmp_path / "net.mat", spec=weights.spec)
        return
    with pytest.raises(ZooError, match=said):
        load(tmp_path / "net.mat", spec=weights.spec)


def test_a_list_of_layers_with_weights_says_nothing_of_the_others(
    tmp_path: Path, weights: Weights, caplog: pytest.LogCaptureFixture
) -> None:
    found = cells(weights, old=False)
    next(item for item in found[0] if item["name"] == "conv1")["stride"] = 7.0
    io.savemat(tmp_path / "net.mat", {"layers": found})
    load(tmp_path / "net.mat", spec=weights.spec)
    assert "lists layers with weights alone" in caplog.text


def dag(weights: Weights) -> dict[str, Any]:
    """The same network as ``net.saveobj()`` of a DagNN gives it."""
    native = to_native(weights, files.entries(weights.spec, None))
    layers, params = dict[str, dict[str, Any]](), list[dict[str, Any]]()
    for name, tensor in native.items():
        layer, kind = name.split("/")[-2:]
        block = {"stride": [1.0, 1.0], "hasBias": True, "size": [1.0, 1.0, 1.0, 1.0]}
        item = layers.setdefault(
            layer,
            {"name": layer, "type": "dagnn.Conv", "inputs": ["x"], "outputs": ["y"], "params": [], "block": block},
        )
        item["params"].append(f"{layer}{kind[0]}")
        value = tensor if tensor.ndim > 1 else tensor.reshape(-1, 1)
        params.append({"name": f"{layer}{kind[0]}", "value": value, "learningRate": 1.0})
    meta = {
        "normalization": {"averageImage": np.tile(np.array([120.0, 110.0, 100.0]), (4, 5, 1))},
        "classes": {"name": ["n1", "n2"], "description": [f"class {i}" for i in range(10)]},
    }
    return {"layers": [*layers.values()], "params": params, "meta": meta}


def matlab_5(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: matlab_5(item) for name, item in value.items()}
    if not isinstance(value, list) or isinstance(value[0], float):
        return value
    cell = np.empty((1, len(value)), object)
    for i, item in enumerate(value):
        cell[0, i] = matlab_5(item)
    return cell


def matlab_73(path: Path, values: dict[str, Any]) -> None:
    """As MATLAB 7.3 lays it out: axes in reverse, cells and arrays of structs as references into ``#refs#``."""
    h5py: Any = pytest.importorskip("h5py")
    with h5py.File(path, "w", userblock_size=512) as file:
        kept, count = file.create_group("#refs#"), itertools.count()

        def put(group: Any, name: str, value: Any) -> Any:
            if isinstance(value, dict):
                made = group.create_group(name)
                made.attrs["MATLAB_class"] = np.bytes_("struct")
                for field, item in value.items():
                    put(made, field, item)
            elif (
                isinstance(value, list) and {type(item) for item in value} == {dict} and len({*map(tuple, value)}) == 1
            ):
                made = group.create_group(name)
                made.attrs["MATLAB_class"] = np.bytes_("struct")
                for field in value[0]:
                    made.create_dataset(field, data=references([item[field] for item in value]), dtype=h5py.ref_dtype)
            elif isinstance(value, list) and value and not isinstance(value[0], float):
                made = group.create_dataset(name, data=references(value), dtype=h5py.ref_dtype)
                made.attrs["MATLAB_class"] = np.bytes_("cell")
            elif isinstance(value, str):
                made = group.create_dataset(name, data=np.array([[ord(c)] for c in value], np.uint16))
                made.attrs["MATLAB_class"] = np.bytes_("char")
            else:
                made = group.create_dataset(name, data=np.atleast_2d(np.asarray(value)).T)
                made.attrs["MATLAB_class"] = np.bytes_("single")
            return made

        def references(items: list[Any]) -> Any:
            return np.array([[put(kept, f"r{next(count)}", item).ref] for item in items], h5py.ref_dtype)

        for name, value in values.items():
            put(file, name, value)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("newest", [False, True], ids=["MATLAB 5", "MATLAB 7.3"])
def test_a_dag_with_its_mean_and_its_classes(tmp_path: Path, weights: Weights, wrapped: bool, newest: bool) -> None:
    found = {"net": dag(weights)} if wrapped else dag(weights)
    if newest:
        matlab_73(tmp_path / "net.mat", found)
    else:
        io.savemat(tmp_path / "net.mat", matlab_5(found))
    loaded = load(tmp_path / "net.mat", spec=weights.spec)
    for name, tensor in weights.tensors.items():
        np.testing.assert_array_equal(np.asarray(loaded.tensors[name]), np.asarray(tensor))
    images = loaded.spec.preprocessing
    assert images
    assert (images.channels, images.mean) == ("RGB", (120.0, 110.0, 100.0))
    assert loaded.spec.classes == tuple(f"class {i}" for i in range(10))


def test_empty_structs_and_a_batch_normalisation_s_moments(tmp_path: Path, weights: Weights) -> None:
    """MATLAB writes a struct without fields as an array of nothing."""
    found, nothing = dag(weights), np.empty((0, 0))
    found["layers"].append({**found["layers"][0], "type": "dagnn.Sum", "params": nothing, "block": nothing})
    io.savemat(tmp_path / "net.mat", matlab_5({**found, "meta": nothing}))
    assert load(tmp_path / "net.mat", spec=weights.spec).spec.classes == ()
    found["params"].append({"name": "m", "value": np.ones((96, 2), np.float32), "learningRate": 1.0})
    names = [found["params"][i]["name"] for i in (1, 1)]
    found["layers"].append({**found["layers"][0], "name": "bn", "type": "dagnn.BatchNorm", "params": [*names, "m"]})
    io.savemat(tmp_path / "net.mat", matlab_5(found))
    assert files.read(tmp_path / "net.mat").tensors["bn/moments"].shape == (96, 2, 1, 1)
    with pytest.raises(ZooError, match="bn/moments"):
        load(tmp_path / "net.mat", spec=weights.spec)


def test_names_of_classes_that_a_new_head_has_left_behind_are_left_out(
    tmp_path: Path, weights: Weights, caplog: pytest.LogCaptureFixture
) -> None:
    found = dag(weights)
    found["meta"]["classes"]["description"] = [f"class {i}" for i in range(1000)]
    io.savemat(tmp_path / "net.mat", matlab_5(found))
    assert load(tmp_path / "net.mat", spec=weights.spec).spec.classes == ()
    assert "its names of 1000 classes are left out, 10 are put out" in caplog.text


def test_layers_of_matlab_7_3_are_compared_too(tmp_path: Path, weights: Weights) -> None:
    found = [{key: value for key, value in item.items() if key != "weights"} for item in cells(weights, old=False)[0]]
    for item, whole in zip(found, cells(weights, old=False)[0], strict=True):
        item |= {"weights": list(whole["weights"].reshape(-1))} if "weights" in whole else {}
    found[0] |= {"stride": 7.0}
    matlab_73(tmp_path / "net.mat", {"layers": [*found, {"type": "pool", "name": "last"}]})
    with pytest.raises(ZooError, match=r"stride of conv1 is .7, 7."):
        load(tmp_path / "net.mat", spec=weights.spec)
