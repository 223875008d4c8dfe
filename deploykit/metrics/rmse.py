"""The root of the mean squared difference."""

from dataclasses import dataclass

import numpy as np

from deploykit.metrics import Metric
from deploykit.tensors import Array


@dataclass(frozen=True)
class Rmse(Metric):
    """sqrt(mean((candidate - reference)^2)), in the unit of the output."""

    def measure(self, reference: Array, candidate: Array) -> float:
        """Give the root mean square difference."""
        return float(np.sqrt(np.mean(np.square(candidate - reference))))
