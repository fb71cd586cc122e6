"""What `import converters` offers beside loading, saving and verifying: a file into another one, in one call."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path

from converters.convert import load, save, with_num_classes
from converters.export import ExportOptions, export
from zoo.layers import ModelSpec


def convert_file(
    source: str | PathLike[str],
    target: str | PathLike[str],
    *,
    spec: ModelSpec | None = None,
    num_classes: int | None = None,
    from_format: str | None = None,
    to_format: str | None = None,
    force: bool = False,
) -> list[Path]:
    """Carry a file's weights into another format, without a changed bit.

    Args:
        source: any format that `load` reads.
        target: its suffix says the format.
        spec: the network; left out, it is what the file itself says, or else the one family member that fits.
        num_classes: a new head for so many classes, drawn at random.
        from_format: a format's name, where neither bytes nor suffix tell.
        to_format: a format's name, where the suffix does not tell.
        force: replace an existing target.

    Returns:
        The files written: `target`, and what belongs beside it (a prototxt, a checkpoint's data).

    Raises:
        ZooError: what `load` and `save` raise.
    """
    weights = load(source, spec=spec, from_format=from_format)
    if num_classes is not None:
        weights = with_num_classes(weights, num_classes)
    return save(weights, target, to_format=to_format, force=force)


def export_file(
    source: str | PathLike[str],
    target: str | PathLike[str],
    options: ExportOptions | None = None,
    *,
    spec: ModelSpec | None = None,
    from_format: str | None = None,
) -> list[Path]:
    """Write a file's network with its weights for deployment, and hold the result against the reference.

    Args:
        source: any format that `load` reads.
        target: ``FILE.onnx``, ``FILE.pb`` (a frozen graph) or ``FOLDER/`` (a SavedModel).
        options: how; left out, what `ExportOptions` begins with.
        spec: the network; left out, it is what the file itself says, or else the one family member that fits.
        from_format: a format's name, where neither bytes nor suffix tell.

    Returns:
        What was written.

    Raises:
        ZooError: what `load` raises; the target exists, or its kind is unknown.
        CheckFailedError: the written network differs from the reference; the target is untouched.
    """
    return export(load(source, spec=spec, from_format=from_format), fspath(target), options or ExportOptions())
