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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from deploykit.tensors import Array

LIMIT = 10.0
"""An artifact in the source's own precision over this ratio is not equal. Right ones measure 0.5 to 3."""

COARSE = 10.0
"""A ratio over the limit by this factor at most may come of the runtime's own arithmetic: long sums, sigmoids. Then
the same graph is judged once more with those in float64, which mends no fault. (backends/_finer.py)"""

_SMALL_GROUP = 16
_UNIT = {"float16": 2.0**-11, "float32": 2.0**-24, "float64": 2.0**-53, "complex64": 2.0**-24}
_FP16_OVER_FP32 = 2.0**13


@dataclass(frozen=True)
class Errors:
    """The answers of one case, in float64, with what is not finite already left out as zeros."""

    reference: Array
    noisy: Array
    candidate: Array


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


def limit(precision: str) -> float:
    """Give the largest ratio that passes, for an artifact computing in ``float32`` or ``float16``.

    float16 rounds 2^13 times coarser than float32, and the errors of a net grow with the rounding.
    """
    return LIMIT * (_FP16_OVER_FP32 if precision == "float16" else 1.0)


def unit_of(dtype: str) -> float:
    """Give the rounding of an element type, in relation to the value."""
    return _UNIT.get(dtype, _UNIT["float32"])


def noise_ratio(cases: Sequence[Errors], dtype: str, rounding: float = 0.0) -> Ratio:
    """Compare the errors of a candidate with those of its source, in every view.

    Args:
        cases: the answers for one output.
        dtype: the element type of that output, which bounds the floor from below.
        rounding: an absolute error that the runtime may add on top, in the unit of the output.
    """
    unit = _UNIT.get(dtype, _UNIT["float32"])
    wrong = [np.abs(case.candidate - case.reference) for case in cases]
    noise = [np.abs(case.noisy - case.reference) for case in cases]
    sizes = [np.abs(case.reference) for case in cases]
    floor = max(_rms(noise), unit * _rms(sizes), rounding)
    error = _rms(wrong)
    found = [
        (_over(error, floor), "whole"),
        (_over(_largest(wrong), max(_largest(noise), 3 * floor)), "element"),
        *_groups(wrong, noise, sizes, Least(floor, unit, rounding)),
    ]
    value, where = max(found, key=lambda pair: pair[0])
    return Ratio(value, where, floor, error)


@dataclass(frozen=True)
class Least:
    """What bounds the floor of a group from below."""

    floor: float
    unit: float
    rounding: float

    def of(self, own: Array, sizes: Array, count: int) -> Array:
        """Give the floors of groups of ``count`` elements, from their own noise and the size of their values."""
        share = self.floor * min(1.0, _SMALL_GROUP**0.5 / count**0.5)
        return np.maximum(np.maximum(own, self.unit * sizes), max(share, self.rounding))


def _groups(
    wrong: Sequence[Array], noise: Sequence[Array], sizes: Sequence[Array], least: Least
) -> Iterator[tuple[float, str]]:
    first = 0
    several = [case for case in zip(wrong, noise, sizes, strict=True) if case[0].ndim and case[0].size]
    for case in several:
        ratio, worst = _worst([case], 0, least)
        yield ratio, f"sample {first + worst}"
        first += len(case[0])
    for axis, name in ((1, "channel"), (-1, "last axis")):
        inner = [case for case in several if case[0].ndim > 1]
        if inner and len({case[0].shape[axis] for case in inner}) == 1:
            ratio, worst = _worst(inner, axis, least)
            yield ratio, f"{name} {worst}"


def _worst(cases: Sequence[tuple[Array, ...]], axis: int, least: Least) -> tuple[float, int]:
    """Give the worst group along one axis, pooled over the cases: its ratio and its number."""
    sums = [sum(_squares(case[kind], axis) for case in cases) for kind in range(3)]
    count = sum(case[0].size // case[0].shape[axis] for case in cases)
    error, own, size = (np.sqrt(total / count) for total in sums)
    ratios = [_over(one, other) for one, other in zip(error, least.of(own, size, count), strict=True)]
    worst = int(np.argmax(ratios))
    return ratios[worst], worst


def _squares(array: Array, axis: int) -> Array:
    return np.asarray(np.sum(np.square(np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)), axis=1))


def _over(error: float, floor: float) -> float:
    if error == 0:
        return 0.0
    return float(error / floor) if floor > 0 else float("inf")


def _rms(arrays: Sequence[Array]) -> float:
    count = sum(array.size for array in arrays)
    return float(np.sqrt(sum(float(np.sum(np.square(array))) for array in arrays) / count)) if count else 0.0


def _largest(arrays: Sequence[Array]) -> float:
    return max((float(array.max()) for array in arrays if array.size), default=0.0)
