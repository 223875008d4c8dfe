"""Integers with ranges found at run time: products of matrices, and LSTMs, whose inputs are rounded as they come.

Weights are int8, each output with its own scale; inputs are uint8 with the range of the call. The nodes are those that
onnxruntime fuses into one kernel (DynamicQuantizeMatMul, MatMulIntegerToFloat); LSTMs become its DynamicQuantizeLSTM.
"""

from collections.abc import Collection, Iterator
from functools import partial

import numpy as np

from deploykit.quantization.sensitivity import Switchable
from deploykit.quantization.targets import Target
from deploykit.quantization.weighted import (
    Model,
    Node,
    Value,
    attribute,
    constant,
    is_turned,
    kept,
    product_hindrance,
    put_in_place,
    sorted_out,
)
from deploykit.quantization.weights import Rounded, rounded
from deploykit.tensors import Array

MICROSOFT = "com.microsoft"
_LEAST = 1 << 10
"""Weights from which a product is worth it."""


def find_products(model: Model, target: Target, excluded: Collection[str] = ()) -> tuple[list[Node], dict[str, str]]:
    """Find the nodes that can have ranges at run time; and of the others with weights, by name, why not."""
    return sorted_out(model, partial(_why_not, target=target), excluded)


def _why_not(node: Node, target: Target) -> str:
    if node.op_type == "LSTM":
        plain = all(constant(node.inputs[place]) is not None for place in (1, 2))
        if attribute(node, "layout", 0):
            return "its batch comes before its steps"
        return "" if plain else "its weight is computed"
    if node.op_type not in ("MatMul", "Gemm"):
        return f"onnxruntime has no kernel with ranges at run time for {node.op_type}"
    return product_hindrance(node, target, _LEAST)


def place_products(model: Model, products: Collection[Node], target: Target) -> None:
    """Write products with ranges at run time; in place."""
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    scales: dict[Value, tuple[Value, Value, Value]] = {}
    for node in products:
        if node.op_type == "LSTM":
            _lstm(model, node, target)
        else:
            _product(model, node, target, scales)
    RemoveUnusedNodesPass()(model)


def _axis(node: Node) -> int:
    return 0 if is_turned(node) else 1


def _product(model: Model, node: Node, target: Target, known: dict[Value, tuple[Value, Value, Value]]) -> None:
    import onnx_ir

    axis = _axis(node)
    found = rounded(constant(node.inputs[1]).numpy(), axis, target.weight_levels)
    integers = found.integers if axis == 1 else np.ascontiguousarray(found.integers.T)
    name = node.inputs[1].name
    weight, scale = kept(model, f"{name}_quantized", integers), kept(model, f"{name}_scale", found.scale)
    zero = kept(model, f"{name}_zero_point", np.zeros((), np.int8))
    value = node.inputs[0]
    before = [] if value in known else [onnx_ir.node("DynamicQuantizeLinear", [value], num_outputs=3)]
    if before:
        known[value] = before[0].outputs
    rounded_value, step, zero_of_it = known[value]
    product = onnx_ir.node("MatMulInteger", [rounded_value, weight, zero_of_it, zero], name=node.name)
    real = onnx_ir.node("Cast", [product.outputs[0]], {"to": onnx_ir.DataType.FLOAT})
    scales = onnx_ir.node("Mul", [step, scale])
    scaled = onnx_ir.node("Mul", [real.outputs[0], scales.outputs[0]])
    put_in_place(model, node, [*before, product, real, scales, scaled], main=product)


def _lstm(model: Model, node: Node, target: Target) -> None:
    import onnx_ir

    ends = []
    for place in (1, 2):  # [directions, 4 hidden, inputs], which the kernel takes turned around
        turned = np.ascontiguousarray(np.swapaxes(constant(node.inputs[place]).numpy(), 1, 2))
        integers, scale = _by_direction(turned, target)
        name = node.inputs[place].name
        ends.append(
            (
                kept(model, f"{name}_quantized", integers),
                kept(model, f"{name}_scale", scale),
                kept(model, f"{name}_zero_point", np.zeros(scale.shape, np.int8)),
            )
        )
    (weight, weight_scale, weight_zero), (again, again_scale, again_zero) = ends
    rest = [*node.inputs[3:], *[None] * 8][:5]
    inputs = [node.inputs[0], weight, again, *rest, weight_scale, weight_zero, again_scale, again_zero]
    made = onnx_ir.node(
        "DynamicQuantizeLSTM",
        inputs,
        {name: value.value for name, value in node.attributes.items()},
        domain=MICROSOFT,
        num_outputs=len(node.outputs),
        name=node.name,
    )
    model.opset_imports.setdefault(MICROSOFT, 1)
    put_in_place(model, node, [made], main=made)


def _by_direction(weight: Array, target: Target) -> tuple[Array, Array]:
    """Round [directions, inputs, 4 hidden], with a scale for each output of each direction."""
    parts = [rounded(one, 1, target.weight_levels) for one in weight]
    return np.stack([part.integers for part in parts]), np.stack([part.scale for part in parts])


def at_run_time(model: Model, target: Target, names: Collection[str]) -> list[Switchable]:
    """Add what products read whose ranges are found at run time."""
    products, _ = find_products(model, target)
    return [_stand_in(model, node, target) for node in products if node.name in names]


def _stand_in(model: Model, node: Node, target: Target) -> Switchable:
    import onnx_ir

    if node.op_type == "LSTM":
        return Switchable(node, dict(_lstm_weights(model, node, target)), float(constant(node.inputs[1]).size))
    first = onnx_ir.node("DynamicQuantizeLinear", [node.inputs[0]], num_outputs=3)
    restored = onnx_ir.node("DequantizeLinear", list(first.outputs))
    model.graph.insert_before(node, [first, restored])
    weight = constant(node.inputs[1]).numpy()
    found: Rounded = rounded(weight, _axis(node), target.weight_levels)
    ends = {0: restored.outputs[0], 1: kept(model, f"{node.name}_rounded", found.values)}
    return Switchable(node, ends, float(weight.size))


def _lstm_weights(model: Model, node: Node, target: Target) -> Iterator[tuple[int, Value]]:
    for place in (1, 2):
        parts = map(partial(rounded, axis=0, levels=target.weight_levels), constant(node.inputs[place]).numpy())
        values = np.stack([part.values for part in parts])
        yield place, kept(model, f"{node.name}_rounded_{place}", values)
