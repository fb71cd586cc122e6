"""What Keras has no layer for, of the pooling kinds; see `zoo.frameworks.keras.ops`."""

# What Keras says of its types is true of symbolic tensors alone.
# pyright: basic, reportArgumentType=false, reportOperatorIssue=false, reportOptionalIterable=false
# pyright: reportOptionalMemberAccess=false, reportOptionalOperand=false, reportOptionalSubscript=false

import keras
import numpy as np
from keras import ops

from zoo.frameworks.keras.ops.base import Canonical


@keras.saving.register_keras_serializable("alexnet_zoo")
class PaddedMaxPooling2D(Canonical):
    """Max pooling over pads that never win, ((top, bottom), (left, right)); the lowest float where no pixel is."""

    def __init__(self, pool_size, strides, pads, **kwargs):
        super().__init__(**kwargs)
        self.pool_size, self.strides, self.pads = tuple(pool_size), tuple(strides), [tuple(pair) for pair in pads]

    def compute(self, x):
        """N x C x H x W to N x C x H' x W'."""
        lowest = float(np.finfo("float32").min)
        x = ops.pad(x, [(0, 0), (0, 0), *self.pads], constant_values=lowest)
        return ops.max_pool(x, self.pool_size, self.strides, "valid", data_format="channels_first")


@keras.saving.register_keras_serializable("alexnet_zoo")
class PaddedAveragePooling2D(Canonical):
    """Average pooling over zero pads, divided by the part of a window inside the image and its `margin`, as in Caffe.

    That part may be empty: 0 / 0 is NaN there, and 0 where the window starts past the edge.
    """

    def __init__(self, pool_size, strides, pads, margin, **kwargs):
        super().__init__(**kwargs)
        self.pool_size, self.strides, self.pads = tuple(pool_size), tuple(strides), [tuple(pair) for pair in pads]
        self.margin = tuple(margin)

    def counted(self, axis, size, count):
        """How many rows (axis 0) or columns (1) of each window count; negative past the edge."""
        start = np.arange(count) * self.strides[axis]
        return np.minimum(start + self.pool_size[axis], size + 2 * self.margin[axis]) - start

    def compute(self, x):
        """N x C x H x W to N x C x H' x W'."""
        padded = ops.pad(x, [(0, 0), (0, 0), *self.pads])
        mean = ops.average_pool(padded, self.pool_size, self.strides, "valid", data_format="channels_first")
        counts = np.outer(*(self.counted(axis, x.shape[2 + axis], mean.shape[2 + axis]) for axis in (0, 1)))
        with np.errstate(divide="ignore"):
            share = np.prod(self.pool_size) / counts
        return mean * ops.convert_to_tensor(share.astype("float32"))


@keras.saving.register_keras_serializable("alexnet_zoo")
class MaxPoolingPlaces(Canonical):
    """Where the maximum of each window stands, row * width + column, the first of equals; -1 where no pixel is."""

    def __init__(self, pool_size, strides, pads, **kwargs):
        super().__init__(**kwargs)
        self.pool_size, self.strides, self.pads = tuple(pool_size), tuple(strides), [tuple(pair) for pair in pads]

    def compute(self, x):
        """N x C x H x W to N x C x H' x W'."""
        lowest = float(np.finfo("float32").min)
        places = np.arange(x.shape[2] * x.shape[3], dtype="float32").reshape(x.shape[2:])
        places = np.pad(places, self.pads, constant_values=-1)
        x = ops.pad(x, [(0, 0), (0, 0), *self.pads], constant_values=lowest)
        ends = [x.shape[2 + i] - self.pool_size[i] + 1 for i in (0, 1)]
        best, found = lowest, -1.0
        for i, j in np.ndindex(self.pool_size):
            rows, columns = slice(i, i + ends[0], self.strides[0]), slice(j, j + ends[1], self.strides[1])
            value, place = x[:, :, rows, columns], ops.convert_to_tensor(places[rows, columns])
            better = value > best
            best, found = ops.where(better, value, best), ops.where(better, place, found)
        return found


