"""Keras 2 files, written as Keras 2 wrote them: there is no Keras 2 here to write them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from deploykit.tensors import Array

Entry = dict[str, Any]
Weights = Mapping[str, Mapping[str, Array]]
"""Arrays by layer, and by the name that Keras 2 gives each."""

_GLOROT = {"class_name": "GlorotUniform", "config": {"seed": None}}
_KERNEL = {
    "kernel_initializer": {"class_name": "VarianceScaling", "config": {"scale": 1.0, "distribution": "normal"}},
    "kernel_regularizer": {"class_name": "Custom>MyDecay", "config": {"l2": 1e-4}},
    "kernel_constraint": None,
    "bias_initializer": {"class_name": "Zeros", "config": {}},
    "activity_regularizer": None,
}
_CONVOLUTION = {
    "strides": [1, 1],
    "padding": "same",
    "data_format": "channels_last",
    "dilation_rate": [1, 1],
    "groups": 1,
    "activation": "linear",
    "use_bias": True,
    "depthwise_initializer": _GLOROT,
    "depthwise_regularizer": None,
}
_RECURRENT = {
    "return_sequences": True,
    "return_state": False,
    "go_backwards": False,
    "stateful": False,
    "kernel_initializer": _GLOROT,
    "unit_forget_bias": True,
}


def entry(class_name: str, name: str, *inbound: Any, **config: Any) -> Entry:
    """Describe a layer, and what goes into it: names, or whole calls as Keras 2 writes them."""
    calls = [[[one, 0, 0, {}] if isinstance(one, str) else one for one in inbound]] if inbound else []
    plain = len(inbound) == 1 and isinstance(inbound[0], list)
    return {
        "class_name": class_name,
        "config": {"name": name, "trainable": True, "dtype": "float32", **config},
        "name": name,
        "inbound_nodes": [inbound[0]] if plain else calls,
    }


def image(name: str, *shape: int | None, dtype: str = "float32") -> Entry:
    return entry("InputLayer", name, batch_input_shape=[None, *shape], dtype=dtype, sparse=False, ragged=False)


def dense(name: str, units: int, *inbound: Any) -> Entry:
    return entry("Dense", name, *inbound, units=units, activation="linear", use_bias=True, **_KERNEL)


def convolution(class_name: str, name: str, *inbound: Any, **config: Any) -> Entry:
    return entry(class_name, name, *inbound, **{**_CONVOLUTION, **config})


def recurrent(class_name: str, name: str, *inbound: Any, **config: Any) -> Entry:
    return entry(class_name, name, *inbound, **{**_RECURRENT, **config})


def functional(layers: Sequence[Entry], inputs: Sequence[str], outputs: Sequence[Any], name: str = "model") -> Entry:
    """Describe a functional model."""
    return {
        "class_name": "Functional",
        "config": {
            "name": name,
            "layers": list(layers),
            "input_layers": [[one, 0, 0] for one in inputs],
            "output_layers": [[one, 0, 0] if isinstance(one, str) else one for one in outputs],
        },
    }


def write(path: Path, config: Entry | None, weights: Weights, version: str = "2.4.0", **attributes: str) -> Path:
    """Write a whole model, or with no description its weights only."""
    with h5py.File(path, "w") as file:
        group = file
        if config is not None:
            file.attrs["model_config"] = json.dumps(config)
            file.attrs["training_config"] = json.dumps({"loss": "my_loss", "optimizer_config": {"class_name": "Mine"}})
            file.attrs["keras_version"] = version
            group = file.create_group("model_weights")
        group.attrs["keras_version"] = version
        group.attrs["backend"] = attributes.get("backend", "tensorflow")
        group.attrs["layer_names"] = np.array([name.encode() for name in weights], dtype="S40")
        for name, arrays in weights.items():
            inside = group.create_group(name)
            inside.attrs["weight_names"] = np.array([one.encode() for one in arrays], dtype="S60")
            for one, array in arrays.items():
                inside[one] = array
        if config is not None:
            file.attrs.update({key: value for key, value in attributes.items() if key == "backend"})
    return path


def to_cudnn(kernel: Array, recurrent_kernel: Array, bias: Array) -> tuple[Array, Array, Array]:
    """Give the weights of an LSTM, or of a GRU with two biases, as CuDNN keeps them."""
    units = recurrent_kernel.shape[0]
    gates = recurrent_kernel.shape[1] // units
    parts = [kernel[:, units * gate : units * (gate + 1)] for gate in range(gates)]
    turned = [part.T.ravel(order="C").reshape(part.shape, order="C") for part in parts]
    recurrent_parts = [recurrent_kernel[:, units * gate : units * (gate + 1)].T for gate in range(gates)]
    biases = np.concatenate([bias * 0.25, bias * 0.75]) if bias.ndim == 1 else bias.ravel()
    return np.hstack(turned), np.hstack(recurrent_parts), biases
