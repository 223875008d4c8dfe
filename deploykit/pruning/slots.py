"""Which channels depend on which: every place along every axis of every tensor is a slot, and operators link slots.

Slots that are linked, whatever lies between them, go together or stay together. This is the dependency graph of
DepGraph (G. Fang et al., DepGraph: Towards Any Structural Pruning, CVPR 2023) for single channels and not for layers,
so that Concat, Split, a channel that becomes a block of columns, and heads are no cases of their own.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from deploykit.rewrites.facts import Facts, Node, Value
from deploykit.tensors import Array

Axis: TypeAlias = tuple[Value, int]
"""A tensor and one of its axes."""
_MOST = 1 << 16
"""Slots of an axis that are followed; longer ones are vocabularies and sounds."""


@dataclass
class Slots:
    """The slots of a graph, and what links them."""

    facts: Facts
    starts: dict[Axis, int] = field(default_factory=dict)
    """The number of the first slot of each axis."""
    frozen: dict[Axis, str] = field(default_factory=dict)
    """Axes that have to stay whole, and why."""
    count: int = 0
    _pairs: list[tuple[Array, Array]] = field(default_factory=list)
    _above: dict[Axis, Axis] = field(default_factory=dict)
    _stuck: set[Axis] = field(default_factory=set)
    """Of linked axes the one that stands for them, where a part of them is frozen."""
    _touched: set[Axis] = field(default_factory=set)

    def shape(self, value: Value | None) -> tuple[int, ...] | None:
        """Give the sizes of a tensor, 0 for one that is not fixed or too long to follow; None if their number is."""
        found = None if value is None else self.facts.shape(value)
        if found is None:
            return None
        return tuple(size if isinstance(size, int) and size <= _MOST else 0 for size in found)

    def size(self, axis: Axis) -> int:
        """Give how many slots an axis has; 0 where that is not fixed."""
        shape = self.shape(axis[0])
        return 0 if shape is None or axis[1] >= len(shape) else shape[axis[1]]

    def link(self, one: Axis, other: Axis, at: Array | None = None, beside: Array | None = None) -> None:
        """Link slots of two axes, by their places; the whole of both where none are given.

        An axis of a size that is not fixed is not linked; nor is one that is repeated to meet the other.
        """
        sizes = self.size(one), self.size(other)
        if not all(sizes) or (at is None and beside is None and sizes[0] != sizes[1]):
            return
        left = np.arange(sizes[0]) if at is None else np.asarray(at)
        right = np.arange(sizes[1]) if beside is None else np.asarray(beside)
        self._pairs.append((self._start(one) + left.reshape(-1), self._start(other) + right.reshape(-1)))
        self._touched |= {one, other}
        first, second = self._root(one), self._root(other)
        self._above[first] = second
        if first in self._stuck:
            self._stuck.add(second)

    def freeze(self, axis: Axis, why: str) -> None:
        """Have an axis stay whole."""
        if self.size(axis):
            self._start(axis)
            self.frozen.setdefault(axis, why)
            self._stuck.add(self._root(axis))

    def free(self, axis: Axis) -> bool:
        """Whether nothing is known so far for which an axis, and those linked to it, have to stay whole."""
        return bool(self.size(axis)) and self._root(axis) not in self._stuck

    def spread(self, node: Node, rule: Callable[[Node, "Slots"], None] | None) -> None:
        """Link what a node links; all else that it reads and gives stays whole.

        So a rule that says too little costs channels, and never a right answer.
        """
        self._touched = set()
        if rule is not None:
            rule(node, self)
        why = f"{node.op_type} needs it whole" if rule else f"what {node.op_type} does with it is not known"
        for axis in self._axes((*node.inputs, *node.outputs)):
            if axis not in self._touched:
                self.freeze(axis, f"{why} ({node.name})")

    def freeze_all(self, values: Iterable[Value | None], why: str) -> None:
        """Have tensors stay as they are."""
        for axis in self._axes(values):
            self.freeze(axis, why)

    def linked(self) -> Array:
        """Give for each slot the smallest number of those that it is linked with."""
        ends = [np.concatenate(side) for side in zip(*self._pairs, strict=True)] if self._pairs else []
        return components(self.count, ends[0], ends[1]) if ends else np.arange(self.count)

    def _axes(self, values: Iterable[Value | None]) -> Iterable[Axis]:
        for value in values:
            yield from ((value, at) for at in range(len(self.shape(value) or ())) if value is not None)

    def _start(self, axis: Axis) -> int:
        if axis not in self.starts:
            self.starts[axis] = self.count
            self.count += self.size(axis)
        return self.starts[axis]

    def _root(self, axis: Axis) -> Axis:
        path = []
        while axis in self._above and self._above[axis] != axis:
            path.append(axis)
            axis = self._above[axis]
        self._above.update(dict.fromkeys(path, axis))
        return axis


def components(count: int, one: Array, other: Array) -> Array:
    """Give for each of so many nodes the smallest that it is connected with, by edges from one to the other."""
    root: Array = np.arange(count)
    while True:
        left, right = root[one], root[other]
        if np.array_equal(left, right):
            return root
        low = np.minimum(left, right)
        np.minimum.at(root, left, low)
        np.minimum.at(root, right, low)
        while not np.array_equal(root, root[root]):
            root = root[root]


Rule: TypeAlias = Callable[[Any, Slots], None]
"""Links the slots of what a node reads and gives."""
