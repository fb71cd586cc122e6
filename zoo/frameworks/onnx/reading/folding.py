"""What can be computed without any input: weights that are rearranged, sizes that are read off shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from zoo.arrays import Array
from zoo.frameworks.onnx.reading.op import Op, RefusalError
from zoo.layers import Shape
from zoo.wire.onnx import Model, Node

# The number that stands for a batch size left open: no size of a network can be taken for it.
OPEN_BATCH = 1_000_003

# ONNX's number of a type -> NumPy's, of what constants are cast to (TensorProto.DataType).
_CASTS = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_, 11: np.float64}
# One number repeated takes no memory here; who lays it out needs what a real weight would: four AlexNets in all.
_MOST_FILLED, _MAX_RANK = 1 << 30, 8
# What may be computed beside the file's own numbers: the tables of sizes of the largest graphs take less.
_SPARE = 1 << 24

_TWO: dict[str, Callable[[Array, Array], Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Pow": np.power,
    "Min": np.minimum,
    "Max": np.maximum,
    "Equal": np.equal,
    "Greater": np.greater,
    "Less": np.less,
}
_ONE: dict[str, Callable[[Array], Array]] = {
    "Neg": np.negative,
    "Abs": np.abs,
    "Sqrt": np.sqrt,
    "Exp": np.exp,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Reciprocal": np.reciprocal,
    "Not": np.logical_not,
}

# What of an open batch size is a size again, whatever it is: its multiples, and where they stand in a shape.
_SIZES = {
    *("Identity", "Mul", "ReduceProd", "Concat", "Gather", "Slice", "Split", "Where", "ConstantOfShape", "Expand"),
    *("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose"),
}

# What makes other floating-point numbers of those that are stored.
ARITHMETIC = {*_TWO, *_ONE, "Cast", "Div", "ReduceProd", "ReduceSum"} - {"Neg", "Abs"}

# What is read of constants, beside what is read of activations.
COMPUTED = {
    *_TWO,
    *_ONE,
    *("Constant", "ConstantOfShape", "Expand", "Gather", "If", "Range", "ReduceProd", "Shape", "Size", "Where"),
}


# What repeats numbers; for each item of a batch, it makes an activation.
FOR_EACH = ("ConstantOfShape", "Expand")


class Constants:
    """What is known without any input: stored numbers, and what the nodes that were taken compute of them.

    Within an allowance of memory: a graph that wants more is no model but a trap.

    Attributes:
        known: tensor -> its numbers.
        unreadable: tensor -> why it has none.
    """

    def __init__(self, model: Model) -> None:
        self.known, self.unreadable = dict(model.initializers), dict(model.unreadable)
        self._opset = model.opset
        self._left = 2 * sum(array.nbytes for array in model.initializers.values()) + _SPARE
        self._filled = 0

    def take(self, node: Node) -> bool:
        """Compute what a node makes of constants; False where it reads an activation.

        Raises:
            RefusalError: it is not computed here.
            ValueError: a trap.
        """
        reads = [tensor for tensor in node.inputs if tensor]
        if all(tensor in self.known for tensor in node.outputs if tensor):
            return True
        if node.op != "Constant" and not (reads and all(tensor in self.known for tensor in reads)):
            return False
        if node.op in FOR_EACH and OPEN_BATCH in self.known[reads[-1]]:
            return False
        op = Op(node, self._opset, self.known)
        if _asks_how_many(op, [self.known[tensor] for tensor in reads]):
            raise RefusalError("asks how many items are fed, which is left open")
        try:
            with np.errstate(all="ignore"):
                results = self._results(op, [self.known[tensor] for tensor in reads])
        except TypeError as error:
            raise RefusalError("computes with a type of numbers that has no such operation") from error
        if results is None:
            raise RefusalError("of constants it is not computed here")
        op.check()
        self.known.update((tensor, array) for tensor, array in zip(node.outputs, results, strict=False) if tensor)
        return True

    def spend(self, size: int) -> None:
        """Take bytes out of the allowance."""
        self._left -= size
        if self._left < 0:
            raise ValueError("its constants are computed over and over; refused before memory runs out")

    def _results(self, op: Op, arrays: Sequence[Array]) -> list[Array] | None:
        """What a node makes of constants; None where it is not among those that are computed here."""
        if op.node.op == "Constant":
            return [_constant(op)]
        name, first = op.node.op, arrays[0]
        if name in _TWO or name == "Div":
            return [self._two(op, arrays)]
        if name in _ONE:
            self.spend(first.nbytes)
            return [_ONE[name](first)]
        match name:
            case "Identity" | "Dropout":
                return [first]
            case "ConstantOfShape":
                return [self._repeated(op, first)]
            case "Expand":
                return [self._expanded(op, first, sizes_of(op, arrays[1]))]
            case "Cast":
                return [self._cast(op, first)]
            case "Shape":
                return [_part(op, np.asarray(first.shape, np.int64))]
            case "Size":
                return [np.asarray(first.size, np.int64)]
            case "Range":
                return [self._range(op, arrays)]
            case "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" | "Transpose":
                return [self._moved(op, first)]
            case "Split" | "Slice":
                return cut(op, first)
            case "Gather":
                return [self._gathered(op, first, arrays[1])]
            case "Concat":
                self.spend(sum(array.nbytes for array in arrays))
                return [np.concatenate(arrays, axis=op.integer("axis", 1))]
            case "Where":
                self.spend(prod(np.broadcast_shapes(*(array.shape for array in arrays))) * arrays[1].itemsize)
                return [np.where(first, *arrays[1:])]
            case "ReduceProd" | "ReduceSum":
                return [_reduced(op, first)]
            case _:
                return None

    def _two(self, op: Op, arrays: Sequence[Array]) -> Array:
        if len(arrays) != 2 or op.opset < 7:
            op.refuse("of constants it is computed for two inputs only, from operator set 7 on")
        a, b = arrays
        self.spend(prod(np.broadcast_shapes(a.shape, b.shape)) * max(a.itemsize, b.itemsize))
        if op.node.op != "Div":
            return _TWO[op.node.op](a, b).astype(np.bool_ if op.node.op in ("Equal", "Greater", "Less") else a.dtype)
        if a.dtype.kind == "f":
            return np.divide(a, b).astype(a.dtype)
        if not np.all(b):
            op.refuse("divides by zero")
        return np.trunc(np.divide(a, b)).astype(a.dtype)

    def _repeated(self, op: Op, shape: Array) -> Array:
        return self._expanded(op, filling(op), sizes_of(op, shape))

    def _expanded(self, op: Op, array: Array, sizes: Shape) -> Array:
        if len(sizes) > _MAX_RANK or min(sizes, default=1) < 1:
            op.refuse(f"no number is repeated to {str(sizes)[:60]}")
        shape = np.broadcast_shapes(array.shape, sizes)
        self._filled += prod(shape) * array.itemsize
        if self._filled > _MOST_FILLED:
            op.refuse(f"it and others repeat numbers to more than {_MOST_FILLED:,} bytes")
        return np.broadcast_to(array, shape)

    def _cast(self, op: Op, array: Array) -> Array:
        kind = _CASTS.get(op.integer("to", 0))
        if kind is None:
            op.refuse("casts a constant to a type that is not read")
        self.spend(array.size * np.dtype(kind).itemsize)
        return array.astype(kind, copy=False)

    def _range(self, op: Op, arrays: Sequence[Array]) -> Array:
        start, limit, step = (float(array.reshape(-1)[0]) for array in arrays)
        if step == 0 or (limit - start) / step > _SPARE:
            op.refuse("its range is endless")
        return np.arange(start, limit, step).astype(arrays[0].dtype)

    def _moved(self, op: Op, array: Array) -> Array:
        if op.node.op == "Transpose":
            return array.transpose(op.integers("perm") or tuple(reversed(range(array.ndim))))
        shape = reshaped_to(op, array.shape)
        if prod(shape) != array.size:
            op.refuse(f"cannot make {shape} of {array.shape}")
        self.spend(0 if array.flags.c_contiguous else array.nbytes)
        return array.reshape(shape)

    def _gathered(self, op: Op, array: Array, indices: Array) -> Array:
        axis = op.integer("axis", 0)
        self.spend(indices.size * (array.size // max(array.shape[axis], 1)) * array.itemsize)
        return np.take(array, indices.astype(np.int64), axis=axis)


def _asks_how_many(op: Op, arrays: Sequence[Array]) -> bool:
    """Whether what a node makes of sizes depends on how many items a batch left open has, other than as a size."""
    if not any(map(_is_open, arrays)):
        return False
    if op.node.op == "Cast":
        return _CASTS.get(op.integer("to", 0)) not in (np.int32, np.int64)
    if op.node.op == "Div":
        return bool((arrays[0] % np.where(arrays[1] == 0, 1, arrays[1])).any())
    no_size = op.node.op == "Equal" and any((array < 0).all() for array in arrays)  # which of them is a -1
    return op.node.op not in _SIZES and not no_size


def _is_open(array: Array) -> bool:
    return array.dtype.kind == "i" and bool(((array > 0) & (array % OPEN_BATCH == 0)).any())


def _constant(op: Op) -> Array:
    for name in ("value", "value_float", "value_int", "value_floats", "value_ints"):
        value = op.other(name)
        if value is not None:
            kind = {"value_float": np.float32, "value_int": np.int64, "value_ints": np.int64}.get(name)
            return np.asarray(value, kind)
    return op.refuse("its value is of a type that is not read")


def filling(op: Op) -> Array:
    """The number that a ConstantOfShape repeats."""
    value = op.other("value")
    number = np.zeros(1, np.float32) if value is None else value
    if not isinstance(number, np.ndarray) or number.size != 1:
        op.refuse("its value is no single number")
    return number.reshape(())


def sizes_of(op: Op, array: Array) -> Shape:
    """A shape that a node reads as numbers."""
    if array.ndim != 1 or array.dtype.kind != "i" or array.size > _MAX_RANK:
        op.refuse("its shape is no short list of sizes")
    return tuple(int(size) for size in array)


def _part(op: Op, shape: Array) -> Array:
    return shape[op.integer("start", 0) : op.other("end")]  # pyright: ignore[reportArgumentType]


def _reduced(op: Op, array: Array) -> Array:
    axes = op.listed("axes", 1)
    keep = op.flag("keepdims", 1)
    function = np.prod if op.node.op == "ReduceProd" else np.sum
    return np.asarray(function(array, axis=axes or None, keepdims=keep), array.dtype)


def shape_of(op: Op, shape: Shape) -> Array:
    """What a Shape node makes of the sizes of a tensor."""
    return _part(op, np.asarray(shape, np.int64))


def reshaped_to(op: Op, shape: Shape) -> Shape:
    """The sizes that Reshape, Flatten, Squeeze or Unsqueeze makes of others; whether they hold as much is not asked."""
    rank = len(shape)
    match op.node.op:
        case "Flatten":
            axis = op.integer("axis", 1)
            axis = rank if axis == rank else op.place_of(axis, rank)
            return prod(shape[:axis]), prod(shape[axis:])
        case "Squeeze":
            given = op.listed("axes", 1)
            axes = (
                [i for i, size in enumerate(shape) if size == 1]
                if given is None
                else [op.place_of(i, rank) for i in given]
            )
            if any(shape[i] != 1 for i in axes):
                op.refuse(f"cannot squeeze the axes {tuple(axes)} of {shape}")
            return tuple(size for i, size in enumerate(shape) if i not in axes)
        case "Unsqueeze":
            given = op.listed("axes", 1) or ()
            places, rest = {op.place_of(i, rank + len(given)) for i in given}, iter(shape)
            return tuple(1 if i in places else next(rest) for i in range(rank + len(given)))
        case _:
            return _to_shape(op, shape)


def _to_shape(op: Op, shape: Shape) -> Shape:
    sizes = op.listed("shape", 1)
    if sizes is None or sizes.count(-1) > 1 or min(sizes, default=0) < -1:
        op.refuse("its shape is no list of sizes")
    copies = not op.flag("allowzero", 0)
    if any(size == 0 and (not copies or i >= len(shape)) for i, size in enumerate(sizes)):
        op.refuse("its shape has a size of 0")
    made = [shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    if -1 in made:
        made[made.index(-1)] = prod(shape) // max(-prod(made), 1)
    return tuple(made)


def cut(op: Op, array: Array) -> list[Array]:
    """What Split or Slice makes of an array."""
    if op.node.op == "Slice":
        axes = [slice(None)] * array.ndim
        for axis, start, stop, step in slices(op, array.shape):
            axes[axis] = slice(start, stop, step)
        return [array[tuple(axes)]]
    axis, sizes = split_sizes(op, array.shape)
    stops = np.cumsum(sizes)[:-1]
    return list(np.split(array, stops, axis))


def split_sizes(op: Op, shape: Shape) -> tuple[int, list[int]]:
    """The axis along which a Split cuts, and how much each piece gets."""
    axis, count = op.place_of(op.integer("axis", 0), len(shape)), len(op.node.outputs)
    sizes = op.listed("split", 1)
    if op.integer("num_outputs", count) != count:
        op.refuse(f"num_outputs is not {count}, as many as it has")
    if sizes is None:
        each = -(-shape[axis] // count)
        sizes = (*[each] * (count - 1), shape[axis] - each * (count - 1))
    if sum(sizes) != shape[axis] or len(sizes) != count or min(sizes) < 1:
        op.refuse(f"cannot split {shape[axis]} into {sizes}")
    return axis, list(sizes)


def slices(op: Op, shape: Shape) -> list[tuple[int, int, int | None, int]]:
    """What a Slice takes: an axis, where it begins and ends, and the step."""
    starts, ends, axes = op.listed("starts", 1), op.listed("ends", 2), op.listed("axes", 3)
    steps = op.listed("steps", 4) if op.has(4) else None
    if starts is None or ends is None:
        op.refuse("does not say where it begins and ends")
    axes, steps = axes or tuple(range(len(starts))), steps or (1,) * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        op.refuse("its starts, ends, axes and steps do not fit each other")
    found = list[tuple[int, int, int | None, int]]()
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        at = op.place_of(axis, len(shape))
        begin, stop, _ = slice(start, end, step).indices(shape[at])
        found.append((at, begin, None if stop < 0 else stop, step))
    return found
