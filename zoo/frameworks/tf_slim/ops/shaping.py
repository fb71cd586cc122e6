"""What slim has no layer for, of the shaping kinds; see `zoo.frameworks.tf_slim.ops`."""

# pyright: basic, reportMissingImports=false

import tensorflow.compat.v1 as tf


def arg_max(inputs, top_k, out_max_val, axis=None, scope=None):
    """Where the greatest numbers stand along an axis, greatest first, and of equals the last first, as in Caffe.

    With out_max_val the numbers; without an axis of each item as a whole, N x 1 (2 with the numbers) x top_k x 1 ...
    """
    with tf.name_scope(scope, "ArgMax"):
        rank = len(inputs.shape)
        others = [i for i in range(rank) if i != axis]
        size = inputs.shape.as_list()
        count = int(inputs[0].shape.num_elements()) if axis is None else size[axis] or tf.shape(inputs)[axis]
        rows = tf.reshape(inputs, [-1, count]) if axis is None else tf.transpose(inputs, [*others, axis])
        best, order = tf.nn.top_k(tf.reverse(rows, [-1]), top_k)
        order = tf.cast(count - 1 - order, inputs.dtype)
        if axis is None:
            found = tf.stack([order, best] if out_max_val else [order], axis=1)
            return tf.reshape(found, [-1, *found.shape.as_list()[1:], *[1] * (rank - 3)])
        back = [others.index(i) if i != axis else rank - 1 for i in range(rank)]
        return tf.transpose(best if out_max_val else order, back)


def items_of(value, beside, scope=None):
    """A value once for every item of a batch."""
    with tf.name_scope(scope, "Items"):
        return tf.broadcast_to(value, tf.concat([tf.shape(beside)[:1], tf.shape(value)], 0))


def crop_batch(inputs, reference, start, scope=None):
    """As many items as the reference has, from one on."""
    with tf.name_scope(scope, "CropBatch"):
        return inputs[start : start + tf.shape(reference)[0]]
