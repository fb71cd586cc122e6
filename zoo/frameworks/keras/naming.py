"""Which variables the Keras model of a network has, and how each lies beside its canonical parameter."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.axes import axis_index
from zoo.frameworks.keras.table import layer_names
from zoo.layers import Bias, Conv, Deconv, Dense, ModelSpec, Shape
from zoo.shapes import activation_shapes, parameter_table

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
    """

    parameter: str
    layer: str
    name: str
    layout: str = ""
    axes: str = ""
    maps: Shape = ()

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes of merged axes, which the shape alone does not tell."""
        return dict(zip("CHW", self.maps, strict=True)) if self.maps else {}


def variables(spec: ModelSpec) -> list[Variable]:
    """Every variable of the model, in the order of the canonical parameters, which is that of each layer too."""
    names, shapes, wiring = layer_names(spec), activation_shapes(spec), spec.wiring()
    found = list[Variable]()
    for parameter, row in parameter_table(spec).items():
        layer = spec.layer(parameter.rpartition(".")[0])
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
    return found
