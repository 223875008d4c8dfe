"""The options of layers: what Keras 2 writes of each, and what of it Keras 3 takes."""

import inspect
from collections.abc import Iterator
from typing import Any

import keras

from deploykit.errors import ModelError

Config = dict[str, Any]

RENAMED = {
    "CuDNNLSTM": "LSTM",
    "CuDNNGRU": "GRU",
    "LSTMV2": "LSTM",
    "GRUV2": "GRU",
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution3D": "Conv3D",
    "Convolution2DTranspose": "Conv2DTranspose",
    "SeparableConvolution2D": "SeparableConv2D",
    "ThresholdedReLU": "ReLU",
    "RandomHeight": "Activation",
    "RandomWidth": "Activation",
}
"""Layers that go by another name in Keras 3, or that another layer stands for."""

_TRAINING_ONLY = ("_initializer", "_regularizer", "_constraint")
"""Ends of the names of options that do nothing once the weights are there."""

_NO_EFFECT = (
    "batch_input_shape input_shape input_dim input_length implementation fused virtual_batch_size adjustment"
    " experimental_autocast rng_type query_shape key_shape value_shape renorm renorm_clipping renorm_momentum"
    " synchronized unit_forget_bias vocabulary_size trainable dtype"
)
_WITHOUT_EFFECT = frozenset(_NO_EFFECT.split())
"""Options that Keras 3 may lack, and that change no number at inference."""

_OPTIONS = {"alpha": "negative_slope", "theta": "threshold", "max_tokens": "num_tokens"}
"""Options by another name, where the layer has only the new one."""

_INERT: tuple[Any, ...] = (None, False, 1, [], {}, "", (1, 1))


def input_options(options: Config) -> Config:
    """Give an input as Keras 3 describes it.

    Raises:
        ModelError: it is ragged.
    """
    shape = options.get("batch_shape", options.get("batch_input_shape"))
    if options.get("ragged"):
        raise ModelError(
            f"the input '{options.get('name')}' is ragged, which neither Keras 3 nor ONNX can take",
            fix="give the model a padded input in its place, and save it again",
        )
    kept: Config = {key: options[key] for key in ("name", "dtype", "optional") if key in options}
    return {**kept, "batch_shape": shape, "sparse": bool(options.get("sparse"))}


def accepted(class_name: str, options: Config) -> Iterator[tuple[str, Any]]:
    """Keep the options that the layer of Keras 3 has.

    Raises:
        ModelError: one that it lacks would change what it computes.
    """
    known = set(_arguments(getattr(keras.layers, class_name)))
    for key, value in options.items():
        if key.endswith(_TRAINING_ONLY):
            continue
        if key in known:
            yield key, value
        elif key in _OPTIONS and _OPTIONS[key] in known:
            yield _OPTIONS[key], value
        elif key not in _WITHOUT_EFFECT and (value is True or value not in _INERT):
            raise ModelError(
                f"the layer '{options.get('name')}' ({class_name}) has the option {key}={value!r}, "
                "which Keras 3 does not know",
                fix="save the model as a SavedModel with the Keras that made it, and convert that",
            )


def _arguments(layer: type) -> Iterator[str]:
    """List what a layer takes, and what those take that it passes the rest on to."""
    for kind in layer.__mro__:
        if "__init__" in vars(kind):
            parameters = inspect.signature(vars(kind)["__init__"]).parameters
            yield from parameters
            if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters.values()):
                return
