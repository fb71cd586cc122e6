"""The main job from end to end: a network, its four models, its weights around the loop, its ONNX, and the proof."""

from __future__ import annotations

import filecmp
import logging
import shutil
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from converters.convert import load, save
from converters.export import ExportOptions, export
from converters.formats import suffixes
from converters.parity import Report, probe_weights, verify_file
from converters.report import FORMS, render
from converters.weights import Weights
from zoo import registry
from zoo.errors import CheckFailedError, ZooError
from zoo.layers import ModelSpec
from zoo.training.images import sample_data
from zoo.wire.atomic import new_file, publish, staging
from zoo.wire.folders import check_no_link

_LOG = logging.getLogger(__name__)

# Says that a folder is a demo's own, to be emptied by the next one.
_MARK = ".zoo-demo"
# How the names begin of all that a demo puts into its folder.
_OWN = {"zoo-demo", "training", "models", "weights", "report", "alexnet", "alexnet_mini"}


def _loop() -> list[str]:
    """Through every framework's format and home again; each step reads what the step before it wrote."""
    first = {name: suffix for suffix, name in reversed(suffixes().items())}
    return [*(f"{name}{first[name]}" for name in registry.frameworks() if name in first), "back.safetensors"]


def photographs() -> list[Path]:
    """The two photographs that scikit-learn carries: a temple and a flower."""
    folder = sample_data() / "images"
    return [folder / "china.jpg", folder / "flower.jpg"]


def demo_full(folder: Path) -> Report:
    """The canonical network at full size, with seeded probe weights, on two photographs."""
    empty_for_a_demo(folder)
    with _step("probe weights of the full-size alexnet"):
        weights = probe_weights(registry.model("alexnet"))
        save(weights, folder / "alexnet.safetensors", force=True)
    return _road(weights, folder / "alexnet.safetensors", folder, photographs(), "zoo demo --full")


def demo_trained(folder: Path) -> Report:
    """A small canonical network, trained here and now on two processes, then taken down the same road."""
    from zoo.training.job import TrainOptions
    from zoo.training.launch import train

    empty_for_a_demo(folder)
    spec = registry.model("alexnet_mini")
    with _step("training alexnet_mini on the digits, its two towers on two processes"):
        trained = train(TrainOptions(model=spec, data="digits", out=folder / "training", devices=2, parallel="towers"))
    return _road(load(trained), trained, folder, [], "zoo demo")


def empty_for_a_demo(folder: Path) -> None:
    """Make the folder, or empty that of an earlier demo; anybody else's is refused."""
    check_no_link(folder)
    mark = folder / _MARK
    if folder.exists() and not mark.is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ZooError(f"{folder}: is there, and no earlier demo's; choose another folder with -o")
    if mark.is_file():
        strange = [path.name for path in folder.iterdir() if path.name.lstrip(".").partition(".")[0] not in _OWN]
        if strange:
            raise ZooError(f"{folder / strange[0]}: is no demo's, and would be lost; move it, or choose another -o")
        for path in folder.iterdir():  # the folder itself may be a disk of its own, as in a container
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path != mark:
                path.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    mark.touch()


def _road(weights: Weights, source: Path, folder: Path, images: list[Path], command: str) -> Report:
    with _step("models as standalone source"):
        for framework in registry.frameworks():
            _generate(weights.spec, framework, folder / "models" / framework)
    with _step("weights around the loop: " + " -> ".join(name.partition(".")[0] for name in _loop())):
        _check_loop(source, folder / "weights", weights.spec)
    with _step("ONNX for deployment"):
        export(weights, str(folder / f"{weights.spec.file_name}.onnx"), ExportOptions(force=True))
    with _step("the proof"):
        report = verify_file(source, images=images, progress=_LOG.info, command=command)
    for form in FORMS:
        with new_file(folder / f"report.{form}") as fresh:
            fresh.write_text(render(report, form), encoding="utf-8")
    return report


def _generate(spec: ModelSpec, framework: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with staging(folder / spec.file_name) as fresh:
        main = registry.framework(framework).generate(spec, fresh)[0]
        publish(fresh, folder / main.name, force=True)


def _check_loop(source: Path, folder: Path, spec: ModelSpec) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    previous = source
    for name in _loop():
        save(load(previous, spec=spec), folder / name, force=True)
        previous = folder / name
    again = folder / "again.safetensors"
    save(load(source, spec=spec), again, force=True)
    if not filecmp.cmp(again, previous, shallow=False):
        raise CheckFailedError(f"{previous}: differs from {again} after the loop through all formats")
    again.unlink()


@contextmanager
def _step(title: str) -> Generator[None]:
    _LOG.info("== %s", title)
    started = time.perf_counter()
    yield
    _LOG.info("   done in %.1f s", time.perf_counter() - started)
