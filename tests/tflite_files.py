"""TFLite files as the converter writes them, and some that only older converters wrote."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf  # noqa: TID253 - imported where TensorFlow is
from tensorflow.lite.python import schema_py_generated as schema  # noqa: TID253

from deploykit.child.tensorflow.tflite.file import packed

_RANDOM = np.random.default_rng(1)
INT8 = tf.lite.OpsSet.TFLITE_BUILTINS_INT8
INT16 = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8


def weight(*shape: int) -> Any:
    return tf.constant(_RANDOM.normal(0, 0.3, shape).astype(np.float32))


_KERNELS = {"first": weight(3, 3, 3, 40), "depthwise": weight(3, 3, 40, 1), "second": weight(1, 1, 40, 40)}
_DENSE, _BIAS = weight(40, 60), weight(40)


def convolutional(image: Any) -> Any:
    x = tf.nn.relu(tf.nn.conv2d(image, _KERNELS["first"], 1, "SAME") + _BIAS)
    x = tf.nn.relu6(tf.nn.depthwise_conv2d(x, _KERNELS["depthwise"], [1, 1, 1, 1], "SAME") + _BIAS)
    x = x + tf.nn.conv2d(x, _KERNELS["second"], 1, "SAME")
    x = tf.nn.avg_pool2d(tf.nn.max_pool2d(x, 2, 2, "VALID"), 2, 2, "SAME")
    return tf.nn.softmax(tf.reduce_mean(x, [1, 2]) @ _DENSE)


IMAGE = tf.TensorSpec([None, 12, 12, 3], tf.float32, name="image")


def tflite(path: Path, mode: str, function: Callable[..., Any], *inputs: tf.TensorSpec) -> Path:
    """Convert a function, which gives a tensor or tensors by name."""
    module = tf.Module()

    def named(*arguments: Any) -> Any:
        found = function(*arguments)
        return found if isinstance(found, dict) else {"scores": found}

    module.call = tf.function(named, input_signature=inputs)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=module.call)
        path.write_bytes(_quantized(tf.lite.TFLiteConverter.from_saved_model(folder), mode, inputs).convert())
    return path


def _quantized(converter: Any, mode: str, inputs: tuple[tf.TensorSpec, ...]) -> Any:
    if mode == "float":
        return converter
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if mode == "float16":
        converter.target_spec.supported_types = [tf.float16]
    elif mode != "dynamic":
        converter.representative_dataset = lambda: _samples(inputs)
        converter.target_spec.supported_ops = [INT16 if mode == "int16x8" else INT8]
    if mode in {"int8", "uint8"}:
        converter.inference_input_type = converter.inference_output_type = tf.dtypes.as_dtype(mode)
    return converter


def _samples(inputs: tuple[tf.TensorSpec, ...]) -> Iterator[dict[str, Any]]:
    random = np.random.default_rng(2)
    for _ in range(8):
        shapes = {spec.name: [size or 1 for size in spec.shape] for spec in inputs}
        yield {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def changed(path: Path, target: Path, change: Callable[[Any], None]) -> Path:
    """Write a copy of a file with other tables."""
    tables = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)
    change(tables)
    target.write_bytes(packed(tables))
    return target


def lstm(path: Path, *, whole_numbers: bool, time_first: bool) -> Path:
    """Write the LSTM of Keras 2 as its converter did, as one operation with its states."""
    building = _Building()
    shape = (5, 2, 6) if time_first else (2, 5, 6)
    x = building.tensor("x", shape)
    weights = [building.weight(f"w{gate}", (8, 6), whole_numbers) for gate in range(4)]
    recurrent = [building.weight(f"r{gate}", (8, 8), whole_numbers) for gate in range(4)]
    biases = [building.weight(f"b{gate}", (8,), False) for gate in range(4)]
    states = [building.tensor(name, (2, 8), variable=True) for name in ("h", "c")]
    y = building.tensor("y", (*shape[:2], 8))
    options = schema.UnidirectionalSequenceLSTMOptionsT()
    options.fusedActivationFunction, options.cellClip = schema.ActivationFunctionType.TANH, 10.0
    options.timeMajor, options.asymmetricQuantizeInputs = time_first, whole_numbers
    operator = schema.OperatorT()
    operator.inputs = np.array([x, *weights, *recurrent, -1, -1, -1, *biases, -1, -1, *states, *[-1] * 4], np.int32)
    operator.outputs, operator.opcodeIndex = np.array([y], np.int32), 0
    operator.builtinOptions = options
    operator.builtinOptionsType = schema.BuiltinOptions.UnidirectionalSequenceLSTMOptions
    building.write(path, operator, schema.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_LSTM, 3 if whole_numbers else 1)
    return path


class _Building:
    def __init__(self) -> None:
        self.random = np.random.default_rng(3)
        self.tables, self.graph = schema.ModelT(), schema.SubGraphT()
        self.tables.version, self.tables.buffers, self.tables.subgraphs = 3, [schema.BufferT()], [self.graph]
        self.graph.name, self.graph.tensors = b"main", []

    def tensor(self, name: str, shape: tuple[int, ...], content: Any = None, *, variable: bool = False) -> int:
        tensor, buffer = schema.TensorT(), schema.BufferT()
        tensor.name, tensor.shape, tensor.isVariable = name.encode(), np.array(shape, np.int32), variable
        tensor.type, tensor.buffer = schema.TensorType.FLOAT32, len(self.tables.buffers)
        if content is not None:
            buffer.data = np.frombuffer(content.tobytes(), np.uint8)
        self.tables.buffers.append(buffer)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def weight(self, name: str, shape: tuple[int, ...], whole_numbers: bool) -> int:
        values = self.random.normal(0, 0.5, shape).astype(np.float32)
        if not whole_numbers:
            return self.tensor(name, shape, values)
        scale = np.float32(np.abs(values).max() / 127)
        number = self.tensor(name, shape, np.round(values / scale).astype(np.int8))
        quantization = schema.QuantizationParametersT()
        quantization.scale, quantization.zeroPoint = np.array([scale]), np.array([0], np.int64)
        self.graph.tensors[number].type = schema.TensorType.INT8
        self.graph.tensors[number].quantization = quantization
        return number

    def write(self, path: Path, operator: Any, builtin: int, version: int) -> None:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = builtin
        code.version = version
        self.tables.operatorCodes = [code]
        self.graph.operators = [operator]
        self.graph.inputs, self.graph.outputs = operator.inputs[:1], operator.outputs
        path.write_bytes(packed(self.tables))
