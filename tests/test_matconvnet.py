"""MatConvNet's files, as scipy writes what MATLAB would."""

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


def test_what_is_no_network_is_refused(tmp_path: Path, weights: Weights) -> None:
    io.savemat(tmp_path / "a.mat", {"x": np.zeros(3)})
    with pytest.raises(FileFormatError, match="no network of MatConvNet"):
        load(tmp_path / "a.mat")
    (tmp_path / "a.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n")
    with pytest.raises(FileFormatError, match="save it with -v7"):
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
    found = cells(weights, old=False)
    next(item for item in found[0] if item["name"] == layer).update(fields)
    io.savemat(tmp_path / "net.mat", {"layers": found})
    if said is None:
        load(tmp_path / "net.mat", spec=weights.spec)
        return
    with pytest.raises(ZooError, match=said):
        load(tmp_path / "net.mat", spec=weights.spec)


def test_a_file_that_ends_the_reader_of_scipy_ends_nobody_else(
    tmp_path: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As some damaged ones do, by a segmentation fault; which ones, depends on scipy."""
    io.savemat(tmp_path / "net.mat", {"layers": cells(weights, False)})
    load(tmp_path / "net.mat", spec=weights.spec)
    monkeypatch.setattr(files, "_TRIAL", "import os; os.abort()")
    with pytest.raises(FileFormatError, match="scipy's reader is ended by it"):
        load(tmp_path / "net.mat", spec=weights.spec)
