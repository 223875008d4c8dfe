"""How far a tensor and its counterpart are apart, in noise floors, without holding either in float64."""

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from deploykit.child.prints import CHUNK
from deploykit.tensors import Array
from deploykit.validation.tolerance import unit_of

_MOST_AXES = 5
"""Axes up to which every order of them is tried."""
_ELEMENTS = 3
"""Floors that the largest error of one element may be at least, as in tolerance.py."""


@dataclass(frozen=True)
class Apart:
    """Sums over the elements of a tensor, of one case or of several."""

    count: int = 0
    wrong: float = 0.0
    """Sum of the squared errors of the artifact."""
    noise: float = 0.0
    """Sum of the squared errors of the reference's other run."""
    size: float = 0.0
    """Sum of the squared values."""
    most_wrong: float = 0.0
    most_noise: float = 0.0
    largest: float = 0.0
    """Largest absolute value."""
    unit: float = 0.0
    """Rounding of the element type."""
    odd: int = 0
    """Elements that are NaN or infinite on one side, and not the same on the other."""
    form: str = ""
    """How the shapes differ, where they do so that nothing can be compared."""

    @property
    def error(self) -> float:
        """RMS error in relation to the RMS of the values; infinite where what is not finite is in other places."""
        return float("inf") if self.odd or self.form else self._relative(self.wrong)

    def floor(self, quantum: float = 0.0) -> float:
        """Give the RMS of the noise in the same unit; at least the rounding, or a quantum's, of the type.

        Args:
            quantum: a step of the artifact's numbers, as a share of the largest value.
        """
        steps = quantum * self.largest / _rms(self.size, self.count) / 12**0.5 if self.size else 0.0
        return max(self._relative(self.noise), self.unit, steps)

    def ratio(self, quantum: float = 0.0) -> float:
        """Give the noise ratio: of the whole, or of the largest element, whichever is worse."""
        if self.odd or self.form:
            return float("inf")
        if not self.wrong:
            return 0.0
        floor = self.floor(quantum) * (_rms(self.size, self.count) if self.size else 1.0)
        element = self.most_wrong / max(self.most_noise, _ELEMENTS * floor)
        return max(_rms(self.wrong, self.count) / floor, element)

    def _relative(self, squares: float) -> float:
        if not squares:
            return 0.0
        return float(np.sqrt(squares / self.size)) if self.size else float("inf")

    def __add__(self, other: "Apart") -> "Apart":
        """Pool the sums of two cases."""
        return Apart(
            self.count + other.count,
            self.wrong + other.wrong,
            self.noise + other.noise,
            self.size + other.size,
            max(self.most_wrong, other.most_wrong),
            max(self.most_noise, other.most_noise),
            max(self.largest, other.largest),
            max(self.unit, other.unit),
            self.odd + other.odd,
            self.form or other.form,
        )


def apart(reference: Array, noisy: Array, candidate: Array) -> Apart:
    """Add up how far an answer is from the reference, and how far the reference's other run is.

    Args:
        reference: the best that is known of the tensor; any real dtype.
        noisy: of the same shape: an answer that is as good as the reference's own arithmetic.
        candidate: of the same shape: the artifact's.
    """
    sums = Apart(unit=unit_of(str(noisy.dtype)))
    flat = [np.ascontiguousarray(array).reshape(-1) for array in (reference, noisy, candidate)]
    filled = _filled_from(flat[0])
    for start in range(0, flat[0].size, CHUNK):
        one, other, found = (array[start : start + CHUNK].astype(np.float64) for array in flat)
        sums += _of(one, other, found, filled)
    return sums


_FILLED, _RATHER = 1e4, 1e-3
"""What a mask fills in is so large, and so many times as large as the rest, which is under such a share of it."""
_STILL_FILLED = 1e3
"""What a converter to float16 may clamp a filling to is larger: -65504, or -1e4."""
_SOME = 0.01
"""The least share of the values that the rest must be."""


def _filled_from(values: Array) -> float:
    """Give the size from which values are what a mask fills in, as -1e9: beside them all errors look small."""
    if values.dtype.kind != "f":
        return float("inf")
    sizes = np.abs(values[np.isfinite(values)])
    largest = float(sizes.max(initial=0.0))
    rest = sizes[sizes < _RATHER * largest]
    usual = float(rest.mean(dtype=np.float64)) if rest.size >= max(1.0, _SOME * sizes.size) else 0.0
    return _RATHER * largest if usual > 0 and largest >= _FILLED * max(1.0, usual) else float("inf")


def _of(reference: Array, noisy: Array, candidate: Array, filled: float) -> Apart:
    fine = np.isfinite(reference) & np.isfinite(candidate) & np.isfinite(noisy)
    same = (reference == candidate) | (np.isnan(reference) & np.isnan(candidate))
    odd = int(np.sum(~same & ~(np.isfinite(reference) & np.isfinite(candidate))))
    masked = fine & (np.abs(reference) >= filled)
    odd += int(np.sum(masked & (np.abs(candidate) < _STILL_FILLED)))
    fine &= ~masked
    reference, noisy, candidate = (np.where(fine, part, 0.0) for part in (reference, noisy, candidate))
    wrong, noise, size = np.abs(candidate - reference), np.abs(noisy - reference), np.abs(reference)
    return Apart(
        count=int(fine.sum()),
        wrong=float(np.square(wrong).sum()),
        noise=float(np.square(noise).sum()),
        size=float(np.square(size).sum()),
        most_wrong=float(wrong.max(initial=0.0)),
        most_noise=float(noise.max(initial=0.0)),
        largest=float(size.max(initial=0.0)),
        odd=odd,
    )


def reshaped(reference: Array, candidate: Array) -> Apart:
    """Say that two tensors which should be the same have other shapes."""
    return Apart(form=f"has shape {list(candidate.shape)} where the source's has {list(reference.shape)}")


def aligned(reference: Array, noisy: Array, candidate: Array) -> Apart | None:
    """Do as ``apart`` does, of two tensors whose axes may be in another order, or joined; None where none fits."""
    if reference.size != candidate.size or reference.shape != noisy.shape:
        return None
    if reference.shape == candidate.shape:
        return apart(reference, noisy, candidate)
    found = [apart(reference.reshape(-1), noisy.reshape(-1), candidate.reshape(-1))]
    if reference.ndim <= _MOST_AXES:
        squeezed = candidate.reshape([size for size in candidate.shape if size != 1])
        axes = [number for number, size in enumerate(reference.shape) if size != 1]
        narrow = [array.reshape([array.shape[axis] for axis in axes]) for array in (reference, noisy)]
        for order in permutations(range(squeezed.ndim)):
            turned = squeezed.transpose(order)
            if turned.shape == narrow[0].shape:
                found.append(apart(narrow[0], narrow[1], turned))
    return min(found, key=lambda one: (one.odd, one.wrong))


def _rms(squares: float, count: int) -> float:
    return float(np.sqrt(squares / count)) if count else 0.0
