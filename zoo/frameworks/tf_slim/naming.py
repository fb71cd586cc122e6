"""Which variables the TF-slim model of a spec has: names, and how each lies beside its canonical parameter.

Standard library only, so that checkpoints are read and written where TensorFlow is not installed.
"""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from zoo import layers
from zoo.axes import axis_index
from zoo.errors import UnsupportedError
from zoo.layers import Layer, ModelSpec, Names, Shape
from zoo.shapes import activation_shapes, parameter_table, tied

# "HWIO": a convolution; transposed, I is what comes out.
# "HWCO": a dense layer on C x H x W maps, as slim writes it: a convolution as large as the map.
# "11IO": a dense layer on the 1 x 1 map such a convolution leaves. "IO": a matrix. "": as in the canonical form.
Layout: TypeAlias = Literal["HWIO", "HWCO", "11IO", "IO", ""]

# The canonical layout of the same parameter; see `zoo.wire.layout`.
_CANONICAL: dict[Layout, str] = {"HWIO": "OIHW", "HWCO": "O(CHW)", "11IO": "OI", "IO": "OI", "": ""}

_ELEMENTWISE = layers.ReLU | layers.Sigmoid | layers.TanH | layers.Power | layers.Unary | layers.Dropout


@dataclass(frozen=True, kw_only=True, slots=True)
class Variable:
    """One variable.

    Attributes:
        parameter: canonical name, ``fc6.weight``.
        name: within the network's scope, ``fc6/weights``.
        layout: of the variable.
        maps: (C, H, W) of the maps a dense weight reads, where the layout is ``"HWCO"``.
    """

    parameter: str
    name: str
    layout: Layout
    maps: Shape = ()

    @property
    def axes(self) -> str:
        """The canonical layout of its parameter; empty where both are alike."""
        return _CANONICAL[self.layout]

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes of merged axes, which the shape alone does not tell."""
        return dict(zip("CHW", self.maps, strict=True)) if self.maps else {}


def identifier(name: str) -> str:
    """A network's name as a Python identifier: the generated function, its file and the scope of its variables."""
    word = re.sub(r"\W", "_", name, flags=re.ASCII)
    is_name = word[:1].isalpha() or word[:1] == "_"
    return word if is_name and not keyword.iskeyword(word) else f"net_{word}"


def sanitized(name: str) -> str:
    """A name with what TensorFlow forbids in an operation's name replaced by ``_``."""
    return re.sub(r"[^A-Za-z0-9_.\-/]", "_", name).strip("/") or "_"


def scopes(spec: ModelSpec) -> dict[str, str]:
    """Layer -> variable scope: its `sanitized` name; no two alike, nor in case alone, which TensorFlow cannot tell."""
    free, found = Names(()), dict[str, str]()
    for layer in spec.layers:
        plain = sanitized(layer.name)
        found[layer.name] = plain + free.numbered(plain.lower())[len(plain) :]
    return found


def keeps_map(spec: ModelSpec) -> set[str]:
    """The vectors that stay N x 1 x 1 x C tensors in TensorFlow.

    As in slim's own networks a dense layer on C x H x W maps is a convolution, and so are the dense layers after it, up
    to the last one, whose output is squeezed. Between them only elementwise layers may lie.
    """
    shapes, wiring = activation_shapes(spec), spec.wiring()
    readers: dict[str, list[Layer]] = {name: [] for name in shapes}
    for layer in spec.layers:
        for name in wiring[layer.name]:
            readers[name].append(layer)
    wanted = set[str]()
    for layer in reversed(spec.layers):
        after = readers[layer.name]
        if after and all(
            reader.name in wanted if isinstance(reader, _ELEMENTWISE) else _is_vector_dense(reader, shapes[layer.name])
            for reader in after
        ):
            wanted.add(layer.name)
    kept = set[str]()
    for layer in spec.layers:
        source = next(iter(wiring[layer.name]), "")
        starts = isinstance(layer, layers.Dense) and _reads_maps(layer, shapes[source])
        goes_on = isinstance(layer, _ELEMENTWISE | layers.Dense) and source in kept
        if (starts or goes_on) and layer.name in wanted:
            kept.add(layer.name)
    return kept


def _is_vector_dense(layer: Layer, shape: Shape) -> bool:
    return isinstance(layer, layers.Dense) and len(shape) == 1 and axis_index(layer.name, layer.axis, shape) == 1


def _reads_maps(layer: layers.Dense, shape: Shape) -> bool:
    return len(shape) == 3 and axis_index(layer.name, layer.axis, shape) == 1


def dense_layout(layer: layers.Dense, shape: Shape, *, on_map: bool) -> Layout:
    """How the weight of a dense layer lies, that reads an activation of `shape`, kept as a 1 x 1 map or not."""
    return "HWCO" if _reads_maps(layer, shape) else "11IO" if on_map else "IO"


def variables(spec: ModelSpec) -> list[Variable]:
    """Every variable of the model, in the order of the canonical parameters."""
    scope, shapes, wiring, kept = scopes(spec), activation_shapes(spec), spec.wiring(), keeps_map(spec)
    found, twins, by_name = list[Variable](), tied(spec), spec.by_name
    for parameter, row in parameter_table(spec).items():
        layer_name = parameter.rpartition(".")[0]
        layer, source = by_name[layer_name], next(iter(wiring[layer_name]), "")
        layout: Layout = ""
        if row.start == "kernel" and isinstance(layer, layers.Conv | layers.Deconv):
            layout = "HWIO"
        elif row.start == "kernel" and isinstance(layer, layers.Dense):
            layout = dense_layout(layer, shapes[source], on_map=source in kept)
        found.append(
            Variable(
                parameter=parameter,
                name=f"{scope[layer_name]}/{row.slim}",
                layout=layout,
                maps=shapes[source] if layout == "HWCO" else (),
            )
        )
    own = {variable.parameter: variable for variable in found}
    for twin, owner in twins.items():
        if (own[twin].layout, own[twin].maps) != (own[owner].layout, own[owner].maps):
            raise UnsupportedError(f"{twin} and {owner} are tied, but lie differently in TensorFlow")
    return [replace(variable, name=own[twins.get(variable.parameter, variable.parameter)].name) for variable in found]


def shared(spec: ModelSpec) -> dict[str, str]:
    """The names that tied parameters would have as variables of their own -> the variable they are."""
    alone = {variable.parameter: variable.name for variable in variables(replace(spec, ties=()))}
    return {alone[twin]: alone[owner] for twin, owner in tied(spec).items()}
