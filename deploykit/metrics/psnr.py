"""The peak signal to noise ratio."""

import math
from dataclasses import dataclass, field

import numpy as np

from deploykit.metrics import Metric, Parts
from deploykit.tensors import Array


@dataclass(frozen=True)
class Psnr(Metric):
    """10 log10(peak^2 / mean((candidate - reference)^2)), in dB; infinite where both are equal."""

    peak: float = field(default=0.0, metadata={"help": "largest range of values; 0: the range of the reference"})

    def parts(self, reference: Array, candidate: Array) -> Parts:
        """Keep the sum of squares, of how many, and the range of the reference."""
        squares = float(np.sum(np.square(candidate - reference)))
        return squares, reference.size, float(np.min(reference)), float(np.max(reference))

    def joined(self, one: Parts, other: Parts) -> Parts:
        """Add up the squares, and keep the wider range."""
        return one[0] + other[0], one[1] + other[1], min(one[2], other[2]), max(one[3], other[3])

    def figure(self, parts: Parts) -> float:
        """Give the ratio in dB."""
        squares, count, low, high = parts
        noise = math.sqrt(squares / count)
        peak = self.peak or high - low
        if noise == 0:
            return math.inf
        return 20 * math.log10(peak / noise) if peak else -math.inf
