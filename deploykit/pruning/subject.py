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
"""A group loses units in steps of an eighth of it, and of so many at most."""
_SAME_TIME = 0.9
"""Share of the price that is paid by blocks: what only empties a block saves multiplications, and hardly any time."""


@dataclass(frozen=True)
class Subject:
    """A graph, which stays as it is, and what is known of it."""

    model: Model
    grouping: Grouping
    layers: Mapping[str, Linear]
    work: Sequence[Work]
    weights: Sequence[Work]
    block: int
    """Channels that a kernel takes at once."""

    @classmethod
    def of(cls, model: Model, call: Mapping[str, Array], block: int = 1) -> "Subject":
        """Look at a graph.

        Args:
            model: as ``quantization.reading.read`` gives it.
            call: inputs, which tell the sizes of dynamic axes.
            block: channels that a kernel takes at once. Where most layers have no more, whole blocks can't go.
        """
        grouping = find_groups(model)
        work = work_of(model, grouping, symbols_of(model, call))
        blocks = block if _in_blocks(work, grouping, block) else 1
        return cls(model, grouping, linear_layers(model), work, weights_of(model, grouping), blocks)

    def macs(self, gone: Sequence[int]) -> float:
        """Give the multiplications for a sample once so many units of each group are gone."""
        sizes = sizes_after(self.grouping, gone)
        return sum(one.count(sizes) for one in self.work)

    def cost(self, gone: Sequence[int]) -> float:
        """Give what is to be saved: multiplications, most of them counted in whole blocks of channels."""
        sizes = sizes_after(self.grouping, gone)
        movable = {axis for group in self.grouping.groups for axis in group.slots}
        whole = {axis: -(-size // self.block) * self.block if axis in movable else size for axis, size in sizes.items()}
        return sum(_SAME_TIME * one.count(whole) + (1 - _SAME_TIME) * one.count(sizes) for one in self.work)

    def parameters(self, gone: Sequence[int]) -> float:
        """Give the numbers that its weights hold then."""
        sizes = sizes_after(self.grouping, gone)
        return sum(one.count(sizes) for one in self.weights)

    @property
    def none_gone(self) -> list[int]:
        """Nothing of any group."""
        return [0] * len(self.grouping.groups)

    def step(self, group: int) -> int:
        """Say in which steps the units of a group can go."""
        size, found = self.grouping.groups[group].size, 1
        while found < _FINEST and size >= 2 * found * _FINEST:
            found *= 2
        return found

    def most(self, group: int) -> int:
        """Say how many units of a group can go at most: one stays."""
        return self.grouping.groups[group].size - 1

    def choices(self, group: int) -> list[int]:
        """Say how many units of a group may go, none first: whole blocks are left, or quarters of the last one."""
        size, step = self.grouping.groups[group].size, self.step(group)
        step = step if size <= self.block else max(step, self.block // 4)
        inner = min(size, self.block)
        kept = [*range(self.block, size, self.block), *range(inner - step, 0, -step)]
        return [0, *sorted(size - one for one in set(kept) if size - one <= self.most(group))]

    def removal(self, orders: Sequence[Array], gone: Sequence[int]) -> Removal:
        """Have so many units of each group go, in its order."""
        return Removal.of(self.grouping, [order[:count] for order, count in zip(orders, gone, strict=True)])

    def cut(self, removal: Removal) -> Model:
        """Give a copy of the graph that was cut."""
        copy = self.model.clone()
        cut(copy, removal)
        return copy


def _in_blocks(work: Sequence[Work], grouping: Grouping, block: int) -> bool:
    """Tell whether half of the multiplications are of layers with more channels that can go than one block."""
    wide = {axis for group in grouping.groups for axis in group.slots if grouping.sizes[axis] > block}
    total = sum(one.count(grouping.sizes) for one in work)
    return 2 * sum(one.count(grouping.sizes) for one in work if wide.intersection(one.axes)) >= total
