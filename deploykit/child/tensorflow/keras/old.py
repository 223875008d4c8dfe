"""Read the architecture that Keras 2, or an HDF5 file of Keras 3, describes as what Keras 3 reads today.

The description is JSON, and stays JSON: nothing is made of it here, and no code of the file is run.
"""

import importlib
import inspect
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import keras

from deploykit.child.tensorflow.keras.node_op import known_node
from deploykit.child.tensorflow.keras.nodes import nodes, output_references
from deploykit.child.tensorflow.keras.ops import HARD_SIGMOID, PACKAGE, known
from deploykit.child.tensorflow.keras.options import RENAMED, accepted, input_options
from deploykit.errors import ModelError

Config = dict[str, Any]

_MODELS = ("Functional", "Model", "Network", "Container")

_INNER = ("layer", "backward_layer", "forward_layer", "cell")
_ACTIVATIONS = {"softmax_v2": "softmax", "log_softmax_v2": "log_softmax", "relu_v2": "relu"}


def modern(config: Config, version: int, custom: Collection[str]) -> Config:
    """Give a model's description in the form of ``.keras`` files.

    Args:
        config: the description as the file has it; it is not changed.
        version: of the Keras that wrote it, 2 or 3.
        custom: names of classes that the user gives, which are left as they are.

    Raises:
        ModelError: it asks for something that Keras 3 can't do.
    """
    return _Reader(version, custom).layer(config)


class _Reader:
    """Reads one description."""

    def __init__(self, version: int, custom: Collection[str]) -> None:
        self._keras2 = version < 3  # noqa: PLR2004
        self._custom = custom

    def layer(self, entry: Config) -> Config:
        """Give a layer's entry, or a model's, which is a layer."""
        class_name, config = _class_name(entry), entry.get("config")
        is_custom = entry.get("registered_name") in self._custom or class_name in self._custom
        made = self._unknown(entry, class_name) if is_custom else self._own(entry, class_name, config)
        if "build_config" in entry and not self._keras2:
            made["build_config"] = entry["build_config"]
        return made

    def _own(self, entry: Config, class_name: str, config: Any) -> Config:
        readers = {
            "Sequential": self._sequential,
            "TFOpLambda": _tensor_op,
            "SlicingOpLambda": _tensor_op,
            "Lambda": self._lambda,
        }
        if class_name == "TensorFlowOpLayer":
            return _node_op(entry)
        reader = readers.get(class_name, self._functional if _is_model(entry) else None)
        if reader:
            return reader(config)
        operation = None if self._keras2 or "trainable" in config else _operation(class_name)
        if operation:
            return {**_entry(operation, class_name, config), "registered_name": class_name}
        if hasattr(keras.layers, RENAMED.get(class_name, class_name)):
            return self._known(class_name, config)
        kept = {key: value for key, value in entry.items() if key not in {"name", "inbound_nodes"}}
        return kept if "module" in entry else self._unknown(entry, class_name)

    def _sequential(self, config: Any) -> Config:
        # Before Keras 2.2.3 a Sequential is the bare list of its layers.
        config = {"name": "sequential", "layers": config} if isinstance(config, list) else config
        layers = config["layers"]
        first = layers[0] if layers else {}
        shape = (first.get("config") or {}).get("batch_input_shape") if isinstance(first.get("config"), dict) else None
        made = [self.layer(entry) for entry in layers]
        if shape is not None and _class_name(first) != "InputLayer":
            dtype = made[0]["config"].get("dtype") if isinstance(made[0]["config"].get("dtype"), str) else None
            dtype = None if dtype is None or dtype.startswith("mixed") else dtype
            name = f"{made[0]['config'].get('name', 'layer')}_input"
            made.insert(0, _entry("keras.layers", "InputLayer", {"batch_shape": shape, "dtype": dtype, "name": name}))
        kept = {"name": plain_name(config.get("name") or "sequential"), "layers": made}
        if config.get("build_input_shape") and shape is None:
            kept["build_input_shape"] = config["build_input_shape"]
        return _entry("keras", "Sequential", kept)

    def _functional(self, config: Config) -> Config:
        layers = config["layers"]
        models = {_name(entry): _class_name(entry) for entry in layers if _is_model(entry)} if self._keras2 else {}
        made = []
        for entry in layers:
            one = self.layer(entry)
            one["name"] = plain_name(_name(entry))
            one["inbound_nodes"] = nodes(entry, models)
            made.append(one)
        structure = {
            "name": plain_name(config.get("name") or "model"),
            "trainable": config.get("trainable", True),
            "layers": made,
            "input_layers": output_references(config["input_layers"], models),
            "output_layers": output_references(config["output_layers"], models),
        }
        return _entry("keras", "Model", structure)

    def _lambda(self, config: Config) -> Config:
        kept: Config = {key: config[key] for key in ("name", "trainable", "arguments") if key in config}
        kept["function"] = _code(config["function"])
        shape = config.get("output_shape")
        if shape is not None:
            coded = config.get("output_shape_type") in {"lambda", "function"} or isinstance(shape, dict)
            kept["output_shape"] = _code(shape) if coded else shape
        named = {**kept, "name": plain_name(kept.get("name", "lambda")), **self._dtype(config)}
        return _entry("keras.layers", "Lambda", named)

    def _known(self, class_name: str, config: Config) -> Config:
        name = RENAMED.get(class_name, class_name)
        if name == "Activation" and class_name != name:  # what draws at random in training is nothing afterwards
            return _entry("keras.layers", name, {"name": plain_name(config["name"]), "activation": "linear"})
        options = {key: self._option(key, value) for key, value in config.items()} | self._dtype(config)
        if class_name.startswith("CuDNN"):
            options["recurrent_activation"] = "sigmoid"
        if name == "GRU" and self._keras2:
            options.setdefault("reset_after", class_name == "CuDNNGRU")  # the default is another in Keras 3
        if name == "InputLayer":
            return _entry("keras.layers", name, input_options(options))
        return _entry("keras.layers", name, dict(accepted(name, options)) if self._keras2 else options)

    def _unknown(self, entry: Config, class_name: str) -> Config:
        config = entry.get("config")
        if isinstance(config, dict):
            renamed = {"name": plain_name(config["name"])} if isinstance(config.get("name"), str) else {}
            config = {key: value for key, value in config.items() if key != "dtype"} | renamed | self._dtype(config)
        registered = entry.get("registered_name") or class_name
        return {"module": None, "class_name": class_name, "config": config, "registered_name": registered}

    def _option(self, key: str, value: Any) -> Any:
        if key == "name":
            return plain_name(value)
        if key in _INNER and isinstance(value, dict) and "class_name" in value:
            return self.layer(value)
        if key == "cells":
            return [self.layer(cell) for cell in value]
        if key.endswith("activation"):
            return self._activation(value)
        if key == "axis" and isinstance(value, list) and len(value) == 1:
            return value[0]
        return value

    def _activation(self, value: Any) -> Any:
        if isinstance(value, dict) and "class_name" in value and "module" not in value:
            return self.layer(value)
        if not isinstance(value, str):
            return value
        value = _ACTIVATIONS.get(value, value)
        if value == "hard_sigmoid" and self._keras2:
            return _function(HARD_SIGMOID)
        return value if hasattr(keras.activations, value) else _function(value)

    def _dtype(self, config: Config) -> Config:
        dtype = config.get("dtype")
        if isinstance(dtype, dict) and self._keras2:
            inner = dtype.get("config")
            dtype = inner.get("name") if isinstance(inner, dict) else None
        return {} if dtype in (None, "infer", "_infer") else {"dtype": dtype}


