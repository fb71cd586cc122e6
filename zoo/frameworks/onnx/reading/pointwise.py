"""Functions of single numbers, and of numbers at one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import e, prod

import numpy as np

from zoo import layers
from zoo.arrays import Array
from zoo.frameworks.onnx.reading.op import Op, short
from zoo.frameworks.onnx.reading.walk import Above, View, Walk, Whole
from zoo.layers import LOWEST, Function, Layer

_HIGHEST = -LOWEST
_WHOLE = (6, 7)  # TensorProto.DataType: int32, int64
# SELU's own numbers (ONNX's docs/Operators.md).
_SELU = 1.67326319217681884765625, 1.05070102214813232421875


def _single(make: Callable[[Op, str, tuple[str, ...]], Layer]) -> Callable[[Walk, Op], None]:
    """The reader of an operator that is one layer of its first input."""

    def read(walk: Walk, op: Op) -> None:
        view = walk.pointwise(op.reads())
        walk.put(op.out, make(op, op.out, (view.activation,)), view)

    return read


def _unary(function: Function, *numbers: float) -> Callable[[Walk, Op], None]:
    return _single(lambda op, name, inputs: layers.Unary(name=name, inputs=inputs, function=function, numbers=numbers))


def _power(power: float = 1.0, scale: float = 1.0) -> Callable[[Walk, Op], None]:
    return _single(lambda op, name, inputs: layers.Power(name=name, inputs=inputs, power=power, scale=scale))


def _elu(op: Op, name: str, inputs: tuple[str, ...]) -> Layer:
    return layers.Unary(name=name, inputs=inputs, function="elu", numbers=(op.number("alpha", 1.0),))


def _swish(op: Op, name: str, inputs: tuple[str, ...]) -> Layer:
    return layers.Unary(name=name, inputs=inputs, function="swish", numbers=(op.number("alpha", 1.0),))


def _clip(op: Op, name: str, inputs: tuple[str, ...]) -> Layer:
    low, high = max(op.scalar("min", 1, LOWEST), LOWEST), min(op.scalar("max", 2, _HIGHEST), _HIGHEST)
    if low > high:
        op.refuse(f"min {low:g} is greater than max {high:g}; what that gives, runtimes do not agree on")
    if low == 0 and high >= _HIGHEST:
        return layers.ReLU(name=name, inputs=inputs)
    return layers.Unary(name=name, inputs=inputs, function="clip", numbers=(low, high))


SINGLE: dict[str, Callable[[Walk, Op], None]] = {
    "Relu": _single(lambda op, name, inputs: layers.ReLU(name=name, inputs=inputs)),
    "LeakyRelu": _single(
        lambda op, name, inputs: layers.ReLU(name=name, inputs=inputs, negative_slope=op.number("alpha", 0.01))
    ),
    "Sigmoid": _single(lambda op, name, inputs: layers.Sigmoid(name=name, inputs=inputs)),
    "Tanh": _single(lambda op, name, inputs: layers.TanH(name=name, inputs=inputs)),
    "Abs": _unary("abs"),
    "Softplus": _unary("bnll"),
    "Exp": _unary("exp", e, 1.0, 0.0),
    "Log": _unary("log", e, 1.0, 0.0),
    "Elu": _single(_elu),
    "Swish": _single(_swish),
    "Clip": _single(_clip),
    "Neg": _power(scale=-1.0),
    "Sqrt": _power(0.5),
    "Reciprocal": _power(-1.0),
}


def selu(walk: Walk, op: Op) -> None:
    """Selu: an Elu, times gamma."""
    view = walk.pointwise(op.reads())
    alpha, gamma = op.number("alpha", _SELU[0]), op.number("gamma", _SELU[1])
    name = walk.step(op.out, "elu")
    walk.add(layers.Unary(name=name, inputs=(view.activation,), function="elu", numbers=(alpha,)))
    walk.put(op.out, layers.Power(name=op.out, inputs=(name,), scale=gamma), view)


def hard(walk: Walk, op: Op) -> None:
    """HardSigmoid, a line between 0 and 1; and HardSwish, which is x times that."""
    view, swish = walk.pointwise(op.reads()), op.node.op == "HardSwish"
    slope, shift = (1 / 6, 0.5) if swish else (op.number("alpha", 0.2), op.number("beta", 0.5))
    line = walk.add(layers.Power(name=walk.step(op.out, "line"), inputs=(view.activation,), scale=slope, shift=shift))
    name = walk.step(op.out, "gate") if swish else op.out
    walk.put(name, layers.Unary(name=name, inputs=(line,), function="clip", numbers=(0.0, 1.0)), view)
    if swish:
        walk.put(op.out, layers.Eltwise(name=op.out, inputs=(view.activation, name), operation="prod"), view)


def prelu(walk: Walk, op: Op) -> None:
    """PRelu, of one slope or one a channel."""
    view, slope = walk.pointwise(op.reads()), op.weight(1, "slope")
    if slope.size == 1:
        layer = layers.PReLU(name=op.out, inputs=(view.activation,), shared=True)
        walk.put(op.out, layer, view, slope=slope.reshape(()))
        return
    spread = slope.reshape(-1, *[1] * (len(view.shape) - 2)) if op.opset < 7 else slope
    found = _along(op, view, spread)
    if found.axis != 1 or found.numbers.ndim != 1:
        op.refuse(f"its slope {slope.shape} is neither one number nor one a channel")
    walk.put(op.out, layers.PReLU(name=op.out, inputs=(view.activation,)), view, slope=found.numbers)


def dropout(walk: Walk, op: Op) -> None:
    """Dropout at inference."""
    training = op.constant(2) if op.has(2) else None
    if op.has(2) and (training is None or training.any()):
        op.refuse("dropout is left on: training_mode is true; export the model for inference")
    if op.opset < 7 and not op.flag("is_test", 0):
        op.refuse("dropout is left on: is_test is 0; export the model for inference")
    ratio = op.scalar("ratio", 1, 0.5)
    if not 0 <= ratio < 1:
        op.refuse(f"ratio {ratio:g}, expected 0 to less than 1")
    view = walk.view(op.reads())
    walk.put(op.out, layers.Dropout(name=op.out, inputs=(view.activation,), ratio=ratio), view)


@dataclass(frozen=True, kw_only=True)
class _Spread:
    """A constant over an activation: numbers from an axis of it on; without axes, one number for all."""

    axis: int
    numbers: Array


def _along(op: Op, view: View, constant: Array) -> _Spread:
    """A constant as ONNX broadcasts it over a tensor, along the axes of the activation."""
    if constant.size == 1 and constant.ndim <= len(view.shape):
        return _Spread(axis=0, numbers=constant.reshape(()))
    rank = len(view.shape)
    if len(view.order) != rank or constant.ndim > rank:
        op.refuse(f"a constant {constant.shape} does not fit {view.shape[1:]}")
    sizes = (1,) * (rank - constant.ndim) + constant.shape
    if any(size not in (1, side) for size, side in zip(sizes, view.shape, strict=True)):
        op.refuse(f"a constant {constant.shape} makes more of {view.shape[1:]}")
    if sizes[0] != 1:
        op.refuse(f"a constant {constant.shape} has other numbers for each item of the batch")
    numbers = constant.reshape(sizes).transpose([view.order.index(i) for i in range(rank)])
    axes = [i for i, size in enumerate(numbers.shape) if size > 1]
    first, last = axes[0], axes[-1]
    if any(numbers.shape[i] == 1 != view.shape[view.order.index(i)] for i in range(first, last)):
        op.refuse(f"a constant {constant.shape} goes along axes of {view.shape[1:]} that do not stand side by side")
    return _Spread(axis=first, numbers=numbers.reshape(numbers.shape[first : last + 1]))


def arithmetic(walk: Walk, op: Op) -> None:
    """Add, Sub, Mul and Div of activations, or of one and a constant."""
    if len(op.node.inputs) != 2:
        op.refuse(f"has {len(op.node.inputs)} inputs, expected 2")
    known = [op.constant(0), op.constant(1)]
    op.integer("broadcast", 0)
    axis = op.integer("axis", -1)
    if known[0] is None and known[1] is None:
        _of_two(walk, op)
        return
    at = 0 if known[1] is not None else 1
    constant = op.weight(1 - at, "constant")
    view = walk.pointwise(op.reads(at))
    if op.opset < 7 and axis >= 0:
        constant = constant.reshape(*constant.shape, *[1] * (len(view.shape) - axis - constant.ndim))
    if walk.view(op.reads(at)).shape != view.shape:
        view = walk.whole(walk.plain(op.reads(at)))
    _with_constant(walk, op, op.reads(at), view, constant, turned=at == 1)


def _with_constant(walk: Walk, op: Op, tensor: str, view: View, constant: Array, *, turned: bool) -> None:
    spread, kind = _along(op, view, constant), op.node.op
    if kind == "Div" and not turned and not constant.all():
        op.refuse("divides by zero")
    source, numbers = view.activation, spread.numbers
    if turned and kind in ("Sub", "Div"):
        source = walk.add(
            layers.Power(
                name=walk.step(op.out, "turned"),
                inputs=(source,),
                **({"scale": -1.0} if kind == "Sub" else {"power": -1.0}),
            )
        )
    elif kind in ("Sub", "Div"):
        numbers = -numbers if kind == "Sub" else np.float32(1) / numbers
    if kind == "Div" and not turned:
        walk.inexact[op.out] = f"the inverse of what {op.out!r} divides by was computed"
    adds = kind in ("Add", "Sub")
    if not numbers.ndim:
        number = short(numbers) if kind != "Div" or turned else 1 / short(constant.reshape(()))
        walk.put(op.out, layers.Power(name=op.out, inputs=(source,), **{"shift" if adds else "scale": number}), view)
        return
    if kind == "Add" and _takes_bias(walk, op, tensor, source, spread):
        return
    axis, count = spread.axis, numbers.ndim
    if adds:
        walk.put(op.out, layers.Bias(name=op.out, inputs=(source,), axis=axis, num_axes=count), view, bias=numbers)
    else:
        walk.put(op.out, layers.Scale(name=op.out, inputs=(source,), axis=axis, num_axes=count), view, weight=numbers)


def _takes_bias(walk: Walk, op: Op, tensor: str, source: str, spread: _Spread) -> bool:
    """Whether what is added is the bias of the layer before, which nobody else reads; then it becomes that."""
    made = walk.layer(source)
    if (
        not isinstance(made, layers.Conv | layers.Deconv | layers.Dense | layers.Scale)
        or made.bias
        or len(made.inputs) != 1
    ):
        return False
    if walk.readers[tensor] != 1 or tensor != source:
        return False
    match made:
        case layers.Scale():
            axis, shape = made.axis, walk.parameters[f"{source}.weight"].shape
        case layers.Dense():
            axis, shape = made.axis, (made.out_features,)
        case _:
            axis, shape = 1, (made.out_channels,)
    if spread.axis != axis or spread.numbers.shape != shape:
        return False
    view = walk.view(tensor)
    walk.rename(source, replace(made, name=op.out, bias=True), bias=spread.numbers)
    walk.values[op.out] = replace(view, activation=op.out)
    return True


_COEFFICIENTS = {"Add": (), "Sub": (1.0, -1.0)}


def _of_two(walk: Walk, op: Op) -> None:
    """Two activations of one shape; or a factor or term that goes along the first axes of the other."""
    kind, names = op.node.op, [op.reads(0), op.reads(1)]
    views = [walk.view(name) for name in names]
    if views[0].shape != views[1].shape:
        _spread_over(walk, op, names, views)
        return
    like = views[0] if views[0].order == views[1].order and _moved(walk, views) else None
    sources = [view.activation for view in views] if like else walk.plains(names)
    if kind == "Div":
        sources[1] = walk.add(layers.Power(name=walk.step(op.out, "inverse"), inputs=(sources[1],), power=-1.0))
    if kind in _COEFFICIENTS:
        layer = layers.Eltwise(name=op.out, inputs=tuple(sources), coeffs=_COEFFICIENTS[kind])
    else:
        layer = layers.Eltwise(name=op.out, inputs=tuple(sources), operation="prod")
    walk.put(op.out, layer, like)


def _moved(walk: Walk, views: list[View]) -> bool:
    """Whether views have their axes in another order, and are of one shape before as well."""
    return not views[0].in_order and len({walk.shapes[view.activation] for view in views}) == 1


def _spread_over(walk: Walk, op: Op, names: list[str], views: list[View]) -> None:
    """A smaller activation over a larger: along its first axes as a Scale or Bias, or repeated until it is as large."""
    small = 0 if prod(views[0].shape) < prod(views[1].shape) else 1
    rank, kind = len(views[1 - small].shape), op.node.op
    if len(views[small].shape) != rank:
        op.refuse(f"of {' and '.join(walk.told(view.shape) for view in views)}: they differ in their number of axes")
    whole, part = walk.plains([names[1 - small], names[small]])
    shape, sizes = walk.shapes[whole], walk.shapes[part]
    if any(size not in (1, side) for size, side in zip(sizes, shape, strict=True)):
        op.refuse(f"of {' and '.join(walk.told(view.shape) for view in views)}: neither goes over the other")
    if kind in ("Sub", "Div"):
        turned = part if small else whole
        change = {"scale": -1.0} if kind == "Sub" else {"power": -1.0}
        turned = walk.add(layers.Power(name=walk.step(op.out, "turned"), inputs=(turned,), **change))
        whole, part = (whole, turned) if small else (turned, part)
    kept = next((i for i in range(len(sizes)) if sizes[i] != shape[i]), len(sizes))
    factors = kind in ("Mul", "Div")
    if kept and all(size == 1 for size in sizes[kept:]):
        name, first = walk.step(op.out, "first_axes"), sizes[:kept]
        flat = layers.Flatten(name=name, inputs=(part,))
        part = walk.add(flat if kept == 1 else layers.Reshape(name=name, inputs=(part,), dims=(0, *first)))
        kinds = layers.Scale if factors else layers.Bias
        walk.put(op.out, kinds(name=op.out, inputs=(whole, part), axis=0))
        return
    for axis, (size, side) in enumerate(zip(sizes, shape, strict=True), 1):
        if size != side:
            part = walk.add(layers.Tile(name=walk.step(op.out, f"tile{axis}"), inputs=(part,), tiles=side, axis=axis))
    walk.put(op.out, layers.Eltwise(name=op.out, inputs=(whole, part), operation="prod" if factors else "sum"))


def several(walk: Walk, op: Op) -> None:
    """Sum, Max, Min and Mean of activations of one shape, or of one and a number."""
    kind, names = op.node.op, list(op.node.inputs)
    known = [i for i in range(len(names)) if op.constant(i) is not None]
    shapes = {
        walk.view(name).shape if (array := op.constant(i)) is None else array.shape for i, name in enumerate(names)
    }
    if len(shapes) > 1 and op.opset < 8:
        op.refuse(
            f"of {len(shapes)} different shapes; it broadcasts from operator set 8 on, and this one is {op.opset}"
        )
    if len(names) == 2 and len(known) == 1 and kind in ("Max", "Min"):
        _limit(walk, op, op.reads(1 - known[0]), op.weight(known[0], "constant"))
        return
    if len(names) == 2 and kind == "Sum":
        arithmetic_of(walk, op, "Add")
        return
    if known:
        op.refuse("of constants is known here for one activation and one number")
    views = [walk.view(name) for name in names]
    if len(shapes) != 1:
        op.refuse(f"of {', '.join(walk.told(view.shape) for view in views)}: they differ in shape")
    like = views[0] if len({view.order for view in views}) == 1 and _moved(walk, views) else None
    sources = tuple(view.activation for view in views) if like else tuple(walk.plains(names))
    if kind == "Min":  # minus the greatest of the negatives
        turned = [layers.Power(name=walk.step(op.out, "minus"), inputs=(source,), scale=-1.0) for source in sources]
        least = layers.Eltwise(name=walk.step(op.out, "least"), inputs=tuple(map(walk.add, turned)), operation="max")
        layer = layers.Power(name=op.out, inputs=(walk.add(least),), scale=-1.0)
    elif kind == "Max":
        layer = layers.Eltwise(name=op.out, inputs=sources, operation="max")
    else:
        layer = layers.Eltwise(
            name=op.out, inputs=sources, coeffs=(1 / len(sources),) * len(sources) if kind == "Mean" else ()
        )
        if kind == "Mean":
            walk.inexact[op.out] = f"the share of each input of {op.out!r} was computed"
    walk.put(op.out, layer, like)


def arithmetic_of(walk: Walk, op: Op, kind: str) -> None:
    """A node read as another operator of two inputs."""
    arithmetic(walk, Op(replace(op.node, op=kind), op.opset, op.constants))


def _limit(walk: Walk, op: Op, tensor: str, constant: Array) -> None:
    if constant.size != 1:
        op.refuse(f"of a constant {constant.shape}: a single number is known here")
    view, number = walk.pointwise(tensor), short(constant.reshape(()))
    if op.node.op == "Max" and number == 0:
        walk.put(op.out, layers.ReLU(name=op.out, inputs=(view.activation,)), view)
        return
    numbers = (number, _HIGHEST) if op.node.op == "Max" else (LOWEST, number)
    walk.put(op.out, layers.Unary(name=op.out, inputs=(view.activation,), function="clip", numbers=numbers), view)


def power(walk: Walk, op: Op) -> None:
    """Pow by a number."""
    exponent = op.weight(1, "exponent") if op.constant(0) is None else None
    if exponent is None or exponent.size != 1:
        op.refuse("raises other things than an activation to one number")
    view = walk.pointwise(op.reads())
    walk.put(op.out, layers.Power(name=op.out, inputs=(view.activation,), power=short(exponent.reshape(()))), view)


def greater(walk: Walk, op: Op) -> None:
    """Greater than a number; a Cast or a Where makes an activation of it."""
    limit = op.weight(1, "limit")
    if limit.size != 1:
        op.refuse(f"than a constant {limit.shape}: a single number is known here")
    walk.values[op.out] = Above(view=walk.pointwise(op.reads()), limit=short(limit.reshape(())))


def cast(walk: Walk, op: Op) -> None:
    """Cast of float32 to float32, which does nothing, or to whole numbers; or of a comparison, 0 or 1."""
    to = op.node.attributes.get("to")
    op.passes_over("to", "saturate", "round_mode")  # the last two are of types that are refused
    value = walk.values.get(op.reads())
    if to in _WHOLE and isinstance(value, View | Whole):
        walk.values[op.out] = value if isinstance(value, Whole) else Whole(view=walk.pointwise(op.reads()))
        return
    if to not in (1, "FLOAT"):
        op.refuse(f"casts to ONNX's type {to}; float32 alone is computed with here")
    if isinstance(value, Above):
        layer = layers.Unary(name=op.out, inputs=(value.view.activation,), function="threshold", numbers=(value.limit,))
        walk.put(op.out, layer, value.view)
        return
    walk.values[op.out] = walk.view(op.reads())


def where(walk: Walk, op: Op) -> None:
    """Where of a comparison: the greater of an activation and the number it was compared with."""
    above, low = walk.values.get(op.reads(0)), op.weight(2, "other value")
    if not isinstance(above, Above) or low.size != 1 or short(low.reshape(())) != above.limit:
        op.refuse("chooses between other things than an activation and the number it was compared with")
    if walk.pointwise(op.reads(1)) != above.view:
        op.refuse("compares one activation, and takes another")
    numbers, made = (above.limit, _HIGHEST), walk.layer(above.view.activation)
    if isinstance(made, layers.Unary) and made.function == "clip" and made.numbers[0] == LOWEST:
        numbers = (above.limit, made.numbers[1])
    layer = layers.Unary(name=op.out, inputs=(above.view.activation,), function="clip", numbers=numbers)
    walk.put(op.out, layer, above.view)
