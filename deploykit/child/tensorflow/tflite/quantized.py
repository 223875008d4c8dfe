"""Let the ONNX of a quantized TFLite file round where and how TFLite rounds."""

from collections import defaultdict
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from deploykit.tensors import Array

_AWAY = np.float32(1 - 2**-21)
"""A scale by which halves, and only these, are rounded away from zero and not to the even neighbour."""


def as_tflite_rounds(proto: Any) -> None:
    """Rewrite what would be rounded otherwise, or what ONNX has no type for."""
    graph = _Graph(proto)
    for node in list(proto.graph.node):
        if node.op_type == "AveragePool":
            _pool_integers(graph, node)
    if any(graph.zero_of(node).dtype == np.int16 for node in proto.graph.node if node.op_type == "QuantizeLinear"):
        _keep_16_bits(graph)
    for node in list(proto.graph.node):
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"} and graph.zero_of(node).dtype in _UNKNOWN:
            _spell_out(graph, node)


_UNKNOWN = (np.int16, np.int64)
"""What QuantizeLinear and DequantizeLinear do not take before opset 21, or never."""


class _Graph:
    """Who makes and who reads each value of a graph, and the constants."""

    def __init__(self, proto: Any) -> None:
        self.graph = proto.graph
        self.constants = {one.name: one for one in self.graph.initializer}
        self.maker = {name: node for node in self.graph.node for name in node.output}
        self.readers: dict[str, list[Any]] = defaultdict(list)
        for node in self.graph.node:
            for name in node.input:
                self.readers[name].append(node)

    def value(self, name: str) -> Array | None:
        constant = self.constants.get(name)
        return None if constant is None else numpy_helper.to_array(constant)

    def constant(self, name: str, value: Any) -> str:
        if name not in self.constants:
            self.constants[name] = self.graph.initializer.add()
            self.constants[name].CopyFrom(numpy_helper.from_array(np.asarray(value), name))
        return name

    def zero_of(self, node: Any) -> Array:
        """Give the zero point of a node that quantizes: tf2onnx always writes one."""
        value = self.value(node.input[2])
        assert value is not None
        return value

    def only_reader(self, name: str, kind: str) -> Any:
        readers = self.readers[name]
        return readers[0] if len(readers) == 1 and readers[0].op_type == kind else None

    def same(self, one: str, other: str) -> bool:
        first, second = self.value(one), self.value(other)
        return first is not None and second is not None and np.array_equal(first, second)


def _pool_integers(graph: _Graph, pool: Any) -> None:
    """Average the integers themselves: half of a quantum is frequent in a mean of few, and TFLite rounds it up.

    In float each is a scale away from a half, and falls to either side.
    """
    source = graph.maker.get(pool.input[0])
    target = graph.only_reader(pool.output[0], "QuantizeLinear")
    if source is None or source.op_type != "DequantizeLinear" or target is None:
        return
    if not graph.same(source.input[1], target.input[1]) or not graph.same(source.input[2], target.input[2]):
        return
    zero = graph.zero_of(source)
    if zero.ndim:
        return
    none = graph.constant(f"{pool.name}/zero", np.zeros((), zero.dtype))
    real = helper.make_node(
        "DequantizeLinear",
        [source.input[0], graph.constant(f"{pool.name}/one", np.float32(1)), none],
        [f"{pool.name}/integers"],
        name=f"{pool.name}/integers",
    )
    graph.graph.node.insert(list(graph.graph.node).index(pool), real)
    pool.input[0] = real.output[0]
    target.input[1], target.input[2] = graph.constant(f"{pool.name}/away", _AWAY), none


def _keep_16_bits(graph: _Graph) -> None:
    """Write the weights of matrix products as float.

    onnxruntime makes a MatMulNBits of a product with int8 weights, which rounds activations of 16 bits to 8.
    """
    for node in graph.graph.node:
        source = graph.maker.get(node.input[1]) if node.op_type == "MatMul" else None
        if source is None or source.op_type != "DequantizeLinear":
            continue
        values, scale = graph.value(source.input[0]), graph.value(source.input[1])
        if values is None or scale is None:
            continue
        zero, axes = graph.zero_of(source).astype(np.float32), (1, -1) if _axis_of(source) else (-1, 1)
        if scale.ndim:
            scale, zero = scale.reshape(axes), zero.reshape(axes)
        real = (values.astype(np.float32) - zero) * scale
        node.input[1] = graph.constant(f"{source.output[0]}/float", real.astype(np.float32))


def _axis_of(node: Any) -> int:
    return next((one.i for one in node.attribute if one.name == "axis"), 1)


def _spell_out(graph: _Graph, node: Any) -> None:
    """Write a quantization to 16 bits, or what a 64 bit bias stands for, with the operations that it consists of."""
    scale, zero = graph.value(node.input[1]), graph.zero_of(node)
    assert scale is not None
    source, place, name = node.input[0], list(graph.graph.node).index(node), node.output[0]
    shape = [1] * scale.ndim
    if scale.ndim:
        axis = _axis_of(node)
        shape = [-1 if one == axis else 1 for one in range(max(axis + 1, len(_shape_of(graph, source))))]
    by = graph.constant(f"{name}/scale", scale.reshape(shape))
    zeros = graph.constant(f"{name}/zero", zero.astype(np.float32).reshape(shape))
    if node.op_type == "DequantizeLinear":
        steps = [("Cast", [], {"to": TensorProto.FLOAT}), ("Sub", [zeros], {}), ("Mul", [by], {})]
    else:
        limits = np.iinfo(zero.dtype)
        ends = [graph.constant(f"{name}/{end}", np.float32(end)) for end in (limits.min, limits.max)]
        kind = helper.np_dtype_to_tensor_dtype(zero.dtype)
        steps = [
            ("Div", [by], {}),
            ("Round", [], {}),
            ("Add", [zeros], {}),
            ("Clip", ends, {}),
            ("Cast", [], {"to": kind}),
        ]
    graph.graph.node.remove(node)
    for number, (operation, others, attributes) in enumerate(steps):
        last = number == len(steps) - 1
        target = name if last else f"{name}/{number}"
        graph.graph.node.insert(place + number, helper.make_node(operation, [source, *others], [target], **attributes))
        source = target


def _shape_of(graph: _Graph, name: str) -> tuple[int, ...]:
    value = graph.value(name)
    return () if value is None else value.shape
