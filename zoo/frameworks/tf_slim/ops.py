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
        count = int(inputs[0].shape.num_elements()) if axis is None else size[axis] or tf.shape(inputs)[axis]
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


def items_of(value, beside, scope=None):
    """A value once for every item of a batch."""
    with tf.name_scope(scope, "Items"):
        return tf.broadcast_to(value, tf.concat([tf.shape(beside)[:1], tf.shape(value)], 0))


def crop_batch(inputs, reference, start, scope=None):
    """As many items as the reference has, from one on."""
    with tf.name_scope(scope, "CropBatch"):
        return inputs[start : start + tf.shape(reference)[0]]


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


def prior_box(feature, image, min_sizes, max_sizes, ratios, step, offset, clip, variances, scope=None):
    """SSD's boxes of fixed sizes around every pixel of a map, as shares of the image, and their variances.

    Args:
        feature, image, step: (height, width) each.
        min_sizes, max_sizes: cut to whole numbers.
        ratios: without 1.
        offset: of the first centre, in steps.
        clip: whether boxes end at the image's edge.
        variances: four.
        scope: the name of its ops.

    Returns:
        1 x 2 x (rows * columns * sizes * 4).
    """
    sizes = []
    for i, least in enumerate(map(int, min_sizes)):
        sizes.append((least, least))
        if max_sizes:
            sizes.append(((least * int(max_sizes[i])) ** 0.5,) * 2)
        sizes += [(least / ratio**0.5, least * ratio**0.5) for ratio in ratios]
    boxes = []
    for i in range(feature[0]):
        for j in range(feature[1]):
            y, x = (i + offset) * step[0], (j + offset) * step[1]
            for high, wide in sizes:
                boxes += [(x - wide / 2) / image[1], (y - high / 2) / image[0]]
                boxes += [(x + wide / 2) / image[1], (y + high / 2) / image[0]]
    boxes = [min(max(side, 0.0), 1.0) for side in boxes] if clip else boxes
    return tf.constant([[boxes, variances * (len(boxes) // 4)]], tf.float32, name=scope)


def decoded_boxes(offsets, boxes, variances, code, variance_encoded):
    """Corners of boxes, N x P x L x 4, from as many offsets and from prior boxes and variances, P x 1 x 4."""
    moved = offsets if variance_encoded else offsets * variances
    size = boxes[..., 2:] - boxes[..., :2]
    if code == "corner":
        return boxes + moved
    if code == "corner_size":
        return boxes + moved * tf.concat([size, size], -1)
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2 + moved[..., :2] * size
    half = tf.exp(moved[..., 2:]) * size / 2
    return tf.concat([centre - half, centre + half], -1)


def taken_boxes(boxes, valid, overlap, eta):
    """Which boxes of B lists (B x K x 4, the best first) are taken: those that overlap no better one that is taken."""
    low, high = boxes[..., :2], boxes[..., 2:]
    area = tf.reduce_prod(tf.maximum(high - low, 0.0), -1)
    count = boxes.shape.as_list()[1]

    def step(i, taken, most):
        common = tf.minimum(high[:, i : i + 1], high) - tf.maximum(low[:, i : i + 1], low)
        shared = tf.where_v2(tf.reduce_all(common > 0, -1), tf.reduce_prod(common, -1), 0.0)
        over = shared > most[:, tf.newaxis] * (area[:, i : i + 1] + area - shared)
        mine = tf.logical_and(valid[:, i], tf.logical_not(tf.reduce_any(tf.logical_and(taken, over), -1)))
        taken = tf.logical_or(taken, tf.logical_and(mine[:, tf.newaxis], tf.equal(tf.range(count), i)))
        return i + 1, taken, tf.where_v2(tf.logical_and(mine, most > 0.5), most * eta, most)

    start = [0, tf.zeros_like(valid), tf.fill(tf.shape(valid)[:1], overlap)]
    return tf.while_loop(lambda i, taken, most: i < count, step, start)[1]


def detection_output(
    places,
    scores,
    priors,
    classes,
    share_location,
    background,
    code,
    variance_encoded,
    overlap,
    eta,
    top_k,
    keep,
    confidence,
    scope=None,
):
    """SSD's detections: boxes decoded, and of each class the best taken that do not overlap a better one.

    Args:
        places: N x (P * 4), of each class apart unless they share locations.
        scores: N x (P * classes).
        priors: 1 x 2 x (P * 4).
        classes, share_location, background: which are looked for.
        code, variance_encoded: how offsets are meant.
        overlap, eta: how much two boxes may share, and by what that shrinks with each taken box.
        top_k, keep: the most of a class that are looked at, of an image that are kept; -1 for all.
        confidence: what scores must be greater than.
        scope: the name of its ops.

    Returns:
        1 x 1 x M x 7: image, class, score, xmin, ymin, xmax, ymax.
    """
    with tf.name_scope(scope, "DetectionOutput"):
        total = int(scores.shape[1:].num_elements()) // classes
        boxes, variances = tf.unstack(tf.reshape(priors, [2, total, 1, 4]))
        labels = [label for label in range(classes) if label != background]
        offsets = tf.reshape(places, [-1, total, 1 if share_location else classes, 4])
        corners = decoded_boxes(offsets, boxes, variances, code, variance_encoded)
        corners = tf.transpose(corners, [0, 2, 1, 3])
        corners = tf.gather(corners, [0] * len(labels) if share_location else labels, axis=1)
        scores = tf.gather(tf.transpose(tf.reshape(scores, [-1, total, classes]), [0, 2, 1]), labels, axis=1)
        # Lists of each class of each image, the best first.
        count = min(top_k, total) if top_k > -1 else total
        best, order = tf.nn.top_k(tf.reshape(scores, [-1, total]), count)
        boxes = tf.gather(tf.reshape(corners, [-1, total, 4]), order, batch_dims=1)
        valid = best > (tf.float32.min if confidence is None else confidence)
        taken = taken_boxes(boxes, valid, overlap, eta)
        rows = len(labels) * count
        taken, best = tf.reshape(taken, [-1, rows]), tf.reshape(best, [-1, rows])
        if -1 < keep < rows:
            ranked = tf.where_v2(taken, best, tf.float32.min)
            rank = tf.argsort(tf.argsort(ranked, direction="DESCENDING", stable=True), stable=True)
            taken = tf.logical_and(taken, rank < keep)
        images = tf.cast(tf.range(tf.shape(best)[0]), tf.float32)[:, tf.newaxis]
        names = tf.constant([float(label) for label in labels for _ in range(count)])
        words = [tf.broadcast_to(images, tf.shape(best)), tf.broadcast_to(names, tf.shape(best)), best]
        full = tf.concat([tf.stack(words, -1), tf.reshape(boxes, [-1, rows, 4])], -1)
        found = tf.boolean_mask(full, taken)
        none = tf.concat([images, tf.fill([tf.shape(images)[0], 6], -1.0)], 1)
        found = tf.cond(tf.shape(found)[0] > 0, lambda: found, lambda: none)
        return found[tf.newaxis, tf.newaxis]


def bins(start, side, base, count, limit):
    """Which of `limit` rows belong to each of `count` bins of each region, R x count x limit."""
    at = tf.range(float(count + 1)) * side[:, tf.newaxis] + start[:, tf.newaxis]
    low, high = tf.floor(at[:, :-1]) + base[:, tf.newaxis], tf.ceil(at[:, 1:]) + base[:, tf.newaxis]
    row = tf.range(float(limit))
    return tf.logical_and(row >= low[..., tf.newaxis], row < high[..., tf.newaxis])


def rounded(x):
    """To whole numbers, halves away from zero."""
    return tf.sign(x) * tf.floor(tf.abs(x) + 0.5)


def images_of(inputs, regions):
    """The image of each region, the nearest one where there is none of that number."""
    return tf.gather(inputs, tf.clip_by_value(tf.cast(regions[:, 0], tf.int32), 0, tf.shape(inputs)[0] - 1))


def roi_pool(inputs, regions, size, scale, scope=None):
    """The maxima of bins of each region (R x 5: image, x1, y1, x2, y2), R x size x C; an empty bin is 0."""
    with tf.name_scope(scope, "ROIPool"):
        corners, within = rounded(regions[:, 1:] * scale), []
        for axis in (0, 1):
            start, end = corners[:, 1 - axis], corners[:, 3 - axis]
            side = tf.maximum(end - start + 1, 1.0) / size[axis]
            within.append(bins(tf.zeros_like(start), side, start, size[axis], inputs.shape.as_list()[1 + axis]))
        images, lowest, lines = images_of(inputs, regions), tf.float32.min, []
        for rows in tf.unstack(within[0], axis=1):
            lines.append(tf.reduce_max(tf.where_v2(rows[:, :, tf.newaxis, tf.newaxis], images, lowest), 1))
        lines, cells = tf.stack(lines, 1), []
        for columns in tf.unstack(within[1], axis=1):
            cells.append(tf.reduce_max(tf.where_v2(columns[:, tf.newaxis, :, tf.newaxis], lines, lowest), 2))
        filled = [tf.reduce_any(mask, -1) for mask in within]
        filled = tf.logical_and(filled[0][:, :, tf.newaxis], filled[1][:, tf.newaxis])
        return tf.where_v2(filled[..., tf.newaxis], tf.stack(cells, 2), 0.0)


def psroi_pool(inputs, regions, channels, group, scale, scope=None):
    """The mean of bins of each region, every bin from a channel of its own, R x group x group x channels."""
    with tf.name_scope(scope, "PSROIPool"):
        near, far = rounded(regions[:, 1:3]) * scale, (rounded(regions[:, 3:]) + 1) * scale
        side, within = tf.maximum(far - near, 0.1) / group, []
        for axis in (0, 1):
            start, limit = near[:, 1 - axis], inputs.shape.as_list()[1 + axis]
            mask = bins(start, side[:, 1 - axis], tf.zeros_like(start), group, limit)
            within.append(tf.cast(mask, inputs.dtype))
        images = images_of(inputs, regions)
        maps = tf.reshape(images, [-1, *inputs.shape.as_list()[1:3], channels, group, group])
        lines = tf.einsum("rhwdij,rih->rwdij", maps, within[0])
        total = tf.einsum("rwdij,rjw->rijd", lines, within[1])
        counts = [tf.reduce_sum(mask, -1) for mask in within]
        counts = counts[0][:, :, tf.newaxis] * counts[1][:, tf.newaxis]
        return total / tf.maximum(counts, 1.0)[..., tf.newaxis]


def shared_variables(twins):
    """A custom getter: whoever asks for a variable whose name ends as a key of `twins`, gets the one it stands for."""

    def get(getter, name, *args, **options):
        for twin, owner in twins.items():
            if name.endswith(f"/{twin}"):
                return getter(name[: -len(twin)] + owner, *args, **{**options, "reuse": True})
        return getter(name, *args, **options)

    return get
