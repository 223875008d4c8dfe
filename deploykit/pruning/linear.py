"""Layers that are linear in a weight: their rows of input, so that weights can be fitted by least squares."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deploykit.pruning.slots import Axis
from deploykit.rewrites.evaluation import attribute
from deploykit.rewrites.facts import STANDARD, Node, Value
from deploykit.tensors import Array

Model = Any


@dataclass(frozen=True)
class Linear:
    """Conv of one group, Gemm, or MatMul with a weight: ``rows @ matrix + bias``."""

    node: Node
    name: str
    value: Value
    """What comes in."""
    weight: Value
    bias: Value | None

    @property
    def into(self) -> Axis:
        """The axis of the weight that is summed over."""
        if self.node.op_type == "Conv":
            return self.weight, 1
        return self.weight, 1 if attribute(self.node, "transB", 0) else 0

    @property
    def out(self) -> Axis:
        """The axis of the weight that makes outputs."""
        return self.weight, 1 - self.into[1]

    @property
    def pixels(self) -> int:
        """Columns of a row that one channel has."""
        shape = self.weight.const_value.shape
        return int(np.prod(shape[2:])) if self.node.op_type == "Conv" else 1

    @property
    def width(self) -> int:
        """Columns of a row."""
        return int(self.weight.const_value.shape[self.into[1]]) * self.pixels

    def matrix(self) -> Array:
        """Give the weight as [columns, outputs], float64, the bias as its last row where there is one."""
        array = self.weight.const_value.numpy().astype(np.float64)
        columns = array.reshape(len(array), -1).T if self.into[1] == 1 else array
        if self.bias is None:
            return columns
        bias = self.bias.const_value.numpy().astype(np.float64)
        return np.concatenate([columns, np.broadcast_to(bias.reshape(-1), columns.shape[1:])[None]])

    def put(self, matrix: Array) -> None:
        """Have other numbers in the weight, and in the bias."""
        import onnx_ir

        own = self.weight.const_value.numpy()
        columns = matrix[: self.width]
        array = columns.T.reshape(own.shape) if self.into[1] == 1 else columns
        self.weight.const_value = onnx_ir.tensor(np.ascontiguousarray(array, own.dtype), name=self.weight.name)
        if self.bias is not None:
            shape = self.bias.const_value.shape
            row = matrix[self.width].astype(own.dtype)
            self.bias.const_value = onnx_ir.tensor(np.ascontiguousarray(row.reshape(shape)), name=self.bias.name)

    def columns(self, places: Array) -> Array:
        """Give the columns of channels: [units, places] becomes [units, places x pixels]."""
        found: Array = places[..., None] * self.pixels + np.arange(self.pixels)
        return found.reshape(len(places), -1)

    def positions(self, output: Array) -> int:
        """Say how many rows the output of a call has."""
        return output.size // output.shape[1 if self.node.op_type == "Conv" else -1]

    def answers(self, output: Array, at: Array) -> Array:
        """Give rows of an output, [rows, outputs]."""
        last = np.moveaxis(output, 1, -1) if self.node.op_type == "Conv" else output
        return last[np.unravel_index(at, last.shape[:-1])]

    def rows(self, value: Array, at: Array) -> Array:
        """Give rows of what comes in, [rows, columns], float32, with a column of ones for the bias."""
        found = self._patches(value, at) if self.node.op_type == "Conv" else value.reshape(-1, value.shape[-1])[at]
        if self.bias is None:
            return found
        return np.concatenate([found, np.ones((len(found), 1), found.dtype)], axis=1)

    def _patches(self, value: Array, at: Array) -> Array:
        kernel = self.weight.const_value.shape[2:]
        steps = attribute(self.node, "strides", [1] * len(kernel))
        wide = attribute(self.node, "dilations", [1] * len(kernel))
        reach = [(size - 1) * gap + 1 for size, gap in zip(kernel, wide, strict=True)]
        padded = np.pad(value, [(0, 0), (0, 0), *_padding(self.node, value.shape[2:], reach, steps)])
        axes = tuple(range(2, value.ndim))
        windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=axes)
        taken = windows[(slice(None),) * 2 + tuple(slice(None, None, step) for step in steps) + tuple(slice(None, None, gap) for gap in wide)]  # fmt: skip # noqa: E501
        last = np.moveaxis(taken, 1, len(axes) + 1)
        return last[np.unravel_index(at, last.shape[: len(axes) + 1])].reshape(len(at), -1)


def _padding(node: Node, sizes: tuple[int, ...], reach: list[int], steps: list[int]) -> list[tuple[int, int]]:
    kind = attribute(node, "auto_pad", "NOTSET")
    if kind in ("NOTSET", "VALID"):
        pads = attribute(node, "pads", [0] * 2 * len(sizes)) if kind == "NOTSET" else [0] * 2 * len(sizes)
        return list(zip(pads[: len(sizes)], pads[len(sizes) :], strict=True))
    found = []
    for size, wide, step in zip(sizes, reach, steps, strict=True):
        missing = max(0, (-(-size // step) - 1) * step + wide - size)
        less, more = missing // 2, missing - missing // 2
        found.append((less, more) if kind == "SAME_UPPER" else (more, less))
    return found


def linear_layers(model: Model) -> dict[str, Linear]:
    """Find the layers of a graph whose weights can be fitted, by the name of their node, in order.

    A weight that two nodes share is left out: each would want it otherwise.
    """
    return {node.name: found for node in model.graph if (found := _linear(node)) is not None}


def _linear(node: Node) -> Linear | None:
    if node.domain not in STANDARD or node.op_type not in ("Conv", "Gemm", "MatMul"):
        return None
    weight, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None  # noqa: PLR2004
    plain = attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1 and not attribute(node, "transA", 0)
    if attribute(node, "group", 1) != 1 or not plain or not _own(weight) or not (bias is None or _own(bias)):
        return None
    if node.op_type == "MatMul" and (len(weight.const_value.shape) != 2 or _own(node.inputs[0])):  # noqa: PLR2004
        return None
    count = weight.const_value.shape[0 if node.op_type == "Conv" or attribute(node, "transB", 0) else 1]
    return (
        Linear(node, node.name, node.inputs[0], weight, bias)
        if bias is None or bias.const_value.size == count
        else None
    )


def _own(value: Value) -> bool:
    """Whether a value is a weight in float32 that nothing else reads."""
    fixed = value.is_initializer() and not value.is_graph_input() and value.const_value is not None
    return fixed and value.const_value.dtype.name == "FLOAT" and len(value.uses()) == 1


def reading(layers: Mapping[str, Linear], slots: Mapping[Axis, Array]) -> Iterator[tuple[Linear, Array]]:
    """Give the layers that sum over units, and the columns of each unit, [units, columns]."""
    for layer in layers.values():
        if layer.into in slots:
            yield layer, layer.columns(slots[layer.into])
