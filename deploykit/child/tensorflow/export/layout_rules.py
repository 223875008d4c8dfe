"""How each operation that does not care for the order of its axes is written for another order of them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deploykit.tensors import Array

Perm = tuple[int, ...]


@dataclass(frozen=True)
class Moved:
    """An operation on the inputs before their Transpose."""

    inputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)
    """Those that change."""
    perm: Perm | None = None
    """The Transpose that its outputs need."""


class Seen:
    """An operation and the Transpose that comes before it."""

    def __init__(self, sinking: Any, node: Any, perm: Perm) -> None:
        """Take the walk over the graph, the operation, and the permutation of the Transpose."""
        self.sinking = sinking
        self.graph = sinking.graph
        self.node = node
        self.perm = perm
        self.rank = len(perm)

    def first(self) -> list[str] | None:
        """Give the inputs, the first of them before its Transpose; None where another one is transposed."""
        name, *others = self.node.input
        twin = self.sinking.twins.get(name)
        return [twin[0], *others] if twin is not None and twin[1] == self.perm else None

    def all(self, names: Iterable[str], *, broadcast: bool = True) -> list[str] | None:
        """Give inputs that are broadcast against each other, or of the same rank all, in the order before."""
        given = []
        for name in names:
            shape = self.graph.get_shape(name)
            if shape is None or len(shape) > self.rank or (len(shape) < self.rank and not broadcast):
                return None
            one = self._one(name, shape)
            if one is None:
                return None
            given.append(one)
        return given

    def _one(self, name: str, shape: list[int]) -> str | None:
        back = inverse(self.perm)
        missing = self.rank - len(shape)
        if all(size == 1 for size in shape) and missing:
            return name
        if missing == 0:
            return self.sinking.transposed(name, back)
        node = self.graph.get_node_by_output(name)
        whole = [1] * missing + list(shape)
        if node is not None and node.is_const():
            value = node.get_tensor_value(as_list=False).reshape(whole)
            return self.sinking.constant(np.transpose(value, back))
        axes = self.sinking.constant(np.arange(missing, dtype=np.int64))
        return self.sinking.transposed(self.sinking.make("Unsqueeze", [name, axes], {}, whole), back)

    def constant(self, index: int) -> Array | None:
        """Give the value of an input, if it is a constant."""
        if index >= len(self.node.input) or not self.node.input[index]:
            return None
        node = self.graph.get_node_by_output(self.node.input[index])
        return node.get_tensor_value(as_list=False) if node is not None and node.is_const() else None

    def axis(self, axis: int) -> int:
        """Give the place of an axis before the Transpose."""
        return self.perm[axis % self.rank]

    def without(self, axes: Iterable[int]) -> Perm:
        """Give the permutation of what is left when these axes, counted after the Transpose, are gone."""
        gone = {axis % self.rank for axis in axes}
        left = [self.perm[axis] for axis in range(self.rank) if axis not in gone]
        return tuple(sorted(left).index(axis) for axis in left)


def inverse(perm: Perm) -> Perm:
    """Give the permutation that undoes another."""
    return tuple(perm.index(axis) for axis in range(len(perm)))


def only_moves_ones(shape: list[int], perm: Perm) -> bool:
    """Say whether a Transpose leaves all axes longer than one in their order."""
    long = [axis for axis in perm if shape[axis] != 1]
    return long == sorted(long)


def _unary(seen: Seen) -> Moved | None:
    inputs = seen.first()
    return None if inputs is None else Moved(inputs, perm=seen.perm)


def _broadcast(seen: Seen) -> Moved | None:
    inputs = seen.all(seen.node.input)
    return None if inputs is None else Moved(inputs, perm=seen.perm)


def _concat(seen: Seen) -> Moved | None:
    inputs = seen.all(seen.node.input, broadcast=False)
    axis = seen.node.get_attr_value("axis")
    return None if inputs is None else Moved(inputs, {"axis": seen.axis(axis)}, seen.perm)


def _along(default: int) -> Callable[[Seen], Moved | None]:
    def rule(seen: Seen) -> Moved | None:
        inputs = seen.first()
        axis = seen.node.get_attr_value("axis", default)
        return None if inputs is None else Moved(inputs, {"axis": seen.axis(axis)}, seen.perm)

    return rule


def _arg(seen: Seen) -> Moved | None:
    inputs = seen.first()
    axis = seen.node.get_attr_value("axis", 0)
    keep = seen.node.get_attr_value("keepdims", 1)
    return (
        None
        if inputs is None
        else Moved(inputs, {"axis": seen.axis(axis)}, seen.perm if keep else seen.without([axis]))
    )


def _reduce(seen: Seen) -> Moved | None:
    inputs = seen.first()
    axes = seen.node.get_attr_value("axes")
    in_attribute = axes is not None
    if len(seen.node.input) > 1:
        axes = seen.constant(1)
    if inputs is None or axes is None:
        return None
    perm = seen.perm if seen.node.get_attr_value("keepdims", 1) else seen.without(axes)
    moved = sorted(seen.axis(int(axis)) for axis in axes)
    if in_attribute:
        return Moved(inputs, {"axes": moved}, perm)
    return Moved([inputs[0], seen.sinking.constant(np.array(moved, np.int64))], perm=perm)


def _squeeze(seen: Seen) -> Moved | None:
    inputs, axes = seen.first(), seen.constant(1)
    if inputs is None or axes is None:
        return None
    moved = np.array(sorted(seen.axis(int(axis)) for axis in axes), np.int64)
    return Moved([inputs[0], seen.sinking.constant(moved)], perm=seen.without(axes))


def _unsqueeze(seen: Seen) -> Moved | None:
    """Make an image of a sequence, as one-dimensional convolutions do: the channels stay where they are."""
    inputs, axes = seen.first(), seen.constant(1)
    if inputs is None or axes is None or seen.perm != (0, 2, 1) or len(axes) != 1 or axes[0] not in {1, 2}:
        return None
    perm = (0, 2, 3, 1)
    return Moved([inputs[0], seen.sinking.constant(np.array([perm[axes[0]]], np.int64))], perm=perm)


def _pad(seen: Seen) -> Moved | None:
    inputs, pads = seen.first(), seen.constant(1)
    if inputs is None or pads is None or len(pads) != 2 * seen.rank:
        return None
    back = inverse(seen.perm)
    moved = pads.reshape(2, seen.rank)[:, back].reshape(-1)
    return Moved([inputs[0], seen.sinking.constant(moved), *inputs[2:]], perm=seen.perm)


def _slice(seen: Seen) -> Moved | None:
    inputs, axes = seen.first(), seen.constant(3)
    if inputs is None or axes is None:
        return None
    moved = np.array([seen.axis(int(axis)) for axis in axes], axes.dtype)
    return Moved([*inputs[:3], seen.sinking.constant(moved), *inputs[4:]], perm=seen.perm)


def _by_axis(seen: Seen) -> Moved | None:
    """Tile and Expand, with a number for each axis."""
    inputs, sizes = seen.first(), seen.constant(1)
    if inputs is None or sizes is None or len(sizes) != seen.rank:
        return None
    return Moved([inputs[0], seen.sinking.constant(sizes[list(inverse(seen.perm))])], perm=seen.perm)


def _reshape(seen: Seen) -> Moved | None:
    inputs = seen.first()
    if inputs is None:
        return None
    shape = seen.graph.get_shape(inputs[0])
    same = shape is not None and only_moves_ones(shape, seen.perm)
    sizes = seen.constant(1)
    copied = sizes is not None and 0 in sizes[1:]  # a zero takes the size of the input's axis of that place
    return Moved(inputs) if same and not copied else None


def _quantize(seen: Seen) -> Moved | None:
    inputs = seen.first()
    if inputs is None:
        return None
    axis = seen.node.get_attr_value("axis", 1)
    return Moved(inputs, {"axis": seen.axis(axis)}, seen.perm)


_UNARY = (
    *("Abs", "Cast", "Ceil", "Celu", "Clip", "Cos", "Elu", "Erf", "Exp", "Floor", "HardSigmoid", "HardSwish"),
    *("Identity", "IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round"),
    *("Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Tanh", "ThresholdedRelu"),
)
_BROADCAST = (
    *("Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul"),
    *("Or", "Pow", "PRelu", "Sub", "Sum", "Where", "Xor"),
)
_REDUCE = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")

RULES: dict[str, Callable[[Seen], Moved | None]] = {
    **dict.fromkeys(_UNARY, _unary),
    **dict.fromkeys(_BROADCAST, _broadcast),
    **dict.fromkeys((f"Reduce{kind}" for kind in _REDUCE), _reduce),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "LpNormalization"), _along(-1)),
    **dict.fromkeys(("Tile", "Expand"), _by_axis),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), _quantize),
    **dict.fromkeys(("ArgMax", "ArgMin"), _arg),
    "Concat": _concat,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _along(0),
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
}
