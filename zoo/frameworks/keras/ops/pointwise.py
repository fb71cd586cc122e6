"""What Keras has no layer for, of the pointwise kinds; see `zoo.frameworks.keras.ops`."""

# What Keras says of its types is true of symbolic tensors alone.
# pyright: basic, reportArgumentType=false, reportOperatorIssue=false, reportOptionalIterable=false
# pyright: reportOptionalMemberAccess=false, reportOptionalOperand=false, reportOptionalSubscript=false

import math

import keras
from keras import ops

from zoo.frameworks.keras.ops.base import Canonical


@keras.saving.register_keras_serializable("alexnet_zoo")
class SlopedReLU(keras.layers.Layer):
    """``max(x, 0) + slope * min(x, 0)``, of any slope."""

    def __init__(self, slope, **kwargs):
        super().__init__(**kwargs)
        self.slope = slope

    def call(self, x):
        """Any shape, kept."""
        return ops.maximum(x, 0.0) + self.slope * ops.minimum(x, 0.0)


@keras.saving.register_keras_serializable("alexnet_zoo")
class ChannelPReLU(Canonical):
    """``max(x, 0) + alpha * min(x, 0)``; one slope a channel, or one for all."""

    def __init__(self, shared=False, **kwargs):
        super().__init__(**kwargs)
        self.shared = shared

    def build(self, input_shape):
        """One number a channel, or one without axes."""
        shape = () if self.shared else (self.canonical_shape(input_shape)[1],)
        start = keras.initializers.Constant(0.25)
        self.alpha = self.add_weight(shape=shape, initializer=start, name="alpha")

    def compute(self, x):
        """Any shape, kept."""
        alpha = self.alpha if self.shared else ops.reshape(self.alpha, (-1, *[1] * (len(x.shape) - 2)))
        return ops.maximum(x, 0.0) + alpha * ops.minimum(x, 0.0)


@keras.saving.register_keras_serializable("alexnet_zoo")
class Abs(keras.layers.Layer):
    """``|x|``."""

    def call(self, x):
        """Any shape, kept."""
        return ops.abs(x)


@keras.saving.register_keras_serializable("alexnet_zoo")
class Clip(keras.layers.Layer):
    """``max(low, min(x, high))`` as Caffe does it: `low` where it is the greater, and in place of NaN."""

    def __init__(self, low, high, **kwargs):
        super().__init__(**kwargs)
        self.low, self.high = low, high

    def call(self, x):
        """Any shape, kept."""
        capped = ops.minimum(x, self.high)
        return ops.where(capped > self.low, capped, self.low)


@keras.saving.register_keras_serializable("alexnet_zoo")
class Exp(keras.layers.Layer):
    """``base ** (shift + scale * x)``; what overflows is the factor that reads x, as in Caffe."""

    def __init__(self, base=math.e, scale=1.0, shift=0.0, **kwargs):
        super().__init__(**kwargs)
        self.base, self.scale, self.shift = base, scale, shift

    def call(self, x):
        """Any shape, kept."""
        return self.base**self.shift * ops.exp(self.scale * math.log(self.base) * x)


@keras.saving.register_keras_serializable("alexnet_zoo")
class Log(keras.layers.Layer):
    """``log(shift + scale * x)`` to a base."""

    def __init__(self, base=math.e, scale=1.0, shift=0.0, **kwargs):
        super().__init__(**kwargs)
        self.base, self.scale, self.shift = base, scale, shift

    def call(self, x):
        """Any shape, kept."""
        return 1 / math.log(self.base) * ops.log(self.scale * x + self.shift)


@keras.saving.register_keras_serializable("alexnet_zoo")
class Swish(keras.layers.Layer):
    """``x * sigmoid(beta * x)``."""

    def __init__(self, beta=1.0, **kwargs):
        super().__init__(**kwargs)
        self.beta = beta

    def call(self, x):
        """Any shape, kept."""
        return x * ops.sigmoid(self.beta * x)


