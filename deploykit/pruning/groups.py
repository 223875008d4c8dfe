"""The channels that can go: what has to go together is one unit, and units that go through the same axes a group."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deploykit.pruning.slots import Axis, Slots
from deploykit.pruning.spreading import SPREAD
from deploykit.rewrites.facts import STANDARD, Facts, Node, Value
from deploykit.tensors import Array

Model = Any


@dataclass(frozen=True, eq=False)
class Group:
    """Units that can go, each by itself."""

    name: str
    """That of the first node with weights that gives them."""
    slots: Mapping[Axis, Array]
    """For each axis that they are on the places of each unit, [units, places]."""

    @property
    def size(self) -> int:
        """How many units there are."""
        return len(next(iter(self.slots.values())))


@dataclass(frozen=True)
class Grouping:
    """What can go, and what can't."""

    groups: tuple[Group, ...]
    kept: Mapping[Axis, str]
    """Why an axis stays as it is, where some of it does."""
    sizes: Mapping[Axis, int]
    """Of all axes that are followed."""


def find_groups(model: Model) -> Grouping:
    """Find what can be cut from a graph: it has no functions, and no weights that are inputs.

    What a node with a body reads stays whole; so do inputs and outputs of the graph.
    """
    slots = Slots(Facts(model.graph, model.opset_imports.get("", 0)))
    slots.freeze_all(model.graph.inputs, "it is an input of the model")
    for node in model.graph:
        slots.facts.learn(node)
        _describe(node, slots)
        if any(attribute.type.name in ("GRAPH", "GRAPHS") for attribute in node.attributes.values()):
            slots.freeze_all(_read_by(node), f"a body of {node.op_type} reads it ({node.name})")
        slots.spread(node, SPREAD.get(node.op_type) if node.domain in STANDARD else None)
    slots.freeze_all(model.graph.outputs, "it is an output of the model")
    return _grouped(slots, _order(model))


def _describe(node: Node, slots: Slots) -> None:
    """Say in the graph how many axes its tensors have."""
    import onnx_ir

    for value in node.outputs:
        shape = slots.facts.shape(value)
        if shape is not None and not value.is_graph_output():
            value.shape = onnx_ir.Shape([size if isinstance(size, int) else None for size in shape])


def _read_by(node: Node) -> Iterator[Value]:
    for attribute in node.attributes.values():
        graphs = {"GRAPH": [attribute.value], "GRAPHS": attribute.value}.get(attribute.type.name, [])
        for graph in graphs:
            for inner in graph.all_nodes():
                yield from (value for value in inner.inputs if value is not None)


def _order(model: Model) -> dict[Value, tuple[int, str]]:
    """Number the tensors by the nodes that give them, and name these."""
    return {
        value: (number, node.name or value.name) for number, node in enumerate(model.graph) for value in node.outputs
    }


def _grouped(slots: Slots, order: Mapping[Value, tuple[int, str]]) -> Grouping:
    root = slots.linked()
    axes = sorted(slots.starts, key=slots.starts.__getitem__)
    sizes = {axis: slots.size(axis) for axis in axes}
    owner = np.repeat(np.arange(len(axes)), [sizes[axis] for axis in axes])
    why = dict[int, str]()
    for axis in axes:
        alone = "it has one channel" if sizes[axis] == 1 else None
        if reason := slots.frozen.get(axis, alone):
            for at in np.unique(root[slots.starts[axis] : slots.starts[axis] + sizes[axis]]):
                if int(at) not in why or axis in slots.frozen:
                    why.setdefault(int(at), reason)
    found = dict[tuple[tuple[int, int], ...], list[Array]]()
    by_root = np.argsort(root, kind="stable")
    for unit in np.split(by_root, np.flatnonzero(np.diff(root[by_root])) + 1) if len(root) else []:
        if int(root[unit[0]]) not in why:
            on, counts = np.unique(owner[unit], return_counts=True)
            found.setdefault(tuple(zip(on.tolist(), counts.tolist(), strict=True)), []).append(unit)
    groups = (_group(signature, units, axes, slots, order) for signature, units in found.items())
    return Grouping(
        tuple(sorted((one for one in groups if one is not None), key=lambda one: _first(one, order))),
        {axis: why[int(at)] for axis in axes if (at := _stuck(axis, root, slots, why)) is not None},
        sizes,
    )


def _stuck(axis: Axis, root: Array, slots: Slots, why: Mapping[int, str]) -> int | None:
    own = root[slots.starts[axis] : slots.starts[axis] + slots.size(axis)]
    return next((int(at) for at in own if int(at) in why), None)


def _group(
    signature: tuple[tuple[int, int], ...],
    units: list[Array],
    axes: list[Axis],
    slots: Slots,
    order: Mapping[Value, tuple[int, str]],
) -> Group | None:
    """Make a group of units that are on the same axes; None where they are on constants alone, as sizes are."""
    members, start = dict[Axis, Array](), 0
    whole = np.stack(units)
    for number, count in signature:  # slots of an axis are numbered one after the other, so that columns are axes
        members[axes[number]] = whole[:, start : start + count] - slots.starts[axes[number]]
        start += count
    made = [order[axis[0]] for axis in members if axis[0] in order]
    return Group(min(made)[1], members) if made and _has_weights(members) else None


def _has_weights(members: Mapping[Axis, Array]) -> bool:
    return any(axis[0].is_initializer() for axis in members)


def _first(group: Group, order: Mapping[Value, tuple[int, str]]) -> int:
    return min(order[axis[0]][0] for axis in group.slots if axis[0] in order)
