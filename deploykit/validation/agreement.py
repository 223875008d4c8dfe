"""Decision agreement: does a lossy artifact decide as its source does, sample by sample?

A source that gives two classes the same score leaves it open: either is right. An artifact that does so where its
source decides has half decided, and gets the share that a coin would: not all, or a dead artifact, all of whose scores
are equal, would agree with everything. Where the source gives all classes the same score there is nothing to agree on,
and the sample is left out.
"""

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from deploykit.tensors import Array
from deploykit.validation.decisions import Kind, Rule
from deploykit.validation.standing import Standing
from deploykit.validation.statistics import Rate

_TOP = 5
_KEPT = 16
"""Images with the lowest agreement that are kept: of pixels, a few flip in nearly every image."""


@dataclass(frozen=True)
class Flip:
    """A sample that the artifact decides otherwise."""

    sample: int
    reference: int
    """The class of the source."""
    candidate: int
    """The class of the artifact, -1 where that is NaN."""
    margin: float
    """How far the source's best score is over its next: what it would take to flip the source itself."""


@dataclass(frozen=True)
class Agreed:
    """How far an artifact decides as its source does."""

    rule: Rule
    top1: Rate
    """Samples with the same decision; of a sample with many positions, the share of them."""
    top5: Rate | None
    """Samples whose class is among the artifact's first five; None for five classes or fewer."""
    flips: tuple[Flip, ...]
    """By sample; empty for pixels."""
    ties: int
    """Positions where the artifact's best scores are equal and its source's are not."""
    open: int
    """Samples left out, since the source decides nothing there."""
    classes: int
    """How many classes the source decides for, over all samples."""
    ious: Mapping[int, float]
    """For pixels: intersection over union of each class that the source sees; of a mask, for yes only."""
    lowest: tuple[tuple[int, float], ...]
    """For pixels: the samples that agree least, with the share that does, the least first."""

    @property
    def iou(self) -> float:
        """The mean over the classes, NaN where there is none."""
        return math.fsum(self.ious.values()) / len(self.ious) if self.ious else math.nan

    @property
    def samples(self) -> tuple[int, ...]:
        """The ids of the flipped samples, each once."""
        return tuple(dict.fromkeys(flip.sample for flip in self.flips))

    def __str__(self) -> str:
        """Say it in a sentence: ``7 of 1000 flipped, all with a margin under 0.02``."""
        if not self.top1.total:
            return "no sample on which the source decides"
        if self.rule.kind is Kind.PIXELS:
            return f"{self.top1.value:.4%} of the pixels of {self.top1.total} samples agree, mean IoU {self.iou:.4f}"
        tied = f"; {self.ties} tied where the source decides" if self.ties else ""
        count = f"{len(self.flips)} of {self.top1.total} flipped"
        if len(self.samples) < len(self.flips):
            count = f"{len(self.flips)} positions flipped, in {len(self.samples)} of {self.top1.total} samples"
        widest = max((flip.margin for flip in self.flips), default=None)
        return count + ("" if widest is None else f", {_margins(widest, len(self.flips))}") + tied


def _margins(widest: float, count: int) -> str:
    all_of_them = "all with" if count > 1 else "with"
    if widest == 0 or not math.isfinite(widest):
        return f"{all_of_them} a margin of 0" if widest == 0 else "with margins up to infinity"
    return f"{all_of_them} a margin under {_just_over(widest)}"


def _just_over(value: float) -> str:
    """Give the next number of one digit over a value."""
    power = math.floor(math.log10(value))
    digit = int(f"{value:.0e}"[0])
    texts = (f"{float(f'{digit + more}e{power + shift}'):g}" for shift in (0, 1) for more in (0, 1, 2))
    return min((text for text in texts if float(text) > value), key=float)


