"""Where the source's choice stands among an artifact's scores: first, among the first five, tied, or behind."""

from dataclasses import dataclass
from math import comb

import numpy as np

from deploykit.tensors import Array


@dataclass(frozen=True)
class Standing:
    """For each position of each sample: the artifact's scores, seen from the class that the source chose.

    Of classes that the source scores equal, the one that the artifact scores highest counts.
    """

    decided: Array
    """Whether the source decides at all: its scores are numbers, and not all equal."""
    spoilt: Array
    """Whether a score of the artifact is NaN."""
    ahead: Array
    """Classes that the artifact scores higher than the source's choice."""
    tied: Array
    """Classes that it scores the same, with the choice itself."""
    right: Array
    """Those of the tied that the source would have as well."""

    @classmethod
    def of(cls, reference: Array, candidate: Array) -> "Standing":
        """Compare scores of samples x positions x classes."""
        best: Array = np.equal(reference, reference.max(axis=-1, keepdims=True))
        chosen = np.where(best, candidate, -np.inf).max(axis=-1, keepdims=True)
        level: Array = np.equal(candidate, chosen)
        return cls(
            np.asarray(~np.isnan(reference).any(axis=-1) & ~best.all(axis=-1)),
            np.asarray(np.isnan(candidate).any(axis=-1)),
            (candidate > chosen).sum(axis=-1),
            level.sum(axis=-1),
            (level & best).sum(axis=-1),
        )

    def shares(self, top: int) -> Array:
        """Give the chance that the choice is among the artifact's first ``top``, ties being drawn by lot."""
        slots = top - self.ahead
        found = np.where((slots >= self.tied) & ~self.spoilt, 1.0, 0.0)
        for index in zip(*np.nonzero((slots > 0) & (slots < self.tied) & ~self.spoilt), strict=True):
            left, tied, right = int(slots[index]), int(self.tied[index]), int(self.right[index])
            found[index] = 1 - comb(tied - right, left) / comb(tied, left)
        return found
