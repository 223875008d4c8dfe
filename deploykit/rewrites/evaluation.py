"""What a node gives where its operands are known: arrays, or arrays of sizes of which only the symbols are known.

Only what numpy does to the last bit as the specification has it is done here: moving elements, arithmetic on whole
numbers, and the four operations of IEEE floats. Anything else is left to onnxruntime (``deploykit.rewrites.running``).
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from deploykit.rewrites.sizes import Sum, quotient
from deploykit.tensors import Array

Node = Any
Known = Sequence[Array | None]

MOST_SYMBOLS = 256
"""Elements of an array of sizes: no shape is longer."""
MOST_BYTES = 64 << 20
"""What a node that makes much of little may give."""


def evaluate(node: Node, known: Known) -> Array | None:
    """Give the one output of a node; None where it can't be told, or is too large.

    Args:
        node: of the standard domain.
        known: its operands; None for one that is unknown, or left out. Of dtype object where they hold sizes.
    """
    function = _BY_OP.get(node.op_type)
    if function is None or any(
        one is None and given is not None for one, given in zip(known, node.inputs, strict=True)
    ):
        return None
    try:
        return settled(function(node, [one for one in known if one is not None]))
    except (TypeError, ValueError, IndexError, OverflowError):
        return None  # operands that do not fit, which the runtime will say better, or sizes that must be known here


def settled(found: Array | None) -> Array | None:
    """Make an array of sizes one of numbers where all of them are."""
    if found is None or found.dtype != object:
        return found
    if found.size > MOST_SYMBOLS:
        return None
    if any(isinstance(one, Sum) for one in found.flat):
        return found
    return found.astype(np.int64)


def attribute(node: Node, name: str, default: Any = None) -> Any:
    """Give the value of an attribute."""
    found = node.attributes.get(name)
    return default if found is None else found.value


def axes_of(node: Node, known: Known, place: int = 1) -> list[int] | None:
    """Give the axes of a node, from its attribute (before opset 13) or its operand; None where there are none."""
    if "axes" in node.attributes:
        return list(node.attributes["axes"].value)
    if len(known) > place and known[place] is not None:
        return [int(axis) for axis in known[place].reshape(-1)]  # type: ignore[union-attr]
    return None


def slice_of(node: Node, known: Known, rank: int) -> tuple[slice, ...] | None:
    """Give what a Slice takes of each axis, in Python's words; None where a bound is unknown."""
    bounds = _bounds(node, known)
    if bounds is None:
        return None
    starts, ends, axes, steps = bounds
    if starts is None or ends is None:
        return None
    taken = [slice(None)] * rank
    count = len(starts)
    for start, end, axis, step in zip(starts, ends, axes or range(count), steps or [1] * count, strict=True):
        # Going backwards, an end before the first element is what Python spells None.
        before = end if step > 0 or end > -(2**31) else None
        taken[axis] = slice(start, before, step)
    return tuple(taken)


_Bound: TypeAlias = list[int] | None


def _bounds(node: Node, known: Known) -> tuple[_Bound, _Bound, _Bound, _Bound] | None:
    """Give starts, ends, axes and steps, of which the last two may be left out; None where one is unknown."""
    if "starts" in node.attributes:
        return attribute(node, "starts"), attribute(node, "ends"), attribute(node, "axes"), None
    if any(one is None and given is not None for one, given in zip(known[1:], node.inputs[1:], strict=True)):
        return None
    found = [None if one is None else [_whole(item) for item in one.reshape(-1)] for one in known[1:]]
    starts, ends, axes, steps, *_ = [*found, None, None, None, None]
    return starts, ends, axes, steps


def _whole(item: object) -> int:
    if isinstance(item, Sum):
        raise TypeError
    return int(item)  # type: ignore[call-overload]


def reshaped(found: Array, target: Sequence[Any], *, allowzero: bool) -> Array:
    """Reshape as ONNX does: 0 stands for the size that is there."""
    sizes = [_whole(one) for one in target]
    return found.reshape([found.shape[at] if one == 0 and not allowzero else one for at, one in enumerate(sizes)])


def _reshape(node: Node, known: list[Array]) -> Array:
    return reshaped(known[0], list(known[1]), allowzero=bool(attribute(node, "allowzero", 0)))


def _flatten(node: Node, known: list[Array]) -> Array:
    at = attribute(node, "axis", 1)
    at = at + known[0].ndim if at < 0 else at
    return known[0].reshape(int(np.prod(known[0].shape[:at])), int(np.prod(known[0].shape[at:])))


def _unsqueeze(node: Node, known: list[Array]) -> Array | None:
    axes = axes_of(node, known)
    return None if axes is None else np.expand_dims(known[0], tuple(axes))


def _squeeze(node: Node, known: list[Array]) -> Array:
    axes = axes_of(node, known)
    return np.squeeze(known[0], None if axes is None else tuple(axes))


def _gather(node: Node, known: list[Array]) -> Array:
    axis = attribute(node, "axis", 0)
    size = known[0].shape[axis]
    wanted = np.asarray(known[1], dtype=np.int64)
    return np.asarray(np.take(known[0], np.where(wanted < 0, wanted + size, wanted), axis=axis))


def _slice(node: Node, known: list[Array]) -> Array | None:
    if "starts" not in node.attributes and len(known) != len(node.inputs):
        return None  # an operand in the middle is left out
    taken = slice_of(node, known, known[0].ndim)
    return None if taken is None else known[0][taken]


