"""Nodes of a graph as layers, which Keras 2 of TensorFlow 2.0 to 2.3 made of the functions that a model called."""

import re
from typing import Any

import keras
import tensorflow as tf
from google.protobuf import json_format  # type: ignore[import-untyped]
from tensorflow.python.framework import op_def_library, op_def_registry

from deploykit.child.tensorflow.keras.ops import PACKAGE

_EFFECTS = re.compile(
    "File|Py|Print|Read|Write|Save|Restore|Decode|Summary|Debug|Resource|Dataset|Iterator|Queue|Send|Recv|Host|Xla|Call"
)
"""In the names of operations that do more than compute, or may."""


@keras.saving.register_keras_serializable(PACKAGE)
class NodeOp(keras.Operation):
    """A single node of a graph as a layer: what Keras 2 of TensorFlow 2.0 to 2.3 calls TensorFlowOpLayer."""

    def __init__(self, node: dict[str, Any], constants: dict[str, Any] | None = None, name: str | None = None) -> None:
        """Take the node as the JSON of a NodeDef, and those of its inputs that are constants, by their number."""
        super().__init__(name=name)
        self.node, self.constants = node, constants or {}
        self._parsed = json_format.ParseDict(node, tf.compat.v1.NodeDef())

    def call(self, inputs: Any) -> Any:
        """Compute."""
        return tf.function(self._in_graph)(inputs) if tf.executing_eagerly() else self._in_graph(inputs)

    def _in_graph(self, inputs: Any) -> Any:
        parsed, definition = self._parsed, op_def_registry.get(self._parsed.op)
        given = [inputs] if tf.is_tensor(inputs) else list(inputs)
        for number in sorted(map(int, self.constants)):
            given.insert(number, self.constants[str(number)])
        inferred = {name for one in definition.input_arg for name in (one.type_attr, one.number_attr)}
        arguments = {one.name: _plain(parsed.attr[one.name]) for one in definition.attr if one.name not in inferred}
        for argument in definition.input_arg:
            count = parsed.attr[argument.number_attr].i if argument.number_attr else 1
            kind = tf.as_dtype(argument.type or parsed.attr[argument.type_attr].type)
            taken = [tf.convert_to_tensor(value, kind) for value in given[:count]]
            arguments[argument.name] = taken if argument.number_attr else taken[0]
            del given[:count]
        given_attributes = {name: value for name, value in arguments.items() if value is not None}
        return op_def_library.apply_op(parsed.op, **given_attributes)

    def get_config(self) -> dict[str, Any]:
        """Give what ``from_config`` takes."""
        return {"name": self.name, "node": self.node, "constants": self.constants}


def known_node(node: Any) -> bool:
    """Whether a node, as the JSON of a NodeDef, is of an operation that does nothing but compute."""
    name = str(node.get("op")) if isinstance(node, dict) else ""
    definition = op_def_registry.get(name) if hasattr(tf.raw_ops, name) else None
    return definition is not None and not definition.is_stateful and not _EFFECTS.search(name)


def _plain(attribute: Any) -> Any:
    kind = attribute.WhichOneof("value")
    if kind is None:
        return None
    if kind == "list":
        parts = attribute.list
        return [
            *parts.i,
            *parts.f,
            *parts.b,
            *parts.s,
            *map(tf.as_dtype, parts.type),
            *map(tf.TensorShape, parts.shape),
        ]
    value = getattr(attribute, kind)
    if kind == "type":
        return tf.as_dtype(value)
    return tf.TensorShape(value) if kind == "shape" else value
