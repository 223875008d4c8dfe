"""Read the body of a loop for what it computes: constants, sums of matrix products, activations."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deploykit.tensors import Array

_SUMS = {"Add", "AddV2", "BiasAdd"}
_ACTIVATIONS = {"Sigmoid", "Tanh", "Relu", "Softsign", "Softplus"}
_SIXTH = 1 / 6


@dataclass(frozen=True)
class Activation:
    """A function as ONNX's recurrent operators name it."""

    name: str
    alpha: float = 0.0
    beta: float = 0.0


@dataclass
class Linear:
    """A sum of matrix products and a bias."""

    factors: dict[str, Array] = field(default_factory=dict)
    """The matrix that each value is multiplied with, from the right."""
    bias: Array | float = 0.0

    def columns(self, first: int, last: int) -> "Linear":
        """Give some of its columns."""
        bias = self.bias[..., first:last] if isinstance(self.bias, np.ndarray) and self.bias.ndim else self.bias
        return Linear({name: matrix[:, first:last] for name, matrix in self.factors.items()}, bias)


class Body:
    """The body of a loop, read backwards from its outputs."""

    def __init__(self, graph: Any, constant: Callable[[str], Array | None]) -> None:
        """Take the body and what tells the values of those of its inputs that are constants."""
        self.graph = graph
        self._constant = constant
        self.sliced = {"Split": self._split, "StridedSlice": self._slice}

    def origin(self, name: str) -> str:
        """Give the value that a name stands for, past all Identity."""
        node = self.graph.get_node_by_output(name)
        while node is not None and node.type == "Identity":
            name = node.input[0]
            node = self.graph.get_node_by_output(name)
        return name

    def node(self, name: str) -> Any:
        """Give the operation that computes a value."""
        return self.graph.get_node_by_output(self.origin(name))

    def operands(self, name: str, operation: str) -> list[str] | None:
        """Give the operands of a value that is computed by an operation."""
        node = self.node(name)
        return [self.origin(one) for one in node.input] if node is not None and node.type == operation else None

    def value(self, name: str) -> Array | None:
        """Give the value of a constant, or of a part of one."""
        name = self.origin(name)
        node = self.node(name)
        if node.is_const():
            return node.get_tensor_value(as_list=False)
        if node.is_graph_input():
            return self._constant(name)
        if node.type == "Squeeze":
            whole = self.value(node.input[0])
            return None if whole is None else np.squeeze(whole, tuple(node.get_attr_value("squeeze_dims", ())) or None)
        return self._part(node, name) if node.type in self.sliced else None

    def _part(self, node: Any, name: str) -> Array | None:
        source = node.input[1] if node.type == "Split" else node.input[0]
        whole = self.value(source)
        found = self.sliced[node.type](node, name, list(whole.shape)) if whole is not None else None
        if whole is None or found is None:
            return None
        axis, first, last = found
        return whole[(slice(None),) * axis + (slice(first, last),)]

    def linear(self, name: str) -> Linear | None:
        """Read a value as a sum of matrix products and a bias."""
        name = self.origin(name)
        constant = self.value(name)
        if constant is not None:
            return Linear({}, constant)
        node = self.node(name)
        if node.type in _SUMS:
            return _sum([self.linear(one) for one in node.input[:2]])
        if node.type == "MatMul":
            return self._product(node)
        if node.type in self.sliced:
            source = node.input[1] if node.type == "Split" else node.input[0]
            shape = self.graph.get_shape(self.origin(source))
            found = self.sliced[node.type](node, name, shape) if shape else None
            whole = self.linear(source) if found and found[0] == 1 else None
            return whole.columns(*found[1:]) if whole and found else None
        return None

    def _product(self, node: Any) -> Linear | None:
        matrix = self.value(node.input[1])
        if matrix is None or node.get_attr_value("transpose_a") or node.get_attr_value("transpose_b"):
            return None
        return Linear({self.origin(node.input[0]): matrix})

    def _split(self, node: Any, name: str, shape: list[int]) -> tuple[int, int, int] | None:
        axis = self.value(node.input[0])
        if axis is None:
            return None
        place = int(axis) % len(shape)
        size = shape[place] // len(node.output)
        first = list(node.output).index(name) * size
        return place, first, first + size

    def _slice(self, node: Any, _: str, shape: list[int]) -> tuple[int, int, int] | None:
        """Read ``value[:, first:last]``."""
        begin, end, step = (self.value(one) for one in node.input[1:])
        masks = {name: node.get_attr_value(f"{name}_mask") or 0 for name in ("begin", "end")}
        others = [node.get_attr_value(f"{name}_mask") or 0 for name in ("ellipsis", "new_axis", "shrink_axis")]
        if begin is None or end is None or step is None or any(others) or any(step != 1) or len(begin) != 2:  # noqa: PLR2004
            return None
        whole = masks["begin"] & 1 and masks["end"] & 1
        first = 0 if masks["begin"] & 2 else int(begin[1])
        last = shape[1] if masks["end"] & 2 else int(end[1])
        last = last + shape[1] if last < 0 else last
        return (1, first, last) if whole and first >= 0 else None

    def activation(self, name: str) -> tuple[Activation, str] | None:
        """Read a value as an activation of another."""
        node = self.node(name)
        if node.type in _ACTIVATIONS:
            return Activation(node.type), self.origin(node.input[0])
        return self._hard_sigmoid(name)

    def _hard_sigmoid(self, name: str) -> tuple[Activation, str] | None:
        """Read Keras's ``relu6(x + 3) / 6``; the 3, which TensorFlow may have moved about, counts as bias."""
        for operation, factor in (("RealDiv", 6.0), ("Mul", _SIXTH)):
            for clipped, number in either_way(self.operands(name, operation)):
                inner = self.operands(clipped, "Relu6")
                if inner and is_number(self.value(number), factor):
                    return Activation("HardSigmoid", _SIXTH), inner[0]
        return None


def is_number(value: Array | None, number: float) -> bool:
    """Tell whether a constant is a number, as far as float32 tells."""
    return value is not None and value.size == 1 and bool(np.isclose(value.item(), number, rtol=1e-6))


def _sum(parts: list[Linear | None]) -> Linear | None:
    total = Linear()
    for part in parts:
        if part is None:
            return None
        for name, matrix in part.factors.items():
            total.factors[name] = total.factors[name] + matrix if name in total.factors else matrix
        total.bias = total.bias + part.bias
    return total


def either_way(operands: list[str] | None) -> list[tuple[str, str]]:
    """Give two operands in either order."""
    return [] if operands is None else [(operands[0], operands[1]), (operands[1], operands[0])]
