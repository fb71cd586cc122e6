"""Which network a weights file is read as: what the user said, what the file says of itself, or the one that fits."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from converters.formats import GraphNetwork, NativeFile, WeightsFormat
from converters.head import with_head_called, with_our_head
from converters.weights import Array
from zoo import registry
from zoo.errors import WeightsError, ZooError
from zoo.layers import Conv, Dense, ModelSpec
from zoo.likeness import unlike
from zoo.shapes import parameter_shapes
from zoo.show import first_difference
from zoo.wire.layout import convert_shape

_LOG = logging.getLogger(__name__)


def network_of(path: Path, native: NativeFile, form: WeightsFormat, wanted: ModelSpec | None) -> ModelSpec:
    """The network a file is read as: what the user said, checked against what the file says, or the one that fits."""
    said = native.spec
    if wanted is None:
        return said or _guess(path, native, form)
    fitted = with_classes_of(wanted, native.tensors, form) if is_registered(wanted) else wanted
    if said is None:
        _check_saved(path, native, fitted)
        return fitted
    alike = with_head_called(said, fitted.head.name) if fitted.head else said
    if said.name == wanted.name:
        reason = first_difference(replace(fitted, name="the one given"), replace(alike, name="the file"))
        if reason:
            raise ZooError(f"{path} holds another {said.name}: {reason}; leave --model or --prototxt out")
    reason = first_difference(fitted, alike)
    if reason:
        raise ZooError(f"{path} holds {said.name}, not {wanted.name}: {reason}; leave --model or --prototxt out")
    return replace(fitted, preprocessing=said.preprocessing or fitted.preprocessing)


def _check_saved(path: Path, native: NativeFile, wanted: ModelSpec) -> None:
    """Refuse a family member that another one's network saved; for a user's own network, only say what differs."""
    if native.graph and native.graph.refusal:
        _LOG.warning("%s: its weights alone are looked at, its graph was not read: %s", path, native.graph.refusal)
    reason = native.unlike(wanted)
    if reason is None:
        return
    if native.runs_itself:
        raise ZooError(
            f"{path} describes another network than {wanted.name}: {reason}; "
            "give the --prototxt of the one that it describes"
        )
    is_member = wanted.name in registry.models() and not first_difference(wanted, _member_like(wanted))
    if is_member:
        raise ZooError(
            f"{path} was saved by another network than {wanted.name}: {reason}; "
            "leave --model out, or give its --prototxt"
        )
    _LOG.warning("%s was saved by a network that differs: %s; %s counts", path, reason, wanted.name)


def is_registered(spec: ModelSpec) -> bool:
    """Whether it is a family member as it stands; any other network means its number of classes."""
    return spec.name in registry.models() and spec == registry.model(spec.name)


def _member_like(spec: ModelSpec) -> ModelSpec:
    """The family member of a network's name, with its number of classes."""
    member = registry.model(spec.name)
    match spec.head:
        case Conv() as head:
            return member.with_num_classes(head.out_channels)
        case Dense() as head:
            return member.with_num_classes(head.out_features)
        case None:
            return member


def _of_graph(path: Path, native: NativeFile, form: WeightsFormat, graph: GraphNetwork) -> ModelSpec:
    """The family member that a graph is, if it is one; else the network of its own."""
    if graph.spec is None:
        raise ZooError(f"{path}: {graph.refusal}; with --model or --prototxt, its weights alone are looked for")
    for name in registry.models():
        spec = with_classes_of(registry.model(name), native.tensors, form)
        if not unlike(spec, graph.spec) and _fits(spec, native.tensors, form):
            _LOG.warning("%s: its graph is %s; taken for it", path, name)
            return spec
    for note in graph.notes:
        _LOG.warning("%s: %s", path, note)
    return graph.spec


def _guess(path: Path, native: NativeFile, form: WeightsFormat) -> ModelSpec:
    if native.graph:
        return _of_graph(path, native, form, native.graph)
    fitting, tensors = list[ModelSpec](), native.tensors
    for name in registry.models():
        spec = with_classes_of(registry.model(name), tensors, form)
        if _fits(spec, tensors, form):
            fitting.append(spec)
    otherwise = {spec.name: reason for spec in fitting if (reason := native.unlike(spec))}
    if fitting and len(otherwise) == len(fitting):
        name, reason = next(iter(otherwise.items()))
        raise ZooError(
            f"{path}: the tensors fit {name}, but were saved by another network: {reason}; give its --prototxt"
        )
    fitting = [spec for spec in fitting if spec.name not in otherwise]
    if len(fitting) == 1:
        _LOG.warning("%s: the tensors fit %s only; taken for it", path, fitting[0].name)
        return fitting[0]
    if fitting:
        names = ", ".join(spec.name for spec in fitting)
        raise ZooError(f"{path}: the tensors fit several networks ({names}); say which with --model")
    raise ZooError(
        f"{path}: the tensors fit no network of the family; name one with --model, or give its --prototxt; "
        "zoo info says why"
    )


def _fits(spec: ModelSpec, tensors: Mapping[str, Array], form: WeightsFormat) -> bool:
    return misfit(spec, tensors, form) is None


def misfit(spec: ModelSpec, tensors: Mapping[str, Array], form: WeightsFormat) -> str | None:
    """The first reason why tensors cannot be the parameters of a network, by names and shapes; None if they can."""
    shapes = parameter_shapes(spec)
    try:
        tensors, entries, _ = with_our_head(tensors, spec, form)
    except WeightsError as error:
        return str(error)
    found = {entry.native: tensors.get(entry.native) for entry in entries}
    for entry in entries:
        tensor, shape = found[entry.native], entry.native_shape(shapes[entry.canonical])
        if tensor is None:
            return f"{entry.canonical} is missing"
        if tensor.shape != shape:
            return f"{entry.native} has shape {tensor.shape}, expected {shape}"
    left = [name for name, it in tensors.items() if name not in found and it.ndim and not form.ignored(name)]
    return f"{left[0]} is not a parameter of it" if left else None


def with_classes_of(spec: ModelSpec, tensors: Mapping[str, Array], form: WeightsFormat) -> ModelSpec:
    """`spec` with as many outputs as the file's own head has: a fine-tuned network keeps its classes."""
    if spec.head is None:
        return spec
    try:
        tensors, table, _ = with_our_head(tensors, spec, form)
    except WeightsError:
        return spec
    entries = {entry.canonical: entry for entry in table}
    entry = entries.get(f"{spec.head.name}.bias") or entries[f"{spec.head.name}.weight"]
    tensor = tensors.get(entry.native)
    if tensor is None or tensor.ndim == 0:
        return spec
    try:
        shape = convert_shape(tensor.shape, entry.native_axes, entry.axes, {}) if entry.axes else tensor.shape
    except ValueError:
        return spec
    if shape[0] == parameter_shapes(spec)[entry.canonical][0]:
        return spec
    return spec.with_num_classes(shape[0])
