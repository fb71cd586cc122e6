"""The public weights of the family: ``weights_manifest.yaml``, typed and checked.

The file is at the root of the repository, and a link to it in this package: one copy serves a checkout and a wheel.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, cast
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError, field_validator, model_validator

from zoo import registry
from zoo.errors import FileFormatError, UnknownNameError, ZooError, one_line
from zoo.layers import ModelSpec
from zoo.layers import Preprocessing as Images
from zoo.wire.yaml_loader import read_yaml

PATH = Path(__file__).with_name("weights_manifest.yaml")

# Where downloads are kept, unless this variable names another folder.
CACHE_VARIABLE = "ALEXNET_ZOO_CACHE"

# The digits of each hash; MD5 and SHA-1 are all that some publishers of 2012-2017 gave.
_HEX_DIGITS = {"sha384": 96, "sha256": 64, "sha1": 40, "md5": 32}
_MAX_BYTES = 1 << 17

# Lists in YAML are tuples here; every scalar must have its own type already.
_Texts = Annotated[tuple[str, ...], Strict(False)]
_Three = Annotated[tuple[float, float, float], Strict(False)]
_Percent = Annotated[float, Field(ge=0, le=100)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Preprocessing(_Record):
    """How the publisher fed images to these weights; the fields of `zoo.layers.Preprocessing`."""

    channels: Literal["RGB", "BGR"]
    scale: float = 1.0
    mean: _Three
    std: _Three = (1.0, 1.0, 1.0)
    resize: int = Field(gt=0)
    crop: Literal["floor", "even"] = "floor"


class Accuracy(_Record):
    """Top-1 and top-5 accuracy on the ILSVRC-2012 validation set, in percent, and who says so."""

    top1: _Percent
    top5: _Percent
    by: str
    how: str = ""


class ManifestEntry(_Record):
    """One public file.

    Attributes:
        id: what ``zoo fetch`` is given.
        kind: weights, or what belongs to weights (a mean image, a topology).
        model: the family member whose weights these are; None where the family has no such network.
        framework: whose format it is.
        file: the file's name.
        urls: https or file addresses, tried in order.
        hash: ``algorithm:hex``.
        other_hashes: further published ones, for whoever compares lists.
        size: bytes.
        input_size, num_classes: where they differ from the family member's.
        precision: int8 weights are listed but are no weights of a float32 network.
        parent: the id of the weights these were made from.
        source: where all this was read.
    """

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    kind: Literal["weights", "mean", "topology"] = "weights"
    model: str | None
    framework: Literal["caffe", "pytorch", "onnx", "numpy"]
    format: Literal["caffemodel", "prototxt", "npy", "pth", "onnx", "tar.gz"]
    file: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    urls: Annotated[_Texts, Field(min_length=1)]
    hash: str
    other_hashes: _Texts = ()
    size: int = Field(gt=0)
    licence: str
    input_size: Annotated[int, Field(gt=0)] | None = None
    num_classes: Annotated[int, Field(gt=0)] | None = None
    precision: Literal["float32", "int8"] = "float32"
    preprocessing: Preprocessing | None = None
    published: Accuracy | None = None
    measured: Annotated[tuple[Accuracy, ...], Strict(False)] = ()
    parent: str | None = None
    source: str
    notes: str = ""

    @field_validator("model")
    @classmethod
    def _is_member(cls, model: str | None) -> str | None:
        if model is not None and model not in registry.models():
            raise ValueError(str(UnknownNameError("model", model, registry.models())))
        return model

    @field_validator("urls")
    @classmethod
    def _are_safe(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            parts = urlsplit(url)
            local = parts.scheme == "file" and not parts.netloc and parts.path.startswith("/")
            if not local and not (parts.scheme == "https" and parts.hostname):
                raise ValueError(f"{url!r} is neither https://HOST/... nor file:///...")
        return urls

    @field_validator("hash", "other_hashes")
    @classmethod
    def _are_hashes(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for text in (value,) if isinstance(value, str) else value:
            algorithm, _, digits = text.partition(":")
            if not re.fullmatch(f"[0-9a-f]{{{_HEX_DIGITS.get(algorithm, 0)}}}", digits) or not digits:
                raise ValueError(f"{text!r} is no lower-case ALGORITHM:HEX of {', '.join(_HEX_DIGITS)}")
        return value

    def spec(self) -> ModelSpec | None:
        """The network these are the weights of, with their own preprocessing, image size and classes."""
        if self.model is None:
            return None
        spec = registry.model(self.model)
        if self.input_size:
            spec = spec.with_input_size(self.input_size)
        if self.num_classes:
            spec = spec.with_num_classes(self.num_classes)
        return replace(spec, preprocessing=Images(**self.preprocessing.model_dump()) if self.preprocessing else None)


class _Manifest(_Record):
    schema_version: Literal[1] = Field(alias="schema")
    weights: Annotated[tuple[ManifestEntry, ...], Strict(False)]

    @model_validator(mode="after")
    def _are_consistent(self) -> _Manifest:
        parents = dict[str, str | None]()
        for entry in self.weights:
            if entry.id in parents:
                raise ValueError(f"the id {entry.id!r} is used twice")
            parents[entry.id] = entry.parent
        files = [entry.file for entry in self.weights]
        for entry in self.weights:
            if files.count(entry.file) > 1:
                raise ValueError(
                    f"entry {entry.id!r}, file: {entry.file!r} is used twice; the cache needs one name a file"
                )
        for start in parents:
            name, seen = start, {start}
            while (parent := parents[name]) is not None:
                if parent not in parents:
                    raise ValueError(f"entry {name!r}, parent: no entry has the id {parent!r}")
                if parent in seen:
                    raise ValueError(f"entry {start!r}, parent: descends from itself")
                name = parent
                seen.add(name)
        return self


def read_manifest(path: Path = PATH) -> tuple[ManifestEntry, ...]:
    """Every entry of a manifest file, in its order.

    Raises:
        FileFormatError: one line with every fault, each by entry and field.
    """
    data = read_yaml(path, _MAX_BYTES)
    try:
        return _Manifest.model_validate(data).weights
    except ValidationError as error:
        faults = "; ".join(_fault(data, cast("dict[str, Any]", item)) for item in error.errors(include_url=False))
        raise FileFormatError(path, faults) from error


def _fault(data: Any, error: dict[str, Any]) -> str:
    """One pydantic error as ``entry 'x', field: what is wrong``."""
    place = list(error["loc"])
    message = one_line(error["msg"]).removeprefix("Value error, ")
    where = list[str]()
    if place[:1] == ["weights"] and len(place) > 1:
        item = data["weights"][place[1]]
        name = cast("dict[str, Any]", item).get("id") if isinstance(item, dict) else None
        where.append(f"entry {name!r}" if isinstance(name, str) else f"entry number {place[1] + 1}")
        place = place[2:]
    if place:
        where.append(".".join(map(str, place)))
    return f"{', '.join(where)}: {message}" if where else message


@cache
def _packaged() -> dict[str, ManifestEntry]:
    return {entry.id: entry for entry in read_manifest()}


def entries() -> tuple[ManifestEntry, ...]:
    """Every entry of the manifest that comes with this package."""
    return tuple(_packaged().values())


def entry(weights_id: str) -> ManifestEntry:
    """The entry of that id; raises `UnknownNameError`, which offers the nearest ids and family members."""
    known = _packaged()
    if weights_id in registry.models() and weights_id not in known:
        raise ZooError(
            f"{weights_id} is a network, no weights; give a file of its weights, or an id of zoo list weights"
        )
    if weights_id not in known:
        listed = "zoo list weights lists them"
        raise UnknownNameError("weights id", weights_id, [*known, *registry.models()], listed=listed)
    return _packaged()[weights_id]


def cache_directory() -> Path:
    """The folder of downloads: ``$ALEXNET_ZOO_CACHE``, else ``alexnet-zoo`` in the user's cache folder."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alexnet-zoo"
    except RuntimeError as error:
        raise ZooError(f"there is no home folder; set {CACHE_VARIABLE} to a folder for downloads") from error


def is_cached(entry: ManifestEntry) -> bool:
    """Whether a file of the right name and size lies in the cache; its hash is checked when it is used."""
    path = cache_directory() / entry.file
    return path.is_file() and entry.size == path.stat().st_size
