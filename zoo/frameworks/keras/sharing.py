"""Tied parameters: a layer holds them, and what it gives is given to every layer that shares them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zoo.frameworks.keras.calls import Call, Initializer, Value, own, unless
from zoo.frameworks.keras.naming import variables
from zoo.layers import ModelSpec, Shape
from zoo.parameters import Parameter
from zoo.shapes import parameter_table
from zoo.wire.layout import convert_shape


@dataclass(frozen=True, kw_only=True, slots=True)
class Shared:
    """A variable of a layer that another holds.

    Attributes:
        word: what the layer calls it, ``kernel``.
        holder: the Keras layer that holds it.
        shape: its own, in Keras' layout.
        row: of its parameter.
    """

    word: str
    holder: str
    shape: Shape
    row: Parameter


def shared(spec: ModelSpec) -> Mapping[str, Sequence[Shared]]:
    """Layer -> its variables that another holds; nothing for a layer that has all of its own."""
    found, rows = defaultdict[str, list[Shared]](list), parameter_table(spec)
    for one in variables(spec) if spec.ties else []:
        row = rows[one.parameter]
        if one.word:
            shape = convert_shape(row.shape, one.axes, one.layout, one.sizes) if one.axes else row.shape
            layer = one.parameter.rpartition(".")[0]
            found[layer].append(Shared(word=one.word, holder=one.layer, shape=shape, row=row))
    return found


def held(one: Shared, call: Call) -> Call:
    """The layer that holds a variable, which starts as that of the layer `call` would."""
    start = one.row.start if isinstance(one.row.start, float) else 0.0
    constant = unless(not start, initializer=Initializer("Constant", {"value": start}))
    given = call.options.get(f"{one.word}_initializer")
    learns = unless(one.row.role not in ("mean", "variance"), trainable=False)
    return own("SharedWeight", shape=one.shape, **({"initializer": given} if given else constant), **learns)


def sharing(call: Call, known: Sequence[Shared]) -> Call:
    """A layer that is given some of its variables, after what it reads."""
    initial = {f"{one.word}_initializer" for one in known}
    options = {key: value for key, value in call.options.items() if key not in initial}
    inner = Call(make=call.make, args=call.args, options=options, own=call.own)
    args: dict[str, Value] = {"layer": inner, "shared": [one.word for one in known]}
    return Call(make="Sharing", args=args, own=True)
