"""The rules for the numbers of one output, each following it case by case: what it keeps does not grow with them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from deploykit.metrics import Figures
from deploykit.tensors import Array
from deploykit.validation.fixed import Fixed
from deploykit.validation.tolerance import LIMIT, Errors, Noise, Ratio
from deploykit.validation.verdict import Check


@dataclass(frozen=True)
class Bounds:
    """How far an output of an artifact may be off."""

    most: float
    """The largest noise ratio that passes."""
    rounding: float = 0.0
    """An absolute error that the artifact's runtime may add on top, in the unit of the output."""
    quantum: float | None = None
    """One step of an output that the source rounds to steps."""
    fixed: Fixed | None = None
    """A tolerance that the user fixes, in the place of all these."""
    least_sqnr: float | None = None
    """The SQNR in dB that it must keep besides."""


def rule_for(dtype: np.dtype[Any], bounds: Bounds) -> "ByRatio | ByCount":
    """Choose the rule for an output of the source's element type."""
    if dtype.kind not in "fc" and bounds.quantum is None and bounds.fixed is None:
        return ByCount()
    if bounds.fixed is not None:
        return ByTolerance(str(dtype), bounds, bounds.fixed)
    return ByRatio(str(dtype), bounds) if bounds.quantum is None else ByQuantum(bounds, bounds.quantum)


class ByRatio:
    """Judges by the noise ratio."""

    def __init__(self, dtype: str, bounds: Bounds) -> None:
        """Take the element type of the output, and how far it may be off."""
        self._bounds = bounds
        self._noise = Noise(dtype, bounds.rounding)
        self._figures = Figures()

    def add(self, reference: Array, noisy: Array, candidate: Array, *, floor: bool) -> None:
        """Take a case; ``floor`` says whether noisy against reference tells the noise floor."""
        errors = _errors(reference, noisy, candidate, floor=floor)
        self._noise.add(errors)
        self._figures.add(errors.reference, errors.candidate)
        self.look(errors)

    def look(self, errors: Errors) -> None:
        """Take what the rule needs beside the noise ratio."""

    def check(self) -> Check:
        """Give what came out."""
        ratio, most = self._ratio, self._bounds.most
        passed = bool(ratio.value <= most)
        why = f"errs {ratio.error:.2g} where the source errs {ratio.floor:.2g}"
        check = Check(
            "",
            passed=passed,
            rule=f"noise ratio at most {most:g}",
            why=why if passed or ratio.where == "whole" else f"{why}, worst in {ratio.where}",
            value=ratio.value,
            limit=most,
            figures=self._figures.result(),
        )
        least, sqnr = self._bounds.least_sqnr, check.figures.get("sqnr")
        if least is None or sqnr is None or not sqnr < least:
            return check
        return replace(check, passed=False, why=f"{why}: {sqnr:.1f} dB of its signal are left, {least:g} is the least")

    def cases(self) -> Sequence[float]:
        """Give what was measured in each case, to be held against the limit."""
        return self._ratio.cases

    @cached_property
    def _ratio(self) -> Ratio:
        """Take the ratio once all cases are in: it goes through every sample and channel."""
        return self._noise.ratio()


class ByTolerance(ByRatio):
    """Judges by the tolerance that the user fixes, against the source as it runs."""

    def __init__(self, dtype: str, bounds: Bounds, tolerance: Fixed) -> None:
        """Take what ``ByRatio`` takes, and the tolerance."""
        super().__init__(dtype, bounds)
        self._tolerance = tolerance
        self._beyond: list[int] = []
        self._values = 0
        self._largest = 0.0

    def look(self, errors: Errors) -> None:
        """Count what is beyond."""
        apart = np.abs(errors.candidate - errors.reference)
        allowed = self._tolerance.atol + self._tolerance.rtol * np.abs(errors.reference)
        self._beyond.append(int(np.count_nonzero(apart > allowed)))
        self._values += apart.size
        self._largest = max(self._largest, float(apart.max(initial=0)))

    def check(self) -> Check:
        """Give what came out."""
        beyond = sum(self._beyond)
        far = f"{beyond} of {self._values} values are farther off, {self._largest:.3g} at most"
        return Check(
            "",
            passed=not beyond,
            rule=str(self._tolerance),
            why=far if beyond else f"{self._largest:.3g} off at most",
            figures=self._figures.result(),
        )

    def cases(self) -> Sequence[float]:
        """Give how many values of each case are beyond the tolerance."""
        return self._beyond


