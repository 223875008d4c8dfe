"""The noise ratio: is an artifact as close to exact arithmetic as its source is?

A fixed tolerance is meaningless: 1e-5 rejects a right ResNet-50 and passes garbage where outputs are 1e-21. The
source is not exact either: against itself in float64 it errs by its *noise floor*. Another correct implementation
in the same precision, adding up in another order, errs by about as much; a wrong one by orders of magnitude more.
So the ratio of both errors judges: about 1 is equal, over ``LIMIT`` is not.

One figure for a whole output would let a single wrong sample, channel or element hide in the average. The ratio is
therefore taken in several views of the same errors, and the worst counts:

- ``whole``: RMS over every element of every case;
- ``element``: the largest error, against the largest of the source;
- ``sample``: RMS over each entry of the first axis; ``channel``: over each entry of the axes 1 and -1.

A small group's own floor is left to chance: of one element the source may happen to be exact. So a group's floor is
never below that of the whole output, times 4 / sqrt(n) for groups of n > 16 elements; nor below the rounding of its
own values to the output's type.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from deploykit.tensors import Array

LIMIT = 10.0
"""An artifact in the source's own precision over this ratio is not equal. Right ones measure 0.5 to 3."""

COARSE = 10.0
"""A ratio over the limit by this factor at most may come of the runtime's own arithmetic: long sums, sigmoids. Then
the same graph is judged once more with those in float64, which mends no fault. (backends/_finer.py)"""

_SMALL_GROUP = 16
_UNIT = {"float16": 2.0**-11, "float32": 2.0**-24, "float64": 2.0**-53, "complex64": 2.0**-24}
_OVER_FLOAT32 = {"float16": 2.0**13, "bfloat16": 2.0**16}


@dataclass(frozen=True)
class Errors:
    """The answers of one case, in float64, with what is not finite already left out as zeros."""

    reference: Array
    noisy: Array
    candidate: Array
    floor: bool = True
    """Whether noisy against reference tells the noise floor."""


@dataclass(frozen=True)
class Ratio:
    """The worst noise ratio of an output, and where it is."""

    value: float
    where: str
    """``whole``, ``element``, ``sample 3`` or ``channel 7``."""
    floor: float
    """RMS error of the source against the reference, in the unit of the output."""
    error: float
    """RMS error of the candidate against the reference."""
    cases: tuple[float, ...] = ()
    """The ratio of the worst sample of each case."""


def limit(precision: str) -> float:
    """Give the largest ratio that passes, for an artifact computing in ``float32``, ``float16`` or ``bfloat16``.

    float16 rounds 2^13 times coarser than float32, bfloat16 2^16 times, and the errors of a net grow with the rounding.
    """
    return LIMIT * _OVER_FLOAT32.get(precision, 1.0)


def least_sqnr(precision: str) -> float | None:
    """Give the SQNR in dB under which an output in 16 bits is wrong whatever its source's noise is; None for float32.

    Where a source is noisy itself, as one that subtracts what it had added, thousands of its floors may be as much as
    the output is. float16 rounds at 66 dB and bfloat16 at 48; right nets of a hundred layers keep 40 and 25.
    """
    return {"float16": 20.0, "bfloat16": 12.0}.get(precision)


def unit_of(dtype: str) -> float:
    """Give the rounding of an element type, in relation to the value."""
    return _UNIT.get(dtype, _UNIT["float32"])


def noise_ratio(cases: Iterable[Errors], dtype: str, rounding: float = 0.0) -> Ratio:
    """Compare the errors of a candidate with those of its source, in every view.

    Args:
        cases: the answers for one output.
        dtype: the element type of that output, which bounds the floor from below.
        rounding: an absolute error that the runtime may add on top, in the unit of the output.
    """
    noise = Noise(dtype, rounding)
    for case in cases:
        noise.add(case)
    return noise.ratio()


