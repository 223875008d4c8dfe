"""Make the tables of a TFLite file such as tf2onnx reads them right."""

import copy
from typing import Any

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from deploykit.child.tensorflow.model import Order
from deploykit.child.tensorflow.tflite.file import SUMS, TfliteFile, scales_of
from deploykit.errors import ModelError


def for_tf2onnx(file: TfliteFile, order: Order) -> Any:
    """Give a copy of the tables, with the sizes that were asked for and without what tf2onnx trips over."""
    tables = copy.copy(file.tables)
    tables.subgraphs = [copy.deepcopy(graph) for graph in file.tables.subgraphs]
    tables.operatorCodes = copy.deepcopy(file.tables.operatorCodes)
    tables.signatureDefs = []
    for number, graph in enumerate(tables.subgraphs):
        graph.name = graph.name or f"graph_{number}".encode()
        _distinct(graph, number)
        for operator in graph.operators:
            _in_float(operator.builtinOptions)
        for operator in graph.operators:
            if file.operation(operator) == "UNIDIRECTIONAL_SEQUENCE_LSTM":
                _plain_lstm(operator)
    _fit(tables.subgraphs[0], file, order)
    _single_outputs(tables.subgraphs[0])
    _rescale_biases(tables, file)
    _clip_apart(tables)
    return tables


def _distinct(graph: Any, number: int) -> None:
    """Give each tensor a name of its own: tf2onnx knows tensors by name, TFLite by number."""
    for place, tensor in enumerate(graph.tensors):
        tensor.name = f"{number}.{place}:".encode() + tensor.name.replace(b":", b"/")


def _in_float(options: Any) -> None:
    """Let hybrid kernels compute in float.

    tf2onnx rounds what comes into them with one scale for the whole batch, TFLite with one for each sample: an answer
    would hang on what else is in the batch.
    """
    if getattr(options, "asymmetricQuantizeInputs", False):
        options.asymmetricQuantizeInputs = False


def _fit(graph: Any, file: TfliteFile, order: Order) -> None:
    specs = {spec.name: spec.dims for spec in order.inputs}
    for wire in file.inputs:
        sizes = [dim if isinstance(dim, int) else -1 for dim in specs[wire.name]]
        tensor = graph.tensors[wire.tensor]
        tensor.shapeSignature = np.array(sizes, np.int32)
        tensor.shape = np.array([max(size, 1) for size in sizes], np.int32)


def _single_outputs(graph: Any) -> None:
    """Leave each output once, and none that is an input: these are connected later."""
    graph.outputs = np.array([one for one in dict.fromkeys(graph.outputs) if one not in set(graph.inputs)], np.int32)


def _clip_apart(tables: Any) -> None:
    """Make an operation of the one fused activation that tf2onnx does not take off."""
    fused, one = schema.ActivationFunctionType.RELU_N1_TO_1, schema.BuiltinOperator.RELU_N1_TO_1
    for graph in tables.subgraphs:
        operators = list(graph.operators)
        for operator in operators:
            if getattr(operator.builtinOptions, "fusedActivationFunction", 0) != fused:
                continue
            operator.builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.NONE
            before = copy.deepcopy(graph.tensors[operator.outputs[0]])
            before.name += b"/before_clip"
            before.quantization, before.type = None, schema.TensorType.FLOAT32
            graph.tensors.append(before)
            clip = schema.OperatorT(
                opcodeIndex=_code(tables, one),
                inputs=np.array([len(graph.tensors) - 1], np.int32),
                outputs=np.array(operator.outputs, np.int32),
            )
            operator.outputs = np.array([len(graph.tensors) - 1], np.int32)
            graph.operators.insert(graph.operators.index(operator) + 1, clip)


def _code(tables: Any, builtin: int) -> int:
    tables.operatorCodes.append(
        schema.OperatorCodeT(deprecatedBuiltinCode=min(builtin, 127), builtinCode=builtin, version=1)
    )
    return len(tables.operatorCodes) - 1


def _rescale_biases(tables: Any, file: TfliteFile) -> None:
    """Give each bias the scale that the sum has which it is added to, whatever its own says: so do TFLite's kernels.

    It says another where the converter let two operations share a bias.
    """
    for graph in tables.subgraphs:
        for operator in graph.operators:
            places = SUMS.get(file.operation(operator))
            if places is not None and len(operator.inputs) > max(places) and operator.inputs[places[1]] >= 0:
                _rescale_bias(graph, operator, *places)


def _rescale_bias(graph: Any, operator: Any, place: int, place_of_bias: int) -> None:
    source, weights, bias = (graph.tensors[operator.inputs[one]] for one in (place, 1, place_of_bias))
    if not (scales_of(source) and scales_of(weights)) or bias.quantization is None:
        return
    scale = np.float32(scales_of(source)[0]) * np.array(scales_of(weights), np.float32)
    if np.array_equal(scale, bias.quantization.scale):
        return
    own = copy.deepcopy(bias)
    own.name += f"/{len(graph.tensors)}".encode()
    own.quantization.scale, own.quantization.zeroPoint = scale, np.zeros(len(scale), np.int64)
    graph.tensors.append(own)
    operator.inputs = np.array(operator.inputs, np.int32)
    operator.inputs[place_of_bias] = len(graph.tensors) - 1


_GATES_AND_STATES = [*range(9), *range(12, 16), 18, 19]
_TANH = schema.ActivationFunctionType.TANH


def _plain_lstm(operator: Any) -> None:
    """Leave out the states, which are no constants, and make sure that nothing but the plain LSTM is asked for.

    tf2onnx drops inputs that are not there, and with them the places of the others.

    Raises:
        ModelError: it has peepholes, a projection, normalization, or no input gate.
    """
    there = [place for place, one in enumerate(operator.inputs) if one >= 0]
    if there != _GATES_AND_STATES or operator.builtinOptions.fusedActivationFunction != _TANH:
        raise ModelError(
            "the TFLite file has an UNIDIRECTIONAL_SEQUENCE_LSTM of a kind that can't be written as ONNX: only the "
            "plain one can, without peepholes, projection and layer normalization",
            fix="convert the model from Keras or its SavedModel instead",
        )
    operator.inputs = np.asarray(operator.inputs)[there[:-2]].astype(np.int32)
