"""A graph that is to be cut: what can go, in which order, and what that saves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploykit.pruning.cut import Removal, cut
from deploykit.pruning.groups import Grouping, find_groups
from deploykit.pruning.linear import Linear, linear_layers
from deploykit.pruning.macs import Work, sizes_after, symbols_of, weights_of, work_of
from deploykit.tensors import Array

Model = Any

_FINEST = 8
"""A group loses units in steps of an eighth of it, or finer; and in steps of 8 at most, as kernels work in blocks."""


@dataclass(frozen=True)
class Subject:
    """A graph, which stays as it is, and what is known of it."""

    model: Model
    grouping: Grouping
    layers: Mapping[str, Linear]
    work: Sequence[Work]
    weights: Sequence[Work]

    @classmethod
    def of(cls, model: Model, call: Mapping[str, Array]) -> "Subject":
        """Look at a graph.

        Args:
            model: as ``quantization.reading.read`` gives it.
            call: inputs, which tell the sizes of dynamic axes.
        """
        grouping = find_groups(model)
        work = work_of(model, grouping, symbols_of(model, call))
        return cls(model, grouping, linear_layers(model), work, weights_of(model, grouping))

    def macs(self, gone: Sequence[int]) -> float:
        """Give the multiplications for a sample once so many units of each group are gone."""
        sizes = sizes_after(self.grouping, gone)
        return sum(one.count(sizes) for one in self.work)

    def parameters(self, gone: Sequence[int]) -> float:
        """Give the numbers that its weights hold then."""
        sizes = sizes_after(self.grouping, gone)
        return sum(one.count(sizes) for one in self.weights)

    @property
    def none_gone(self) -> list[int]:
        """Nothing of any group."""
        return [0] * len(self.grouping.groups)

    def step(self, group: int) -> int:
        """Say in which steps the units of a group go: in such of 8 at most, as kernels work in blocks of that."""
        size, found = self.grouping.groups[group].size, 1
        while found < _FINEST and size >= 2 * found * _FINEST:
            found *= 2
        return found

    def most(self, group: int) -> int:
        """Say how many units of a group can go at most: a step stays."""
        size = self.grouping.groups[group].size
        return (size - 1) // self.step(group) * self.step(group)

    def removal(self, orders: Sequence[Array], gone: Sequence[int]) -> Removal:
        """Have so many units of each group go, in its order."""
        return Removal.of(self.grouping, [order[:count] for order, count in zip(orders, gone, strict=True)])

    def cut(self, removal: Removal) -> Model:
        """Give a copy of the graph that was cut."""
        copy = self.model.clone()
        cut(copy, removal)
        return copy
