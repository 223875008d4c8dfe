"""Write a recurrent layer with ONNX's operators, whatever its mask is."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from tf2onnx import utils

from deploykit.child.tensorflow.export.cells import Cell
from deploykit.child.tensorflow.export.loop_body import Activation
from deploykit.tensors import Array


@dataclass(frozen=True)
class Sequence:
    """A recurrent layer: its cell and what it runs over."""

    cell: Cell
    x: str
    """Input of the layer, time first."""
    mask: str | None
    """Which steps count, time first; the state stays as it is at the others."""
    held: bool
    """What is given out at a step that does not count: what was at the one before, or zero."""
    list_index: int
    only_last: bool
    """The list takes the last output only."""
    state_index: int
    memory_index: int | None
    state: str | None
    """The state at the start; zero if there is none."""
    memory: str | None


HIDDEN = "Recurrent:"
"""Comes before the operator's name until tf2onnx is through: it would join two of them into a bidirectional one, and
lose the numbers of their activations and lengths on the way."""


def write(graph: Any, loop: Any, sequence: Sequence) -> None:
    """Put ONNX's operator in the place of a loop."""
    _Writer(graph, loop, sequence).write()


def show(graph: Any) -> None:
    """Give the operators that were written their names."""
    for node in graph.get_nodes():
        node.type = node.type.removeprefix(HIDDEN)


