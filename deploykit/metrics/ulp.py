"""The distance in units in the last place: how many float32 numbers lie between both."""

import math
from dataclasses import dataclass, field

import numpy as np

from deploykit.metrics import Metric, Parts
from deploykit.tensors import Array


@dataclass(frozen=True)
class Ulp(Metric):
    """A quantile of the distances in float32 steps; a NaN on one side only is infinitely far."""

    quantile: float = field(
        default=0.5, metadata={"help": "share of the values that are no farther: 0.5 is the median"}
    )

    def parts(self, reference: Array, candidate: Array) -> Parts:
        """Keep the distances that occur, and how often each does; from 4,096 on they are rounded to as many steps."""
        apart = distances(reference, candidate).ravel()
        mantissa, exponent = np.frexp(apart)
        rounded = np.ldexp(np.floor(np.ldexp(mantissa, _DIGITS)), exponent - _DIGITS)
        return np.unique(np.where(np.isfinite(apart) & (apart >= 2**_DIGITS), rounded, apart), return_counts=True)

    def joined(self, one: Parts, other: Parts) -> Parts:
        """Add up how often each occurs."""
        values, places = np.unique(np.concatenate([one[0], other[0]]), return_inverse=True)
        return values, np.bincount(places, np.concatenate([one[1], other[1]])).astype(np.int64)

    def figure(self, parts: Parts) -> float:
        """Give the distance that this share of the values does not exceed: one that occurs, none in between."""
        values, counts = parts
        reached = np.cumsum(counts)
        return float(values[np.searchsorted(reached, max(1, math.ceil(self.quantile * reached[-1])))])


_DIGITS = 12
"""Binary digits of the distances that are kept, so that there are not as many as values."""


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
