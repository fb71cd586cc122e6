"""What slim has no layer for, of the pointwise kinds; see `zoo.frameworks.tf_slim.ops`."""

# pyright: basic, reportMissingImports=false

import tensorflow.compat.v1 as tf


def clip(inputs, low, high, scope=None):
    """max(low, min(inputs, high)) as Caffe does it: low where low is the greater, and in place of NaN."""
    with tf.name_scope(scope, "Clip"):
        capped = tf.minimum(inputs, high)
        return tf.where_v2(capped > low, capped, low)


def threshold(inputs, threshold, scope=None):
    """1 where inputs are greater than the threshold, else 0."""
    with tf.name_scope(scope, "Threshold"):
        return tf.cast(inputs > threshold, inputs.dtype)
