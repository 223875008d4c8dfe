"""The cosine of the angle between both."""

import math
from dataclasses import dataclass

import numpy as np

from deploykit.metrics import Metric, Parts
from deploykit.tensors import Array


@dataclass(frozen=True)
class Cosine(Metric):
    """reference · candidate / (|reference| |candidate|), 1 where both are zero."""

    def parts(self, reference: Array, candidate: Array) -> Parts:
        """Keep the product of both, and the square of each."""
        one, other = reference.ravel(), candidate.ravel()
        return float(np.dot(one, other)), float(np.dot(one, one)), float(np.dot(other, other))

    def figure(self, parts: Parts) -> float:
        """Give the cosine, from -1 to 1."""
        product, one, other = parts
        lengths = math.sqrt(one) * math.sqrt(other)
        return product / lengths if lengths else float(one == other)
