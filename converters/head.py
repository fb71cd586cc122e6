"""A classifier under a name of its own: who fine-tunes a network in Caffe has to give its head a new one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from converters.formats import WeightsFormat
from converters.tensormap import Entry
from converters.weights import Array
from zoo.layers import ModelSpec
from zoo.shapes import parameter_shapes


def with_our_head(
    tensors: Mapping[str, Array], spec: ModelSpec, form: WeightsFormat
) -> tuple[Mapping[str, Array], list[Entry], str]:
    """Tensors of a file, its head's under the names of the network's head.

    Returns:
        The tensors, their `entries`, and what the file calls its head; as they are, and nothing, where the network's
        head is there, or where no layer, or more than one, can be it.

    Raises:
        WeightsError: that of `entries`.
    """
    table = form.entries(spec, tensors)
    missing = {entry.canonical: entry.native for entry in table if entry.native not in tensors}
    if spec.head is None or sorted(missing) != sorted(_parameters(spec, spec.head.name)):
        return tensors, table, ""
    used, found = {entry.native for entry in table}, dict[str, dict[str, str]]()
    for native in missing.values():
        before, _, after = native.rpartition(spec.head.name)
        for name in tensors.keys() - used:
            own = name.removeprefix(before).removesuffix(after)
            if own and name == f"{before}{own}{after}":
                found.setdefault(own, {})[name] = native
    whole = {own: names for own, names in found.items() if len(names) == len(missing)}
    if len(whole) != 1:
        return tensors, table, ""
    ((own, names),) = whole.items()
    renamed = {names.get(name, name): tensor for name, tensor in tensors.items()}
    return renamed, form.entries(spec, renamed), own


def _parameters(spec: ModelSpec, layer: str) -> list[str]:
    return [name for name in parameter_shapes(spec) if name.rpartition(".")[0] == layer]


def with_head_called(spec: ModelSpec, name: str) -> ModelSpec:
    """`spec` with its head under another name, unless a layer has that."""
    if spec.head is None or name in {layer.name for layer in spec.layers}:
        return spec
    names = {spec.head.name: name}
    layers = (
        replace(layer, name=names.get(layer.name, layer.name), inputs=tuple(names.get(i, i) for i in layer.inputs))
        for layer in spec.layers
    )
    return replace(spec, layers=tuple(layers))
