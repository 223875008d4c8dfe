"""``deploykit run --search``: the combinations of passes that make sense, and which of them is the fastest in budget.

Each combination is an artifact of its own, most promising first, so that a search that runs out of time has tried the
best guesses; what they share is done once. The fastest file that was proved within its bounds is written. Beside it
stands the Pareto front: what no other is better than in accuracy, latency and size together (V. Pareto, Manuale di
economia politica, 1906).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from deploykit.errors import UsageError
from deploykit.passes import PASSES
from deploykit.recipes.recipe import Recipe, Require, Wanted
from deploykit.timing import Ratio
from deploykit.validation.verdict import Verdict

SECONDS = 1800.0
"""What a search takes when nothing else is said."""

_CPU = (
    "int8:target={target}",
    "dynamic",
    "fp16",
    "weight_only:bits=8",
    "int8:target={target},method=minmax",
    "int8:target={target},method=entropy",
    "int8:target={target},method=percentile",
    "weight_only:bits=4",
)
_OTHERS = ("int8:target={target}", "fp16", "int8:target={target},method=entropy", "int8:target={target},method=minmax")


@dataclass(frozen=True)
class Search:
    """What is searched for, and for how long."""

    target: str = "auto"
    time_budget: float = SECONDS
    """Seconds, after which no further combination is begun."""
    require: Require = field(default_factory=Require)

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            UsageError: the time is none.
        """
        if not self.time_budget > 0:
            raise UsageError(f"nothing can be searched in {self.time_budget:g} seconds", fix="--time-budget 1800")


@dataclass(frozen=True)
class Found:
    """One combination that was tried, and what it keeps."""

    name: str
    passed: bool
    accuracy: float | None
    """With labels; else the share of the decisions that stayed, where there are any."""
    sqnr: float | None
    """Of the worst output, in dB; None where it is exact."""
    latency: Ratio | None
    bytes: int
    pareto: bool = False
    """Whether no other is better in accuracy, latency and size together."""
    before: float | None = None
    """Accuracy of the source, where that was measured beside it."""
    best: bool = False
    """Whether it is the fastest of those that passed: the one that was written."""


def mark(one: Found) -> str:
    """Say what is special of it."""
    if one.best:
        faster = one.latency is not None and one.latency.faster
        return "written: the fastest" if faster else "written: none is faster than the source"
    return "on the Pareto front" if one.pareto else ""


def combinations(recipe: Recipe, search: Search) -> Recipe:
    """Give the recipe of all combinations, most promising first.

    Raises:
        UsageError: there is no such target.
    """
    from deploykit.optimization import check_steps
    from deploykit.quantization.targets import target_of

    target_of(search.target)
    samples = recipe.data.calibration or recipe.data.validation
    texts = _CPU if search.target == "auto" or search.target.startswith("cpu") else _OTHERS
    found = []
    for text in ("", *texts):
        steps = (PASSES.make("simplify"), *([PASSES.parse(text.format(target=search.target))] if text else []))
        try:
            check_steps(steps, made_up=samples is None)
        except UsageError:
            continue  # without samples there is no int8
        found.append(Wanted(_named(text), steps, search.require, keep_slower=True, timed=True))
    return replace(recipe, artifact=tuple(found))


def _named(text: str) -> str:
    """Name a combination: ``int8-entropy``."""
    name, _, options = text.partition(":")
    values = [one.partition("=")[2] for one in options.split(",") if one and not one.startswith("target=")]
    return "-".join([name or "simplify", *values])


def row(name: str, verdict: Verdict | None, latency: Ratio | None, size: int, *, passed: bool) -> Found:
    """Say what one combination keeps: its worst output counts."""
    figures = [check.figures for check in verdict.checks] if verdict else []
    accuracy = [one["accuracy_after"] for one in figures if "accuracy_after" in one]
    shares = accuracy or [one[name] for one in figures for name in ("top1", "agreement", "iou") if name in one]
    noise = [one["sqnr"] for one in figures if "sqnr" in one]
    before = [one["accuracy_before"] for one in figures if "accuracy_before" in one] or ([1.0] if shares else [])
    least, sqnr = min(shares, default=None), min(noise, default=None)
    return Found(name, passed, least, sqnr, latency, size, before=max(before, default=None))


def ranked(found: Sequence[Found]) -> tuple[Found, ...]:
    """Mark the Pareto front, and the fastest of those that passed."""
    found = _with_accuracy(found)
    passed = [one for one in found if one.passed]
    best = min(passed, key=lambda one: (one.latency.value if one.latency else 1.0, one.bytes), default=None)
    return tuple(
        replace(one, best=one is best, pareto=one.passed and not any(_beats(other, one) for other in passed))
        for one in found
    )


def _with_accuracy(found: Sequence[Found]) -> Sequence[Found]:
    """Give what is exact the accuracy of the source, which those that are not were compared with."""
    whole = max((one.before for one in found if one.before is not None), default=None)
    return [replace(one, accuracy=whole if one.accuracy is None else one.accuracy) for one in found]


def _beats(other: Found, one: Found) -> bool:
    """Tell whether one is at least as good in everything, and better in something."""
    pairs = list(zip(_worth(other), _worth(one), strict=True))
    return other is not one and all(own >= its for own, its in pairs) and any(own > its for own, its in pairs)


def _worth(one: Found) -> Iterator[float]:
    yield one.accuracy if one.accuracy is not None else 0.0
    yield min(one.sqnr if one.sqnr is not None else _EXACT, _EXACT)
    yield -(one.latency.value if one.latency else 1.0)
    yield -float(one.bytes)


_EXACT = 120.0
"""Noise in dB below which float32 itself can't tell."""
