"""Train a small CNN on scikit-learn's digits in Keras: a real model, made in seconds, to try deploykit with.

python examples/digits_keras.py demo
deploykit convert demo/digits.keras
"""

import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what TensorFlow says of this machine is none of the example's
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import keras  # noqa: TID253 - this file is a model's own, and is imported where Keras is
import numpy as np
import tensorflow as tf  # noqa: TID253

EPOCHS = 5
BATCH = 64
HELD_OUT = 360


def net(classes: int = 10) -> Any:
    """Build a net that takes images, float32 [batch, 8, 8, 1] of 0 to 1, and gives logits [batch, classes]."""
    image = keras.Input((8, 8, 1), name="image")
    x = image
    for channels in (16, 32):
        x = keras.layers.Conv2D(channels, 3, padding="same")(x)
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
        x = keras.layers.ReLU()(x)
    x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Dropout(0.2)(keras.layers.Flatten()(x))
    return keras.Model(image, keras.layers.Dense(classes, name="logits")(x), name="digits")


def digits() -> tuple[Any, Any]:
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    return (found.images[order] / 16).astype(np.float32)[..., None], found.target[order]


def main(folder: Path) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(1)  # so that every machine adds up in the same order
    keras.utils.set_random_seed(0)
    images, labels = digits()
    model = net()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss, metrics=["accuracy"])
    for epoch in range(EPOCHS):
        history = model.fit(images[HELD_OUT:], labels[HELD_OUT:], batch_size=BATCH, verbose=0)
        print(f"epoch {epoch + 1} of {EPOCHS}: loss {history.history['loss'][0]:.3f}")
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "digits.keras")
    np.savez(folder / "digits_keras_val.npz", image=images[:HELD_OUT], y=labels[:HELD_OUT])
    right = (model(images[:HELD_OUT]).numpy().argmax(1) == labels[:HELD_OUT]).mean()
    print(f"accuracy on {HELD_OUT} images not trained on: {right:.1%}")
    print(f"wrote {folder / 'digits.keras'} and {folder / 'digits_keras_val.npz'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())
