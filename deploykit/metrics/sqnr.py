"""The signal to quantization noise ratio."""

import math
from dataclasses import dataclass

import numpy as np

from deploykit.metrics import Metric, Parts
from deploykit.tensors import Array


@dataclass(frozen=True)
class Sqnr(Metric):
    """10 log10(sum(reference^2) / sum((candidate - reference)^2)), in dB; infinite where both are equal."""

    def parts(self, reference: Array, candidate: Array) -> Parts:
        """Keep the sums of squares of the reference and of what is wrong."""
        return float(np.sum(np.square(reference))), float(np.sum(np.square(candidate - reference)))

    def figure(self, parts: Parts) -> float:
        """Give the ratio in dB."""
        signal, noise = parts
        if noise == 0:
            return math.inf
        return 10 * math.log10(signal / noise) if signal else -math.inf