class Agreement:
    """Compares decisions batch by batch; memory grows with the flipped samples only."""

    def __init__(self, rule: Rule) -> None:
        """Take how decisions are read off the output."""
        self._rule = rule
        self._hits: dict[int, float] = {1: 0.0, _TOP: 0.0}
        self._total: dict[int, int] = {1: 0, _TOP: 0}
        self._flips: list[Flip] = []
        self._lowest: list[tuple[float, int]] = []
        self._ties = self._open = 0
        self._classes: set[int] = set()
        self._both, self._either = np.zeros(0, np.int64), np.zeros(0, np.int64)

    def add(self, reference: Array, candidate: Array, first_id: int) -> None:
        """Compare a batch.

        Args:
            reference: the source's answers, samples first.
            candidate: the artifact's, of the same shape.
            first_id: the number of the first sample of the batch.
        """
        if not reference.size:
            return
        ours, theirs = self._rule.scores(reference), self._rule.scores(candidate)
        found = Standing.of(ours, theirs)
        decided, first = found.decided, found.shares(1)
        means = self._count(1, first, decided)
        if ours.shape[-1] > _TOP and self._rule.kind is Kind.CLASSES:
            self._count(_TOP, found.shares(_TOP), decided)
        chosen = ours.argmax(axis=-1)
        self._open += int(np.sum(~decided.any(axis=1)))
        self._ties += int(np.sum(decided & (first > 0) & (first < 1)))
        self._classes.update(np.unique(chosen[decided]).tolist())
        if self._rule.kind is Kind.PIXELS:
            taken = np.where(found.spoilt, theirs.shape[-1], theirs.argmax(axis=-1))
            own = np.where(first == 1, taken, chosen)  # where the source leaves it open, the artifact's class is right
            self._areas(own[decided], taken[decided], theirs.shape[-1])
            self._keep_lowest(means, first_id)
        else:
            self._keep_flips(np.argwhere(decided & (first == 0)), ours, theirs, first_id)

    def result(self) -> Agreed:
        """Give what was found so far."""
        first = 0 if self._rule.threshold is None else 1  # of a mask, what is outside it is no class
        seen = [one for one in range(first, len(self._either)) if one in self._classes and self._either[one]]
        return Agreed(
            self._rule,
            Rate(self._hits[1], self._total[1]),
            Rate(self._hits[_TOP], self._total[_TOP]) if self._total[_TOP] else None,
            tuple(sorted(self._flips, key=lambda flip: flip.sample)),
            self._ties,
            self._open,
            len(self._classes),
            {one: float(self._both[one] / self._either[one]) for one in seen},
            tuple((-sample, -share) for share, sample in sorted(self._lowest, reverse=True)),
        )

    def _count(self, top: int, shares: Array, decided: Array) -> Array:
        """Add up the samples' shares, and give them; NaN for a sample on which the source decides nothing."""
        positions = decided.sum(axis=1)
        agreeing = np.where(decided, shares, 0).sum(axis=1)
        means: Array = np.divide(agreeing, positions, out=np.full(len(positions), np.nan), where=positions > 0)
        self._hits[top] += float(np.nansum(means))
        self._total[top] += int(np.count_nonzero(positions))
        return means

    def _keep_flips(self, flipped: Array, ours: Array, theirs: Array, first_id: int) -> None:
        for sample, position in flipped:
            own, other = ours[sample, position], theirs[sample, position]
            second, first = np.partition(own.astype(np.float64), -2)[-2:]
            margin = float(first) - float(second) if first != second else 0.0
            taken = -1 if np.isnan(other).any() else int(other.argmax())
            self._flips.append(Flip(first_id + int(sample), int(own.argmax()), taken, margin))

    def _keep_lowest(self, means: Array, first_id: int) -> None:
        for sample in np.flatnonzero(means < 1):
            heapq.heappush(self._lowest, (-float(means[sample]), -first_id - int(sample)))
            if len(self._lowest) > _KEPT:
                heapq.heappop(self._lowest)

    def _areas(self, own: Array, taken: Array, count: int) -> None:
        """Add to what both have in each class, and to what either has."""
        both, ours, theirs = (np.bincount(part, minlength=count)[:count] for part in (own[own == taken], own, taken))
        if not len(self._either):
            self._both, self._either = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self._both += both
        self._either += ours + theirs - both
