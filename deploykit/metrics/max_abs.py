"""The largest absolute difference."""

from dataclasses import dataclass

import numpy as np

from deploykit.metrics import Metric, Parts
from deploykit.tensors import Array


@dataclass(frozen=True)
class MaxAbs(Metric):
    """max |candidate - reference|, in the unit of the output."""

    def parts(self, reference: Array, candidate: Array) -> Parts:
        """Keep the largest absolute difference."""
        return (float(np.max(np.abs(candidate - reference))),)

    def joined(self, one: Parts, other: Parts) -> Parts:
        """Keep the larger one."""
        return max(one, other)

    def figure(self, parts: Parts) -> float:
        """Give the largest absolute difference."""
        return float(parts[0])
