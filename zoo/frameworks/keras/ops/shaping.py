"""What Keras has no layer for, of the shaping kinds; see `zoo.frameworks.keras.ops`."""

# What Keras says of its types is true of symbolic tensors alone.
# pyright: basic, reportArgumentType=false, reportOperatorIssue=false, reportOptionalIterable=false
# pyright: reportOptionalMemberAccess=false, reportOptionalOperand=false, reportOptionalSubscript=false

import keras
from keras import ops

from zoo.frameworks.keras.ops.base import Canonical


@keras.saving.register_keras_serializable("alexnet_zoo")
class CanonicalReshape(Canonical):
    """Every item in another shape, its numbers in C, H, W order."""

    def __init__(self, shape, **kwargs):
        super().__init__(**kwargs)
        self.shape = tuple(shape)

    def compute(self, x):
        """N x ... to N x `shape`."""
        return ops.reshape(x, (-1, *self.shape))


@keras.saving.register_keras_serializable("alexnet_zoo")
class CanonicalPermute(Canonical):
    """Axes in another order, the batch first."""

    def __init__(self, order, **kwargs):
        super().__init__(**kwargs)
        self.order = tuple(order)

    def compute(self, x):
        """Axis i of the result is axis `order[i]`."""
        return ops.transpose(x, self.order)


@keras.saving.register_keras_serializable("alexnet_zoo")
class Slice(keras.layers.Layer):
    """``x[start:stop]`` along an axis."""

    def __init__(self, axis, start, stop, **kwargs):
        super().__init__(**kwargs)
        self.axis, self.start, self.stop = axis, start, stop

    def call(self, x):
        """Any shape; the axis becomes ``stop - start`` long."""
        return x[(slice(None),) * self.axis + (slice(self.start, self.stop),)]


@keras.saving.register_keras_serializable("alexnet_zoo")
class Tile(keras.layers.Layer):
    """The input several times, one after the other, along an axis."""

    def __init__(self, axis, times, **kwargs):
        super().__init__(**kwargs)
        self.axis, self.times = axis, times

    def call(self, x):
        """Any shape; the axis becomes as many times longer."""
        return ops.concatenate([x] * self.times, axis=self.axis)


@keras.saving.register_keras_serializable("alexnet_zoo")
class Join(keras.layers.Layer):
    """Batches put one after the other."""

    def call(self, inputs):
        """Items of one shape."""
        return ops.concatenate(inputs, axis=0)


@keras.saving.register_keras_serializable("alexnet_zoo")
class CropTo(Canonical):
    """The first input, cut from `starts` to `stops` on the axes behind the batch; and to the second's batch."""

    def __init__(self, starts, stops, first=None, **kwargs):
        super().__init__(**kwargs)
        self.starts, self.stops, self.first = tuple(starts), tuple(stops), first

    def compute(self, x, size):
        """The batch is cut from item `first` on, where that is given."""
        x = x[(slice(None), *map(slice, self.starts, self.stops))]
        return x if self.first is None else x[self.first : self.first + ops.shape(size)[0]]


@keras.saving.register_keras_serializable("alexnet_zoo")
class ChannelShuffle(Canonical):
    """The channels of equal groups by turns."""

    def __init__(self, groups, **kwargs):
        super().__init__(**kwargs)
        self.groups = groups

    def compute(self, x):
        """N x C x ... to the same shape."""
        channels, *rest = x.shape[1:]
        x = ops.reshape(x, (-1, self.groups, channels // self.groups, *rest))
        return ops.reshape(ops.swapaxes(x, 1, 2), (-1, channels, *rest))


@keras.saving.register_keras_serializable("alexnet_zoo")
class Constant(Canonical):
    """Numbers that are there: `value`, or where it is None a kernel; in as many items as what is read, or `alone`."""

    def __init__(self, shape, value=None, alone=False, **kwargs):
        super().__init__(**kwargs)
        self.shape, self.value, self.alone = tuple(shape), value, alone

    def build(self, input_shape):
        """All of `shape`, where no value is given."""
        if self.value is None:
            self.gamma = self.add_weight(shape=self.shape, initializer="ones", name="gamma")

    def compute(self, beside):
        """`shape`, or N x `shape`."""
        numbers = ops.full(self.shape, self.value) if self.value is not None else ops.convert_to_tensor(self.gamma)
        return numbers if self.alone else ops.broadcast_to(numbers, (ops.shape(beside)[0], *self.shape))
