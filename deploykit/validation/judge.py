"""Judge one output of an artifact: its form, and its numbers by the rule for their kind."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from deploykit.golden import Case
from deploykit.metrics import measure_all
from deploykit.tensors import Array, Tensors
from deploykit.validation.fixed import Fixed
from deploykit.validation.tolerance import LIMIT, Errors, Ratio, noise_ratio
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


def judge(name: str, answers: Sequence[tuple[Case, Tensors]], bounds: Bounds) -> Check:
    """Judge one output over all cases: its form, then its numbers by the rule for their kind.

    Args:
        name: of the output.
        answers: the cases of a golden, and what the artifact answers to each.
        bounds: how far the artifact may be off.
    """
    wrong = next(filter(None, (wrong_form(name, case, answer) for case, answer in answers)), None)
    if wrong:
        return Check(name, passed=False, rule="present, of the source's shape and dtype, finite where it is", why=wrong)
    arrays = [(case.reference[name], case.noisy[name], answer[name]) for case, answer in answers]
    dtype = answers[0][0].outputs[name].dtype
    if dtype.kind not in "fc" and bounds.quantum is None and bounds.fixed is None:
        return _discrete(name, arrays)
    errors = [_errors(*case) for case in arrays]
    if not _values(errors) or not any(np.any(~np.isnan(case.outputs[name])) for case, _ in answers):
        why = f"{'NaN throughout' if _values(errors) else 'empty'}: no value was compared"
        return Check(name, passed=False, rule="values to compare", why=why)
    if bounds.fixed is not None:
        outputs = [_errors(case.outputs[name], case.outputs[name], answer[name]) for case, answer in answers]
        return _fixed(name, outputs, bounds.fixed)
    if bounds.quantum is not None:
        return _quantized(name, errors, bounds, bounds.quantum)
    return _real(name, errors, noise_ratio(errors, str(dtype), bounds.rounding), bounds.most)


def _values(cases: Sequence[Errors]) -> int:
    return sum(case.reference.size for case in cases)


def _fixed(name: str, cases: Sequence[Errors], tolerance: Fixed) -> Check:
    """Judge by the tolerance that the user fixes, against the source as it runs."""
    over = [
        np.abs(case.candidate - case.reference) - tolerance.atol - tolerance.rtol * np.abs(case.reference)
        for case in cases
    ]
    beyond = sum(int((one > 0).sum()) for one in over)
    largest = max(float(np.abs(case.candidate - case.reference).max(initial=0)) for case in cases)
    return Check(
        name,
        passed=not beyond,
        rule=str(tolerance),
        why=f"{beyond} of {_values(cases)} values are farther off, {largest:.3g} at most"
        if beyond
        else f"{largest:.3g} off at most",
        figures=_figures(cases),
    )


def _quantized(name: str, cases: Sequence[Errors], bounds: Bounds, quantum: float) -> Check:
    """Judge an output that the source itself rounds to steps: equal, or a step away where a rounding fell otherwise.

    Farther than that, an early rounding that fell otherwise was amplified. The source's own kernels do that too: by
    their noise, which counts as half a quantum at least, the artifact is judged then.
    """
    apart = np.concatenate([np.abs(case.candidate - case.reference).ravel() for case in cases]) / quantum
    farthest, differ = float(apart.max()), int((apart >= _STEP).sum())
    if farthest >= 1 + _STEP:
        beyond = int((apart >= 1 + _STEP).sum())
        few = beyond <= max(_ALONE, _FEW * apart.size)
        near = farthest <= _NEAR and float(np.sqrt(np.mean(np.square(apart)))) <= 1
        own = max(float(np.abs(case.noisy - case.reference).max()) for case in cases if case.noisy.size) / quantum
        found = _real(name, cases, noise_ratio(cases, "float32", quantum / 2), bounds.most)
        far = f"{differ} of {apart.size} values differ, by {farthest:.3g} quanta at most"
        why = f"{far}, where the source's own kernels differ by {own:.3g}: {found.why}"
        return replace(
            found, passed=near or (few and found.passed), why=why if few or near else f"{beyond} too many: {why}"
        )
    why = f"{differ} of {apart.size} values differ, by one quantum of {quantum:.3g}" if differ else "bit for bit"
    figures = _figures(cases)
    return Check(name, passed=True, rule="within one quantum", why=why, value=farthest, limit=1.0, figures=figures)


_ALONE, _FEW = 2, 0.05
"""How many values, and which share of them, may be more than a quantum off: on 2,128 images 1.3% were."""
_NEAR = 3.0
"""Quanta within which all values may be off, where their RMS is one at most."""
_STEP = 0.01
"""Share of a quantum that the float32 arithmetic after the last rounding may add."""


def wrong_form(name: str, case: Case, answer: Tensors) -> str | None:
    """Say what keeps an output from being compared at all, or None."""
    if name not in case.outputs:
        return "the source has no such output"
    if name not in answer:
        return "missing"
    own, found = case.outputs[name], answer[name]
    given = ", ".join(f"{key} {list(array.shape)}" for key, array in case.inputs.items())
    if found.dtype != own.dtype:
        return f"is {found.dtype}, the source's is {own.dtype}"
    if found.shape != own.shape:
        return f"has shape {list(found.shape)} where the source's has {list(own.shape)}, on {given}"
    if own.dtype.kind in "fc":
        return _infinite(own, found, given)
    return None


def _infinite(own: Array, found: Array, given: str) -> str | None:
    for word, test in (("NaN", np.isnan), ("+inf", np.isposinf), ("-inf", np.isneginf)):
        if own.dtype.kind == "c" and word != "NaN":
            continue
        apart = np.argwhere(test(own) != test(found))
        if len(apart):
            index = tuple(int(part) for part in apart[0])
            return (
                f"{word} in other places than the source's: {len(apart)} values, the first at {list(index)}, on {given}"
            )
    return None


def _errors(reference: Array, noisy: Array, candidate: Array) -> Errors:
    """Give the three in float64; complex numbers as pairs, and zero wherever one is not finite."""
    kind, real = (np.complex128, np.float64) if reference.dtype.kind == "c" else (np.float64, np.float64)
    finite = np.isfinite(reference) & np.isfinite(noisy) & np.isfinite(candidate)
    parts = (np.atleast_1d(np.where(finite, part, 0).astype(kind)) for part in (reference, noisy, candidate))
    return Errors(*(np.ascontiguousarray(part).view(real) for part in parts))


def _real(name: str, cases: Sequence[Errors], ratio: Ratio, most: float) -> Check:
    passed = bool(ratio.value <= most)
    why = f"errs {ratio.error:.2g} where the source errs {ratio.floor:.2g}"
    return Check(
        name,
        passed=passed,
        rule=f"noise ratio at most {most:g}",
        why=why if passed or ratio.where == "whole" else f"{why}, worst in {ratio.where}",
        value=ratio.value,
        limit=most,
        figures=_figures(cases),
    )


def _figures(cases: Sequence[Errors]) -> dict[str, float]:
    return measure_all(
        np.concatenate([case.reference.ravel() for case in cases]),
        np.concatenate([case.candidate.ravel() for case in cases]),
    )


_OPEN = 2.0**-20
"""The share of decisions that lie so near to their threshold that rounding settles them."""


def _discrete(name: str, cases: Sequence[tuple[Array, Array, Array]]) -> Check:
    """Judge whole numbers, bools and texts: equal, but for as many as the source itself leaves open, ten times."""
    total = sum(reference.size for reference, _, _ in cases)
    wrong = sum(int(np.sum(reference != candidate)) for reference, _, candidate in cases)
    own = sum(int(np.sum(reference != noisy)) for reference, noisy, _ in cases)
    allowed = int(LIMIT * max(own, total * _OPEN))
    why = f"{wrong} of {total} values differ" + (f"; of the source's own, {own} change with rounding" if own else "")
    return Check(
        name,
        passed=wrong <= allowed and total > 0,
        rule="equal" if not allowed else f"at most {allowed} values differ",
        why=why if total else "empty: no value was compared",
        value=float(wrong),
        limit=float(allowed),
    )
