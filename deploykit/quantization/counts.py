"""How often which value of a tensor came: counts that need no range beforehand, and add up.

Values are counted by the upper half of their float32 bits: sign, exponent and 7 bits of mantissa, as bfloat16 cut off.
That makes 65,536 bins, each at most 0.8 % of its value wide. They are the same for every tensor, so that one pass is
enough, nothing is ever rescaled, and the counts of many machines are added.
"""

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from deploykit.errors import ModelError
from deploykit.tensors import Array

BINS = 1 << 16
_INFINITE = 0x7F80
"""The bin of infinity; above it, without the sign, are the numbers that are none."""
_SMALL = 2.0**-14
"""Part of the largest value under which values are zero to every grid that is worth it."""
_AT_MOST = 1 << 16
"""Values of one call that are counted: of a larger tensor every n-th. Its smallest and largest are always exact."""


@dataclass
class Counts:
    """What was seen of one tensor."""

    bins: Array = field(default_factory=lambda: np.zeros(BINS, np.int64))
    lowest: float = np.inf
    highest: float = -np.inf
    sum_of_lowest: float = 0.0
    """Over the calls: their average is what a single outlier does not move."""
    sum_of_highest: float = 0.0
    calls: int = 0
    grew_at: int = 0
    """The last call, counted from 1, that made the range larger by more than a hundredth."""

    def add(self, array: Array) -> None:
        """Count the values of one call.

        Raises:
            ModelError: one of them is infinite or no number.
        """
        flat = np.ascontiguousarray(array, np.float32).reshape(-1)
        self.calls += 1
        if not flat.size:
            return
        low, high = float(flat.min()), float(flat.max())
        if not np.isfinite(low) or not np.isfinite(high):
            raise ModelError("some values are infinite or no numbers", fix="look at the samples: are they as in use?")
        span = self.span
        if max(high, 0.0, self.highest) - min(low, 0.0, self.lowest) > 1.01 * span:
            self.grew_at = self.calls
        self.lowest, self.highest = min(self.lowest, low), max(self.highest, high)
        self.sum_of_lowest += low
        self.sum_of_highest += high
        step = -(-flat.size // _AT_MOST)
        bits = flat[:: step | 1].view(np.uint32) >> 16  # an odd step does not stay on the same channels
        self.bins += np.bincount(bits, minlength=BINS)

    def merged(self, other: "Counts") -> "Counts":
        """Give the counts of both."""
        return Counts(
            self.bins + other.bins,
            min(self.lowest, other.lowest),
            max(self.highest, other.highest),
            self.sum_of_lowest + other.sum_of_lowest,
            self.sum_of_highest + other.sum_of_highest,
            self.calls + other.calls,
            self.calls + other.grew_at if other.grew_at and other.span > 1.01 * self.span else self.grew_at,
        )

    @property
    def span(self) -> float:
        """From the lowest value to the highest, and to zero."""
        return max(self.highest, 0.0) - min(self.lowest, 0.0)

    def values(self) -> "Values":
        """Give the values that came, in ascending order."""
        seen = np.flatnonzero(self.bins)
        magnitudes = seen & 0x7FFF
        lower = (magnitudes.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        upper = ((magnitudes + 1).astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        upper = np.minimum(upper, max(abs(self.lowest), abs(self.highest)))
        lower = np.minimum(lower, upper)
        middle = np.where(magnitudes == 0, 0.0, (lower + upper) / 2)  # nearly all of what is in the first bin is zero
        signs = np.where(seen & 0x8000, -1.0, 1.0)
        counts = self.bins[seen].astype(np.float64)
        small = upper < _SMALL * max(upper, default=0.0)
        middle[small], upper[small], lower[small] = 0.0, 0.0, 0.0
        kept = np.append(np.flatnonzero(~small), np.flatnonzero(small)[:1])
        if small.any():
            counts[kept[-1]] = counts[small].sum()
        order = kept[np.argsort((signs * middle)[kept], kind="stable")]
        return Values((signs * middle)[order], (upper - lower)[order], counts[order])

    def to_json(self) -> dict[str, Any]:
        """Give what JSON can hold; only bins that are not empty."""
        seen = np.flatnonzero(self.bins)
        return {
            "bins": seen.tolist(),
            "counts": self.bins[seen].tolist(),
            "lowest": self.lowest,
            "highest": self.highest,
            "sum_of_lowest": self.sum_of_lowest,
            "sum_of_highest": self.sum_of_highest,
            "calls": self.calls,
            "grew_at": self.grew_at,
        }

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Self:
        """Read them back.

        Raises:
            ValueError, TypeError, KeyError, IndexError: they are not whole.
        """
        bins = np.zeros(BINS, np.int64)
        bins[np.asarray(kept["bins"], np.int64)] = kept["counts"]
        ends = [float(kept[name]) for name in ("lowest", "highest", "sum_of_lowest", "sum_of_highest")]
        return cls(bins, ends[0], ends[1], ends[2], ends[3], int(kept["calls"]), int(kept["grew_at"]))


@dataclass(frozen=True)
class Values:
    """Values in ascending order, each standing for those of its bin."""

    middle: Array
    width: Array
    """Of the bin."""
    counts: Array
