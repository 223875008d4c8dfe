"""Where a value of an ONNX graph goes: every use of it, through layout changes, subgraphs and functions."""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit.tensors import Array, Dim

if TYPE_CHECKING:
    import onnx_ir as ir

_LARGEST = 1 << 16
"""Constants of more elements are tables, and never a mean, a scale or an offset."""

_SAME = frozenset({"Identity", "Cast", "CastLike", "Reshape", "Unsqueeze", "Squeeze", "Expand", "Flatten"})
"""Operators after which every element is still the same number (or its rounding)."""

_THROUGH = _SAME | frozenset(
    {
        *("Transpose", "Slice", "Split", "Gather", "GatherElements", "GatherND", "Tile", "Pad", "Resize", "Dropout"),
        *("Clip", "Mod", "Abs", "And", "Or", "Not", "Equal", "Add", "Sub", "QuantizeLinear", "DequantizeLinear"),
    }
)
"""Operators whose first input goes on as their output, changed at most by what a Use keeps track of."""

_THROUGH_ANY = frozenset({"Concat", "Where", "Add", "Sub", "And", "Or", "Equal", "Min", "Max"})
"""Operators of which not only the first input goes on."""


@dataclass(frozen=True, eq=False)
class Use:
    """A node that takes what came from the traced value."""

    node: Any
    index: int
    """Which input of the node."""
    shift: Array
    """The constants added on the way."""
    flipped: bool
    """Whether 0 and 1 changed places on the way: ``Not``, ``== 0``, ``1 - x``."""

    @property
    def other(self) -> Any:
        """The other operand of a node of two inputs, or None."""
        inputs = self.node.inputs
        return inputs[1 - self.index] if len(inputs) == 2 and self.index < 2 else None  # noqa: PLR2004


def uses(model: "ir.Model", value: "ir.Value") -> Iterator[Use]:
    """List the uses of a value, nearest first, each value once for each polarity."""
    queue: deque[tuple[Any, Array, bool]] = deque([(value, np.zeros(()), False)])
    seen: set[tuple[int, bool]] = set()
    while queue:
        current, shift, flipped = queue.popleft()
        if (id(current), flipped) in seen:
            continue
        seen.add((id(current), flipped))
        for usage in tuple(current.uses()):
            use = Use(usage.node, usage.idx, shift, flipped)
            yield use
            queue.extend(_onward(model, use))


def constant(value: Any) -> Array | None:
    """Give the numbers of a small constant, seen through casts and reshapes, or None where it is none."""
    import onnx_ir as ir

    if value is None:
        return None
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None:
        return tensor.numpy() if tensor.size <= _LARGEST and tensor.dtype != ir.DataType.STRING else None
    node = value.producer()
    if node is None:
        return None
    if node.op_type == "ConstantOfShape":
        fill = node.attributes.get("value")
        return np.zeros(1) if fill is None else fill.as_tensor().numpy()
    if node.op_type not in _SAME:
        return None
    source = constant(node.inputs[0])
    return None if source is None else _shaped(source, value.shape)


def number(value: Any) -> float | None:
    """Give the one number that fills a constant, or None where it is none."""
    array = constant(value)
    if array is None or array.size == 0 or array.dtype.kind not in "biuf":
        return None
    first = float(array.flat[0])
    return first if bool((array == array.flat[0]).all()) else None


def size_of(value: Any, axis: int) -> Dim | None:
    """Give the size of an axis, the name of a dynamic one, or None where the graph does not say."""
    if value is None:
        return None
    if value.shape is not None and -len(value.shape) <= axis < len(value.shape):
        dim = value.shape[axis]
        return dim if isinstance(dim, int) else dim.value
    node = value.producer()
    if node is not None and node.op_type in {"Identity", "Cast", "DequantizeLinear"}:
        return size_of(node.inputs[0], axis)
    array = constant(value)
    return array.shape[axis] if array is not None and array.ndim > axis else None


def _onward(model: "ir.Model", use: Use) -> Iterator[tuple[Any, Array, bool]]:
    node, index = use.node, use.index
    function = model.functions.get(node.op_identifier())
    if function is not None:
        yield function.inputs[index], use.shift, use.flipped
    elif node.op_type in {"Loop", "Scan"}:
        inner = node.attributes["body"].as_graph().inputs
        if index < len(inner):
            yield inner[index], use.shift, use.flipped
    elif (node.op_type == "Mul" and _is_switch(use.other)) or (node.op_type == "Add" and _is_chosen(use.other)):
        yield from ((output, use.shift, use.flipped) for output in node.outputs)
    elif (node.op_type in _THROUGH and index == 0) or (node.op_type in _THROUGH_ANY and _is_value(use)):
        state = _state(use)
        if state is not None:
            yield from ((output, *state) for output in node.outputs)


def _is_switch(value: Any) -> bool:
    """Tell whether a factor is 0 or 1, made of a bool: so tf2onnx writes a choice between whole numbers."""
    cast = value.producer() if value is not None else None
    made = cast.inputs[0].producer() if cast is not None and cast.op_type == "Cast" else None
    return made is not None and made.op_type in _BOOLEAN


def _is_chosen(value: Any) -> bool:
    """Tell whether a value is the other way of such a choice: this one, or zero."""
    made = value.producer() if value is not None else None
    return made is not None and made.op_type == "Mul" and any(map(_is_switch, made.inputs))


_BOOLEAN = frozenset({"Not", "And", "Or", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"})


def _is_value(use: Use) -> bool:
    return use.node.op_type != "Where" or use.index > 0


def _state(use: Use) -> tuple[Array, bool] | None:
    """Follow the numbers through one node; None where they are no longer what they were."""
    kind = use.node.op_type
    if kind == "Not":
        return use.shift, not use.flipped
    if kind == "Equal":
        return (use.shift, not use.flipped) if number(use.other) == 0 else None
    if kind not in {"Add", "Sub"}:
        return use.shift, use.flipped
    added = constant(use.other)
    if added is None or added.dtype.kind not in "iuf":
        return None
    if kind == "Sub" and use.index == 1:
        return (use.shift, not use.flipped) if number(use.other) == 1 else None
    return _sum(use.shift, added if kind == "Add" else -added.astype(np.float64)), use.flipped


def _sum(one: Array, other: Array) -> Array:
    try:
        return one + other.astype(np.float64)
    except ValueError:
        return one + float(other.mean())


def _shaped(array: Array, shape: Any) -> Array:
    sizes = tuple(shape) if shape is not None else ()
    if all(isinstance(size, int) for size in sizes) and math.prod(sizes) == array.size:
        return array.reshape(sizes)
    return array
