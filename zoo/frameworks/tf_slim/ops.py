"""What slim has no layer for. Each function stands alone: a network's source carries those that it calls."""

# pyright: basic, reportMissingImports=false

import tensorflow.compat.v1 as tf
import tf_slim as slim


@slim.add_arg_scope
def grouped_conv2d(
    inputs,
    num_outputs,
    kernel_size,
    groups,
    stride=1,
    padding="SAME",
    rate=1,
    weights_initializer=None,
    weights_regularizer=None,
    biases_initializer=tf.zeros_initializer,
    scope=None,
):
    """A convolution in groups, from one variable of H x W x (C / groups) x O.

    The channels are split and joined again, not left to the grouped form of tf.nn.conv2d, which has no gradient on
    the CPU; and so the ops of group i lie in the name scope tower_i, by which they can be placed on a device.
    """
    with tf.variable_scope(scope, "GroupedConv"):
        shape = [*kernel_size, inputs.shape.as_list()[3] // groups, num_outputs]
        weights = slim.model_variable(
            "weights", shape, initializer=weights_initializer, regularizer=weights_regularizer
        )
        parts = zip(tf.split(inputs, groups, 3), tf.split(weights, groups, 3), strict=True)
        towers = []
        for i, (tower, kernel) in enumerate(parts):
            with tf.name_scope(f"tower_{i}"):
                towers.append(tf.nn.conv2d(tower, kernel, stride, padding, dilations=rate))
        net = tf.concat(towers, 3)
        if biases_initializer is not None:
            net = tf.nn.bias_add(net, slim.model_variable("biases", [num_outputs], initializer=biases_initializer))
        return net


@slim.add_arg_scope
def transposed_conv2d(
    inputs,
    num_outputs,
    kernel_size,
    groups,
    stride,
    pad,
    rate,
    weights_initializer=None,
    weights_regularizer=None,
    biases_initializer=tf.zeros_initializer,
    scope=None,
):
    """The transpose of a convolution, from one variable of H x W x (O / groups) x C as slim.conv2d_transpose has it.

    Zeros between the pixels, then a convolution with the kernel turned round: tf.nn.conv2d_transpose knows no groups,
    and on the CPU no dilation.
    """
    with tf.variable_scope(scope, "TransposedConv"):
        height, width, channels = inputs.shape.as_list()[1:]
        weights = slim.model_variable(
            "weights",
            [*kernel_size, num_outputs // groups, channels],
            initializer=weights_initializer,
            regularizer=weights_regularizer,
        )
        net = tf.reshape(inputs, [-1, height, 1, width, 1, channels])
        net = tf.pad(net, [[0, 0], [0, 0], [0, stride[0] - 1], [0, 0], [0, stride[1] - 1], [0, 0]])
        net = tf.reshape(net, [-1, height * stride[0], width * stride[1], channels])
        border = [rate[i] * (kernel_size[i] - 1) - pad[i] for i in (0, 1)]
        # The last pixel has no zeros behind it; a pad beyond the kernel's reach cuts pixels off.
        cut = [max(-side, 0) for side in border]
        ends = [(size - 1) * stride[i] + 1 for i, size in enumerate((height, width))]
        net = net[:, cut[0] : ends[0] - cut[0], cut[1] : ends[1] - cut[1], :]
        net = tf.pad(net, [[0, 0], *([max(side, 0)] * 2 for side in border), [0, 0]])
        kernels = tf.transpose(tf.reverse(weights, [0, 1]), [0, 1, 3, 2])
        parts = zip(tf.split(net, groups, 3), tf.split(kernels, groups, 2), strict=True)
        net = tf.concat([tf.nn.conv2d(part, kernel, 1, "VALID", dilations=rate) for part, kernel in parts], 3)
        if biases_initializer is not None:
            net = tf.nn.bias_add(net, slim.model_variable("biases", [num_outputs], initializer=biases_initializer))
        return net


def tower_lrn(inputs, towers, depth_radius, bias, alpha, beta, scope=None):
    """Local response normalisation whose windows stop at the tower boundary; tower i in the name scope tower_i."""
    with tf.name_scope(scope, "TowerLRN"):
        normalised = []
        for i, tower in enumerate(tf.split(inputs, towers, 3)):
            with tf.name_scope(f"tower_{i}"):
                normalised.append(
                    tf.nn.local_response_normalization(
                        tower, depth_radius=depth_radius, bias=bias, alpha=alpha, beta=beta
                    )
                )
        return tf.concat(normalised, 3)


def lrn_within_channel(inputs, size, alpha, beta, k, scope=None):
    """x * (k + alpha / size^2 * sum(x^2))^-beta over windows of size x size pixels of the same map, zero padded."""
    with tf.name_scope(scope, "LRNWithinChannel"):
        border = [(size - 1) // 2] * 2
        squares = tf.pad(tf.square(inputs), [[0, 0], border, border, [0, 0]])
        mean = tf.nn.avg_pool2d(squares, [size, size], 1, "VALID")
        return inputs * tf.pow(k + alpha * mean, -beta)


def clipped_avg_pool2d(inputs, kernel_size, stride, pad, overhang, scope=None):
    """Average pooling as Caffe does it: the border of zeros counts, what a window reads beyond it does not.

    Args:
        inputs: N x H x W x C.
        kernel_size: rows, columns.
        stride: one number, or rows and columns.
        pad: rows above and below, columns left and right, that are zeros and count.
        overhang: further rows below and columns to the right that do not count.
        scope: the name of its ops.
    """
    with tf.name_scope(scope, "ClippedAvgPool"):
        border = [[0, 0], *([before, before + after] for before, after in zip(pad, overhang, strict=True)), [0, 0]]
        mean = tf.nn.avg_pool2d(tf.pad(inputs, border), kernel_size, stride, "VALID")
        stride = [stride, stride] if isinstance(stride, int) else stride

        def counted(i):  # along an axis; past the edge Caffe's count is negative
            start = tf.range(mean.shape.as_list()[1 + i]) * stride[i]
            end = tf.minimum(start + kernel_size[i], inputs.shape.as_list()[1 + i] + 2 * pad[i])
            return tf.cast(end - start, inputs.dtype)

        share = counted(0)[:, tf.newaxis] * counted(1) / (kernel_size[0] * kernel_size[1])
        return mean / share[:, :, tf.newaxis]


def arg_max(inputs, top_k, out_max_val, axis=None, scope=None):
    """Where the greatest numbers stand along an axis, greatest first, and of equals the last first, as in Caffe.

    With out_max_val the numbers; without an axis of each item as a whole, N x 1 (2 with the numbers) x top_k x 1 ...
    """
    with tf.name_scope(scope, "ArgMax"):
        rank = len(inputs.shape)
        others = [i for i in range(rank) if i != axis]
        size = inputs.shape.as_list()
        count = size[axis] if axis is not None else int(inputs[0].shape.num_elements())
        rows = tf.reshape(inputs, [-1, count]) if axis is None else tf.transpose(inputs, [*others, axis])
        best, order = tf.nn.top_k(tf.reverse(rows, [-1]), top_k)
        order = tf.cast(count - 1 - order, inputs.dtype)
        if axis is None:
            found = tf.stack([order, best] if out_max_val else [order], axis=1)
            return tf.reshape(found, [-1, *found.shape.as_list()[1:], *[1] * (rank - 3)])
        back = [others.index(i) if i != axis else rank - 1 for i in range(rank)]
        return tf.transpose(best if out_max_val else order, back)


def normalize(inputs, axes, epsilon, scope=None):
    """inputs / sqrt(epsilon + sum(inputs^2)), the sum over some axes."""
    with tf.name_scope(scope, "Normalize"):
        return inputs / tf.sqrt(tf.reduce_sum(tf.square(inputs), axes, keepdims=True) + epsilon)


def mvn(inputs, across_channels, normalize_variance, epsilon, scope=None):
    """Every map of N x H x W x C (or item, across its channels) less its mean, over its deviation + epsilon."""
    with tf.name_scope(scope, "MVN"):
        axes = [1, 2, 3] if across_channels else [1, 2]
        centred = inputs - tf.reduce_mean(inputs, axes, keepdims=True)
        if not normalize_variance:
            return centred
        return centred / (tf.sqrt(tf.reduce_mean(tf.square(centred), axes, keepdims=True)) + epsilon)


def clip(inputs, low, high, scope=None):
    """max(low, min(inputs, high)) as Caffe does it: low where low is the greater, and in place of NaN."""
    with tf.name_scope(scope, "Clip"):
        capped = tf.minimum(inputs, high)
        return tf.where_v2(capped > low, capped, low)


def threshold(inputs, threshold, scope=None):
    """1 where inputs are greater than the threshold, else 0."""
    with tf.name_scope(scope, "Threshold"):
        return tf.cast(inputs > threshold, inputs.dtype)


def plain_batch_norm(inputs, epsilon, is_training, decay=0.999, scope=None):
    """(x - mean) / sqrt(variance + epsilon) a channel, channels last, with neither scale nor shift.

    In place of slim.batch_norm, which needs Keras 2, and whose fused kernel raises an epsilon below 1.001e-5 in
    silence. In training the batch's own statistics count, and the moving ones follow by tf.GraphKeys.UPDATE_OPS.
    """
    with tf.variable_scope(scope, "BatchNorm"):
        channels = inputs.shape.as_list()[-1:]
        mean = slim.model_variable("moving_mean", channels, initializer=tf.zeros_initializer, trainable=False)
        variance = slim.model_variable("moving_variance", channels, initializer=tf.ones_initializer, trainable=False)
        if is_training:
            batch = tf.nn.moments(inputs, list(range(len(inputs.shape) - 1)))
            for moving, current in zip((mean, variance), batch, strict=True):
                tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, moving.assign_sub((1 - decay) * (moving - current)))
            mean, variance = batch
        return tf.nn.batch_normalization(inputs, mean, variance, None, None, epsilon)


def shared_variables(twins):
    """A custom getter: whoever asks for a variable whose name ends as a key of `twins`, gets the one it stands for."""

    def get(getter, name, *args, **options):
        for twin, owner in twins.items():
            if name.endswith(f"/{twin}"):
                return getter(name[: -len(twin)] + owner, *args, **{**options, "reuse": True})
        return getter(name, *args, **options)

    return get
