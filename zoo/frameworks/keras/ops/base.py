"""What several families' layers are made of; see `zoo.frameworks.keras.ops`."""

# What Keras says of its types is true of symbolic tensors alone.
# pyright: basic, reportArgumentType=false, reportOperatorIssue=false, reportOptionalIterable=false
# pyright: reportOptionalMemberAccess=false, reportOptionalOperand=false, reportOptionalSubscript=false

import keras
from keras import ops


class Canonical(keras.layers.Layer):
    """A layer that counts axes as N x C x H x W, in whatever order the network keeps its images."""

    def __init__(self, data_format="channels_last", **kwargs):
        super().__init__(**kwargs)
        self.data_format = data_format

    def canonical_shape(self, shape):
        """A shape as `compute` will see it."""
        moved = len(shape) == 4 and self.data_format == "channels_last"
        return (shape[0], shape[3], shape[1], shape[2]) if moved else tuple(shape)

    def call(self, inputs):
        """Everything is turned, computed and turned back."""
        inputs = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        if self.data_format == "channels_last":
            inputs = [ops.transpose(x, (0, 3, 1, 2)) if len(x.shape) == 4 else x for x in inputs]
        y = self.compute(*inputs)
        turned = len(y.shape) == 4 and self.data_format == "channels_last"
        return ops.transpose(y, (0, 2, 3, 1)) if turned else y
