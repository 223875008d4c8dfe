"""Judge an artifact that is not the same model any more, but one that loses a little: int8, int4, pruned."""

from collections.abc import Collection, Iterable, Iterator
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
    named: frozenset[str] = frozenset()
    """The fields of the budget that the user names: they judge also what would pass as the same model."""
    replaces: bool = True
    """Whether it takes the place of the noise ratio: of a file in integers, or where the user bounds what is lost."""
    labels: Array | None = None
    """The right class of each sample, int64 [samples]."""
    allow_undecided: bool = False
    """Whether too few samples to tell are enough."""


class Losses:
    """Judges every output by what was lost, case by case: numbers, decisions, and accuracy where there are labels."""

    def __init__(self, loss: Loss) -> None:
        """Take how much may be lost."""
        self.loss = loss
        self._outputs: dict[str, _Output] = {}
        self._samples = 0

    def add(self, names: Iterable[str], case: Case, answer: Tensors) -> None:
        """Take a case, the names of the outputs of both sides, and what the artifact answers."""
        count = rows(case.inputs)
        labels = self.loss.labels
        own = None if labels is None else labels[self._samples : self._samples + count]
        if own is None or len(own) == count:  # else there are too few, which is said at the end
            for name in names:
                output = self._outputs.setdefault(name, _Output(name))
                output.add(case, answer, self._samples, own)
        self._samples += count

    def checks(self, only: Collection[str] = ()) -> list[Check]:
        """Give what came out for every output, by these fields of the budget, or by all.

        Raises:
            UsageError: there are labels, and not as many as samples, or no output decides anything.
        """
        labels = self.loss.labels
        if labels is not None and len(labels) != self._samples:
            raise UsageError(
                f"there are {len(labels)} labels for {self._samples} samples",
                fix="give one label for each sample of --data",
            )
        if labels is not None and not any(output.scored for output in self._outputs.values()):
            raise UsageError("there are labels, and no output decides among classes", fix="leave --labels out")
        return [check for output in self._outputs.values() for check in output.checks(self.loss, only)]


class _Output:
    """One output of a lossy artifact."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._wrong: str | None = None
        self._lossy: Lossy | None = None
        self._equal = self._values = 0

    def add(self, case: Case, answer: Tensors, first: int, labels: Array | None) -> None:
        own, found = case.outputs.get(self._name), answer.get(self._name)
        self._wrong = self._wrong or wrong_form(own, found, case.inputs)
        if self._wrong or own is None or found is None:
            return
        if own.dtype.kind in "fc":
            self._lossy = self._lossy or Lossy(self._name)
            self._lossy.add(own, found, first, labels)
        else:
            self._equal += int((own == found).sum())
            self._values += own.size

    @property
    def scored(self) -> bool:
        return self._lossy is not None and self._lossy.result().scored is not None

    def checks(self, loss: Loss, only: Collection[str]) -> Iterator[Check]:
        if self._wrong:
            rule = "present, of the source's shape and dtype"
            yield Check(self._name, passed=False, rule=rule, why=self._wrong)
        elif self._lossy is not None:
            yield from _checks(self._lossy.result(), loss, only)
        elif not only or "min_agreement" in only:
            yield _equal(self._name, Rate(self._equal, self._values), loss)


def _checks(found: Found, loss: Loss, only: Collection[str]) -> Iterator[Check]:
    for outcome in found.outcomes(loss.budget, only):
        undecided = outcome.state is State.UNDECIDED
        yield Check(
            found.name,
            passed=outcome.passed or (undecided and loss.allow_undecided),
            rule=outcome.rule,
            why=outcome.why,
            value=None if np.isnan(outcome.value) else outcome.value,
            figures=found.figures,
            samples=outcome.samples,
            undecided=undecided,
        )


def _equal(name: str, rate: Rate, loss: Loss) -> Check:
    """Judge whole numbers, bools and texts, which are decisions themselves."""
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
    why = f"{check.why}; undecided: needs about {needed} values" if needed else check.why
    return replace(check, why=why, undecided=True)
