"""The table: layer kind -> the Keras layers that make it."""

from __future__ import annotations

from dataclasses import dataclass

from zoo import layers
from zoo.frameworks.keras import detecting, normalising, pointwise, pooling, shaping, sharing, weighted
from zoo.frameworks.keras.calls import Call, Word
from zoo.frameworks.keras.initial import initializers
from zoo.frameworks.keras.naming import holder_names, layer_names
from zoo.frameworks.keras.site import Site
from zoo.layers import Conv, Dense, Layer, ModelSpec, Names, Shape
from zoo.shapes import activation_shapes


def calls(layer: Layer, at: Site) -> list[Call]:
    """The layers of Keras that one layer is, each reading the one before."""
    if isinstance(layer, layers.Weighted):
        return weighted.calls(layer, at)
    if isinstance(layer, layers.Pooling):
        return [pooling.call(layer, at)]
    if isinstance(layer, layers.Normalising):
        return [normalising.call(layer, at)]
    if isinstance(layer, layers.Pointwise):
        return [pointwise.call(layer, at)]
    if isinstance(layer, layers.Detecting):
        return [detecting.call(layer, at)]
    return [shaping.call(layer, at)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One layer of the Keras model.

    Attributes:
        name: its own.
        call: what it is.
        reads: the names of the layers and inputs that it reads.
        layer: the layer of the network whose output it gives; None before the last of its steps.
    """

    name: str
    call: Call
    reads: tuple[str, ...]
    layer: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """The Keras model of a network.

    Attributes:
        inputs: Keras' name of each input -> its shape, canonical.
        steps: its layers, in order.
        outputs: the names of those whose outputs are the model's.
        shapes: Keras' name of an input or layer of the network -> the shape of its activation, canonical.
    """

    inputs: dict[str, Shape]
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]
    shapes: dict[str, Shape]


def table(spec: ModelSpec) -> Table:
    """The Keras model of a network, with channels last.

    Raises:
        UnsupportedError: Keras cannot have one of its layers, which is named.
    """
    shapes, wiring, start = activation_shapes(spec), spec.wiring(), initializers(spec)
    names, shared, held = layer_names(spec), sharing.shared(spec), set[str]()
    taken, first = Names([*names.values(), *holder_names(spec).values()]), names[spec.inputs[0].name]
    head = spec.free_head
    last, steps = {source.name: names[source.name] for source in spec.inputs}, list[Step]()
    for layer in spec.layers:
        read = wiring[layer.name] or (spec.inputs[0].name,)  # in Keras what reads nothing is no part of a model
        at = Site(
            shapes=[shapes[name] for name in wiring[layer.name]],
            shape=shapes[layer.name],
            initializers=start[layer.name],
            outputs=_outputs(layer, layer is head),
        )
        made, reads = calls(layer, at), tuple(last[name] for name in read)
        for call in made:
            name = names[layer.name] if not call.suffix else taken.fresh(names[layer.name] + call.suffix)
            gives = layer.name if call is made[-1] else None
            ties = shared.get(layer.name, ()) if not call.suffix else ()
            for one in ties:
                if one.holder not in held:
                    steps.append(Step(name=one.holder, call=sharing.held(one, call), reads=(first,), layer=None))
                    held.add(one.holder)
            whole = sharing.sharing(call, ties) if ties else call
            reads += tuple(one.holder for one in ties)
            steps.append(Step(name=name, call=whole, reads=reads, layer=gives))
            reads = (name,)
        last[layer.name] = reads[0]
    return Table(
        inputs={names[source.name]: source.shape for source in spec.inputs},
        steps=tuple(steps),
        outputs=tuple(last[name] for name in spec.outputs),
        shapes={last[name]: shape for name, shape in shapes.items()},
    )


def _outputs(layer: Layer, free: bool) -> int | Word:
    """How many outputs a layer has; the classifier's may be chosen when the model is built."""
    count = layer.out_channels if isinstance(layer, Conv) else layer.out_features if isinstance(layer, Dense) else 0
    return Word("num_classes", count) if free else count
