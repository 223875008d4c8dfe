"""The largest relative difference."""

from dataclasses import dataclass

import numpy as np

from deploykit.metrics import Metric
from deploykit.tensors import Array


@dataclass(frozen=True)
class MaxRel(Metric):
    """max |candidate - reference| / |reference|; infinite where the reference alone is zero."""

    def measure(self, reference: Array, candidate: Array) -> float:
        """Give the largest relative difference."""
        wrong = np.abs(candidate - reference)
        with np.errstate(over="ignore", divide="ignore"):
            ratios = np.divide(wrong, np.abs(reference), out=np.zeros_like(wrong), where=wrong != 0)
        return float(np.max(ratios))
