"""Freeze a traced function: its variables become constants, or stay beside the graph where they are too large."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import convert_to_constants

from deploykit.tensors import Array

INLINE_LIMIT = 1_500_000_000
"""Bytes of weights that a GraphDef may hold: protobuf ends at 2 GiB, and the graph itself needs room."""

_SMALL = 1 << 20


def freeze_function(function: Any, inline_limit: int = INLINE_LIMIT) -> tuple[Any, dict[str, Array]]:
    """Give the graph of a concrete function with its weights as constants, and loops and branches as they are.

    Args:
        function: a concrete function of ``tf.function``.
        inline_limit: more bytes of weights than this do not go into the graph.

    Returns:
        The GraphDef, and the weights that are not in it: arrays by the name of the placeholder that stands for each.
    """
    # convert_variables_to_constants_v2 is these two steps and a third that builds the function anew, of which we
    # only want the graph; it holds all weights in three more copies, and ends where they exceed 2 GiB.
    converted = convert_to_constants._FunctionConverterDataInEager(  # noqa: SLF001
        func=function, lower_control_flow=False, aggressive_inlining=True
    )
    weights: dict[str, Array] = {}
    if sum(one.numpy.nbytes for one in converted.tensor_data.values()) > inline_limit:
        weights = dict(_taken_out(converted.tensor_data))
    graph_def, _ = convert_to_constants._replace_variables_by_constants(converted)  # noqa: SLF001
    _stand_in(graph_def, weights)
    return graph_def, weights


def _taken_out(tensors: dict[str, Any]) -> Iterator[tuple[str, Array]]:
    for name, one in tensors.items():
        if one.numpy.nbytes > _SMALL:
            yield name, one.numpy
            tensors[name] = one._replace(numpy=np.zeros((), one.numpy.dtype))


def _stand_in(graph_def: Any, weights: dict[str, Array]) -> None:
    for node in graph_def.node:
        if node.name in weights:
            become_placeholder(node, weights[node.name])
        elif "output_shapes" in node.attr and node.op in {"While", "StatelessWhile"}:
            for index, name in enumerate(node.input):
                if name in weights:
                    node.attr["output_shapes"].list.shape[index].CopyFrom(_shape_of(weights[name]))


def become_placeholder(node: Any, value: Array) -> None:
    """Make a node of a GraphDef the placeholder of a weight."""
    name = node.name
    node.Clear()
    node.name, node.op = name, "Placeholder"
    node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
    node.attr["shape"].shape.CopyFrom(_shape_of(value))


def become_constant(node: Any, name: str, value: Array) -> None:
    """Make a node of a GraphDef a constant."""
    node.Clear()
    node.name, node.op = name, "Const"
    node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))


def _shape_of(value: Array) -> Any:
    return tf.TensorShape(value.shape).as_proto()
