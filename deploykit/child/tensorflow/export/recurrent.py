"""Write Keras's recurrent layers as ONNX's LSTM, GRU and RNN instead of loops.

tf2onnx knows the LSTM of Keras 3 without a mask, and of its GRU, plain and masked layers makes a Loop: right, but slow,
and closed to quantization. A layer that is not recognized here is left to it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from deploykit.child.tensorflow.export.cells import Cell, recognize
from deploykit.child.tensorflow.export.loop_body import Body
from deploykit.child.tensorflow.export.recurrent_nodes import Sequence, write
from deploykit.tensors import Array

_LOOPS = {"While", "StatelessWhile"}
_COMPUTED = (np.float32, np.float16)
"""The types for which onnxruntime has the operators: it runs the loop in float64."""
_COUNTERS = 3
"""What a loop of Keras starts with: its counter, how often it may run, and the time."""


def rewrite_recurrent(main: Any, bodies: list[Any]) -> list[Any]:
    """Replace the loops in a graph that are recurrent layers; give the functions that are still needed."""
    by_name = {one.graph_name: one for one in bodies}
    for node in [one for one in main.get_nodes() if one.type in _LOOPS]:
        sequence = _Loop(main, node, by_name[node.get_attr_str("body")]).read()
        if sequence is not None:
            write(main, node, sequence)
    used = {name for one in (main, *bodies) for name in _called(one)} if len(bodies) else set()
    return [one for one in bodies if one.graph_name in used]


def _called(graph: Any) -> Iterator[str]:
    for node in graph.get_nodes():
        for name in ("body", "cond", "then_branch", "else_branch", "f"):
            if name in node.attr:
                yield node.get_attr_str(name)


@dataclass(frozen=True)
class _Masked:
    """A value that a mask chooses for each sequence of the batch: the new one or another."""

    mask: str
    new: str
    other: str


class _Loop:
    def __init__(self, main: Any, node: Any, body: Any) -> None:
        self.main = main
        self.node = node
        self.graph = body
        self.body = Body(body, self._constant)
        self.inputs = {name: index for index, name in enumerate(body.input_names)}
        self.outputs = [self.body.origin(name) for name in body.outputs]

    def _constant(self, name: str) -> Array | None:
        index = self.inputs[name]
        if self.body.origin(self.graph.outputs[index]) != name:
            return None  # only its start is
        source = self._outer(index)
        return source.get_tensor_value(as_list=False) if source.is_const() else None

    def _outer(self, index: int) -> Any:
        """Give the operation outside of the loop that an input comes from."""
        node = self.main.get_node_by_output(self.node.input[index])
        while node.type == "Identity":
            node = node.inputs[0]
        return node

    def read(self) -> Sequence | None:
        """Read the loop as a recurrent layer, if it is one."""
        moving = [index for index, name in enumerate(self.outputs) if self.inputs.get(name) != index]
        written = [index for index in moving if self.body.node(self.outputs[index]).type == "TensorListSetItem"]
        read = [one for one in self.graph.get_nodes() if one.type == "TensorListGetItem"]
        if len(written) != 1 or not read:
            return None
        write_node = self.body.node(self.outputs[written[0]])
        states = [index for index in moving if index >= _COUNTERS and index != written[0]]
        masked = self._masked(write_node.input[2])
        steps = [one for one in read if masked is None or self.body.origin(one.output[0]) != masked.mask]
        if len(steps) != 1 or not self._runs_through(steps[0]):
            return None
        new_state = masked.new if masked else self.body.origin(write_node.input[2])
        cell = recognize(self.body, new_state, steps[0].output[0])
        if (
            cell is None
            or cell.gates[0].w.dtype not in _COMPUTED
            or not self._states_are(cell, states, masked, new_state)
        ):
            return None
        return self._sequence(cell, masked, written[0], steps[0])

    def _sequence(self, cell: Cell, masked: _Masked | None, written: int, step: Any) -> Sequence | None:
        if masked and not self._is_zero(masked.other):
            return None
        memory = self.inputs[cell.memory] if cell.memory else None
        return Sequence(
            cell=cell,
            x=self._tensor(step),
            mask=self._tensor(self.body.node(masked.mask)) if masked else None,
            held=masked is not None and self._moves(masked.other),
            list_index=written,
            only_last=self.body.value(self.body.node(self.outputs[written]).input[1]) is not None,
            state_index=self.inputs[cell.state],
            memory_index=memory,
            state=self._start(cell.state),
            memory=self._start(cell.memory) if cell.memory else None,
        )

    def _moves(self, name: str) -> bool:
        """Tell whether a value is another one after each step."""
        return name in self.inputs and self.outputs[self.inputs[name]] != name

    def _start(self, name: str) -> str | None:
        return None if self._is_zero(name) else self.node.input[self.inputs[name]]

    def _masked(self, name: str) -> _Masked | None:
        parts = self.body.operands(name, "SelectV2") or self.body.operands(name, "Select")
        if parts is None or self.body.node(parts[0]).type != "TensorListGetItem":
            return None
        return _Masked(*parts)

    def _states_are(self, cell: Cell, states: list[int], masked: _Masked | None, new_state: str) -> bool:
        """Tell whether the states after a step are those of the cell, held where the mask is off."""
        new = {self.inputs[cell.state]: new_state}
        if cell.memory and cell.new_memory:
            new[self.inputs[cell.memory]] = cell.new_memory
        for index in states:
            value, before = self.outputs[index], self.graph.input_names[index]
            if masked:
                one = self._masked(value)
                extra = index not in new  # what was given out at the step before
                if one is None or one.mask != masked.mask or (extra and one.new != new_state):
                    return False
                if extra and value == self.body.origin(self._written_value()):
                    continue
                if extra or one.new != new[index] or one.other != before:
                    return False
            elif index not in new or value != new[index]:
                return False
        return set(new) <= set(states)

    def _written_value(self) -> str:
        return next(one.input[2] for one in self.graph.get_nodes() if one.type == "TensorListSetItem")

    def _runs_through(self, step: Any) -> bool:
        """Tell whether the loop takes every step of the input once, in order."""
        source = self._list(step)
        time = self.inputs.get(self.body.origin(step.input[1]))
        if source is None or time is None or time >= _COUNTERS:
            return False
        length = self._outer(1)
        sizes = self.main.get_shape(source.input[0])
        if length.is_const():
            return sizes is not None and sizes[0] == int(length.get_tensor_value(as_list=False))
        return length.type == "StridedSlice" and length.inputs[0].type == "Shape"

    def _list(self, step: Any) -> Any:
        index = self.inputs.get(self.body.origin(step.input[0]))
        node = None if index is None else self._outer(index)
        return node if node is not None and node.type == "TensorListFromTensor" else None

    def _tensor(self, step: Any) -> str:
        return self._list(step).input[0]

    def _is_zero(self, name: str) -> bool:
        """Tell whether an input of the body, or a constant in it, is zero at the start."""
        if name not in self.inputs:
            value = self.body.value(name)
            return value is not None and not np.any(value)
        node = self._outer(self.inputs[name])
        if node.type == "Fill":
            node = node.inputs[1]
        return node.type == "ZerosLike" or (node.is_const() and not np.any(node.get_tensor_value(as_list=False)))
