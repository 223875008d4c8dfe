"""Translations of TFLite's operations that tf2onnx 1.17 lacks or has wrong; importing this registers them."""

import math
from typing import Any

import numpy as np
from tf2onnx import utils
from tf2onnx.handler import tf_op, tfl_op

from deploykit.child.tensorflow.export.formula import Formula


@tfl_op("TFL_SOFTMAX", tf_op="Softmax")
class Softmax:
    """With its beta on what goes in: tf2onnx puts it on what comes out."""

    @classmethod
    def to_tf(cls, graph: Any, node: Any, **_: Any) -> None:
        """Multiply the input by beta."""
        beta = node.get_attr_value("beta")
        del node.attr["beta"]
        if beta != 1:
            scale = graph.make_const(utils.make_name("beta"), np.array(beta, np.float32)).output[0]
            scaled = graph.make_node(
                "Mul", [node.input[0], scale], shapes=node.output_shapes, dtypes=node.output_dtypes
            )
            graph.replace_input(node, node.input[0], scaled.output[0], 0)


@tfl_op("TFL_RELU_N1_TO_1")
class ReluN1To1:
    """A clip to -1 and 1."""

    @classmethod
    def version_13(cls, graph: Any, node: Any, **_: Any) -> None:
        """Write it as Clip."""
        of = Formula(graph, node)
        of.becomes("Clip", of.inputs[0], of.const(-1), of.const(1))


@tfl_op("TFL_GELU")
class Gelu:
    """As ONNX has none before opset 20."""

    @classmethod
    def version_13(cls, graph: Any, node: Any, **_: Any) -> None:
        """Write it with Erf, or with Tanh where the file says so."""
        of = Formula(graph, node)
        x = of.inputs[0]
        if node.get_attr_value("approximate"):
            cube = of("Mul", of("Mul", x, of("Mul", x, x)), of.const(0.044715))
            bent = of("Tanh", of("Mul", of("Add", x, cube), of.const(math.sqrt(2 / math.pi))))
        else:
            bent = of("Erf", of("Mul", x, of.const(math.sqrt(0.5))))
        of.becomes("Mul", of("Mul", x, of.const(0.5)), of("Add", bent, of.const(1)))


@tfl_op("TFL_UNIDIRECTIONAL_SEQUENCE_LSTM")
class Lstm:
    """The plain LSTM that Keras layers become, from a state of zeros.

    Its inputs are those that ``tflite_tables`` leaves: x, then weights, recurrent weights and biases of the input gate,
    the forget gate, the cell and the output gate each. What ONNX can't say is that the state is clipped, at 10 mostly.
    """

    @classmethod
    def version_13(cls, graph: Any, node: Any, **_: Any) -> None:
        """Write it as LSTM, which takes time first and its gates in another order."""
        of = Formula(graph, node)
        time_first = bool(node.get_attr_value("time_major"))
        x = of.inputs[0] if time_first else of("Transpose", of.inputs[0], perm=[1, 0, 2])
        weights, recurrent = (cls._gates(of, 1 + 4 * group) for group in range(2))
        biases = [of.inputs[9 + gate] for gate in _GATES]
        units = graph.get_shape(of.inputs[9])[0]
        bias = of("Unsqueeze", of("Concat", *biases, of.const(np.zeros(4 * units)), axis=0), of.const([0], np.int64))
        sequence = graph.make_node("LSTM", [x, weights, recurrent, bias], attr={"hidden_size": units}, output_count=3)
        states = of("Squeeze", sequence.output[0], of.const([1], np.int64))
        if time_first:
            of.becomes("Identity", states)
        else:
            of.becomes("Transpose", states, perm=[1, 0, 2])

    @staticmethod
    def _gates(of: Formula, first: int) -> str:
        gates = of("Concat", *(of.inputs[first + gate] for gate in _GATES), axis=0)
        return of("Unsqueeze", gates, of.const([0], np.int64))


_GATES = (0, 3, 1, 2)
"""ONNX's order of TFLite's gates: input, output, forget, cell."""


def _upstream(name: str) -> Any:
    return next(handlers[name][0] for handlers in reversed(tf_op.get_opsets()[""]) if name in handlers)


_RESIZE = {name: _upstream(name) for name in ("ResizeBilinear", "ResizeNearestNeighbor")}


def _resize(graph: Any, node: Any, **options: Any) -> None:
    """Resize to a size where a factor, in float32, misses it by one, and in the words that opset 20 knows too."""
    shape, size = graph.get_shape(node.input[0]), node.inputs[1]
    if shape is not None and size.is_const() and not _reached(shape[1:3], size.get_tensor_value()):
        # tf2onnx writes sizes and not factors where it does not see a constant.
        graph.insert_new_node_on_input(node, "Identity", node.input[1], input_index=1)
    _RESIZE[node.type](graph, node, **options)
    for one in graph.get_nodes():
        if one.type == "Resize" and one.get_attr_str("coordinate_transformation_mode") == "tf_half_pixel_for_nn":
            one.set_attr("coordinate_transformation_mode", "half_pixel")
            one.set_attr("nearest_mode", "round_prefer_ceil")


def _reached(sizes: list[int], targets: list[int]) -> bool:
    return all(
        math.floor(size * float(np.float32(target / size))) == target
        for size, target in zip(sizes, targets, strict=True)
    )


for _name in _RESIZE:
    tf_op.register_handler(_resize, 13, [_name], "", {})
