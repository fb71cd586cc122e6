"""The table of the TF-slim model: layer kind -> the slim or TensorFlow call that makes it.

Images are N x H x W x C, as slim has them; activations of any other rank lie as in the canonical form (vectors between
dense layers excepted, see `zoo.frameworks._slim_variables.keeps_map`). Nothing here needs TensorFlow.
"""

from __future__ import annotations

from math import prod
from typing import assert_never

from zoo.frameworks._slim_calls import Activation, Call, Expression, Name, call
from zoo.frameworks._slim_variables import dense_layout, keeps_map, scopes
from zoo.layers import (
    LRN,
    BatchNorm,
    Bias,
    Concat,
    Conv,
    Dense,
    Dropout,
    Eltwise,
    Flatten,
    Layer,
    ModelSpec,
    Pair,
    Pool,
    Power,
    ReLU,
    Scale,
    Shape,
    Sigmoid,
    Slice,
    Softmax,
    TanH,
)
from zoo.recipe import Constant, Distribution, Normal, TruncatedNormal, Uniform, XavierUniform, initial_values, rule_of
from zoo.registry import recipe
from zoo.shapes import Window, activation_shapes, affine_shape, axis_index, window

# Where the axes N, C, H, W of an image are found in TensorFlow's N, H, W, C.
_IMAGE_AXES = (0, 3, 1, 2)
_TO_CANONICAL, _TO_NATIVE = [0, 3, 1, 2], [0, 2, 3, 1]


