"""Find the few groups of nodes that lose too much, where a halved model fails its proof.

Alone in 16 bits, with everything else in float32, a part of the graph shows the error that is its own. Errors of parts
add up as their squares do, so the parts with the largest are kept until the rest is small enough. Parts are halved
again and again: what is kept in the end are groups of nodes.
"""

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploykit.halving.plan import Plan

if TYPE_CHECKING:
    from deploykit.validation.verdict import Verdict

PARTS = 6
"""Into how many parts a graph is cut at first."""
MOST = 60
"""Proofs that a search may take."""
_GOALS = (0.8, 0.5, 0.25, 0.1, 0.0)
"""Share of the limit that the rest may take, by how the parts add up; tried one after the other."""

Group = frozenset[int]


@dataclass(frozen=True)
class Trial:
    """How a file did."""

    passed: bool
    error: float
    """The worst error over what is allowed; infinite where the answers were no numbers to compare."""

    @classmethod
    def of(cls, verdict: "Verdict", least: float | None = None) -> "Trial":
        """Read a verdict; ``least`` is the SQNR in dB that each output must keep besides its noise ratio."""
        judged = [check.value / check.limit for check in verdict.checks if check.value is not None and check.limit]
        wrong = any(check.value is None or not check.limit for check in verdict.failures)
        if least is not None:
            kept = (check.figures.get("sqnr") for check in verdict.checks)
            judged += [10 ** ((least - sqnr) / 20) for sqnr in kept if sqnr is not None]
        return cls(verdict.passed, math.inf if wrong or not judged else max(judged))


@dataclass(frozen=True)
class _Part:
    """Neighbouring groups, and the error of these alone."""

    groups: tuple[Group, ...]
    error: float

    @property
    def nodes(self) -> Group:
        return frozenset().union(*self.groups)


def search(plan: Plan, trial: Callable[[Collection[int]], Trial]) -> dict[int, str] | None:
    """Find the nodes that have to stay in float32.

    Args:
        plan: of the file that failed.
        trial: judges a file in which some more nodes stay.

    Returns:
        Why each of them stays, by number; None where it does not help.
    """
    looking = _Search(tuple(sorted((one & plan.halves for one in plan.groups if one & plan.halves), key=min)), trial)
    parts = looking.measured(looking.groups, PARTS)
    while looking.left > 0 and (large := [one for one in _kept(parts, _GOALS[0]) if len(one.groups) > 1]):
        worst = max(large, key=lambda part: part.error)
        parts.remove(worst)
        parts += looking.measured(worst.groups, 2 if len(worst.groups) < PARTS else PARTS)
    for goal in _GOALS:
        kept = _kept(parts, goal)
        nodes = frozenset().union(*(part.nodes for part in kept))
        if trial(nodes).passed:
            return {node: _why(part) for part in looking.spared(kept) for node in part.nodes}
    return None


@dataclass
class _Search:
    groups: tuple[Group, ...]
    trial: Callable[[Collection[int]], Trial]
    left: int = MOST

    def measured(self, groups: Sequence[Group], parts: int) -> list[_Part]:
        """Cut neighbours into parts, and measure each alone."""
        length = math.ceil(len(groups) / parts)
        cut = [tuple(groups[start : start + length]) for start in range(0, len(groups), length)]
        return [_Part(part, self._alone(part)) for part in cut]

    def _alone(self, part: Iterable[Group]) -> float:
        self.left -= 1
        inside = frozenset().union(*part)
        return self.trial(frozenset().union(*self.groups) - inside).error

    def spared(self, kept: list[_Part]) -> list[_Part]:
        """Leave out what turns out not to be needed, the smallest first."""
        for part in sorted(kept, key=lambda one: one.error)[: max(0, self.left)]:
            rest = [one for one in kept if one is not part]
            if len(kept) > 1 and self.trial(frozenset().union(*(one.nodes for one in rest))).passed:
                kept = rest
        return kept


def _kept(parts: Collection[_Part], goal: float) -> list[_Part]:
    """Choose the parts with the largest errors, as few as leave a rest within a share of the limit."""
    ordered = sorted(parts, key=lambda part: part.error)
    total = 0.0
    for place, part in enumerate(ordered):
        total += part.error**2
        if not total <= goal**2:
            return ordered[place:]
    return []


def _why(part: _Part) -> str:
    share = "no numbers come out" if math.isinf(part.error) else f"{part.error:.1f} times the limit"
    return f"fails alone: {share}" if part.error > 1 else f"takes {part.error:.0%} of the limit alone"