def plain_name(name: str) -> str:
    """Give the name that a layer has in Keras 3, which takes no slash in it."""
    return name.replace("/", "_")


def slashed(config: Any) -> Iterator[str]:
    """List the names of layers that ``plain_name`` changes."""
    if isinstance(config, dict):
        name = config["config"].get("name") if isinstance(config.get("config"), dict) else None
        if "class_name" in config and isinstance(name, str) and "/" in name:
            yield name
        for value in config.values():
            yield from slashed(value)
    elif isinstance(config, list):
        for value in config:
            yield from slashed(value)


def _class_name(entry: Mapping[str, Any]) -> str:
    name = str(entry.get("class_name"))
    package, _, own = name.rpartition(">")
    return own if package.lower() == "keras" else name


def _name(entry: Mapping[str, Any]) -> str:
    config = entry.get("config")
    return str(entry.get("name") or (config.get("name") if isinstance(config, dict) else None) or "model")


def _is_model(entry: Mapping[str, Any]) -> bool:
    config = entry.get("config")
    structured = isinstance(config, dict) and "input_layers" in config and "layers" in config
    return structured or _class_name(entry) in {*_MODELS, "Sequential"}


def _entry(module: str, class_name: str, config: Config) -> Config:
    return {"module": module, "class_name": class_name, "config": config, "registered_name": None}


def _function(name: str) -> Config:
    return {"module": "builtins", "class_name": "function", "config": name, "registered_name": name}


def _code(function: Any) -> Any:
    """Give a Lambda's function: by its name, or the bytecode that Keras 2 puts into a list of three."""
    if isinstance(function, list):
        code, defaults, closure = function
        return {"class_name": "__lambda__", "config": {"code": code, "defaults": defaults, "closure": closure}}
    return _function(function) if isinstance(function, str) else function


def _operation(class_name: str) -> str | None:
    """Say where Keras 3 has an operation, which may be called as a layer is, but has no options of a layer."""
    for place in ("numpy", "nn", "core", "math", "image", "linalg"):
        found = getattr(importlib.import_module(f"keras.src.ops.{place}"), class_name, None)
        if inspect.isclass(found) and issubclass(found, keras.Operation):
            return f"keras.src.ops.{place}"
    return None


def _tensor_op(config: Config) -> Config:
    function = str(config.get("function"))
    name = config.get("name", "")
    if not known(function):
        raise _no_function(name, f"tf.{function}")
    made = _entry(PACKAGE, "TensorOp", {"name": plain_name(name), "function": function})
    return {**made, "registered_name": f"{PACKAGE}>TensorOp"}


def _node_op(entry: Config) -> Config:
    config, name = entry["config"], _name(entry)
    node = config.get("node_def")
    if not known_node(node):
        raise _no_function(name, f"the operation {node.get('op')}" if isinstance(node, dict) else "an operation")
    kept = {"name": plain_name(name), "node": node, "constants": config.get("constants")}
    return {**_entry(PACKAGE, "NodeOp", kept), "registered_name": f"{PACKAGE}>NodeOp"}


def _no_function(name: str, what: str) -> ModelError:
    return ModelError(
        f"the layer '{name}' calls {what}, which is not among the functions that are taken from a file",
        fix="save the model as a SavedModel with the Keras that made it, and convert that",
    )