class Table:
    """The calls of one network.

    Attributes:
        spec: the network.
        keep_prob: what ``dropout_keep_prob`` stands for if left out: the first dropout's share of kept numbers.
        logits: the layer whose output the network function returns: what the closing softmax reads, or the last layer.
        initializers: ``weight`` and ``bias`` -> the commonest initial values of convolutions and dense layers, which
            the arg_scope sets; the calls of the others name their own.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self._shapes = activation_shapes(spec)
        self._wiring = spec.wiring()
        self._scopes = scopes(spec)
        self._kept = keeps_map(spec)
        ratios = [layer.ratio for layer in spec.layers if isinstance(layer, Dropout)]
        self._ratio = ratios[0] if ratios else 0.5
        self.keep_prob = 1 - self._ratio
        last = spec.layers[-1]
        read = self._wiring[last.name][0]
        inputs = {source.name for source in spec.inputs}
        self.logits = read if isinstance(last, Softmax) and read not in inputs else last.name
        self._initial = _initial(spec)
        self.initializers = {kind: self._commonest(kind) for kind in ("weight", "bias")}

    def on_map(self, name: str) -> bool:
        """Whether a vector is an N x 1 x 1 x C tensor."""
        return name in self._kept

    def expression(self, layer: Layer) -> Expression:
        """The call that makes one layer; the activations it reads are `Activation`s."""
        names = self._wiring[layer.name]
        x: Expression = Activation(names[0])
        shape, scope = self._shapes[names[0]], self._scopes[layer.name]
        match layer:
            case Conv():
                return self._conv(layer, x, shape)
            case Dense():
                return self._dense(layer, x, shape, on_map=names[0] in self._kept)
            case Pool():
                return _pool(layer, x, shape, scope)
            case LRN():
                return _lrn(layer, x, shape, scope)
            case ReLU(negative_slope=0.0):
                return call("tf.nn.relu", x, name=scope)
            case ReLU():
                return call("tf.nn.leaky_relu", x, alpha=layer.negative_slope, name=scope)
            case Sigmoid():
                return call("tf.nn.sigmoid", x, name=scope)
            case TanH():
                return call("tf.nn.tanh", x, name=scope)
            case Power():
                return _power(layer, x, scope)
            case Dropout():
                keep = Name("dropout_keep_prob") if layer.ratio == self._ratio else 1 - layer.ratio
                return call("slim.dropout", x, keep, is_training=Name("is_training"), scope=scope)
            case Softmax():
                return call("tf.nn.softmax", x, axis=_native_axis(layer, layer.axis, shape), name=scope)
            case Flatten():
                if len(self._shapes[layer.name]) == 1:
                    return call("slim.flatten", _canonical(x, shape), scope=scope)
                return _reshape(x, shape, self._shapes[layer.name], scope)
            case Concat():
                inputs: list[Expression] = [Activation(name) for name in names]
                return call("tf.concat", inputs, _native_axis(layer, layer.axis, shape), name=scope)
            case Slice():
                axis, rank = _native_axis(layer, layer.axis, shape), len(shape) + 1
                begin = [layer.start if i == axis else 0 for i in range(rank)]
                size = [layer.stop - layer.start if i == axis else -1 for i in range(rank)]
                return call("tf.slice", x, begin, size, name=scope)
            case Eltwise():
                return _eltwise(layer, [Activation(name) for name in names], scope)
            case Scale() | Bias():
                return self._affine(layer, x, shape, scope)
            case BatchNorm():
                return _batch_norm(layer, x, shape, scope)
            case _:
                assert_never(layer)

    def _commonest(self, kind: str) -> Call:
        found = [made for name, made in self._initial.items() if name.endswith(f".{kind}")]
        return max(found, key=found.count) if found else _initializer(Constant())

    def _with_initial(self, made: Call, layer: Conv | Dense) -> Call:
        """A call with the initial values that are not the arg_scope's."""
        options = dict(made.options)
        for option, kind in (("weights_initializer", "weight"), ("biases_initializer", "bias")):
            own = self._initial.get(f"{layer.name}.{kind}")
            if own is None:
                options[option] = None  # without a bias
            elif own != self.initializers[kind]:
                options[option] = own
        return Call(made.function, made.arguments, options)

    def _outputs(self, layer: Conv | Dense) -> Expression:
        if self.spec.head is layer:
            return Name("num_classes")
        return layer.out_channels if isinstance(layer, Conv) else layer.out_features

    def _conv(self, layer: Conv, x: Expression, shape: Shape) -> Expression:
        place, scope = window(layer, shape), self._scopes[layer.name]
        padding, x = _conv_padding(layer, place, x)
        options: dict[str, Expression] = {
            "stride": _pair(layer.stride) if layer.stride != (1, 1) else None,
            "padding": padding,
            "rate": _pair(layer.dilation) if layer.dilation != (1, 1) else None,
            "scope": scope,
        }
        # slim.conv2d knows no groups, and no stride together with a dilation.
        if layer.groups > 1 or (layer.stride != (1, 1) and layer.dilation != (1, 1)):
            made = call("grouped_conv2d", x, self._outputs(layer), [*layer.kernel], layer.groups, **options)
        else:
            made = call("slim.conv2d", x, self._outputs(layer), [*layer.kernel], **options)
        return self._with_initial(made, layer)

    def _dense(self, layer: Dense, x: Expression, shape: Shape, *, on_map: bool) -> Expression:
        scope, outputs = self._scopes[layer.name], self._outputs(layer)
        layout = dense_layout(layer, shape, on_map=on_map)
        if layout == "IO":
            axis = axis_index(layer.name, layer.axis, shape)
            flat = (*shape[: axis - 1], prod(shape[axis - 1 :]))
            x = _canonical(x, shape)
            x = x if flat == shape else call("tf.reshape", x, [-1, *flat])
            dense = self._with_initial(call("slim.fully_connected", x, outputs, scope=scope), layer)
            return _native(dense, self._shapes[layer.name])
        kernel = [*shape[1:]] if layout == "HWCO" else [1, 1]
        dense = self._with_initial(call("slim.conv2d", x, outputs, kernel, padding="VALID", scope=scope), layer)
        if layer.name in self._kept:
            return dense
        return call("tf.squeeze", dense, [1, 2], name=f"{scope}/squeezed")

    def _affine(self, layer: Scale | Bias, x: Expression, shape: Shape, scope: str) -> Expression:
        names = self._wiring[layer.name]
        if len(names) == 2:
            second = _beside(Activation(names[1]), 0, self._shapes[names[1]], shape)
            if isinstance(layer, Bias):
                return call("tf.add", x, second, name=scope)
            product, axis, size = call("tf.multiply", x, second), 1, self._shapes[names[1]]
        else:
            axis, size = axis_index(layer.name, layer.axis, shape), affine_shape(layer, shape)
            if isinstance(layer, Bias):
                return call("tf.add", x, _parameter(f"{scope}/biases", 0.0, axis, size, shape), name=scope)
            product = call("tf.multiply", x, _parameter(f"{scope}/gamma", 1.0, axis, size, shape))
        if layer.bias:
            return call("tf.add", product, _parameter(f"{scope}/beta", 0.0, axis, size, shape), name=scope)
        return product


