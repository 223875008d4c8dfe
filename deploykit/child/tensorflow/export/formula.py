"""Write an operation of TensorFlow as a formula of ONNX's, inside tf2onnx."""

from collections.abc import Callable
from typing import Any

import numpy as np
from tf2onnx import utils
from tf2onnx.handler import tf_op

from deploykit.tensors import Array

_SINCE = 13
"""The opset from which on the formulas hold: axes are inputs."""


class Formula:
    """Writes a node of a tf2onnx graph as a formula of others."""

    def __init__(self, graph: Any, node: Any) -> None:
        """Take the node that is to be written."""
        self.graph = graph
        self.node = node
        self.inputs = list(node.input)
        self.dtype = graph.get_dtype(node.input[0])
        self.numpy = utils.map_onnx_to_numpy_type(self.dtype)

    def const(self, value: Any, dtype: Any = None) -> str:
        """Give the name of a constant, of the type of the first input if nothing is said."""
        name = utils.make_name(self.node.name)
        return self.graph.make_const(name, np.asarray(value, dtype or self.numpy)).output[0]

    def __call__(self, operation: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and give its output."""
        return self.graph.make_node(operation, list(inputs), attr=attributes).output[0]

    def value(self, index: int) -> Array | None:
        """Give the value of an input, if it is a constant."""
        source = self.node.inputs[index]
        return source.get_tensor_value(as_list=False) if source is not None and source.is_const() else None

    def becomes(self, operation: str, *inputs: str, **attributes: Any) -> None:
        """Put the last node of the formula in place of the one that is written."""
        shapes, dtypes, outputs = self.node.output_shapes, self.node.output_dtypes, self.node.output
        self.graph.remove_node(self.node.name)
        self.graph.make_node(
            operation, list(inputs), attr=attributes, outputs=outputs, name=self.node.name, shapes=shapes, dtypes=dtypes
        )


def registered(name: str) -> Callable[[Callable[[Formula], None]], Callable[[Formula], None]]:
    """Make a function the translation of an operation, in place of tf2onnx's if it has one."""

    def register(write: Callable[[Formula], None]) -> Callable[[Formula], None]:
        def translate(graph: Any, node: Any, **_: Any) -> None:
            write(Formula(graph, node))

        tf_op.register_handler(translate, _SINCE, [name], "", {})
        return write

    return register


def upstream(name: str) -> Callable[..., None]:
    """Give tf2onnx's own translation of an operation; to be called before another one is registered."""
    return next(handlers[name][0] for handlers in reversed(tf_op.get_opsets()[""]) if name in handlers)
