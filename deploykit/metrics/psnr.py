"""The peak signal to noise ratio."""

import math
from dataclasses import dataclass, field

import numpy as np

from deploykit.metrics import Metric
from deploykit.tensors import Array


@dataclass(frozen=True)
class Psnr(Metric):
    """10 log10(peak^2 / mean((candidate - reference)^2)), in dB; infinite where both are equal."""

    peak: float = field(default=0.0, metadata={"help": "largest range of values; 0: the range of the reference"})

    def measure(self, reference: Array, candidate: Array) -> float:
        """Give the ratio in dB."""
        noise = float(np.sqrt(np.mean(np.square(candidate - reference))))
        peak = self.peak or float(np.max(reference) - np.min(reference))
        if noise == 0:
            return math.inf
        return 20 * math.log10(peak / noise) if peak else -math.inf