def _pair(pair: Pair) -> Expression:
    return pair[0] if pair[0] == pair[1] else [*pair]


def _native_axis(layer: Layer, axis: int, shape: Shape) -> int:
    index = axis_index(layer.name, axis, shape)
    return _IMAGE_AXES[index] if len(shape) == 3 else index


def _canonical(x: Expression, shape: Shape) -> Expression:
    return call("tf.transpose", x, _TO_CANONICAL) if len(shape) == 3 else x


def _native(x: Expression, shape: Shape) -> Expression:
    return call("tf.transpose", x, _TO_NATIVE) if len(shape) == 3 else x


def _reshape(x: Expression, before: Shape, after: Shape, scope: str) -> Expression:
    if before == after:
        return call("tf.identity", x, name=scope)
    return _native(call("tf.reshape", _canonical(x, before), [-1, *after]), after)


def _channels_last(x: Expression, shape: Shape) -> Expression:
    rank = len(shape) + 1
    return x if rank in (2, 4) else call("tf.transpose", x, [0, *range(2, rank), 1])


def _channels_back(x: Expression, shape: Shape) -> Expression:
    rank = len(shape) + 1
    return x if rank in (2, 4) else call("tf.transpose", x, [0, rank - 1, *range(1, rank - 1)])


def _initial(spec: ModelSpec) -> dict[str, Call]:
    """Parameter of a convolution or a dense layer -> the call for its initial values."""
    how, found = recipe(spec), dict[str, Call]()
    for name, (_, distribution) in initial_values(how, spec).items():
        layer = spec.layer(name.rpartition(".")[0])
        if isinstance(layer, Conv) and rule_of(how, spec, name) == XavierUniform():
            found[name] = call("slim.xavier_initializer")  # its word for it, where the variable has the weight's fans
        elif isinstance(layer, Conv | Dense):
            found[name] = _initializer(distribution)
    return found


def _initializer(distribution: Distribution) -> Call:
    """TensorFlow's word for a distribution."""
    match distribution:
        case Constant(value=0):
            return call("tf.zeros_initializer")
        case Constant(value=value):
            return call("tf.constant_initializer", value)
        case Normal(std=std):
            return call("tf.random_normal_initializer", stddev=std)
        case TruncatedNormal(std=std):
            return call("tf.truncated_normal_initializer", stddev=std)
        case Uniform(bound=bound):
            return call("tf.random_uniform_initializer", -bound, bound)
        case _:
            assert_never(distribution)


def _padded(x: Expression, before: Pair, after: Pair, value: Expression = None) -> Expression:
    """`x` with explicit borders; a negative `after` (rows that no window reads) needs none."""
    borders = [[before[i], max(after[i], 0)] for i in range(2)]
    if borders == [[0, 0], [0, 0]]:
        return x
    return call("tf.pad", x, [[0, 0], *borders, [0, 0]], constant_values=value)


def _conv_padding(layer: Conv, place: Window, x: Expression) -> tuple[str, Expression]:
    """TensorFlow's word for a padding, where it has one; else explicit zeros and VALID (SAME pads at the end first)."""
    same = tuple(d * (k - 1) for d, k in zip(layer.dilation, layer.kernel, strict=True))
    if layer.stride == (1, 1) and max(layer.pad) > 0 and (2 * layer.pad[0], 2 * layer.pad[1]) == same:
        return "SAME", x
    return "VALID", _padded(x, place.before, place.after)


