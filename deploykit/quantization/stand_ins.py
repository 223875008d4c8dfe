"""What layers read once their numbers are rounded, in float: to measure what that does."""

from collections.abc import Collection

import numpy as np

from deploykit.quantization.placing import Numbers
from deploykit.quantization.ranges import Grid
from deploykit.quantization.regions import Unit, find_regions
from deploykit.quantization.sensitivity import Switchable
from deploykit.quantization.targets import Target
from deploykit.quantization.weighted import Model, Node, Value, constant, kept


def calibrated(model: Model, target: Target, numbers: Numbers, names: Collection[str]) -> list[Switchable]:
    """Add what units read whose ranges were calibrated."""
    units = [unit for unit in find_regions(model, target).units if unit.node.name in names]
    return [_unit(model, unit, target, numbers) for unit in units]


def _unit(model: Model, unit: Unit, target: Target, numbers: Numbers) -> Switchable:
    found = {}
    for place in unit.activations:
        value = unit.node.inputs[place]
        found[place] = _on_grid(model, unit.node, value, numbers.grids[value.name], target)
    work = 1.0
    if unit.weight is not None:
        weight = constant(unit.node.inputs[unit.weight]).numpy()
        work = float(weight.size)
        name = f"{unit.node.name}_rounded"
        found[unit.weight] = kept(model, name, numbers.weight(unit, target).values)
    return Switchable(unit.node, found, work)


def _on_grid(model: Model, node: Node, value: Value, grid: Grid, target: Target) -> Value:
    import onnx_ir

    kind = np.int8 if target.symmetric else np.uint8
    scale = onnx_ir.node("Constant", [], {"value": onnx_ir.tensor(np.array(grid.scale, np.float32))})
    zero = onnx_ir.node("Constant", [], {"value": onnx_ir.tensor(np.array(grid.zero, kind))})
    ends = [scale.outputs[0], zero.outputs[0]]
    quantized = onnx_ir.node("QuantizeLinear", [value, *ends])
    restored = onnx_ir.node("DequantizeLinear", [quantized.outputs[0], *ends])
    model.graph.insert_before(node, [scale, zero, quantized, restored])
    return restored.outputs[0]
