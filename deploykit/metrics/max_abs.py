"""The largest absolute difference."""

from dataclasses import dataclass

import numpy as np

from deploykit.metrics import Metric
from deploykit.tensors import Array


@dataclass(frozen=True)
class MaxAbs(Metric):
    """max |candidate - reference|, in the unit of the output."""

    def measure(self, reference: Array, candidate: Array) -> float:
        """Give the largest absolute difference."""
        return float(np.max(np.abs(candidate - reference)))