@keras.saving.register_keras_serializable("alexnet_zoo")
class Threshold(keras.layers.Layer):
    """1 where x is greater than the threshold, else 0."""

    def __init__(self, threshold=0.0, **kwargs):
        super().__init__(**kwargs)
        self.threshold = threshold

    def call(self, x):
        """Any shape, kept."""
        return ops.cast(x > self.threshold, x.dtype)


@keras.saving.register_keras_serializable("alexnet_zoo")
class Power(keras.layers.Layer):
    """``(shift + scale * x) ** power``."""

    def __init__(self, power=1.0, scale=1.0, shift=0.0, **kwargs):
        super().__init__(**kwargs)
        self.power, self.scale, self.shift = power, scale, shift

    def call(self, x):
        """Any shape, kept."""
        scaled = self.scale * x
        base = scaled + self.shift if self.shift else scaled  # -0 stays -0
        return base if self.power == 1 else ops.power(base, self.power)


@keras.saving.register_keras_serializable("alexnet_zoo")
class Fill(keras.layers.Layer):
    """The same number everywhere, whatever is read."""

    def __init__(self, value, **kwargs):
        super().__init__(**kwargs)
        self.value = value

    def call(self, x):
        """Any shape, kept."""
        return ops.full_like(x, self.value)


@keras.saving.register_keras_serializable("alexnet_zoo")
class WeightedSum(keras.layers.Layer):
    """Inputs of one shape, each times its coefficient, summed."""

    def __init__(self, coefficients, **kwargs):
        super().__init__(**kwargs)
        self.coefficients = tuple(coefficients)

    def call(self, inputs):
        """Any shape, kept."""
        terms = [factor * x for factor, x in zip(self.coefficients, inputs, strict=True)]
        return sum(terms[1:], terms[0])


@keras.saving.register_keras_serializable("alexnet_zoo")
class Affine(Canonical):
    """``gamma * x + beta``, either where it is asked for, of shape `shape`, broadcast over `trailing` last axes."""

    def __init__(self, shape, trailing=0, scale=True, center=False, **kwargs):
        super().__init__(**kwargs)
        self.shape, self.trailing, self.scale, self.center = tuple(shape), trailing, scale, center

    def build(self, input_shape):
        """One number of each a place of `shape`."""
        if self.scale:
            self.gamma = self.add_weight(shape=self.shape, initializer="ones", name="gamma")
        if self.center:
            self.beta = self.add_weight(shape=self.shape, initializer="zeros", name="beta")

    def compute(self, x):
        """Any shape, kept."""
        full = (*self.shape, *[1] * self.trailing)
        x = x * ops.reshape(self.gamma, full) if self.scale else x
        return x + ops.reshape(self.beta, full) if self.center else x


@keras.saving.register_keras_serializable("alexnet_zoo")
class Beside(Canonical):
    """An activation times ("prod") or plus ("sum") another that has its first axes, plus a bias of some shape."""

    def __init__(self, operation, trailing=0, bias_shape=None, **kwargs):
        super().__init__(**kwargs)
        self.operation, self.trailing = operation, trailing
        self.bias_shape = None if bias_shape is None else tuple(bias_shape)

    def build(self, input_shape):
        """One number a place of `bias_shape`."""
        if self.bias_shape is not None:
            self.beta = self.add_weight(shape=self.bias_shape, initializer="zeros", name="beta")

    def compute(self, x, other):
        """The shape of x is kept; the other is broadcast over `trailing` last axes."""
        other = ops.reshape(other, (-1, *other.shape[1:], *[1] * self.trailing))
        x = x * other if self.operation == "prod" else x + other
        return x if self.bias_shape is None else x + ops.reshape(self.beta, (*self.bias_shape, *[1] * self.trailing))


@keras.saving.register_keras_serializable("alexnet_zoo")
class Axpy(Canonical):
    """``a * x + y``."""

    def compute(self, a, x, y):
        """One factor a channel, N x C or N x C x 1 x 1."""
        return ops.reshape(a, (-1, a.shape[1], *[1] * (len(x.shape) - 2))) * x + y
