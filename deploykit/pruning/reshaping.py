"""How channels go through a Reshape: a channel becomes a block of columns, or a stride of them, and back."""

from math import gcd, prod

import numpy as np

from deploykit.pruning.slots import Axis, Slots
from deploykit.rewrites.facts import Node
from deploykit.tensors import Array


def reshaped(node: Node, slots: Slots) -> None:
    """Axes taken together or apart: a channel becomes a block of columns, or a stride of them, and back.

    Between two places where both shapes end an axis, the factors of both are refined to common ones; the first of these
    that nothing so far keeps whole carries the channels, and the others stay whole.
    """
    value, output = node.inputs[0], node.outputs[0]
    before, after = slots.facts.shape(value), slots.facts.shape(output)
    if before is None or after is None:
        return
    # What is not fixed is passed over where it stays as it is, from either end.
    head = next((at for at, (one, two) in enumerate(zip(before, after, strict=False)) if one != two), None)
    head = min(len(before), len(after)) if head is None else head
    for at in range(head):
        slots.link((value, at), (output, at))
    tails = zip(reversed(before[head:]), reversed(after[head:]), strict=False)
    rest = [*tails]
    tail = next((at for at, (one, two) in enumerate(rest) if one != two), len(rest))
    for at in range(1, tail + 1):
        slots.link((value, len(before) - at), (output, len(after) - at))
    ours = [(value, at) for at in range(head, len(before) - tail)]
    theirs = [(output, at) for at in range(head, len(after) - tail)]
    _regrouped(ours, theirs, slots)


def _regrouped(ours: list[Axis], theirs: list[Axis], slots: Slots) -> None:
    """Link axes from the last on, as far as both sides are fixed, where their products meet."""
    left, right = list(ours), list(theirs)
    while left and right:
        one, two = [left.pop()], [right.pop()]
        while (sizes := _products(one, two, slots)) is not None and sizes[0] != sizes[1]:
            side, taken = (left, one) if sizes[0] < sizes[1] else (right, two)
            if not side:
                return
            taken.insert(0, side.pop())
        if sizes is None:
            return
        _refined(one, two, slots)


def _products(one: list[Axis], two: list[Axis], slots: Slots) -> tuple[int, int] | None:
    sides = [[(slots.shape(value) or ())[at] for value, at in side] for side in (one, two)]
    return None if any(0 in side for side in sides) else (prod(sides[0]), prod(sides[1]))


def _refined(one: list[Axis], two: list[Axis], slots: Slots) -> None:
    factors = _common([_sizes(one, slots), _sizes(two, slots)])
    if factors is None:
        return
    spans = [_spans(_sizes(side, slots), factors) for side in (one, two)]
    for number, factor in enumerate(factors):
        held = [
            (axis, _places(own, number, factors))
            for side, span in zip((one, two), spans, strict=True)
            for axis, own in zip(side, span, strict=True)
            if number in own
        ]
        if factor > 1 and all(slots.free(axis) for axis, _ in held):
            (first, ours), (second, theirs) = held
            _by_place(first, second, ours, theirs, slots)
            return


def _by_place(first: Axis, second: Axis, ours: Array, theirs: Array, slots: Slots) -> None:
    """Link all slots of two axes that have the same place in the factor that they share."""
    lead = np.zeros(int(ours.max()) + 1, np.int64)
    lead[ours[::-1]] = np.arange(len(ours))[::-1]
    slots.link(first, first, np.arange(len(ours)), lead[ours])
    slots.link(first, second, lead[theirs], np.arange(len(theirs)))


def _sizes(side: list[Axis], slots: Slots) -> list[int]:
    return [(slots.shape(value) or ())[at] for value, at in side]


def _common(sides: list[list[int]]) -> list[int] | None:
    """Refine two factorizations of one number to factors of which both are made; None where there are none."""
    left, right, found = list(sides[0]), list(sides[1]), list[int]()
    while left and right:
        one, two = left.pop(0), right.pop(0)
        shared = gcd(one, two)
        if shared != min(one, two):
            return None
        found.append(shared)
        if one > shared:
            left.insert(0, one // shared)
        if two > shared:
            right.insert(0, two // shared)
    return found if all(one == 1 for one in (*left, *right)) else None


def _spans(sizes: list[int], factors: list[int]) -> list[list[int]]:
    """Say of which factors each size is the product."""
    found, at = [], 0
    for size in sizes:
        own, product = list[int](), 1
        while at < len(factors) and (product < size or (size == 1 == factors[at] and not own)):
            own.append(at)
            product *= factors[at]
            at += 1
        found.append(own)
    return found


def _places(own: list[int], number: int, factors: list[int]) -> Array:
    """Give, for each slot of an axis made of some factors, its place in one of them."""
    inner = prod(factors[at] for at in own if at > number)
    size = prod(factors[at] for at in own)
    found: Array = (np.arange(size) // inner) % factors[number]
    return found
