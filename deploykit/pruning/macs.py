"""Multiplications of a graph for one sample, and how many are saved as channels go."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from deploykit.pruning.groups import Grouping
from deploykit.pruning.slots import Axis
from deploykit.rewrites.evaluation import attribute
from deploykit.rewrites.facts import STANDARD, Facts, Node, Shape, Value
from deploykit.rewrites.sizes import Sum

Model = Any


@dataclass(frozen=True)
class Work:
    """What one node multiplies, or one weight holds: a product of sizes."""

    name: str
    fixed: float
    """The part that stays."""
    axes: tuple[Axis, ...]
    """Those of which the sizes are multiplied."""

    def count(self, sizes: Mapping[Axis, int]) -> float:
        """Give the product at some sizes."""
        return self.fixed * prod(sizes[axis] for axis in self.axes)


def work_of(model: Model, grouping: Grouping, symbols: Mapping[str, int]) -> list[Work]:
    """List what the nodes of a graph multiply for one sample: of Conv, ConvTranspose, Gemm, MatMul, LSTM, GRU and RNN.

    Args:
        model: the graph.
        grouping: its axes.
        symbols: sizes of dynamic axes, by name; others count as 1.
    """
    facts = Facts(model.graph, model.opset_imports.get("", 0))
    found = list[Work]()
    for node in model.graph:
        facts.learn(node)
        if node.domain in STANDARD and (terms := _terms(node, facts)):
            found.append(_work(node.name, terms, grouping, facts, symbols))
    return found


def weights_of(model: Model, grouping: Grouping) -> list[Work]:
    """List how many numbers the weights of a graph hold."""
    return [
        Work(name, *_parted([(value, at) for at in range(len(value.const_value.shape))], value, grouping))
        for name, value in model.graph.initializers.items()
        if value.const_value is not None and value.const_value.dtype.is_floating_point()
    ]


def _parted(axes: list[Axis], value: Value, grouping: Grouping) -> tuple[float, tuple[Axis, ...]]:
    known = tuple(axis for axis in axes if axis in grouping.sizes)
    return float(prod(int(value.const_value.shape[at]) for _, at in set(axes) - set(known))), known


def _terms(node: Node, facts: Facts) -> list[Axis]:
    """Give the axes of which the sizes make the work of a node, over all samples."""
    weight, output = (node.inputs[1] if len(node.inputs) > 1 else None), node.outputs[0]
    if weight is None or facts.shape(weight) is None or facts.shape(output) is None:
        return []
    ranks = [len(facts.shape(value) or ()) for value in (weight, output)]
    kind = node.op_type
    if kind == "Conv":
        return [(output, at) for at in range(ranks[1])] + [(weight, at) for at in range(1, ranks[0])]
    if kind == "ConvTranspose":
        whole = [(node.inputs[0], at) for at in range(ranks[1])]
        return whole + [(weight, at) for at in range(1, ranks[0])]
    if kind in ("Gemm", "MatMul"):
        turned = kind == "Gemm" and attribute(node, "transB", 0)
        inner = (weight, 1 if turned else max(ranks[0] - 2, 0))
        return [(output, at) for at in range(ranks[1])] + [inner]
    if kind in ("LSTM", "GRU", "RNN"):  # both weights meet every step; the second is as wide as what is remembered
        return [(node.inputs[0], 0), (node.inputs[0], 1), (weight, 0), (weight, 1), (weight, 2)]
    return []


def _work(name: str, terms: list[Axis], grouping: Grouping, facts: Facts, symbols: Mapping[str, int]) -> Work:
    known = tuple(axis for axis in terms if axis in grouping.sizes)
    others = [(facts.shape(value) or ())[at] for value, at in terms if (value, at) not in known]
    return Work(name, float(prod(_number(size, symbols) for size in others)), known)


def _number(size: Any, symbols: Mapping[str, int]) -> int:
    if not isinstance(size, Sum):
        return int(size)
    return max(1, sum(factor * prod(symbols.get(name, 1) for name in names) for names, factor in size.terms))


def symbols_of(model: Model, call: Mapping[str, Any]) -> dict[str, int]:
    """Give the sizes of dynamic axes in a call, but of one sample."""
    facts = Facts(model.graph, model.opset_imports.get("", 0))
    found = dict[str, int]()
    batch = next((len(array) for array in call.values() if array.ndim), 1)
    for value in model.graph.inputs:
        shape: Shape = facts.shape(value) or ()
        for size, actual in zip(shape, np.shape(call.get(value.name, ())), strict=False):
            if isinstance(size, Sum) and size.symbol is not None:
                found[size.symbol] = actual
        if shape and isinstance(shape[0], Sum) and shape[0].symbol is not None and found.get(shape[0].symbol) == batch:
            found[shape[0].symbol] = 1
    return found


def sizes_after(grouping: Grouping, gone: Sequence[int]) -> dict[Axis, int]:
    """Give the sizes of all axes once so many units of each group are gone."""
    sizes = dict(grouping.sizes)
    for group, count in zip(grouping.groups, gone, strict=True):
        for axis, places in group.slots.items() if count else ():
            sizes[axis] -= count * places.shape[1]
    return sizes
