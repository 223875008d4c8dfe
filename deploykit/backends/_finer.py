"""The same graph, with the operators that onnxruntime computes coarsely in float64.

onnxruntime adds long sums one after another, where torch adds them in pairs: over 65,536 terms it errs 10 to 40 times
as much, in means, norms and cumulative sums. Its sigmoid errs by 2^-24 however small the result. A file that is
right then looks wrong. These operators compute the same in float64, only finer: what is wrong stays wrong.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

_SUMS = frozenset({"ReduceMean", "ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp", "CumSum"})
"""Operators whose first input alone is a number; the second says along which axes."""
_WHOLE = frozenset({"LayerNormalization", "Sigmoid"})
_WRITTEN_OUT = frozenset({"InstanceNormalization", "GlobalAveragePool"})
"""What has no float64 kernel there, and is written out with operators that have one."""


def finer(source: Path, target: Path) -> bool:
    """Write a copy of an ONNX file with its coarse operators in float64; its weights stay where they are.

    Returns:
        Whether there was any such operator in the graph.
    """
    from deploykit.onnx_io import load, save

    model = load(source)
    _infer_shapes(model)
    graph = model.graph
    coarse = [node for node in graph if _is_coarse(node)]
    for node in coarse:
        _replace(graph, node)
    if coarse:
        save(model, target, external=True)
    return bool(coarse)


def _infer_shapes(model: Any) -> None:
    from onnx_ir.passes.common import ShapeInferencePass

    ShapeInferencePass()(model)


def _is_coarse(node: Any) -> bool:
    import onnx_ir

    first = node.inputs[0] if node.inputs else None
    if first is None or first.dtype != onnx_ir.DataType.FLOAT:
        return False
    if node.op_type in _WRITTEN_OUT:
        return first.shape is not None
    return node.op_type in _SUMS | _WHOLE and len(node.outputs) == 1


def _replace(graph: Any, node: Any) -> None:
    import onnx_ir

    before = _Before(graph, node)
    old = node.outputs[0]
    kept = {1} if node.op_type in _SUMS else set()
    inputs = [
        value if value is None or number in kept else before.put("Cast", [value], to=onnx_ir.DataType.DOUBLE)
        for number, value in enumerate(node.inputs)
    ]
    if node.op_type in _WRITTEN_OUT:
        fine = (_instance_norm if node.op_type == "InstanceNormalization" else _pool)(before, node, inputs)
    else:
        fine = before.copy(node, inputs)
    new = before.put("Cast", [fine], to=onnx_ir.DataType.FLOAT)
    new.dtype, new.shape = old.dtype, old.shape
    if any(output is old for output in graph.outputs):
        name = old.name
        old.name, new.name = f"{name}.coarse", name
    onnx_ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _pool(before: "_Before", node: Any, inputs: list[Any]) -> Any:
    return before.mean(inputs[0], range(2, len(node.inputs[0].shape)))


def _instance_norm(before: "_Before", node: Any, inputs: list[Any]) -> Any:
    """Write out (x - mean) / sqrt(var + epsilon) * scale + bias, over the axes behind the channel."""
    values, scale, bias = inputs
    rank = len(node.inputs[0].shape)
    epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
    apart = before.put("Sub", [values, before.mean(values, range(2, rank))])
    variance = before.mean(before.put("Mul", [apart, apart]), range(2, rank))
    root = before.put("Sqrt", [before.put("Add", [variance, before.number(epsilon)])])
    inner = before.axes(range(1, rank - 1))
    scaled = before.put("Mul", [before.put("Div", [apart, root]), before.put("Unsqueeze", [scale, inner])])
    return before.put("Add", [scaled, before.put("Unsqueeze", [bias, inner])])


class _Before:
    """Puts nodes and constants into a graph, before one of its nodes."""

    def __init__(self, graph: Any, node: Any) -> None:
        self.graph, self.node = graph, node
        self.count = 0

    def put(self, op_type: str, inputs: list[Any], **attributes: int) -> Any:
        import onnx_ir

        made = onnx_ir.Node("", op_type, inputs, [onnx_ir.AttrInt64(name, int(v)) for name, v in attributes.items()])
        return self._insert(made)

    def copy(self, node: Any, inputs: list[Any]) -> Any:
        import onnx_ir

        return self._insert(onnx_ir.Node(node.domain, node.op_type, inputs, list(node.attributes.values())))

    def mean(self, value: Any, axes: Iterable[int]) -> Any:
        if self.graph.opset_imports.get("", 0) >= 18:  # noqa: PLR2004 - axes became an input
            return self.put("ReduceMean", [value, self.axes(axes)])
        import onnx_ir

        return self._insert(onnx_ir.Node("", "ReduceMean", [value], [onnx_ir.AttrInt64s("axes", list(axes))]))

    def axes(self, axes: Iterable[int]) -> Any:
        import numpy as np

        return self._constant(np.array(list(axes), np.int64))

    def number(self, number: float) -> Any:
        import numpy as np

        return self._constant(np.array(number, np.float64))

    def _constant(self, array: Any) -> Any:
        import onnx_ir

        value = onnx_ir.Value(name=self._name(), const_value=onnx_ir.tensor(array))
        self.graph.register_initializer(value)
        return value

    def _insert(self, made: Any) -> Any:
        made.outputs[0].name = self._name()
        self.graph.insert_before(self.node, made)
        return made.outputs[0]

    def _name(self) -> str:
        self.count += 1
        return f"{self.node.outputs[0].name}.finer_{self.count}"
