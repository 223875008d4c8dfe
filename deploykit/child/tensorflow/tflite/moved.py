"""A TFLite file whose weights are as far off as its own arithmetic rounds: the way to its noise floor."""

import copy
from typing import Any

import numpy as np

from deploykit.child.tensorflow.tflite.file import SUMS, TfliteFile, packed, scales_of, type_of
from deploykit.tensors import Array

_ROUNDED = 1 / 12
"""How often an int8 weight moves by one: so its mean square error is that of rounding to 8 bits, 1/12."""
_SEED = 7


def moved(file: TfliteFile) -> bytes | None:
    """Give a copy of the file with its float32 weights at a neighbouring number, up or down by chance; zeros stay.

    Weights in float16 become float32 first, as TFLite computes with them. Hybrid kernels round their activations to
    8 bits, which no float32 neighbour shows: the int8 weights that they multiply these with move by one quantum, so
    often that the error is as large as that rounding's. Biases of sums that are rounded to 16 bits move by up to half
    of what is rounded away, as there is one kernel only for these. None where nothing can be moved.
    """
    tables = copy.deepcopy(file.tables)
    graph = tables.subgraphs[0]
    moves = {**_wide(tables, graph, file), **_floats(file), **_integers(file), **_sums(file)}
    random = np.random.default_rng(_SEED)
    done = False
    for number, move in sorted(moves.items()):
        before = tables.buffers[number].data
        tables.buffers[number].data = np.frombuffer(move(before, random).tobytes(), np.uint8)
        done |= not np.array_equal(before, tables.buffers[number].data)
    return packed(tables) if done else None


def hybrid(file: TfliteFile) -> bool:
    """Say whether float activations meet int8 weights in a kernel that rounds them at run time."""
    return bool(_integers(file))


def _floats(file: TfliteFile) -> dict[int, Any]:
    return {one.buffer: _neighbours for one in _constants(file) if type_of(one) == "FLOAT32"}


def _integers(file: TfliteFile) -> dict[int, Any]:
    found = {}
    for operator in file.graph.operators:
        tensors = [file.tensor(one) for one in operator.inputs if one >= 0]
        if file.operation(operator) in _HYBRID and type_of(tensors[0]) == "FLOAT32":
            weights = (one for one in tensors if type_of(one) == "INT8" and scales_of(one))
            found.update({one.buffer: _one_off for one in weights if file.tables.buffers[one.buffer].data is not None})
    return found


_HYBRID = (
    *("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL", "SVDF", "RNN", "LSTM"),
    *("UNIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN"),
    *("BIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_RNN"),
)


def _sums(file: TfliteFile) -> dict[int, Any]:
    found = {}
    for operator in file.graph.operators:
        places = SUMS.get(file.operation(operator))
        target = file.tensor(operator.outputs[0])
        if places is None or type_of(target) != "INT16" or len(operator.inputs) <= max(places):
            continue
        source, weights, bias = (operator.inputs[one] for one in (places[0], 1, places[1]))
        if bias >= 0 and type_of(file.tensor(bias)) == "INT64" and file.constant(bias) is not None:
            unit = scales_of(file.tensor(source))[0] * np.array(scales_of(file.tensor(weights)))
            found[file.tensor(bias).buffer] = _half_of(scales_of(target)[0] / unit)
    return found


def _half_of(quantum: Array) -> Any:
    def move(data: Array, random: np.random.Generator) -> Array:
        values = np.frombuffer(data.tobytes(), np.int64)
        return values + np.round(random.uniform(-0.5, 0.5, values.shape) * quantum).astype(np.int64)

    return move


def _wide(tables: Any, graph: Any, file: TfliteFile) -> dict[int, Any]:
    """Let what reads a float16 weight through a DEQUANTIZE read it as float32."""
    found = {}
    for operator in list(graph.operators):
        source, target = operator.inputs[0] if len(operator.inputs) else -1, operator.outputs[0]
        if file.operation(operator) != "DEQUANTIZE" or type_of(graph.tensors[source]) != "FLOAT16":
            continue
        tensor = graph.tensors[source]
        if tables.buffers[tensor.buffer].data is None:
            continue
        graph.tensors[source].type = graph.tensors[target].type
        graph.operators.remove(operator)
        for other in graph.operators:
            other.inputs = np.where(np.asarray(other.inputs) == target, source, other.inputs).astype(np.int32)
        found[tensor.buffer] = _neighbours_of_half
    return found


def _constants(file: TfliteFile) -> list[Any]:
    buffers = file.tables.buffers
    return [
        one
        for graph in file.tables.subgraphs
        for one in graph.tensors
        if buffers[one.buffer].data is not None and len(buffers[one.buffer].data)
    ]


def _neighbours_of_half(data: Array, random: np.random.Generator) -> Array:
    return _neighbours(np.frombuffer(data.tobytes(), np.float16).astype(np.float32), random)


def _neighbours(data: Array, random: np.random.Generator) -> Array:
    values = np.frombuffer(data.tobytes(), np.float32)
    towards = np.where(random.random(values.shape) < 0.5, np.inf, -np.inf).astype(np.float32)  # noqa: PLR2004
    return np.where((values == 0) | ~np.isfinite(values), values, np.nextafter(values, towards))


def _one_off(data: Array, random: np.random.Generator) -> Array:
    values = np.frombuffer(data.tobytes(), np.int8).astype(np.int16)
    step = np.where(random.random(values.shape) < 0.5, 1, -1)  # noqa: PLR2004
    return np.clip(values + step * (random.random(values.shape) < _ROUNDED), -127, 127).astype(np.int8)
