"""Search the plans for sizes that a module really runs on, the conventional ones first."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import sqrt

from deploykit.child.pytorch.candidates import Plan
from deploykit.child.pytorch.trial import Outcome, OutOfTime, Trials

_LONGEST_SCAN = 512
_FIRST_SIZES = 3
_MOST_ELEMENTS = 1 << 24
_MOST_OTHERS = 5
_ROUND = (32, 16, 10, 8, 5, 4, 2, 1)


@dataclass(frozen=True)
class Found:
    """Inputs that the module runs on."""

    plan: Plan
    sizes: Mapping[str, int]
    independent: bool
    """No row of the batch changes another."""


@dataclass
class Search:
    """What was found, and what went wrong on the way."""

    trials: Trials
    found: Found | None = None
    error: str = ""
    """What the module said to the likeliest of all."""
    out_of_time: bool = False
    _depths: dict[int, int] = field(default_factory=dict)

    def run(self, plans: Sequence[Plan]) -> Found | None:
        """Try a few usual sizes in every plan, then all usual ones, then any size in those that came farthest."""
        try:
            for first, last in ((0, _FIRST_SIZES), (_FIRST_SIZES, None)):
                for number, plan in enumerate(plans):
                    if self._settled(self._among(number, plan, islice(plan.conventional(), first, last))):
                        return self.found
            for number, plan in enumerate(plans):
                if self.found is None and self._depths.get(number, 0) == max(self._depths.values()):
                    self._settled(self._anywhere(number, plan))
        except OutOfTime:
            self.out_of_time = True
        return self.found

    def others(self, found: Found, most: int = 2) -> list[tuple[int, ...]]:
        """Give the unknown sizes of a few other candidates that run too, for the note."""
        more: list[tuple[int, ...]] = []
        try:
            for sizes in islice(found.plan.conventional(), _MOST_OTHERS):
                if len(more) < most and sizes != found.sizes and self._try(found.plan, sizes).fits:
                    more.append(tuple(sizes[letter] for letter in ("d", "h", "w", "n") if letter in found.plan.letters))
        except OutOfTime:
            self.out_of_time = True
        return more

    def _settled(self, found: Found | None) -> bool:
        # One whose rows mix is kept, but a later plan whose rows do not has the batch on the right axis.
        if found is not None and (self.found is None or found.independent):
            self.found = found
        return found is not None and found.independent

    def _among(self, number: int, plan: Plan, choices: Iterator[dict[str, int]]) -> Found | None:
        window = _Window()
        for sizes in choices:
            size = sizes.get("h", sizes.get("n", 0))
            if plan.scaled and sizes.get("w", size) == size and not window.low < size < window.high:
                continue
            outcome = self._try(plan, sizes)
            if outcome.fits:
                return Found(plan, sizes, outcome.independent)
            if sizes.get("w", size) == size:
                window.learn(size, outcome)
            self._remember(number, outcome)
        return None

    def _anywhere(self, number: int, plan: Plan) -> Found | None:
        if not plan.scaled:
            return None
        window = _Window(high=plan.longest() + 1)
        return self._any_size(number, plan, window) or self._among(number, plan, plan.rectangles())

    def _any_size(self, number: int, plan: Plan, window: "_Window") -> Found | None:
        tried: set[int] = set()
        while (size := window.pick(tried)) is not None:
            tried.add(size)
            sizes = _all_at(plan, size)
            outcome = self._try(plan, sizes)
            if outcome.fits:
                return self._rounder(plan, size) or Found(plan, sizes, outcome.independent)
            window.learn(size, outcome)
            self._remember(number, outcome)
        return None

    def _rounder(self, plan: Plan, size: int) -> Found | None:
        for unit in _ROUND:
            for near in (size // unit * unit, -(-size // unit) * unit):
                outcome = self._try(plan, _all_at(plan, near)) if near else Outcome()
                if outcome.fits:
                    return Found(plan, _all_at(plan, near), outcome.independent)
        return None

    def _try(self, plan: Plan, sizes: Mapping[str, int]) -> Outcome:
        if plan.elements(sizes) > _MOST_ELEMENTS:
            return Outcome(error="the input would be too large to try")
        halves = frozenset(name for name, guess in plan.guesses.items() if guess.dtype == "bfloat16")
        return self.trials.attempt(plan.feed(sizes), plan.axes, halves)

    def _remember(self, number: int, outcome: Outcome) -> None:
        self._depths[number] = max(self._depths.get(number, 0), outcome.depth)
        if number == 0 and not self.error:
            self.error = outcome.error


@dataclass
class _Window:
    """The sizes that are still possible: errors often tell whether a size was too small or too big."""

    low: int = 0
    high: int = 1 << 30
    told: bool = False

    def learn(self, size: int, outcome: Outcome) -> None:
        """Close the window on the side that an error excludes."""
        if outcome.scale < 0:
            self.low, self.told = max(self.low, size), True
        if outcome.scale > 0:
            self.high, self.told = min(self.high, size), True

    def pick(self, tried: set[int]) -> int | None:
        """Give the next size: the middle where errors point the way, else the roundest."""
        if self.told:
            middle = round(sqrt(max(1, self.low) * self.high))
            return next(
                (size for size in (middle, middle + 1) if self.low < size < self.high and size not in tried), None
            )
        top = min(self.high, _LONGEST_SCAN + 1)
        sizes = (size for unit in _ROUND for size in range(unit, top, unit))
        return next((size for size in sizes if size > self.low and size not in tried), None)


def _all_at(plan: Plan, size: int) -> dict[str, int]:
    return {"h": size, "w": size, "n": 16 if "h" in plan.letters else size}
