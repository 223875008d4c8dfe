"""Shape arithmetic: sizes that are computed only to reshape by them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deploykit.rewrites.evaluation import attribute
from deploykit.rewrites.rewrite import rewrite
from deploykit.rewrites.scope import Scope
from deploykit.rewrites.sizes import Size, Sum

Node = Any
Value = Any

_RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


def target(before: Sequence[Size], after: Sequence[Size]) -> list[int] | None:
    """Give what Reshape needs to be told, to make one shape of another, whatever the unknown sizes are.

    0 stands for a size that stays in its place, and -1 for one other; None where more of them are unknown.
    """
    found = []
    for at, size in enumerate(after):
        if isinstance(size, int):
            if size == 0:
                return None
            found.append(size)
        else:
            found.append(0 if at < len(before) and before[at] == size else -1)
    return found if found.count(-1) <= 1 else None


@rewrite("reshapes", *_RESHAPES)
def reshapes(node: Node, scope: Scope) -> bool:
    """reshape(x, sizes computed from x) -> reshape(x, 0 and -1), and reshape(reshape(x)) -> reshape(x)."""
    value = node.inputs[0]
    inner = scope.made_by(value, *_RESHAPES)
    if inner is not None and scope.sole(value):
        value = inner.inputs[0]
    elif node.op_type != "Reshape" or scope.constant(node.inputs[1]) is not None:
        return False
    return _reshaped(node, value, scope) or (value is not node.inputs[0] and _again(node, scope))


def _again(node: Node, scope: Scope) -> bool:
    computed = node.op_type == "Reshape" and scope.constant(node.inputs[1]) is None
    return computed and _reshaped(node, node.inputs[0], scope)


def _reshaped(node: Node, value: Value, scope: Scope) -> bool:
    before, after = scope.shape(value), scope.shape(node.outputs[0])
    if before is None or after is None:
        return False
    if before == after:
        return scope.replace(node.outputs[0], value)
    wanted = target(before, after)
    if wanted is None:
        return False
    found = scope.add(node, "Reshape", [value, scope.sizes(wanted, node.outputs[0])])
    return scope.replace(node.outputs[0], found)


@rewrite("expansions", "Expand")
def expansions(node: Node, scope: Scope) -> bool:
    """expand(x, sizes computed from x) -> expand(x, 1 and numbers)."""
    before, after = scope.shape(node.inputs[0]), scope.shape(node.outputs[0])
    if before is None or after is None or scope.constant(node.inputs[1]) is not None:
        return False
    padded = (*[1] * (len(after) - len(before)), *before)
    wanted = [1 if size == have else size for size, have in zip(after, padded, strict=True)]
    if any(isinstance(size, Sum) for size in wanted):
        return False
    node.replace_input_with(
        1, scope.sizes([int(size) for size in wanted if not isinstance(size, Sum)], node.outputs[0])
    )
    return True


_COMPUTES = (
    *("Shape", "Gather", "Slice", "Concat", "Unsqueeze", "Squeeze", "Reshape", "Cast", "Identity", "Where", "Add"),
    "Mul",
)


@rewrite("sizes-of-inputs", *_COMPUTES)
def sizes_of_inputs(node: Node, scope: Scope) -> bool:
    """Sizes that are those of an input, however they came about -> shape(input), from one axis to another."""
    known = scope.facts.array(node.outputs[0])
    sizes = known is not None and known.dtype == object and known.ndim == 1
    if known is None or not sizes or scope.opset < 15 or not _as_shape_gives_them(node, scope):  # noqa: PLR2004
        return False
    place = _place(list(known), scope)
    if place is None:
        return False
    value, start = place
    end = start + len(known)
    if node.op_type == "Shape" and node.inputs[0] is value:
        return False
    found = scope.add(node, "Shape", [value], {"start": start, "end": end})
    return scope.replace(node.outputs[0], found)


def _as_shape_gives_them(node: Node, scope: Scope) -> bool:
    import onnx_ir

    return bool(scope.facts.dtype(node.outputs[0]) == onnx_ir.DataType.INT64)


def _place(sizes: list[Size], scope: Scope) -> tuple[Value, int] | None:
    """Find the input that has these sizes one after the other, and where they begin."""
    for value in scope.facts.main.inputs:
        shape = scope.shape(value) or ()
        for start in range(len(shape) - len(sizes) + 1):
            if list(shape[start : start + len(sizes)]) == sizes:
                return value, start
    return None


@rewrite("one-size", "Gather", "Squeeze")
def one_size(node: Node, scope: Scope) -> bool:
    """shape(f(x))[i] -> shape(input)[j], where both are the same: f(x) may then go."""
    known = scope.facts.array(node.outputs[0])
    if known is None or known.dtype != object or known.ndim or not _as_shape_gives_them(node, scope):
        return False
    place = _place([known.item()], scope)
    shape = scope.made_by(node.inputs[0], "Shape")
    if place is None or shape is None or shape.inputs[0] in scope.facts.main.inputs:
        return False
    value, axis = place
    number = scope.weight(np.array(axis, np.int64), f"{node.outputs[0].name}_axis")
    whole = scope.add(node, "Shape", [value])
    return scope.replace(node.outputs[0], scope.add(node, "Gather", [whole, number], {"axis": 0}))


@rewrite("concats", "Concat")
def concats(node: Node, scope: Scope) -> bool:
    """concat(concat(x, y), z) -> concat(x, y, z), of constants beside each other one."""
    axis = attribute(node, "axis")
    for at, value in enumerate(node.inputs):
        inner = scope.made_by(value, "Concat")
        if inner is not None and attribute(inner, "axis") == axis and scope.sole(value):
            inputs = [*node.inputs[:at], *inner.inputs, *node.inputs[at + 1 :]]
            return scope.replace(node.outputs[0], scope.add(node, "Concat", inputs, {"axis": axis}))
    return False


REWRITES = (reshapes, expansions, sizes_of_inputs, one_size, concats)
