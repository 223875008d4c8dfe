"""Judge an artifact that is not the same model any more, but one that loses a little: int8, int4, pruned."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from deploykit.errors import UsageError
from deploykit.golden import Case, rows
from deploykit.tensors import Array, Tensors
from deploykit.validation.budgets import Budget, State
from deploykit.validation.judge import wrong_form
from deploykit.validation.lossy import Found, Lossy
from deploykit.validation.statistics import Rate, needed_to_reach, reaches
from deploykit.validation.verdict import Check


@dataclass(frozen=True)
class Loss:
    """How much may be lost, and what is known of the samples."""

    budget: Budget
    asked: bool = False
    """Whether the user names the bounds: then they judge also what would pass as the same model."""
    labels: Array | None = None
    """The right class of each sample, int64 [samples]."""
    allow_undecided: bool = False
    """Whether too few samples to tell are enough."""


def judge_loss(names: Sequence[str], answers: Sequence[tuple[Case, Tensors]], loss: Loss) -> list[Check]:
    """Judge every output by what was lost: numbers, decisions, and accuracy where there are labels.

    Raises:
        UsageError: there are labels, and not as many as samples, or no output decides anything.
    """
    count = sum(rows(case.inputs) for case, _ in answers)
    if loss.labels is not None and len(loss.labels) != count:
        raise UsageError(
            f"there are {len(loss.labels)} labels for {count} samples", fix="give one label for each sample of --data"
        )
    checks: list[Check] = []
    scored = False
    for name in names:
        wrong = next(filter(None, (wrong_form(name, case, answer) for case, answer in answers)), None)
        if wrong:
            checks.append(Check(name, passed=False, rule="present, of the source's shape and dtype", why=wrong))
        elif answers[0][0].outputs[name].dtype.kind in "fc":
            found = _followed(name, answers, loss)
            scored |= found.scored is not None
            checks.extend(_checks(found, loss))
        else:
            checks.append(_equal(name, answers, loss))
    if loss.labels is not None and not scored:
        raise UsageError("there are labels, and no output decides among classes", fix="leave --labels out")
    return checks


def _followed(name: str, answers: Sequence[tuple[Case, Tensors]], loss: Loss) -> Found:
    following, first = Lossy(name), 0
    for case, answer in answers:
        count = rows(case.inputs)
        own = loss.labels[first : first + count] if loss.labels is not None else None
        following.add(case.outputs[name], answer[name], first, own)
        first += count
    return following.result()


def _checks(found: Found, loss: Loss) -> Iterator[Check]:
    for outcome in found.outcomes(loss.budget):
        undecided = outcome.state is State.UNDECIDED
        yield Check(
            found.name,
            passed=outcome.passed or (undecided and loss.allow_undecided),
            rule=outcome.rule,
            why=outcome.why,
            value=None if np.isnan(outcome.value) else outcome.value,
            figures=found.figures,
        )


def _equal(name: str, answers: Sequence[tuple[Case, Tensors]], loss: Loss) -> Check:
    """Judge whole numbers, bools and texts, which are decisions themselves."""
    pairs = [(case.outputs[name], answer[name]) for case, answer in answers]
    rate = Rate(sum(int((own == found).sum()) for own, found in pairs), sum(own.size for own, _ in pairs))
    bound = loss.budget.min_agreement
    kept = reaches(rate, bound)
    check = Check(
        name,
        passed=bool(kept) or (kept is None and loss.allow_undecided),
        rule=f"equal in {bound:.4g} of the values at least",
        why=f"{rate.total - rate.hits:g} of {rate.total} values differ",
        value=rate.value if rate.total else None,
    )
    if kept is not None:
        return check
    needed = needed_to_reach(rate, bound)
    return replace(check, why=f"{check.why}; undecided: needs about {needed} values" if needed else check.why)