def _pool(layer: Pool, x: Expression, shape: Shape, scope: str) -> Expression:
    """VALID pooling after explicit borders: TensorFlow has neither Caffe's rounding up nor its padding."""
    place = window(layer, shape)
    kernel, stride = [*place.kernel], _pair(place.stride)
    if layer.mode == "max":
        bordered = _padded(x, place.before, place.after, Name("tf.float32.min"))
        return call("slim.max_pool2d", bordered, kernel, stride, scope=scope)
    pad = (0, 0) if layer.global_pool else layer.pad
    if place.after[0] <= pad[0] and place.after[1] <= pad[1]:
        return call("slim.avg_pool2d", _padded(x, place.before, place.after), kernel, stride, scope=scope)
    overhang = [max(place.after[0] - pad[0], 0), max(place.after[1] - pad[1], 0)]
    return call("clipped_avg_pool2d", x, kernel, stride, [*pad], overhang, scope=scope)


def _lrn(layer: LRN, x: Expression, shape: Shape, scope: str) -> Expression:
    if layer.region == "within":
        return call("lrn_within_channel", x, layer.size, layer.alpha, layer.beta, layer.k, scope=scope)
    # TensorFlow does not divide alpha by the size of the window, and wants half of that size.
    options: dict[str, Expression] = {
        "depth_radius": (layer.size - 1) // 2,
        "bias": layer.k,
        "alpha": layer.alpha / layer.size,
        "beta": layer.beta,
    }
    if len(shape) != 3:
        x = call("tf.reshape", _channels_last(x, shape), [-1, 1, prod(shape[1:]), shape[0]])
    if layer.towers > 1:
        made = call("tower_lrn", x, layer.towers, **options, scope=scope)
    else:
        made = call("tf.nn.local_response_normalization", x, **options, name=scope)
    if len(shape) == 3:
        return made
    return _channels_back(call("tf.reshape", made, [-1, *shape[1:], shape[0]]), shape)


def _power(layer: Power, x: Expression, scope: str) -> Expression:
    if layer.scale != 1:
        x = call("tf.multiply", x, layer.scale)
    if layer.shift != 0:
        x = call("tf.add", x, layer.shift)
    return call("tf.pow", x, layer.power, name=scope) if layer.power != 1 else call("tf.identity", x, name=scope)


def _eltwise(layer: Eltwise, inputs: list[Expression], scope: str) -> Expression:
    if layer.operation == "sum":
        coeffs = layer.coeffs or (1.0,) * len(inputs)
        terms = [x if c == 1 else call("tf.multiply", x, c) for x, c in zip(inputs, coeffs, strict=True)]
        return call("tf.add_n", terms, name=scope)
    made, function = inputs[0], "tf.multiply" if layer.operation == "prod" else "tf.maximum"
    for other in inputs[1:]:
        made = call(function, made, other)
    return call("tf.identity", made, name=scope)


def _batch_norm(layer: BatchNorm, x: Expression, shape: Shape, scope: str) -> Expression:
    training = True if layer.batch_stats else Name("is_training")
    made = call("plain_batch_norm", _channels_last(x, shape), layer.eps, training, scope=scope)
    return _channels_back(made, shape)


def _parameter(name: str, start: float, axis: int, size: Shape, shape: Shape) -> Expression:
    initializer = call("tf.constant_initializer", start)
    return _beside(call("slim.model_variable", name, [*size], initializer=initializer), axis, size, shape)


def _beside(value: Expression, axis: int, size: Shape, shape: Shape) -> Expression:
    """A parameter (`axis` at least 1) or activation (`axis` 0) of `size`, broadcast along an activation of `shape`."""
    if axis == 0 and size == shape:
        return value
    if len(shape) == 3 and axis == 1 and len(size) == 1:
        return value  # a number a channel, and channels are last
    if axis == 0:
        full = [-1, *size, *[1] * (len(shape) - len(size))]
        return _native(call("tf.reshape", _canonical(value, size), full), shape)
    full = [*[1] * axis, *size, *[1] * (len(shape) + 1 - axis - len(size))]
    return _native(call("tf.reshape", value, full), shape)
