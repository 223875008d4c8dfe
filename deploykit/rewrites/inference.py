"""Types and sizes of what a node gives, by ONNX's own inference, and by ours where that knows numbers only."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from deploykit.rewrites.evaluation import Known, attribute, axes_of, slice_of
from deploykit.rewrites.sizes import Size, Sum, product, quotient

if TYPE_CHECKING:
    from deploykit.rewrites.facts import Facts

Node = Any
Value = Any
Dims: TypeAlias = tuple[Size | None, ...]
Types: TypeAlias = Mapping[Value, tuple[Any, Dims | None]]
"""The type and the sizes of each output; None for a size, for all of them, or for a type that is unknown."""

_MOST_DATA = 1 << 10
"""Bytes of an operand that ONNX's inference is told the content of: axes, sizes and the like."""


def inferred(node: Node, facts: "Facts", known: Known) -> Types:
    """Find the types and sizes of a node's outputs."""
    types = _by_onnx(node, facts, known)
    function = _BY_OP.get(node.op_type)
    shapes = [None if value is None else facts.shape(value) for value in node.inputs]
    if function is None or not shapes or shapes[0] is None:
        return types
    own = function(node, shapes, known)
    if own is None:
        return types
    value = node.outputs[0]
    dtype, theirs = types.get(value, (None, None))
    if theirs is not None and len(theirs) == len(own):
        own = tuple(two if one is None else one for one, two in zip(own, theirs, strict=True))
    return {**types, value: (dtype, own)}


def _by_onnx(node: Node, facts: "Facts", known: Known) -> Types:
    import onnx
    from onnx.shape_inference import InferenceError, infer_node_outputs

    if any(name_of_kind(one) for one in node.attributes.values()):
        return {}
    given = [value for value in node.inputs if value is not None]
    kinds = {value: facts.dtype(value) for value in given}
    if None in kinds.values():
        return {}
    names = {value: f"v{at}" for at, value in enumerate(given)}
    sizes: dict[str, Sum] = {}
    try:
        schema = onnx.defs.get_schema(node.op_type, facts.opset, "")
        proto = _proto(node, names)
        data = {
            names[value]: onnx.numpy_helper.from_array(np.ascontiguousarray(array), names[value])
            for value, array in zip(node.inputs, known, strict=True)
            if array is not None and array.dtype in (np.int64, np.int32, np.float32) and array.nbytes <= _MOST_DATA
        }
        types = {names[value]: _type_proto(facts, value, kinds[value], sizes) for value in given}
        opsets = [onnx.helper.make_opsetid("", facts.opset)]
        found = infer_node_outputs(schema, proto, types, data, opset_imports=opsets, ir_version=10)
    except (InferenceError, RuntimeError, onnx.defs.SchemaError):
        return {}
    return {value: _read(found[f"o{at}"], sizes) for at, value in enumerate(node.outputs) if f"o{at}" in found}


def name_of_kind(attribute_: Any) -> bool:
    """Whether an attribute holds a graph, or refers to one of a function."""
    return attribute_.type.name in {"GRAPH", "GRAPHS"} or attribute_.is_ref()


def _proto(node: Node, names: Mapping[Value, str]) -> Any:
    import onnx
    import onnx_ir

    inputs = ["" if value is None else names[value] for value in node.inputs]
    proto = onnx.NodeProto(op_type=node.op_type, input=inputs)
    proto.output.extend(f"o{at}" if value.name else "" for at, value in enumerate(node.outputs))
    for one in node.attributes.values():
        onnx_ir.serde.serialize_attribute_into(proto.attribute.add(), one)
    return proto


def _type_proto(facts: "Facts", value: Value, dtype: Any, sizes: dict[str, Sum]) -> Any:
    import onnx

    proto = onnx.TypeProto()
    proto.tensor_type.elem_type = dtype.value
    shape = facts.shape(value)
    for size in shape or ():
        dim = proto.tensor_type.shape.dim.add()
        if isinstance(size, Sum):
            sizes[str(size)] = size
            dim.dim_param = str(size)
        else:
            dim.dim_value = size
    if shape == ():
        proto.tensor_type.shape.SetInParent()
    return proto


def _read(proto: Any, sizes: Mapping[str, Sum]) -> tuple[Any, Dims | None]:
    import onnx_ir

    if not proto.HasField("tensor_type"):
        return None, None
    dtype = onnx_ir.DataType(proto.tensor_type.elem_type) if proto.tensor_type.elem_type else None
    if not proto.tensor_type.HasField("shape"):
        return dtype, None
    dims = proto.tensor_type.shape.dim
    return dtype, tuple(one.dim_value if one.HasField("dim_value") else sizes.get(one.dim_param) for one in dims)


Shapes: TypeAlias = list[tuple[Size, ...] | None]


