"""What Keras has no layer for, of the normalising kinds; see `zoo.frameworks.keras.ops`."""

# What Keras says of its types is true of symbolic tensors alone.
# pyright: basic, reportArgumentType=false, reportOperatorIssue=false, reportOptionalIterable=false
# pyright: reportOptionalMemberAccess=false, reportOptionalOperand=false, reportOptionalSubscript=false

import keras
from keras import ops

from zoo.frameworks.keras.ops.base import Canonical


@keras.saving.register_keras_serializable("alexnet_zoo")
class LocalResponseNormalization(keras.layers.Layer):
    """``x * (k + alpha / size * sum(x^2)) ** -beta``, the sum over `size` channels, inside each of equal towers."""

    def __init__(self, size, alpha, beta, k=1.0, towers=1, axis=-1, **kwargs):
        super().__init__(**kwargs)
        self.size, self.alpha, self.beta, self.k, self.towers, self.axis = size, alpha, beta, k, towers, axis

    def call(self, x):
        """Any shape, kept; channels along `axis`."""
        axis, reach = self.axis % len(x.shape), self.size // 2
        borders = [(reach, reach) if i == axis else (0, 0) for i in range(len(x.shape))]
        made = []
        for tower in ops.split(x, self.towers, axis=axis) if self.towers > 1 else [x]:
            squares = ops.pad(ops.square(tower), borders)
            windows = [(slice(None),) * axis + (slice(i, i + tower.shape[axis]),) for i in range(self.size)]
            total = sum((squares[window] for window in windows[1:]), squares[windows[0]])
            made.append(tower * ops.power(self.k + self.alpha / self.size * total, -self.beta))
        return ops.concatenate(made, axis=axis) if self.towers > 1 else made[0]


@keras.saving.register_keras_serializable("alexnet_zoo")
class SpatialResponseNormalization(Canonical):
    """Local response normalisation over `size` x `size` pixels of the same map, zero padded."""

    def __init__(self, size, alpha, beta, k=1.0, **kwargs):
        super().__init__(**kwargs)
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def compute(self, x):
        """N x C x H x W to the same shape."""
        reach = self.size // 2
        squares = ops.pad(ops.square(x), [(0, 0), (0, 0), (reach, reach), (reach, reach)])
        mean = ops.average_pool(squares, self.size, 1, "valid", data_format="channels_first")
        return x * ops.power(self.k + self.alpha * mean, -self.beta)


@keras.saving.register_keras_serializable("alexnet_zoo")
class L2Normalization(Canonical):
    """``gamma * x / sqrt(epsilon + sum(x^2))``, the sum over a pixel's channels or a whole item."""

    def __init__(self, across_spatial=True, shared=True, epsilon=1e-10, **kwargs):
        super().__init__(**kwargs)
        self.across_spatial, self.shared, self.epsilon = across_spatial, shared, epsilon

    def build(self, input_shape):
        """One number a channel, or one for all."""
        shape = () if self.shared else (self.canonical_shape(input_shape)[1],)
        self.gamma = self.add_weight(shape=shape, initializer="ones", name="gamma")

    def compute(self, x):
        """Any shape, kept."""
        axes = tuple(range(1, len(x.shape))) if self.across_spatial else (1,)
        norm = ops.sqrt(self.epsilon + ops.sum(ops.square(x), axes, keepdims=True))
        gamma = self.gamma if self.shared else ops.reshape(self.gamma, (-1, *[1] * (len(x.shape) - 2)))
        return gamma * (x / norm)


@keras.saving.register_keras_serializable("alexnet_zoo")
class MeanVarianceNormalization(Canonical):
    """Mean and, if asked, variance of every map (or item, across its channels); epsilon is outside the root."""

    def __init__(self, across_channels=False, normalize_variance=True, epsilon=1e-9, **kwargs):
        super().__init__(**kwargs)
        self.across_channels, self.normalize_variance, self.epsilon = across_channels, normalize_variance, epsilon

    def compute(self, x):
        """Up to four axes; the result has four."""
        axes = (1, 2, 3) if self.across_channels else (2, 3)
        x = ops.reshape(x, (-1, *x.shape[1:], *[1] * (4 - len(x.shape))))
        x = x - ops.mean(x, axes, keepdims=True)
        if not self.normalize_variance:
            return x
        return x / (ops.sqrt(ops.mean(ops.square(x), axes, keepdims=True)) + self.epsilon)


@keras.saving.register_keras_serializable("alexnet_zoo")
class BatchStatisticsNormalization(Canonical):
    """Batch normalisation by the batch at hand, at inference too; the moving statistics are carried, not used."""

    def __init__(self, epsilon=1e-5, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        """Two numbers a channel."""
        shape = (self.canonical_shape(input_shape)[1],)
        self.moving_mean = self.add_weight(shape=shape, initializer="zeros", name="moving_mean", trainable=False)
        self.moving_variance = self.add_weight(shape=shape, initializer="ones", name="moving_variance", trainable=False)

    def compute(self, x):
        """N x C x ... to the same shape."""
        axes = [axis for axis in range(len(x.shape)) if axis != 1]
        centred = x - ops.mean(x, axes, keepdims=True)
        return centred / ops.sqrt(ops.mean(ops.square(centred), axes, keepdims=True) + self.epsilon)