class Noise:
    """Follows the errors of one output, case by case: kept are sums, for each sample and each channel."""

    def __init__(self, dtype: str, rounding: float = 0.0) -> None:
        """Take the element type of the output, and what the runtime may add, as ``noise_ratio`` does."""
        self._unit, self._rounding = unit_of(dtype), rounding
        self._whole = Sums()
        self._largest_error = self._largest_noise = 0.0
        self._samples: list[Sums | None] = []
        """Sums for each sample, of each case; None of an empty one."""
        self._along: dict[int, Sums] = {}
        self._uneven: set[int] = set()
        """Axes along which not every case has as many groups."""

    def add(self, case: Errors) -> None:
        """Take a case."""
        wrong, noise = np.abs(case.candidate - case.reference), np.abs(case.noisy - case.reference)
        self._largest_error = max(self._largest_error, float(wrong.max(initial=0)))
        self._largest_noise = max(self._largest_noise, float(noise.max(initial=0)))
        if not wrong.size:
            self._samples.append(None)
            return
        parts = (wrong, noise, case.reference)
        first = Sums.along(0, parts, floor=case.floor)
        self._whole = self._whole + first.pooled()
        self._samples.append(first)
        for axis in (1, -1) if wrong.ndim > 1 else ():
            found = Sums.along(axis, parts, floor=case.floor)
            before = self._along.get(axis, found)
            if len(before.error) == len(found.error):
                self._along[axis] = found if before is found else before + found
            else:
                self._uneven.add(axis)

    def ratio(self) -> Ratio:
        """Give the worst ratio of all views."""
        sizes, error = self._whole.sizes[0], self._whole.errors[0]
        own = self._whole.floors[0]
        floor = max(own, self._unit * sizes, self._rounding)
        least = Least(floor, self._unit, self._rounding, own / sizes if sizes else 0.0)
        found = [
            (_over(error, floor), "whole"),
            (_over(self._largest_error, max(self._largest_noise, 3 * floor)), "element"),
            *(samples := list(self._by_sample(least))),
            *self._by_channel(least),
        ]
        value, where = max(found, key=lambda pair: pair[0])
        return Ratio(value, where, floor, error, tuple(ratio for ratio, _ in samples))

    def _by_sample(self, least: "Least") -> Iterator[tuple[float, str]]:
        """Give the worst sample of each case."""
        first = 0
        for sums in self._samples:
            ratios = np.zeros(1) if sums is None else sums.ratios(least)
            worst = int(np.argmax(ratios))
            yield float(ratios[worst]), f"sample {first + worst}"
            first += 0 if sums is None else len(ratios)

    def _by_channel(self, least: "Least") -> Iterator[tuple[float, str]]:
        for axis, sums in self._along.items():
            if axis not in self._uneven:
                ratios = sums.ratios(least)
                worst = int(np.argmax(ratios))
                yield float(ratios[worst]), f"{'channel' if axis == 1 else 'last axis'} {worst}"


@dataclass(frozen=True)
class Sums:
    """Sums of squares for each group of values, and of how many; ``told`` are those that tell the floor."""

    error: Array = field(default_factory=lambda: np.zeros(1))
    noise: Array = field(default_factory=lambda: np.zeros(1))
    size: Array = field(default_factory=lambda: np.zeros(1))
    count: int = 0
    """Values in each group."""
    told: int = 0
    """Values in each group that tell the noise floor."""

    @classmethod
    def along(cls, axis: int, parts: tuple[Array, Array, Array], *, floor: bool) -> "Sums":
        """Add up over all axes but one."""
        error, noise, size = (_squares(part, axis) for part in parts)
        count = parts[0].size // parts[0].shape[axis]
        return cls(error, noise, size, count, count if floor else 0)

    def __add__(self, other: "Sums") -> "Sums":
        """Add group to group."""
        return Sums(
            self.error + other.error,
            self.noise + other.noise,
            self.size + other.size,
            self.count + other.count,
            self.told + other.told,
        )

    def pooled(self) -> "Sums":
        """Give all groups as one."""
        groups = len(self.error)
        error, noise, size = (np.asarray([part.sum()]) for part in (self.error, self.noise, self.size))
        return Sums(error, noise, size, self.count * groups, self.told * groups)

    @property
    def errors(self) -> Array:
        """RMS error of each group."""
        return np.asarray(np.sqrt(self.error / max(1, self.count)))

    @property
    def floors(self) -> Array:
        """RMS error of the source in each group, as far as it is told."""
        return np.asarray(np.sqrt(self.noise / max(1, self.told)))

    @property
    def sizes(self) -> Array:
        """RMS value of each group."""
        return np.asarray(np.sqrt(self.size / max(1, self.count)))

    def ratios(self, least: "Least") -> Array:
        """Give the error of each group over its floor."""
        own = self.floors if self.told else least.share * self.sizes
        floors = least.of(own, self.sizes, self.told or self.count)
        return np.asarray([_over(one, other) for one, other in zip(self.errors, floors, strict=True)])


@dataclass(frozen=True)
class Least:
    """What bounds the floor of a group from below."""

    floor: float
    unit: float
    rounding: float
    share: float
    """Floor over size of the whole output: that of a group of which nothing else is told."""

    def of(self, own: Array, sizes: Array, count: int) -> Array:
        """Give the floors of groups of ``count`` elements, from their own noise and the size of their values."""
        share = self.floor * min(1.0, _SMALL_GROUP**0.5 / count**0.5)
        return np.asarray(np.maximum(np.maximum(own, self.unit * sizes), max(share, self.rounding)))


def _squares(array: Array, axis: int) -> Array:
    return np.asarray(np.sum(np.square(np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)), axis=1))


def _over(error: float, floor: float) -> float:
    if error == 0:
        return 0.0
    return float(error / floor) if floor > 0 else float("inf")
