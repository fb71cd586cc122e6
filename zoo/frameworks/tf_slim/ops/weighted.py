"""What slim has no layer for, of the weighted kinds; see `zoo.frameworks.tf_slim.ops`."""

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


@slim.add_arg_scope
def embed(
    inputs,
    rows,
    num_outputs,
    weights_initializer=None,
    weights_regularizer=None,
    biases_initializer=tf.zeros_initializer,
    scope=None,
):
    """Rows of a table, by number: cut towards 0, and the nearest row where there is none of that number."""
    with tf.variable_scope(scope, "Embed"):
        table = slim.model_variable(
            "weights", [rows, num_outputs], initializer=weights_initializer, regularizer=weights_regularizer
        )
        net = tf.gather(tf.convert_to_tensor(table), tf.clip_by_value(tf.cast(inputs, tf.int32), 0, rows - 1))
        if biases_initializer is not None:
            net = net + slim.model_variable("biases", [num_outputs], initializer=biases_initializer)
        return net


def shared_variables(twins):
    """A custom getter: whoever asks for a variable whose name ends as a key of `twins`, gets the one it stands for."""

    def get(getter, name, *args, **options):
        for twin, owner in twins.items():
            if name.endswith(f"/{twin}"):
                return getter(name[: -len(twin)] + owner, *args, **{**options, "reuse": True})
        return getter(name, *args, **options)

    return get
