"""How much of each group goes: what harms the outputs least for what it saves, by what was measured."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deploykit.child import Step
from deploykit.golden import rows
from deploykit.pruning.fitting import fit_locally
from deploykit.pruning.moments import Calls, Seen, observed, parts
from deploykit.pruning.subject import Subject
from deploykit.tensors import Array

Model = Any

_SHARES, _FEWER, _MANY = (0.25, 0.5, 0.75), (0.25, 0.6), 20
"""Of a group, at which it is measured; and where there are many groups."""
_SAMPLES, _LEAST_SAMPLES, _AT_MOST = 64, 8, 4e10
"""Samples that it is measured with; fewer, down to these, of a model for which that is more multiplications."""
_LEAST = 1e-12


@dataclass(frozen=True)
class Curve:
    """What is lost at the outputs as the units of one group go: power of the error over that of the outputs."""

    counts: tuple[int, ...]
    """Units that were gone, ascending."""
    noises: tuple[float, ...]

    def noise(self, count: int) -> float:
        """Give it for any number of units: between two that were measured, as a power of their number."""
        if not count:
            return 0.0
        x, y = np.log(self.counts), np.log(np.maximum(np.maximum.accumulate(self.noises), _LEAST))
        at = np.log(count)
        if at >= x[0]:
            slope = 2.0 if len(x) == 1 else max((y[-1] - y[-2]) / (x[-1] - x[-2]), 1.0)
            return float(np.exp(np.interp(at, x, y) + max(0.0, at - x[-1]) * slope))
        slope = 1.0 if len(x) == 1 else max((y[1] - y[0]) / (x[1] - x[0]), 1.0)
        return float(np.exp(y[0] + (at - x[0]) * slope))


def curves_of(subject: Subject, orders: Sequence[Array], seen: Seen | None, calls: Calls, step: Step) -> list[Curve]:
    """Measure what the outputs lose when one group is cut, by steps, each time with the others whole.

    Args:
        subject: the graph.
        orders: of the units of each group.
        seen: what its layers are fitted to; None where they are not.
        calls: gives inputs, of which the first samples are run.
        step: takes a sentence about what goes on.
    """
    wanted = int(np.clip(_AT_MOST / max(subject.macs(subject.none_gone), 1), _LEAST_SAMPLES, _SAMPLES))
    first = _first(calls, wanted)
    shares = _SHARES if len(orders) < _MANY else _FEWER
    reference = answers(subject.model.clone(), first)
    found = []
    for number in range(len(orders)):
        step(f"measuring what group {number + 1} of {len(orders)} is worth")
        most, size = subject.most(number), subject.grouping.groups[number].size
        counts = sorted({min(most, max(1, round(share * size))) for share in shares} - {0})
        noises = []
        for count in counts:
            gone = subject.none_gone
            gone[number] = count
            removal = subject.removal(orders, gone)
            model = subject.cut(removal)
            if seen is not None:
                fit_locally(model, subject.layers, removal, seen.grams)
            noises.append(noise(reference, answers(model, first)))
        found.append(Curve(tuple(counts), tuple(noises)))
    return found


def _first(calls: Calls, wanted: int) -> list[Mapping[str, Array]]:
    found, count = list[Mapping[str, Array]](), 0
    for call in calls():
        found.append(call)
        count += rows(call)
        if count >= wanted:
            break
    return found


def answers(model: Model, calls: Iterable[Mapping[str, Array]]) -> list[Array]:
    """Give the real outputs of a graph, which is changed, one after the other."""
    names = [value.name for value in model.graph.outputs]
    with observed(model, names) as session:
        given = parts(session, lambda: calls, _SAMPLES)
        return [one[name].astype(np.float64) for one in given for name in names if one[name].dtype.kind == "f"]


def noise(reference: Sequence[Array], found: Sequence[Array]) -> float:
    """Give the power of the error over that of what does differ between samples."""
    error = sum(float(np.square(one - other).sum()) for one, other in zip(reference, found, strict=True))
    power = sum(float(np.square(one - one.mean(axis=0)).sum()) for one in reference)
    return error / max(power, 1e-30)


def uniform(subject: Subject, share: float) -> list[int]:
    """Have the same share of every group go."""
    return [min(group.size - 1, round(share * group.size)) for group in subject.grouping.groups]


def evenly(subject: Subject, macs: float) -> list[int]:
    """Have about the same share of every group go, so that no more multiplications are left than these."""
    shares = (uniform(subject, float(share)) for share in np.linspace(0, 1, 201))
    return next((gone for gone in shares if subject.macs(gone) <= macs), uniform(subject, 1.0))


def allocated(subject: Subject, curves: Sequence[Curve], macs: float) -> list[int]:
    """Let units go, always of the group that loses least for what it saves, until no more than these are left.

    Args:
        subject: the graph.
        curves: what was measured, by group.
        macs: multiplications for a sample that may stay.

    Returns:
        How many units of each group go: as many as can, where that is not enough.
    """
    choices = [subject.choices(number) for number in range(len(curves))]
    at = [0] * len(curves)
    while subject.macs(_counts(choices, at)) > macs:
        before = subject.cost(_counts(choices, at))
        prices = dict[int, float]()
        for number, curve in enumerate(curves):
            if at[number] + 1 < len(choices[number]):
                saved = before - subject.cost(_counts(choices, _moved(at, number, 1)))
                lost = curve.noise(choices[number][at[number] + 1]) - curve.noise(choices[number][at[number]])
                prices[number] = lost / max(saved, _LEAST)
        if not prices:
            break
        at[min(prices, key=prices.__getitem__)] += 1
    return _counts(choices, _given_back(subject, curves, choices, at, macs))


def _given_back(
    subject: Subject, curves: Sequence[Curve], choices: Sequence[Sequence[int]], at: list[int], macs: float
) -> list[int]:
    """Undo the last steps that were not needed, what harms most first."""
    for number in sorted(range(len(at)), key=lambda one: -curves[one].noise(choices[one][at[one]])):
        while at[number] and subject.macs(_counts(choices, _moved(at, number, -1))) <= macs:
            at = _moved(at, number, -1)
    return at


def _moved(at: list[int], number: int, by: int) -> list[int]:
    found = [*at]
    found[number] += by
    return found


def _counts(choices: Sequence[Sequence[int]], at: Sequence[int]) -> list[int]:
    return [own[place] for own, place in zip(choices, at, strict=True)]