class ByQuantum(ByRatio):
    """Judges an output that the source itself rounds to steps: equal, or a step away where a rounding fell otherwise.

    Farther than that, an early rounding that fell otherwise was amplified. The source's own kernels do that too: by
    their noise, which counts as half a quantum at least, the artifact is judged then.
    """

    def __init__(self, bounds: Bounds, quantum: float) -> None:
        """Take how far it may be off, and the size of a step."""
        super().__init__("float32", replace(bounds, rounding=quantum / 2))
        self._quantum = quantum
        self._differ = self._beyond = self._values = 0
        self._squares = self._own = 0.0
        self._farthest: list[float] = []

    def look(self, errors: Errors) -> None:
        """Count the steps."""
        apart = np.abs(errors.candidate - errors.reference) / self._quantum
        self._differ += int(np.count_nonzero(apart >= _STEP))
        self._beyond += int(np.count_nonzero(apart >= 1 + _STEP))
        self._values += apart.size
        self._squares += float(np.sum(np.square(apart)))
        self._farthest.append(float(apart.max(initial=0)))
        own = float(np.abs(errors.noisy - errors.reference).max(initial=0))
        self._own = max(self._own, own / self._quantum)

    def check(self) -> Check:
        """Give what came out."""
        differ = f"{self._differ} of {self._values} values differ"
        farthest = max(self._farthest)
        if farthest >= 1 + _STEP:
            return self._far(f"{differ}, by {farthest:.3g} quanta at most", near=farthest <= _NEAR)
        return Check(
            "",
            passed=True,
            rule="within one quantum",
            why=f"{differ}, by one quantum of {self._quantum:.3g}" if self._differ else "bit for bit",
            value=farthest,
            limit=1.0,
            figures=self._figures.result(),
        )

    def cases(self) -> Sequence[float]:
        """Give the quanta by which each case is off, or their noise ratios where that is what judges."""
        return self._farthest if max(self._farthest) < 1 + _STEP else super().cases()

    def _far(self, differ: str, *, near: bool) -> Check:
        few = self._beyond <= max(_ALONE, _FEW * self._values)
        near = near and self._squares <= self._values
        found = super().check()
        why = f"{differ}, where the source's own kernels differ by {self._own:.3g}: {found.why}"
        passed = near or (few and found.passed)
        return replace(found, passed=passed, why=why if few or near else f"{self._beyond} too many: {why}")


_ALONE, _FEW = 2, 0.05
"""How many values, and which share of them, may be more than a quantum off: on 2,128 images 1.3% were."""
_NEAR = 3.0
"""Quanta within which all values may be off, where their RMS is one at most."""
_STEP = 0.01
"""Share of a quantum that the float32 arithmetic after the last rounding may add."""


def _errors(reference: Array, noisy: Array, candidate: Array, *, floor: bool) -> Errors:
    """Give the three in float64; complex numbers as pairs, and zero wherever one is not finite."""
    kind, real = (np.complex128, np.float64) if reference.dtype.kind == "c" else (np.float64, np.float64)
    finite = np.isfinite(reference) & np.isfinite(noisy) & np.isfinite(candidate)

    def plain(part: Array) -> Array:
        return np.ascontiguousarray(np.atleast_1d(np.where(finite, part, 0).astype(kind))).view(real)

    return Errors(plain(reference), plain(noisy), plain(candidate), floor)


_OPEN = 2.0**-20
"""The share of decisions that lie so near to their threshold that rounding settles them."""


class ByCount:
    """Judges whole numbers, bools and texts: equal, but for as many as the source itself leaves open, ten times."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._values = self._own = self._told = 0
        self._differ: list[int] = []

    def add(self, reference: Array, noisy: Array, candidate: Array, *, floor: bool) -> None:
        """Take a case, as ``ByRatio`` does."""
        self._values += reference.size
        self._told += reference.size if floor else 0
        self._differ.append(int(np.sum(reference != candidate)))
        self._own += int(np.sum(reference != noisy))

    def check(self) -> Check:
        """Give what came out."""
        own = self._own * self._values / self._told if self._told else 0.0
        allowed, differ = int(LIMIT * max(own, self._values * _OPEN)), sum(self._differ)
        left = f"; of the source's own, {self._own} change with rounding" if self._own else ""
        return Check(
            "",
            passed=differ <= allowed and self._values > 0,
            rule="equal" if not allowed else f"at most {allowed} values differ",
            why=f"{differ} of {self._values} values differ{left}",
            value=float(differ),
            limit=float(allowed),
        )

    def cases(self) -> Sequence[float]:
        """Give how many values of each case differ."""
        return self._differ
