"""Tiny Keras models, each named after what it breaks; weights are drawn from a seed."""

from collections.abc import Callable
from typing import Any

import keras  # noqa: TID253 - nets are made of Keras, and this file is imported where Keras is
import numpy as np
from keras import layers, ops  # noqa: TID253


def sequential() -> Any:
    """A Sequential that was given its input's shape."""
    return keras.Sequential(
        [keras.Input((6,), name="features"), layers.Dense(8, "gelu"), layers.Dense(3, "softmax", name="classes")]
    )


def lstm() -> Any:
    """Stacked LSTMs over a free time axis."""
    x = keras.Input((None, 5), name="steps")
    y = layers.LSTM(7)(layers.LSTM(6, return_sequences=True)(x))
    return keras.Model(x, layers.Dense(2, name="score")(y))


def gru_both_ways() -> Any:
    """A Bidirectional GRU that gives every step."""
    x = keras.Input((None, 4), name="steps")
    return keras.Model(x, layers.Bidirectional(layers.GRU(3, return_sequences=True), name="both")(x))


def simple_rnn() -> Any:
    """A SimpleRNN, which goes backwards."""
    x = keras.Input((9, 4), name="steps")
    return keras.Model(x, layers.SimpleRNN(5, go_backwards=True, name="last")(x))


def attention() -> Any:
    """A transformer block with a causal mask."""
    x = keras.Input((None, 16), name="tokens")
    y = layers.MultiHeadAttention(2, 8)(x, x, use_causal_mask=True)
    y = layers.LayerNormalization()(x + y)
    return keras.Model(x, layers.LayerNormalization(name="out")(y + layers.Dense(16, "swish")(y)))


def masked_ids() -> Any:
    """An embedding that masks the id 0, which an LSTM, an attention and a mean heed."""
    ids = keras.Input((11,), dtype="int32", name="ids")
    x = layers.Embedding(40, 8, mask_zero=True)(ids)
    y = layers.LSTM(8, return_sequences=True)(x)
    z = layers.MultiHeadAttention(2, 4)(y, y)
    return keras.Model(ids, layers.Dense(3, name="kind")(layers.GlobalAveragePooling1D()(y + z)))


def depthwise() -> Any:
    """Depthwise, separable and transposed convolutions, dilated and strided, with several paddings."""
    image = keras.Input((None, None, 3), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu6")(image)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(x)
    x = layers.BatchNormalization()(x)
    x = layers.SeparableConv2D(12, 3, dilation_rate=2, padding="same", activation="leaky_relu")(x)
    x = layers.Conv2DTranspose(6, 3, strides=2, padding="same")(x)
    return keras.Model(image, layers.Conv2D(2, 1, name="mask")(layers.PReLU(shared_axes=[1, 2])(x)))


def resize() -> Any:
    """Resizes of both kinds, and a skip that meets them."""
    image = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same")(image)
    near = layers.UpSampling2D(2)(layers.AveragePooling2D(2)(x))
    smooth = layers.UpSampling2D(2, interpolation="bilinear")(layers.MaxPooling2D()(x))
    sized = layers.Resizing(16, 16)(layers.Conv2D(4, 3, strides=3)(image))
    return keras.Model(image, layers.Concatenate(name="stacked")([x, near, smooth, sized]))


def preprocessing() -> Any:
    """Pixels of 0 to 255, rescaled and normalized inside the model, by constants and by what data taught."""
    image = keras.Input((12, 12, 3), dtype="uint8", name="pixels")
    x = layers.Rescaling(1 / 127.5, offset=-1)(layers.CenterCrop(10, 10)(image))
    norm = layers.Normalization(axis=-1)
    norm.adapt(np.random.default_rng(0).normal(0.2, 0.6, (64, 10, 10, 3)).astype(np.float32))
    x = layers.ZeroPadding2D(1)(norm(x))
    x = layers.GlobalMaxPooling2D()(layers.Conv2D(5, 3)(x))
    return keras.Model(image, layers.Dense(4, "sigmoid", name="tags")(x))


def several() -> Any:
    """Two inputs and two outputs, by name."""
    left, right = keras.Input((5,), name="left"), keras.Input((7,), name="right")
    both = layers.Concatenate()([layers.Dense(4, "elu")(left), layers.Dense(4, "tanh")(right)])
    score, kind = layers.Dense(1, name="score")(both), layers.Dense(3, "softmax", name="kind")(both)
    return keras.Model({"right": right, "left": left}, {"score": score, "kind": kind})


def recalibrated() -> Any:
    """Squeeze and excite, groups, and norms other than the batch's."""
    image = keras.Input((8, 8, 4), name="image")
    x = layers.Conv2D(8, 3, groups=2, padding="same", activation="silu")(image)
    share = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = x * layers.Conv2D(8, 1, activation="hard_sigmoid")(layers.Conv2D(2, 1, activation="relu")(share))
    return keras.Model(image, layers.GroupNormalization(4, name="normed")(x))


def volumes() -> Any:
    """Convolutions of one axis and of three."""
    sound, scan = keras.Input((20, 3), name="sound"), keras.Input((6, 6, 6, 2), name="scan")
    x = layers.GlobalAveragePooling1D()(layers.Conv1D(4, 3, padding="causal", activation="softplus")(sound))
    y = layers.GlobalAveragePooling3D()(layers.MaxPooling3D()(layers.Conv3D(4, 3, activation="selu")(scan)))
    return keras.Model([sound, scan], layers.Dot(1, name="product")([x, y]))


def tagger() -> Any:
    """A layer over every step of a free number of them."""
    ids = keras.Input((None,), dtype="int32", name="ids")
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(layers.Embedding(30, 6)(ids))
    return keras.Model(ids, layers.TimeDistributed(layers.Dense(3, "softmax"), name="tags")(x))


def odd_sizes() -> Any:
    """Resizes by factors that float32 does not have."""
    image = keras.Input((12, 28, 3), name="image")
    smooth = layers.Resizing(20, 32)(image)
    return keras.Model(image, layers.Concatenate(name="sized")([smooth, layers.Resizing(20, 32, "nearest")(image)]))


def arithmetic() -> Any:
    """Functions of keras.ops in place of layers."""
    x = keras.Input((6,), name="x")
    y = ops.where(x > 0, ops.log1p(ops.abs(x)), ops.erf(x)) + ops.cumsum(x, axis=1)
    y = ops.concatenate([y, ops.flip(x, axis=1)], axis=1)
    best = ops.argmax(y, axis=-1)
    return keras.Model(x, {"best": best, "largest": ops.max(y, axis=-1), "spread": ops.std(y, axis=-1)})


NETS: dict[str, Callable[[], Any]] = {
    net.__name__: net
    for net in (
        *(sequential, lstm, gru_both_ways, simple_rnn, attention, masked_ids, depthwise, resize, preprocessing),
        *(several, recalibrated, volumes, tagger, odd_sizes, arithmetic),
    )
}


def built(name: str) -> Any:
    """Build a net of the zoo, the same each time, with its biases and norms off zero and one."""
    keras.utils.set_random_seed(7)
    keras.backend.clear_session()
    model = NETS[name]()
    rng = np.random.default_rng(7)
    for weight in model.trainable_weights:
        if len(weight.shape) == 1:
            weight.assign(weight.numpy() + rng.uniform(0.02, 0.3, weight.shape))
    return model