def _reshape(node: Node, shapes: Shapes, known: Known) -> Dims | None:
    before, target = shapes[0], known[1] if len(known) > 1 else None
    if before is None or target is None or target.ndim != 1:
        return None
    keep = not attribute(node, "allowzero", 0)
    sizes = [_size(one) for one in target]
    if keep and any(one == 0 and at >= len(before) for at, one in enumerate(sizes)):
        return None
    sizes = [before[at] if keep and one == 0 else one for at, one in enumerate(sizes)]
    if -1 not in sizes:
        return tuple(sizes)
    rest = quotient(product(before), product(one for one in sizes if one != -1))
    return tuple(rest if one == -1 else one for one in sizes)


def _size(one: Any) -> Size:
    return one if isinstance(one, Sum) else int(one)


def _flatten(node: Node, shapes: Shapes, _: Known) -> Dims | None:
    before = shapes[0] or ()
    at = attribute(node, "axis", 1)
    at = at + len(before) if at < 0 else at
    return product(before[:at]), product(before[at:])


def _expand(_: Node, shapes: Shapes, known: Known) -> Dims | None:
    before, target = shapes[0], known[1]
    if before is None or target is None:
        return None
    return broadcast(before, tuple(_size(one) for one in target))


def broadcast(one: tuple[Size, ...], other: tuple[Size, ...]) -> Dims:
    """Give the sizes of two values broadcast together; None for one that can't be told."""
    rank = max(len(one), len(other))
    pairs = zip((1,) * (rank - len(one)) + one, (1,) * (rank - len(other)) + other, strict=True)
    return tuple(_wider(first, second) for first, second in pairs)


def _wider(first: Size, second: Size) -> Size | None:
    if second in {first, 1}:
        return first
    if first == 1:
        return second
    numbers = [one for one in (first, second) if isinstance(one, int)]
    return numbers[0] if len(numbers) == 1 and numbers[0] > 1 else None


def _elementwise(_: Node, shapes: Shapes, __: Known) -> Dims | None:
    result: Dims = ()
    for shape in shapes:
        if shape is None or None in result:
            return None
        result = broadcast(result, shape)  # type: ignore[arg-type]
    return result


def _slice(node: Node, shapes: Shapes, known: Known) -> Dims | None:
    before = shapes[0] or ()
    try:
        taken = slice_of(node, known, len(before))
    except (TypeError, IndexError):
        return None
    return None if taken is None else tuple(_cut(size, one) for size, one in zip(before, taken, strict=True))


def _cut(size: Size, taken: slice) -> Size | None:
    if isinstance(size, int):
        return len(range(*taken.indices(size)))
    start, stop, step = taken.start or 0, taken.stop, taken.step or 1
    if step == 1 and start == 0 and (stop is None or stop >= 2**31 - 1):
        return size
    return None


def _concat(node: Node, shapes: Shapes, _: Known) -> Dims | None:
    first = shapes[0] or ()
    axis = attribute(node, "axis", 1)
    axis = axis + len(first) if axis < 0 else axis
    if any(shape is None or len(shape) != len(first) for shape in shapes):
        return None
    columns: list[list[Size]] = [list(column) for column in zip(*[shape or () for shape in shapes], strict=True)]
    return tuple(_total(column) if at == axis else _agreed(column) for at, column in enumerate(columns))


def _total(sizes: list[Size]) -> Size:
    total: Size = 0
    for size in sizes:
        total = total + size
    return total


def _agreed(sizes: list[Size]) -> Size:
    return next((size for size in sizes if isinstance(size, int)), sizes[0])


def _constant_of_shape(_: Node, __: Shapes, known: Known) -> Dims | None:
    return None if known[0] is None else tuple(_size(one) for one in known[0])


def _range(_: Node, __: Shapes, known: Known) -> Dims | None:
    start, limit, step = (None if one is None or one.ndim else one.item() for one in known)
    if start == 0 and step == 1 and isinstance(limit, Sum) and limit.positive:
        return (limit,)
    return None


def _unsqueeze(node: Node, shapes: Shapes, known: Known) -> Dims | None:
    axes, before = axes_of(node, known), list(shapes[0] or ())
    if axes is None:
        return None
    rank = len(before) + len(axes)
    places = {axis % rank for axis in axes}
    return tuple(1 if at in places else before.pop(0) for at in range(rank)) if len(places) == len(axes) else None


_ELEMENTWISE = ("Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "GreaterOrEqual", "Less")
_BY_OP: dict[str, Callable[[Node, Shapes, Known], Dims | None]] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Expand": _expand,
    "Slice": _slice,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "Unsqueeze": _unsqueeze,
    **dict.fromkeys((*_ELEMENTWISE, "LessOrEqual", "Where", "Min", "Max", "Mod"), _elementwise),
}
