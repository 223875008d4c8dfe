"""The root of the mean squared difference."""

import math
from dataclasses import dataclass

import numpy as np

from deploykit.metrics import Metric, Parts
from deploykit.tensors import Array


@dataclass(frozen=True)
class Rmse(Metric):
    """sqrt(mean((candidate - reference)^2)), in the unit of the output."""

    def parts(self, reference: Array, candidate: Array) -> Parts:
        """Keep the sum of squares, and of how many."""
        return float(np.sum(np.square(candidate - reference))), reference.size

    def figure(self, parts: Parts) -> float:
        """Give the root mean square difference."""
        return math.sqrt(parts[0] / parts[1])
