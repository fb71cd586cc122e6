"""What slim has no layer for, of the normalising kinds; see `zoo.frameworks.tf_slim.ops`."""

# pyright: basic, reportMissingImports=false

import tensorflow.compat.v1 as tf
import tf_slim as slim


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


def normalize(inputs, axes, epsilon, scope=None):
    """inputs / sqrt(epsilon + sum(inputs^2)), the sum over some axes."""
    with tf.name_scope(scope, "Normalize"):
        # Without the sizes, LiteRT's converter takes it for its own operator, whose epsilon is another.
        squares = tf.square(tf.abs(inputs))
        return inputs / tf.sqrt(tf.reduce_sum(squares, axes, keepdims=True) + epsilon)


def mvn(inputs, across_channels, normalize_variance, epsilon, scope=None):
    """Every map of N x H x W x C (or item, across its channels) less its mean, over its deviation + epsilon."""
    with tf.name_scope(scope, "MVN"):
        axes = [1, 2, 3] if across_channels else [1, 2]
        centred = inputs - tf.reduce_mean(inputs, axes, keepdims=True)
        if not normalize_variance:
            return centred
        return centred / (tf.sqrt(tf.reduce_mean(tf.square(centred), axes, keepdims=True)) + epsilon)


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
