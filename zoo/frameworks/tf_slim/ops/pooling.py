"""What slim has no layer for, of the pooling kinds; see `zoo.frameworks.tf_slim.ops`."""

# pyright: basic, reportMissingImports=false

import tensorflow.compat.v1 as tf


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


def pool_mask(inputs, kernel_size, stride, before, after, scope=None):
    """Where the maximum of each window stands, row * width + column, the first of equals; -1 where there is no pixel.

    Args:
        inputs: N x H x W x C.
        kernel_size, stride: rows, columns.
        before, after: rows above and below, columns left and right that are no pixels.
        scope: the name of its ops.
    """
    with tf.name_scope(scope, "PoolMask"):
        height, width = inputs.shape.as_list()[1:3]
        border = [[0, 0], *([before[i], max(after[i], 0)] for i in (0, 1)), [0, 0]]
        padded = tf.pad(inputs, border, constant_values=tf.float32.min)
        marks = tf.reshape(tf.range(float(height * width)), [1, height, width, 1])
        marks = tf.pad(marks, border, constant_values=-1.0)
        ends = [side + before[i] + after[i] - kernel_size[i] + 1 for i, side in enumerate((height, width))]

        def cell(image, i, j):
            return image[:, i : i + ends[0] : stride[0], j : j + ends[1] : stride[1]]

        best, found = tf.float32.min, -1.0
        for i in range(kernel_size[0]):
            for j in range(kernel_size[1]):
                value = cell(padded, i, j)
                better = value > best
                best, found = tf.where_v2(better, value, best), tf.where_v2(better, cell(marks, i, j), found)
        return found


def unpool(inputs, places, size, scope=None):
    """Numbers put at their places (row * width + column), zeros elsewhere; where several meet, the last one stands.

    Both N x C x h x w, the result N x C x size.
    """
    with tf.name_scope(scope, "Unpool"):
        channels, height, width = inputs.shape.as_list()[1:]
        count, numbers = size[0] * size[1], tf.reshape(inputs, [-1, height * width])
        at = tf.clip_by_value(tf.cast(tf.reshape(places, [-1, height * width]), tf.int32), 0, count - 1)
        maps = tf.shape(numbers)[0]
        order = tf.broadcast_to(tf.range(height * width), tf.shape(at))
        last = tf.math.unsorted_segment_max(order, at + tf.range(maps)[:, tf.newaxis] * count, maps * count)
        last = tf.reshape(last, [-1, count])
        net = tf.where_v2(last < 0, 0.0, tf.gather(numbers, tf.maximum(last, 0), batch_dims=1))
        return tf.reshape(net, [-1, channels, *size])
