"""Cut channels from a graph: weights lose rows and columns, and the numbers that say how many there are follow."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import numpy as np

from deploykit.pruning.groups import Grouping
from deploykit.pruning.slots import Axis
from deploykit.pruning.spreading import ranges
from deploykit.rewrites.evaluation import attribute
from deploykit.rewrites.facts import Node, Value
from deploykit.tensors import Array

Model = Any


Place: TypeAlias = tuple[str, int]
"""An axis of a tensor, by its name: so that a copy of the graph can be cut."""


@dataclass(frozen=True)
class Removal:
    """What is cut from a graph."""

    stays: Mapping[Place, Array]
    """What stays of each axis that loses something, by place, ascending."""
    sizes: Mapping[Place, int]
    """Of all axes before, as far as they are fixed."""

    @classmethod
    def of(cls, grouping: Grouping, gone: Iterable[Array]) -> Self:
        """Take the numbers of the units that go, of each group in its order."""
        left = dict[Axis, Array]()
        for group, units in zip(grouping.groups, gone, strict=True):
            for axis, places in group.slots.items() if len(units) else ():
                stays = left.setdefault(axis, np.ones(grouping.sizes[axis], bool))
                stays[places[units].reshape(-1)] = False
        named = {(value.name, at): np.flatnonzero(kept) for (value, at), kept in left.items()}
        return cls(named, {(value.name, at): size for (value, at), size in grouping.sizes.items()})

    def kept(self, value: Value, at: int) -> Array | None:
        """Give what stays of an axis; None where all of it does."""
        return self.stays.get((value.name, at))

    def before(self, value: Value, at: int) -> int:
        """Give the size of an axis before, 0 where it is not fixed."""
        return self.sizes.get((value.name, at), 0)

    def after(self, value: Value, at: int) -> int:
        """Give the size of an axis afterwards, 0 where it is not fixed."""
        kept = self.kept(value, at)
        return self.before(value, at) if kept is None else len(kept)

    def size(self, value: Value, at: int) -> int | None:
        """Give the size that an axis has afterwards; None where it stays as it is."""
        kept = self.kept(value, at)
        return None if kept is None else len(kept)


@dataclass(frozen=True)
class _Cut:
    """A graph that is cut, and what is cut from it."""

    model: Model
    removal: Removal

    def number(self, node: Node, place: int, array: Array) -> None:
        """Give a node other numbers, of its own."""
        import onnx_ir

        own = node.inputs[place]
        name = f"{own.name}_of_{node.outputs[0].name}"
        value = onnx_ir.Value(name=name, const_value=onnx_ir.tensor(array, name=name))
        value.type, value.shape = onnx_ir.TensorType(value.const_value.dtype), value.const_value.shape
        self.model.graph.register_initializer(value)
        node.replace_input_with(place, value)


def cut(model: Model, removal: Removal) -> None:
    """Cut a graph, in place: one that ``find_groups`` was given, or a copy of it."""
    import onnx_ir
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    whole = _Cut(model, removal)
    known = {value.name: value for node in model.graph for value in node.outputs}
    for node in model.graph:
        if node.op_type in _NUMBERS and node.domain in ("", "ai.onnx"):
            _NUMBERS[node.op_type](node, whole)
    for (name, at), kept in removal.stays.items():
        value = known[name] if name in known else model.graph.initializers[name]
        if value.is_initializer():
            array = np.ascontiguousarray(np.take(value.const_value.numpy(), kept, at))
            value.const_value = onnx_ir.tensor(array, name=value.name)
        if value.shape is not None:
            value.shape = onnx_ir.Shape([len(kept) if axis == at else one for axis, one in enumerate(value.shape)])
    RemoveUnusedNodesPass()(model)


def _constant(node: Node, place: int) -> Array | None:
    import onnx_ir

    value = node.inputs[place] if place < len(node.inputs) else None
    tensor = None if value is None else onnx_ir.convenience.get_const_tensor(value)
    return None if tensor is None else np.array(tensor.numpy())


def _target(place: int) -> Callable[[Node, _Cut], None]:
    """Sizes of what is given: of Reshape, Expand and Resize."""

    def change(node: Node, whole: _Cut) -> None:
        wanted = _constant(node, place)
        if wanted is None:
            return
        sizes = [whole.removal.size(node.outputs[0], at) for at in range(len(wanted))]
        if any(size is not None and one > 0 and size != one for size, one in zip(sizes, wanted, strict=True)):
            new = [one if size is None or one <= 0 else size for size, one in zip(sizes, wanted, strict=True)]
            whole.number(node, place, np.array(new, np.int64))

    return change


def _split(node: Node, whole: _Cut) -> None:
    import onnx_ir

    axis = attribute(node, "axis", 0) % max(1, len(node.inputs[0].shape or ()))
    if whole.removal.size(node.inputs[0], axis) is None:
        return
    sizes = [whole.removal.after(value, axis) for value in node.outputs]
    node.attributes.pop("num_outputs", None)
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        whole.number(node, 1, np.array(sizes, np.int64))
        return
    name = f"{node.outputs[0].name}_sizes"
    value = onnx_ir.Value(name=name, const_value=onnx_ir.tensor(np.array(sizes, np.int64), name=name))
    value.type, value.shape = onnx_ir.TensorType(value.const_value.dtype), value.const_value.shape
    whole.model.graph.register_initializer(value)
    node.resize_inputs(2)
    node.replace_input_with(1, value)


def _slice(node: Node, whole: _Cut) -> None:
    value, output = node.inputs[0], node.outputs[0]
    given = [_constant(node, at) for at in range(1, len(node.inputs))]
    if given[0] is None or given[1] is None:
        return
    starts, ends = given[0].copy(), given[1].copy()
    rank = len(value.shape or ())
    shape = tuple(whole.removal.before(value, at) for at in range(rank))
    axes = range(len(starts)) if len(given) < 3 or given[2] is None else given[2].tolist()  # noqa: PLR2004
    for place, axis in enumerate(axes):
        kept = whole.removal.kept(value, axis % rank) if rank else None
        if kept is not None:
            first = ranges(shape, given)[axis % rank][0]
            starts[place] = np.searchsorted(kept, first)
            ends[place] = starts[place] + whole.removal.after(output, axis % rank)
    if not (np.array_equal(starts, given[0]) and np.array_equal(ends, given[1])):
        whole.number(node, 1, starts)
        whole.number(node, 2, ends)


def _pad(node: Node, whole: _Cut) -> None:
    pads, output = _constant(node, 1), node.outputs[0]
    if pads is None:
        return
    rank, new = len(pads) // 2, pads.copy()
    for at in range(rank):
        kept = whole.removal.kept(output, at)
        if kept is not None:
            inner = whole.removal.before(output, at) - pads[rank + at]
            new[at], new[rank + at] = np.sum(kept < pads[at]), np.sum(kept >= inner)
    if not np.array_equal(new, pads):
        whole.number(node, 1, new)


def _gather(node: Node, whole: _Cut) -> None:
    value, numbers = node.inputs[0], _constant(node, 1)
    axis = attribute(node, "axis", 0) % max(1, len(value.shape or ()))
    kept = whole.removal.kept(value, axis)
    if kept is None or numbers is None:
        return
    left = whole.removal.kept(node.outputs[0], axis)
    wanted = numbers if left is None else numbers[left]
    places = np.searchsorted(kept, wanted % whole.removal.before(value, axis))
    whole.number(node, 1, places.astype(numbers.dtype))


def _groups(node: Node, whole: _Cut) -> None:
    """Have as many groups as there is input for: the weight says how much each takes."""
    import onnx_ir

    count = attribute(node, "group", 1)
    if count == 1 or whole.removal.kept(node.inputs[0], 1) is None:
        return
    whole_of_it = node.outputs[0] if node.op_type == "ConvTranspose" else node.inputs[0]
    each = whole.removal.after(node.inputs[1], 1)
    node.attributes["group"] = onnx_ir.AttrInt64("group", whole.removal.after(whole_of_it, 1) // each)


def _hidden(node: Node, whole: _Cut) -> None:
    import onnx_ir

    if (size := whole.removal.size(node.inputs[2], 2)) is not None:
        node.attributes["hidden_size"] = onnx_ir.AttrInt64("hidden_size", size)


def _num_groups(node: Node, whole: _Cut) -> None:
    import onnx_ir

    count, before = attribute(node, "num_groups", 1), whole.removal.before(node.inputs[0], 1)
    if (size := whole.removal.size(node.inputs[0], 1)) is not None:
        node.attributes["num_groups"] = onnx_ir.AttrInt64("num_groups", size * count // before)


_NUMBERS: Mapping[str, Callable[[Node, _Cut], None]] = {
    "Reshape": _target(1),
    "Expand": _target(1),
    "Resize": _target(3),
    "Split": _split,
    "Slice": _slice,
    "Pad": _pad,
    "Gather": _gather,
    "Conv": _groups,
    "ConvTranspose": _groups,
    "LSTM": _hidden,
    "GRU": _hidden,
    "RNN": _hidden,
    "GroupNormalization": _num_groups,
}
"""What says how many channels there are."""
