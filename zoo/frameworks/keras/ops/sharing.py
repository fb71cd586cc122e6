"""What Keras has no layer for: parameters of several layers that are one; see `zoo.frameworks.keras.ops`."""

# What Keras says of its types is true of symbolic tensors alone.
# pyright: basic, reportArgumentType=false, reportOperatorIssue=false, reportOptionalIterable=false
# pyright: reportOptionalMemberAccess=false, reportOptionalOperand=false, reportOptionalSubscript=false

import keras
from keras import ops


@keras.saving.register_keras_serializable("alexnet_zoo")
class SharedWeight(keras.layers.Layer):
    """One weight, for the layers that share it; of what it reads nothing counts."""

    def __init__(self, shape, initializer="zeros", **kwargs):
        super().__init__(**kwargs)
        self.shape, self.initializer = tuple(shape), keras.initializers.get(initializer)

    def get_config(self):
        """What makes it again."""
        initializer = keras.initializers.serialize(self.initializer)
        return {**super().get_config(), "shape": self.shape, "initializer": initializer}

    def build(self, input_shape):
        """All of `shape`."""
        self.kernel = self.add_weight(shape=self.shape, initializer=self.initializer, name="kernel")

    def call(self, x):
        """Anything to `shape`."""
        return ops.convert_to_tensor(self.kernel)


@keras.saving.register_keras_serializable("alexnet_zoo")
class Sharing(keras.layers.Layer):
    """A layer that is given those of its weights that it shares, by their names in it, after what it reads."""

    def __init__(self, layer, shared, **kwargs):
        super().__init__(**kwargs)
        self.kind, self.settings, self.shared, self.weights_of = type(layer), layer.get_config(), list(shared), {}

    def get_config(self):
        """What makes it again."""
        layer = keras.saving.serialize_keras_object(self.kind.from_config(self.settings))
        return {**super().get_config(), "layer": layer, "shared": self.shared}

    @classmethod
    def from_config(cls, config):
        """The layer that `get_config` tells of."""
        return cls(**{**config, "layer": keras.saving.deserialize_keras_object(config["layer"])})

    def built_with(self, inputs, add_weight):
        """The layer, with what `add_weight` gives for its weights."""
        layer = self.kind.from_config(self.settings)
        layer.add_weight = add_weight
        layer.build(inputs[0] if len(inputs) == 1 else list(inputs))
        return layer

    def build(self, input_shape):
        """The weights that it does not share."""

        def add(*args, name, **options):
            if name not in self.shared:
                self.weights_of[name] = self.add_weight(*args, name=name, **options)
            return self.weights_of.get(name)

        self.built_with(input_shape[: -len(self.shared)], add)

    def call(self, inputs):
        """What the layer reads, and the weights that it shares, to what it makes of them."""
        read = inputs[: -len(self.shared)]
        given = {**self.weights_of, **dict(zip(self.shared, inputs[-len(self.shared) :], strict=True))}
        layer = self.built_with([x.shape for x in read], lambda *_, name, **__: given[name])
        return layer.call(read[0] if len(read) == 1 else list(read))
