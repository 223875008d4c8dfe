"""Fingerprints of arrays: a few sums by which the same tensor is known again under another name or layout.

Both sides of a comparison take them, the framework's process and the one that judges, so that tensors are matched
without being sent to and fro. All but ``mark`` stay as they are when axes are swapped or a tensor is reshaped.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from deploykit.tensors import Array

CHUNK = 1 << 20
"""Elements that are turned into float64 at a time."""

_LEAST = 4
"""Elements below which a tensor is too small to be known by its values."""


@dataclass(frozen=True)
class Print:
    """What is known of an array."""

    shape: tuple[int, ...]
    total: float
    absolute: float
    """Sum of the absolute values."""
    square: float
    """Root of the sum of squares."""
    low: float
    high: float
    mark: float
    """Sum of the elements times fixed random signs, which depends on their order."""
    odd: int
    """Elements that are NaN or infinite; they count as zero in the rest."""

    @classmethod
    def of(cls, array: Array) -> Self:
        """Take the fingerprint of a real array that is not empty."""
        total = absolute = square = mark = 0.0
        low, high, odd = np.inf, -np.inf, 0
        for number, part in enumerate(_chunks(array)):
            finite = np.isfinite(part)
            odd += int(part.size - finite.sum())
            values = np.where(finite, part, 0.0)
            signs = np.random.default_rng(number).integers(0, 2, part.size) * 2 - 1
            total += float(values.sum())
            absolute += float(np.abs(values).sum())
            square += float(np.square(values).sum())
            mark += float((values * signs).sum())
            low, high = min(low, float(values.min())), max(high, float(values.max()))
        return cls(array.shape, total, absolute, math.sqrt(square), low, high, mark, odd)

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Self:
        """Take it from its fields, as JSON has them."""
        return cls(**{**fields, "shape": tuple(fields["shape"])})

    def fields(self) -> dict[str, Any]:
        """Give the fields, for JSON."""
        return asdict(self)

    @property
    def telling(self) -> bool:
        """Whether the values say which tensor it is: not where they are few, or all the same."""
        return math.prod(self.shape) >= _LEAST and self.low < self.high

    def distance(self, other: Self) -> float:
        """Say how far two arrays are apart at least, in relation to their size; infinite where they can't be one."""
        if sorted(_wide(self.shape)) != sorted(_wide(other.shape)) and math.prod(self.shape) != math.prod(other.shape):
            return float("inf")
        if self.odd != other.odd:
            return float("inf")
        most = max(abs(self.low), abs(self.high), abs(other.low), abs(other.high))
        sums = max(self.absolute, other.absolute)
        if most == 0:  # both are all zeros
            return 0.0
        apart = max(abs(self.total - other.total), abs(self.absolute - other.absolute)) / sums
        length = abs(self.square - other.square) / max(self.square, other.square)
        ends = max(abs(self.low - other.low), abs(self.high - other.high)) / most
        return float(max(apart, length, ends))

    def laid_out_as(self, other: Self, within: float) -> bool:
        """Whether the elements of two arrays that are the same by value stand in the same order."""
        far = abs(self.mark - other.mark) / max(self.square, other.square, np.finfo(np.float64).tiny)
        return self.shape == other.shape and far <= within * math.sqrt(max(1, math.prod(self.shape)))


def _wide(shape: tuple[int, ...]) -> list[int]:
    return [size for size in shape if size != 1]


def _chunks(array: Array) -> Iterator[Array]:
    flat = np.ascontiguousarray(array).reshape(-1)
    for start in range(0, flat.size, CHUNK):
        yield flat[start : start + CHUNK].astype(np.float64)
