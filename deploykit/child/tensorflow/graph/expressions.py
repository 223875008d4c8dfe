"""Operations without a float64 kernel, expressed by operations that have one."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import op_def_registry

_Call = Callable[..., Any]


def expression(op: str, attributes: dict[str, Any]) -> _Call | None:
    """Give a function of float64 tensors for an operation, where its own kernel will not do.

    Args:
        op: its type.
        attributes: what it is told, but for element types.
    """
    if attributes.get("data_format", "").startswith("NC") and op in _IMAGES:
        return _channels_last(op, attributes)
    make = _EXPRESSIONS.get(op)
    return make(attributes) if make else None


_IMAGES = {
    **dict.fromkeys(("Conv2D", "DepthwiseConv2dNative", "MaxPool", "AvgPool", "DepthToSpace", "SpaceToDepth"), 0),
    **dict.fromkeys(("Conv3D", "MaxPool3D", "AvgPool3D", "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"), 0),
    **dict.fromkeys(("Conv2DBackpropInput", "Conv3DBackpropInputV2"), 2),
}
"""Operations that the CPU only has for channels at the end, in float64, and which input is the image."""


def _channels_last(op: str, attributes: dict[str, Any]) -> _Call:
    axes = len(attributes["data_format"])
    last, first = [0, *range(2, axes), 1], [0, axes - 1, *range(1, axes - 1)]
    inner = {name: _permuted(value, last) for name, value in attributes.items()}
    inner["data_format"] = "NHWC" if axes == 4 else "NDHWC"  # noqa: PLR2004
    definition = op_def_registry.get(op)
    call = expression(op, inner) or (
        lambda *inputs: getattr(tf.raw_ops, op)(
            **dict(zip((one.name for one in definition.input_arg), inputs, strict=True)), **inner
        )
    )

    def transposed(*inputs: Any) -> Any:
        turned = list(inputs)
        turned[_IMAGES[op]] = tf.transpose(inputs[_IMAGES[op]], last)
        if _IMAGES[op]:
            turned[0] = tf.gather(inputs[0], last)
        return tf.transpose(call(*turned), first)

    return transposed


def _permuted(value: Any, order: list[int]) -> Any:
    if not isinstance(value, list) or not value:
        return value
    per_axis = len(value) // len(order)  # explicit paddings are two for each axis
    return [part for axis in order for part in value[axis * per_axis : (axis + 1) * per_axis]]


def _batch_norm(attributes: dict[str, Any]) -> _Call:
    def call(x: Any, scale: Any, offset: Any, mean: Any, variance: Any) -> Any:
        if attributes["is_training"]:
            mean, variance = tf.nn.moments(x, tf.range(tf.rank(x) - 1))
        epsilon = tf.constant(attributes["epsilon"], tf.float64)
        return (x - mean) * (scale / tf.sqrt(variance + epsilon)) + offset

    return call


def _local_response(attributes: dict[str, Any]) -> _Call:
    def call(x: Any) -> Any:
        radius, channels = attributes["depth_radius"], tf.shape(x)[-1]
        squares = tf.pad(x * x, [[0, 0], [0, 0], [0, 0], [radius, radius]])
        total = tf.add_n([squares[..., start : start + channels] for start in range(2 * radius + 1)])
        bias, alpha, beta = (tf.constant(attributes[name], tf.float64) for name in ("bias", "alpha", "beta"))
        return x / (bias + alpha * total) ** beta

    return call


def _pool_3d(pool: _Call) -> Callable[[dict[str, Any]], _Call]:
    """Pool height and width, then depth: a maximum of maxima, or a mean of means over equally many each."""

    def make(attributes: dict[str, Any]) -> _Call:
        size, strides, padding = attributes["ksize"], attributes["strides"], attributes["padding"]

        def call(x: Any) -> Any:
            batch, depth, height, width, channels = tf.unstack(tf.shape(x), 5)
            flat = pool(tf.reshape(x, [batch * depth, height, width, channels]), size[2:4], strides[2:4], padding)
            _, height, width, _ = tf.unstack(tf.shape(flat), 4)
            deep = tf.reshape(flat, [batch, depth, height * width, channels])
            deep = pool(deep, [size[1], 1], [strides[1], 1], padding)
            return tf.reshape(deep, [batch, tf.shape(deep)[1], height, width, channels])

        return call

    return make


def _resize(taps: Callable[[Any, Any, dict[str, Any]], Sequence[tuple[Any, Any]]]) -> Callable[[dict[str, Any]], _Call]:
    """Resize along height, then width: a sum of pixels, each times its weight."""

    def make(attributes: dict[str, Any]) -> _Call:
        def call(images: Any, size: Any) -> Any:
            resized = tf.cast(images, tf.float64)
            for axis in (1, 2):
                shape = [-1, 1, 1] if axis == 1 else [-1, 1]
                resized = tf.add_n(
                    [
                        tf.gather(resized, index, axis=axis) * tf.reshape(weight, shape)
                        for index, weight in taps(tf.shape(images)[axis], size[axis - 1], attributes)
                    ]
                )
            return resized

        return call

    return make


def _linear_taps(before: Any, after: Any, attributes: dict[str, Any]) -> Sequence[tuple[Any, Any]]:
    before, after = tf.cast(before, tf.int64), tf.cast(after, tf.int64)
    position = tf.range(after)
    if attributes["half_pixel_centers"]:
        above, below = (2 * position + 1) * before - after, 2 * after
    elif attributes["align_corners"]:
        corners = tf.logical_and(before > 1, after > 1)
        above, below = position * tf.where(corners, before - 1, before), tf.where(corners, after - 1, after)
    else:
        above, below = position * before, after
    start = above // below
    share = tf.cast(above - start * below, tf.float64) / tf.cast(below, tf.float64)
    return [(tf.maximum(start, 0), 1 - share), (tf.minimum(start + 1, before - 1), share)]


_TABLE = 1024
"""Steps between two pixels at which TensorFlow knows the cubic weights: a position is rounded to one of them."""


def _cubic_taps(before: Any, after: Any, attributes: dict[str, Any]) -> Sequence[tuple[Any, Any]]:
    # Which step a position is rounded to is decided in float32, as the source does it; the weights are exact.
    size, wanted = tf.cast(before, tf.float32), tf.cast(after, tf.float32)
    scale, position = size / wanted, tf.range(wanted)
    keys = attributes["half_pixel_centers"]
    if attributes["align_corners"]:
        scale = tf.where(tf.logical_and(before > 1, after > 1), (size - 1) / (wanted - 1), scale)
    place = (position + 0.5) * scale - 0.5 if keys else position * scale
    start = tf.floor(place)
    share = tf.cast(tf.round((place - start) * _TABLE), tf.float64) / _TABLE
    steepness = -0.5 if keys else -0.75
    indices = [tf.cast(start, tf.int64) + offset for offset in (-1, 0, 1, 2)]
    bounded = [tf.clip_by_value(index, 0, tf.cast(before - 1, tf.int64)) for index in indices]
    distances = (1 + share, share, 1 - share, 2 - share)
    weights = [_cubic(distance, steepness) for distance in distances]
    if keys:  # pixels outside the image do not count
        weights = [
            tf.where(inside == index, weight, 0)
            for inside, index, weight in zip(bounded, indices, weights, strict=True)
        ]
        weights = [weight / tf.add_n(weights) for weight in weights]
    return list(zip(bounded, weights, strict=True))


def _cubic(distance: Any, a: float) -> Any:
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return tf.where(distance <= 1, near, far)


_EXPRESSIONS: dict[str, Callable[[dict[str, Any]], _Call]] = {
    "FusedBatchNorm": _batch_norm,
    "FusedBatchNormV2": _batch_norm,
    "FusedBatchNormV3": _batch_norm,
    "LRN": _local_response,
    "MaxPool3D": _pool_3d(tf.nn.max_pool2d),
    "AvgPool3D": _pool_3d(tf.nn.avg_pool2d),
    "ResizeBilinear": _resize(_linear_taps),
    "ResizeBicubic": _resize(_cubic_taps),
}
EXPRESSED = frozenset({*_EXPRESSIONS, *_IMAGES})
"""Operations of which some forms, or all, have no kernel of their own."""
