"""Pictures through a network, from the command line."""

import json
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from converters.cli import main
from converters.convert import save
from converters.run import RunOptions, run
from converters.weights import Weights
from tests.small import small_weights
from zoo import reference
from zoo.errors import UnknownNameError, ZooError
from zoo.preprocess import canonical_input

NAMES = tuple(f"n0{i} thing {i}" for i in range(10))


@pytest.fixture(scope="module")
def weights() -> Weights:
    weights = small_weights("alexnet_mini")
    return weights.with_spec(replace(weights.spec, classes=NAMES))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for i, pixels in enumerate(np.random.default_rng(1).integers(0, 256, (5, 80, 90, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


@pytest.mark.parametrize("framework", [None, "caffe", "onnx", "pytorch", "tf_slim"])
def test_activations_and_classes_are_the_reference_s(
    weights: Weights, pictures: Path, tmp_path: Path, framework: str | None
) -> None:
    how = RunOptions(framework=framework, top=3, layers=("conv5", "fc6"), save=tmp_path / "a.npz", batch_size=2)
    result = run(weights, [pictures], how)
    assert (result.framework, result.output) == (framework or "pytorch", "prob")
    paths = [pictures / f"{i}.png" for i in range(5)]
    batch = np.stack([canonical_input(path, weights.spec) for path in paths])
    right = reference.forward(weights.spec, weights.tensors, {"data": batch})
    with np.load(tmp_path / "a.npz") as saved:
        assert list(saved) == ["images", "conv5", "fc6"]
        assert list(saved["images"]) == [str(path) for path in paths]
        for name in ("conv5", "fc6"):
            assert saved[name].dtype == np.float32
            assert np.abs(saved[name] - right[name]).max() <= 1e-5 * np.abs(right[name]).max()
    for seen, path, row in zip(result.seen, paths, right["prob"], strict=True):
        best = np.argsort(-row)[:3]
        assert seen.image == path
        assert [(index, name) for index, name, _ in seen.top] == [(i, NAMES[i]) for i in best]
        assert [value for *_, value in seen.top] == pytest.approx(row[best], rel=1e-3)


def test_equal_runs_give_equal_bytes(weights: Weights, pictures: Path, tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        run(weights, [pictures / "1.png"], RunOptions(save=tmp_path / name))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_activations_are_written_and_not_mapped(
    weights: Weights, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mapping takes room when it is written to: where there is none left, the system ends the process (SIGBUS)."""

    def no_mapping(*_: object, **__: object) -> None:
        raise AssertionError("mapped")

    monkeypatch.setattr("mmap.mmap", no_mapping)
    run(weights, [pictures], RunOptions(layers=("conv5",), save=tmp_path / "a.npz", batch_size=2))


def test_the_command(weights: Weights, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(weights, tmp_path / "w.onnx")
    command = ["run", str(tmp_path / "w.onnx"), str(pictures / "0.png"), "--top", "2"]
    assert main(command) == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == f"{pictures / '0.png'}: prob, by pytorch"
    assert "  n0" in second and " thing " in third
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["model"], told["output"]) == (1, "alexnet_mini", "prob")
    (image,) = told["images"]
    assert f"{image['top'][0]['value']:.4f}  " in second and image["top"][0]["class"] in second


def test_what_cannot_be_run_is_refused(weights: Weights, pictures: Path, tmp_path: Path) -> None:
    image, kept = [pictures / "0.png"], tmp_path / "a.npz"
    unprepared = weights.with_spec(replace(weights.spec, preprocessing=None))
    for said, weights_, images, how in (
        ("--save", weights, image, RunOptions(layers=("conv1",))),
        ("--images-like", unprepared, image, RunOptions()),
        ("no such image", weights, [tmp_path / "no.png"], RunOptions(save=kept)),
        ("holds no image", weights, [tmp_path], RunOptions()),
        ("saved as .npz", weights, image, RunOptions(save=tmp_path / "a.npy")),
    ):
        with pytest.raises(ZooError, match=said):
            run(weights_, images, how)
    with pytest.raises(UnknownNameError, match="did you mean conv5"):
        run(weights, image, RunOptions(layers=("conv55",), save=kept))
    assert not list(tmp_path.iterdir())


def test_a_network_without_classes_is_there_for_its_activations(
    weights: Weights, pictures: Path, tmp_path: Path
) -> None:
    names = [layer.name for layer in weights.spec.layers]
    spec = weights.spec.without(*names[names.index("conv5") + 1 :])
    cut = Weights(
        spec=replace(spec, classes=()),
        tensors={name: tensor for name, tensor in weights.tensors.items() if not name.startswith("fc")},
        source="cut",
    )
    with pytest.raises(ZooError, match="no output is one number a class"):
        run(cut, [pictures / "0.png"], RunOptions())
    assert run(cut, [pictures / "0.png"], RunOptions(save=tmp_path / "a.npz")).seen == ()
    with np.load(tmp_path / "a.npz") as saved:
        assert list(saved) == ["images", "conv5"]


def test_without_pytorch_another_framework_runs(
    weights: Weights, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = metadata.version

    def version(distribution: str) -> str:
        if distribution == "torch":
            raise metadata.PackageNotFoundError
        return installed(distribution)

    monkeypatch.setattr(metadata, "version", version)
    assert run(weights, [pictures / "0.png"], RunOptions()).framework == "caffe"
