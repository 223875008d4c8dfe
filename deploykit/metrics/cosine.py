"""The cosine of the angle between both."""

from dataclasses import dataclass

import numpy as np

from deploykit.metrics import Metric
from deploykit.tensors import Array


@dataclass(frozen=True)
class Cosine(Metric):
    """reference · candidate / (|reference| |candidate|), 1 where both are zero."""

    def measure(self, reference: Array, candidate: Array) -> float:
        """Give the cosine, from -1 to 1."""
        one, other = reference.ravel(), candidate.ravel()
        lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
        if lengths == 0:
            return 1.0 if np.array_equal(one, other) else 0.0
        return float(np.dot(one, other)) / lengths
