"""The mean absolute difference."""

from dataclasses import dataclass

import numpy as np

from deploykit.metrics import Metric, Parts
from deploykit.tensors import Array


@dataclass(frozen=True)
class MeanAbs(Metric):
    """mean |candidate - reference|, in the unit of the output."""

    def parts(self, reference: Array, candidate: Array) -> Parts:
        """Keep the sum, and of how many."""
        return float(np.sum(np.abs(candidate - reference))), reference.size

    def figure(self, parts: Parts) -> float:
        """Give the mean absolute difference."""
        return float(parts[0] / parts[1])
