"""Compute what a graph asks of sizes that are known."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from deploykit.child.tensorflow.graph.freezing import become_constant


def settle_sizes(graph: tf.Graph, graph_def: Any) -> None:
    """Make slices of shapes constants in a GraphDef, where the sizes that they take are known.

    TensorFlow's own folding needs all sizes of a shape, so a free batch leaves ``tf.shape(image)[1:3]`` as it is: then
    ONNX gets a resizing to a computed size, or a Reshape to a computed shape, where a constant was meant.
    """
    known = dict(_known_slices(graph))
    for node in graph_def.node:
        if node.name in known:
            become_constant(node, node.name, known[node.name])


def _known_slices(graph: tf.Graph) -> Iterator[tuple[str, Any]]:
    for operation in graph.get_operations():
        if operation.type != "StridedSlice" or operation.inputs[0].op.type != "Shape":
            continue
        shape = operation.inputs[0].op.inputs[0].shape
        bounds = [tf.get_static_value(one) for one in operation.inputs[1:]]
        masks = [operation.get_attr(f"{name}_mask") for name in ("ellipsis", "new_axis")]
        if shape.rank is None or any(masks) or any(one is None or one.shape != (1,) for one in bounds):
            continue
        taken = _taken(shape.as_list(), [int(one[0]) for one in bounds], operation)
        if None not in np.atleast_1d(np.asarray(taken, object)):
            yield operation.name, np.asarray(taken, operation.outputs[0].dtype.as_numpy_dtype)


def _taken(sizes: list[int | None], bounds: list[int], operation: tf.Operation) -> Any:
    begin, end, step = bounds
    if operation.get_attr("shrink_axis_mask"):
        return sizes[begin]
    first = None if operation.get_attr("begin_mask") else begin
    last = None if operation.get_attr("end_mask") else end
    return sizes[first:last:step]