@keras.saving.register_keras_serializable("alexnet_zoo")
class MaxUnpooling2D(Canonical):
    """Numbers put at their places (row * width + column), zeros elsewhere; where several meet, the last one stands."""

    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = tuple(size)

    def compute(self, x, places):
        """N x C x h x w, twice, to N x C x `size`."""
        channels, pixels, count = x.shape[1], x.shape[2] * x.shape[3], self.size[0] * self.size[1]
        maps = ops.shape(x)[0] * channels
        numbers = ops.reshape(x, (-1, pixels))
        at = ops.clip(ops.cast(ops.reshape(places, (-1, pixels)), "int32"), 0, count - 1)
        at = at + count * ops.expand_dims(ops.arange(maps, dtype="int32"), 1)
        order = ops.zeros_like(at) + ops.arange(1, pixels + 1, dtype="int32")
        last = ops.segment_max(ops.reshape(order, (-1,)), ops.reshape(at, (-1,)), num_segments=maps * count)
        last = ops.reshape(last, (-1, count))
        found = ops.take_along_axis(numbers, ops.maximum(last, 1) - 1, axis=1)
        return ops.reshape(ops.where(last > 0, found, 0.0), (-1, channels, *self.size))


@keras.saving.register_keras_serializable("alexnet_zoo")
class AlignedResizing(Canonical):
    """Bilinear to another size, the corners aligned, after rows and columns are cut off at both ends."""

    def __init__(self, size, cut_begin=0, cut_end=0, **kwargs):
        super().__init__(**kwargs)
        self.size, self.cut_begin, self.cut_end = tuple(size), cut_begin, cut_end

    def shares(self, count, wanted):
        """How much of each of `count` rows is in each of as many as are wanted."""
        at = np.linspace(0, count - 1, wanted) if wanted > 1 else np.zeros(1)
        return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(count))).astype("float32")

    def compute(self, x):
        """N x C x H x W to N x C x `size`."""
        x = x[:, :, self.cut_begin : x.shape[2] - self.cut_end, self.cut_begin : x.shape[3] - self.cut_end]
        rows, columns = (self.shares(int(x.shape[2 + i]), self.size[i]) for i in (0, 1))
        return ops.matmul(ops.matmul(ops.convert_to_tensor(rows), x), ops.convert_to_tensor(columns.T.copy()))


@keras.saving.register_keras_serializable("alexnet_zoo")
class Reduction(Canonical):
    """A coefficient times the "sum", "asum" (of absolutes), "sumsq" (of squares) or "mean" from an axis on."""

    def __init__(self, operation, axis, coefficient=1.0, **kwargs):
        super().__init__(**kwargs)
        self.operation, self.axis, self.coefficient = operation, axis, coefficient

    def compute(self, x):
        """The axes before `axis` are left."""
        x = {"asum": ops.abs(x), "sumsq": ops.square(x)}.get(self.operation, x)
        axes = tuple(range(self.axis, len(x.shape)))
        return self.coefficient * (ops.mean(x, axes) if self.operation == "mean" else ops.sum(x, axes))


@keras.saving.register_keras_serializable("alexnet_zoo")
class ArgMax(Canonical):
    """Where the greatest numbers stand, greatest first, and of equals the last first; see Caffe's ArgMax."""

    def __init__(self, top_k=1, values=False, axis=None, **kwargs):
        super().__init__(**kwargs)
        self.top_k, self.values, self.axis = top_k, values, axis

    def compute(self, x):
        """Along the axis, or of each item as a whole: N x 1 (or 2, with the numbers) x top_k x 1 ..."""
        rows = ops.reshape(x, (-1, int(np.prod(x.shape[1:])))) if self.axis is None else ops.moveaxis(x, self.axis, -1)
        rows = ops.flip(rows, -1)
        order = ops.argsort(-rows, axis=-1)[..., : self.top_k]
        best = ops.take_along_axis(rows, order, axis=-1)
        order = ops.cast(ops.shape(rows)[-1] - 1 - order, x.dtype)
        if self.axis is not None:
            return ops.moveaxis(best if self.values else order, -1, self.axis)
        found = ops.stack([order, best] if self.values else [order], axis=1)
        return ops.reshape(found, (-1, *found.shape[1:], *[1] * (len(x.shape) - 3)))
