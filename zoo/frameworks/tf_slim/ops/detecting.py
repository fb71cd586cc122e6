"""What slim has no layer for, of the detecting kinds; see `zoo.frameworks.tf_slim.ops`."""

# pyright: basic, reportMissingImports=false

import tensorflow.compat.v1 as tf


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


def listed_boxes(boxes, scores, names, taken):
    """The rows of the boxes that are taken, of N lists of K; one of -1 an image where no image has any."""
    images = tf.cast(tf.range(tf.shape(scores)[0]), tf.float32)[:, tf.newaxis]
    words = [tf.broadcast_to(images, tf.shape(scores)), tf.broadcast_to(names, tf.shape(scores)), scores]
    found = tf.boolean_mask(tf.concat([tf.stack(words, -1), boxes], -1), taken)
    none = tf.concat([images, tf.fill([tf.shape(images)[0], 6], -1.0)], 1)
    return tf.cond(tf.shape(found)[0] > 0, lambda: found, lambda: none)


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
        taken, best, boxes = (tf.reshape(what, [-1, rows, *what.shape[2:]]) for what in (taken, best, boxes))
        if -1 < keep < rows:
            ranked = tf.where_v2(taken, best, tf.float32.min)
            rank = tf.argsort(tf.argsort(ranked, direction="DESCENDING", stable=True), stable=True)
            taken = tf.logical_and(taken, rank < keep)
        names = tf.constant([float(label) for label in labels for _ in range(count)])
        return listed_boxes(boxes, best, names, taken)[tf.newaxis, tf.newaxis]


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