def _concat(node: Node, known: list[Array]) -> Array:
    if any(one.dtype == object for one in known):
        known = [one.astype(object) for one in known]
    return np.concatenate(known, axis=attribute(node, "axis", 1))


def _transpose(node: Node, known: list[Array]) -> Array:
    return np.transpose(known[0], attribute(node, "perm"))


def _expand(_: Node, known: list[Array]) -> Array | None:
    shape = np.broadcast_shapes(known[0].shape, tuple(_whole(one) for one in known[1]))
    large = int(np.prod(shape)) * known[0].itemsize > MOST_BYTES
    return None if large else np.broadcast_to(known[0], shape)


def _constant_of_shape(node: Node, known: list[Array]) -> Array | None:
    shape = tuple(_whole(one) for one in known[0])
    value = attribute(node, "value")
    filling = np.zeros(1, np.float32) if value is None else value.numpy()
    large = int(np.prod(shape)) * filling.itemsize > MOST_BYTES
    return None if large else np.broadcast_to(filling.reshape(()), shape)


_PLAIN = frozenset("?bhilqBHILQfd")
"""The kinds of numbers between which numpy's cast is the one that the specification asks for."""


def _cast(node: Node, known: list[Array]) -> Array | None:
    import onnx_ir

    target, found = onnx_ir.DataType(attribute(node, "to")), known[0]
    if found.dtype == object:
        return found if target in (onnx_ir.DataType.INT64, onnx_ir.DataType.INT32) else None  # tf2onnx counts in both
    wanted = target.numpy() if target != onnx_ir.DataType.STRING else np.dtype(object)
    if not {found.dtype.char, wanted.char} <= _PLAIN or (found.dtype.kind == "f" and wanted.kind in "iu"):
        return None
    return found.astype(wanted)


def _arithmetic(function: Callable[[Any, Any], Any]) -> Callable[[Node, list[Array]], Array | None]:
    def apply(_: Node, known: list[Array]) -> Array | None:
        one, other = known
        symbolic = object in (one.dtype, other.dtype)
        if not symbolic and (one.dtype != other.dtype or one.dtype.kind not in "iuf"):
            return None
        with np.errstate(all="ignore"):
            return np.asarray(function(one.astype(object), other.astype(object)) if symbolic else function(one, other))

    return apply


def _divide(one: Array, other: Array) -> Array:
    if one.dtype == object:
        found = np.frompyfunc(_exactly, 2, 1)(one, other)
        return np.asarray(found, dtype=object)
    if one.dtype.kind == "f":
        return np.asarray(one / other)
    if (other == 0).any():
        raise ValueError
    return np.asarray(np.sign(one) * np.sign(other) * (np.abs(one) // np.abs(other)))  # towards zero


def _exactly(one: Any, other: Any) -> Any:
    found = quotient(one, other)
    if found is None:
        raise TypeError
    return found


def _equal(_: Node, known: list[Array]) -> Array:
    if object not in (known[0].dtype, known[1].dtype):
        return np.asarray(known[0] == known[1])
    return np.asarray(np.frompyfunc(_same, 2, 1)(known[0].astype(object), known[1].astype(object)), dtype=bool)


def _same(one: Any, other: Any) -> bool:
    if one == other:
        return True
    number, size = (one, other) if isinstance(other, Sum) else (other, one)
    if isinstance(size, Sum) and not (isinstance(number, int) and number < 0 and size.positive):
        raise TypeError  # they may be equal
    return False


def _where(_: Node, known: list[Array]) -> Array:
    if known[0].dtype != bool:
        raise TypeError
    if object in (known[1].dtype, known[2].dtype):
        known = [known[0], known[1].astype(object), known[2].astype(object)]
    return np.where(*known)


def _range(_: Node, known: list[Array]) -> Array | None:
    start, limit, step = known
    if object in (start.dtype, limit.dtype, step.dtype) or start.dtype.kind not in "iu":
        return None
    first, last, by = (one.item() for one in (start, limit, step))
    large = abs(last - first) * start.itemsize > MOST_BYTES
    return None if large else np.arange(first, last, by, dtype=start.dtype)


def _logic(function: Callable[..., Any]) -> Callable[[Node, list[Array]], Array]:
    def apply(_: Node, known: list[Array]) -> Array:
        if any(one.dtype == object for one in known):
            raise TypeError
        return np.asarray(function(*known))

    return apply


def _reduce_prod(node: Node, known: list[Array]) -> Array | None:
    if known[0].ndim != 1 or known[0].dtype.kind not in "iO":
        return None
    found = np.multiply.reduce(known[0])
    return np.asarray([found] if attribute(node, "keepdims", 1) else found, dtype=known[0].dtype)


_BY_OP: dict[str, Callable[[Node, list[Array]], Array | None]] = {
    "Identity": lambda _, known: known[0],
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Transpose": _transpose,
    "Expand": _expand,
    "ConstantOfShape": _constant_of_shape,
    "Cast": _cast,
    "Add": _arithmetic(lambda one, other: one + other),
    "Sub": _arithmetic(lambda one, other: one - other),
    "Mul": _arithmetic(lambda one, other: one * other),
    "Div": _arithmetic(_divide),
    "Equal": _equal,
    "Where": _where,
    "Range": _range,
    "Not": _logic(np.logical_not),
    "And": _logic(np.logical_and),
    "Or": _logic(np.logical_or),
    "Greater": _logic(np.greater),
    "GreaterOrEqual": _logic(np.greater_equal),
    "Less": _logic(np.less),
    "LessOrEqual": _logic(np.less_equal),
    "ReduceProd": _reduce_prod,
}
