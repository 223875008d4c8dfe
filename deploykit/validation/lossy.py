"""Judge one output of a lossy artifact (int8, int4, pruned): its decisions, its numbers, and its accuracy on labels.

    following = Lossy("logits")
    for first, (ours, theirs) in batches:
        following.add(ours, theirs, first)
    outcomes = following.result().outcomes(Budget.of("int8"))

Everything is streamed: memory is that of one batch, and of the samples that were flipped.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from deploykit.errors import UsageError, nearest
from deploykit.tensors import Array
from deploykit.validation.accuracy import Accuracy, Scored
from deploykit.validation.agreement import Agreed, Agreement
from deploykit.validation.budgets import Budget, Outcome, State, judge_agreement, judge_drop, judge_iou, judge_numbers
from deploykit.validation.decisions import Kind, Looks, Reading, Rule
from deploykit.validation.fidelity import Faithful, Fidelity


@dataclass(frozen=True)
class Found:
    """All that was found about one output."""

    name: str
    reading: Reading
    """What the output was taken for, in words."""
    faithful: Faithful
    agreed: Agreed | None
    """None where the output decides nothing."""
    scored: Scored | None
    """None without labels."""
    misshapen: str | None = None
    """How the shape of an answer differs."""

    def outcomes(self, budget: Budget, only: Collection[str] = ()) -> tuple[Outcome, ...]:
        """Judge it by every rule that applies.

        Args:
            budget: the bounds.
            only: the fields of it that count; empty for all.
        """
        if self.misshapen:
            return (Outcome(State.FAIL, math.nan, None, "of the source's shape", self.misshapen),)
        found = {"min_sqnr": judge_numbers(self.faithful, budget)}
        if self.agreed is not None:
            found["min_agreement"] = judge_agreement(self.agreed, budget)
            if self.agreed.rule.kind is Kind.PIXELS:
                found["min_iou"] = judge_iou(self.agreed, budget)
        if self.scored is not None:
            found["max_drop"] = judge_drop(self.scored, budget)
        return tuple(outcome for name, outcome in found.items() if not only or name in only)

    @property
    def figures(self) -> dict[str, float]:
        """The figures by name, for a report."""
        exact = self.faithful
        figures = {"sqnr": exact.sqnr, "cosine": exact.cosine, "relative_rmse": exact.relative_rmse}
        if exact.spread_sqnr is not None:
            figures["spread_sqnr"] = exact.spread_sqnr
        if self.agreed is not None:
            figures["top1"] = self.agreed.top1.value
            figures |= {"top5": self.agreed.top5.value} if self.agreed.top5 else {}
            figures |= {"iou": self.agreed.iou} if self.agreed.ious else {}
        if self.scored is not None:
            scored = self.scored
            figures |= {"accuracy_before": scored.before.value, "accuracy_after": scored.after.value}
            figures |= {"mcnemar_p": scored.p}
        return figures


class Lossy:
    """Follows one output, batch by batch."""

    def __init__(self, name: str, kind: str | None = None) -> None:
        """Take the name of the output, and what the user says that it decides.

        Raises:
            UsageError: there is no such kind.
        """
        if kind is not None and kind not in set(Kind):
            raise UsageError(
                f"there is no kind '{kind}' of output{nearest(kind, Kind)}", fix=f"one of {', '.join(Kind)}"
            )
        self._name = name
        self._looks = Looks(name, None if kind is None else Kind(kind))
        self._fidelity = Fidelity()
        self._agreements: dict[Rule, Agreement] = {}
        self._accuracies: dict[Rule, Accuracy] = {}
        self._misshapen: str | None = None

    def add(self, reference: Array, candidate: Array, first_id: int, labels: Array | None = None) -> None:
        """Compare a batch.

        Args:
            reference: the source's answers, samples first.
            candidate: the artifact's.
            first_id: the number of the first sample of the batch.
            labels: the right class of each sample.

        Raises:
            UsageError: the output can't be what the user says, or the labels do not fit it.
        """
        if reference.shape != candidate.shape:
            shapes = f"{list(candidate.shape)} where the source's is {list(reference.shape)}"
            self._misshapen = self._misshapen or f"has shape {shapes}, at sample {first_id}"
            return
        self._fidelity.add(reference, candidate, first_id)
        for rule in self._looks.add(np.atleast_1d(reference)):
            ours, theirs = np.atleast_1d(reference), np.atleast_1d(candidate)
            self._agreements.setdefault(rule, Agreement(rule)).add(ours, theirs, first_id)
            if labels is not None:
                self._accuracies.setdefault(rule, Accuracy(rule)).add(ours, theirs, labels, first_id)

    def result(self, *, labelled: bool = False) -> Found:
        """Give what was found so far.

        Args:
            labelled: whether accuracy is asked for.

        Raises:
            UsageError: it is, and the output decides nothing.
        """
        reading = self._looks.reading()
        if labelled and reading.rule is None:
            raise UsageError(
                f"there are labels, but {self._name} was taken for something that decides nothing",
                details=[reading.words],
                fix=f"say what it is: {', '.join(Kind)}",
            )
        agreement = self._agreements.get(reading.rule) if reading.rule else None
        accuracy = self._accuracies.get(reading.rule) if reading.rule else None
        return Found(
            self._name,
            reading,
            self._fidelity.result(),
            agreement.result() if agreement else None,
            accuracy.result() if accuracy else None,
            self._misshapen,
        )
