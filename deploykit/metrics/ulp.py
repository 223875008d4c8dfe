"""The distance in units in the last place: how many float32 numbers lie between both."""

from dataclasses import dataclass, field

import numpy as np

from deploykit.metrics import Metric
from deploykit.tensors import Array


@dataclass(frozen=True)
class Ulp(Metric):
    """A quantile of the distances in float32 steps; a NaN on one side only is infinitely far."""

    quantile: float = field(
        default=0.5, metadata={"help": "share of the values that are no farther: 0.5 is the median"}
    )

    def measure(self, reference: Array, candidate: Array) -> float:
        """Give the distance that this share of the values does not exceed: one that occurs, none in between."""
        return float(np.quantile(distances(reference, candidate), self.quantile, method="inverted_cdf"))


def distances(reference: Array, candidate: Array) -> Array:
    """Count the float32 steps from one value to the other, for each pair.

    Bits of positive floats, read as whole numbers, are in the order of the floats, and neighbours differ by one (IEEE
    754); of the negative ones they run the other way, and both zeros are the same place.
    """
    ours, theirs = _places(reference), _places(candidate)
    apart = np.abs(ours - theirs).astype(np.float64)
    no_number, other = np.isnan(reference), np.isnan(candidate)
    return np.where(no_number & other, 0.0, np.where(no_number | other, np.inf, apart))


def _places(values: Array) -> Array:
    with np.errstate(over="ignore"):
        bits = np.asarray(values).astype(np.float32).view(np.int32).astype(np.int64)
    return np.where(bits < 0, np.iinfo(np.int32).min - bits, bits)