class _Writer:
    def __init__(self, graph: Any, loop: Any, sequence: Sequence) -> None:
        self.graph = graph
        self.loop = loop
        self.of = sequence
        self.size = sequence.cell.gates[0].r.shape[0]
        self.dtype = sequence.cell.gates[0].w.dtype

    def write(self) -> None:
        mask, x = self._mask(), self.of.x
        lengths = ""
        if mask is not None:
            counted = self._make("Cast", [mask], to=onnx.TensorProto.INT32)
            lengths = self._make("ReduceSum", [counted, self._ints(0)], keepdims=0)
            x = self._counted_first(mask)
        outputs = self._operator(x, lengths)
        steps = self._make("Squeeze", [outputs[0], self._ints(1)])
        if mask is not None:
            steps = self._back(steps, mask)
        if self.of.only_last:
            steps = self._make("Slice", [steps, self._ints(-1), self._ints(np.iinfo(np.int64).max), self._ints(0)])
        starts = (self.of.state, self.of.memory)
        finals = [self._final(one, start, lengths) for one, start in zip(outputs[1:], starts, strict=False)]
        self._replace(steps, finals)

    def _operator(self, x: str, lengths: str) -> list[str]:
        cell = self.of.cell
        weights = [np.concatenate([gate.w.T for gate in cell.gates])[None]]
        weights += [np.concatenate([gate.r.T for gate in cell.gates])[None]]
        weights += [
            np.concatenate([*(gate.bias for gate in cell.gates), *(gate.recurrent_bias for gate in cell.gates)])[None]
        ]
        starts = [self.of.state, self.of.memory][: 2 if cell.operator == "LSTM" else 1]
        inputs = [x, *(self._constant(one) for one in weights), lengths]
        inputs += ["" if one is None else self._make("Unsqueeze", [one, self._ints(0)]) for one in starts]
        while not inputs[-1]:
            inputs.pop()
        attributes = {"hidden_size": self.size, "direction": "forward", **_activations(cell.activations)}
        if cell.operator == "GRU":
            attributes["linear_before_reset"] = int(cell.reset_after)
        count = len(starts) + 1
        outputs = [utils.make_name(self.loop.name) for _ in range(count)]
        dtype = utils.map_numpy_to_onnx_dtype(self.dtype)
        steps, batch = (self.graph.get_shape(self.of.x) or [-1, -1])[:2]
        shapes = [[steps, 1, batch, self.size], *[[1, batch, self.size]] * (count - 1)]
        self.graph.make_node(
            f"{HIDDEN}{cell.operator}",
            inputs,
            attr=attributes,
            outputs=outputs,
            shapes=shapes,
            dtypes=[dtype] * count,
            name=utils.make_name(self.loop.name),
            infer_shape_dtype=False,
        )
        return outputs

    def _mask(self) -> str | None:
        """Give the mask as [time, batch]."""
        if self.of.mask is None:
            return None
        return self._make("Squeeze", [self.of.mask, self._ints(2)])

    def _counted_first(self, mask: str) -> str:
        """Put the steps that count before the others: ONNX's operators stop at a length, and skip none."""
        counted = self._make("Cast", [mask], to=onnx.TensorProto.INT64)
        steps = self._make("Slice", [self._make("Shape", [mask]), self._ints(0), self._ints(1), self._ints(0)])
        late = self._make(
            "CumSum",
            [self._make("Sub", [self._make("Mul", [counted, self._number(0)]), self._number(1)]), self._number(0)],
        )
        rank = self._make("Add", [late, self._make("Mul", [counted, steps])])
        order = self._make("TopK", [rank, steps], count=2, axis=0)[1]
        wide = self._make("Expand", [self._make("Unsqueeze", [order, self._ints(2)]), self._make("Shape", [self.of.x])])
        return self._make("GatherElements", [self.of.x, wide], axis=0)

    def _back(self, steps: str, mask: str) -> str:
        """Give each step the output of the last one that counts."""
        counted = self._make("Cast", [mask], to=onnx.TensorProto.INT64)
        place = self._make("Sub", [self._make("CumSum", [counted, self._number(0)]), self._number(1)])
        none_yet = self._make("Less", [place, self._number(0)])
        safe = self._make("Max", [place, self._number(0)])
        wide = self._make("Expand", [self._make("Unsqueeze", [safe, self._ints(2)]), self._make("Shape", [steps])])
        moved = self._make("GatherElements", [steps, wide], axis=0)
        off = none_yet if self.of.held else self._make("Not", [mask])
        zero = self._constant(np.zeros((), self.dtype))
        return self._make("Where", [self._make("Unsqueeze", [off, self._ints(2)]), zero, moved])

    def _final(self, value: str, start: str | None, lengths: str) -> str:
        final = self._make("Squeeze", [value, self._ints(0)])
        if not lengths:
            return final
        none = self._make(
            "Unsqueeze", [self._make("Equal", [lengths, self._constant(np.array(0, np.int32))]), self._ints(1)]
        )
        return self._make("Where", [none, start or self._constant(np.zeros((), self.dtype)), final])

    def _replace(self, steps: str, finals: list[str]) -> None:
        for stack in self.graph.find_output_consumers(self.loop.output[self.of.list_index]):
            if stack.type == "TensorListStack":
                self.graph.replace_all_inputs(stack.output[0], steps)
                self.graph.remove_node(stack.name)
        for index, final in zip((self.of.state_index, self.of.memory_index), finals, strict=False):
            if index is not None:
                self.graph.replace_all_inputs(self.loop.output[index], final)
        self.graph.remove_node(self.loop.name)

    def _make(self, operation: str, inputs: list[str], count: int = 1, **attributes: Any) -> Any:
        node = self.graph.make_node(operation, inputs, attr=attributes, output_count=count)
        return node.output[0] if count == 1 else list(node.output)

    def _constant(self, value: Array) -> str:
        return self.graph.make_const(
            utils.make_name(self.loop.name), np.ascontiguousarray(value).reshape(value.shape)
        ).output[0]

    def _ints(self, *values: int) -> str:
        return self._constant(np.array(values, np.int64))

    def _number(self, value: int) -> str:
        return self._constant(np.array(value, np.int64))


def _activations(of: tuple[Activation, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {"activations": [one.name for one in of]}
    with_numbers = [one for one in of if one.name == "HardSigmoid"]
    if with_numbers:
        found["activation_alpha"] = [one.alpha for one in with_numbers]
        found["activation_beta"] = [one.beta for one in with_numbers]
    return found
