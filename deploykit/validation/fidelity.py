"""How much of a source's numbers is left in a lossy artifact's: SQNR, cosine and relative RMSE, streamed in float64.

An output may be nearly constant: large, and hardly different from sample to sample. A dead artifact that always gives
the mean is then close to it in every figure. So the error is also set against what changes from sample to sample, which
for such an artifact gives 0 dB or less.
"""

import math
from dataclasses import dataclass

import numpy as np

from deploykit.tensors import Array

_SHAPES = 8
"""Shapes of answers whose mean is followed; of more, the rest tells nothing about constancy."""


@dataclass(frozen=True)
class Faithful:
    """How close the numbers of one output are."""

    sqnr: float
    """Signal to quantization noise, 10 log10(sum(reference^2) / sum(error^2)) dB; infinite where nothing differs."""
    cosine: float
    relative_rmse: float
    """RMS error over the RMS of the reference."""
    spread_sqnr: float | None
    """As SQNR, of what differs between samples; None where no two samples have the same shape."""
    constant: bool
    """Whether the source gives every sample the very same answer."""
    worst: tuple[int, float] | None
    """The sample with the largest RMS error, and its own SQNR."""
    samples: int
    values: int
    """Numbers that were compared, all of them finite."""
    unlike: int
    """Numbers that are NaN or infinite on one side and not, or otherwise, on the other."""
    first_unlike: int | None
    """The first sample with such a number."""


class Fidelity:
    """Adds up batch by batch; memory is that of one sample."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._signal = self._noise = self._other = self._dot = 0.0
        self._samples = self._values = self._unlike = 0
        self._scale: float | None = None
        self._first: int | None = None
        self._worst: tuple[float, float, int] | None = None
        self._spreads: dict[tuple[int, ...], _Spread] = {}

    def add(self, reference: Array, candidate: Array, first_id: int) -> None:
        """Compare a batch: numbers of the same shape, samples first."""
        ours, theirs = _rows(reference), _rows(candidate)
        finite = np.isfinite(ours) & np.isfinite(theirs)
        self._note_unlike(~finite & (ours != theirs) & ~(np.isnan(ours) & np.isnan(theirs)), first_id)
        ours, theirs = np.where(finite, ours, 0), np.where(finite, theirs, 0)
        self._scale = self._scale or _scale(ours)
        shape, values = reference.shape[1:], finite.sum(axis=1)
        with np.errstate(over="ignore", invalid="ignore"):  # an artifact as far off as that is infinitely so
            self._sum(ours * (self._scale or 1), theirs * (self._scale or 1), values, (first_id, shape))

    def _sum(self, ours: Array, theirs: Array, values: Array, place: tuple[int, tuple[int, ...]]) -> None:
        signal, noise = _squares(ours), _squares(theirs - ours)
        self._signal += math.fsum(signal)
        self._noise += math.fsum(noise)
        self._other += math.fsum(_squares(theirs))
        self._dot += float(np.sum(ours * theirs))
        self._samples += len(ours)
        self._values += int(values.sum())
        self._note_worst(signal, noise, values, place[0])
        self._note_spread(place[1], ours, float(noise.sum()))

    def result(self) -> Faithful:
        """Give the figures so far."""
        several = [spread for spread in self._spreads.values() if spread.samples > 1]
        signal = math.fsum(spread.signal for spread in several)
        lengths = math.sqrt(self._signal) * math.sqrt(self._other)
        return Faithful(
            sqnr=_decibels(self._signal, self._noise),
            cosine=self._dot / lengths if lengths else float(self._signal == self._other),
            relative_rmse=math.sqrt(self._noise / self._signal) if self._signal else math.inf if self._noise else 0.0,
            spread_sqnr=_decibels(signal, math.fsum(spread.noise for spread in several)) if several else None,
            constant=bool(several) and signal == 0,
            worst=(self._worst[2], _decibels(self._worst[1], self._worst[0])) if self._worst else None,
            samples=self._samples,
            values=self._values,
            unlike=self._unlike,
            first_unlike=self._first,
        )

    def _note_unlike(self, unlike: Array, first_id: int) -> None:
        found = np.flatnonzero(unlike.any(axis=1))
        self._unlike += int(np.count_nonzero(unlike))
        if len(found):
            first = first_id + int(found[0])
            self._first = first if self._first is None else min(first, self._first)

    def _note_worst(self, signal: Array, noise: Array, values: Array, first_id: int) -> None:
        means = np.divide(noise, values, out=np.zeros(len(noise)), where=values > 0)
        if not len(means) or not means.max() > 0:
            return
        worst = int(means.argmax())
        found = (float(means[worst]), float(signal[worst] / values[worst]), first_id + worst)
        self._worst = max(self._worst or found, found)

    def _note_spread(self, shape: tuple[int, ...], ours: Array, noise: float) -> None:
        if len(ours) and (shape in self._spreads or len(self._spreads) < _SHAPES):
            self._spreads.setdefault(shape, _Spread(ours[0])).add(ours, noise)


class _Spread:
    """The variance of the answers of one shape, about the first of them: a large mean does not swallow it."""

    def __init__(self, first: Array) -> None:
        self._first = first
        self._sum = np.zeros_like(first)
        self._squares = 0.0
        self.noise = 0.0
        self.samples = 0

    def add(self, rows: Array, noise: float) -> None:
        apart = rows - self._first
        self._sum += apart.sum(axis=0)
        self._squares += float(_squares(apart).sum())
        self.noise += noise
        self.samples += len(rows)

    @property
    def signal(self) -> float:
        return max(0.0, self._squares - float(np.dot(self._sum, self._sum)) / self.samples)


def _rows(array: Array) -> Array:
    """Give one row of float64 for each sample; complex numbers as pairs."""
    whole = np.atleast_1d(array)
    if whole.dtype.kind == "c":
        whole = np.ascontiguousarray(whole.astype(np.complex128)[..., None]).view(np.float64)
    return whole.astype(np.float64).reshape(len(whole), math.prod(whole.shape[1:]))


def _scale(rows: Array) -> float | None:
    """Give the power of two that brings values to about 1, so that no square overflows; None of zeros."""
    largest = float(np.abs(rows).max(initial=0))
    return 2.0 ** -max(-1000, math.frexp(largest)[1]) if largest else None


def _squares(rows: Array) -> Array:
    return np.asarray(np.einsum("ij,ij->i", rows, rows))


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 10 * (math.log10(signal) - math.log10(noise)) if signal > 0 else -math.inf
