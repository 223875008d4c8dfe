"""The largest relative difference."""

from dataclasses import dataclass

import numpy as np

from deploykit.metrics import Metric, Parts
from deploykit.tensors import Array


@dataclass(frozen=True)
class MaxRel(Metric):
    """max |candidate - reference| / |reference|; infinite where the reference alone is zero."""

    def parts(self, reference: Array, candidate: Array) -> Parts:
        """Keep the largest relative difference."""
        wrong = np.abs(candidate - reference)
        with np.errstate(over="ignore", divide="ignore"):
            ratios = np.divide(wrong, np.abs(reference), out=np.zeros_like(wrong), where=wrong != 0)
        return (float(np.max(ratios)),)

    def joined(self, one: Parts, other: Parts) -> Parts:
        """Keep the larger one."""
        return max(one, other)

    def figure(self, parts: Parts) -> float:
        """Give the largest relative difference."""
        return float(parts[0])
