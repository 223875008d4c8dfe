"""Full-sized Keras models with random weights: nothing is downloaded.

``python -m benchmarks.keras_models save NAME FOLDER`` writes FOLDER/NAME.keras and the SavedModel FOLDER/NAME;
``import`` only imports what a conversion needs, to know what that alone costs.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

VOCABULARY = 30522
WIDTH = 768
HEADS = 12
DEPTH = 12
LONGEST = 512


def resnet50() -> Any:
    import keras

    return keras.applications.ResNet50(weights=None)


def mobilenet_v2() -> Any:
    import keras

    return keras.applications.MobileNetV2(weights=None)


def encoder() -> Any:
    """Build an encoder of BERT-base's size: 109 million parameters."""
    import keras

    layers = keras.layers
    ids = keras.Input((None,), dtype="int32", name="ids")
    places = keras.ops.cumsum(keras.ops.ones_like(ids), axis=1) - 1
    x = layers.Embedding(VOCABULARY, WIDTH)(ids) + layers.Embedding(LONGEST, WIDTH)(places)
    for _ in range(DEPTH):
        attended = layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(x, x)
        x = layers.LayerNormalization(epsilon=1e-6)(x + attended)
        inner = layers.Dense(4 * WIDTH, activation="gelu")(x)
        x = layers.LayerNormalization(epsilon=1e-6)(x + layers.Dense(WIDTH)(inner))
    return keras.Model(ids, layers.Dense(2, name="logits")(x[:, 0]))


MODELS: dict[str, Callable[[], Any]] = {
    "keras-resnet50": resnet50,
    "keras-mobilenet-v2": mobilenet_v2,
    "keras-encoder": encoder,
}


def save(name: str, folder: str) -> None:
    import keras

    keras.utils.set_random_seed(0)
    model = MODELS[name]()
    model.save(Path(folder) / f"{name}.keras")
    model.export(Path(folder) / name, verbose=False)


def import_only() -> None:
    import keras  # noqa: F401
    import tensorflow as tf  # noqa: F401
    import tf2onnx  # noqa: F401


if __name__ == "__main__":
    orders: dict[str, Callable[..., None]] = {"save": save, "import": import_only}
    orders[sys.argv[1]](*sys.argv[2:])
