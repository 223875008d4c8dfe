"""Fold what Keras does after a convolution, a factor and an offset for each channel, into its weights."""

from typing import Any

import numpy as np
from tf2onnx import utils

from deploykit.tensors import Array

_CONVOLUTIONS = {"Conv": 0, "ConvTranspose": 1}
"""The axis of the output channels in the weights."""


class FoldingOptimizer:
    """A stage for tf2onnx's optimizer: it has this as a side effect of moving a Transpose, there is none here."""

    def __init__(self) -> None:
        """Start with nothing done; tf2onnx makes one anew for each round."""
        self.graph_been_opt = False

    def optimize(self, graph: Any, _iteration: int) -> Any:
        """Fold until nothing is left to fold."""
        for node in list(graph.get_nodes()):
            if node.type in {"Mul", "Add"} and (found := _convolution_before(graph, node)):
                self.graph_been_opt |= _fold(graph, node, *found)
        graph.delete_unused_nodes(graph.outputs)
        return graph


def _convolution_before(graph: Any, node: Any) -> tuple[Any, Array] | None:
    for index in (0, 1):
        before, other = node.inputs[index], node.inputs[1 - index]
        if before is None or other is None or before.type not in _CONVOLUTIONS or not other.is_const():
            continue
        output = before.output[0]
        alone = output not in graph.outputs and len(graph.find_output_consumers(output)) == 1
        if alone and all(one.is_const() for one in before.inputs[1:] if one is not None):
            return before, other.get_tensor_value(as_list=False)
    return None


def _fold(graph: Any, node: Any, convolution: Any, value: Array) -> bool:
    axis = _CONVOLUTIONS[convolution.type]
    weights = convolution.inputs[1].get_tensor_value(as_list=False)
    groups = convolution.get_attr_value("group", 1)
    channels = weights.shape[0] if axis == 0 else weights.shape[1] * groups
    each = _per_channel(value, channels, weights.ndim)
    if each is None or (axis == 1 and groups > 1):
        return False
    bias = (
        convolution.inputs[2].get_tensor_value(as_list=False)
        if len(convolution.input) > 2  # noqa: PLR2004 - input, weights, bias
        else np.zeros(channels, weights.dtype)
    )
    exact = each.astype(np.float64)
    inputs = [convolution.input[0], convolution.input[1]]
    if node.type == "Mul":
        shape = [channels if one == axis else 1 for one in range(weights.ndim)]
        inputs[1] = _constant(graph, (weights * exact.reshape(shape)).astype(weights.dtype))
        bias = bias * exact
    else:
        bias = bias + exact
    if np.any(bias):
        inputs.append(_constant(graph, bias.astype(weights.dtype)))
    attributes, shapes, dtypes = convolution.get_onnx_attrs(), node.output_shapes, node.output_dtypes
    graph.remove_node(convolution.name)
    graph.remove_node(node.name)
    graph.make_node(
        convolution.type,
        inputs,
        attr=attributes,
        outputs=node.output,
        name=convolution.name,
        shapes=shapes,
        dtypes=dtypes,
        infer_shape_dtype=False,
    )
    return True


def _per_channel(value: Array, channels: int, rank: int) -> Array | None:
    """Give a constant as a number for each channel, if it is the same all over a channel."""
    if value.size == 1 and value.ndim <= rank:
        return np.full(channels, value.reshape(()))
    if value.ndim not in {rank, rank - 1} or value.size != channels or value.shape[-(rank - 1)] != channels:
        return None
    return value.reshape(-1)


def _constant(graph: Any, value: Array) -> str:
    return graph.make_const(utils.make_name("folded"), value).output[0]
