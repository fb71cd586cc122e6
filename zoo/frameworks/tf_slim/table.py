"""The table of the TF-slim model: layer kind -> the slim or TensorFlow call that makes it.

Images are N x H x W x C, as slim has them; activations of any other rank lie as in the canonical form (vectors between
dense layers excepted, see `zoo.frameworks.tf_slim.naming.keeps_map`). Nothing here needs TensorFlow.
"""

from __future__ import annotations

from zoo import layers
from zoo.frameworks.tf_slim import detecting, normalising, pointwise, pooling, shaping, weighted
from zoo.frameworks.tf_slim.calls import Activation, Expression
from zoo.frameworks.tf_slim.initial import Initializers
from zoo.frameworks.tf_slim.naming import keeps_map, scopes
from zoo.frameworks.tf_slim.site import Site
from zoo.layers import Layer, ModelSpec
from zoo.shapes import activation_shapes


class Table:
    """The calls of one network.

    Attributes:
        spec: the network.
        keep_prob: what ``dropout_keep_prob`` stands for if left out: the first dropout's share of kept numbers.
        logits: the layer whose output the network function returns: what the closing softmax reads, or the last layer.
        initializers: ``weight`` and ``bias`` -> the initial values that the arg_scope sets.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self._shapes = activation_shapes(spec)
        self._wiring = spec.wiring()
        self._scopes = scopes(spec)
        self._kept = keeps_map(spec)
        ratios = [layer.ratio for layer in spec.layers if isinstance(layer, layers.Dropout)]
        self._ratio = ratios[0] if ratios else 0.5
        self.keep_prob = 1 - self._ratio
        last = spec.layers[-1]
        read = next(iter(self._wiring[last.name]), "")
        inputs = {source.name for source in spec.inputs}
        self._initializers = Initializers(spec)
        self.initializers = self._initializers.common
        self.logits = read if isinstance(last, layers.Softmax) and read not in inputs else last.name

    def expression(self, layer: Layer) -> Expression:
        """The call that makes one layer; the activations it reads are `Activation`s."""
        at = self._site(layer)
        if isinstance(layer, layers.Weighted):
            return weighted.expression(layer, at)
        if isinstance(layer, layers.Pooling):
            return pooling.expression(layer, at)
        if isinstance(layer, layers.Normalising):
            return normalising.expression(layer, at)
        if isinstance(layer, layers.Pointwise):
            return pointwise.expression(layer, at)
        if isinstance(layer, layers.Detecting):
            return detecting.expression(layer, at)
        return shaping.expression(layer, at)

    def _site(self, layer: Layer) -> Site:
        names = self._wiring[layer.name]
        return Site(
            scope=self._scopes[layer.name],
            inputs=[Activation(name) for name in names],
            shapes=[self._shapes[name] for name in names],
            shape=self._shapes[layer.name],
            on_map=bool(names) and names[0] in self._kept,
            keeps_map=layer.name in self._kept,
            is_head=self.spec.head is layer,
            dropout=self._ratio,
            initializers=self._initializers.options(layer),
        )
