"""Which operands of a node may be floats of 16 bits: what the operator's own definition allows."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from deploykit.rounding import Half


@dataclass(frozen=True)
class Ports:
    """The float32 operands of a node that become 16 bits wide where the node does; by their place."""

    inputs: frozenset[int]
    outputs: frozenset[int]

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.inputs or self.outputs)


NONE = Ports(frozenset(), frozenset())
_BY_ATTRIBUTE = frozenset({"Cast", "ConstantOfShape"})
"""Operators that are told by an attribute of what type their result is, and that can be told another."""


def ports_of(node: Any, opset: int, half: Half) -> Ports:
    """Say which float32 operands of a node may be halved.

    Args:
        node: an ``onnx_ir.Node``, the types of whose operands are known.
        opset: the version of the node's domain.
        half: the type.

    Returns:
        None of them where the operator is not known to onnx, or has no form in that type. An operand that must stay in
        float32, such as the scales of a Resize, is not among them.
    """
    schema = _schema(node.op_type, opset, node.domain)
    if schema is None or any(_is_sequence(value) for value in (*node.inputs, *node.outputs)):
        return NONE
    if node.op_type in _BY_ATTRIBUTE:
        return Ports(frozenset(), frozenset(number for number, one in enumerate(node.outputs) if is_float(one)))
    wanted = f"tensor({half.name})"
    inputs, bound = set(), set()
    for number, value in enumerate(node.inputs):
        formal = _formal(schema.inputs, number)
        if is_float(value) and formal is not None and wanted in formal.types:
            inputs.add(number)
            bound.add(formal.type_str)
    outputs = {
        number
        for number, value in enumerate(node.outputs)
        if is_float(value) and (formal := _formal(schema.outputs, number)) is not None and formal.type_str in bound
    }
    return Ports(frozenset(inputs), frozenset(outputs))


def is_float(value: Any) -> bool:
    """Tell whether a value is a tensor of float32."""
    import onnx_ir

    if value is None or value.dtype != onnx_ir.DataType.FLOAT:
        return False
    return value.type is None or isinstance(value.type, onnx_ir.TensorType)


def gives_sequence(node: Any, place: int, opset: int) -> bool:
    """Tell whether what a node gives at a place is no tensor but a sequence of them, or perhaps none."""
    schema = _schema(node.op_type, opset, node.domain)
    formal = _formal(schema.outputs, place) if schema is not None else None
    if formal is None or node.op_type == "Identity":
        return node.op_type == "Identity" and _is_sequence(node.inputs[0])
    return bool(formal.types) and not any(kind.startswith("tensor(") for kind in formal.types)


def _is_sequence(value: Any) -> bool:
    import onnx_ir

    return value is not None and isinstance(value.type, onnx_ir.SequenceType | onnx_ir.OptionalType)


@lru_cache(maxsize=1024)
def _schema(op_type: str, opset: int, domain: str) -> Any:
    import onnx

    try:
        return onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:
        return None


def _formal(formals: Any, number: int) -> Any:
    """Give the description of an operand; the last one may stand for many."""
    if number < len(formals):
        return formals[number]
    import onnx

    last = formals[-1] if len(formals) else None
    variadic = onnx.defs.OpSchema.FormalParameterOption.Variadic
    return last if last is not None and last.option == variadic else None
