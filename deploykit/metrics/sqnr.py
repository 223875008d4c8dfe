"""The signal to quantization noise ratio."""

import math
from dataclasses import dataclass

import numpy as np

from deploykit.metrics import Metric
from deploykit.tensors import Array


@dataclass(frozen=True)
class Sqnr(Metric):
    """10 log10(sum(reference^2) / sum((candidate - reference)^2)), in dB; infinite where both are equal."""

    def measure(self, reference: Array, candidate: Array) -> float:
        """Give the ratio in dB."""
        noise = float(np.sum(np.square(candidate - reference)))
        signal = float(np.sum(np.square(reference)))
        if noise == 0:
            return math.inf
        return 10 * math.log10(signal / noise) if signal else -math.inf
