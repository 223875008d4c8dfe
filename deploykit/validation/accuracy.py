"""Accuracy on labels, before and after: what an artifact lost, and whether that is more than chance."""

from dataclasses import dataclass

import numpy as np

from deploykit.errors import UsageError
from deploykit.tensors import Array
from deploykit.validation.decisions import Kind, Rule
from deploykit.validation.statistics import Pairs, Rate, mcnemar


@dataclass(frozen=True)
class Scored:
    """How often the source and the artifact are right."""

    before: Rate
    after: Rate
    pairs: Pairs
    lost: tuple[int, ...]
    """The samples that the source has right and the artifact wrong."""

    @property
    def p(self) -> float:
        """McNemar's: the chance of as uneven a change between two equally good models."""
        return mcnemar(self.pairs.lost, self.pairs.gained)

    def __str__(self) -> str:
        """Say it in a sentence."""
        pairs = self.pairs
        return (
            f"accuracy {self.before.value:.2%} ({_percent(self.before)}) before, {self.after.value:.2%} "
            f"({_percent(self.after)}) after: {pairs.lost} lost and {pairs.gained} gained of {pairs.total}, "
            f"McNemar p {self.p:.2g}"
        )


def _percent(rate: Rate) -> str:
    return f"{rate.interval.low:.1%} to {rate.interval.high:.1%}"


class Accuracy:
    """Counts batch by batch; memory grows with the lost samples only.

    Of scores that are equal the first counts, as in the argmax of whoever uses the model.
    """

    def __init__(self, rule: Rule) -> None:
        """Take how decisions are read off the output."""
        self._rule = rule
        self._before = self._after = self._gained = self._total = 0
        self._lost: list[int] = []

    def add(self, reference: Array, candidate: Array, labels: Array, first_id: int) -> None:
        """Count a batch.

        Raises:
            UsageError: the labels do not fit the output.
        """
        ours, theirs = self._rule.scores(reference), self._rule.scores(candidate)
        wanted = self._checked(labels, ours.shape)
        before, after = _right(ours, wanted), _right(theirs, wanted)
        self._before += int(before.sum())
        self._after += int(after.sum())
        self._gained += int(np.sum(after & ~before))
        self._total += len(wanted)
        self._lost += [first_id + int(one) for one in np.flatnonzero(before & ~after)]

    def result(self) -> Scored:
        """Give the counts so far."""
        return Scored(
            Rate(self._before, self._total),
            Rate(self._after, self._total),
            Pairs(len(self._lost), self._gained, self._total),
            tuple(sorted(self._lost)),
        )

    def _checked(self, labels: Array, shape: tuple[int, ...]) -> Array:
        samples, positions, classes = shape
        if self._rule.kind is Kind.PIXELS or positions != 1:
            raise UsageError(
                "labels are compared with one decision for each sample, and this output has several",
                fix="leave the labels out: agreement with the source is judged without",
            )
        flat = labels.reshape(-1)
        if len(flat) != samples or labels.ndim not in {1, 2}:
            raise UsageError(
                f"labels of shape {list(labels.shape)} do not go with {samples} samples",
                fix="one number for each sample, in the order of the data: np.save('labels.npy', classes)",
            )
        if flat.dtype.kind not in "iufb":
            raise UsageError(f"labels are {flat.dtype}, not numbers", fix="save the number of each sample's class")
        wrong = (flat != np.floor(flat)) | (flat < 0) | (flat >= classes)
        if wrong.any():
            raise UsageError(
                f"label {flat[np.argmax(wrong)]} is none of the {classes} classes of this output",
                fix=f"number the classes from 0 to {classes - 1}, in the order of the scores",
            )
        return flat.astype(np.int64)


def _right(scores: Array, labels: Array) -> Array:
    rows = scores[:, 0]
    return np.asarray((rows.argmax(axis=-1) == labels) & ~np.isnan(rows).any(axis=-1))
