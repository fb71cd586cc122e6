"""Which variables the Keras model of a network has, and how each lies beside its canonical parameter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from zoo.axes import axis_index
from zoo.errors import UnsupportedError
from zoo.layers import Bias, Conv, Deconv, Dense, ModelSpec, Names, Shape
from zoo.shapes import activation_shapes, parameter_table, tied

# The variable of a layer that holds what others share.
HELD = "kernel"

# TF-slim's word for a parameter, where Keras' is another.
_WORDS = {"weights": "kernel", "biases": "bias"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Variable:
    """One variable.

    Attributes:
        parameter: canonical name, ``fc6.weight``.
        layer: the Keras layer that has it.
        name: its own, ``kernel``.
        layout: of the variable; see `zoo.wire.layout`.
        axes: of the parameter; both are empty where they are alike.
        maps: (C, H, W) of the maps that a dense layer flattens in H, W, C order.
        word: what the layers that share it call it; empty for one that a layer has to itself.
    """

    parameter: str
    layer: str
    name: str
    layout: str = ""
    axes: str = ""
    maps: Shape = ()
    word: str = ""

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes of merged axes, which the shape alone does not tell."""
        return dict(zip("CHW", self.maps, strict=True)) if self.maps else {}


def layer_names(spec: ModelSpec) -> dict[str, str]:
    """Input or layer -> its name in Keras: no slash, which no backend takes, no dot, as on PyTorch; no two alike."""
    return _names(spec)[0]


def holder_names(spec: ModelSpec) -> dict[str, str]:
    """The first parameter of each tie -> the Keras layer that has them all, called as the tie."""
    return _names(spec)[1]


def _names(spec: ModelSpec) -> tuple[dict[str, str], dict[str, str]]:
    free = Names(())

    def name(text: str) -> str:
        plain = re.sub(r"[^A-Za-z0-9_\-]", "_", text)
        plain = plain if plain[:1].isalnum() else f"layer{plain}"
        return plain + free.numbered(plain.lower())[len(plain) :]

    layers = {one.name: name(one.name) for one in (*spec.inputs, *spec.layers)}
    return layers, {tie.parameters[0]: name(tie.name) for tie in spec.ties}


def variables(spec: ModelSpec) -> list[Variable]:
    """The variable of every parameter, in the order of the canonical ones, which is that of each layer too.

    Raises:
        UnsupportedError: parameters that are tied lie differently in Keras.
    """
    names, shapes, wiring = layer_names(spec), activation_shapes(spec), spec.wiring()
    found, by_name = list[Variable](), spec.by_name
    for parameter, row in parameter_table(spec).items():
        layer = by_name[parameter.rpartition(".")[0]]
        layout, axes, maps = "", "", ()
        if row.role == "weight" and isinstance(layer, Conv | Deconv):
            layout, axes = "HWIO", "OIHW"
        elif row.role == "weight" and isinstance(layer, Dense):
            shape = shapes[wiring[layer.name][0]]
            flat = len(shape) == 3 and axis_index(layer.name, layer.axis, shape) == 1
            layout, axes, maps = ("(HWC)O", "O(CHW)", shape) if flat else ("IO", "OI", ())
        word = "beta" if isinstance(layer, Bias) else _WORDS.get(row.slim, row.slim)
        found.append(
            Variable(parameter=parameter, layer=names[layer.name], name=word, layout=layout, axes=axes, maps=maps)
        )
    return _shared(spec, found)


def _shared(spec: ModelSpec, found: list[Variable]) -> list[Variable]:
    """The same with one variable for all parameters of a tie."""
    own, holders = {variable.parameter: variable for variable in found}, holder_names(spec)
    for twin, owner in tied(spec).items():
        if any(getattr(own[twin], key) != getattr(own[owner], key) for key in ("layout", "axes", "maps")):
            raise UnsupportedError(f"{twin} and {owner} are tied, but lie differently in Keras")
    holder = {name: holders[tie.parameters[0]] for tie in spec.ties for name in tie.parameters}
    return [
        replace(one, layer=holder[one.parameter], name=HELD, word=one.name) if one.parameter in holder else one
        for one in found
    ]


def stored(every: Sequence[Variable]) -> list[Variable]:
    """The variables of the model, each once: of `variables`, of those that are one the first."""
    found = dict[tuple[str, str], Variable]()
    for one in every:
        found.setdefault((one.layer, one.name), one)
    return [*found.values()]
