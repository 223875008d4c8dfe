"""The mean absolute difference."""

from dataclasses import dataclass

import numpy as np

from deploykit.metrics import Metric
from deploykit.tensors import Array


@dataclass(frozen=True)
class MeanAbs(Metric):
    """mean |candidate - reference|, in the unit of the output."""

    def measure(self, reference: Array, candidate: Array) -> float:
        """Give the mean absolute difference."""
        return float(np.mean(np.abs(candidate - reference)))
