"""Budgets: how much a lossy artifact may lose, and what was found against that: pass, fail or undecided."""

import math
from dataclasses import dataclass
from enum import StrEnum

from deploykit.errors import UsageError, nearest
from deploykit.validation.accuracy import Scored
from deploykit.validation.agreement import Agreed
from deploykit.validation.fidelity import Faithful
from deploykit.validation.statistics import Interval, needed_to_reach, reaches

_ALIVE = 6.0
"""SQNR, in dB, of what differs between samples: under this a constant would do nearly as well."""


class State(StrEnum):
    """How a rule came out."""

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Outcome:
    """One rule, and what was found."""

    state: State
    value: float
    interval: Interval | None
    """What the figure may be at 95%, where samples can tell."""
    rule: str
    why: str
    needed: int | None = None
    """About so many samples would settle it; None where it is settled, or where no number would."""
    samples: tuple[int, ...] = ()
    """The samples that were decided otherwise."""

    @property
    def passed(self) -> bool:
        """Whether the rule is kept for certain."""
        return self.state is State.PASS


@dataclass(frozen=True)
class Budget:
    """The bounds of a lossy artifact; the defaults are those of int8."""

    min_agreement: float = 0.99
    min_sqnr: float = 20.0
    """In dB: 20 is an RMS error of a tenth of the output's RMS."""
    max_drop: float = 0.005
    """Of accuracy, as a share of the samples."""
    min_iou: float = 0.9
    """Mean over the classes, for pixels."""

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            UsageError: one is not a share.
        """
        for name, least in (("min_agreement", 0.0), ("max_drop", 0.0), ("min_iou", 0.0)):
            value = getattr(self, name)
            if not least <= value < 1:
                raise UsageError(
                    f"--{name.replace('_', '-')} is {value:g}, and must be from 0 to just under 1",
                    fix="write 99% as 0.99 or 99%; 1 is more than any number of samples proves",
                )
        if not math.isfinite(self.min_sqnr):
            raise UsageError("--min-sqnr is not a number", fix="a number of dB, as 20")

    @classmethod
    def of(cls, precision: str) -> "Budget":
        """Give sensible bounds for a precision.

        - ``float16`` keeps 11 bits: a layer errs by -66 dB, fifty by -49, so 40 dB is little to ask. Only near ties
          flip.
        - ``int8``: MLPerf Inference takes 99% of the accuracy in float32 as the bar for quantized models. Weights and
          activations in 8 bits, clipped for their outliers, keep 35 to 40 dB in a layer, which fifty layers bring to
          20.
        - ``int4``: each bit is worth 6 dB; scales for small blocks of weights, and activations left in float, win back
          two thirds of the 24.
        - ``pruned``: another function that was trained to do the same. Its numbers may be others, its decisions not.
        """
        known = {
            "float16": cls(0.995, 40.0, 0.002, 0.98),
            "int8": cls(),
            "int4": cls(0.97, 12.0, 0.01, 0.85),
            "pruned": cls(0.95, 10.0, 0.01, 0.8),
        }
        name = {"fp16": "float16", "bfloat16": "int8", "bf16": "int8", "uint8": "int8", "uint4": "int4"}.get(precision)
        if (name or precision) not in known:
            raise UsageError(
                f"there is no budget for '{precision}'{nearest(precision, known)}", fix=f"one of {', '.join(known)}"
            )
        return known[name or precision]


def judge_agreement(found: Agreed, budget: Budget) -> Outcome:
    """Judge the decisions: the whole interval has to keep the bound, or to miss it."""
    rule = f"decisions agree in {budget.min_agreement:.4g} of the samples at least"
    rate, interval, why = found.top1.value, found.top1.interval, str(found)
    if found.top5 is not None and found.top5.total:
        why += f"; the class is in the first five in {found.top5.value:.2%}"
    if found.samples:
        why += f"; samples {', '.join(map(str, found.samples[:_SHOWN]))}{', ...' if found.samples[_SHOWN:] else ''}"
    if found.top1.total:
        why += f"; {rate:.4g} agree, at 95% {interval}"
    kept = reaches(found.top1, budget.min_agreement)
    if found.classes == 1 and kept is not False:
        one = f"the source decides alike on all {found.top1.total} samples, as a constant would: it needs others"
        return Outcome(State.UNDECIDED, rate, interval, rule, f"{why}; undecided: {one}")
    if kept is not None:
        return Outcome(State.PASS if kept else State.FAIL, rate, interval, rule, why, samples=found.samples)
    needed = needed_to_reach(found.top1, budget.min_agreement)
    return Outcome(State.UNDECIDED, rate, interval, rule, f"{why}; {_undecided(needed)}", needed, found.samples)


_SHOWN = 8
"""Flipped samples that the sentence names; a report in JSON has all."""


def judge_iou(found: Agreed, budget: Budget) -> Outcome:
    """Judge the masks of the classes, which all count the same: a small one does not hide behind a large."""
    rule = f"mean IoU at least {budget.min_iou:.4g}"
    if not found.ious:
        why = "undecided: the source's masks are empty, it needs samples where it sees something"
        return Outcome(State.UNDECIDED, math.nan, None, rule, why)
    worst = min(found.ious, key=lambda one: found.ious[one])
    why = f"mean IoU {found.iou:.4f} of {len(found.ious)} classes, the lowest {found.ious[worst]:.4f} of class {worst}"
    return Outcome(State.PASS if found.iou >= budget.min_iou else State.FAIL, found.iou, None, rule, why)


def judge_drop(found: Scored, budget: Budget) -> Outcome:
    """Judge the loss of accuracy on labels."""
    rule = f"accuracy drops by {budget.max_drop:.4g} at most"
    pairs, why = found.pairs, str(found)
    kept = pairs.within(budget.max_drop)
    if pairs.total and not found.before.hits:
        why = f"{why}; undecided: the source has none right, so these may not be its labels"
        return Outcome(State.UNDECIDED, pairs.drop, pairs.interval, rule, why)
    if kept is not None:
        return Outcome(State.PASS if kept else State.FAIL, pairs.drop, pairs.interval, rule, why)
    needed = pairs.needed(budget.max_drop)
    return Outcome(State.UNDECIDED, pairs.drop, pairs.interval, rule, f"{why}; {_undecided(needed)}", needed)


def judge_numbers(found: Faithful, budget: Budget) -> Outcome:
    """Judge the numbers themselves."""
    rule = f"SQNR at least {budget.min_sqnr:g} dB"
    if found.unlike:
        why = f"{found.unlike} values are NaN or infinite on one side only, the first in sample {found.first_unlike}"
        return Outcome(State.FAIL, -math.inf, None, rule, why)
    if not found.values:
        return Outcome(State.FAIL, math.nan, None, rule, "no value was compared")
    why = f"SQNR {found.sqnr:.1f} dB, cosine {found.cosine:.6f}, relative RMSE {found.relative_rmse:.2g}"
    if found.worst is not None:
        why += f"; sample {found.worst[0]} errs most, {found.worst[1]:.1f} dB"
    if not found.sqnr >= budget.min_sqnr:
        return Outcome(State.FAIL, found.sqnr, None, rule, why)
    doubt, needed = _doubt(found, budget)
    if doubt:
        return Outcome(State.UNDECIDED, found.sqnr, None, rule, f"{why}; undecided: {doubt}", needed)
    return Outcome(State.PASS, found.sqnr, None, rule, why)


def _doubt(found: Faithful, budget: Budget) -> tuple[str, int | None]:
    """Say why close numbers may still be those of a dead artifact, and how many samples would tell."""
    if found.sqnr == math.inf or found.constant:
        return "", None
    if found.samples == 1:
        return "of one sample no one can tell whether the answer follows the input", 2
    spread = found.spread_sqnr
    if spread is None or spread >= min(_ALIVE, budget.min_sqnr):
        return "", None
    alike = "the source's answers hardly differ from sample to sample, so that a constant would do as well"
    return f"{alike} ({spread:.1f} dB of what does differ): it needs samples that differ more", None


def _undecided(needed: int | None) -> str:
    if needed is None:
        return "undecided: too near to the bound for any number of samples to tell"
    count = _round_up(needed)
    return f"undecided: needs about {count:,} samples (--data with as many, --samples {count}; or --allow-undecided)"


def _round_up(count: int) -> int:
    """Give two digits: the count rests on a rate that is itself uncertain."""
    unit = 10 ** max(0, len(str(count)) - 2)
    return -(-count // unit) * unit
