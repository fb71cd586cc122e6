"""What Keras has no layer for, of the weighted kinds; see `zoo.frameworks.keras.ops`."""

# What Keras says of its types is true of symbolic tensors alone.
# pyright: basic, reportArgumentType=false, reportOperatorIssue=false, reportOptionalIterable=false
# pyright: reportOptionalMemberAccess=false, reportOptionalOperand=false, reportOptionalSubscript=false

import math

import keras
from keras import ops

from zoo.frameworks.keras.ops.base import Canonical


@keras.saving.register_keras_serializable("alexnet_zoo")
class Subsample(keras.layers.Layer):
    """Every so many-th row and column: what a convolution with a stride and a dilation computes, of one without."""

    def __init__(self, strides, data_format="channels_last", **kwargs):
        super().__init__(**kwargs)
        self.strides, self.data_format = tuple(strides), data_format

    def call(self, x):
        """Images, in the order of `data_format`."""
        rows, columns = self.strides
        return x[:, ::rows, ::columns] if self.data_format == "channels_last" else x[:, :, ::rows, ::columns]


@keras.saving.register_keras_serializable("alexnet_zoo")
class WideConv2D(keras.layers.Conv2D):
    """A convolution to maps as wide as there are filters: its bias is added along the right axis on TensorFlow too.

    Keras (3.15, `ops.add`) takes the columns for the channels there, where images lie channels first.
    """

    def call(self, x):
        """Images, in the order of `data_format`."""
        bias = self.bias if self.data_format == "channels_last" else ops.reshape(self.bias, (-1, 1, 1))
        return self.convolution_op(x, self.kernel) + bias


@keras.saving.register_keras_serializable("alexnet_zoo")
class PaddedConv2DTranspose(Canonical):
    """The transpose of a convolution that pads, dilates or has groups; its kernel is rows, columns, O / groups, I."""

    def __init__(
        self,
        filters,
        kernel_size,
        strides,
        pads,
        dilation_rate,
        groups=1,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters, self.kernel_size, self.strides = filters, tuple(kernel_size), tuple(strides)
        self.pads, self.dilation_rate, self.groups, self.use_bias = tuple(pads), tuple(dilation_rate), groups, use_bias
        self.kernel_initializer, self.bias_initializer = kernel_initializer, bias_initializer

    def build(self, input_shape):
        """One kernel, and one number a filter."""
        shape = (*self.kernel_size, self.filters // self.groups, self.canonical_shape(input_shape)[1])
        self.kernel = self.add_weight(shape=shape, initializer=self.kernel_initializer, name="kernel")
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.filters,), initializer=self.bias_initializer, name="bias")

    def compute(self, x):
        """The input, zeros put between its pixels, under the kernel turned round."""
        channels, height, width = self.kernel.shape[3], *x.shape[2:]
        rows, columns = self.strides
        x = ops.pad(
            ops.reshape(x, (-1, channels, height, 1, width, 1)),
            [(0, 0)] * 3 + [(0, rows - 1), (0, 0), (0, columns - 1)],
        )
        x = ops.reshape(x, (-1, channels, height * rows, width * columns))
        x = x[:, :, : (height - 1) * rows + 1, : (width - 1) * columns + 1]
        borders = [self.dilation_rate[i] * (self.kernel_size[i] - 1) - self.pads[i] for i in (0, 1)]
        x = ops.pad(x, [(0, 0), (0, 0)] + [(max(border, 0),) * 2 for border in borders])
        cuts = [max(-border, 0) for border in borders]
        x = x[:, :, cuts[0] : x.shape[2] - cuts[0], cuts[1] : x.shape[3] - cuts[1]]
        size, groups = self.kernel_size, self.groups
        kernel = ops.reshape(ops.flip(self.kernel, (0, 1)), (*size, self.filters // groups, groups, channels // groups))
        kernel = ops.reshape(ops.transpose(kernel, (0, 1, 4, 3, 2)), (*size, channels // groups, self.filters))
        y = ops.conv(
            ops.transpose(x, (0, 2, 3, 1)), kernel, dilation_rate=self.dilation_rate, data_format="channels_last"
        )
        return ops.transpose(y + self.bias if self.use_bias else y, (0, 3, 1, 2))


@keras.saving.register_keras_serializable("alexnet_zoo")
class CanonicalDense(Canonical):
    """A dense layer over all axes from one on, in C, H, W order; its kernel is I, O."""

    def __init__(
        self, units, axis, use_bias=True, kernel_initializer="glorot_uniform", bias_initializer="zeros", **kwargs
    ):
        super().__init__(**kwargs)
        self.units, self.axis, self.use_bias = units, axis, use_bias
        self.kernel_initializer, self.bias_initializer = kernel_initializer, bias_initializer

    def build(self, input_shape):
        """One kernel, and one number a unit."""
        shape = (math.prod(self.canonical_shape(input_shape)[self.axis :]), self.units)
        self.kernel = self.add_weight(shape=shape, initializer=self.kernel_initializer, name="kernel")
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.units,), initializer=self.bias_initializer, name="bias")

    def compute(self, x):
        """The axes before `axis` are left, and one of the units."""
        y = ops.matmul(ops.reshape(x, (-1, *x.shape[1 : self.axis], self.kernel.shape[0])), self.kernel)
        return y + self.bias if self.use_bias else y


@keras.saving.register_keras_serializable("alexnet_zoo")
class NearestEmbedding(Canonical):
    """Rows of a table, by number: cut towards 0, and the nearest row where there is none of that number."""

    def __init__(self, rows, features, use_bias=True, kernel_initializer="uniform", bias_initializer="zeros", **kwargs):
        super().__init__(**kwargs)
        self.rows, self.features, self.use_bias = rows, features, use_bias
        self.kernel_initializer, self.bias_initializer = kernel_initializer, bias_initializer

    def build(self, input_shape):
        """One table, and one number a feature."""
        shape = (self.rows, self.features)
        self.kernel = self.add_weight(shape=shape, initializer=self.kernel_initializer, name="kernel")
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.features,), initializer=self.bias_initializer, name="bias")

    def compute(self, x):
        """Any shape to one axis more."""
        y = ops.take(self.kernel, ops.clip(ops.cast(x, "int32"), 0, self.rows - 1), axis=0)
        return y + self.bias if self.use_bias else y
